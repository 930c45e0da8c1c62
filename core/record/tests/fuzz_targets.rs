//! The checks of the fuzz targets over the golden vectors, over vectors with bytes changed, and over random bytes.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the fuzz checks report by panicking"
)]

#[expect(
    unreachable_pub,
    reason = "the checks are a library to the fuzz targets"
)]
#[path = "../fuzz/src/lib.rs"]
mod checks;

use proptest::prelude::*;

/// Every vector of `testdata`.
fn seeds() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata");
    let paths = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut seeds: Vec<Vec<u8>> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "hex"))
        .map(|path| {
            let digits = std::fs::read_to_string(path).unwrap();
            let digits: Vec<u32> = digits
                .chars()
                .filter_map(|digit| digit.to_digit(16))
                .collect();
            digits
                .chunks_exact(2)
                .map(|pair| (pair[0] << 4 | pair[1]) as u8)
                .collect()
        })
        .collect();
    seeds.sort();
    assert!(seeds.len() > 10, "the vectors are there");
    seeds
}

fn check_all(data: &[u8]) {
    checks::parse(data);
    checks::section(data);
    checks::decompress(data);
    // A golden batch as a section: attributes and count from its header, then its records.
    if let Some((header, section)) = data.split_at_checked(61) {
        let mut framed = vec![header[22], header[60]];
        framed.extend_from_slice(section);
        checks::section(&framed);
        framed.splice(..2, [header[22] & 7]);
        checks::decompress(&framed);
    }
}

#[test]
fn vectors_pass() {
    for seed in seeds() {
        check_all(&seed);
    }
}

#[test]
fn every_short_vector_survives_each_byte_changed_and_each_cut() {
    for seed in seeds().into_iter().filter(|seed| seed.len() < 150) {
        for position in 0..seed.len() {
            check_all(&seed[..position]);
            for value in [0, 1, 0x7f, 0x80, 0xff, seed[position] ^ 1] {
                let mut changed = seed.clone();
                changed[position] = value;
                check_all(&changed);
            }
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_pass(data in proptest::collection::vec(any::<u8>(), 0..400)) {
        check_all(&data);
    }

    #[test]
    fn changed_vectors_pass(
        seed: prop::sample::Index,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let seeds = seeds();
        let mut data = seed.get(&seeds).clone();
        for (position, value) in changes {
            let position = position.index(data.len());
            data[position] = value;
        }
        check_all(&data);
    }
}
