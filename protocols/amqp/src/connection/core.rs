//! What a connection's channels share: who it is, what it awaits, and what is gathered for the broker.

use super::awaited::{Awaited, Awaiting, Returned};
use crate::channel::Channel;
use crate::codec::MethodId;
use crate::gather::{Gather, Incoming};
use crate::protocol::Shared;
use crate::rescue::{self, Code, Fault};
use bytes::Bytes;
use omnilog_auth::{Operation, Principal, Resource};
use omnilog_broker::{
    Command, ConsumerKey, EntryId, Name, Noun, QueueId, Settle, Settlement, Value,
};
use omnilog_wire::Outbox;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// An open connection's shared state.
pub(crate) struct Core {
    pub(crate) shared: Arc<Shared>,
    pub(crate) principal: Principal,
    /// The principal's name, as publishes carry it.
    pub(crate) publisher: Name,
    pub(crate) vhost: Name,
    pub(crate) frame_max: usize,
    pub(crate) capabilities: Capabilities,
    /// Whose consumers are whose: channel, its epoch, the consumer's tag.
    pub(crate) consumers: HashMap<ConsumerKey, (u16, u64, Bytes)>,
    /// Exclusive queues of this connection.
    pub(crate) exclusive: HashSet<Name>,
    /// Publishers are blocked, and why.
    pub(crate) blocked: Option<&'static str>,
    /// The client was told so.
    pub(crate) blocked_told: bool,
    awaiting: HashMap<u64, Awaiting>,
    last_number: u64,
    gather: Gather,
    gathered: Gathered,
    settled: Vec<(QueueId, EntryId)>,
    settlement: Settlement,
}

/// What a client says that it can take.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Capabilities {
    pub(crate) consumer_cancel_notify: bool,
    pub(crate) connection_blocked: bool,
    pub(crate) authentication_failure_close: bool,
}

impl Capabilities {
    /// From the client's properties.
    pub(crate) fn of(client_properties: &omnilog_broker::Table) -> Self {
        let capabilities = client_properties
            .iter()
            .find_map(|(name, value)| match value {
                Value::Table(table) if name == "capabilities" => Some(&table[..]),
                _ => None,
            })
            .unwrap_or_default();
        let has = |wanted: &str| {
            capabilities
                .iter()
                .any(|(name, value)| name == wanted && value.as_bool() == Some(true))
        };
        Self {
            consumer_cancel_notify: has("consumer_cancel_notify"),
            connection_blocked: has("connection.blocked"),
            authentication_failure_close: has("authentication_failure_close"),
        }
    }
}

/// Whose publishes are being gathered.
#[derive(Debug, Default)]
struct Gathered {
    channel: u16,
    epoch: u64,
    first: u64,
    count: usize,
    mandatory: Vec<(usize, Returned)>,
}

impl Core {
    pub(crate) fn new(
        shared: Arc<Shared>,
        principal: Principal,
        vhost: Name,
        frame_max: usize,
        capabilities: Capabilities,
    ) -> Self {
        Self {
            shared,
            publisher: Name::copy_from_slice(principal.name().as_bytes()),
            principal,
            vhost,
            frame_max,
            capabilities,
            consumers: HashMap::new(),
            exclusive: HashSet::new(),
            blocked: None,
            blocked_told: false,
            awaiting: HashMap::new(),
            last_number: 0,
            gather: Gather::default(),
            gathered: Gathered::default(),
            settled: Vec::new(),
            settlement: Settlement::Ack,
        }
    }

    /// A number of this connection that was not given before.
    pub(crate) fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// May the principal do this?
    pub(crate) fn check(
        &self,
        operation: Operation,
        noun: Noun,
        name: &[u8],
        method: MethodId,
    ) -> Result<(), Fault> {
        let rules = self.shared.authenticator.authority().rules();
        if rules.allows(
            &self.principal,
            operation,
            Resource::Name(&self.vhost, name),
        ) {
            return Ok(());
        }
        let operation = match operation {
            Operation::Configure => "configure",
            Operation::Write => "write",
            Operation::Read => "read",
        };
        Err(Fault::new(
            Code::AccessRefused,
            method,
            format!(
                "{operation} access to {} refused for user '{}'",
                rescue::named(noun, name, &self.vhost),
                self.principal.name()
            ),
        ))
    }

    /// Sends a command for a channel, whose later frames wait for the answer.
    pub(crate) fn ask(
        &mut self,
        channel: &mut Channel,
        method: MethodId,
        what: Awaited,
        command: Command,
        out: &mut Outbox,
    ) {
        channel.waiting = true;
        let correlation = self.await_answer(channel.id, channel.epoch, method, what);
        out.command(correlation, command);
    }

    pub(super) fn await_answer(
        &mut self,
        channel: u16,
        epoch: u64,
        method: MethodId,
        what: Awaited,
    ) -> u64 {
        let correlation = self.number();
        self.awaiting.insert(
            correlation,
            Awaiting {
                channel,
                epoch,
                method,
                what,
            },
        );
        correlation
    }

    /// What this answer was awaited for.
    pub(super) fn answered(&mut self, correlation: u64) -> Option<Awaiting> {
        self.awaiting.remove(&correlation)
    }

    /// Gathers a channel's publish. `number`: its confirm number, or 0.
    pub(crate) fn publish(
        &mut self,
        channel: &Channel,
        number: u64,
        incoming: Incoming,
        mandatory: bool,
        out: &mut Outbox,
    ) {
        let same = self.gathered.epoch == channel.epoch && self.gather.takes(&incoming);
        if !same {
            self.flush_publishes(out);
        }
        if self.gather.is_empty() {
            self.gathered = Gathered {
                channel: channel.id,
                epoch: channel.epoch,
                first: number,
                count: 0,
                mandatory: Vec::new(),
            };
        }
        if mandatory {
            let returned = Returned {
                exchange: incoming.exchange.clone(),
                routing_key: incoming.routing_key.clone(),
                properties: incoming.raw.clone(),
                body: incoming.body.clone(),
            };
            self.gathered
                .mandatory
                .push((self.gathered.count, returned));
        }
        self.gathered.count += 1;
        let now_ms = (self.shared.clock)();
        self.gather.push(incoming, &self.publisher, now_ms);
    }

    fn flush_publishes(&mut self, out: &mut Outbox) {
        let confirm = self.gathered.first > 0;
        let Some(publish) = self.gather.take(confirm) else {
            return;
        };
        let gathered = std::mem::take(&mut self.gathered);
        let correlation = self.await_answer(
            gathered.channel,
            gathered.epoch,
            MethodId::BASIC_PUBLISH,
            Awaited::Published {
                first: gathered.first,
                count: gathered.count,
                mandatory: gathered.mandatory,
            },
        );
        out.command(correlation, Command::Publish(publish));
    }

    /// Gathers settlements.
    pub(crate) fn settle(
        &mut self,
        entries: impl IntoIterator<Item = (QueueId, EntryId)>,
        settlement: Settlement,
        out: &mut Outbox,
    ) {
        if self.settlement != settlement {
            self.flush_settled(out);
            self.settlement = settlement;
        }
        self.settled.extend(entries);
    }

    fn flush_settled(&mut self, out: &mut Outbox) {
        if self.settled.is_empty() {
            return;
        }
        let settle = Settle {
            entries: std::mem::take(&mut self.settled),
            settlement: self.settlement,
        };
        out.command(0, Command::Settle(settle));
    }

    /// Gives the broker what was gathered, before anything that must come after it.
    pub(crate) fn flush(&mut self, out: &mut Outbox) {
        self.flush_publishes(out);
        self.flush_settled(out);
    }
}
