//! Clients that measure while others attack.

use crate::harness::Target;
use crate::raw::{amqp, kafka, mqtt};
use anyhow::{Context as _, ensure};
use mqttbytes::QoS;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

/// The most that the 99th percentile of a round trip may exceed the control's.
const LATENCY_P99: Duration = Duration::from_millis(50);
const PERIOD: Duration = Duration::from_millis(10);
/// The probe that asks no broker.
const CONTROL: &str = "the machine alone";

/// One client of each protocol that sends a message every 10 ms and wants it back.
pub(super) struct Probes {
    stop: Arc<AtomicBool>,
    threads: Vec<(&'static str, JoinHandle<anyhow::Result<Vec<Duration>>>)>,
}

impl Probes {
    /// Starts them; the control writes in this directory.
    pub(super) fn start(target: &Target, dir: &Path) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();

        let mut client = kafka::Client::open(target.kafka()?)?;
        client.create("probe")?;
        let mut reader = kafka::Client::open(target.kafka()?)?;
        threads.push((
            "Kafka",
            probe(&stop, move |number| {
                let offset = client.produce("probe", &number.to_be_bytes())?;
                let got = reader.fetch("probe", offset, 1000)?;
                let (at, value) = got.first().context("the record can't be fetched")?;
                ensure!(
                    *at == offset && value[..] == number.to_be_bytes(),
                    "another record at {offset}"
                );
                Ok(())
            }),
        ));

        let mut client = amqp::Client::open(target.amqp()?)?;
        client.declare_queue("probe-queue", true)?;
        client.consume("probe-queue", 0, true)?;
        threads.push((
            "AMQP",
            probe(&stop, move |number| {
                client.publish("", "probe-queue", &number.to_be_bytes())?;
                let (_, body) = amqp::read_delivery(&mut client.reader)?;
                ensure!(
                    body == number.to_be_bytes(),
                    "another message than {number}"
                );
                Ok(())
            }),
        ));

        let mut publisher = mqtt::Client::open(target.mqtt()?, "probe-publisher", true)?;
        let mut subscriber = mqtt::Client::open(target.mqtt()?, "probe-subscriber", true)?;
        subscriber.subscribe("probe-mqtt/x", QoS::AtLeastOnce)?;
        threads.push((
            "MQTT",
            probe(&stop, move |number| {
                publisher.publish("probe-mqtt/x", QoS::AtLeastOnce, &number.to_be_bytes())?;
                let message = subscriber.receive()?;
                ensure!(
                    message.payload[..] == number.to_be_bytes(),
                    "another message than {number}"
                );
                Ok(())
            }),
        ));
        threads.push((CONTROL, probe(&stop, control(dir)?)));
        Ok(Self { stop, threads })
    }

    /// Ends the probes. What was lost is an error, and so is what was slow: each protocol's latency is held against
    /// what the machine itself takes for the like.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let mut figures = Vec::new();
        for (name, thread) in self.threads {
            let mut latencies = thread
                .join()
                .ok()
                .context("a probe panicked")?
                .with_context(|| format!("the {name} probe"))?;
            latencies.sort_unstable();
            let at = |percent: usize| latencies.get(latencies.len() * percent / 100).copied();
            let (p50, p99) = (at(50), at(99));
            let (p50, p99) = p50.zip(p99).context("the probe sent nothing")?;
            figures.push((name, p99, format!("{name} p50 {p50:?}, p99 {p99:?}")));
        }
        let all = figures
            .iter()
            .map(|(_, _, text)| text.as_str())
            .collect::<Vec<_>>()
            .join("; ");
        let machine = figures
            .iter()
            .find(|(name, ..)| *name == CONTROL)
            .map_or(Duration::ZERO, |(_, p99, _)| *p99);
        for (name, p99, _) in &figures {
            ensure!(
                *name == CONTROL || *p99 < LATENCY_P99 + machine,
                "the {name} probe is slow: {all}"
            );
        }
        Ok(())
    }
}

/// What the machine does without a broker: an echo over loopback by way of two threads, then a block synced to the same
/// disk. Under load from elsewhere it takes longer, and the probes with it.
fn control(dir: &Path) -> anyhow::Result<impl FnMut(u64) -> anyhow::Result<()> + Send + use<>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (to_far, inbox) = mpsc::channel::<[u8; 8]>();
    let mut reader = far.try_clone()?;
    thread::spawn(move || {
        let mut bytes = [0; 8];
        while reader.read_exact(&mut bytes).is_ok() && to_far.send(bytes).is_ok() {}
    });
    thread::spawn(move || {
        while let Ok(bytes) = inbox.recv() {
            if far.write_all(&bytes).is_err() {
                break;
            }
        }
    });
    let block = std::fs::File::create(dir.join("control"))?;
    block.write_all_at(&[1; 4096], 0)?;
    block.sync_all()?;
    Ok(move |number: u64| {
        for _ in 0..2 {
            near.write_all(&number.to_be_bytes())?;
            near.read_exact(&mut [0; 8])?;
        }
        block.write_all_at(&[number as u8; 4096], 0)?;
        Ok(block.sync_data()?)
    })
}

/// Carries out a round trip every 10 ms until told to stop; returns how long each took from when it was due.
fn probe(
    stop: &Arc<AtomicBool>,
    mut round_trip: impl FnMut(u64) -> anyhow::Result<()> + Send + 'static,
) -> JoinHandle<anyhow::Result<Vec<Duration>>> {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let start = Instant::now();
        let mut latencies = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let number = latencies.len() as u64;
            let due = start + PERIOD * latencies.len() as u32;
            sleep(due.saturating_duration_since(Instant::now()));
            round_trip(number).with_context(|| format!("message {number}"))?;
            latencies.push(due.elapsed());
        }
        Ok(latencies)
    })
}
