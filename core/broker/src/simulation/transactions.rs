//! Transactional producers: they take over each other's ids, begin, write, commit positions and end, and leave it at
//! any point. What is committed is read as a whole, what is aborted never.

use crate::api::*;
use crate::simulation::facts::{LOG, SESSION, TABLE, key_of};
use crate::simulation::messages;
use crate::simulation::narrow::Theme;
use crate::simulation::peer::Ask;
use crate::simulation::world::World;
use rand::RngExt;
use std::collections::{BTreeMap, BTreeSet};

/// Where transactions write to.
pub(super) const PLACES: [(&str, i32); 4] = [(LOG, 0), ("window", 0), ("window", 1), (TABLE, 0)];
/// Who writes.
pub(super) const IDS: [&str; 2] = ["tx-one", "tx-two"];
/// The longest that one is left open, in milliseconds.
pub(super) const TIMEOUT_MS_MAX: i64 = 20_000;

/// A client in the midst of it.
#[derive(Debug, Default)]
pub(super) struct Transacting {
    who: Option<Transactor>,
    /// Which id it asked for.
    asked: Option<usize>,
    /// The number of its transaction.
    number: Option<u64>,
    /// What was not answered.
    pending: usize,
    sequences: BTreeMap<(&'static str, i32), i32>,
    /// It was refused something: it begins anew.
    broken: bool,
}

/// What is known of a transaction.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Which id's.
    pub(super) id: usize,
    /// Records that were acknowledged.
    pub(super) records: Vec<(&'static str, i32, i64, u64)>,
    /// How it was asked to end.
    pub(super) asked: Option<bool>,
    /// How that was acknowledged.
    pub(super) ended: Option<bool>,
    /// It commits a position: its number.
    pub(super) positioned: bool,
}

/// What is known of all.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    pub(super) known: BTreeMap<u64, Known>,
    /// Whose record a message is.
    of: BTreeMap<u64, u64>,
    /// What was read as committed at the end: by topic and partition.
    pub(super) read: BTreeMap<(Name, i32), BTreeSet<u64>>,
    /// How far the last read of committed records came.
    pub(super) read_end: i64,
}

pub(super) fn name(text: &'static str) -> Name {
    Name::from_static(text.as_bytes())
}

impl Transactions {
    /// How many were begun, known to be committed, and known to be aborted.
    pub(super) fn figures(&self) -> (usize, usize, usize) {
        let ended = |how| {
            let known = self.known.values();
            known.filter(|known| known.ended == Some(how)).count()
        };
        (self.known.len(), ended(true), ended(false))
    }

    /// May a reader of committed records see this message?
    pub(super) fn check_visible(&self, id: u64) {
        let Some(number) = self.of.get(&id) else {
            return;
        };
        let known = &self.known[number];
        assert!(
            self.may_be_committed(id),
            "{id} is read, and its transaction {number} was not committed: {known:?}"
        );
    }

    /// May it have been committed?
    pub(super) fn may_be_committed(&self, id: u64) -> bool {
        self.of.get(&id).is_none_or(|number| {
            let known = &self.known[number];
            known.asked == Some(true) && known.ended != Some(false)
        })
    }

    /// Must a reader of committed records see it?
    pub(super) fn must_be_visible(&self, id: u64) -> bool {
        match self.of.get(&id) {
            Some(number) => self.known[number].ended == Some(true),
            None => true,
        }
    }

    /// Was a record read as committed at the end?
    pub(super) fn was_read(
        &self,
        (topic, partition, _, id): &(&'static str, i32, i64, u64),
    ) -> bool {
        let read = self.read.get(&(name(topic), *partition));
        read.is_some_and(|read| read.contains(id))
    }

    /// At the end, when nothing is open: each transaction is there as a whole, or not at all.
    pub(super) fn check_whole(&self, starts: &BTreeMap<(&'static str, i32), i64>) {
        for (number, known) in &self.known {
            let there: Vec<bool> = known
                .records
                .iter()
                // Of the compacted log a record may be gone in favour of a later one.
                .filter(|(topic, ..)| *topic != TABLE)
                .filter(|(topic, partition, offset, _)| *offset >= starts[&(*topic, *partition)])
                .map(|(topic, partition, _, id)| {
                    let read = self.read.get(&(name(topic), *partition));
                    read.is_some_and(|read| read.contains(id))
                })
                .collect();
            let all = there.iter().all(|there| *there);
            let none = !there.contains(&true);
            let holds = match (known.asked, known.ended) {
                (_, Some(true)) => all,
                (Some(true), None) => all || none,
                _ => none,
            };
            assert!(
                holds,
                "transaction {number} is torn: {known:?}, there {there:?}"
            );
        }
    }
}

impl World {
    /// A client with a transactional id does something.
    pub(super) fn act_transactor(&mut self, at: usize) {
        let state = &self.peers[at].transacting;
        if state.broken || state.who.is_none() {
            if state.asked.is_none() {
                self.take_over(at);
            }
            return;
        }
        if self.chance(2) {
            self.take_over(at);
            return;
        }
        for _ in 0..self.random.random_range(1..4) {
            let open = self.peers[at].transacting.number.is_some();
            match self.random.random_range(0..20) {
                0..4 => self.read_committed(at),
                _ if !open => self.begin_transaction(at),
                4..12 => self.write_in_transaction(at),
                12..14 => self.position_in_transaction(at),
                14..17 => {
                    let answered = self.peers[at].transacting.pending == 0;
                    let fails = self.theme == Some(Theme::Table);
                    let commit = if answered && !fails { 80 } else { 30 };
                    let commit = self.chance(commit);
                    self.end_transaction(at, commit);
                }
                _ => {}
            }
        }
    }

    fn take_over(&mut self, at: usize) {
        // Mostly an id of its own; now and then the other's.
        let index = if self.chance(75) {
            at % 2
        } else {
            (at + 1) % 2
        };
        let timeout_ms = [1000, 5000, TIMEOUT_MS_MAX][self.random.random_range(0..3)];
        let state = &mut self.peers[at].transacting;
        *state = Transacting {
            asked: Some(index),
            ..Transacting::default()
        };
        let init = InitTransactions {
            id: name(IDS[index]),
            timeout_ms,
            expected: None,
        };
        self.ask(at, Ask::TakeOver(index), Command::InitTransactions(init));
    }

    fn begin_transaction(&mut self, at: usize) {
        let Some(who) = self.peers[at].transacting.who.clone() else {
            return;
        };
        let number = self.facts.transactions.known.len() as u64 + 1;
        let id = IDS.iter().position(|id| name(id) == who.id).unwrap();
        self.facts.transactions.known.insert(
            number,
            Known {
                id,
                ..Known::default()
            },
        );
        self.peers[at].transacting.number = Some(number);
        self.peers[at].transacting.pending += 2;
        let partitions = PLACES.map(|(topic, partition)| (name(topic), partition));
        let command = Command::Enlist(who.clone(), Enlist::Partitions(partitions.to_vec()));
        self.ask(at, Ask::InTransaction, command);
        let command = Command::Enlist(who.clone(), Enlist::Group(who.id));
        self.ask(at, Ask::InTransaction, command);
    }

    fn write_in_transaction(&mut self, at: usize) {
        let state = &self.peers[at].transacting;
        let (Some(who), Some(number)) = (state.who.clone(), state.number) else {
            return;
        };
        let mut place = self.random.random_range(0..PLACES.len());
        if self.theme == Some(Theme::Table) {
            place = PLACES.iter().position(|place| place.0 == TABLE).unwrap();
        }
        let (topic, partition) = PLACES[place];
        // What it writes keeps its order in each partition.
        let own = PLACES.len() as u64;
        let publisher = 2_000_000 + self.peers[at].client.0 * own + place as u64;
        let count = self.random.random_range(1..4);
        let ids = self.facts.number(publisher, count);
        for id in &ids {
            self.facts.transactions.of.insert(*id, number);
        }
        let sequence = self.peers[at]
            .transacting
            .sequences
            .entry((topic, partition))
            .or_insert(0);
        let first = *sequence;
        *sequence += i32::try_from(count).unwrap();
        let padding = self.padding();
        let key = |id| if topic == TABLE { key_of(id) } else { b'k' };
        let time = self.unix_ms();
        let batch = messages::transactional_batch(&ids, padding, time, &who, first, &key);
        let append = Append {
            topic: TopicRef::Name(name(topic)),
            partition,
            batch,
            wait: Wait::Durable,
            keyless: false,
            transactional_id: Some(who.id),
        };
        self.sent_raw(topic, &ids);
        self.peers[at].transacting.pending += 1;
        let ask = Ask::AppendIn(number, topic, partition, ids);
        self.ask(at, ask, Command::Append(append));
    }

    fn position_in_transaction(&mut self, at: usize) {
        let state = &self.peers[at].transacting;
        let (Some(who), Some(number)) = (state.who.clone(), state.number) else {
            return;
        };
        let commit = OffsetsInTransaction {
            group: who.id.clone(),
            transactor: who,
            offsets: vec![GroupOffset {
                topic: name(LOG),
                partition: 0,
                offset: i64::try_from(number).unwrap(),
                leader_epoch: -1,
                metadata: Name::new(),
            }],
        };
        self.peers[at].transacting.pending += 1;
        let ask = Ask::PositionIn(number);
        self.ask(at, ask, Command::OffsetsInTransaction(commit));
    }

    fn end_transaction(&mut self, at: usize, commit: bool) {
        let state = &mut self.peers[at].transacting;
        let (Some(who), Some(number)) = (state.who.clone(), state.number.take()) else {
            return;
        };
        let known = self.facts.transactions.known.get_mut(&number).unwrap();
        known.asked = Some(commit);
        let command = Command::EndTransaction(who, commit);
        self.ask(at, Ask::EndOf(number, commit), command);
    }

    /// A new connection: what was open goes on, if nothing of it was left unanswered; else it is left to whoever comes
    /// next.
    pub(super) fn transactor_joined(&mut self, at: usize) {
        let goes_on = self.chance(60);
        let state = &mut self.peers[at].transacting;
        let settled = state.pending == 0 && state.number.is_some() && !state.broken;
        if !(goes_on && settled) {
            *state = Transacting::default();
        }
    }

    /// An answer to a transactional producer.
    pub(super) fn transactor_answered(
        &mut self,
        at: usize,
        what: Ask,
        result: Result<Reply, Refusal>,
    ) {
        let tight = self.tight;
        if let Err(refusal) = &result {
            let expected = match refusal {
                // Another has the id, or the time was over.
                Refusal::ProducerFenced
                | Refusal::InvalidProducerEpoch
                | Refusal::InvalidProducerMapping => true,
                // What came before was refused.
                Refusal::DiskFull
                | Refusal::InvalidTransactionState
                | Refusal::OutOfOrderSequence => tight,
                _ => false,
            };
            assert!(expected, "{what:?} is refused: {refusal}");
            let state = &mut self.peers[at].transacting;
            state.broken = true;
            state.number = None;
        }
        match (what, result) {
            (Ask::TakeOver(index), result) => {
                let state = &mut self.peers[at].transacting;
                if state.asked == Some(index) {
                    state.asked = None;
                    if let Ok(Reply::Producer(producer, epoch)) = result {
                        state.who = Some(Transactor {
                            id: name(IDS[index]),
                            producer,
                            epoch,
                        });
                    }
                }
            }
            (Ask::AppendIn(number, topic, partition, ids), Ok(Reply::Appended(appended))) => {
                let (base, state) = (appended.base_offset, &mut self.peers[at].transacting);
                state.pending = state.pending.saturating_sub(1);
                self.facts.appended(&name(topic), partition, base, &ids);
                let known = self.facts.transactions.known.get_mut(&number).unwrap();
                let records = (base..).zip(&ids);
                known
                    .records
                    .extend(records.map(|(offset, id)| (topic, partition, offset, *id)));
            }
            (Ask::InTransaction, Ok(_)) => {
                let state = &mut self.peers[at].transacting;
                state.pending = state.pending.saturating_sub(1);
            }
            (Ask::PositionIn(number), Ok(_)) => {
                let state = &mut self.peers[at].transacting;
                state.pending = state.pending.saturating_sub(1);
                let known = self.facts.transactions.known.get_mut(&number).unwrap();
                known.positioned = true;
            }
            (Ask::EndOf(number, commit), Ok(_)) => {
                let known = self.facts.transactions.known.get_mut(&number).unwrap();
                known.ended = Some(commit);
                if commit && self.keeps_log {
                    let ids = known.records.iter().filter(|(topic, ..)| *topic == LOG);
                    let ids: Vec<u64> = ids.map(|(.., id)| *id).collect();
                    self.facts.expect(LOG, &ids);
                    self.facts.expect(SESSION, &ids);
                }
            }
            _ => {}
        }
    }
}
