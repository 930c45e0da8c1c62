//! Messages that are published later, in files that are compacted meanwhile.

use super::*;

const LATER: &str = "later";
const QUEUE: &str = "late";
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn name(name: &'static str) -> Name {
    Name::from_static(name.as_bytes())
}

impl Bench {
    /// A queue behind an exchange that delays.
    fn declare_delaying(&mut self) {
        self.declare(QUEUE);
        let declare = DeclareExchange {
            name: name(LATER),
            kind: ExchangeKind::Delayed,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: vec![(name("x-delayed-type"), Value::Bytes(name("fanout")))],
        };
        self.ask(Command::DeclareExchange(declare)).unwrap();
        let bind = Binding {
            source: name(LATER),
            destination: Destination::Queue(name(QUEUE)),
            routing_key: Name::new(),
            arguments: Vec::new(),
        };
        self.ask(Command::Bind(bind)).unwrap();
    }

    fn publish_later(&mut self, value: &str, ms: i64) {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        let headers: [Header<'_>; 0] = [];
        let record = NewRecord {
            timestamp: self.env.clock.now_ms(),
            key: None,
            value: Some(Pieces::One(value.as_bytes())),
            headers,
        };
        let appended = builder.append(&record).unwrap();
        let address = Address::Amqp {
            exchange: name(LATER),
            routing_key: Name::new(),
        };
        let mut record = PublishRecord::of(Envelope::new(
            address,
            Provenance::AmqpExchange,
            appended.range(),
        ));
        record.delay = Some(Box::new(Delay {
            ms,
            properties: None,
        }));
        let publish = Publish {
            batch: builder.finish().unwrap().to_bytes(),
            records: vec![record],
            wait: Wait::Durable,
            dedupe: None,
        };
        match self.ask(Command::Publish(publish)) {
            Ok(Reply::Published(published)) => assert!(published.outcomes.is_empty()),
            other => panic!("{other:?}"),
        }
    }

    /// The journal files that there are.
    fn journal_files(&mut self) -> Vec<u32> {
        let files = self.shard.journal.files();
        files.iter().map(|file| file.id).collect()
    }
}

#[test]
fn what_waits_for_days_survives_the_cleaning_of_its_files_slice_by_slice() {
    // Less than a slice, one, two, and some more than that.
    for count in [2, 3, 6, 20] {
        let mut bench = Bench::new();
        bench.declare_delaying();
        let narrow = LogSettings {
            retention_bytes: Some(1000),
            ..LogSettings::default()
        };
        bench.create("other", narrow);
        let before = bench.journal_files();
        for number in 0..count {
            // The last is due first.
            let days = (count - number) * DAY_MS;
            bench.publish_later(&format!("number {number:02}"), days);
        }
        for _ in 0..3 {
            bench.fill(16);
        }
        let left = bench.journal_files();
        assert!(
            !left.iter().any(|file| before.contains(file)),
            "{left:?} are left, {before:?} were there"
        );
        bench.crash();
        bench.fill(16);
        assert!(bench.get(QUEUE).is_none(), "it is not its time yet");
        for number in (0..count).rev() {
            bench.clock.advance(Duration::from_millis(DAY_MS as u64));
            bench.rest(2);
            let got = bench.get(QUEUE).unwrap();
            let record = got.message.record_bytes().unwrap();
            let text = format!("number {number:02}");
            let found = record
                .windows(text.len())
                .any(|part| part == text.as_bytes());
            assert!(found, "{number} of {count}: {record:?}");
            assert!(bench.get(QUEUE).is_none());
        }
    }
}
