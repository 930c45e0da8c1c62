//! Connections over pipes, with a hub that the test plays and a clock that it stops.

use super::*;
use crate::Close;
use bytes::Bytes;
use omnilog_broker::{ClientInfo, Command, NamespaceId, Reply};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// What the fake hub and its one client share with the test.
#[derive(Default)]
struct Shard {
    sent: Mutex<Vec<(u64, Command)>>,
    events: Mutex<Vec<Event>>,
    wake: Notify,
    room: Notify,
    full: Mutex<bool>,
    flood: Mutex<bool>,
    connected: Mutex<u32>,
    /// Newcomers and those that catch up are served there ...
    apart: Mutex<Option<CatchUpHandle>>,
    /// ... if this says so.
    catches_up: Arc<AtomicBool>,
}

impl Shard {
    fn event(&self, event: Event) {
        self.events.lock().push(event);
        self.wake.notify_one();
    }
}

#[derive(Clone, Default)]
struct FakeHub(Arc<Shard>);

struct FakeClient(Arc<Shard>);

impl Hub for FakeHub {
    type Client = FakeClient;

    fn newcomer(&self) -> Place {
        let apart = self.0.apart.lock().clone();
        apart.map_or_else(Place::default, Place::of_newcomer)
    }

    fn connect(&self, _namespace: NamespaceId, _info: ClientInfo) -> FakeClient {
        *self.0.connected.lock() += 1;
        FakeClient(self.0.clone())
    }
}

impl Client for FakeClient {
    fn add(&self, correlation: u64, command: Command) {
        self.0.sent.lock().push((correlation, command));
    }

    fn flush(&self) {}

    fn can_send(&self) -> bool {
        !*self.0.full.lock()
    }

    fn room(&self) -> impl Future<Output = ()> + Send + use<> {
        let hub = self.0.clone();
        async move {
            while *hub.full.lock() {
                hub.room.notified().await;
            }
        }
    }

    fn place(&self) -> Place {
        let apart = self.0.apart.lock().clone();
        let place = |apart| Place::while_it_catches_up(apart, self.0.catches_up.clone());
        apart.map_or_else(Place::default, place)
    }

    async fn recv(&mut self, into: &mut Vec<Event>) {
        loop {
            if *self.0.flood.lock() {
                into.push(Event::Unblocked);
                return;
            }
            into.append(&mut self.0.events.lock());
            if !into.is_empty() {
                return;
            }
            self.0.wake.notified().await;
        }
    }
}

impl Drop for FakeClient {
    fn drop(&mut self) {
        *self.0.connected.lock() -= 1;
    }
}

/// A protocol of lines. Letters are commands to the session; it logs its calls.
struct Lines {
    log: Arc<Mutex<Vec<String>>>,
    deadline: Option<Instant>,
    big: Bytes,
}

impl Lines {
    fn note(&self, what: impl Into<String>) {
        self.log.lock().push(what.into());
    }
}

impl Session for Lines {
    type Signal = &'static str;

    fn on_bytes(
        &mut self,
        now: Instant,
        input: &mut BytesMut,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError> {
        while !out.reading_paused() {
            let Some(end) = input.iter().position(|byte| *byte == b'\n') else {
                break;
            };
            let line = input.split_to(end + 1);
            match line.first() {
                Some(b'c') => out.connect(NamespaceId(0), info()),
                Some(b's') => out.command(1, Command::Stats),
                Some(b'T') => {
                    let thread = std::thread::current();
                    out.put_slice(thread.name().unwrap_or_default().as_bytes());
                    out.put_slice(b"\n");
                }
                Some(b'q') => out.close(Close::Linger),
                Some(b'p') => out.pause_reading(true),
                Some(b'd') => self.deadline = Some(now + Duration::from_secs(10)),
                Some(b'B') => out.put_bytes(self.big.clone()),
                Some(b'x') => {
                    out.put_slice(b"bad\n");
                    return Err(ConnectionError::violation("x"));
                }
                _ => out.put_slice(&line),
            }
        }
        Ok(())
    }

    fn on_event(
        &mut self,
        _now: Instant,
        event: Event,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError> {
        if event != Event::Unblocked {
            out.put_slice(b"event\n");
        }
        Ok(())
    }

    fn on_signal(
        &mut self,
        _now: Instant,
        signal: &'static str,
        out: &mut Outbox,
    ) -> Result<(), ConnectionError> {
        out.pause_reading(false);
        out.put_slice(signal.as_bytes());
        Ok(())
    }

    fn on_deadline(&mut self, _now: Instant, out: &mut Outbox) -> Result<(), ConnectionError> {
        self.deadline = None;
        out.put_slice(b"deadline\n");
        Ok(())
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn on_closed(&mut self, _now: Instant, cause: ClosedBy, out: &mut Outbox) {
        self.note(format!("{cause:?}"));
        _ = out;
    }

    fn on_shutdown(&mut self, _now: Instant, out: &mut Outbox) {
        out.put_slice(b"stopping\n");
    }
}

fn info() -> ClientInfo {
    ClientInfo {
        principal: Bytes::from_static(b"test"),
        protocol: "lines".to_owned(),
        peer: "pipe".to_owned(),
    }
}

/// A running connection, seen from its peer.
struct Peer {
    stream: DuplexStream,
    shard: Arc<Shard>,
    signals: crate::SignalSender<&'static str>,
    shutdown: CancellationToken,
    log: Arc<Mutex<Vec<String>>>,
    served: JoinHandle<Result<(), ConnectionError>>,
}

const BIG: usize = 3 << 20;

impl Peer {
    fn open() -> Self {
        Self::open_on(FakeHub::default())
    }

    fn open_on(hub: FakeHub) -> Self {
        let (stream, ours) = tokio::io::duplex(4096);
        let shard = hub.0.clone();
        let (sender, receiver) = crate::signals();
        let connection = Connection::over_pipe(ours);
        let shutdown = connection.shutdown.clone();
        let log = Arc::default();
        let session = Lines {
            log: Arc::clone(&log),
            deadline: None,
            big: Bytes::from(vec![b'b'; BIG]),
        };
        let served = tokio::spawn(drive(
            connection,
            session,
            hub,
            receiver,
            DriverLimits::default(),
        ));
        Self {
            stream,
            shard,
            signals: sender,
            shutdown,
            log,
            served,
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn expect(&mut self, bytes: &[u8]) {
        let mut got = vec![0; bytes.len()];
        self.stream.read_exact(&mut got).await.unwrap();
        assert_eq!(
            String::from_utf8_lossy(&got),
            String::from_utf8_lossy(bytes)
        );
    }

    async fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.stream.read_to_string(&mut rest).await.unwrap();
        rest
    }
}

fn done(correlation: u64) -> Event {
    Event::reply(correlation, Ok(Reply::Done))
}

/// Lets every other task run until all wait for time or bytes.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn split_and_joined_frames_are_served_alike() {
    let mut peer = Peer::open();
    peer.send(b"a").await;
    settle().await;
    peer.send(b"b\ncom\nwh").await;
    peer.expect(b"ab\n").await;
    peer.send(b"o\n").await;
    peer.expect(b"who\n").await;
}

#[tokio::test(start_paused = true)]
async fn commands_go_to_the_broker_and_its_events_come_back() {
    let mut peer = Peer::open();
    peer.send(b"c\ns\n").await;
    settle().await;
    assert_eq!(*peer.shard.sent.lock(), vec![(1, Command::Stats)]);
    peer.shard.event(done(1));
    peer.expect(b"event\n").await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_events_keeps_nobody_from_being_read() {
    let mut peer = Peer::open();
    *peer.shard.flood.lock() = true;
    peer.send(b"c\n").await;
    for _ in 0..300 {
        peer.send(b"echo\n").await;
        peer.expect(b"echo\n").await;
    }
    *peer.shard.flood.lock() = false;
}

#[tokio::test(start_paused = true)]
async fn a_command_before_connecting_is_our_failure() {
    let mut peer = Peer::open();
    peer.send(b"s\n").await;
    assert!(peer.rest().await.is_empty());
    let error = peer.served.await.unwrap().unwrap_err();
    assert!(error.is_ours(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn last_words_reach_the_peer_before_the_close() {
    let mut peer = Peer::open();
    peer.send(b"B\nx\nnever\n").await;
    let rest = peer.rest().await;
    assert_eq!(rest.len(), BIG + 4);
    assert!(rest.ends_with("bad\n"));
    drop(peer.stream);
    assert!(matches!(
        peer.served.await.unwrap(),
        Err(ConnectionError::Violation(_))
    ));
    assert_eq!(*peer.log.lock(), ["Error"]);
}

#[tokio::test(start_paused = true)]
async fn lingering_ends_with_the_peer_or_after_its_time() {
    let mut peer = Peer::open();
    peer.send(b"q\n").await;
    assert!(peer.rest().await.is_empty());
    // The peer goes on sending and never closes; nothing blocks for ever.
    let before = Instant::now();
    peer.served.await.unwrap().unwrap();
    assert_eq!(*peer.log.lock(), ["Us"]);
    assert!(before.elapsed() < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_loses_its_client() {
    let mut peer = Peer::open();
    peer.send(b"c\n").await;
    settle().await;
    assert_eq!(*peer.shard.connected.lock(), 1);
    drop(peer.stream);
    peer.served.await.unwrap().unwrap();
    assert_eq!(*peer.shard.connected.lock(), 0);
    assert_eq!(*peer.log.lock(), ["Peer"]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_given_up() {
    let mut peer = Peer::open();
    peer.send(b"c\nB\n").await;
    settle().await;
    // Its events stay where they are meanwhile.
    peer.shard.event(done(1));
    settle().await;
    assert_eq!(peer.shard.events.lock().len(), 1);
    let error = peer.served.await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectionError::SlowPeer { .. }), "{error}");
    assert_eq!(*peer.log.lock(), ["Error"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_peer_that_takes_something_is_kept() {
    let mut peer = Peer::open();
    peer.send(b"B\n").await;
    let mut piece = [0; 1024];
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(45)).await;
        peer.stream.read_exact(&mut piece).await.unwrap();
    }
    assert!(!peer.served.is_finished());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_while_the_broker_has_enough() {
    let mut peer = Peer::open();
    peer.send(b"c\n").await;
    settle().await;
    *peer.shard.full.lock() = true;
    peer.send(b"s\n").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(peer.shard.sent.lock().len() <= 1);
    peer.send(b"s\ns\n").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(peer.shard.sent.lock().len() <= 1);
    *peer.shard.full.lock() = false;
    peer.shard.room.notify_one();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(peer.shard.sent.lock().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_a_pause_is_served_after_it() {
    let mut peer = Peer::open();
    peer.send(b"one\np\ntwo\n").await;
    peer.expect(b"one\n").await;
    settle().await;
    peer.signals.send("resumed\n");
    peer.expect(b"resumed\ntwo\n").await;
}

#[tokio::test(start_paused = true)]
async fn the_session_is_woken_at_its_deadline() {
    let mut peer = Peer::open();
    let before = tokio::time::Instant::now();
    peer.send(b"d\n").await;
    peer.expect(b"deadline\n").await;
    let waited = before.elapsed();
    assert!(waited >= Duration::from_secs(10) && waited < Duration::from_secs(11));
}

#[tokio::test(start_paused = true)]
async fn what_came_while_its_thread_was_busy_is_heard_before_a_deadline_is_judged() {
    // Bytes and events take turns at being first.
    for earlier in ["", "a\n"] {
        let mut peer = Peer::open();
        peer.send(earlier.as_bytes()).await;
        peer.expect(earlier.as_bytes()).await;
        peer.send(b"d\nc\n").await;
        settle().await;
        tokio::time::sleep(Duration::from_secs(9)).await;
        peer.shard.event(done(1));
        peer.send(b"d\n").await;
        tokio::time::advance(Duration::from_secs(9)).await;
        peer.expect(b"event\n").await;
        let before = tokio::time::Instant::now();
        peer.expect(b"deadline\n").await;
        let waited = before.elapsed();
        assert!(waited >= Duration::from_secs(10), "judged after {waited:?}");
    }
}

#[tokio::test]
async fn newcomers_and_those_that_catch_up_are_served_apart() {
    let apart = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("apart")
        .enable_all()
        .build()
        .unwrap();
    let hub = FakeHub::default();
    *hub.0.apart.lock() = Some(CatchUpHandle::on(apart.handle().clone()));
    let mut peer = Peer::open_on(hub);
    peer.send(b"T\n").await;
    peer.expect(b"apart\n").await;
    // It joins, and does not catch up.
    peer.send(b"c\n").await;
    let here = format!("{}\n", std::thread::current().name().unwrap());
    peer.send(b"e\n").await;
    peer.expect(b"e\n").await;
    peer.send(b"T\n").await;
    peer.expect(here.as_bytes()).await;
    peer.shard.catches_up.store(true, Ordering::Relaxed);
    peer.shard.event(done(1));
    peer.expect(b"event\n").await;
    peer.send(b"T\n").await;
    peer.expect(b"apart\n").await;
    // What becomes of it apart is heard here.
    peer.send(b"x\n").await;
    assert_eq!(peer.rest().await, "bad\n");
    drop(peer.stream);
    let error = peer.served.await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectionError::Violation(_)), "{error}");
    apart.shutdown_background();
}

#[tokio::test(start_paused = true)]
async fn a_stopping_server_waits_its_grace_and_no_longer() {
    let mut peer = Peer::open();
    peer.send(b"c\n").await;
    settle().await;
    let before = tokio::time::Instant::now();
    peer.shutdown.cancel();
    peer.expect(b"stopping\n").await;
    // The session does not close by itself.
    peer.served.await.unwrap().unwrap();
    assert_eq!(*peer.log.lock(), ["Shutdown"]);
    assert!(before.elapsed() < Duration::from_secs(10));
    assert_eq!(*peer.shard.connected.lock(), 0);
}
