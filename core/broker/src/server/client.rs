//! What protocols hold: the broker, and each connection's client of it.

use crate::api::{ClientId, ClientInfo, Command, Event, NamespaceId};
use crate::server::budget::{Budget, TotalBudget};
use crate::server::catch_up::{CatchUpHandle, Place};
use crate::server::cold::Begun;
use crate::server::intake::Road;
use crate::server::sequencer::Sequencer;
use crate::server::{ColdReads, Compacted, Input, Mailbox, Parcel, Taken};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Reads of one connection that are under way at once.
const READ_AHEAD: usize = 4;

/// What a command weighs in a client's budget beside its payload.
const COMMAND_BYTES: u64 = 256;

/// The broker, as protocols see it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Broker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) namespaces: Vec<crate::api::Name>,
    pub(crate) sequencer: Arc<Sequencer>,
    pub(crate) cold: ColdReads,
    pub(crate) clients: AtomicU64,
    pub(crate) leader_epoch: i32,
    pub(crate) commands: Arc<TotalBudget>,
    pub(crate) compacted: Arc<Compacted>,
    pub(crate) catch_up: CatchUpHandle,
    pub(crate) taken: Arc<Taken>,
}

impl Broker {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The namespace of this name (AMQP: virtual host).
    pub fn namespace(&self, name: &[u8]) -> Option<NamespaceId> {
        let index = self
            .shared
            .namespaces
            .iter()
            .position(|known| known == name)?;
        Some(NamespaceId(u32::try_from(index).ok()?))
    }

    /// The namespace of connections that name none.
    pub fn default_namespace(&self) -> NamespaceId {
        NamespaceId(0)
    }

    /// Bytes of all connections' commands that are not decided yet.
    pub fn commands_bytes(&self) -> u64 {
        self.shared.commands.bytes()
    }

    /// The journal's epoch, which is Kafka's leader epoch for every partition.
    pub fn leader_epoch(&self) -> i32 {
        self.shared.leader_epoch
    }

    /// Where a connection is served that was just accepted.
    pub fn newcomer(&self) -> Place {
        Place::of_newcomer(self.shared.catch_up.clone())
    }

    /// Joins a connection to its namespace's shard. Dropping the client is the loss of the connection: its exclusive
    /// queues go, its leases return, its session's will is published.
    pub fn connect(&self, namespace: NamespaceId, info: ClientInfo) -> Client {
        let id = ClientId(self.shared.clients.fetch_add(1, Ordering::Relaxed) + 1);
        let mailbox = Arc::new(Mailbox::new(self.shared.taken.clone()));
        let road = Road {
            namespace,
            behind: true,
        };
        self.shared.sequencer.put(
            road,
            Input::Connect {
                client: id,
                namespace,
                info,
                mailbox: mailbox.clone(),
            },
        );
        Client {
            id,
            namespace,
            shared: self.shared.clone(),
            behind: AtomicBool::new(true),
            mailbox,
            in_flight: Arc::new(Budget::new(self.shared.commands.clone())),
            parcels: VecDeque::new(),
            begun: VecDeque::new(),
        }
    }
}

/// One connection's membership of a shard.
#[derive(Debug)]
pub struct Client {
    id: ClientId,
    namespace: NamespaceId,
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    /// Its commands wait with those of others that are behind.
    behind: AtomicBool,
    in_flight: Arc<Budget>,
    /// Taken from the mailbox and not handed out yet, oldest first.
    parcels: VecDeque<Parcel>,
    /// What is being read, and what waits behind it, oldest first.
    begun: VecDeque<Begun>,
}

impl Client {
    /// This client's number.
    pub fn id(&self) -> ClientId {
        self.id
    }

    /// Its namespace.
    pub fn namespace(&self) -> NamespaceId {
        self.namespace
    }

    /// Where its next input waits. It changes lanes only while nothing of it is waiting: its commands are decided in their
    /// order.
    fn road(&self) -> Road {
        if self.in_flight.bytes() == 0 {
            let behind = self.mailbox.catches_up().load(Ordering::Relaxed);
            self.behind.store(behind, Ordering::Relaxed);
        }
        Road {
            namespace: self.namespace,
            behind: self.behind.load(Ordering::Relaxed),
        }
    }

    /// Sends a command and sees to it that it is decided. Commands of one client are decided in the order they were
    /// sent. It never waits for anything; if the server is idle, the command is decided before this returns.
    pub fn send(&self, correlation: u64, command: Command) {
        self.add(correlation, command);
        self.flush();
    }

    /// Adds a command to those that [`Client::flush`] sends.
    pub fn add(&self, correlation: u64, mut command: Command) {
        if let Command::Append(append) = &mut command {
            self.shared.compacted.check(self.namespace, append);
        }
        let bytes = COMMAND_BYTES + payload_bytes(&command);
        let road = self.road();
        let cost = self.in_flight.take(bytes);
        self.shared.sequencer.add(
            road,
            Input::Command {
                client: self.id,
                correlation,
                command,
                cost: Some(cost),
            },
        );
    }

    /// Sees to it that what was added is decided.
    pub fn flush(&self) {
        if self.behind.load(Ordering::Relaxed) {
            self.shared.sequencer.wake();
        } else {
            self.shared.sequencer.drive();
        }
    }

    /// Bytes of commands not decided yet.
    pub fn in_flight_bytes(&self) -> u64 {
        self.in_flight.bytes()
    }

    /// May more be read from this connection's socket?
    pub fn can_send(&self) -> bool {
        self.in_flight.has_room()
    }

    /// Where this connection is served.
    pub fn place(&self) -> Place {
        let catches_up = self.mailbox.catches_up().clone();
        Place::while_it_catches_up(self.shared.catch_up.clone(), catches_up)
    }

    /// Waits until more may be read from this connection's socket.
    pub fn room(&self) -> impl Future<Output = ()> + Send + use<> {
        let budget = self.in_flight.clone();
        async move { budget.room().await }
    }

    /// Waits for events and takes all there are, in order, payloads at hand. Cancel safe: an event is either in
    /// `into` or still to come.
    pub async fn recv(&mut self, into: &mut Vec<Event>) {
        let before = into.len();
        loop {
            // Reads are begun ahead, so that several are under way at once.
            while self.begun.len() < READ_AHEAD
                && let Some(begun) = self.shared.cold.begin(&mut self.parcels)
            {
                match begun {
                    Begun::Ready(event) if self.begun.is_empty() => into.push(event),
                    begun => self.begun.push_back(begun),
                }
            }
            match self.begun.front_mut() {
                Some(Begun::Reading(reading)) if into.len() == before => {
                    let lost = |_| (vec![Event::ShardLost], Vec::new());
                    let (events, rest) = reading.await.unwrap_or_else(lost);
                    self.begun.pop_front();
                    into.extend(events);
                    if !rest.is_empty() {
                        let begun = self.shared.cold.begin_together(rest);
                        self.begun.push_front(begun);
                    }
                }
                Some(Begun::Ready(_)) => {
                    if let Some(Begun::Ready(event)) = self.begun.pop_front() {
                        into.push(event);
                    }
                    continue;
                }
                Some(Begun::Reading(_)) => {}
                None if into.len() == before => {
                    self.mailbox.take(&mut self.parcels).await;
                    if self.shared.taken.is_awaited() {
                        self.shared.sequencer.nudge();
                    }
                    continue;
                }
                None => {}
            }
            if self.parcels.is_empty() && self.begun.is_empty() && self.mailbox.drained() {
                let road = self.road();
                self.shared.sequencer.put(road, Input::Drained(self.id));
            }
            return;
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut road = self.road();
        // Thousands may go at once. What it has sent is decided before.
        road.behind |= self.in_flight.bytes() == 0;
        self.shared.sequencer.put(road, Input::Disconnect(self.id));
    }
}

/// The bytes that a command makes the server hold.
fn payload_bytes(command: &Command) -> u64 {
    match command {
        Command::Append(append) => append.batch.len() as u64,
        Command::Publish(publish) => {
            publish.batch.len() as u64 + 128 * publish.records.len() as u64
        }
        Command::Atomic(commands) => commands.iter().map(payload_bytes).sum(),
        Command::Settle(settle) => 128 * settle.entries.len() as u64,
        Command::PutGroup(_, Some(state)) => state.len() as u64,
        Command::CommitOffsets(_, offsets) => offsets
            .iter()
            .map(|offset| 64 + offset.metadata.len() as u64)
            .sum(),
        Command::Subscribe(subscribe) => subscribe
            .subscriptions
            .iter()
            .map(|subscription| 128 + subscription.filter.len() as u64)
            .sum(),
        Command::Unsubscribe(unsubscribe) => unsubscribe
            .filters
            .iter()
            .map(|(filter, _)| 64 + filter.len() as u64)
            .sum(),
        _ => 0,
    }
}
