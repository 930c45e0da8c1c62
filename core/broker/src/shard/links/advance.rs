//! What a read brings: each link takes what its queue is to have.

use crate::api::*;
use crate::event::Event as Decision;
use crate::link::Pulled;
use crate::shard::Shard;
use crate::shard::headers::Headers;
use crate::shard::links::read::READY_MAX;
use crate::shard::release::Effect;
use crate::state::TABLE;
use crate::state::order::{Mode, lane};
use crate::state::routes::Route;
use crate::tail::TailEntry;
use std::sync::Arc;

impl Shard {
    /// A read came back: each link takes what its queue is to have.
    pub(crate) fn pulled(&mut self, pulled: &Pulled) {
        let key = pulled.partition;
        self.link_reads.came_back(pulled.spent_ns);
        if !pulled.failed {
            self.link_reads.news.insert(key);
        }
        let links: Vec<QueueId> = self
            .state
            .links
            .range((key, QueueId(0))..=(key, QueueId(u64::MAX)))
            .map(|((_, queue), _)| *queue)
            .collect();
        for (_, link) in self
            .state
            .links
            .range_mut((key, QueueId(0))..=(key, QueueId(u64::MAX)))
        {
            link.reading = false;
        }
        let topic = self
            .state
            .partitions
            .get(&key)
            .map(|partition| partition.topic);
        let Some(namespace) = topic
            .and_then(|topic| self.state.topics.get(&topic))
            .map(|topic| topic.namespace)
        else {
            return;
        };
        self.advance_table(key, pulled);
        let links: Vec<QueueId> = links.into_iter().filter(|queue| *queue != TABLE).collect();
        if links.is_empty() {
            return;
        }
        // Whom each record goes to is found once for all links.
        let mut wanted = Vec::new();
        for batch in &pulled.batches {
            let mut rows = Vec::with_capacity(batch.records.len());
            for envelope in &batch.stored.envelopes {
                let provenance = envelope.provenance;
                let headers = Headers::InRecord {
                    batch: &batch.stored.batch,
                    envelope,
                };
                rows.push(self.route(namespace, provenance, &envelope.address, headers, &[]));
            }
            wanted.push(rows);
        }
        for queue in links {
            self.advance_link(key, queue, pulled, &wanted);
        }
    }

    fn advance_link(&mut self, key: u64, id: QueueId, pulled: &Pulled, wanted: &[Vec<Arc<Route>>]) {
        let Some(link) = self.state.links.get(&(key, id)) else {
            return;
        };
        let (start, routed_from, durable) = (link.next_offset, link.routed_from, link.durable);
        let log_start = self
            .state
            .partitions
            .get(&key)
            .map_or(0, |known| known.log_start);
        // A link whose queue had no room may be further behind than this read began.
        if start.max(log_start) < pulled.from || start >= pulled.next_offset {
            return;
        }
        if start < log_start {
            self.pass(key, id, start, log_start, durable);
        }
        // What was read may all be out of the log by now.
        if log_start >= pulled.next_offset {
            return;
        }
        let room = self
            .state
            .queues
            .get(&id)
            .map_or(0, |queue| READY_MAX.saturating_sub(queue.ready_count()));
        let mut next_offset = pulled.next_offset;
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let mut entries: Vec<TailEntry> = Vec::new();
        let mut memory: Vec<(Message, u8)> = Vec::new();
        let keyed = self
            .state
            .queues
            .get(&id)
            .is_some_and(|queue| queue.mode == Mode::KeyShared);
        let mut lanes: Vec<(u64, u16)> = Vec::new();
        let mut sequence = self.state.next_sequence;
        let first_sequence = sequence;
        for (batch, routes) in pulled.batches.iter().zip(wanted) {
            let taken = sequence - first_sequence + memory.len() as u64;
            if taken >= room
                && let Some((offset, _)) = batch.records.first()
            {
                // The others are read again when the queue has room. This batch may begin before what the link has.
                next_offset = (*offset).max(start).max(log_start);
                break;
            }
            for (((offset, original), route), index) in batch.records.iter().zip(routes).zip(0u32..)
            {
                let Some(qos) = route.granted(id) else {
                    continue;
                };
                // The log may begin within a batch that is not decided yet: the rest of it comes later.
                if *offset >= pulled.next_offset {
                    break;
                }
                // What retention has passed meanwhile may be gone from the files.
                if *offset < start.max(log_start) || batch.routed && *offset >= routed_from {
                    continue;
                }
                if !durable {
                    let message = Message {
                        stored: batch.stored.clone(),
                        index,
                        position: None,
                    };
                    memory.push((message, qos.min(1)));
                    continue;
                }
                match entries.last_mut() {
                    Some(entry)
                        if Arc::ptr_eq(&entry.stored, &batch.stored)
                            && u64::from(entry.index) + (sequence - entry.first)
                                == u64::from(index) =>
                    {
                        entry.last = sequence;
                    }
                    _ => entries.push(TailEntry {
                        first: sequence,
                        last: sequence,
                        index,
                        stored: batch.stored.clone(),
                        partition: 0,
                        partition_index: 0,
                        base_offset: -1,
                    }),
                }
                if keyed && let Some(envelope) = batch.stored.envelopes.get(index as usize) {
                    lanes.push((sequence, lane(&envelope.address, sequence)));
                }
                match runs.last_mut() {
                    Some((_, last)) if *last + 1 == *original => *last = *original,
                    _ => runs.push((*original, *original)),
                }
                sequence += 1;
            }
        }
        let any = !runs.is_empty();
        self.record_if(
            durable,
            &Decision::LinkAdvanced {
                queue: id,
                partition: key,
                next_offset,
                first_sequence,
                runs,
            },
        );
        self.key_linked(id, &lanes);
        self.limit_linked(id, &entries);
        for entry in entries {
            self.tail.push(entry);
        }
        for (message, qos) in memory {
            self.enqueue_memory(id, message, qos, false);
        }
        if any {
            self.finish_frame();
            let head = self.head;
            self.effect_at(head, Effect::Deliver(sequence - 1, smallvec::smallvec![id]));
        }
    }

    /// Retention has passed a link: what it missed is noted, and it goes on where the log begins.
    pub(crate) fn pass(&mut self, key: u64, id: QueueId, first: i64, next: i64, durable: bool) {
        self.record_if(
            durable,
            &Decision::LinkPassed {
                queue: id,
                partition: key,
                next_offset: next,
            },
        );
        self.stats.link_gaps += 1;
        self.stats.link_gap_offsets += next.abs_diff(first);
        let partition = self.state.partitions.get(&key);
        let topic = partition.and_then(|partition| self.state.topics.get(&partition.topic));
        let topic = topic.map(|topic| String::from_utf8_lossy(&topic.name));
        let queue = self.state.queues.get(&id);
        let queue = queue.map(|queue| String::from_utf8_lossy(&queue.declared.name));
        let queue = queue.or_else(|| (id == TABLE).then_some("(retained messages)".into()));
        tracing::warn!(
            queue = queue.as_deref().unwrap_or_default(),
            topic = topic.as_deref().unwrap_or_default(),
            first,
            last = next - 1,
            "retention has passed what a queue was to read: these offsets are missing in it"
        );
    }
}
