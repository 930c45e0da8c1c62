//! Publishing later: a message that is to wait is written at once and held by an index by time; when it is due it is
//! published as if it came then, as a new record in the frame that takes it out of the index.
//!
//! What is due leaves in the order of its time, a round in each step. A record that is not in memory any more is read
//! first, and those behind it wait.

use crate::api::*;
use crate::event::Event as Decision;
use crate::shard::dead_letters::Exhumation;
use crate::shard::dispatch::Located;
use crate::shard::limits::payload_bytes;
use crate::shard::rebatch::{rebatch, single};
use crate::shard::{GROUP_BYTES_MAX, Shard};
use crate::state::delayed::Due;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// Messages that are looked for ahead of the one whose turn it is.
const AHEAD: usize = 64;
/// Messages published in one step.
const ROUND: usize = 256;

/// Delayed messages whose time has come, in order.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    window: VecDeque<(Due, Found)>,
}

/// What is known of a message that is about to be published.
#[derive(Debug)]
enum Found {
    Here(Box<Message>),
    Reading,
    /// Its record can't be read.
    Lost,
}

impl Shard {
    /// How long a record is to wait, if its address is one where messages wait: below MQTT's own prefix, which its
    /// session has taken off, or an exchange that delays.
    fn delay_of<'a>(&self, namespace: NamespaceId, record: &'a PublishRecord) -> Option<&'a Delay> {
        let delay = record.delay.as_deref().filter(|delay| delay.ms > 0)?;
        match &record.envelope.address {
            Address::Amqp { exchange, .. } => {
                let exchange = self.state.namespace(namespace)?.exchanges.get(exchange)?;
                (exchange.declared.kind == ExchangeKind::Delayed).then_some(delay)
            }
            _ => Some(delay),
        }
    }

    /// Is any of these to be published later?
    pub(crate) fn any_delayed(&self, namespace: NamespaceId, records: &[PublishRecord]) -> bool {
        let mut records = records.iter();
        records.any(|record| self.delay_of(namespace, record).is_some())
    }

    /// Decides a publish of which something is to wait.
    pub(crate) fn publish_parted(
        &mut self,
        client: ClientId,
        namespace: NamespaceId,
        publish: Publish,
    ) -> Result<Published, Refusal> {
        let Publish {
            batch,
            records,
            wait,
            ..
        } = publish;
        let all = records
            .iter()
            .all(|record| self.delay_of(namespace, record).is_some());
        let mut outcomes = Vec::with_capacity(records.len());
        if all {
            self.put_off(namespace, batch, records, &mut outcomes);
        } else {
            for record in records {
                let later = self.delay_of(namespace, &record).is_some();
                let (batch, mut record) = single(&batch, record)?;
                if later {
                    self.put_off(namespace, batch, vec![record], &mut outcomes);
                    continue;
                }
                record.delay = None;
                let now = Publish {
                    batch,
                    records: vec![record],
                    wait,
                    dedupe: None,
                };
                // What was decided before stands, so a refusal is this record's alone.
                outcomes.push(match self.try_publish(client, namespace, now) {
                    Ok(published) => published.outcomes.first().copied().unwrap_or(Routed::Taken),
                    Err(_) => Routed::Rejected,
                });
            }
        }
        if outcomes.iter().all(|outcome| *outcome == Routed::Taken) {
            outcomes.clear();
        }
        Ok(Published {
            outcomes,
            duplicate: false,
        })
    }

    /// Writes records that are published later. One that is to wait too long, or one too many, is refused.
    fn put_off(
        &mut self,
        namespace: NamespaceId,
        batch: Bytes,
        records: Vec<PublishRecord>,
        outcomes: &mut Vec<Routed>,
    ) {
        let now_ms = self.now.unix_ms;
        let known = u64::try_from(self.state.delayed.len()).unwrap_or(u64::MAX);
        let mut room = self.config.delayed_messages_max.saturating_sub(known);
        let mut envelopes = Vec::with_capacity(records.len());
        let mut hints = Vec::new();
        let mut times: Vec<(u64, u64, i64)> = Vec::new();
        for (record, index) in records.into_iter().zip(0u32..) {
            let mut envelope = record.envelope;
            let delay = record.delay.map(|delay| *delay).unwrap_or_default();
            if delay.ms > self.config.delay_ms_max || room == 0 {
                outcomes.push(Routed::Rejected);
                envelopes.push(envelope);
                continue;
            }
            room -= 1;
            outcomes.push(Routed::Taken);
            if let Some(properties) = delay.properties {
                envelope.properties = properties;
            }
            // What it has left to live counts from its publication.
            envelope.expires_at_ms = envelope
                .expires_at_ms
                .map(|at_ms| at_ms.saturating_add(delay.ms));
            envelopes.push(envelope);
            if !record.more_routing_keys.is_empty() || !record.headers.is_empty() {
                let beside = RoutingHints {
                    more_routing_keys: record.more_routing_keys,
                    headers: record.headers,
                };
                hints.push((index, Arc::new(beside)));
            }
            let (index, at_ms) = (u64::from(index), now_ms.saturating_add(delay.ms));
            match times.last_mut() {
                Some((_, last, same)) if *same == at_ms && *last + 1 == index => *last = index,
                _ => times.push((index, index, at_ms)),
            }
        }
        if times.is_empty() {
            return;
        }
        let stored = StoredBatch {
            hints,
            ..StoredBatch::new(batch, envelopes)
        };
        let base = self.write_unrouted(namespace, stored);
        for (first, last, at_ms) in times {
            self.record(&Decision::Delayed {
                namespace,
                first: base + first,
                last: base + last,
                at_ms,
            });
        }
    }

    /// When delayed messages are looked at next.
    pub(crate) fn delays_due_ms(&self) -> Option<i64> {
        match self.leaving.window.front() {
            Some((_, Found::Reading)) => None,
            // Without space they wait, and are looked at with everything else.
            _ if self.may_grow().is_err() || self.held.any() => None,
            Some(((at_ms, _), _)) => Some(*at_ms),
            None => self.state.delayed.next(None).map(|(at_ms, _)| at_ms),
        }
    }

    /// Publishes what is due.
    pub(crate) fn publish_due(&mut self) {
        // A record whose frame is held can't be read yet: it is in no file, nor in the tail.
        if self.held.any() {
            return;
        }
        let mut left = ROUND;
        while left > 0 {
            self.find_due();
            if self.leaving.window.is_empty() || self.may_grow().is_err() {
                return;
            }
            if let Some((_, Found::Reading)) = self.leaving.window.front() {
                return;
            }
            let Some((due, found)) = self.leaving.window.pop_front() else {
                return;
            };
            left -= 1;
            self.publish_delayed(due, found);
            self.conclude_frame();
            self.urgent = true;
            if self.journal.group_bytes() >= GROUP_BYTES_MAX {
                self.submit();
            }
        }
    }

    /// Looks for the records of what is due.
    fn find_due(&mut self) {
        while self.leaving.window.len() < AHEAD {
            let behind = self.leaving.window.back().map(|(due, _)| *due);
            let next = self.state.delayed.next(behind);
            let Some(due) = next.filter(|(at_ms, _)| *at_ms <= self.now.unix_ms) else {
                return;
            };
            let found = match self.locate(due.1) {
                Located::Here(message) => Found::Here(Box::new(message)),
                Located::Cold(record) => {
                    self.exhumations.push(Exhumation::due(due, record));
                    Found::Reading
                }
            };
            self.leaving.window.push_back((due, found));
        }
    }

    /// A record that is due has been read.
    pub(super) fn due_read(&mut self, due: Due, message: Option<Message>) {
        let mut window = self.leaving.window.iter_mut();
        if let Some((_, found)) = window.find(|(waiting, _)| *waiting == due) {
            *found = message.map_or(Found::Lost, |message| Found::Here(Box::new(message)));
        }
    }

    fn publish_delayed(&mut self, due: Due, found: Found) {
        let Some(namespace) = self.state.delayed.get(due) else {
            return;
        };
        self.record(&Decision::DelayOver { entries: vec![due] });
        let published = match found {
            Found::Here(message) => self.publish_again(namespace, &message),
            Found::Reading | Found::Lost => {
                tracing::error!(sequence = due.1, "a delayed message's record can't be read");
                None
            }
        };
        match published {
            Some(()) => self.stats.delays_over += 1,
            None => self.stats.delays_lost += 1,
        }
    }

    /// Publishes a message as if it came now; not if its exchange is gone.
    fn publish_again(&mut self, namespace: NamespaceId, message: &Message) -> Option<()> {
        let envelope = message.envelope()?;
        let provenance = self.check_address(namespace, &envelope.address).ok()?;
        let (batch, range) = rebatch(&message.stored.batch, envelope.range, None)?;
        let mut envelope = envelope.clone();
        envelope.range = range;
        let retain = match (&envelope.address, envelope.retain) {
            (Address::Mqtt { .. }, true) if payload_bytes(&batch, range) == 0 => {
                Some(RetainAction::Clear)
            }
            (Address::Mqtt { .. }, true) => Some(RetainAction::Set),
            _ => None,
        };
        let hints = message.hints().cloned().unwrap_or_default();
        let records = vec![PublishRecord {
            more_routing_keys: hints.more_routing_keys,
            headers: hints.headers,
            retain,
            ..PublishRecord::of(envelope)
        }];
        // Its publisher may be gone: a name that it makes counts as nobody's.
        let nobody = ClientId(0);
        let routes = self
            .find_routes(nobody, namespace, provenance, &batch, &records)
            .ok()?;
        self.publish_routed(namespace, batch, records, routes)
            .ok()?;
        Some(())
    }
}
