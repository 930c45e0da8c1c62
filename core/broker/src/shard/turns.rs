//! Whose turn it is: consumers that can take an entry, what stops the others, and what lets them go on.

use crate::api::*;
use crate::shard::Shard;
use crate::shard::clients::ClientState;
use crate::state::consumers::{Consumer, Who};
use crate::state::order::Order;
use std::collections::VecDeque;

/// Why a consumer can't take an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// It has as many as it may have, or its reply has not been released: it hears of it itself.
    Own,
    /// Its connection's mailbox is full.
    Mailbox,
    /// Its group has as many as it may have.
    Group(CreditGroup),
}

fn stopped(consumer: &Consumer, client: Option<&ClientState>) -> Option<Stop> {
    let Some(client) = client.filter(|_| consumer.active && consumer.has_credit()) else {
        return Some(Stop::Own);
    };
    if client.paused {
        return Some(Stop::Mailbox);
    }
    let group = consumer.group.filter(|_| !consumer.no_ack)?;
    (!client.group_has_credit(Some(group))).then_some(Stop::Group(group))
}

impl Shard {
    /// The next entry of a queue that can be delivered, and to whom: a consumer of the highest priority among those that
    /// can take one, in rotation; of a key of which somebody has entries, whoever that is.
    pub(crate) fn next_turn(&mut self, id: QueueId) -> Option<(Who, u64)> {
        let released = self.released;
        loop {
            let queue = self.state.queues.get_mut(&id)?;
            if queue.ready.is_empty() && queue.memory.is_empty() || queue.consumers.is_empty() {
                return None;
            }
            let who = queue.consumers.front()?;
            let stop = match queue.consumers.get(&who) {
                Some(consumer) => stopped(consumer, self.clients.get(&who.0)),
                None => Some(Stop::Own),
            };
            if let Some(stop) = stop {
                queue.consumers.skip();
                self.set_aside(id, who, stop);
                continue;
            }
            if let Some(Order::Keys(keys)) = queue.order.as_deref_mut() {
                let until = if queue.memory.is_empty() {
                    released
                } else {
                    u64::MAX
                };
                let (entry, lane, owner) = keys.head(until)?;
                let stop = match owner {
                    None => None,
                    Some(owner) => match queue.consumers.get(&owner) {
                        Some(consumer) => stopped(consumer, self.clients.get(&owner.0)),
                        // It left, and has entries still.
                        None => Some(Stop::Own),
                    },
                };
                if let (Some(stop), Some(owner)) = (stop, owner) {
                    keys.park(lane);
                    self.set_aside(id, owner, stop);
                    continue;
                }
                let taker = owner.unwrap_or(who);
                if taker == who {
                    queue.consumers.rotate();
                }
                return Some((taker, entry));
            }
            let entry = queue.next_entry(released)?;
            queue.consumers.rotate();
            return Some((who, entry));
        }
    }

    /// Whose turn it is in an empty queue, if that consumer can take an entry at once and settles none, or need not
    /// settle this one.
    pub(crate) fn idle_turn(&mut self, id: QueueId, passes: bool) -> Option<Who> {
        let queue = self.state.queues.get_mut(&id)?;
        if queue.consumers.is_empty() {
            return None;
        }
        let who = queue.consumers.front()?;
        let consumer = queue.consumers.get(&who)?;
        let settles = !passes && !consumer.no_ack;
        if settles || stopped(consumer, self.clients.get(&who.0)).is_some() {
            return None;
        }
        queue.consumers.rotate();
        Some(who)
    }

    /// Notes what a consumer waits for, so that it is offered a turn when that has come.
    fn set_aside(&mut self, id: QueueId, who: Who, stop: Stop) {
        let Some(queue) = self.state.queues.get_mut(&id) else {
            return;
        };
        let Some(consumer) = queue.consumers.get_mut(&who) else {
            return;
        };
        if stop == Stop::Own || std::mem::replace(&mut consumer.parked, true) {
            return;
        }
        let Some(client) = self.clients.get_mut(&who.0) else {
            return;
        };
        let most = 2 * client.consumers.len() + 64;
        let waiting = match stop {
            Stop::Group(group) => &mut client.groups.entry(group).or_default().waiting,
            _ => &mut client.stalled,
        };
        waiting.push_back((id, who.1));
        if waiting.len() > most {
            // Consumers that are gone left their places behind.
            let queues = &self.state.queues;
            waiting.retain(|(id, key)| {
                queues
                    .get(id)
                    .and_then(|queue| queue.consumers.get(&(who.0, *key)))
                    .is_some_and(|consumer| consumer.parked)
            });
        }
    }

    /// A consumer may be able to take an entry (again).
    pub(crate) fn offer(&mut self, id: QueueId, who: Who) {
        if let Some(queue) = self.state.queues.get_mut(&id) {
            queue.offer(who);
            self.mark_dirty(id);
        }
    }

    /// These waited for something that has come.
    fn offer_all(
        &mut self,
        client: ClientId,
        waiting: impl IntoIterator<Item = (QueueId, ConsumerKey)>,
    ) {
        for (id, key) in waiting {
            if let Some(consumer) = self
                .state
                .queues
                .get_mut(&id)
                .and_then(|queue| queue.consumer_mut(client, key))
            {
                consumer.parked = false;
                self.offer(id, (client, key));
            }
        }
    }

    /// A client's mailbox has room again.
    pub(crate) fn offer_stalled(&mut self, client: ClientId) {
        let Some(state) = self.clients.get_mut(&client) else {
            return;
        };
        let stalled = std::mem::take(&mut state.stalled);
        let mut groups: Vec<CreditGroup> = state
            .groups
            .iter()
            .filter(|(_, credit)| !credit.waiting.is_empty())
            .map(|(group, _)| *group)
            .collect();
        groups.sort_unstable();
        for group in groups {
            self.credited.push((client, group));
        }
        self.offer_all(client, stalled);
    }

    /// Offers turns to consumers whose groups have got credit, as many as it allows.
    pub(crate) fn wake_credited(&mut self) -> Vec<(ClientId, CreditGroup)> {
        let mut woken = std::mem::take(&mut self.credited);
        woken.dedup();
        for (client, group) in &woken {
            let Some(credit) = self
                .clients
                .get_mut(client)
                .and_then(|state| state.groups.get_mut(group))
            else {
                continue;
            };
            let count = credit.room().min(credit.waiting.len());
            let some: VecDeque<_> = credit.waiting.drain(..count).collect();
            self.offer_all(*client, some);
        }
        woken
    }

    /// Credit that was offered and not taken is offered to the next.
    pub(crate) fn look_again(&mut self, woken: Vec<(ClientId, CreditGroup)>) {
        for (client, group) in woken {
            let left = self
                .clients
                .get(&client)
                .filter(|state| !state.paused)
                .and_then(|state| state.groups.get(&group))
                .is_some_and(|credit| !credit.waiting.is_empty() && credit.room() > 0);
            if left {
                self.credited.push((client, group));
            }
        }
    }
}
