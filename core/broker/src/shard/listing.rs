//! Listings: a page at a time, in the order of names, so that one costs the same however many there are.

use crate::api::*;
use crate::shard::Shard;
use crate::state::names::{Called, Names};
use crate::state::objects::{Number, Objects};
use crate::state::partition::Topic;
use crate::state::queue::Queue;

/// A page's rows.
const ROWS_MAX: usize = 1000;
/// Partitions described of one log.
const PARTITIONS_MAX: usize = 100;

/// A page of these names, and whether there are more.
fn page<K: Number, V: Called>(
    names: &Names<K>,
    objects: &Objects<K, V>,
    listing: &Listing,
) -> (Vec<K>, bool) {
    let after = names.get(objects, &listing.after);
    if listing.only {
        return (after.into_iter().collect(), false);
    }
    let limit = usize::try_from(listing.limit).map_or(ROWS_MAX, |limit| limit.clamp(1, ROWS_MAX));
    // Nothing is before the empty name, and what has it is on the first page.
    let told = usize::from(after.is_some() && !listing.after.is_empty());
    let mut rest = names.from(objects, &listing.after).skip(told);
    let rows = rest.by_ref().take(limit).collect();
    (rows, rest.next().is_some())
}

impl Shard {
    pub(crate) fn list(&self, namespace: NamespaceId, listing: &Listing) -> ListingPage {
        let mut found = ListingPage::default();
        let Some(names) = self.state.namespace(namespace) else {
            return found;
        };
        match listing.what {
            Listed::Topics => {
                let (ids, more) = page(&names.topics, &self.state.topics, listing);
                let topics = ids.iter().filter_map(|id| self.state.topics.get(id));
                found.topics = topics.map(|topic| self.topic_figures(topic)).collect();
                found.more = more;
            }
            Listed::Queues => {
                let (ids, more) = page(&names.queues, &self.state.queues, listing);
                let queues = ids.iter().filter_map(|id| self.state.queues.get(id));
                found.queues = queues.map(|queue| self.queue_figures(queue)).collect();
                found.more = more;
            }
            Listed::Sessions => {
                let (ids, more) = page(&names.sessions, &self.state.sessions, listing);
                found.sessions = ids
                    .iter()
                    .filter_map(|id| self.session_figures(*id))
                    .collect();
                found.more = more;
            }
        }
        found
    }

    fn topic_figures(&self, topic: &Topic) -> TopicFigures {
        let keys = topic.partitions.iter().take(PARTITIONS_MAX);
        let partitions = keys.filter_map(|key| self.state.partitions.get(key));
        TopicFigures {
            name: topic.name.name(),
            topic: topic.id,
            provisional: topic.provisional,
            partition_count: count(topic.partitions.len()),
            path_template: self.template_text(topic),
            partitions: partitions
                .map(|partition| {
                    let links = (partition.key, QueueId(0))..=(partition.key, QueueId(u64::MAX));
                    PartitionFigures {
                        log_start_offset: partition.log_start,
                        high_watermark: partition.high_watermark,
                        bytes: partition.spans.iter().map(|span| span.bytes).sum(),
                        files: count(partition.spans.len()),
                        max_timestamp_ms: partition.max_timestamp,
                        links: count(self.state.links.range(links).count()),
                        raw: partition.compacted.raw.as_ref().map(|raw| RawFigures {
                            log_start_offset: raw.log_start,
                            bytes: raw.spans.iter().map(|span| span.bytes).sum(),
                        }),
                    }
                })
                .collect(),
        }
    }

    fn session_figures(&self, id: SessionId) -> Option<SessionFigures> {
        let session = self.state.sessions.get(&id)?;
        let queue = self.state.queues.get(&session.queue);
        Some(SessionFigures {
            client_id: session.client_id.clone(),
            session: id,
            durable: session.durable(),
            connected: session.client.is_some(),
            expires_at_ms: session.expires_at_ms,
            subscriptions: session.subscriptions.len() as u64,
            ready: queue.map_or(0, |queue| {
                queue.ready_count() + self.state.sets.waiting_for(queue)
            }),
            leased: queue.map_or(0, |queue| queue.leases.len() as u64),
            exchanges: (session.incoming.len() + session.outgoing.len()) as u64,
        })
    }

    fn queue_figures(&self, queue: &Queue) -> QueueFigures {
        let links = queue.linked_to.iter().filter_map(|partition| {
            let link = self.state.links.get(&(*partition, queue.id))?;
            Some(self.link_lag(*partition, link))
        });
        QueueFigures {
            name: queue.declared.name.clone(),
            queue: queue.id,
            kind: queue.kind,
            durable: queue.durable(),
            ready: queue.ready_count(),
            leased: queue.leases.len() as u64,
            consumers: queue.consumers.len() as u64,
            set_bytes: queue.entries_bytes(),
            links: count(queue.linked_to.len()),
            link_lag: links.sum(),
            deferred: queue.deferred_count(),
        }
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
