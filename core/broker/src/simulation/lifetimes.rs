//! What comes to an end by itself: queues that nobody uses, exclusive ones, those whose last consumer has left, sessions
//! whose time is over. Neither before its time nor after it, and nothing that a connection had outlives the server.

use crate::api::*;
use crate::server::Input;
use crate::simulation::peer::Ask;
use crate::simulation::world::World;
use crate::state::State;
use omnilog_ledger::Lsn;
use rand::RngExt;
use std::collections::BTreeMap;

/// A queue that goes when nobody uses it for so long.
const IDLE: &str = "idle";
const IDLE_MS: i64 = 3000;
/// A durable queue that goes with its last consumer.
const BRIEFLY: &str = "briefly";

fn name(name: &'static str) -> Name {
    Name::from_static(name.as_bytes())
}

/// What is known of what ends.
#[derive(Debug, Default)]
pub(super) struct Lifetimes {
    /// The queue that goes when it is not used, and when it was used last, at the least and at the most; none: it is
    /// being used.
    idle: Option<(QueueId, Option<(i64, i64)>)>,
    /// The queue that goes with its last consumer, if it has one.
    serving: Option<QueueId>,
    /// Somebody uses it in the step being taken, or deletes it.
    touched: bool,
    tried: bool,
    deleted: bool,
    /// Who was connected to a session when the last step was over, and when it ends if nobody is.
    sessions: BTreeMap<SessionId, (Option<ClientId>, Option<i64>)>,
    /// Sessions that nobody is connected to and that end: as of which frame, and when.
    closed: BTreeMap<SessionId, (Lsn, i64)>,
    /// Sessions are opened in the step being taken.
    opening: bool,
    /// How often it has come to an end.
    pub(super) ends: usize,
}

impl Lifetimes {
    /// What a step is about to be given.
    pub(super) fn given(&mut self, inputs: &[Input]) {
        (self.touched, self.tried) = (false, false);
        (self.deleted, self.opening) = (false, false);
        for input in inputs {
            match input {
                Input::Command { command, .. } => match command {
                    Command::DeclareQueue(declare) if declare.name == IDLE => self.touched = true,
                    Command::Get(queue, _) if queue == IDLE => self.touched = true,
                    Command::Consume(consume) if consume.queue == IDLE => self.tried = true,
                    Command::DeleteQueue { name, .. } if name == IDLE => self.deleted = true,
                    Command::OpenSession(_) | Command::CloseSession(_) => self.opening = true,
                    _ => {}
                },
                Input::Disconnect(_) => self.opening = true,
                _ => {}
            }
        }
    }

    /// A start: what is not used is so from now on. Frames up to the safe one were durable.
    pub(super) fn started(&mut self, state: &State, safe: Lsn, now_ms: i64) {
        for (id, (frame, ends)) in std::mem::take(&mut self.closed) {
            if let Some(session) = state.sessions.get(&id).filter(|_| frame <= safe) {
                assert_eq!(
                    session.expires_at_ms,
                    Some(ends),
                    "{:?} was to end then",
                    session.client_id
                );
            }
        }
        let mut queues = state.queues.values();
        let idle = queues.find(|queue| queue.declared.name == IDLE);
        self.idle = idle.map(|queue| (queue.id, Some((now_ms, now_ms))));
        self.serving = None;
        self.sessions.clear();
        for queue in state.queues.values() {
            let name = String::from_utf8_lossy(&queue.declared.name);
            let lasts = queue.durable() && !queue.declared.exclusive;
            assert!(lasts, "{name} is there after a restart");
        }
        for session in state.sessions.values() {
            assert!(session.durable(), "{:?} survived", session.client_id);
        }
    }
}

impl World {
    /// An AMQP client does something with what ends.
    pub(super) fn act_on_lifetimes(&mut self, at: usize) {
        let queue = [IDLE, BRIEFLY][self.random.random_range(0..2)];
        match self.random.random_range(0..8) {
            0..3 => {
                let expires = (name("x-expires"), Value::Int(IDLE_MS));
                let declare = DeclareQueue {
                    name: name(queue),
                    durable: true,
                    exclusive: false,
                    auto_delete: queue == BRIEFLY,
                    arguments: (queue == IDLE).then_some(expires).into_iter().collect(),
                };
                self.ask(at, Ask::Whatever, Command::DeclareQueue(declare));
            }
            3..5 => self.consume(at, queue, 1, true),
            5 => {
                let consumer = ConsumerKey(self.random.random_range(1..6));
                self.ask(at, Ask::Whatever, Command::Cancel(consumer));
            }
            6 => self.ask(at, Ask::Whatever, Command::Get(name(queue), true)),
            _ => {
                let delete = Command::DeleteQueue {
                    name: name(queue),
                    if_unused: true,
                    if_empty: false,
                };
                self.ask(at, Ask::Whatever, delete);
            }
        }
    }

    /// A step was taken: what has ended, and what should have.
    pub(super) fn check_lifetimes(&mut self) {
        let (now, tight) = (self.unix_ms(), self.tight);
        let Some(life) = &self.life else { return };
        let shard = &life.shard;
        let known = &mut self.facts.lifetimes;
        if shard.failure().is_some() || shard.stopped {
            // Sessions may have been opened in this step, and nobody looks any more.
            known.closed.clear();
            return;
        }
        let state = &shard.state;
        let there = |queue: &'static str| {
            let id = state.queue_id(NamespaceId(0), queue.as_bytes())?;
            state.queues.get(&id)
        };
        let queue = there(IDLE);
        if let Some((id, used)) = known.idle {
            let gone = queue.is_none_or(|queue| queue.id != id);
            assert!(
                !gone || known.deleted || used.is_some_and(|(used, _)| now >= used + IDLE_MS),
                "{IDLE} was used at {used:?}, and is gone at {now}"
            );
            known.ends += usize::from(gone && !known.deleted);
        }
        known.idle = queue.map(|queue| {
            let before = known.idle.filter(|(id, _)| *id == queue.id);
            let unused = queue.consumers.is_empty().then_some(match before {
                // A consumer that was refused, or came and went.
                Some((_, Some((used, _)))) if known.tried && !known.touched => (used, now),
                Some((_, Some(used))) if !known.touched => used,
                // Until now.
                _ => (now, now),
            });
            assert!(
                unused.is_none_or(|(_, used)| now < used + IDLE_MS),
                "{IDLE} was used at {unused:?}, and is there at {now}"
            );
            (queue.id, unused)
        });
        let briefly = there(BRIEFLY);
        let serves = briefly.is_some_and(|queue| !queue.consumers.is_empty());
        assert!(
            serves || known.serving.is_none() || briefly.map(|queue| queue.id) != known.serving,
            "{BRIEFLY} is there without its consumers"
        );
        known.serving = briefly.filter(|_| serves).map(|queue| queue.id);
        let mut sessions = BTreeMap::new();
        for session in state.sessions.values() {
            let ends = session.expires_at_ms.filter(|_| session.client.is_none());
            assert!(
                tight || ends.is_none_or(|at| at > now),
                "{:?} was to end at {ends:?}, and is there at {now}",
                session.client_id
            );
            let before = known.sessions.get(&session.id);
            let left = before.is_some_and(|(client, _)| client.is_some());
            if left
                && session.client.is_none()
                && let SessionExpiry::AfterMs(after) = session.expiry
            {
                let at = now + i64::try_from(after).unwrap();
                assert_eq!(ends, Some(at), "{:?} ends in {after}", session.client_id);
            }
            match ends.filter(|_| session.durable()) {
                None => {
                    known.closed.remove(&session.id);
                }
                Some(at) => {
                    let closed = known.closed.entry(session.id).or_insert((shard.head, at));
                    if closed.1 != at {
                        *closed = (shard.head, at);
                    }
                }
            }
            sessions.insert(session.id, (session.client, ends));
        }
        for (id, (client, ends)) in &known.sessions {
            let gone = !sessions.contains_key(id) && client.is_none() && !known.opening;
            assert!(
                !gone || ends.is_some_and(|at| at <= now),
                "{id:?} was to end at {ends:?}, and is gone at {now}"
            );
            known.ends += usize::from(gone);
        }
        known.sessions = sessions;
    }
}
