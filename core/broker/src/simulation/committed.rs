//! Readers of committed records: what they get, and that at the end each transaction is there as a whole or not at all,
//! its position with it.

use crate::api::*;
use crate::simulation::facts::{Facts, TABLE};
use crate::simulation::kafka::fetch_of;
use crate::simulation::messages;
use crate::simulation::peer::Ask;
use crate::simulation::transactions::{IDS, PLACES, TIMEOUT_MS_MAX, name};
use crate::simulation::world::World;
use omnilog_record::{ControlRecord, RecordBatch, TransactionOutcome};
use rand::RngExt;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

impl World {
    /// A step was taken: nobody may read on into what is open.
    pub(super) fn check_stable(&self) {
        let Some(life) = &self.life else { return };
        for partition in life.shard.state.partitions.values() {
            let (stable, open) = (partition.last_stable_offset(), partition.first_open());
            assert!(
                stable <= open.max(partition.log_start),
                "committed records are read up to {stable}, and a transaction is open from {open} on"
            );
        }
    }

    pub(super) fn read_committed(&mut self, at: usize) {
        let (topic, partition) = PLACES[self.random.random_range(0..PLACES.len())];
        let end = self.facts.logged.get(&(name(topic), partition));
        let end = end.and_then(|log| log.last_key_value());
        let end = end.map_or(0, |(offset, _)| *offset);
        let from = self.random.random_range(0..=end);
        self.fetch_committed(at, topic, partition, from);
    }

    fn fetch_committed(&mut self, at: usize, topic: &'static str, partition: i32, offset: i64) {
        let fetch = fetch_of(topic, partition, offset, true);
        let ask = Ask::FetchCommitted(name(topic), partition, offset);
        self.ask(at, ask, Command::Fetch(fetch));
    }

    /// What a reader of committed records gets, and what it makes of it.
    pub(super) fn fetched_committed(
        &mut self,
        topic: &Name,
        partition: i32,
        from: i64,
        parts: Vec<Result<Fetched, Refusal>>,
    ) {
        let Some(Ok(fetched)) = parts.into_iter().next() else {
            return;
        };
        assert!(fetched.last_stable_offset <= fetched.high_watermark);
        let (seen, end) = committed(&fetched, from);
        assert!(
            end <= fetched.last_stable_offset.max(from),
            "{topic:?}: read to {end}, beyond what is decided"
        );
        let start = self.present_start(topic, partition);
        let first = from.max(fetched.log_start_offset).max(start);
        for id in seen.values() {
            self.facts.transactions.check_visible(*id);
        }
        if let Some(log) = self.facts.logged.get(&(topic.clone(), partition)) {
            for (offset, id) in log.range(first.min(end)..end) {
                // Its transaction may have been decided since this was read, so that is all that is known.
                let must = *topic != TABLE && self.facts.transactions.must_be_visible(*id);
                let found = seen.get(offset);
                assert!(
                    found == Some(id) || !must && found.is_none(),
                    "offset {offset} of {topic:?} is {found:?}, and {id} was committed there"
                );
            }
        }
        let read = &mut self.facts.transactions.read;
        let read = read.entry((topic.clone(), partition)).or_default();
        read.extend(seen.values());
        self.facts.transactions.read_end = end;
    }

    /// At the end: open transactions run out of time, and all is read as committed.
    pub(super) fn finish_transactions(&mut self, at: usize) {
        let wait = u64::try_from(TIMEOUT_MS_MAX).unwrap() + self.back_ms + 1;
        self.clock.advance(Duration::from_millis(wait));
        self.calm();
        let mut starts = BTreeMap::new();
        for (topic, partition) in PLACES {
            let start = self.log_start(topic, usize::try_from(partition).unwrap());
            starts.insert((topic, partition), start);
            let mut from = start;
            loop {
                self.facts.transactions.read_end = from;
                self.fetch_committed(at, topic, partition, from);
                self.calm();
                if self.facts.transactions.read_end == from {
                    break;
                }
                from = self.facts.transactions.read_end;
            }
            let end = self.log_end(topic, usize::try_from(partition).unwrap());
            assert_eq!(from, end, "{topic}/{partition}: something is open yet");
        }
        self.facts.transactions.check_whole(&starts);
        for (index, id) in IDS.into_iter().enumerate() {
            let found = self.committed_position(id);
            check_position(&self.facts, index, found);
        }
    }
}

/// A group's position is that of a committed transaction, and of none before the last that is known to be.
fn check_position(facts: &Facts, index: usize, found: Option<i64>) {
    let mine = facts.transactions.known.iter();
    let mine = mine.filter(|(_, known)| known.id == index && known.positioned);
    let mut least = None;
    for (number, known) in mine {
        let number = i64::try_from(*number).unwrap();
        // Its records and its position are committed together.
        if known.ended == Some(true)
            || known
                .records
                .iter()
                .any(|record| facts.transactions.was_read(record))
        {
            least = Some(number);
        }
        if found == Some(number) {
            assert!(
                known.asked == Some(true) && known.ended != Some(false),
                "the position is that of transaction {number}: {known:?}"
            );
        }
    }
    assert!(
        found >= least,
        "the position is {found:?}, and {least:?} was committed"
    );
}

/// What a client makes of a fetch: offsets and messages, without those that were aborted, and how far it came.
pub(super) fn committed(fetched: &Fetched, from: i64) -> (BTreeMap<i64, u64>, i64) {
    let mut coming = fetched.aborted.iter().peekable();
    let mut aborted: BTreeSet<i64> = BTreeSet::new();
    let mut seen = BTreeMap::new();
    let mut end = from;
    assert!(
        fetched
            .aborted
            .is_sorted_by_key(|aborted| aborted.first_offset),
        "aborted transactions come in order"
    );
    for bytes in &fetched.batches {
        let batch = RecordBatch::parse(bytes.clone()).expect("a batch that parses");
        let header = *batch.header();
        let last = messages::end(bytes) - 1;
        end = end.max(last + 1);
        while let Some(next) = coming.next_if(|next| next.first_offset <= last) {
            aborted.insert(next.producer);
        }
        if header.attributes.is_control() {
            if outcome(&batch) == Some(TransactionOutcome::Abort) {
                aborted.remove(&header.producer_id);
            }
        } else if !(header.attributes.is_transactional() && aborted.contains(&header.producer_id)) {
            seen.extend(messages::fetched(bytes));
        }
    }
    (seen, end)
}

/// How the transaction of a marker ended; `None`: there is no record left in it.
fn outcome(batch: &RecordBatch) -> Option<TransactionOutcome> {
    let records = batch.records(1 << 20).expect("records");
    let record = records.iter().next()?.expect("a record");
    match ControlRecord::parse(&record).expect("a control record") {
        ControlRecord::EndTransaction { outcome, .. } => Some(outcome),
        ControlRecord::Other(kind) => panic!("a control record of type {kind}"),
    }
}
