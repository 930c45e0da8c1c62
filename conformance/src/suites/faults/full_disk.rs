//! A disk that is really full, because somebody else fills it, also over a kill.

use crate::case::Context;
use crate::harness::{GatewayOptions, SmallDisk, Target};
use crate::raw::{amqp, kafka, mqtt};
use anyhow::{Context as _, ensure};
use mqttbytes::QoS;
use std::io::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

const QUEUE: &str = "full-queue";
const TOPIC: &str = "full-topic";

/// What was acknowledged.
#[derive(Debug, Default)]
struct Acknowledged {
    kafka: Vec<(i64, Vec<u8>)>,
    amqp: Vec<u32>,
    mqtt: Vec<u32>,
    next: u32,
}

impl Acknowledged {
    /// Publishes with each protocol once; says which of them were acknowledged.
    fn publish(&mut self, target: &Target) -> anyhow::Result<[bool; 3]> {
        let short = Some(Duration::from_millis(1500));
        self.next += 1;
        let number = self.next;
        let mut body = number.to_be_bytes().to_vec();
        body.resize(2000, 1);
        let mut kafka = kafka::Client::open(target.kafka()?)?;
        kafka.stream.set_read_timeout(short)?;
        let produced = kafka.produce(TOPIC, &body).ok();
        let mut amqp = amqp::Client::open(target.amqp()?)?;
        amqp.confirm()?;
        amqp.stream.set_read_timeout(short)?;
        amqp.publish("", QUEUE, &body)?;
        let confirmed = amqp.confirmed(1).is_ok();
        let mut mqtt = mqtt::Client::open(target.mqtt()?, "full-publisher", true)?;
        mqtt.stream.set_read_timeout(short)?;
        let acknowledged = mqtt.publish("full/x", QoS::AtLeastOnce, &body).is_ok();
        self.kafka.extend(produced.map(|offset| (offset, body)));
        self.amqp.extend(confirmed.then_some(number));
        self.mqtt.extend(acknowledged.then_some(number));
        Ok([produced.is_some(), confirmed, acknowledged])
    }

    /// Publishes until it goes for all protocols, or for none.
    fn publish_until(&mut self, target: &Target, goes: bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let went = self.publish(target)?;
            if went == [goes; 3] {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "Kafka, AMQP and MQTT are acknowledged: {went:?}, expected {goes}"
            );
        }
    }
}

/// Consumes and acknowledges so many messages; returns their numbers.
fn consume(target: &Target, count: usize) -> anyhow::Result<Vec<u32>> {
    let mut consumer = amqp::Client::open(target.amqp()?)?;
    consumer.consume(QUEUE, 10, false)?;
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let (tag, body) = amqp::read_delivery(&mut consumer.reader)
            .with_context(|| format!("message {} of {count}", numbers.len()))?;
        numbers.push(u32::from_be_bytes(body[..4].try_into()?));
        let mut ack = Vec::new();
        amqp::put_ack(&mut ack, tag);
        consumer.stream.write_all(&ack)?;
    }
    // Acknowledgements ride with the next group.
    sleep(Duration::from_millis(400));
    Ok(numbers)
}

/// Publishers wait, consumers drain, nothing that was acknowledged is lost, and all goes on when there is space.
pub(super) fn run(context: &Context<'_>) -> anyhow::Result<()> {
    let room = tempfile::tempdir()?;
    let at = room.path().join("disk");
    let disk = SmallDisk::mount(&at, 192)?;
    const MIB: u64 = 1 << 20;
    let mut gateway = context.start(&GatewayOptions {
        set: vec![
            format!("journal.file_bytes={}", 8 * MIB),
            format!("journal.disk_reserve_bytes={}", 32 * MIB),
            format!("journal.disk_low_bytes={}", 48 * MIB),
        ],
        wrapper: disk.wrapper(),
        data_dir: Some(at.join("data")),
    })?;
    let target = gateway.target().clone();
    kafka::Client::open(target.kafka()?)?.create(TOPIC)?;
    amqp::Client::open(target.amqp()?)?.declare_queue(QUEUE, true)?;
    let mut session = mqtt::Client::open(target.mqtt()?, "full-reader", false)?;
    session.subscribe("full/#", QoS::AtLeastOnce)?;
    drop(session);

    let mut sent = Acknowledged::default();
    for _ in 0..30 {
        ensure!(sent.publish(&target)? == [true; 3], "there is space");
    }
    let filler = disk.fill()?;
    sent.publish_until(&target, false)?;
    let mut consumed = consume(&target, 10)?;
    gateway.kill()?;
    gateway
        .launch()
        .context("starting again on the full disk")?;
    let target = gateway.target().clone();
    sent.publish_until(&target, false)?;
    consumed.extend(consume(&target, 10)?);
    let kept = kafka::Client::open(target.kafka()?)?.read_all(TOPIC)?;
    ensure!(
        sent.kafka.iter().all(|record| kept.contains(record)),
        "{} records were acknowledged, {} are there",
        sent.kafka.len(),
        kept.len()
    );

    drop(filler);
    sent.publish_until(&target, true)?;
    let left = amqp::Client::open(target.amqp()?)?.declare_queue(QUEUE, true)?;
    consumed.extend(consume(&target, left as usize)?);
    let lost: Vec<&u32> = sent
        .amqp
        .iter()
        .filter(|number| !consumed.contains(number))
        .collect();
    ensure!(lost.is_empty(), "AMQP messages {lost:?} are lost");
    let mut session = mqtt::Client::open(target.mqtt()?, "full-reader", false)?;
    session
        .stream
        .set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut received = Vec::new();
    while !sent.mqtt.iter().all(|number| received.contains(number)) {
        let message = session
            .receive()
            .with_context(|| format!("{} of {} MQTT messages", received.len(), sent.mqtt.len()))?;
        received.push(mqtt_number(&message.payload)?);
    }
    gateway.stop()?;
    Ok(())
}

fn mqtt_number(payload: &[u8]) -> anyhow::Result<u32> {
    Ok(u32::from_be_bytes(
        payload.get(..4).context("four bytes")?.try_into()?,
    ))
}
