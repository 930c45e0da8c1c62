//! The task that runs a namespace's [`Coordinator`]: requests from sessions and answers from the
//! broker in, signals to sessions and commands to the broker out.

use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;
use omnilog_broker::{
    ClientInfo, Command, Event, Name, NamespaceId, OffsetsInTransaction, Refusal, Reply,
};
use omnilog_wire::{Client, Hub, SignalSender};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::session::Signal;

use super::{Coordinator, Effect, GroupConfig, GroupError, GroupReply, GroupRequest, Purpose};

/// Whom an answer goes to.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    session: SignalSender<Signal>,
    request: u64,
}

impl Ticket {
    pub(crate) fn answer(self, reply: GroupReply) {
        // A session that is gone needs no answer.
        let _gone = self.session.send(Signal::Group {
            request: self.request,
            reply,
        });
    }
}

/// What a coordinator is asked.
pub(crate) enum Message {
    Request(Ticket, Bytes, Box<GroupRequest>),
    List(Ticket),
}

/// A session's way to the coordinator. Cheap to clone.
///
/// The queue behind it has no bound of its own: each session bounds the requests that it has
/// not answered yet.
#[derive(Debug, Clone)]
pub struct GroupHandle {
    messages: mpsc::UnboundedSender<Message>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Request(_, group, request) => f
                .debug_tuple("Request")
                .field(group)
                .field(request)
                .finish(),
            Self::List(_) => f.write_str("List"),
        }
    }
}

impl GroupHandle {
    /// A handle to a coordinator that a test plays.
    #[cfg(test)]
    pub(crate) fn detached() -> (Self, mpsc::UnboundedReceiver<Message>) {
        let (messages, inbox) = mpsc::unbounded_channel();
        (Self { messages }, inbox)
    }

    /// Does the coordinator still run? It ends with its shard.
    pub fn is_running(&self) -> bool {
        !self.messages.is_closed()
    }

    /// Asks the coordinator of a group; the answer comes as a signal with this number.
    pub fn request(
        &self,
        session: &SignalSender<Signal>,
        request: u64,
        group: Bytes,
        what: GroupRequest,
    ) {
        let ticket = Ticket {
            session: session.clone(),
            request,
        };
        // The task lives as long as the server; when that stops, nobody waits for answers.
        let _stopped = self
            .messages
            .send(Message::Request(ticket, group, Box::new(what)));
    }

    /// Asks for all groups.
    pub fn list(&self, session: &SignalSender<Signal>, request: u64) {
        let ticket = Ticket {
            session: session.clone(),
            request,
        };
        let _stopped = self.messages.send(Message::List(ticket));
    }
}

/// Starts the coordinator of a namespace on the current runtime. It ends when all handles are
/// gone or the shard is lost.
pub fn spawn<H: Hub>(hub: &H, namespace: NamespaceId, config: GroupConfig) -> GroupHandle
where
    H::Client: 'static,
{
    let (messages, inbox) = mpsc::unbounded_channel();
    let info = ClientInfo {
        principal: Name::from_static(b"group-coordinator"),
        protocol: "kafka".to_owned(),
        peer: "local".to_owned(),
    };
    let task = Task {
        client: hub.connect(namespace, info),
        inbox,
        coordinator: Coordinator::new(config, Box::new(Uuid::new_v4)),
        waiting: HashMap::new(),
        correlation: LOADING,
        loaded: false,
        held_back: Vec::new(),
    };
    tokio::spawn(task.run());
    GroupHandle { messages }
}

/// The correlation number of the question for what the journal holds of groups.
const LOADING: u64 = 1;

/// What a command's answer is for.
enum Waiting {
    Stored(Bytes, Purpose<Ticket>),
    Committed(Ticket),
    /// So many positions were to be committed.
    CommittedInTransaction(Ticket, usize),
}

struct Task<C> {
    client: C,
    inbox: mpsc::UnboundedReceiver<Message>,
    coordinator: Coordinator<Ticket>,
    waiting: HashMap<u64, Waiting>,
    correlation: u64,
    loaded: bool,
    /// What came before the groups were loaded.
    held_back: Vec<Message>,
}

impl<C: Client> Task<C> {
    async fn run(mut self) {
        self.client.add(LOADING, Command::ListGroups);
        self.client.flush();
        let mut events = Vec::new();
        loop {
            let deadline = self.coordinator.deadline();
            tokio::select! {
                message = self.inbox.recv() => match message {
                    Some(message) if self.loaded => self.take(message),
                    Some(message) => self.held_back.push(message),
                    None => return,
                },
                () = self.client.recv(&mut events) => {
                    for event in events.drain(..) {
                        if matches!(event, Event::ShardLost) {
                            return;
                        }
                        self.hear(event);
                    }
                }
                () = sleep_until(deadline) => self.coordinator.on_time(now()),
            }
            self.carry_out();
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Request(ticket, group, request) => {
                self.coordinator.request(now(), ticket, &group, *request);
            }
            Message::List(ticket) => self.coordinator.list(ticket),
        }
    }

    fn hear(&mut self, event: Event) {
        let Event::Reply {
            correlation,
            result,
        } = event
        else {
            return;
        };
        let result = *result;
        if correlation == LOADING {
            self.load(result);
            return;
        }
        match self.waiting.remove(&correlation) {
            Some(Waiting::Stored(group, purpose)) => {
                if let Err(refusal) = &result {
                    let group = String::from_utf8_lossy(&group);
                    tracing::warn!(%group, %refusal, "group state not stored");
                }
                self.coordinator
                    .stored(now(), &group, purpose, result.is_ok());
            }
            Some(Waiting::Committed(ticket)) => {
                ticket.answer(GroupReply::Commit(committed(result)));
            }
            Some(Waiting::CommittedInTransaction(ticket, count)) => {
                let each = match result {
                    Ok(Reply::Committed(each)) => Ok(each),
                    Ok(_) => Err(GroupError::NotStored),
                    Err(refusal) => Ok(vec![Err(refusal); count]),
                };
                ticket.answer(GroupReply::Commit(each));
            }
            None => {}
        }
    }

    fn load(&mut self, result: Result<Reply, Refusal>) {
        match result {
            Ok(Reply::Groups(groups)) => {
                for (name, state) in groups {
                    self.coordinator.restore(now(), &name, state.as_ref());
                }
            }
            other => tracing::error!(?other, "groups could not be loaded"),
        }
        self.loaded = true;
        for message in std::mem::take(&mut self.held_back) {
            self.take(message);
        }
    }

    fn carry_out(&mut self) {
        for effect in self.coordinator.take_effects() {
            match effect {
                Effect::Reply(ticket, reply) => ticket.answer(reply),
                Effect::Store {
                    purpose,
                    group,
                    state,
                } => {
                    let command = Command::PutGroup(group.clone(), state);
                    self.send(Waiting::Stored(group, purpose), command);
                }
                Effect::Commit {
                    ticket,
                    group,
                    offsets,
                    transactor,
                } => {
                    let count = offsets.len();
                    let (waiting, command) = match transactor {
                        None => (
                            Waiting::Committed(ticket),
                            Command::CommitOffsets(group, offsets),
                        ),
                        Some(transactor) => (
                            Waiting::CommittedInTransaction(ticket, count),
                            Command::OffsetsInTransaction(OffsetsInTransaction {
                                transactor,
                                group,
                                offsets,
                            }),
                        ),
                    };
                    self.send(waiting, command);
                }
            }
        }
    }

    fn send(&mut self, waiting: Waiting, command: Command) {
        self.correlation += 1;
        self.waiting.insert(self.correlation, waiting);
        self.client.add(self.correlation, command);
        self.client.flush();
    }
}

fn committed(result: Result<Reply, Refusal>) -> Result<Vec<Result<(), Refusal>>, GroupError> {
    match result {
        Ok(Reply::Committed(each)) => Ok(each),
        Ok(_) | Err(_) => Err(GroupError::NotStored),
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// The runtime's clock, which tests can stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
