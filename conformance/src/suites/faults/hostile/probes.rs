//! Clients that measure while others attack.

use crate::harness::Target;
use crate::raw::{amqp, kafka, mqtt};
use anyhow::{Context as _, bail, ensure};
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

/// The most that a round trip may take longer than the control's of the same time, at the 99th percentile.
const EXCESS_P99: Duration = Duration::from_millis(50);
const PERIOD: Duration = Duration::from_millis(10);
/// The probe that asks no broker.
const CONTROL: &str = "the machine alone";

/// A round trip that was due at a time, and how long after that it ended.
#[derive(Debug, Clone, Copy)]
struct Trip {
    due: Instant,
    took: Duration,
}

impl Trip {
    fn overlaps(&self, other: &Self) -> bool {
        self.due <= other.due + other.took && other.due <= self.due + self.took
    }
}

/// One client of each protocol that sends a message every 10 ms and wants it back.
pub(super) struct Probes {
    stop: Arc<AtomicBool>,
    threads: Vec<(&'static str, JoinHandle<anyhow::Result<Vec<Trip>>>)>,
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
    /// what the machine itself took for the like at the same time.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let mut probes = Vec::new();
        for (name, thread) in self.threads {
            let trips = thread
                .join()
                .ok()
                .context("a probe panicked")?
                .with_context(|| format!("the {name} probe"))?;
            probes.push((name, trips));
        }
        let control = probes.iter().find(|(name, _)| *name == CONTROL);
        let control: &[Trip] = control.map_or(&[], |(_, trips)| trips);
        let mut slow = None;
        let mut figures = Vec::new();
        for (name, trips) in &probes {
            let mut took: Vec<_> = trips.iter().map(|trip| trip.took).collect();
            took.sort_unstable();
            let mut excess = excesses(trips, control);
            excess.sort_unstable();
            let nothing = "the probe sent nothing";
            let p50 = quantile(&took, 50).context(nothing)?;
            let p99 = quantile(&took, 99).context(nothing)?;
            let excess = quantile(&excess, 99).context(nothing)?;
            figures.push(format!(
                "{name} p50 {p50:?}, p99 {p99:?}, {excess:?} more than the machine"
            ));
            if excess >= EXCESS_P99 {
                slow = Some(name);
            }
        }
        if let Some(name) = slow {
            bail!("the {name} probe is slow: {}", figures.join("; "));
        }
        Ok(())
    }
}

fn quantile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    sorted.get(sorted.len() * percent / 100).copied()
}

/// How much longer each of these took than the longest of the control's that were under way meanwhile. A disk that
/// stalls holds up all of them at once, and a broker's message for the sync that it finds under way and for its own:
/// over a whole run, a stall or two would say more of the machine than of the broker.
fn excesses(trips: &[Trip], control: &[Trip]) -> Vec<Duration> {
    trips
        .iter()
        .map(|trip| {
            let machine = control
                .iter()
                .filter(|other| other.overlaps(trip))
                .map(|other| other.took)
                .max();
            trip.took.saturating_sub(machine.unwrap_or_default())
        })
        .collect()
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
) -> JoinHandle<anyhow::Result<Vec<Trip>>> {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let start = Instant::now();
        let mut trips = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let number = trips.len() as u64;
            let due = start + PERIOD * trips.len() as u32;
            sleep(due.saturating_duration_since(Instant::now()));
            round_trip(number).with_context(|| format!("message {number}"))?;
            let took = due.elapsed();
            trips.push(Trip { due, took });
        }
        Ok(trips)
    })
}

#[cfg(test)]
mod tests {
    use super::{Trip, excesses};
    use std::time::{Duration, Instant};

    #[test]
    fn what_holds_up_the_machine_is_not_held_against_a_broker_and_what_does_not_is() {
        let start = Instant::now();
        let trip = |due_ms, took_ms| Trip {
            due: start + Duration::from_millis(due_ms),
            took: Duration::from_millis(took_ms),
        };
        let control = [trip(0, 2), trip(10, 300), trip(20, 440), trip(500, 2)];
        let probe = [trip(5, 455), trip(490, 1), trip(500, 300)];
        let excess = excesses(&probe, &control);
        assert_eq!(excess, [15, 1, 298].map(Duration::from_millis));
    }
}
