//! Load, and what it costs the broker: CPU seconds per million messages at full speed and at a steady rate, and the
//! latency that clients see at that rate.

mod amqp;
mod kafka;
mod mqtt;

use crate::cli::{BenchArgs, Scenario};
use crate::clients::Clients;
use crate::harness::{Gateway, GatewayOptions, Launcher, Target, cpu_time};
use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::fs;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Bytes of an AMQP or MQTT message.
const BODY: usize = 128;

/// What a load did: how long it took from the first message sent to the last one received, and how long each message
/// took from when it was due, if it was paced.
struct Done {
    seconds: f64,
    latency: Option<Value>,
}

/// How a load is sent.
#[derive(Clone, Copy)]
struct Pace {
    messages: u64,
    /// Messages per second; as fast as the window allows when not given.
    rate: Option<u64>,
}

pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let (_gateway, target, pid) = broker(args)?;
    let clients = Clients::new(&args.clients_dir);
    let all = [
        Scenario::Kafka,
        Scenario::Amqp,
        Scenario::Mqtt0,
        Scenario::Mqtt1,
    ];
    let scenarios = if args.scenarios.is_empty() {
        &all[..]
    } else {
        &args.scenarios
    };
    let mut figures = Vec::new();
    let mut number = 0;
    for &scenario in scenarios {
        let full = Pace {
            messages: args.messages,
            rate: None,
        };
        let paced = Pace {
            messages: args.rate * args.paced_s,
            rate: Some(args.rate),
        };
        for (pace, runs) in [(full, args.runs.max(1)), (paced, 1)] {
            let mut measured = Vec::new();
            for _ in 0..runs {
                number += 1;
                measured.push(measure(scenario, pace, number, &target, &clients, pid)?);
            }
            measured.sort_by(|a, b| cpu_of(a).total_cmp(&cpu_of(b)));
            let figure = measured.swap_remove(measured.len() / 2);
            println!("{figure}");
            figures.push(figure);
        }
    }
    if let Some(file) = &args.json {
        let text = format!("{:#}\n", json!({"figures": figures}));
        fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn broker(args: &BenchArgs) -> anyhow::Result<(Option<Gateway>, Target, i32)> {
    if args.target.is_foreign() {
        let pid = args
            .pid
            .context("whose CPU time? name the broker's process with --pid")?;
        return Ok((None, Target::foreign(&args.target), pid));
    }
    let launcher = Launcher::new(args.target.gateway.as_deref(), &args.target.set);
    let gateway = launcher.start(&GatewayOptions::default())?;
    let (target, pid) = (gateway.target().clone(), gateway.pid()?);
    Ok((Some(gateway), target, pid))
}

fn measure(
    scenario: Scenario,
    pace: Pace,
    number: u32,
    target: &Target,
    clients: &Clients,
    pid: i32,
) -> anyhow::Result<Value> {
    // Whatever the run before left to do is done first.
    sleep(Duration::from_millis(700));
    let name = format!("bench-{}-{number}", std::process::id());
    let before = cpu_time(pid)?;
    let done = match scenario {
        Scenario::Kafka => kafka::run(target, clients, &name, pace),
        Scenario::Amqp => amqp::run(target.amqp()?, &name, pace),
        Scenario::Mqtt0 => mqtt::run(target.mqtt()?, &name, 0, pace),
        Scenario::Mqtt1 => mqtt::run(target.mqtt()?, &name, 1, pace),
    }
    .with_context(|| format!("{scenario:?}"))?;
    let cpu = (cpu_time(pid)? - before).as_secs_f64();
    let settings = match scenario {
        Scenario::Kafka => {
            "1 KiB, acks=all, one partition, no compression, librdkafka; linger 5 ms, paced 0 ms"
        }
        Scenario::Amqp => {
            "128 B persistent, durable queue, confirms, prefetch 1000, one ack each, window 1000"
        }
        Scenario::Mqtt0 => "128 B QoS 0, one to one, window 1000",
        Scenario::Mqtt1 => "128 B QoS 1, one to one, window 100",
    };
    Ok(json!({
        "scenario": format!("{scenario:?}").to_lowercase(),
        "settings": settings,
        "pace": pace.rate.map_or(json!("full"), |rate| json!(rate)),
        "messages": pace.messages,
        "messages_per_s": (pace.messages as f64 / done.seconds).round(),
        "broker_cpu_s_per_million": (cpu / pace.messages as f64 * 1e8).round() / 100.0,
        "latency": done.latency,
    }))
}

fn cpu_of(figure: &Value) -> f64 {
    figure["broker_cpu_s_per_million"]
        .as_f64()
        .unwrap_or(f64::MAX)
}

/// Latencies from when messages were due, in microseconds.
struct Latencies(Histogram<u64>);

impl Latencies {
    fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new(3)?))
    }

    fn record(&mut self, due_ns: u64, start: Instant) -> anyhow::Result<()> {
        let now = start.elapsed().as_nanos() as u64;
        Ok(self.0.record(now.saturating_sub(due_ns) / 1000)?)
    }

    fn summary(&self) -> Value {
        json!({
            "p50_us": self.0.value_at_quantile(0.5),
            "p99_us": self.0.value_at_quantile(0.99),
            "p99.9_us": self.0.value_at_quantile(0.999),
            "max_us": self.0.max(),
        })
    }
}

/// Sleeps until message `number` is due and returns that time in nanoseconds after the start.
fn await_due(start: Instant, number: u64, rate: u64) -> u64 {
    let due = Duration::from_nanos(number * 1_000_000_000 / rate);
    sleep(due.saturating_sub(start.elapsed()));
    due.as_nanos() as u64
}

/// A body that carries a number in front.
fn body(number: u64) -> [u8; BODY] {
    let mut body = [0x5a; BODY];
    body[..8].copy_from_slice(&number.to_be_bytes());
    body
}

fn all_came(received: u64, sent: u64) -> anyhow::Result<()> {
    ensure!(received == sent, "{received} of {sent} messages came");
    Ok(())
}
