//! Straight through: a message that nobody settles goes past an empty queue in memory to the consumer whose turn it
//! is. With a hundred subscribers of QoS 0 that is all that is done for each of them.

use crate::api::*;
use crate::server::Parcel;
use crate::shard::Shard;
use crate::shard::dispatch::by_root;

impl Shard {
    /// Hands a message to a consumer of this queue if it would be the queue's only entry and is not settled. Says
    /// whether it did; else the queue is to take it.
    pub(super) fn hand_over(&mut self, id: QueueId, message: &Message, qos: u8) -> bool {
        let Some(queue) = self.state.queues.get(&id) else {
            return false;
        };
        // What a durable queue holds may not be released yet, and limits, times and orders are the queue's own work.
        let plain = !queue.durable()
            && queue.ready.is_empty()
            && queue.memory.is_empty()
            && queue.retries.is_none()
            && queue.policy.is_none()
            && queue.order.is_none();
        let expires = message
            .envelope()
            .is_none_or(|envelope| envelope.expires_at_ms.is_some());
        if !plain || expires {
            return false;
        }
        let passes = qos == 0 && queue.kind != QueueKind::Classic;
        let Some((client, consumer)) = self.idle_turn(id, passes) else {
            return false;
        };
        let Some(queue) = self.state.queues.get_mut(&id) else {
            return false;
        };
        let entry = EntryId(queue.next_entry);
        queue.next_entry += 1;
        let delivery = Delivery {
            consumer,
            queue: id,
            entry,
            unsettled: false,
            redelivered: false,
            returned_count: 0,
            qos,
            retained: false,
            by_root: by_root(queue, message),
            delivery_count: None,
            message: message.clone(),
            acquired_count: None,
        };
        self.stats.deliveries += 1;
        let bytes = delivery_bytes(&delivery);
        self.send_parcel(client, Parcel::Delivery(delivery), bytes);
        true
    }
}

/// What a delivery counts for in its client's mailbox.
pub(super) fn delivery_bytes(delivery: &Delivery) -> u64 {
    let envelope = delivery.message.envelope();
    envelope.map_or(0, |envelope| u64::from(envelope.range.1) + 128)
}
