//! Transactions in compacted logs.

use super::*;
use crate::state::partition::Partition;

impl Bench {
    pub(super) fn init(&mut self, id: &'static str) -> Transactor {
        let id = Name::from_static(id.as_bytes());
        let init = InitTransactions {
            id: id.clone(),
            timeout_ms: 900_000,
            expected: None,
        };
        match self.ask(Command::InitTransactions(init)) {
            Ok(Reply::Producer(producer, epoch)) => Transactor {
                id,
                producer,
                epoch,
            },
            other => panic!("{other:?}"),
        }
    }

    /// Writes these records in a transaction, and leaves it open.
    pub(super) fn transact(
        &mut self,
        who: &Transactor,
        sequence: i32,
        records: &[(&str, Option<&str>)],
    ) {
        let partitions = Enlist::Partitions(vec![(Name::from_static(b"table"), 0)]);
        self.ask(Command::Enlist(who.clone(), partitions)).unwrap();
        let options = BatchOptions {
            transactional: true,
            producer_id: who.producer,
            producer_epoch: who.epoch,
            base_sequence: sequence,
            ..BatchOptions::default()
        };
        let append = Append {
            topic: TopicRef::Name(Name::from_static(b"table")),
            partition: 0,
            batch: keyed(records, options),
            wait: Wait::Durable,
            keyless: false,
            transactional_id: Some(who.id.clone()),
        };
        self.ask(Command::Append(append)).unwrap();
    }

    pub(super) fn end(&mut self, who: &Transactor, commit: bool) {
        let end = Command::EndTransaction(who.clone(), commit);
        self.ask(end).unwrap();
    }

    /// The log's batches: each one's first offset, how many records are in it, and whether it is a marker.
    fn batches(&mut self) -> Vec<(i64, i32, bool)> {
        let (mut at, mut found) = (0, Vec::new());
        loop {
            let fetched = self.fetch("table", at).unwrap();
            if at == fetched.high_watermark {
                return found;
            }
            for batch in fetched.batches {
                let batch = RecordBatch::parse(batch).unwrap();
                let header = *batch.header();
                if header.record_count > 0 {
                    let marker = header.attributes.is_control();
                    found.push((header.base_offset, header.record_count, marker));
                }
                at = header.base_offset + i64::from(header.last_offset_delta) + 1;
            }
        }
    }

    fn aborted(&self) -> usize {
        let table = TopicRef::Name(Name::from_static(b"table"));
        let topic = self.shard.state.topic(NamespaceId(0), &table).unwrap();
        let partition: &Partition = &self.shard.state.partitions[&topic.partitions[0]];
        partition.aborted().len()
    }
}

#[test]
fn aborted_records_go_and_shadow_no_key_and_markers_stay_as_long_as_tombstones() {
    let mut bench = Bench::new();
    let settings = [
        ("min.cleanable.dirty.ratio", "0.01"),
        ("delete.retention.ms", "60000"),
    ];
    bench.create("table", compacted(&settings));
    bench.create("other", LogSettings::default());
    let who = bench.init("writer");
    bench.transact(&who, 0, &[("a", Some("1")), ("b", Some("1"))]);
    bench.end(&who, true);
    bench.transact(&who, 2, &[("a", Some("aborted")), ("c", Some("aborted"))]);
    bench.end(&who, false);
    bench.transact(&who, 4, &[("b", Some("2"))]);
    bench.end(&who, true);
    assert_eq!(bench.aborted(), 1);
    bench.fill(16);
    // Key a is that of before the abort, key b that of after it.
    let all = [
        (0, 1, false),
        (2, 1, true),
        (5, 1, true),
        (6, 1, false),
        (7, 1, true),
    ];
    assert_eq!(bench.batches(), all);
    assert_eq!(bench.aborted(), 0, "nobody is told of what is gone");
    bench.crash();
    assert_eq!(bench.batches(), all);
    assert_eq!(bench.aborted(), 0);
    bench.rest(40);
    bench.append("table", keyed(&[("d", Some("1"))], BatchOptions::default()));
    bench.fill(16);
    let without_markers = [(0, 1, false), (6, 1, false), (8, 1, false)];
    assert_eq!(bench.batches(), without_markers);
}

#[test]
fn nothing_behind_an_open_transaction_is_compacted() {
    let mut bench = Bench::new();
    bench.create("table", compacted(&[("min.cleanable.dirty.ratio", "0.01")]));
    bench.create("other", LogSettings::default());
    let who = bench.init("writer");
    let plain = |value| keyed(&[("a", Some(value))], BatchOptions::default());
    bench.append("table", plain("1"));
    bench.append("table", plain("2"));
    bench.transact(&who, 0, &[("a", Some("open"))]);
    bench.append("table", plain("3"));
    bench.append("table", plain("4"));
    bench.fill(16);
    let there = [(1, 1, false), (2, 1, false), (3, 1, false), (4, 1, false)];
    assert_eq!(bench.batches(), there);
    bench.end(&who, false);
    bench.fill(16);
    assert_eq!(bench.batches(), [(4, 1, false), (5, 1, true)]);
}
