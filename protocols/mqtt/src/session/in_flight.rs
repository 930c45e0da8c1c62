//! Outgoing QoS 1 and 2 exchanges by packet id (MQTT 5 section 4.3).

use omnilog_broker::{Delivery, EntryId, InFlight, QueueId};
use std::collections::HashMap;

/// An exchange that has begun.
#[derive(Debug)]
pub(super) struct Exchange {
    /// Its place in the order of sending.
    sequence: u64,
    pub(super) queue: QueueId,
    pub(super) entry: EntryId,
    pub(super) qos: u8,
    pub(super) stage: Stage,
}

/// How far it has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// QoS 2: PUBLISH waits until the packet id is journaled.
    Assigning(Box<Delivery>),
    /// PUBLISH was sent: PUBACK or PUBREC is due.
    Published,
    /// QoS 2: PUBREC came; PUBREL waits until that is journaled.
    Receiving,
    /// QoS 2: PUBREL was sent: PUBCOMP is due.
    Released,
}

/// The exchanges of a session.
#[derive(Debug)]
pub(super) struct Exchanges {
    by_id: HashMap<u16, Exchange, foldhash::fast::RandomState>,
    next_id: u16,
    next_sequence: u64,
}

impl Default for Exchanges {
    fn default() -> Self {
        Self {
            by_id: HashMap::default(),
            next_id: 1,
            next_sequence: 0,
        }
    }
}

impl Exchanges {
    /// A packet id that no exchange uses; `None` when all 65,535 are in use.
    pub(super) fn free_id(&mut self) -> Option<u16> {
        if self.by_id.len() >= usize::from(u16::MAX) {
            return None;
        }
        loop {
            let id = self.next_id;
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            if !self.by_id.contains_key(&id) {
                return Some(id);
            }
        }
    }

    /// Begins an exchange.
    pub(super) fn insert(
        &mut self,
        packet_id: u16,
        (queue, entry): (QueueId, EntryId),
        qos: u8,
        stage: Stage,
    ) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.by_id.insert(
            packet_id,
            Exchange {
                sequence,
                queue,
                entry,
                qos,
                stage,
            },
        );
    }

    pub(super) fn get_mut(&mut self, packet_id: u16) -> Option<&mut Exchange> {
        self.by_id.get_mut(&packet_id)
    }

    pub(super) fn remove(&mut self, packet_id: u16) -> Option<Exchange> {
        self.by_id.remove(&packet_id)
    }

    /// The QoS 1 exchanges, oldest first, as the broker keeps them for the next connection.
    pub(super) fn unacknowledged(&self) -> Vec<InFlight> {
        let mut found: Vec<_> = self
            .by_id
            .iter()
            .filter(|(_, exchange)| exchange.qos == 1)
            .collect();
        found.sort_unstable_by_key(|(_, exchange)| exchange.sequence);
        found
            .into_iter()
            .map(|(&packet_id, exchange)| InFlight {
                packet_id,
                queue: exchange.queue,
                entry: exchange.entry,
                qos: exchange.qos,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(exchanges: &mut Exchanges, qos: u8) -> u16 {
        let id = exchanges.free_id().unwrap();
        exchanges.insert(id, (QueueId(1), EntryId(id.into())), qos, Stage::Published);
        id
    }

    #[test]
    fn packet_ids_in_flight_are_never_given_out_again() {
        let mut exchanges = Exchanges::default();
        let stuck = begin(&mut exchanges, 1);
        for _ in 0..70_000 {
            let id = begin(&mut exchanges, 1);
            assert!(id != 0 && id != stuck);
            exchanges.remove(id);
        }
    }

    #[test]
    fn all_packet_ids_may_be_in_flight_and_no_more() {
        let mut exchanges = Exchanges::default();
        for _ in 0..65_535 {
            begin(&mut exchanges, 1);
        }
        assert_eq!(exchanges.free_id(), None);
    }

    #[test]
    fn what_is_handed_back_is_in_the_order_of_sending_and_of_qos_1() {
        let mut exchanges = Exchanges::default();
        let first = begin(&mut exchanges, 1);
        begin(&mut exchanges, 2);
        let third = begin(&mut exchanges, 1);
        let ids: Vec<_> = exchanges
            .unacknowledged()
            .iter()
            .map(|one| one.packet_id)
            .collect();
        assert_eq!(ids, [first, third]);
    }
}
