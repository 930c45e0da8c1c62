//! Hostile bytes for the Kafka port.

use super::{attack, noise, throw, under_attack};
use crate::case::Context;
use crate::raw::kafka;

/// The Kafka port under attack.
pub(in crate::suites::faults) fn run(context: &Context<'_>) -> anyhow::Result<()> {
    let frame = |api, version, body: &[u8]| kafka::request(api, version, 1, body);
    let sized = |size: i32, body: &[u8]| [&size.to_be_bytes()[..], body].concat();
    let huge = i32::MAX.to_be_bytes();
    let mut attacks = vec![
        attack("negative size", 0, sized(-1, b"")),
        attack("size 0", 0, sized(0, b"")),
        attack("size 3", 0, sized(3, b"abc")),
        attack("size 2^31-1", 0, sized(i32::MAX, &[0; 4096])),
        attack(
            "a size of 99 MB that never comes",
            0,
            sized(99_000_000, &[1; 4096]),
        ),
        attack("unknown api", 0, frame(999, 0, b"")),
        attack("negative api", 0, frame(-5, 0, b"")),
        attack("version of tomorrow", 0, frame(3, 99, b"")),
        attack(
            "ApiVersions of tomorrow",
            0,
            frame(18, 99, b"\xff\xff\xff\xff"),
        ),
        attack("truncated header", 0, sized(8, &[0, 3, 0, 1, 0, 0, 0, 1])),
        attack(
            "client id of 32 KiB that isn't there",
            0,
            sized(10, &[0, 3, 0, 1, 0, 0, 0, 1, 0x7f, 0xff]),
        ),
        attack("HTTP", 0, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec()),
        attack(
            "TLS",
            0,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        ),
    ];
    for (api, version) in [
        (3i16, 1i16),
        (3, 4),
        (3, 12),
        (1, 4),
        (1, 12),
        (0, 7),
        (0, 9),
        (2, 1),
        (2, 6),
        (8, 2),
        (8, 8),
    ]
    .into_iter()
    .chain([
        (9, 1),
        (9, 8),
        (10, 4),
        (11, 5),
        (11, 6),
        (12, 4),
        (13, 4),
        (14, 3),
        (14, 5),
        (19, 2),
        (19, 5),
    ])
    .chain([(20, 1), (20, 6), (22, 0), (22, 4), (32, 1), (32, 4)])
    {
        let at = |what: &str| format!("{what}, api {api} v{version}");
        attacks.push(attack(at("count 2^31-1"), 0, frame(api, version, &huge)));
        attacks.push(attack(
            at("compact count 2^32-1"),
            0,
            frame(api, version, &[0, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        ));
        attacks.push(attack(at("all ones"), 0, frame(api, version, &[0xff; 512])));
        attacks.push(attack(at("all 0x7f"), 0, frame(api, version, &[0x7f; 512])));
        attacks.push(attack(at("nothing"), 0, frame(api, version, b"")));
        attacks.push(attack(
            at("noise"),
            0,
            frame(api, version, &noise(u64::from(api.unsigned_abs()) + 7, 700)),
        ));
    }
    for (name, broken) in broken_batches() {
        let body = kafka::produce_body("hostile", -1, &broken);
        attacks.push(attack(name, 0, frame(0, 7, &body)));
    }
    for seed in 0..40 {
        attacks.push(attack("noise", 0, noise(seed, 600)));
    }
    under_attack(context, &attacks, |target, attack| {
        throw(target.kafka()?, attack, &[])
    })
}

fn broken_batches() -> Vec<(&'static str, Vec<u8>)> {
    let good = kafka::batch(&[b"hello"]);
    // Changes a batch and gives it a right checksum again.
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut batch = good.clone();
        change(&mut batch);
        let crc = crc32c::crc32c(&batch[21..]).to_be_bytes();
        batch[17..21].copy_from_slice(&crc);
        batch
    };
    let count = |n: i32| with(&|batch| batch[57..61].copy_from_slice(&n.to_be_bytes()));
    vec![
        ("a count of 2^20 in 61 bytes", count(1 << 20)),
        ("a count of 2^31-1", count(i32::MAX)),
        ("a negative count", count(-1)),
        ("a wrong checksum", {
            let mut batch = good.clone();
            batch[18] ^= 1;
            batch
        }),
        ("a batch cut short", good[..good.len() - 3].to_vec()),
        ("61 bytes of nothing", vec![0; 61]),
        ("magic 0", with(&|batch| batch[16] = 0)),
        ("a codec that isn't", with(&|batch| batch[22] = 7)),
        ("gzip of nothing", with(&|batch| batch[22] = 1)),
        (
            "snappy of 4 GiB",
            with(&|batch| {
                batch[22] = 2;
                batch.truncate(61);
                batch.extend([0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]);
                let size = batch.len() as i32 - 12;
                batch[8..12].copy_from_slice(&size.to_be_bytes());
            }),
        ),
        ("zstd of noise", with(&|batch| batch[22] = 4)),
        ("a client's control batch", with(&|batch| batch[22] = 32)),
        (
            "a delta that lies",
            with(&|batch| batch[23..27].copy_from_slice(&9i32.to_be_bytes())),
        ),
        (
            "a record longer than its batch",
            with(&|batch| batch[61] = 0xfe),
        ),
    ]
}
