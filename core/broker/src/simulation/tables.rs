//! Topics whose records are retained messages: Kafka and MQTT clients write and delete keys, the setting comes and goes.
//! At the end the retained messages are what the log says, and what was acknowledged is among it.

use crate::api::*;
use crate::link::stored_batch;
use crate::path::mqtt_topic;
use crate::server::{ColdRecord, read_message};
use crate::shard::BatchFields;
use crate::simulation::facts::TABLE;
use crate::simulation::peer::Ask;
use crate::simulation::world::World;
use crate::state::retained::Kept;
use bytes::Bytes;
use omnilog_ledger::{LogRange, Section, ShardId};
use omnilog_record::{BatchBuilder, BatchOptions, Header, NewRecord, Pieces, Record, RecordBatch};
use rand::RngExt;
use std::collections::BTreeMap;

/// A topic of keys that are written and deleted, in two partitions.
pub(super) const STATE: &str = "state";
/// Kafka clients write all of them, MQTT clients those from the third on.
const KEYS: [u8; 5] = *b"abcde";
const ALSO_MQTT: usize = 2;

/// What is known of the keys.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// The last acknowledged value of each: its offset, and its number if it has any.
    acknowledged: BTreeMap<u8, (i64, Option<u64>)>,
    /// Some deletion of it was not acknowledged, or not yet.
    may_be_gone: BTreeMap<u8, u64>,
    pub(super) changed: u64,
}

/// The partition that MQTT's messages of a key go to, too: the order of a key is that of its partition.
fn partition_of(key: u8) -> i32 {
    i32::try_from(crate::partitioner::partition_of(&[key], 2)).unwrap()
}

/// A batch of values and deletions, and where each record lies in it.
fn batch(records: &[(u8, Option<u64>)], time: i64, empty: bool) -> (Bytes, Vec<(u32, u32)>) {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let mut ranges = Vec::new();
    for (key, id) in records {
        let headers: [Header<'_>; 0] = [];
        let value = id.map(|id| id.to_be_bytes().to_vec());
        let nothing = empty.then(Vec::new);
        let value = value.or(nothing);
        let appended = builder
            .append(&NewRecord {
                timestamp: time,
                key: Some(&[*key]),
                value: value.as_deref().map(Pieces::One),
                headers,
            })
            .unwrap();
        ranges.push(appended.range());
    }
    (builder.finish().unwrap().to_bytes(), ranges)
}

fn settings(latest: bool) -> LogSettings {
    let other = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    LogSettings {
        cleanup: Some(CleanupPolicy::Compact),
        others: vec![
            other("min.cleanable.dirty.ratio", "0.1"),
            other("delete.retention.ms", "2000"),
            other(RETAIN, if latest { "latest" } else { "none" }),
        ],
        ..LogSettings::default()
    }
}

impl World {
    pub(super) fn set_up_tables(&mut self, at: usize) {
        let latest = self.chance(70);
        let create = CreateTopic {
            name: Name::from_static(STATE.as_bytes()),
            partitions: Some(2),
            settings: settings(latest),
            validate_only: false,
            path_template: None,
        };
        self.ask(at, Ask::Whatever, Command::CreateTopic(create));
    }

    fn set_retain(&mut self, at: usize, topic: &'static str, latest: bool) {
        let mut settings = settings(latest);
        if topic == TABLE {
            settings.others.extend(self.raw_settings());
        }
        let topic = TopicRef::Name(Name::from_static(topic.as_bytes()));
        let command = Command::AlterTopic(AlterTopic::new(topic, settings));
        self.ask(at, Ask::Whatever, command);
    }

    /// A client does something with a table.
    pub(super) fn act_table(&mut self, at: usize) {
        match self.random.random_range(0..20) {
            0..11 => self.put(at),
            11..18 => self.put_retained(at),
            _ => {
                let topic = [STATE, TABLE][self.random.random_range(0..2)];
                let latest = self.chance(70);
                self.set_retain(at, topic, latest);
            }
        }
    }

    fn put(&mut self, at: usize) {
        let partition = self.random.random_range(0..2);
        let publisher = 3_000_000 + self.peers[at].client.0;
        let mut records = Vec::new();
        for _ in 0..self.random.random_range(1..5) {
            let of_partition = KEYS.iter().filter(|key| partition_of(**key) == partition);
            let keys: Vec<u8> = of_partition.copied().collect();
            let key = keys[self.random.random_range(0..keys.len())];
            let id = self.facts.number(publisher, 1)[0];
            let gone = self.chance(25);
            if gone {
                *self.facts.tables.may_be_gone.entry(key).or_default() += 1;
            }
            records.push((key, (!gone).then_some(id)));
        }
        let empty = self.chance(20);
        let (batch, _) = batch(&records, self.unix_ms(), empty);
        let append = Append {
            topic: TopicRef::Name(Name::from_static(STATE.as_bytes())),
            partition,
            batch,
            wait: Wait::Durable,
            keyless: false,
            transactional_id: None,
        };
        self.ask(at, Ask::Put(records), Command::Append(append));
    }

    /// An MQTT client retains a message under the path of a key, or takes it away.
    fn put_retained(&mut self, at: usize) {
        let key = KEYS[self.random.random_range(ALSO_MQTT..KEYS.len())];
        let publisher = 4_000_000 + self.peers[at].client.0;
        let id = self.facts.number(publisher, 1)[0];
        let clears = self.chance(30);
        let (batch, ranges) = batch(&[(key, (!clears).then_some(id))], self.unix_ms(), true);
        let address = Address::Mqtt {
            topic: mqtt_topic(STATE.as_bytes(), Some(&[key])),
        };
        let mut record = PublishRecord::of(Envelope {
            qos: 1,
            retain: true,
            ..Envelope::new(address, Provenance::Mqtt, ranges[0])
        });
        record.retain = Some(if clears {
            RetainAction::Clear
        } else {
            RetainAction::Set
        });
        let publish = Publish {
            batch,
            records: vec![record],
            wait: Wait::Durable,
            dedupe: None,
        };
        self.ask(at, Ask::Whatever, Command::Publish(publish));
    }

    /// What was written to a table is acknowledged.
    pub(super) fn was_put(
        &mut self,
        records: &[(u8, Option<u64>)],
        result: Result<Reply, Refusal>,
    ) {
        let base = match result {
            Ok(Reply::Appended(appended)) => appended.base_offset,
            Err(Refusal::DiskFull) if self.tight => return,
            other => panic!("a table refuses {records:?}: {other:?}"),
        };
        let known = &mut self.facts.tables;
        for ((key, id), offset) in records.iter().zip(base..) {
            known.changed += 1;
            if id.is_none() {
                *known.may_be_gone.entry(*key).or_default() -= 1;
            }
            let last = known.acknowledged.entry(*key).or_insert((offset, *id));
            if last.0 < offset {
                *last = (offset, *id);
            }
        }
    }

    /// The retained messages are the last committed values in the logs.
    pub(super) fn check_tables(&mut self, at: usize) {
        for topic in [STATE, TABLE] {
            self.set_retain(at, topic, true);
        }
        self.calm();
        assert_eq!(self.check_read_tables(), 3, "every table has been read");
        for key in &KEYS[..ALSO_MQTT] {
            self.check_key(*key);
        }
    }

    /// The same for those that have been read to their end by now; says how many that are.
    pub(super) fn check_read_tables(&self) -> usize {
        let Some(life) = &self.life else { return 0 };
        let state = &life.shard.state;
        let names = state.namespace(NamespaceId(0)).unwrap();
        let mut checked = 0;
        for name in [STATE, TABLE] {
            let topic = TopicRef::Name(Name::from_static(name.as_bytes()));
            let Some(topic) = state.topic(NamespaceId(0), &topic) else {
                continue;
            };
            for key in &topic.partitions {
                let partition = &state.partitions[key];
                let end = partition.next_offset;
                let link = state.links.get(&(*key, crate::state::TABLE));
                let is_read = partition.last_stable_offset() == end
                    && link.map_or(!partition.kafka_written, |link| link.next_offset == end);
                if !is_read {
                    continue;
                }
                checked += 1;
                if !partition.kafka_written {
                    continue;
                }
                let said = self.said_by_log(*key);
                for (path, said) in &said {
                    let there = names.retained.get(path);
                    assert_eq!(there, *said, "{name}: the retained message of {path:?}");
                }
                for (path, kept) in names.retained.all() {
                    if kept.partition == *key {
                        assert_eq!(said.get(path), Some(&Some(kept)), "{name}: {path:?}");
                        self.check_kept(path, kept);
                    }
                }
            }
        }
        checked
    }

    /// What the records of a partition make of their paths, one after another.
    fn said_by_log(&self, key: u64) -> BTreeMap<Bytes, Option<Kept>> {
        let life = self.life.as_ref().unwrap();
        let partition = &life.shard.state.partitions[&key];
        let (from, until) = (partition.log_start, partition.last_stable_offset());
        let (aborted, _) = partition.aborted_between(from, until);
        let range = LogRange::anywhere(key, from, until);
        let name = life.shard.state.origin_of(key).topic;
        let mut said = BTreeMap::new();
        let sections = life.reader.by_offset(range, u64::MAX, true).unwrap();
        for section in sections {
            let batch = RecordBatch::parse(section.batch.clone()).unwrap();
            let fields = BatchFields::read(&section.batch).unwrap();
            let is_aborted = fields.is_transactional()
                && aborted
                    .iter()
                    .any(|aborted| aborted.covers(fields.producer_id, section.base_offset));
            if batch.header().record_count == 0
                || batch.header().attributes.is_control()
                || is_aborted
            {
                continue;
            }
            let envelopes = stored_batch(&section).envelopes;
            let records = batch.records(1 << 24).unwrap();
            for (number, record) in records.iter().enumerate() {
                let record = record.unwrap();
                let delta = u64::try_from(record.offset_delta).unwrap();
                let is_empty = record.value.is_none_or(<[u8]>::is_empty);
                let kept = Kept {
                    sequence: section.base_sequence + delta,
                    partition: if envelopes.is_empty() { key } else { 0 },
                };
                if envelopes.get(number).is_none_or(|envelope| envelope.retain) {
                    let path = mqtt_topic(&name, record.key);
                    said.insert(path, (!is_empty).then_some(kept));
                }
            }
        }
        said
    }

    /// Its record is read as a message of its path.
    fn check_kept(&self, path: &Bytes, kept: Kept) {
        let life = self.life.as_ref().unwrap();
        let record = ColdRecord {
            shard: ShardId(0),
            sequence: kept.sequence,
            origin: life.shard.state.origin_of(kept.partition),
            reached: None,
        };
        let message = read_message(&record, &*life.reader).expect("a retained message's record");
        let Address::Kafka { topic, key } = &message.envelope().unwrap().address else {
            panic!("{path:?} is no Kafka record's");
        };
        assert_eq!(mqtt_topic(topic, key.as_deref()), path);
    }

    /// What was acknowledged last, or something later, is a key's retained message.
    fn check_key(&self, key: u8) {
        let known = &self.facts.tables;
        let Some((last, id)) = known.acknowledged.get(&key) else {
            return;
        };
        let life = self.life.as_ref().unwrap();
        let names = life.shard.state.namespace(NamespaceId(0)).unwrap();
        let path = mqtt_topic(STATE.as_bytes(), Some(&[key]));
        let Some(kept) = names.retained.get(&path) else {
            let may_be =
                id.is_none() || known.may_be_gone.get(&key).is_some_and(|count| *count > 0);
            assert!(
                may_be,
                "{path:?} is lost: {id:?} was acknowledged at {last}"
            );
            return;
        };
        let section = life.reader.by_sequence(ShardId(0), kept.sequence);
        let section = section.unwrap().expect("a retained message's record");
        let delta = kept.sequence - section.base_sequence;
        let offset = section.base_offset + delta.cast_signed();
        assert!(
            offset >= *last,
            "{path:?} is that of {offset}, and {last} was acknowledged"
        );
        if offset == *last {
            assert_eq!(value_of(&section, delta), *id, "{path:?}");
        }
    }
}

fn value_of(section: &Section, delta: u64) -> Option<u64> {
    let batch = RecordBatch::parse(section.batch.clone()).unwrap();
    let records = batch.records(1 << 24).unwrap();
    let number = |record: Record<'_>| {
        let value = record.value.filter(|value| !value.is_empty())?;
        Some(u64::from_be_bytes(value.try_into().unwrap()))
    };
    let mut records = records.iter().map(Result::unwrap);
    let found = records.find(|record| u64::try_from(record.offset_delta) == Ok(delta));
    number(found.expect("a record at this sequence"))
}
