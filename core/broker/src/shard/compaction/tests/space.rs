//! What no one reads any more is given back: its space, and logs to their start.

use super::*;

#[test]
fn a_stuck_message_pins_next_to_nothing_whatever_flows_past_it() {
    let mut bench = Bench::new();
    let narrow = LogSettings {
        retention_bytes: Some(1000),
        ..LogSettings::default()
    };
    bench.create("flow", narrow);
    bench.declare("stuck");
    let delete = Command::DeleteTopic(TopicRef::Name(Name::from_static(b"stuck")));
    for round in 0..60 {
        if round % 20 == 5 {
            bench.publish("stuck", format!("number {round}").as_bytes());
            // All but the last of a gathered batch are acknowledged, once.
            for _ in 0..if round == 5 { 3 } else { 0 } {
                let got = bench.get("stuck").unwrap();
                let settle = Settle {
                    entries: vec![(got.queue, got.entry)],
                    settlement: Settlement::Ack,
                };
                bench.ask(Command::Settle(settle)).unwrap();
            }
            let _ = bench.ask(delete.clone());
        }
        bench.append(
            "flow",
            keyed(&[("k", Some(&"x".repeat(20_000)))], BatchOptions::default()),
        );
        bench.rest(1);
    }
    bench.rest(30);
    let clusters = bench.on_disk("/data/clusters");
    assert!(clusters < 8 << 10, "{clusters} bytes are pinned");
    let journal = bench.on_disk("/data/journal");
    assert!(journal <= 5 * FILE, "{journal} bytes of journal are left");
    bench.crash();
    for round in [5, 25, 25, 25, 25, 45, 45, 45, 45] {
        let got = bench.get("stuck").unwrap();
        let record = got.message.record_bytes().unwrap();
        let text = format!("number {round}");
        let found = record
            .windows(text.len())
            .any(|part| part == text.as_bytes());
        assert!(found, "{round}: {:?} of {:?}", record, got.message);
    }
    assert!(bench.get("stuck").is_none());
}

#[test]
fn a_log_starts_where_its_bytes_and_its_time_say_to_the_batch() {
    let mut bench = Bench::new();
    let narrow = LogSettings {
        retention_bytes: Some(2500),
        ..LogSettings::default()
    };
    bench.create("bytes", narrow);
    let batch = keyed(&[("k", Some(&"x".repeat(900)))], BatchOptions::default());
    for _ in 0..10 {
        bench.append("bytes", batch.clone());
    }
    bench.rest(3);
    // As many batches stay as reach the bytes that are to be kept.
    let start = bench.fetch("bytes", 9).unwrap().log_start_offset;
    assert_eq!(start, 7, "batches of {} bytes", batch.len());
    let short = LogSettings {
        retention_ms: Some(60_000),
        ..LogSettings::default()
    };
    bench.create("time", short);
    let at = |time: i64| {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        let headers: [Header<'_>; 0] = [];
        let record = NewRecord {
            timestamp: time,
            key: None,
            value: Some(Pieces::One(b"v")),
            headers,
        };
        builder.append(&record).unwrap();
        builder.finish().unwrap().to_bytes()
    };
    let now = bench.env.clock.now_ms();
    for age in [70_000, 65_000, 30_000, 10_000] {
        bench.append("time", at(now - age));
    }
    bench.rest(3);
    assert_eq!(bench.fetch("time", 3).unwrap().log_start_offset, 2);
    bench.rest(20);
    assert_eq!(bench.fetch("time", 3).unwrap().log_start_offset, 3);
    let before = bench.fetch("time", 3).unwrap().log_start_offset;
    bench.crash();
    assert_eq!(bench.fetch("time", 3).unwrap().log_start_offset, before);
}
