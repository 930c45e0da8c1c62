//! The checks of the fuzz targets over packets of every type, over such packets with bytes changed, and over random
//! bytes.

#![expect(clippy::expect_used, reason = "the fuzz checks report by panicking")]

#[expect(
    unreachable_pub,
    reason = "the checks are a library to the fuzz targets"
)]
#[path = "../fuzz/src/lib.rs"]
mod checks;

use proptest::prelude::*;

/// A packet of each type, properties and all.
const SEEDS: [&[u8]; 11] = [
    b"\x10\x15\0\x04MQTT\x04\x06\0\x3c\0\x01c\0\x01w\0\x02by",
    b"\x10\x20\0\x04MQTT\x05\x06\0\x3c\x05\x11\0\0\0\x09\0\x01c\x05\x18\0\0\0\x01\0\x01w\0\x02by",
    b"\x30\x06\0\x03a/bh",
    b"\x3d\x07\0\x01a\0\x0aok",
    b"\x32\x1b\0\x01a\0\x0a\x13\x26\0\x01a\0\x01b\x23\0\x07\x02\0\0\0\x3c\x03\0\x01cpp",
    b"\x40\x08\0\x07\x80\x04\x1f\0\x01x",
    b"\x62\x02\0\x07",
    b"\x82\x0e\0\x01\x03\x0b\x80\x01\0\x01a\x2e\0\x01#\x01",
    b"\xa2\x06\0\x01\0\0\x01a",
    b"\xe0\x07\0\x05\x11\0\0\0\x09",
    b"\xf0\x06\x18\x04\x15\0\x01m",
];

#[test]
fn packets_of_every_type_hold() {
    for seed in SEEDS {
        checks::stream(seed);
    }
    checks::stream(&SEEDS.concat());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn changed_packets_hold(
        first in 0..SEEDS.len(),
        second in 0..SEEDS.len(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut bytes = [SEEDS[first], SEEDS[second]].concat();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        checks::stream(&bytes);
    }

    #[test]
    fn random_bytes_hold(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        checks::stream(&bytes);
    }
}
