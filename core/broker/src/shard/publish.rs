//! Publishing by AMQP and MQTT: everything is decided before anything is written. `route` finds who may take a record,
//! `placement` where it is kept, `targets` who takes it.

use crate::api::*;
use crate::event::{Event as Decision, Holders};
use crate::shard::append::{self, BatchFields, place_batch};
use crate::shard::expiry::deadline;
use crate::shard::headers::Headers;
use crate::shard::limits::payload_bytes;
use crate::shard::ranks::rank_events;
use crate::shard::route::amqp_provenance;
use crate::shard::targets::{Beside, Holding};
use crate::shard::{Outcome, Shard};
use crate::state::queue::MemoryEntry;
use crate::state::routes::Route;
use bytes::Bytes;
use omnilog_ledger::Section;
use smallvec::SmallVec;
use std::sync::Arc;

/// What a memory entry costs beside its payload.
const ENTRY_BYTES: u64 = 128;

/// Room that a frame keeps for decisions: sets of holders, retained messages.
const FRAME_BYTES: usize = 1 << 20;

/// Room for one record's envelope beside its properties: names and numbers.
const RECORD_BYTES: usize = 1024;

impl Shard {
    pub(crate) fn publish(
        &mut self,
        client: ClientId,
        namespace: NamespaceId,
        publish: Publish,
    ) -> Outcome {
        let wait = publish.wait;
        let result = self
            .may_publish()
            .and_then(|()| self.try_publish(client, namespace, publish))
            .map(Reply::Published);
        match wait {
            Wait::Decided => Outcome::Now(result),
            Wait::Durable => Outcome::Durable(result),
        }
    }

    /// Decides a publish, whether or not the disk is nearly full; what it changes is in the frame under construction.
    pub(crate) fn try_publish(
        &mut self,
        client: ClientId,
        namespace: NamespaceId,
        publish: Publish,
    ) -> Result<Published, Refusal> {
        let Some(first) = publish.records.first() else {
            return Ok(Published::default());
        };
        self.check_size(&publish)?;
        let provenance = self.check_address(namespace, &first.envelope.address)?;
        let mut reserved = None;
        if let Some(dedupe) = publish.dedupe {
            let session = self.state.sessions.get(&dedupe.session);
            let session = session.ok_or_else(|| {
                Refusal::NotFound(Noun::Session, Name::from(dedupe.session.to_string()))
            })?;
            if session.incoming.contains(&dedupe.packet_id) {
                return Ok(Published {
                    outcomes: Vec::new(),
                    duplicate: true,
                });
            }
            reserved = Some((dedupe, session.durable()));
        }
        if self.any_delayed(namespace, &publish.records) {
            if let Some((dedupe, durable)) = reserved {
                self.reserve_incoming(dedupe, durable);
            }
            return self.publish_parted(client, namespace, publish);
        }
        let batch = &publish.batch;
        let routes = self.find_routes(client, namespace, provenance, batch, &publish.records)?;
        if routes.iter().any(|route| route.cut_short) {
            // Somebody who wants it may not have been found, so nobody is told that it is safe.
            let what = "the patterns and the path are too involved";
            return Err(Refusal::Limit(what.to_owned()));
        }
        if let Some((dedupe, durable)) = reserved {
            self.reserve_incoming(dedupe, durable);
        }
        let Publish { batch, records, .. } = publish;
        let mut outcomes = self.publish_routed(namespace, batch, records, routes)?;
        self.press(client);
        if outcomes.iter().all(|outcome| *outcome == Routed::Taken) {
            outcomes.clear();
        }
        Ok(Published {
            outcomes,
            duplicate: false,
        })
    }

    /// Where each record goes, and the log that it may need made. What a topic does not take is refused.
    pub(crate) fn find_routes(
        &mut self,
        client: ClientId,
        namespace: NamespaceId,
        provenance: Provenance,
        batch: &Bytes,
        records: &[PublishRecord],
    ) -> Result<Vec<Arc<Route>>, Refusal> {
        let mut routes: Vec<Arc<Route>> = Vec::with_capacity(records.len());
        for record in records {
            let address = &record.envelope.address;
            let find = |shard: &mut Self| {
                let headers = Headers::of(record, batch);
                let more_keys = &record.more_routing_keys;
                shard.route(namespace, provenance, address, headers, more_keys)
            };
            let mut route = find(self);
            if route.unlogged && self.ensure_log(client, namespace, provenance, address) {
                route = find(self);
            }
            routes.push(route);
        }
        self.check_keys(records, &routes)?;
        Ok(routes)
    }

    /// Publishes records by their routes, partition by partition; says what became of each.
    pub(crate) fn publish_routed(
        &mut self,
        namespace: NamespaceId,
        batch: Bytes,
        records: Vec<PublishRecord>,
        routes: Vec<Arc<Route>>,
    ) -> Result<Vec<Routed>, Refusal> {
        let mut outcomes = Vec::with_capacity(records.len());
        for (batch, records, routes) in self.split(batch, records, routes)? {
            let deaths = Vec::new();
            self.publish_batch(namespace, batch, records, &routes, deaths, &mut outcomes);
        }
        Ok(outcomes)
    }

    fn reserve_incoming(&mut self, dedupe: Dedupe, durable: bool) {
        self.record_if(
            durable,
            &Decision::IncomingReserved {
                session: dedupe.session,
                packet_id: dedupe.packet_id,
            },
        );
    }

    /// Puts a batch into the frame that nobody gets yet; returns its first sequence.
    pub(crate) fn write_unrouted(
        &mut self,
        namespace: NamespaceId,
        mut stored: StoredBatch,
    ) -> u64 {
        stored.batch = place_batch(stored.batch, 0, self.state.epoch);
        let count = u32::try_from(stored.envelopes.len()).unwrap_or(u32::MAX);
        let nobody = vec![(count, Holding::default())];
        let beside = Beside::default();
        self.write_batch(namespace, &Arc::new(stored), (0, -1), nobody, beside)
    }

    /// Does it fit into a frame, with room for what is decided about it?
    fn check_size(&self, publish: &Publish) -> Result<(), Refusal> {
        let beside: usize = publish
            .records
            .iter()
            .map(|record| RECORD_BYTES + record.envelope.properties.len())
            .sum();
        let frame = self.journal.frame_bytes_max();
        let limit = frame - FRAME_BYTES.min(frame / 4);
        if publish.batch.len() + beside > limit {
            return Err(Refusal::TooLarge {
                limit: limit as u64,
            });
        }
        Ok(())
    }

    /// Compacted topics take no records without a key. A key comes from the address.
    fn check_keys(&self, records: &[PublishRecord], routes: &[Arc<Route>]) -> Result<(), Refusal> {
        if !self.compacted.any() {
            return Ok(());
        }
        let refused = records.iter().zip(routes).any(|(record, route)| {
            let no_key = match &route.placed {
                Some(placed) => placed.key.is_none(),
                None => keyless(&record.envelope.address),
            };
            no_key && route.topic.is_some_and(|topic| self.compacts(topic))
        });
        if refused {
            return Err(append::keyless());
        }
        Ok(())
    }

    /// Is this an address that can be published to? Says its provenance.
    pub(crate) fn check_address(
        &self,
        namespace: NamespaceId,
        address: &Address,
    ) -> Result<Provenance, Refusal> {
        match address {
            Address::Amqp { exchange, .. } => {
                let provenance = amqp_provenance(exchange);
                if provenance == Provenance::AmqpDefault {
                    return Ok(provenance);
                }
                let known = self
                    .state
                    .namespace(namespace)
                    .and_then(|names| names.exchanges.get(exchange));
                let known =
                    known.ok_or_else(|| Refusal::NotFound(Noun::Exchange, exchange.clone()))?;
                if known.declared.internal {
                    return Err(Refusal::NotPermitted(Noun::Exchange, exchange.clone()));
                }
                Ok(provenance)
            }
            Address::Mqtt { .. } => Ok(Provenance::Mqtt),
            Address::Kafka { .. } => Ok(Provenance::Kafka),
        }
    }

    pub(crate) fn publish_batch(
        &mut self,
        namespace: NamespaceId,
        batch: Bytes,
        records: Vec<PublishRecord>,
        routes: &[Arc<Route>],
        deaths: Vec<(u32, Arc<Deaths>)>,
        outcomes: &mut Vec<Routed>,
    ) {
        let mut retains: SmallVec<[(u32, Bytes, RetainAction); 1]> = SmallVec::new();
        let mut holders: Vec<(u32, Holding)> = Vec::new();
        let mut memory: Vec<(u32, QueueId, u8)> = Vec::new();
        let mut beside = Beside::default();
        let mut refused: Vec<(u32, QueueId)> = Vec::new();
        for ((record, route), index) in records.iter().zip(routes).zip(0u32..) {
            let targets = self.targets(&record.envelope, route, &batch, index, &mut beside);
            outcomes.push(match (targets.rejected, targets.taken) {
                (true, _) => Routed::Rejected,
                (false, true) => Routed::Taken,
                (false, false) => Routed::NoTaker,
            });
            memory.extend(
                targets
                    .memory
                    .iter()
                    .map(|(queue, qos)| (index, *queue, *qos)),
            );
            if targets.ranks.any() {
                beside.ranks.push((index, targets.ranks));
            }
            refused.extend(targets.refused.iter().map(|queue| (index, *queue)));
            match holders.last_mut() {
                Some((count, same)) if *same == targets.holders => *count += 1,
                _ => holders.push((1, targets.holders)),
            }
            if let (Some(action), Address::Mqtt { topic }) =
                (record.retain, &record.envelope.address)
            {
                retains.push((index, topic.clone(), action));
            }
        }
        // Collected into room of its own: it is kept, and the larger records' room would be kept with it.
        let mut envelopes = Vec::with_capacity(records.len());
        envelopes.extend(records.into_iter().map(|record| record.envelope));
        let partition = routes
            .first()
            .and_then(|route| self.partition_for(route, &batch));
        let held = holders.iter().any(|(_, holding)| !holding.is_empty())
            || retains
                .iter()
                .any(|(_, _, action)| *action == RetainAction::Set);
        let (base_offset, key) = partition.map_or((-1, 0), |(key, offset)| (offset, key));
        let batch = place_batch(batch, base_offset.max(0), self.state.epoch);
        let stored = Arc::new(StoredBatch {
            batch,
            envelopes,
            deaths,
            hints: Vec::new(),
        });
        let mut first = self.state.next_sequence;
        if held || partition.is_some() {
            first = self.write_batch(namespace, &stored, (key, base_offset), holders, beside);
        }
        for (index, topic, action) in retains {
            let decision = match action {
                RetainAction::Set => Decision::RetainedSet {
                    namespace,
                    topic,
                    sequence: first + u64::from(index),
                },
                RetainAction::Clear => Decision::RetainedCleared { namespace, topic },
            };
            self.record(&decision);
        }
        let message = |index| Message {
            stored: stored.clone(),
            index,
            position: None,
        };
        for (index, queue, qos) in memory {
            let message = message(index);
            if !self.hand_over(queue, &message, qos) {
                self.enqueue_memory(queue, message, qos, false);
            }
        }
        for (index, queue) in refused {
            self.discard_message(queue, &message(index), DeathReason::MaxLen);
        }
    }

    /// Puts the batch into the frame: its section, who holds it, and what happens when it is durable.
    fn write_batch(
        &mut self,
        namespace: NamespaceId,
        stored: &Arc<StoredBatch>,
        (partition, base_offset): (u64, i64),
        holders: Vec<(u32, Holding)>,
        mut beside: Beside,
    ) -> u64 {
        let last_delta = u32::try_from(stored.envelopes.len().saturating_sub(1)).unwrap_or(0);
        let first = self.take_sequences(u64::from(last_delta) + 1);
        let max_timestamp =
            BatchFields::read(&stored.batch).map_or(-1, |fields| fields.max_timestamp);
        let last = first + u64::from(last_delta);
        let holders: Vec<(u32, Holders)> = holders
            .into_iter()
            .map(|(count, holding)| (count, self.holders(last, holding)))
            .collect();
        let section = self.add_section(
            Section {
                partition,
                base_offset,
                base_sequence: first,
                last_delta,
                max_timestamp,
                envelope: stored.encode_beside(),
                batch: stored.batch.clone(),
            },
            stored.clone(),
        );
        let mut further = rank_events(first, &holders, &beside.ranks);
        further.extend(beside.deadlines.events(first, &holders));
        further.extend(beside.added.events(first));
        self.record(&Decision::Published {
            namespace,
            section,
            holders,
        });
        for decision in further {
            self.record(&decision);
        }
        if partition != 0 {
            self.readable(partition, first + u64::from(last_delta));
        }
        first
    }

    /// Puts a message into a queue in memory; returns its entry.
    pub(crate) fn enqueue_memory(
        &mut self,
        id: QueueId,
        message: Message,
        qos: u8,
        retained: bool,
    ) -> u64 {
        let next_sequence = self.state.next_sequence;
        let now_ms = self.now.unix_ms;
        let Some(queue) = self.state.queues.get_mut(&id) else {
            return 0;
        };
        if queue.memory_bytes == 0 {
            self.pressure.filled(id);
        }
        // What passes a durable queue unheld keeps its place among the held: after all that are there by now.
        let entry = if queue.durable() {
            queue
                .memory
                .last_key_value()
                .map_or(0, |(last, _)| last + 1)
                .max(next_sequence)
        } else {
            let entry = queue.next_entry;
            queue.next_entry += 1;
            entry
        };
        let bytes = ENTRY_BYTES
            + message
                .envelope()
                .map_or(0, |envelope| u64::from(envelope.range.1));
        queue.memory_bytes += bytes;
        let envelope = message.envelope();
        let rank = envelope.and_then(|envelope| queue.order.as_ref()?.rank_of(envelope, entry));
        queue.put(entry, rank);
        if !queue.durable() {
            let expires = envelope.and_then(|envelope| deadline(queue, envelope, now_ms));
            if let Some(at_ms) = expires {
                queue.expires(entry, entry, at_ms);
            }
            let limited = queue
                .policy
                .as_ref()
                .is_some_and(|policy| policy.bytes_max.is_some());
            if limited && let Some(envelope) = envelope {
                let payload = payload_bytes(&message.stored.batch, envelope.range);
                queue.sizes.get_or_insert_default().set(entry, payload);
            }
        }
        queue.memory.insert(
            entry,
            MemoryEntry {
                message,
                qos,
                retained,
                bytes,
                original: None,
            },
        );
        if queue.durable() {
            self.state.next_sequence = next_sequence.max(entry + 1);
        }
        self.mark_dirty(id);
        entry
    }
}

/// Has a record of this address no key?
fn keyless(address: &Address) -> bool {
    match address {
        Address::Amqp {
            exchange,
            routing_key,
        } => match &exchange[..] {
            b"" => true,
            b"amq.topic" => !routing_key.contains(&b'.'),
            _ => routing_key.is_empty(),
        },
        Address::Mqtt { topic } => !topic.contains(&b'/'),
        Address::Kafka { key, .. } => key.is_none(),
    }
}
