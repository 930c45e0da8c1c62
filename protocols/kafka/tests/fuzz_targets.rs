//! The checks of the fuzz targets over requests of every api and version, over such requests with bytes changed, and
//! over random bytes.

#![expect(clippy::panic, reason = "the fuzz checks report by panicking")]

#[expect(
    unreachable_pub,
    reason = "the checks are a library to the fuzz targets"
)]
#[path = "../fuzz/src/lib.rs"]
mod checks;

use omnilog_kafka::codec::Api;
use proptest::prelude::*;

/// A frame of an api's version with this body.
fn frame(api: Api, version: i16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 4];
    frame.extend(api.key().to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(7i32.to_be_bytes());
    frame.extend((-1i16).to_be_bytes());
    if api.is_flexible(version) {
        frame.push(0);
    }
    frame.extend(body);
    let length = (frame.len() - 4) as i32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

fn every_version(body: &[u8]) {
    for &api in Api::ALL {
        let versions = api.versions();
        for version in versions.min..=versions.max {
            checks::requests(&frame(api, version, body));
        }
    }
}

/// Frames that once cost a server its life: counts that reserve memory nobody pays for.
#[test]
fn frames_with_huge_counts_hold() {
    for count in [
        [0x7f, 0xff, 0xff, 0xff],
        [0xff, 0xff, 0xff, 0xff],
        [0xff, 0xff, 0xff, 0x7f],
    ] {
        for lead in 0..24 {
            let mut body = vec![0; lead];
            body.extend(count);
            body.extend([0; 16]);
            every_version(&body);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_bodies_hold(body in proptest::collection::vec(any::<u8>(), 0..120)) {
        every_version(&body);
    }

    #[test]
    fn bodies_of_small_numbers_hold(body in proptest::collection::vec(0..4u8, 0..120)) {
        every_version(&body);
    }

    #[test]
    fn random_bytes_hold(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        checks::requests(&bytes);
    }
}
