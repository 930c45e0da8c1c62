//! What benches measure of the broker, without threads and without a disk: a shard driven by hand, and a queue's sets.

mod sets;

pub use sets::QueueSets;

use crate::api::*;
use crate::server::{Input, Mailbox, Parcel};
use crate::shard::{Now, Shard};
use omnilog_ledger::{Journal, Recovery, ShardId};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

/// A shard, its clients' mailboxes, and the commands that wait for its next step.
#[derive(Debug)]
pub struct ByHand {
    shard: Shard,
    inputs: Vec<Input>,
    mailboxes: BTreeMap<ClientId, Arc<Mailbox>>,
    parcels: VecDeque<Parcel>,
    now: Now,
}

impl ByHand {
    /// A shard over a journal that was just opened.
    pub fn open(
        config: BrokerConfig,
        journal: Box<dyn Journal>,
        recovery: &Recovery,
    ) -> io::Result<Self> {
        let now = Now {
            unix_ms: 1_700_000_000_000,
            monotonic_ms: 1,
        };
        let mut number = 0u64;
        let random = Box::new(move || {
            number = number.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            number
        });
        let (shard, _) = Shard::open(ShardId(0), Arc::new(config), journal, recovery, random, now)?;
        Ok(Self {
            shard,
            inputs: Vec::new(),
            mailboxes: BTreeMap::new(),
            parcels: VecDeque::new(),
            now,
        })
    }

    /// A new connection.
    pub fn connect(&mut self) -> ClientId {
        let client = ClientId(self.mailboxes.len() as u64 + 1);
        let mailbox = Arc::new(Mailbox::new(self.shard.taken()));
        self.mailboxes.insert(client, mailbox.clone());
        self.inputs.push(Input::Connect {
            client,
            namespace: NamespaceId(0),
            info: ClientInfo {
                principal: Name::new(),
                protocol: "bench".to_owned(),
                peer: String::new(),
            },
            mailbox,
        });
        client
    }

    /// A command for the next step.
    pub fn send(&mut self, client: ClientId, correlation: u64, command: Command) {
        self.inputs.push(Input::Command {
            client,
            correlation,
            command,
            cost: None,
        });
    }

    /// One step over everything that waits.
    pub fn step(&mut self) {
        self.shard.step(self.now, &mut self.inputs);
    }

    /// Lets time pass.
    pub fn wait_ms(&mut self, ms: u64) {
        self.now.monotonic_ms += ms;
        self.now.unix_ms += ms.cast_signed();
    }

    /// What a client's mailbox holds; what would have to be read from files is left out.
    pub fn take(&mut self, client: ClientId, into: &mut Vec<Event>) {
        let Some(mailbox) = self.mailboxes.get(&client) else {
            return;
        };
        mailbox.try_take(&mut self.parcels);
        if mailbox.drained() {
            self.inputs.push(Input::Drained(client));
        }
        into.extend(self.parcels.drain(..).filter_map(|parcel| match parcel {
            Parcel::Event(event) => Some(event),
            Parcel::Delivery(delivery) => Some(Event::Delivery(Box::new(delivery))),
            _ => None,
        }));
    }
}
