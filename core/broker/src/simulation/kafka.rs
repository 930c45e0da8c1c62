//! Kafka clients: producers, plain and idempotent, readers, committed offsets.

use crate::api::*;
use crate::simulation::facts::{LOG, SESSION, TABLE, key_of};
use crate::simulation::gaps::WINDOW_BYTES;
use crate::simulation::messages;
use crate::simulation::peer::Ask;
use crate::simulation::placed::MAPPED;
use crate::simulation::world::World;
use rand::RngExt;

const GROUP: &[u8] = b"group";

fn topic(name: &'static str) -> Name {
    Name::from_static(name.as_bytes())
}

/// A fetch of all there is from an offset on.
pub(super) fn fetch_of(name: &'static str, partition: i32, offset: i64, committed: bool) -> Fetch {
    Fetch {
        partitions: vec![FetchPartition {
            topic: TopicRef::Name(topic(name)),
            partition,
            offset,
            bytes_max: 1 << 30,
            current_leader_epoch: -1,
        }],
        wait_ms_max: 100,
        bytes_min: 1,
        bytes_max: 1 << 30,
        committed,
    }
}

impl World {
    pub(super) fn set_up_topics(&mut self, at: usize) {
        let forever = LogSettings {
            retention_ms: Some(-1),
            retention_bytes: Some(if self.keeps_log { -1 } else { 10_000 }),
            ..LogSettings::default()
        };
        let window = LogSettings {
            retention_bytes: Some(WINDOW_BYTES.cast_signed()),
            ..LogSettings::default()
        };
        let table = LogSettings {
            cleanup: Some(CleanupPolicy::Compact),
            others: [("min.cleanable.dirty.ratio".to_owned(), "0.1".to_owned())]
                .into_iter()
                .chain(self.raw_settings())
                .collect(),
            ..LogSettings::default()
        };
        let topics = [(LOG, 1, forever), ("window", 2, window), (TABLE, 1, table)];
        for (name, partitions, settings) in topics {
            let create = CreateTopic {
                name: topic(name),
                partitions: Some(partitions),
                settings,
                validate_only: false,
                path_template: None,
            };
            self.ask(at, Ask::Whatever, Command::CreateTopic(create));
        }
    }

    pub(super) fn greet_kafka(&mut self, at: usize) {
        if self.peers[at].producer.is_none() && !self.peers[at].draining {
            self.ask(at, Ask::Producer, Command::InitProducer);
        }
        self.retry(at);
    }

    pub(super) fn act_kafka(&mut self, at: usize) {
        if self.chance(15) {
            return self.act_table(at);
        }
        match self.random.random_range(0..20) {
            0..6 => {
                let place = self.random.random_range(0..7);
                let (name, partition): (_, i32) = [
                    (LOG, 0),
                    ("window", 0),
                    ("window", 1),
                    ("chaos", 0),
                    (TABLE, 0),
                    (MAPPED, 0),
                    (MAPPED, 1),
                ][place];
                // What it writes keeps its order in each partition.
                let publisher = self.peers[at].publisher(place as u64);
                let count = self.random.random_range(1..4);
                let ids = self.facts.number(publisher, count);
                let batch = if name == TABLE {
                    let padding = self.padding();
                    messages::keyed_batch(&ids, padding, self.unix_ms(), None, &key_of)
                } else {
                    self.batch(&ids, None)
                };
                self.append(at, name, partition, batch, ids, false);
            }
            6..12 => {
                let peer = &self.peers[at];
                if peer.producer.is_some() && peer.unanswered.is_none() {
                    let publisher = peer.producer.map_or(0, |id| 1_000_000 + id.unsigned_abs());
                    let count = self.random.random_range(1..4);
                    let ids = self.facts.number(publisher, count);
                    let padding = self.padding();
                    self.peers[at].unanswered = Some((ids, padding));
                }
                self.retry(at);
            }
            12 if self.chance(50) => self.read_raw(at),
            12..15 => {
                let (name, partition) = [(LOG, 0), ("window", 0), ("window", 1), (TABLE, 0)]
                    [self.random.random_range(0..4)];
                let key = (topic(name), partition);
                let end = self
                    .facts
                    .logged
                    .get(&key)
                    .and_then(|log| log.last_key_value());
                let end = end.map_or(0, |(offset, _)| *offset);
                let from = self.random.random_range(0..=end);
                self.fetch(at, name, partition, from);
            }
            15..18 => {
                let offset = i64::try_from(self.facts.commits.len()).unwrap();
                self.facts.commits.push(offset);
                let offsets = vec![GroupOffset {
                    topic: topic(LOG),
                    partition: 0,
                    offset,
                    leader_epoch: -1,
                    metadata: Name::new(),
                }];
                let index = self.facts.commits.len() - 1;
                let command = Command::CommitOffsets(Name::from_static(GROUP), offsets);
                self.ask(at, Ask::Commit(index), command);
            }
            18 if self.chance(30) => self.delete_records(at),
            18 => {
                let create = CreateTopic {
                    name: topic("chaos"),
                    partitions: Some(1),
                    settings: LogSettings::default(),
                    validate_only: false,
                    path_template: None,
                };
                self.ask(at, Ask::Whatever, Command::CreateTopic(create));
            }
            _ => {
                let name = TopicRef::Name(topic("chaos"));
                self.ask(at, Ask::Whatever, Command::DeleteTopic(name));
            }
        }
    }

    pub(super) fn padding(&mut self) -> usize {
        if self.chance(10) {
            self.random.random_range(0..1200)
        } else {
            self.random.random_range(0..200)
        }
    }

    fn batch(&mut self, ids: &[u64], producer: Option<(i64, i32)>) -> bytes::Bytes {
        let padding = self.padding();
        messages::batch(ids, padding, self.unix_ms(), producer)
    }

    /// Writes much to a log that keeps little.
    pub(super) fn fill_window(&mut self, at: usize) {
        let publisher = self.peers[at].publisher(1);
        let ids = self.facts.number(publisher, 1);
        let padding = self.random.random_range(1000..4000);
        let batch = messages::batch(&ids, padding, self.unix_ms(), None);
        self.append(at, "window", 0, batch, ids, false);
    }

    fn append(
        &mut self,
        at: usize,
        name: &'static str,
        partition: i32,
        batch: bytes::Bytes,
        ids: Vec<u64>,
        once: bool,
    ) {
        self.sent_raw(name, &ids);
        let append = Append {
            topic: TopicRef::Name(topic(name)),
            partition,
            batch,
            wait: Wait::Durable,
            keyless: false,
            transactional_id: None,
        };
        let ask = Ask::Append(topic(name), partition, ids, once);
        self.ask(at, ask, Command::Append(append));
    }

    /// Sends the idempotent producer's batch, perhaps not for the first time.
    fn retry(&mut self, at: usize) {
        let peer = &self.peers[at];
        let (Some(producer), Some((ids, padding))) = (peer.producer, peer.unanswered.clone())
        else {
            return;
        };
        let batch = messages::batch(
            &ids,
            padding,
            self.unix_ms(),
            Some((producer, peer.sequence)),
        );
        self.append(at, LOG, 0, batch, ids, true);
    }

    pub(super) fn appended(
        &mut self,
        at: usize,
        name: &Name,
        partition: i32,
        ids: &[u64],
        once: bool,
        result: Result<Reply, Refusal>,
    ) {
        let followed = *name == topic(LOG);
        match result {
            Ok(Reply::Appended(appended)) => {
                if *name != topic("chaos") {
                    self.facts
                        .appended(name, partition, appended.base_offset, ids);
                }
                if followed && self.keeps_log {
                    self.facts.expect(LOG, ids);
                    self.facts.expect(SESSION, ids);
                }
                let peer = &mut self.peers[at];
                if once
                    && peer
                        .unanswered
                        .as_ref()
                        .is_some_and(|(sent, _)| sent == ids)
                {
                    peer.sequence += i32::try_from(ids.len()).unwrap();
                    peer.unanswered = None;
                }
            }
            Err(Refusal::DiskFull) if self.tight => {}
            refused => assert!(!followed, "{name:?} refuses {ids:?}: {refused:?}"),
        }
    }

    fn fetch(&mut self, at: usize, name: &'static str, partition: i32, offset: i64) {
        let fetch = fetch_of(name, partition, offset, false);
        let ask = Ask::Fetch(topic(name), partition, offset);
        self.ask(at, ask, Command::Fetch(fetch));
    }

    pub(super) fn fetched(
        &mut self,
        name: &Name,
        partition: i32,
        from: i64,
        mut parts: Vec<Result<Fetched, Refusal>>,
    ) {
        match parts.pop() {
            Some(Ok(fetched)) => {
                let mut records = Vec::new();
                let mut end = from;
                for batch in &fetched.batches {
                    end = end.max(messages::end(batch));
                    records.extend(messages::fetched(batch));
                }
                assert!(
                    end <= fetched.high_watermark.max(from),
                    "{name:?}: read beyond its end"
                );
                // What has left the log since it was decided may be gone from the files when they are read.
                let start = self.present_start(name, partition);
                let from = from.max(fetched.log_start_offset).max(start);
                self.facts.read_end = end;
                self.facts.fetched(name, partition, from, &records, end);
            }
            Some(Err(Refusal::OffsetOutOfRange {
                log_start_offset, ..
            })) => {
                assert!(
                    from < log_start_offset,
                    "{name:?}: offset {from} was acknowledged"
                );
                assert!(
                    !self.keeps_log || *name != topic(LOG),
                    "it is kept for ever"
                );
            }
            other => panic!("{name:?} can't be read: {other:?}"),
        }
    }

    pub(super) fn check_offsets(&self, offsets: &[GroupOffset]) {
        let found = offsets.first().map(|offset| offset.offset);
        let kept = match (self.facts.committed, found) {
            (None, _) => true,
            (Some(index), Some(found)) => self.facts.commits[index..].contains(&found),
            (Some(_), None) => false,
        };
        assert!(
            kept,
            "offset {found:?} of {:?} acknowledged",
            self.facts.committed
        );
    }

    /// Reads every log from the start, and the group's offsets.
    pub(super) fn read_all(&mut self, at: usize) {
        let life_starts = [(LOG, 0), ("window", 0), ("window", 1), (TABLE, 0)];
        for (name, partition) in life_starts {
            let start = self.log_start(name, usize::try_from(partition).unwrap());
            let mut from = start;
            loop {
                self.facts.read_end = from;
                self.fetch(at, name, partition, from);
                self.calm();
                if self.facts.read_end == from {
                    break;
                }
                from = self.facts.read_end;
            }
            let acknowledged = self.facts.logged.get(&(topic(name), partition));
            let newest = acknowledged
                .and_then(|log| log.last_key_value())
                .map(|(offset, _)| *offset);
            if let Some(newest) = newest {
                assert!(
                    from > newest,
                    "{name}/{partition} ends at {from}, and {newest} was acknowledged"
                );
            }
        }
        self.ask(
            at,
            Ask::Offsets,
            Command::FetchOffsets(Name::from_static(GROUP), None),
        );
        self.calm();
    }
}
