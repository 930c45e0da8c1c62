//! The driver: the only code of a connection that awaits.
//!
//! One task for each connection waits for whatever comes first: bytes, the broker's events, the protocol's own signals,
//! room to write, the session's deadline, the server's stop. It calls the session and carries out what that put into
//! the outbox. Back-pressure both ways: it reads nothing while the broker has too much of this connection's in flight
//! or the peer leaves too much unread; and it takes no events in the latter case.
//!
//! Newcomers, and connections with a backlog, are served apart: the driver moves there and back.

mod hub;
mod limits;
mod parting;
#[cfg(test)]
mod tests;

pub use hub::{Client, Hub};
pub use limits::DriverLimits;

use crate::{
    Action, ClosedBy, Connection, ConnectionError, Meter, Outbox, Session, SignalReceiver, Stream,
};
use bytes::BytesMut;
use omnilog_broker::{CatchUpHandle, Event, Place};
use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::AsyncWrite;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

/// A session's deadlines are this far apart at least.
const DEADLINE_PAUSE: Duration = Duration::from_millis(1);

/// The smallest read buffer; it grows while reads fill it.
const READ_BYTES_MIN: usize = 2 << 10;

/// Room for events that an idle connection may keep.
const EVENTS_KEPT_MAX: usize = 16;

/// Serves a connection: runs its session to the end.
///
/// # Errors
/// What ended it, unless the peer closed it, the session asked for it, or the server stopped.
pub async fn drive<S: Session + 'static, H: Hub + 'static>(
    connection: Connection,
    session: S,
    hub: H,
    signals: SignalReceiver<S::Signal>,
    limits: DriverLimits,
) -> Result<(), ConnectionError> {
    let shutdown = connection.shutdown.clone();
    let held = !connection.prefix.is_empty();
    let mut driver = Box::new(Driver {
        session,
        place: hub.newcomer(),
        hub,
        client: None,
        signals,
        wire: Wire {
            stream: connection.stream,
            input: connection.prefix,
            room: READ_BYTES_MIN,
            out: Outbox::new(),
            meter: connection.info.listener.meter.clone(),
            unflushed: false,
            progressed: false,
        },
        events: Vec::new(),
        limits,
        stalled_since: None,
        stopping_since: None,
        held,
        events_first: false,
    });
    let ended = loop {
        let ran = match driver.place.apart().cloned() {
            None => driver.run(&shutdown, false).await,
            Some(apart) => match run_apart(driver, shutdown.clone(), apart).await {
                Some((back, ran)) => {
                    driver = back;
                    ran
                }
                // The server's end was overdue.
                None => return Ok(()),
            },
        };
        if let Some(ended) = ran.transpose() {
            break ended;
        }
    };
    // Thousands that go at once are not to keep the others waiting either.
    let apart = driver.hub.newcomer();
    apart.run(driver.part(ended)).await.unwrap_or(Ok(()))
}

/// Runs a session apart. `None`: that is over, and so is the connection.
async fn run_apart<S: Session + 'static, H: Hub + 'static>(
    mut driver: Box<Driver<S, H>>,
    shutdown: CancellationToken,
    apart: CatchUpHandle,
) -> Option<(Box<Driver<S, H>>, Result<Option<ClosedBy>, ConnectionError>)> {
    let ran = apart.run(async move {
        let ran = driver.run(&shutdown, true).await;
        (driver, ran)
    });
    ran.await
}

struct Driver<S: Session, H: Hub> {
    session: S,
    hub: H,
    client: Option<H::Client>,
    /// Where it is served.
    place: Place,
    signals: SignalReceiver<S::Signal>,
    wire: Wire,
    events: Vec<Event>,
    limits: DriverLimits,
    /// Bytes have waited for the peer since then without one being taken.
    stalled_since: Option<Instant>,
    /// The session was told of the server's stop.
    stopping_since: Option<Instant>,
    /// There are bytes that the session has not been shown, or may have left for later when it paused reading.
    held: bool,
    /// Whose turn it is when both bytes and events are there.
    events_first: bool,
}

/// The socket and its buffers: apart from the session and the client, so that they can be borrowed separately.
struct Wire {
    stream: Stream,
    input: BytesMut,
    /// How much to make room for at the next read.
    room: usize,
    out: Outbox,
    meter: Arc<Meter>,
    /// Something was written and not flushed (TLS keeps records back).
    unflushed: bool,
    /// The peer has taken bytes since this was last cleared.
    progressed: bool,
}

/// What the driver was woken for.
enum Wake<Signal> {
    /// Bytes were read; 0: the peer has closed.
    Read(usize),
    /// Events are there.
    Events,
    Signal(Signal),
    /// The timer rang, or it is time to look at the state again.
    Timer,
    Stop,
    /// It is to be served elsewhere.
    Move,
    /// All is written, and the session wants to close.
    Flushed,
    Broken(io::Error),
}

impl<S: Session, H: Hub> Driver<S, H> {
    /// Runs to the end of the connection's regular life, or until it is to be served elsewhere (`None`).
    async fn run(
        &mut self,
        shutdown: &CancellationToken,
        is_apart: bool,
    ) -> Result<Option<ClosedBy>, ConnectionError> {
        let mut stopped = pin!(shutdown.cancelled());
        let mut timer = Timer::default();
        loop {
            let now = now();
            let deadline = self.check_deadlines(now)?;
            if self.held && self.may_read() {
                self.take_input(now)?;
                continue;
            }
            if let Some(ended) = self.stop_overdue(now) {
                return Ok(Some(ended));
            }
            timer.arm(deadline, now);
            if is_apart {
                // One look each: all there have a lot to do.
                tokio::task::yield_now().await;
            } else {
                // A mailbox that never runs dry must not keep the thread, nor the socket from being looked at.
                tokio::task::coop::consume_budget().await;
            }
            let wake = self
                .wake(&mut timer, deadline, stopped.as_mut(), is_apart)
                .await;
            let now = self::now();
            if std::mem::take(&mut self.wire.progressed) {
                self.stalled_since = None;
            }
            match wake {
                Wake::Read(0) => return Ok(Some(ClosedBy::Peer)),
                Wake::Read(_) => self.take_input(now)?,
                Wake::Events => self.take_events(now)?,
                Wake::Signal(signal) => {
                    self.session.on_signal(now, signal, &mut self.wire.out)?;
                    self.carry_out()?;
                }
                Wake::Timer => {}
                Wake::Move => return Ok(None),
                Wake::Stop => {
                    self.stopping_since = Some(now);
                    self.session.on_shutdown(now, &mut self.wire.out);
                    self.carry_out()?;
                }
                Wake::Flushed => return Ok(Some(ClosedBy::Us)),
                Wake::Broken(error) => return Err(error.into()),
            }
        }
    }

    /// May the session be given bytes, as far as the session itself is concerned?
    fn may_read(&self) -> bool {
        !self.wire.out.reading_paused() && self.wire.out.closing().is_none()
    }

    fn take_input(&mut self, now: Instant) -> Result<(), ConnectionError> {
        let wire = &mut self.wire;
        self.session.on_bytes(now, &mut wire.input, &mut wire.out)?;
        self.held = wire.out.reading_paused() && !wire.input.is_empty();
        if wire.input.len() > self.limits.input_bytes_max {
            return Err(ConnectionError::violation("frame exceeds every limit"));
        }
        self.carry_out()
    }

    fn take_events(&mut self, now: Instant) -> Result<(), ConnectionError> {
        self.wire.meter.heard(self.events.len() as u64);
        for event in self.events.drain(..) {
            if self.wire.out.closing().is_some() {
                break;
            }
            self.session.on_event(now, event, &mut self.wire.out)?;
        }
        if self.events.capacity() > EVENTS_KEPT_MAX {
            self.events = Vec::new();
        }
        self.carry_out()
    }

    /// Gives the broker what the session put into the outbox for it.
    fn carry_out(&mut self) -> Result<(), ConnectionError> {
        let mut commands = 0;
        for action in self.wire.out.drain_actions() {
            match (action, &self.client) {
                (Action::Connect(namespace, info), None) => {
                    let client = self.hub.connect(namespace, info);
                    self.place = client.place();
                    self.client = Some(client);
                }
                (Action::Command(correlation, command), Some(client)) => {
                    client.add(correlation, command);
                    commands += 1;
                }
                (Action::Connect(..), Some(_)) => {
                    return Err(ConnectionError::failure("session connected twice"));
                }
                (Action::Command(..), None) => {
                    return Err(ConnectionError::failure("command before connect"));
                }
            }
        }
        if commands > 0 {
            if let Some(client) = &self.client {
                client.flush();
            }
            self.wire.meter.commanded(commands);
        }
        Ok(())
    }

    /// Deals with deadlines that have come; says which is next.
    fn check_deadlines(&mut self, now: Instant) -> Result<Option<Instant>, ConnectionError> {
        let mut next: Option<Instant> = None;
        let mut consider = |at: Instant| next = Some(next.map_or(at, |next| next.min(at)));
        if self.wire.out.closing().is_none() {
            if self.session.deadline().is_some_and(|at| at <= now) {
                self.session.on_deadline(now, &mut self.wire.out)?;
                self.carry_out()?;
            }
            if let Some(at) = self.session.deadline() {
                // A session that does not move its deadline must not spin its thread.
                consider(at.max(now + DEADLINE_PAUSE));
            }
        }
        let backlog_bytes = self.wire.out.backlog_bytes();
        if backlog_bytes > 0 {
            let since = *self.stalled_since.get_or_insert(now);
            let at = since + self.limits.peer_stall_max;
            if at <= now {
                return Err(ConnectionError::SlowPeer { backlog_bytes });
            }
            consider(at);
        } else {
            self.stalled_since = None;
        }
        if let Some(since) = self.stopping_since {
            consider(since + self.limits.shutdown_grace);
        }
        Ok(next)
    }

    fn stop_overdue(&self, now: Instant) -> Option<ClosedBy> {
        let since = self.stopping_since?;
        (since + self.limits.shutdown_grace <= now).then_some(ClosedBy::Shutdown)
    }

    /// Does the broker have as much of this connection's in flight as it may?
    fn starved(&self) -> bool {
        self.client
            .as_ref()
            .is_some_and(|client| !client.can_send())
    }

    /// Writes what there is to write, and waits for something to do.
    async fn wake(
        &mut self,
        timer: &mut Timer,
        deadline: Option<Instant>,
        mut stopped: Pin<&mut (impl Future<Output = ()> + Send)>,
        is_apart: bool,
    ) -> Wake<S::Signal> {
        let closing = self.wire.out.closing().is_some();
        let starved = self.starved();
        let reading = self.may_read() && !starved;
        let room = self
            .client
            .as_ref()
            .filter(|_| starved && !closing)
            .map(Client::room);
        let mut room = pin!(async {
            match room {
                Some(room) => room.await,
                None => pending().await,
            }
        });
        let stop_known = self.stopping_since.is_some();
        let backlog_max = self.limits.write_backlog_bytes_max;
        let read_max = self.limits.read_bytes_max;
        self.events_first = !self.events_first;
        // It may have waited for its thread. What the peer has sent by then is to be heard before a deadline is judged.
        let is_late = || deadline.is_some_and(|at| at <= now());
        let events_first = self.events_first;
        let (wire, signals, place) = (&mut self.wire, &mut self.signals, &self.place);
        let (client, events) = (&mut self.client, &mut self.events);
        let mut received = pin!(async {
            match client {
                Some(client) if !closing => client.recv(events).await,
                _ => pending().await,
            }
        });
        poll_fn(|cx| {
            if place.apart().is_some() != is_apart {
                return Poll::Ready(Wake::Move);
            }
            match wire.poll_write(cx) {
                Poll::Ready(Ok(())) if closing => return Poll::Ready(Wake::Flushed),
                Poll::Ready(Err(error)) => return Poll::Ready(Wake::Broken(error)),
                _ => {}
            }
            if !stop_known && stopped.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Wake::Stop);
            }
            if wire.out.backlog_bytes() < backlog_max {
                let events_first = events_first && !is_late();
                if events_first && received.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Wake::Events);
                }
                if reading && let Poll::Ready(read) = wire.poll_read(cx, read_max) {
                    return Poll::Ready(read.map_or_else(Wake::Broken, Wake::Read));
                }
                if !events_first && received.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Wake::Events);
                }
            }
            if !closing && let Poll::Ready(signal) = signals.poll(cx) {
                return Poll::Ready(Wake::Signal(signal));
            }
            if room.as_mut().poll(cx).is_ready() || timer.poll(cx).is_ready() {
                return Poll::Ready(Wake::Timer);
            }
            wire.release();
            Poll::Pending
        })
        .await
    }
}

impl Wire {
    /// Writes until all is written and flushed, or the peer takes no more.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.out.backlog_bytes() > 0 {
            let stream = Pin::new(&mut self.stream);
            let count = self
                .out
                .slices(|slices| stream.poll_write_vectored(cx, slices));
            let count = std::task::ready!(count)?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.written(count);
            self.meter.sent(count);
            self.progressed = true;
            self.unflushed = true;
        }
        if self.unflushed {
            std::task::ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what there is, into a buffer that grows with what comes.
    fn poll_read(&mut self, cx: &mut Context<'_>, read_max: usize) -> Poll<io::Result<usize>> {
        let spare = self.input.capacity() - self.input.len();
        // Inside a frame larger than a read, whose session has made the room it needs, don't move it for a little more.
        let enough = spare > 0 && (self.input.len() >= self.room || spare >= self.room / 4);
        let room = if enough { 1 } else { self.room };
        let count = std::task::ready!(self.stream.poll_fill(cx, &mut self.input, room))?;
        self.meter.received(count);
        if count >= self.room {
            self.room = (self.room * 2).min(read_max);
        } else if count < self.room / 8 {
            self.room = (self.room / 2).max(READ_BYTES_MIN);
        }
        Poll::Ready(Ok(count))
    }

    /// Gives back the buffers that an idle connection does not need.
    fn release(&mut self) {
        if self.input.is_empty() && self.input.capacity() > 0 {
            self.input = BytesMut::new();
        }
        self.out.release();
    }
}

/// The connection's one timer. It is moved only to an earlier moment, or when it has rung: most deadlines are put off
/// long before they come.
#[derive(Default)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    armed: Option<Instant>,
}

impl Timer {
    fn arm(&mut self, deadline: Option<Instant>, now: Instant) {
        let Some(deadline) = deadline else { return };
        if self
            .armed
            .is_some_and(|armed| armed > now && armed <= deadline)
        {
            return;
        }
        self.armed = Some(deadline);
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(deadline.into()),
            None => self.sleep = Some(Box::pin(tokio::time::sleep_until(deadline.into()))),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (Some(sleep), Some(_)) = (&mut self.sleep, self.armed) else {
            return Poll::Pending;
        };
        std::task::ready!(sleep.as_mut().poll(cx));
        self.armed = None;
        Poll::Ready(())
    }
}

/// The runtime's clock, which tests can stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
