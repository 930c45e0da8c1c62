//! MQTT sessions: opened, taken over, closed, ended.

use crate::api::*;
use crate::event::Event as Decision;
use crate::server::{ColdRecord, ColdSession, Parcel};
use crate::shard::dispatch::Located;
use crate::shard::release::Effect;
use crate::shard::{Outcome, Shard};
use crate::state::consumers::Consumer;
use crate::state::order::Mode;
use crate::state::queue::{Lease, MemoryEntry};
use crate::state::session::{OutgoingState, Waiting};

/// How long the holder of a session may take to let go of it before it is cut off.
const TAKEOVER_MS: i64 = 1000;

/// A delivery in flight: its packet id, and queue, entry and QoS until PUBREC came.
type Flight = (u16, Option<(QueueId, EntryId, u8)>);

/// A session's entries ready and in flight that are looked up when it resumes, at the most; the rest follow as new.
const OUTGOING_MAX: usize = 65_535;

impl Shard {
    pub(crate) fn open_session(
        &mut self,
        client: ClientId,
        namespace: NamespaceId,
        correlation: u64,
        open: OpenSession,
    ) -> Outcome {
        let Some(names) = self.state.namespace(namespace) else {
            return Outcome::Now(Err(Refusal::ShardLost));
        };
        let known = names.sessions.get(&self.state.sessions, &open.client_id);
        if let Some(id) = known
            && let Some(session) = self.state.sessions.get_mut(&id)
            && let Some(holder) = session.client
        {
            session.waiting.push(Waiting {
                client,
                correlation,
                open,
            });
            let first = session.waiting.len() == 1;
            if first {
                let at = self.now.unix_ms + TAKEOVER_MS;
                session.cut_off_at_ms = Some(at);
                self.session_timers.insert((at, id));
                self.send(holder, Event::SessionTakenOver(id));
            }
            return Outcome::Later;
        }
        // One whose end is delayed by its will, which waits for space, is none any more.
        let over = known
            .and_then(|id| self.state.sessions.get(&id)?.expires_at_ms)
            .is_some_and(|at| at <= self.now.unix_ms);
        let resumed = known.filter(|_| !open.clean_start && !over);
        if let Some(id) = known
            && resumed.is_none()
        {
            self.end_session(id);
        }
        let present = resumed.is_some();
        if !present
            && open.expiry != SessionExpiry::AtClose
            && let Err(refusal) = self.may_grow()
        {
            return Outcome::Now(Err(refusal));
        }
        let id = resumed.unwrap_or_else(|| self.new_session(namespace, &open));
        if let Some(session) = self.state.sessions.get(&id) {
            let (queue, durable, client_id) =
                (session.queue, session.durable(), session.client_id.clone());
            // A pending will is cancelled by the session's resumption (MQTT 3.1.3-9).
            self.record_if(
                durable,
                &Decision::SessionOpened {
                    namespace,
                    session: id,
                    client_id,
                    queue,
                    expiry: open.expiry,
                    will: open.will,
                },
            );
        }
        self.attach_session(client, correlation, id, present, u32::from(open.credit));
        Outcome::Later
    }

    fn new_session(&mut self, namespace: NamespaceId, open: &OpenSession) -> SessionId {
        let durable = open.expiry != SessionExpiry::AtClose;
        let queue = self.add_queue(
            namespace,
            QueueKind::Session,
            DeclareQueue {
                name: open.client_id.clone(),
                durable,
                exclusive: false,
                auto_delete: false,
                arguments: Vec::new(),
            },
        );
        let session = SessionId(self.state.next_session);
        self.record_if(
            durable,
            &Decision::SessionOpened {
                namespace,
                session,
                client_id: open.client_id.clone(),
                queue,
                expiry: open.expiry,
                will: None,
            },
        );
        session
    }

    /// Makes a connection the session's holder and its queues' consumer, and tells it how the session stands.
    fn attach_session(
        &mut self,
        client: ClientId,
        correlation: u64,
        id: SessionId,
        present: bool,
        credit: u32,
    ) {
        if let Some(state) = self.clients.get_mut(&client) {
            state.session = Some(id);
        }
        self.find_queues_again(client, id);
        let Some(session) = self.state.sessions.get_mut(&id) else {
            return;
        };
        session.client = Some(client);
        session.cut_off_at_ms = None;
        let own = session.queue;
        let subscriptions: Vec<Subscription> = session
            .subscriptions
            .values()
            .map(|(_, subscription)| subscription.clone())
            .collect();
        let mut queues: Vec<QueueId> = session
            .subscriptions
            .values()
            .map(|(queue, _)| *queue)
            .collect();
        queues.push(own);
        queues.sort_unstable();
        queues.dedup();
        let incoming: Vec<u16> = session.incoming.iter().copied().collect();
        let handed_back = std::mem::take(&mut session.handed_back);
        let exchanges = session.outgoing.clone();
        for queue in &queues {
            self.attach_consumer(*queue, client, credit);
        }
        let mut outgoing = Vec::new();
        let mut cold = Vec::new();
        let qos2 = exchanges.into_iter().map(|(packet_id, state)| match state {
            OutgoingState::Received => (packet_id, None),
            OutgoingState::Published(queue, entry) => (packet_id, Some((queue, entry, 2))),
        });
        let qos1 = handed_back.iter().map(|flight| {
            (
                flight.packet_id,
                Some((flight.queue, flight.entry, flight.qos)),
            )
        });
        let mut flights: Vec<Flight> = qos2.chain(qos1).take(OUTGOING_MAX).collect();
        // In the order in which they were sent first: that of their entries.
        flights.sort_by_key(|(_, flight)| flight.map_or(EntryId(0), |(_, entry, _)| entry));
        for (packet_id, flight) in flights {
            let stage = match flight {
                None => OutgoingStage::Release,
                Some((queue, entry, qos)) => {
                    let message = match self.lease_again(client, queue, entry) {
                        Some(Located::Here(message)) => Some(message),
                        Some(Located::Cold(record)) => {
                            cold.push((outgoing.len(), record));
                            None
                        }
                        None => None,
                    };
                    let retained = self.state.copied_retained(entry.0);
                    OutgoingStage::Publish {
                        queue,
                        entry,
                        qos,
                        retained,
                        message,
                    }
                }
            };
            outgoing.push(Outgoing { packet_id, stage });
        }
        let opened = SessionOpened {
            session: id,
            queue: own,
            present,
            subscriptions,
            outgoing,
            incoming,
        };
        self.after.push(Effect::Send(
            client,
            session_parcel(correlation, opened, cold),
            0,
        ));
        for queue in queues {
            self.after
                .push(Effect::Activate(queue, client, SESSION_CONSUMER));
        }
    }

    /// Makes a session's connection a consumer of a queue.
    pub(crate) fn attach_consumer(&mut self, queue: QueueId, client: ClientId, credit: u32) {
        self.state.wake(queue);
        let Some(queue) = self.state.queues.get_mut(&queue) else {
            return;
        };
        queue.had_consumer = true;
        if queue.consumers.has_exclusive() || queue.consumer_mut(client, SESSION_CONSUMER).is_some()
        {
            return;
        }
        let failover = queue.mode == Mode::Failover;
        let consumer = Consumer::new(client, SESSION_CONSUMER, credit);
        queue.consumers.add(consumer, failover);
    }

    /// Takes an entry that was in flight before out of the ready ones again.
    fn lease_again(&mut self, client: ClientId, id: QueueId, entry: EntryId) -> Option<Located> {
        let waiting = self.take_up(id, entry);
        let queue = self.state.queues.get_mut(&id)?;
        let (memory, rank) = match waiting {
            Some(lease) => (lease.memory.map(|memory| *memory), lease.rank),
            None => {
                let memory = queue.memory.remove(&entry.0);
                if let Some(memory) = &memory {
                    queue.memory_bytes -= memory.bytes;
                } else if !queue.ready.remove(entry.0) {
                    return None;
                }
                (memory, queue.took(entry.0))
            }
        };
        let located = match &memory {
            Some(MemoryEntry {
                original: Some(original),
                ..
            }) => self.locate_kept(*original),
            Some(memory) => Located::Here(memory.message.clone()),
            None => self.locate(entry.0),
        };
        let queue = self.state.queues.get_mut(&id)?;
        if let Some(consumer) = queue.consumer_mut(client, SESSION_CONSUMER) {
            consumer.outstanding += 1;
        }
        queue.lease(
            entry,
            Lease {
                client,
                consumer: Some(SESSION_CONSUMER),
                memory: memory.map(Box::new),
                rank,
            },
        );
        if let Some(state) = self.clients.get_mut(&client) {
            state.leased_from.insert(id);
        }
        Some(located)
    }

    pub(crate) fn close_session(
        &mut self,
        client: ClientId,
        close: CloseSession,
    ) -> Result<Reply, Refusal> {
        let id = close.session;
        let missing = || Refusal::NotFound(Noun::Session, Name::from(id.to_string()));
        let session = self.state.sessions.get_mut(&id).ok_or_else(missing)?;
        if session.client != Some(client) {
            return Err(missing());
        }
        session.client = None;
        session.cut_off_at_ms = None;
        session.handed_back = close.in_flight.into();
        let expiry = close.expiry.unwrap_or(session.expiry);
        let durable = session.durable();
        let waiting = std::mem::take(&mut session.waiting);
        let mut queues: Vec<QueueId> = session
            .subscriptions
            .values()
            .map(|(queue, _)| *queue)
            .collect();
        queues.push(session.queue);
        queues.sort_unstable();
        queues.dedup();
        if let Some(state) = self.clients.get_mut(&client) {
            state.session = None;
        }
        self.keep_in_flight(client, id);
        for queue in queues {
            self.requeue_of(client, queue);
            self.remove_consumer(queue, client, SESSION_CONSUMER);
        }
        let expires_at_ms = match expiry {
            SessionExpiry::AtClose => Some(self.now.unix_ms),
            SessionExpiry::AfterMs(after) => Some(self.later(after)),
            SessionExpiry::Never => None,
        };
        self.record_if(
            durable,
            &Decision::SessionClosed {
                session: id,
                expiry,
                expires_at_ms,
            },
        );
        if !close.publish_will {
            self.forget_will(id);
        }
        self.arm_session(id);
        if expiry == SessionExpiry::AtClose {
            self.end_session(id);
        } else {
            self.fire_will_if_due(id);
        }
        self.finish_frame();
        for Waiting {
            client,
            correlation,
            open,
        } in waiting
        {
            let Some(namespace) = self.clients.get(&client).map(|client| client.namespace) else {
                continue;
            };
            let outcome = self.open_session(client, namespace, correlation, open);
            self.finish_frame();
            self.reply(client, correlation, outcome);
        }
        Ok(Reply::Done)
    }

    /// Unix milliseconds this long from now.
    pub(crate) fn later(&self, after_ms: u64) -> i64 {
        self.now
            .unix_ms
            .saturating_add(i64::try_from(after_ms).unwrap_or(i64::MAX))
    }

    /// Sets the timers of a session without a connection: its will and its end.
    pub(crate) fn arm_session(&mut self, id: SessionId) {
        let now = self.now.unix_ms;
        let Some(session) = self.state.sessions.get_mut(&id) else {
            return;
        };
        if let Some(will) = &session.will {
            let delay = i64::try_from(will.delay_ms).unwrap_or(i64::MAX);
            let at = now.saturating_add(delay);
            session.will_at_ms = Some(at.min(session.expires_at_ms.unwrap_or(i64::MAX)));
        }
        let times = [session.will_at_ms, session.expires_at_ms];
        for at in times.into_iter().flatten() {
            self.session_timers.insert((at, id));
        }
    }

    /// Ends a session: its will, if it still has one, its subscriptions, its queue.
    pub(crate) fn end_session(&mut self, id: SessionId) {
        self.fire_will(id);
        let Some(session) = self.state.sessions.get(&id) else {
            return;
        };
        let (durable, queue) = (session.durable(), session.queue);
        let mut shared: Vec<QueueId> = session
            .subscriptions
            .values()
            .map(|(queue, _)| *queue)
            .collect();
        shared.retain(|other| *other != queue);
        shared.sort_unstable();
        shared.dedup();
        self.end_in_flight(id);
        self.record_if(durable, &Decision::SessionEnded { session: id });
        self.drop_queue(queue);
        for queue in shared {
            self.drop_shared_if_unused(queue);
        }
    }

    /// Something of a session's is due: the holder is cut off, the will fires, the session ends.
    pub(crate) fn session_due(&mut self, id: SessionId) {
        let now = self.now.unix_ms;
        let Some(session) = self.state.sessions.get(&id) else {
            return;
        };
        if let Some(holder) = session.client {
            if session.cut_off_at_ms.is_some_and(|at| at <= now) {
                let close = CloseSession {
                    session: id,
                    expiry: None,
                    publish_will: true,
                    in_flight: Vec::new(),
                };
                // It holds the session.
                let _ = self.close_session(holder, close);
            }
            return;
        }
        if session.expires_at_ms.is_some_and(|at| at <= now) {
            if !self.delay_will(id) {
                self.end_session(id);
            }
        } else {
            self.fire_will_if_due(id);
        }
    }
}

/// The reply to an [`OpenSession`], with what must be read first.
fn session_parcel(
    correlation: u64,
    opened: SessionOpened,
    cold: Vec<(usize, ColdRecord)>,
) -> Parcel {
    if cold.is_empty() {
        let result = Ok(Reply::Session(Box::new(opened)));
        Parcel::Event(Event::reply(correlation, result))
    } else {
        let session = ColdSession {
            opened: Box::new(opened),
            records: cold,
        };
        Parcel::ColdSession(correlation, Box::new(session))
    }
}
