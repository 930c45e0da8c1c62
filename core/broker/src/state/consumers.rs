//! A queue's consumers, and whose turn it is.
//!
//! Most queues that have any have one, and ten thousand of them may be served by one message: it lies by itself, without
//! lists. Several take turns in rings.

mod rings;

use crate::api::*;
use crate::state::rare::Empty;
use rings::Rings;

/// A consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Consumer {
    pub(crate) client: ClientId,
    pub(crate) key: ConsumerKey,
    pub(crate) no_ack: bool,
    pub(crate) exclusive: bool,
    pub(crate) limit: u32,
    pub(crate) outstanding: u32,
    pub(crate) group: Option<CreditGroup>,
    pub(crate) priority: i32,
    /// Its reply has been released.
    pub(crate) active: bool,
    /// It waits for its connection, or for its credit group.
    pub(crate) parked: bool,
    /// Its connection has noted that it has, or had, leases of this queue.
    pub(crate) noted: bool,
    /// The order of registration.
    number: u64,
    /// It has a turn, in a ring if there are several.
    queued: bool,
}

impl Consumer {
    /// One that may not be served yet.
    pub(crate) fn new(client: ClientId, key: ConsumerKey, limit: u32) -> Self {
        Self {
            client,
            key,
            no_ack: false,
            exclusive: false,
            limit,
            outstanding: 0,
            group: None,
            priority: 0,
            active: false,
            parked: false,
            noted: false,
            number: 0,
            queued: false,
        }
    }

    /// Does its own limit let it have another entry?
    pub(crate) fn has_credit(&self) -> bool {
        self.no_ack || self.limit == 0 || self.outstanding < self.limit
    }

    /// How many more entries its own limit lets it have.
    pub(crate) fn room(&self) -> usize {
        if self.no_ack || self.limit == 0 {
            usize::MAX
        } else {
            self.limit.saturating_sub(self.outstanding) as usize
        }
    }
}

/// Whose consumer, and which.
pub(crate) type Who = (ClientId, ConsumerKey);

/// The consumers.
#[derive(Debug, Clone, Default)]
pub(crate) enum Consumers {
    #[default]
    None,
    One(Consumer),
    Several(Box<Rings>),
}

impl Empty for Consumers {
    const EMPTY: &'static Self = &Self::None;

    fn nothing(&self) -> bool {
        self.is_empty()
    }
}

impl Consumer {
    fn who(&self) -> Who {
        (self.client, self.key)
    }
}

impl Consumers {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Several(rings) => rings.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Consumer> {
        let (one, several) = match self {
            Self::None => (None, None),
            Self::One(one) => (Some(one), None),
            Self::Several(rings) => (None, Some(rings.iter())),
        };
        one.into_iter().chain(several.into_iter().flatten())
    }

    pub(crate) fn get(&self, who: &Who) -> Option<&Consumer> {
        match self {
            Self::None => None,
            Self::One(one) => (one.who() == *who).then_some(one),
            Self::Several(rings) => rings.get(who),
        }
    }

    pub(crate) fn get_mut(&mut self, who: &Who) -> Option<&mut Consumer> {
        match self {
            Self::None => None,
            Self::One(one) => (one.who() == *who).then_some(one),
            Self::Several(rings) => rings.get_mut(who),
        }
    }

    /// Is there one that has the queue for itself? It is the only one then.
    pub(crate) fn has_exclusive(&self) -> bool {
        self.iter()
            .next()
            .is_some_and(|consumer| consumer.exclusive)
    }

    /// Adds one; `failover`: only one of them is served at a time, the first until it leaves.
    pub(crate) fn add(&mut self, consumer: Consumer, failover: bool) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(consumer),
            Self::One(one) if one.who() == consumer.who() => Self::One(consumer),
            Self::One(one) => {
                let mut rings = Rings::of(one, failover);
                rings.add(consumer, failover);
                Self::Several(Box::new(rings))
            }
            Self::Several(mut rings) => {
                rings.add(consumer, failover);
                Self::Several(rings)
            }
        };
    }

    /// Takes one away. Where only one is served, the next of the highest priority has its place.
    pub(crate) fn remove(&mut self, who: Who) -> Option<Consumer> {
        match self {
            Self::None => None,
            Self::One(one) => {
                if one.who() != who {
                    return None;
                }
                match std::mem::take(self) {
                    Self::One(one) => Some(one),
                    _ => None,
                }
            }
            Self::Several(rings) => {
                let gone = rings.remove(who);
                if let Some(last) = rings.last() {
                    *self = Self::One(last);
                }
                gone
            }
        }
    }

    /// It may be able to take an entry (again): it gets a turn.
    pub(crate) fn offer(&mut self, who: Who) {
        match self {
            Self::None => {}
            Self::One(one) => one.queued |= one.active && one.who() == who,
            Self::Several(rings) => rings.offer(who),
        }
    }

    /// Whose turn it is: the first of the highest priority.
    pub(crate) fn front(&mut self) -> Option<Who> {
        match self {
            Self::None => None,
            Self::One(one) => one.queued.then(|| one.who()),
            Self::Several(rings) => rings.front(),
        }
    }

    /// The one at the front has had its turn: it comes last.
    pub(crate) fn rotate(&mut self) {
        if let Self::Several(rings) = self {
            rings.rotate();
        }
    }

    /// The one at the front can't take an entry: it has no turn until it is offered one again.
    pub(crate) fn skip(&mut self) {
        match self {
            Self::None => {}
            Self::One(one) => one.queued = false,
            Self::Several(rings) => rings.skip(),
        }
    }
}

#[cfg(test)]
mod tests;
