//! Entries that end before they are consumed: dropped, or published again where their queue says (dead letters).
//!
//! A dead letter is a new record in the frame that removes the entry, so that it is in one place at any time. Where the
//! record must be read from the files first, the entry is leased to nobody until it has been. One that doesn't fit into a
//! frame beside what is there already has the next frame for itself, and nobody is told of the first before.

use crate::api::*;
use crate::event::Event as Decision;
use crate::path::amqp_key;
use crate::server::ColdRecord;
use crate::shard::Shard;
use crate::shard::dispatch::Located;
use crate::shard::headers::Headers;
use crate::shard::rebatch::rebatch;
use crate::shard::route::{amqp_provenance, path_head, path_rest};
use crate::state::delayed::Due;
use crate::state::queue::{Lease, NOBODY};
use crate::state::routes::{Crowd, Route};
use bytes::Bytes;
use std::sync::Arc;

/// Entries of one queue that wait for their records, or for those of others before them.
const READS_MAX: usize = 64;

/// An entry that is to be a dead letter, after those before it.
#[derive(Debug)]
pub(crate) struct Dying {
    entry: u64,
    reason: DeathReason,
    /// `None`: it is being read. Else what was found, if it could be.
    message: Option<Option<Message>>,
}

/// A record to be read for a dead letter, or because a delay is over.
#[derive(Debug)]
pub(crate) struct Exhumation {
    cause: Cause,
    pub(crate) record: ColdRecord,
    /// What was read; nothing if it can't be.
    pub(crate) message: Option<Message>,
}

/// What a record is read for.
#[derive(Debug, Clone, Copy)]
enum Cause {
    Died { queue: QueueId, entry: u64 },
    Due(Due),
}

/// Dead letters that the frame under construction has no room for.
#[derive(Debug)]
pub(crate) enum Postponed {
    /// Of an entry of this queue, leased to nobody until then.
    Entry(QueueId),
    /// Of a message that is in no queue any more.
    Message(QueueId, Box<Message>, DeathReason),
}

impl Exhumation {
    /// A delay is over.
    pub(super) fn due(due: Due, record: ColdRecord) -> Self {
        Self {
            cause: Cause::Due(due),
            record,
            message: None,
        }
    }
}

impl Shard {
    /// Records to be read for dead letters and delayed messages; they come back as [`crate::server::Input::Exhumed`].
    pub(crate) fn take_exhumations(&mut self) -> Vec<Exhumation> {
        std::mem::take(&mut self.exhumations)
    }

    /// Does a queue have dead letters, and a place for them?
    pub(crate) fn dead_letters_of(&self, id: QueueId) -> bool {
        let Some(queue) = self.state.queues.get(&id) else {
            return false;
        };
        let letters = queue
            .policy
            .as_ref()
            .and_then(|policy| policy.dead_letters.as_ref());
        letters.is_some_and(|letters| {
            let names = self.state.namespace(queue.namespace);
            letters.exchange.is_empty()
                || names.is_some_and(|names| names.exchanges.contains_key(&letters.exchange))
        })
    }

    /// May more of a queue's entries be discarded now, or are enough of their records being read?
    pub(crate) fn may_discard(&self, id: QueueId) -> bool {
        self.exhuming
            .get(&id)
            .is_none_or(|dying| dying.len() < READS_MAX)
    }

    /// Entries are done with before they were consumed, ready or just taken out of the ready ones. In the frame under
    /// construction.
    pub(crate) fn discard(&mut self, id: QueueId, entries: &[u64], reason: DeathReason) {
        let letters = self.dead_letters_of(id);
        let mut gone = Vec::new();
        for &entry in entries {
            if letters && self.is_crowded(id, entry) {
                self.remove_entries(id, &std::mem::take(&mut gone));
                self.conclude_frame();
            }
            let Some(queue) = self.state.queues.get_mut(&id) else {
                return;
            };
            queue.recall(entry);
            let kept = if queue.memory.contains_key(&entry) {
                queue.forget(entry, entry);
                queue.memory.remove(&entry)
            } else {
                None
            };
            if let Some(kept) = kept {
                queue.memory_bytes -= kept.bytes;
                queue.returned.remove(entry);
                self.discard_message(id, &kept.message, reason);
                continue;
            }
            self.state.changes.touch(queue);
            let rank = queue.took_if_ready(entry);
            if !letters {
                gone.push(entry);
                continue;
            }
            match self.locate(entry) {
                Located::Here(message) if self.exhuming.contains_key(&id) => {
                    // Those before it come first.
                    self.await_death(id, entry, rank, reason, Some(Some(message)));
                }
                Located::Here(message) if self.dead_letter(id, &message, reason) => {
                    gone.push(entry);
                }
                Located::Here(message) => {
                    self.await_death(id, entry, rank, reason, Some(Some(message)));
                    self.postponed.push_back(Postponed::Entry(id));
                }
                Located::Cold(record) => {
                    self.await_death(id, entry, rank, reason, None);
                    let cause = Cause::Died { queue: id, entry };
                    self.exhumations.push(Exhumation {
                        cause,
                        record,
                        message: None,
                    });
                }
            }
        }
        self.remove_entries(id, &gone);
    }

    /// A message that is not, or no longer, in a queue is its dead letter, if it has any.
    pub(crate) fn discard_message(&mut self, id: QueueId, message: &Message, reason: DeathReason) {
        // Those before it come first.
        let at_once = self.postponed.is_empty();
        if self.dead_letters_of(id) && !(at_once && self.dead_letter(id, message, reason)) {
            let message = Box::new(message.clone());
            self.postponed
                .push_back(Postponed::Message(id, message, reason));
        }
    }

    /// Publishes a dead letter that the last frame had no room for, in a frame of its own. Says whether there was any.
    pub(crate) fn publish_postponed(&mut self) -> bool {
        let Some(postponed) = self.postponed.pop_front() else {
            return false;
        };
        match postponed {
            Postponed::Message(id, message, reason) => {
                self.dead_letter(id, &message, reason);
            }
            Postponed::Entry(id) => {
                if let Some(next) = self.next_dying(id) {
                    // Others may have waited for it.
                    self.postponed.push_front(Postponed::Entry(id));
                    self.bury(id, next);
                }
            }
        }
        true
    }

    /// The first of a queue's dying entries, if its record is here.
    fn next_dying(&mut self, id: QueueId) -> Option<Dying> {
        let dying = self.exhuming.get_mut(&id)?;
        let next = dying.pop_front_if(|next| next.message.is_some());
        if dying.is_empty() {
            self.exhuming.remove(&id);
        }
        next
    }

    /// A record has been read.
    pub(crate) fn exhumed(&mut self, exhumation: Exhumation) {
        let Exhumation { cause, message, .. } = exhumation;
        match cause {
            Cause::Due(due) => self.due_read(due, message),
            Cause::Died { queue, entry } => self.dead_read(queue, entry, message),
        }
    }

    /// An entry waits, leased to nobody, to be a dead letter.
    fn await_death(
        &mut self,
        id: QueueId,
        entry: u64,
        rank: Option<u16>,
        reason: DeathReason,
        message: Option<Option<Message>>,
    ) {
        if let Some(queue) = self.state.queues.get_mut(&id) {
            queue.lease(EntryId(entry), Lease::of_nobody(rank));
        }
        self.exhuming.entry(id).or_default().push_back(Dying {
            entry,
            reason,
            message,
        });
    }

    /// An entry's record has been read: it is a dead letter as soon as those before it are. Reads overtake each other.
    fn dead_read(&mut self, id: QueueId, entry: u64, message: Option<Message>) {
        let dying = self.exhuming.get_mut(&id);
        let read = dying.and_then(|dying| dying.iter_mut().find(|one| one.entry == entry));
        if let Some(read) = read {
            read.message = Some(message);
        }
        while let Some(next) = self.next_dying(id) {
            self.bury(id, next);
            self.conclude_frame();
        }
    }

    /// Puts an entry's dead letter and its end into a frame that nothing else is in.
    fn bury(&mut self, id: QueueId, dying: Dying) {
        let Dying {
            entry,
            reason,
            message,
        } = dying;
        let Some(queue) = self.state.queues.get_mut(&id) else {
            return;
        };
        let nobodys = |lease: &Lease| lease.client == NOBODY;
        if !queue.leases.get(&EntryId(entry)).is_some_and(nobodys) {
            return;
        }
        self.state.changes.touch(queue);
        queue.unlease(EntryId(entry));
        match message.flatten() {
            Some(message) => {
                self.dead_letter(id, &message, reason);
            }
            None => tracing::error!(queue = id.0, entry, "a dead letter's record can't be read"),
        }
        self.remove_entries(id, &[entry]);
        self.mark_dirty(id);
    }

    /// Journals that a durable queue's entries are gone.
    fn remove_entries(&mut self, id: QueueId, entries: &[u64]) {
        let mut sorted = entries.to_vec();
        sorted.sort_unstable();
        let runs: Vec<(u64, u64)> = sorted
            .chunk_by(|a, b| a + 1 == *b)
            .filter_map(|run| Some((*run.first()?, *run.last()?)))
            .collect();
        if !runs.is_empty() {
            self.record(&Decision::Removed { queue: id, runs });
        }
    }

    /// Publishes a message again, where its queue says; not if the frame under construction has no room beside what is
    /// in it.
    fn dead_letter(&mut self, id: QueueId, message: &Message, reason: DeathReason) -> bool {
        let Some(queue) = self.state.queues.get(&id) else {
            return true;
        };
        let letters = queue
            .policy
            .as_ref()
            .and_then(|policy| policy.dead_letters.clone());
        let (Some(letters), Some(envelope)) = (letters, message.envelope()) else {
            return true;
        };
        let namespace = queue.namespace;
        let name = queue.declared.name.clone();
        let (exchange, key) = spelled(envelope);
        let mut deaths = Deaths::and(
            message.deaths().map(|deaths| &**deaths),
            envelope.provenance,
            Death {
                queue: name,
                reason,
                count: 1,
                exchange,
                routing_key: key.clone(),
                time_ms: self.now.unix_ms,
                had_expiration: envelope.expires_at_ms.is_some(),
            },
        );
        let mut envelope = envelope.clone();
        envelope.provenance = amqp_provenance(&letters.exchange);
        envelope.address = Address::Amqp {
            exchange: letters.exchange,
            routing_key: letters.routing_key.unwrap_or(key),
        };
        envelope.expires_at_ms = None;
        envelope.retain = false;
        let headers = Table::new();
        let route = self.route(
            namespace,
            envelope.provenance,
            &envelope.address,
            Headers::Typed(&headers),
            &[],
        );
        let route = self.without_cycles(namespace, &route, &deaths, reason);
        let stored = &message.stored.batch;
        let Some((batch, range)) = rebatch(stored, envelope.range, route.placed.as_deref()) else {
            return true;
        };
        envelope.range = range;
        let bytes = batch.len() + spelled_bytes(&envelope);
        while !self.fits_frame(bytes + deaths.bytes()) {
            if !self.is_frame_empty() {
                return false;
            }
            // The message was in a frame, so it is what happened to it that has grown too long.
            if deaths.deaths.len() < 2 {
                tracing::error!(
                    queue = id.0,
                    "a dead letter does not fit into a frame, and is lost"
                );
                return true;
            }
            deaths.deaths.pop();
        }
        let record = PublishRecord::of(envelope);
        let deaths = vec![(0, Arc::new(deaths))];
        self.stats.dead_letters += 1;
        let mut outcomes = Vec::new();
        self.publish_batch(
            namespace,
            batch,
            vec![record],
            &[route],
            deaths,
            &mut outcomes,
        );
        true
    }

    /// A route without the queues in which the message died before, with no consumer's refusal since: it would go round
    /// for ever.
    fn without_cycles(
        &self,
        namespace: NamespaceId,
        route: &Arc<Route>,
        deaths: &Deaths,
        reason: DeathReason,
    ) -> Arc<Route> {
        let cycle = |queue: &QueueId| {
            let name = self
                .state
                .queues
                .get(queue)
                .map(|queue| &queue.declared.name);
            name.is_some_and(|name| deaths.goes_round(name))
        };
        if reason == DeathReason::Rejected {
            return route.clone();
        }
        // None of a crowd dead-letters, but one may bear the name of a queue that did.
        let crowd = route.crowd.as_deref().unwrap_or_default();
        let namesakes: Vec<QueueId> = deaths
            .deaths
            .iter()
            .filter_map(|death| self.state.queue_id(namespace, &death.queue))
            .filter(|queue| crowd.binary_search(queue).is_ok() && cycle(queue))
            .collect();
        if namesakes.is_empty() && !route.queues.iter().any(|to| cycle(&to.queue)) {
            return route.clone();
        }
        let mut route = Route::clone(route);
        route.queues.retain(|to| !cycle(&to.queue));
        if !namesakes.is_empty() {
            let others = crowd.iter().filter(|queue| !namesakes.contains(queue));
            let others: Crowd = others.copied().collect();
            route.crowd = (!others.is_empty()).then_some(others);
        }
        Arc::new(route)
    }
}

/// What a record's envelope takes beside its batch, roughly.
pub(super) fn spelled_bytes(envelope: &Envelope) -> usize {
    let address = match &envelope.address {
        Address::Amqp {
            exchange,
            routing_key,
        } => exchange.len() + routing_key.len(),
        Address::Mqtt { topic } => topic.len(),
        Address::Kafka { topic, key } => topic.len() + key.as_ref().map_or(0, Bytes::len),
    };
    address + envelope.publisher.len() + envelope.properties.len()
}

/// Exchange and routing key of a message, as AMQP spells them.
fn spelled(envelope: &Envelope) -> (Name, Bytes) {
    match &envelope.address {
        Address::Amqp {
            exchange,
            routing_key,
        } => (exchange.clone(), routing_key.clone()),
        other => {
            let head = path_head(envelope.provenance, other);
            let rest = path_rest(envelope.provenance, other);
            (Name::from(head.to_vec()), amqp_key(rest.iter().copied()))
        }
    }
}

impl Deaths {
    /// What it takes beside a record, at the most.
    fn bytes(&self) -> usize {
        let of =
            |death: &Death| 64 + death.queue.len() + death.exchange.len() + death.routing_key.len();
        let first = self.first.queue.len() + self.first.exchange.len();
        64 + first + self.deaths.iter().map(of).sum::<usize>()
    }

    /// A history with one more death, as RabbitMQ keeps it: one entry for each queue and reason, the newest first.
    fn and(before: Option<&Self>, origin: Provenance, death: Death) -> Self {
        let Some(before) = before else {
            return Self {
                origin,
                first: FirstDeath {
                    queue: death.queue.clone(),
                    reason: death.reason,
                    exchange: death.exchange.clone(),
                },
                deaths: vec![death],
            };
        };
        let mut deaths = before.clone();
        let same = |known: &Death| known.queue == death.queue && known.reason == death.reason;
        match deaths.deaths.iter().position(same) {
            Some(at) => {
                let mut known = deaths.deaths.remove(at);
                known.count += 1;
                deaths.deaths.insert(0, known);
            }
            None => deaths.deaths.insert(0, death),
        }
        deaths
    }

    /// Did it die in this queue, and was it refused by no consumer since?
    fn goes_round(&self, queue: &Name) -> bool {
        let Some(at) = self.deaths.iter().position(|death| death.queue == *queue) else {
            return false;
        };
        let round = self.deaths.iter().take(at + 1);
        !round
            .into_iter()
            .any(|death| death.reason == DeathReason::Rejected)
    }
}

#[cfg(test)]
mod tests;
