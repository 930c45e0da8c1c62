//! A mixed load over all three protocols that remembers what was acknowledged, and the check that all of it is kept.

use crate::harness::Target;
use crate::raw::{amqp, kafka, mqtt};
use anyhow::{Context as _, ensure};
use mqttbytes::QoS;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

const TOPIC: &str = "load-kafka";
const EXCHANGE: &str = "load-exchange";
const QUEUE: &str = "load-queue";
const MQTT_TOPIC: &str = "load-mqtt/x";
const MQTT_FILTER: &str = "load-mqtt/#";
const SESSION: &str = "load-session";

/// Numbers that were acknowledged, and numbers that were received with how often.
#[derive(Debug, Default)]
struct Ledger {
    acked: Mutex<BTreeSet<u64>>,
    received: Mutex<BTreeMap<u64, u32>>,
}

impl Ledger {
    fn ack(&self, number: u64) {
        self.acked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(number);
    }

    fn receive(&self, number: u64) {
        *self
            .received
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(number)
            .or_default() += 1;
    }

    fn acked(&self) -> BTreeSet<u64> {
        self.acked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn missing(&self) -> Vec<u64> {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        self.acked()
            .into_iter()
            .filter(|number| !received.contains_key(number))
            .collect()
    }
}

#[derive(Debug, Default)]
struct Ledgers {
    kafka: Ledger,
    amqp: Ledger,
    mqtt: Ledger,
    stop_publishing: AtomicBool,
    stop: AtomicBool,
}

/// Publishers and consumers that connect again whenever their connection breaks.
#[derive(Debug)]
pub(super) struct Load {
    target: Target,
    ledgers: Arc<Ledgers>,
    publishers: Vec<JoinHandle<()>>,
    consumers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Declares what the load needs and starts it.
    pub(super) fn start(target: &Target) -> anyhow::Result<Self> {
        kafka::Client::open(target.kafka()?)?.create(TOPIC)?;
        let mut client = amqp::Client::open(target.amqp()?)?;
        client.declare_exchange(EXCHANGE, "topic")?;
        client.declare_queue(QUEUE, true)?;
        client.bind(QUEUE, EXCHANGE, "#")?;
        mqtt::Client::open(target.mqtt()?, SESSION, false)?
            .subscribe(MQTT_FILTER, QoS::AtLeastOnce)?;
        let ledgers = Arc::new(Ledgers::default());
        let spawn = |work: fn(&Target, &Ledgers, &mut u64) -> anyhow::Result<()>,
                     publishes: bool| {
            let (target, ledgers) = (target.clone(), Arc::clone(&ledgers));
            thread::spawn(move || {
                let mut number = 0;
                let stopped = || {
                    ledgers.stop.load(Ordering::Relaxed)
                        || publishes && ledgers.stop_publishing.load(Ordering::Relaxed)
                };
                while !stopped() {
                    // A broken connection is what this load is about: go on with a new one.
                    if work(&target, &ledgers, &mut number).is_err() && !stopped() {
                        sleep(Duration::from_millis(20));
                    }
                }
            })
        };
        Ok(Self {
            target: target.clone(),
            publishers: vec![
                spawn(publish_kafka, true),
                spawn(publish_amqp, true),
                spawn(publish_mqtt, true),
            ],
            consumers: vec![spawn(consume_amqp, false), spawn(consume_mqtt, false)],
            ledgers,
        })
    }

    /// How many messages of each protocol were acknowledged so far.
    pub(super) fn acked(&self) -> [usize; 3] {
        let of = |ledger: &Ledger| ledger.acked().len();
        [
            of(&self.ledgers.kafka),
            of(&self.ledgers.amqp),
            of(&self.ledgers.mqtt),
        ]
    }

    /// Waits until each protocol has had further messages acknowledged.
    pub(super) fn progress(&self, within: Duration) -> anyhow::Result<()> {
        let before = self.acked();
        let deadline = Instant::now() + within;
        loop {
            let now = self.acked();
            if now.iter().zip(before).all(|(&now, before)| now > before) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "no acknowledgements within {within:?} (Kafka, AMQP, MQTT): {before:?}, then {now:?}"
            );
            sleep(Duration::from_millis(10));
        }
    }

    /// Ends the load and checks that everything acknowledged is there.
    pub(super) fn settle(mut self) -> anyhow::Result<()> {
        self.ledgers.stop_publishing.store(true, Ordering::Relaxed);
        for publisher in self.publishers.drain(..) {
            publisher.join().ok().context("a publisher panicked")?;
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline
            && !(self.ledgers.amqp.missing().is_empty() && self.ledgers.mqtt.missing().is_empty())
        {
            sleep(Duration::from_millis(50));
        }
        self.ledgers.stop.store(true, Ordering::Relaxed);
        for consumer in self.consumers.drain(..) {
            consumer.join().ok().context("a consumer panicked")?;
        }

        let address = self.target.kafka()?;
        check_log(address, TOPIC, &self.ledgers.kafka)?;
        // What AMQP and MQTT wrote is in logs too.
        check_log(address, EXCHANGE, &self.ledgers.amqp)?;
        check_log(address, "load-mqtt", &self.ledgers.mqtt)?;
        for (name, ledger) in [
            ("queue", &self.ledgers.amqp),
            ("session", &self.ledgers.mqtt),
        ] {
            let missing = ledger.missing();
            ensure!(
                missing.is_empty(),
                "{} of {} acknowledged messages never came out of the {name}: {:?}",
                missing.len(),
                ledger.acked().len(),
                &missing[..missing.len().min(8)]
            );
        }
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ledgers.stop_publishing.store(true, Ordering::Relaxed);
        self.ledgers.stop.store(true, Ordering::Relaxed);
    }
}

/// A topic holds every acknowledged number, each once, in the order of publishing.
fn check_log(address: &str, topic: &str, ledger: &Ledger) -> anyhow::Result<()> {
    let records = kafka::Client::open(address)?
        .read_all(topic)
        .with_context(|| format!("reading topic {topic}"))?;
    let numbers: Vec<u64> = records
        .iter()
        .map(|(_, value)| mqtt::number(value))
        .collect::<anyhow::Result<_>>()?;
    if let Some(pair) = numbers.windows(2).find(|pair| pair[0] >= pair[1]) {
        anyhow::bail!("topic {topic}: {} comes after {}", pair[1], pair[0]);
    }
    let kept: BTreeSet<u64> = numbers.into_iter().collect();
    let acked = ledger.acked();
    let lost: Vec<u64> = acked.difference(&kept).copied().collect();
    ensure!(
        lost.is_empty(),
        "topic {topic} lost {} of {} acknowledged records: {:?}",
        lost.len(),
        acked.len(),
        &lost[..lost.len().min(8)]
    );
    Ok(())
}

fn payload(number: u64) -> [u8; 64] {
    let mut payload = [b'x'; 64];
    payload[..8].copy_from_slice(&number.to_be_bytes());
    payload
}

/// Every attempt has a number of its own: what was not acknowledged may be kept or not, but never twice.
fn publish_kafka(target: &Target, ledgers: &Ledgers, number: &mut u64) -> anyhow::Result<()> {
    let mut client = kafka::Client::open(target.kafka()?)?;
    while !ledgers.stop_publishing.load(Ordering::Relaxed) {
        *number += 1;
        client.produce(TOPIC, &payload(*number))?;
        ledgers.kafka.ack(*number);
    }
    Ok(())
}

fn publish_amqp(target: &Target, ledgers: &Ledgers, number: &mut u64) -> anyhow::Result<()> {
    let mut client = amqp::Client::open(target.amqp()?)?;
    client.confirm()?;
    let mut confirm = 0;
    while !ledgers.stop_publishing.load(Ordering::Relaxed) {
        *number += 1;
        confirm += 1;
        client.publish(EXCHANGE, "k", &payload(*number))?;
        client.confirmed(confirm)?;
        ledgers.amqp.ack(*number);
    }
    Ok(())
}

fn publish_mqtt(target: &Target, ledgers: &Ledgers, number: &mut u64) -> anyhow::Result<()> {
    let mut client = mqtt::Client::open(target.mqtt()?, "load-publisher", true)?;
    while !ledgers.stop_publishing.load(Ordering::Relaxed) {
        *number += 1;
        client.publish(MQTT_TOPIC, QoS::AtLeastOnce, &payload(*number))?;
        ledgers.mqtt.ack(*number);
    }
    Ok(())
}

fn consume_amqp(target: &Target, ledgers: &Ledgers, _: &mut u64) -> anyhow::Result<()> {
    let mut client = amqp::Client::open(target.amqp()?)?;
    client
        .stream
        .set_read_timeout(Some(Duration::from_millis(500)))?;
    client.consume(QUEUE, 50, false)?;
    while !ledgers.stop.load(Ordering::Relaxed) {
        let (tag, body) = amqp::read_delivery(&mut client.reader)?;
        ledgers.amqp.receive(mqtt::number(&body)?);
        let mut ack = Vec::new();
        amqp::put_ack(&mut ack, tag);
        std::io::Write::write_all(&mut client.stream, &ack)?;
    }
    Ok(())
}

fn consume_mqtt(target: &Target, ledgers: &Ledgers, _: &mut u64) -> anyhow::Result<()> {
    let mut client = mqtt::Client::open(target.mqtt()?, SESSION, false)?;
    ensure!(client.session_present, "the session is gone");
    client
        .stream
        .set_read_timeout(Some(Duration::from_millis(500)))?;
    while !ledgers.stop.load(Ordering::Relaxed) {
        let message = client.receive()?;
        ledgers.mqtt.receive(mqtt::number(&message.payload)?);
    }
    Ok(())
}
