//! Compacted logs: of each key the last record, and tombstones.

use super::*;

#[test]
fn of_each_key_the_last_record_stays_and_readers_come_to_the_end_from_anywhere() {
    let mut bench = Bench::new();
    bench.create("table", compacted(&[("min.cleanable.dirty.ratio", "0.1")]));
    let compressions = [
        Compression::None,
        Compression::Zstd,
        Compression::Gzip,
        Compression::Lz4,
        Compression::Snappy,
    ];
    let mut wanted = std::collections::BTreeMap::new();
    for round in 0..400_usize {
        let compression = compressions[round % compressions.len()];
        let options = BatchOptions {
            compression,
            producer_id: 77,
            producer_epoch: 0,
            base_sequence: i32::try_from(round * 3).unwrap(),
            ..BatchOptions::default()
        };
        let value = format!("{round} {}", "x".repeat(400));
        let (a, b) = (format!("key {}", round % 7), format!("key {}", round % 100));
        let records = [
            (a.as_str(), Some(value.as_str())),
            ("gone", None),
            (b.as_str(), Some(&value)),
        ];
        let base = bench.append("table", keyed(&records, options));
        for ((key, value), offset) in records.iter().zip(base..) {
            wanted.insert((*key).to_owned(), (offset, value.map(str::to_owned)));
        }
    }
    bench.append(
        "table",
        keyed(&[("last", Some("v"))], BatchOptions::default()),
    );
    // Other records push the log's files out of the journal's hands.
    bench.create("other", LogSettings::default());
    bench.fill(40);
    let records = bench.read_log("table", 0);
    assert!(records.len() < 260, "{} records are left", records.len());
    for (key, (offset, value)) in &wanted {
        let last = records
            .iter()
            .rfind(|(_, known, _)| known == key.as_bytes());
        if key == "last" {
            assert!(last.is_some());
            continue;
        }
        let (at, _, found) = last.unwrap_or_else(|| panic!("{key} is lost"));
        assert_eq!(
            (at, found.as_deref()),
            (offset, value.as_deref().map(str::as_bytes)),
            "{key}"
        );
    }
    // From each offset on a reader sees what a reader from the start sees there.
    for from in (0..1201).step_by(7) {
        let rest: Vec<_> = records
            .iter()
            .filter(|(at, ..)| *at >= from)
            .cloned()
            .collect();
        assert_eq!(bench.read_log("table", from), rest, "from {from}");
    }
    // An idempotent producer goes on where it was.
    let options = BatchOptions {
        producer_id: 77,
        producer_epoch: 0,
        base_sequence: 1200,
        ..BatchOptions::default()
    };
    bench.crash();
    assert_eq!(bench.read_log("table", 0), records);
    bench.append("table", keyed(&[("key 1", Some("new"))], options));
}

#[test]
fn tombstones_stay_as_long_as_they_are_to() {
    let mut bench = Bench::new();
    let settings = [
        ("min.cleanable.dirty.ratio", "0.01"),
        ("delete.retention.ms", "60000"),
    ];
    bench.create("table", compacted(&settings));
    bench.create("other", LogSettings::default());
    bench.append(
        "table",
        keyed(
            &[("a", Some("1")), ("b", Some("1"))],
            BatchOptions::default(),
        ),
    );
    bench.append("table", keyed(&[("a", None)], BatchOptions::default()));
    bench.fill(16);
    assert_eq!(keys(&mut bench), [(1, true), (2, false)]);
    bench.rest(40);
    // It goes with the next round of cleaning, which news in the log bring.
    bench.append("table", keyed(&[("c", Some("1"))], BatchOptions::default()));
    bench.fill(16);
    assert_eq!(keys(&mut bench), [(1, true), (3, true)]);
}

/// The table's records: offsets, and whether there is a value.
fn keys(bench: &mut Bench) -> Vec<(i64, bool)> {
    let records = bench.read_log("table", 0);
    let key = |(at, _, value): &(i64, Bytes, Option<Bytes>)| (*at, value.is_some());
    records.iter().map(key).collect()
}

#[test]
fn a_tombstone_stays_as_long_as_a_queue_holds_what_it_deletes() {
    let mut bench = Bench::new();
    let settings = [
        ("min.cleanable.dirty.ratio", "0.01"),
        ("delete.retention.ms", "1000"),
    ];
    bench.create("table", compacted(&settings));
    bench.create("other", LogSettings::default());
    bench.declare("table");
    let a = |value| keyed(&[("a", value)], BatchOptions::default());
    bench.append("table", a(Some("1")));
    bench.append("table", a(None));
    for round in 0..3 {
        bench.fill(16);
        let more = [("c", Some("1"))];
        bench.append("table", keyed(&more, BatchOptions::default()));
        let there = keys(&mut bench);
        assert_eq!(there[..2], [(0, true), (1, false)], "round {round}");
    }
    while let Some(got) = bench.get("table") {
        let entries = vec![(got.queue, got.entry)];
        let settlement = Settlement::Ack;
        let settle = Settle {
            entries,
            settlement,
        };
        bench.ask(Command::Settle(settle)).unwrap();
    }
    bench.fill(16);
    assert_eq!(keys(&mut bench), [(4, true)]);
}
