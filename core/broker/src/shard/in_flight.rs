//! QoS 2 deliveries of queues that several sessions share: one that was begun stays with its session while the
//! session's connection is away, and ends with the session (MQTT 5 section 4.8.2).

use crate::api::*;
use crate::event::Event as Decision;
use crate::shard::Shard;
use crate::state::queue::{Lease, NOBODY};
use crate::state::session::{OutgoingState, Session};

/// A session's QoS 2 deliveries in flight from queues that are not its own.
fn shared_flights(session: &Session) -> Vec<(QueueId, EntryId)> {
    let begun = session
        .outgoing
        .iter()
        .filter_map(|(_, state)| match state {
            OutgoingState::Published(queue, entry) => Some((*queue, *entry)),
            OutgoingState::Received => None,
        });
    begun.filter(|(queue, _)| *queue != session.queue).collect()
}

impl Shard {
    /// The entries of this queue that a session has in flight at QoS 2, if it shares the queue with others.
    pub(crate) fn in_flight_from(&self, id: SessionId, queue: QueueId) -> Vec<EntryId> {
        let session = self.state.sessions.get(&id);
        let flights = session.map(shared_flights).unwrap_or_default();
        let of_queue = flights.into_iter().filter(|(of, _)| *of == queue);
        of_queue.map(|(_, entry)| entry).collect()
    }

    /// A session's connection ends: nobody else gets what is in flight at QoS 2.
    pub(crate) fn keep_in_flight(&mut self, client: ClientId, id: SessionId) {
        let Some(session) = self.state.sessions.get(&id) else {
            return;
        };
        for (queue, entry) in shared_flights(session) {
            if let Some(queue) = self.state.queues.get_mut(&queue)
                && queue
                    .leases
                    .get(&entry)
                    .is_some_and(|lease| lease.client == client)
                && let Some(lease) = queue.leases.get_mut(&entry)
            {
                lease.client = NOBODY;
                lease.consumer = None;
            }
        }
    }

    /// The server has started: what was in flight at QoS 2 waits for its session.
    pub(crate) fn keep_all_in_flight(&mut self) {
        let flights: Vec<_> = self
            .state
            .sessions
            .values()
            .flat_map(shared_flights)
            .collect();
        for (queue, entry) in flights {
            if let Some(queue) = self.state.queues.get_mut(&queue)
                && queue.ready.remove(entry.0)
            {
                let rank = queue.took(entry.0);
                queue.lease(entry, Lease::of_nobody(rank));
            }
        }
    }

    /// What waits for its session is taken up again by the session's connection.
    pub(crate) fn take_up(&mut self, queue: QueueId, entry: EntryId) -> Option<Lease> {
        let queue = self.state.queues.get_mut(&queue)?;
        self.state.changes.touch(queue);
        let waits = queue.leases.get(&entry)?.client == NOBODY;
        waits.then(|| queue.unlease(entry)).flatten()
    }

    /// A session ends: what is in flight to it at QoS 2 goes to nobody any more [MQTT-4.8.2-5].
    pub(crate) fn end_in_flight(&mut self, id: SessionId) {
        let Some(session) = self.state.sessions.get(&id) else {
            return;
        };
        for (id, entry) in shared_flights(session) {
            if self.take_up(id, entry).is_none() {
                continue;
            }
            let Some(queue) = self.state.queues.get_mut(&id) else {
                continue;
            };
            queue.forget(entry.0, entry.0);
            let durable = queue.durable();
            let runs = vec![(entry.0, entry.0)];
            self.record_if(durable, &Decision::Removed { queue: id, runs });
            self.mark_dirty(id);
        }
    }
}
