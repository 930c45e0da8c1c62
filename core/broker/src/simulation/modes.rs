//! What must hold of who gets an entry: priorities, one active consumer, a key's order, QoS 2 of shared subscriptions.

use crate::api::*;
use crate::server::Parcel;
use crate::shard::Shard;
use crate::simulation::ends::BRIEF;
use crate::simulation::facts::{KEYED, RANKED, SESSION};
use crate::simulation::retries::{IN_TURN, LATER, TIMELY};
use crate::simulation::world::World;
use crate::state::order::{Mode, lane};
use crate::state::queue::{NOBODY, Queue};
use crate::state::session::OutgoingState;
use std::collections::{BTreeMap, BTreeSet};

/// The entry that a parcel delivers.
pub(super) fn delivered_entry(parcel: &Parcel) -> Option<(QueueId, EntryId)> {
    match parcel {
        Parcel::Delivery(delivery) => Some((delivery.queue, delivery.entry)),
        Parcel::ColdDelivery(delivery, _) => Some((delivery.queue, delivery.entry)),
        _ => None,
    }
}

/// What a shared subscription's queue has given to somebody is with a session that is served by it, or was begun at
/// QoS 2 by a session that is there.
fn check_holders(shard: &Shard, queue: &Queue) {
    let served = |client| {
        let mut all = queue.consumers.iter();
        all.any(|consumer| consumer.client == client)
    };
    for (entry, lease) in queue.leases.iter() {
        let begun = || {
            let mut sessions = shard.state.sessions.values();
            sessions.any(|session| {
                let mut flights = session.outgoing.iter();
                flights.any(|(_, state)| *state == OutgoingState::Published(queue.id, *entry))
            })
        };
        assert!(
            lease.client != NOBODY && served(lease.client)
                || begun()
                || shard.exhuming.contains_key(&queue.id),
            "{:?}: {entry} is with {:?}, who is not there",
            queue.declared.name,
            lease.client
        );
    }
}

impl World {
    /// A step was taken, and brought these deliveries.
    pub(super) fn check_modes(&mut self, delivered: Vec<(QueueId, EntryId)>) {
        let Some(shard) = self.shard() else { return };
        let mut first: BTreeMap<u16, BTreeSet<u64>> = BTreeMap::new();
        for (id, entry) in delivered {
            if self.facts.followed.get(&id) == Some(&KEYED)
                && let Some(queue) = shard.state.queues.get(&id)
                && let Some(rank) = queue.leases.get(&entry).and_then(|lease| lease.rank)
            {
                first.entry(rank).or_default().insert(entry.0);
            }
        }
        for queue in shard.state.queues.values() {
            let name = String::from_utf8_lossy(&queue.declared.name);
            if queue.mode == Mode::Failover {
                let serving: BTreeSet<_> = queue
                    .leases
                    .values()
                    .filter_map(|lease| Some((lease.client, lease.consumer?)))
                    .filter(|who| queue.consumers.get(who).is_some())
                    .collect();
                assert!(serving.len() < 2, "{name}: {serving:?} are served at once");
            }
            if queue.kind == QueueKind::Shared {
                check_holders(shard, queue);
            }
            if queue.mode == Mode::KeyShared {
                let mut holders = BTreeMap::new();
                // What dies is nobody's while its record is read.
                let held = queue.leases.iter();
                for (entry, lease) in held.filter(|(_, lease)| lease.client != NOBODY) {
                    assert!(lease.rank.is_some(), "{name}: {entry} has no key");
                    let holder = (lease.client, lease.consumer);
                    let other = *holders.entry(lease.rank).or_insert(holder);
                    assert_eq!(other, holder, "{name}: two have entries of one key");
                }
            }
        }
        // A key's entries are delivered for the first time in their order, whoever gets them.
        for (lane, entries) in first {
            let newest = self.facts.newest_of_lane.entry(lane).or_default();
            let known = &mut self.facts.seen_of_lane;
            for entry in entries {
                if known.insert(entry) {
                    assert!(entry > *newest, "{KEYED}: {entry} comes after {newest}");
                    *newest = entry;
                }
            }
        }
    }

    /// A client gets an entry of a queue that tells its entries apart.
    pub(super) fn check_rank(&mut self, at: usize, delivery: &Delivery) {
        let name = self.facts.followed.get(&delivery.queue).copied();
        let Some(envelope) = delivery.message.envelope() else {
            return;
        };
        let unordered = [RANKED, KEYED, BRIEF, SESSION, LATER, TIMELY, IN_TURN];
        if let Some(name) = name.filter(|name| !unordered.contains(name))
            && self.peers[at].draining
        {
            self.facts.drained_in_order(name, delivery.entry);
        }
        if name == Some(RANKED) && self.peers[at].draining {
            self.facts.drained(envelope.priority, delivery.entry);
        }
        if name == Some(KEYED)
            && let Some(known) = self
                .shard()
                .and_then(|shard| shard.state.queues.get(&delivery.queue))
                .and_then(|queue| queue.order.as_ref()?.rank(delivery.entry.0))
        {
            let lane = lane(&envelope.address, delivery.entry.0);
            assert_eq!(
                lane, known,
                "{KEYED}: {} is in another lane",
                delivery.entry
            );
        }
    }

    /// A delivery at QoS 2 was begun: where its session lasts, no other may get it.
    pub(super) fn begun(&mut self, at: usize, packet: u16) {
        let peer = &self.peers[at];
        let held = peer.held.iter().find(|held| held.packet_id == packet);
        let (Some(held), Some(session), Some(shard)) = (held, peer.session, self.shard()) else {
            return;
        };
        let lasts = shard
            .state
            .sessions
            .get(&session)
            .is_some_and(|session| session.durable())
            && shard
                .state
                .queues
                .get(&held.queue)
                .is_some_and(|queue| queue.durable());
        if lasts {
            let entry = (held.queue, held.entry);
            self.facts.begun.insert(entry, session);
        }
    }
}
