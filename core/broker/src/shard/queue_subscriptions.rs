//! `$queue/q`: a session that consumes from an AMQP queue, beside the queue's other consumers and on the same entries.
//!
//! Kafka's share groups name such a queue `queue:q` ([`crate::path::queue_of_group`]).

use crate::api::*;
use crate::event::Event as Decision;
use crate::path::queue_of_filter;
use crate::shard::Shard;

impl Shard {
    /// The queue that a filter names, if a session of this client may consume from it.
    pub(crate) fn subscribable_queue(
        &self,
        client: ClientId,
        namespace: NamespaceId,
        name: &Name,
    ) -> Result<QueueId, Refusal> {
        let id = self.usable_queue(client, namespace, name)?;
        let exclusive = |queue: &crate::state::queue::Queue| queue.consumers.has_exclusive();
        if self.state.queues.get(&id).is_some_and(exclusive) {
            return Err(Refusal::ExclusiveUse(name.clone()));
        }
        Ok(id)
    }

    /// A session is opened: subscriptions to queues that were deleted and declared again find them.
    pub(crate) fn find_queues_again(&mut self, client: ClientId, id: SessionId) {
        let Some(session) = self.state.sessions.get(&id) else {
            return;
        };
        let (namespace, durable) = (session.namespace, session.durable());
        let named: Vec<(QueueId, Subscription)> = session
            .subscriptions
            .values()
            .filter(|(_, subscription)| queue_of_filter(&subscription.filter).is_some())
            .cloned()
            .collect();
        for (before, subscription) in named {
            let Some(name) = queue_of_filter(&subscription.filter) else {
                continue;
            };
            let name = subscription.filter.slice_ref(name);
            if let Ok(queue) = self.subscribable_queue(client, namespace, &name)
                && queue != before
            {
                self.record_if(
                    durable,
                    &Decision::Subscribed {
                        session: id,
                        queue,
                        subscription,
                    },
                );
            }
        }
    }
}
