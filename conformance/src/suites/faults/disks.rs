//! Disks that are slow, fail or are full.

use crate::case::Context;
use crate::harness::{Gateway, GatewayOptions, Target};
use crate::raw::{amqp, kafka, mqtt};
use anyhow::{Context as _, bail, ensure};
use mqttbytes::QoS;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// `strace` on every thread of a running gateway, ended when dropped.
struct Injection(Child);

impl Injection {
    fn attach(gateway: &Gateway, inject: &str) -> anyhow::Result<Self> {
        let pid = gateway.pid()?;
        let child = Command::new("strace")
            .args([
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                "trace=fdatasync,fsync,sync_file_range,msync",
            ])
            .args([
                "-e",
                &format!("inject=fdatasync,fsync:{inject}"),
                "-p",
                &pid.to_string(),
            ])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start strace")?;
        let injection = Self(child);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is_traced(pid)? {
            ensure!(
                Instant::now() < deadline,
                "strace doesn't attach to the gateway"
            );
            sleep(Duration::from_millis(20));
        }
        Ok(injection)
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        // SIGTERM lets it detach in order.
        if let Some(pid) = Pid::from_raw(self.0.id().cast_signed()) {
            _ = kill_process(pid, Signal::TERM);
        }
        _ = self.0.wait();
    }
}

fn is_traced(pid: i32) -> anyhow::Result<bool> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        if status.lines().any(|line| line == "TracerPid:\t0") {
            return Ok(false);
        }
    }
    Ok(true)
}

const QUEUE: &str = "disk-queue";

struct Clients {
    kafka: kafka::Client,
    amqp: amqp::Client,
    confirms: u64,
    mqtt: mqtt::Client,
}

impl Clients {
    fn open(target: &Target) -> anyhow::Result<Self> {
        let mut kafka = kafka::Client::open(target.kafka()?)?;
        kafka.create("disk-topic")?;
        let mut amqp = amqp::Client::open(target.amqp()?)?;
        amqp.declare_queue(QUEUE, true)?;
        amqp.confirm()?;
        let mqtt = mqtt::Client::open(target.mqtt()?, "disk-client", false)?;
        Ok(Self {
            kafka,
            amqp,
            confirms: 0,
            mqtt,
        })
    }

    fn confirmed_publish(&mut self, body: &[u8]) -> anyhow::Result<()> {
        self.confirms += 1;
        self.amqp.publish("", QUEUE, body)?;
        self.amqp.confirmed(self.confirms)
    }
}

/// No acknowledgement of any protocol comes before the sync that covers it.
pub(super) fn slow_sync(context: &Context<'_>) -> anyhow::Result<()> {
    let delay = Duration::from_millis(500);
    let gateway = context.start(&GatewayOptions::default())?;
    let mut clients = Clients::open(gateway.target())?;
    clients.kafka.produce("disk-topic", b"warm")?;
    clients.confirmed_publish(b"warm")?;
    let _slow = Injection::attach(&gateway, "delay_exit=500000")?;
    let mut early = Vec::new();
    for round in 0..3 {
        let mut time = |what: &str, act: &mut dyn FnMut() -> anyhow::Result<()>| {
            let start = Instant::now();
            act().with_context(|| format!("{what}, round {round}"))?;
            let took = start.elapsed();
            // The sync may have begun a moment before: a group formed earlier can't hold what was sent later, though.
            if took < delay - Duration::from_millis(5) {
                early.push(format!("{what} after {took:?}"));
            }
            anyhow::Ok(())
        };
        time("Kafka acks=all", &mut || {
            clients.kafka.produce("disk-topic", b"x").map(drop)
        })?;
        time("Kafka acks=1", &mut || {
            let body = kafka::produce_body("disk-topic", 1, &kafka::batch(&[b"y"]));
            kafka::produced(&clients.kafka.call(0, 7, &body)?).map(drop)
        })?;
        let confirms = clients.confirms + 1;
        clients.confirms = confirms;
        time("AMQP confirm", &mut || {
            clients.amqp.publish("", QUEUE, b"x")?;
            clients.amqp.confirmed(confirms)
        })?;
        time("MQTT PUBACK", &mut || {
            clients.mqtt.publish("disk/x", QoS::AtLeastOnce, b"x")
        })?;
        time("MQTT PUBREC", &mut || {
            clients.mqtt.publish("disk/x", QoS::ExactlyOnce, b"x")
        })?;
        clients.mqtt.complete()?;
        time("AMQP declare-ok of a durable queue", &mut || {
            clients
                .amqp
                .declare_queue(&format!("disk-new-{round}"), true)
                .map(drop)
        })?;
    }
    ensure!(
        early.is_empty(),
        "acknowledged before the sync: {}",
        early.join(", ")
    );
    Ok(())
}

/// A sync that fails is never acknowledged and ends the server; what was acknowledged before is kept.
pub(super) fn failed_sync(context: &Context<'_>) -> anyhow::Result<()> {
    let mut gateway = context.start(&GatewayOptions::default())?;
    let mut clients = Clients::open(gateway.target())?;
    for i in 0..20 {
        clients.kafka.produce("disk-topic", &[i])?;
        clients.confirmed_publish(&[i])?;
    }
    let broken = Injection::attach(&gateway, "error=EIO")?;
    if clients.confirmed_publish(b"lost").is_ok() {
        bail!("a publish was confirmed although the sync failed");
    }
    let status = gateway.wait_exit(Duration::from_secs(20))?;
    ensure!(
        !status.success(),
        "the gateway ended with {status} after a failed sync"
    );
    ensure!(
        clients.kafka.produce("disk-topic", b"lost").is_err(),
        "a record was acknowledged after the failed sync"
    );
    drop(broken);
    gateway
        .launch()
        .context("starting again after the failed sync")?;
    let kept = kafka::Client::open(gateway.target().kafka()?)?.read_all("disk-topic")?;
    ensure!(kept.len() >= 20, "{} of 20 records are left", kept.len());
    let count = amqp::Client::open(gateway.target().amqp()?)?.declare_queue(QUEUE, true)?;
    ensure!(
        (20..=21).contains(&count),
        "{count} messages are left of 20"
    );
    Ok(())
}

/// Past the low mark publishers are refused or blocked, consumers drain, nothing is lost.
pub(super) fn full(context: &Context<'_>) -> anyhow::Result<()> {
    let room = tempfile::tempdir()?;
    let options = |low: u64| GatewayOptions {
        set: vec![format!("journal.disk_low_bytes={low}")],
        data_dir: Some(room.path().join("data")),
        ..GatewayOptions::default()
    };
    let mut gateway = context.start(&GatewayOptions {
        set: Vec::new(),
        ..options(0)
    })?;
    let mut clients = Clients::open(gateway.target())?;
    for i in 0..100 {
        clients.kafka.produce("disk-topic", &[i])?;
        clients.confirmed_publish(&[i])?;
    }
    gateway.stop()?;

    // A mark beyond what the disk has left is as good as a full disk.
    let free = rustix::fs::statvfs(room.path())?;
    let mut gateway = context.start(&options(free.f_bavail * free.f_frsize + (1 << 33)))?;
    let target = gateway.target().clone();
    let short = Some(Duration::from_secs(3));
    let mut kafka = kafka::Client::open(target.kafka()?)?;
    kafka.stream.set_read_timeout(short)?;
    ensure!(
        kafka.produce("disk-topic", b"no room").is_err(),
        "a Kafka record was taken"
    );
    let mut mqtt = mqtt::Client::open(target.mqtt()?, "disk-full", true)?;
    mqtt.stream.set_read_timeout(short)?;
    ensure!(
        mqtt.publish("disk/x", QoS::AtLeastOnce, b"no room")
            .is_err(),
        "an MQTT message was acknowledged"
    );
    let mut publisher = amqp::Client::open(target.amqp()?)?;
    publisher.confirm()?;
    publisher.stream.set_read_timeout(short)?;
    publisher.publish("", QUEUE, b"no room")?;
    ensure!(
        publisher.confirmed(1).is_err(),
        "an AMQP message was confirmed"
    );

    let mut consumer = amqp::Client::open(target.amqp()?)?;
    consumer.consume(QUEUE, 10, false)?;
    for i in 0..100 {
        let (tag, body) = amqp::read_delivery(&mut consumer.reader)
            .with_context(|| format!("message {i} on a full disk"))?;
        ensure!(body == [i], "message {i} is {body:?}");
        let mut ack = Vec::new();
        amqp::put_ack(&mut ack, tag);
        std::io::Write::write_all(&mut consumer.stream, &ack)?;
    }
    let records = kafka::Client::open(target.kafka()?)?.read_all("disk-topic")?;
    ensure!(
        records.len() == 100,
        "{} of 100 records are readable",
        records.len()
    );
    sleep(Duration::from_millis(500));
    gateway.kill()?;

    let mut gateway = context.start(&GatewayOptions {
        set: Vec::new(),
        ..options(0)
    })?;
    let left = amqp::Client::open(gateway.target().amqp()?)?.declare_queue(QUEUE, true)?;
    // The refused publish may have been blocked inside the server rather than dropped.
    ensure!(left <= 1, "{left} messages are in the drained queue");
    let mut kafka = kafka::Client::open(gateway.target().kafka()?)?;
    kafka.produce("disk-topic", b"room again")?;
    gateway.stop()?;
    Ok(())
}
