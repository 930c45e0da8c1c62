//! Connections, as the shard knows them.

use crate::api::*;
use crate::server::{Mailbox, Parcel};
use crate::shard::Shard;
use crate::state::IdMap;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// What consumers of a connection may have unsettled between them.
#[derive(Debug, Default)]
pub(crate) struct GroupCredit {
    /// At the most; 0: no limit.
    pub(crate) limit: u32,
    pub(crate) outstanding: u32,
    /// Consumers that wait for credit.
    pub(crate) waiting: VecDeque<(QueueId, ConsumerKey)>,
}

impl GroupCredit {
    /// How many more deliveries it allows.
    pub(crate) fn room(&self) -> usize {
        if self.limit == 0 {
            usize::MAX
        } else {
            self.limit.saturating_sub(self.outstanding) as usize
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct ClientState {
    pub(crate) namespace: NamespaceId,
    pub(crate) principal: Name,
    mailbox: Arc<Mailbox>,
    /// Parcels of this step.
    outbox: Vec<Parcel>,
    outbox_bytes: u64,
    /// Its mailbox is full: nothing is dispatched to it until it has drained.
    pub(crate) paused: bool,
    /// Its consumers and their queues.
    pub(crate) consumers: IdMap<ConsumerKey, QueueId>,
    /// Its credit groups.
    pub(crate) groups: IdMap<CreditGroup, GroupCredit>,
    /// Consumers that wait for its mailbox to drain.
    pub(crate) stalled: VecDeque<(QueueId, ConsumerKey)>,
    /// Queues of which it has, or had, leases.
    pub(crate) leased_from: BTreeSet<QueueId>,
    /// Exclusive queues, gone with it.
    pub(crate) exclusive: BTreeSet<QueueId>,
    /// The MQTT session it holds.
    pub(crate) session: Option<SessionId>,
    /// It has a backlog, or has just come, and counts as behind at least until then.
    pub(crate) behind_until_ms: Option<u64>,
}

impl ClientState {
    /// A connection that has just joined.
    pub(crate) fn new(namespace: NamespaceId, principal: Name, mailbox: Arc<Mailbox>) -> Self {
        Self {
            namespace,
            principal,
            mailbox,
            outbox: Vec::new(),
            outbox_bytes: 0,
            paused: false,
            consumers: IdMap::default(),
            groups: IdMap::default(),
            stalled: VecDeque::new(),
            leased_from: BTreeSet::new(),
            exclusive: BTreeSet::new(),
            session: None,
            behind_until_ms: None,
        }
    }

    /// Lets its reader know whether it is behind.
    pub(crate) fn mark_behind(&self, behind: bool) {
        self.mailbox.set_catching_up(behind);
    }

    /// How many more deliveries a consumer's group allows, if it has one.
    pub(crate) fn room_in_group(&self, group: Option<CreditGroup>) -> usize {
        group
            .and_then(|group| self.groups.get(&group))
            .map_or(usize::MAX, GroupCredit::room)
    }

    /// Is there room for another delivery in its group, if it has one?
    pub(crate) fn group_has_credit(&self, group: Option<CreditGroup>) -> bool {
        self.room_in_group(group) > 0
    }

    /// Counts an unsettled delivery of a group in (or out).
    pub(crate) fn count_in_group(&mut self, group: Option<CreditGroup>, delivered: bool) {
        let Some(group) = group else { return };
        let credit = self.groups.entry(group).or_default();
        credit.outstanding = if delivered {
            credit.outstanding + 1
        } else {
            credit.outstanding.saturating_sub(1)
        };
    }
}

impl Shard {
    /// Something for a client's mailbox, put there when the step ends.
    pub(crate) fn send(&mut self, client: ClientId, event: Event) {
        self.send_parcel(client, Parcel::Event(event), 0);
    }

    /// A parcel for a client's mailbox, with the payload bytes it holds.
    pub(crate) fn send_parcel(&mut self, client: ClientId, parcel: Parcel, bytes: u64) {
        let Some(state) = self.clients.get_mut(&client) else {
            return;
        };
        if state.outbox.is_empty() {
            self.posting.push(client);
        }
        state.outbox.push(parcel);
        state.outbox_bytes += bytes;
        if state.outbox_bytes + state.mailbox.bytes() > self.config.mailbox_bytes_max {
            state.paused = true;
            state.mailbox.pause();
        }
    }

    /// Puts the step's parcels into the mailboxes.
    pub(crate) fn post(&mut self) {
        for client in std::mem::take(&mut self.posting) {
            let Some(state) = self.clients.get_mut(&client) else {
                continue;
            };
            let bytes = std::mem::take(&mut state.outbox_bytes);
            if state.behind_until_ms.is_some() {
                self.given += state.outbox.len() as u64;
            }
            state.mailbox.put(&mut state.outbox, bytes);
        }
    }

    /// A client's mailbox has drained.
    pub(crate) fn resume(&mut self, client: ClientId) {
        let Some(state) = self.clients.get_mut(&client) else {
            return;
        };
        if !std::mem::take(&mut state.paused) {
            return;
        }
        self.offer_stalled(client);
    }

    /// A connection is gone: its consumers end, its leases return, its exclusive queues go, its session closes.
    pub(crate) fn disconnect(&mut self, client: ClientId) {
        let Some(state) = self.clients.get(&client) else {
            return;
        };
        if let Some(session) = state.session {
            let close = CloseSession {
                session,
                expiry: None,
                publish_will: true,
                in_flight: Vec::new(),
            };
            // A session that is there can be closed.
            let _ = self.close_session(client, close);
            self.finish_frame();
        }
        let Some(state) = self.clients.get(&client) else {
            return;
        };
        let mut consumers: Vec<ConsumerKey> = state.consumers.keys().copied().collect();
        consumers.sort_unstable();
        let exclusive: Vec<QueueId> = state.exclusive.iter().copied().collect();
        let leased: Vec<QueueId> = state.leased_from.iter().copied().collect();
        for queue in leased {
            self.requeue_of(client, queue);
        }
        for consumer in consumers {
            let _ = self.cancel(client, consumer);
            self.finish_frame();
        }
        for queue in exclusive {
            self.drop_queue(queue);
            self.finish_frame();
        }
        let waiting: Vec<u64> = self
            .parked
            .iter()
            .filter(|(_, parked)| parked.client == client)
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.unpark(id);
        }
        self.clients.remove(&client);
        self.forget_pressure(client);
        self.conclude_frame();
    }
}
