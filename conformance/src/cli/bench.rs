//! The command line of the load program.

use super::TargetArgs;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// The loads that have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Kafka produce and fetch: 1 KiB, batches of 16 KiB, acks=all, one partition.
    Kafka,
    /// AMQP 128 B: a durable queue, persistent, confirms, prefetch 1000, one acknowledgement each.
    Amqp,
    /// MQTT 128 B QoS 0, one publisher to one subscriber.
    Mqtt0,
    /// MQTT 128 B QoS 1, one publisher to one subscriber.
    Mqtt1,
    /// MQTT 128 B QoS 0, one publisher to a hundred subscribers.
    Fanout,
    /// AMQP 128 B: each publish to 10,000 durable queues, which 10 connections consume.
    Queues,
    /// MQTT: 5,000 sessions with 1,000 messages waiting in each come back at once, beside a steady QoS 1 load.
    Resume,
    /// Kafka 1 KiB: a reader of 10 GB of old records, beside a steady load.
    Cold,
    /// Kafka 1 KiB: a million records are written, then read; in one topic, and in a thousand.
    CatchUp,
    /// AMQP 128 B: a steady load beside 20,000 queues that fill: with checkpoints and compaction all the time, and without.
    Upkeep,
}

impl Scenario {
    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

/// How fast and how long.
#[derive(Debug, Args, Clone)]
pub(crate) struct PaceArgs {
    /// Only the closed loop at full speed, or only the open loop at a steady rate.
    #[arg(long, value_enum)]
    pub(crate) only: Option<Loop>,
    /// Messages per second of the open loop.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) rate: u64,
    /// How long the open loop lasts.
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    pub(crate) steady_s: f64,
    /// The most messages of a closed loop.
    #[arg(long)]
    pub(crate) messages: Option<u64>,
    /// The longest time of a closed loop.
    #[arg(long)]
    pub(crate) seconds: Option<f64>,
}

/// How messages are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Loop {
    /// As fast as the windows allow.
    Closed,
    /// When they are due, at a steady rate.
    Open,
}

/// Settings of a load, where they differ from those of its name.
#[derive(Debug, Args, Clone, Default)]
pub(crate) struct LoadArgs {
    /// Bytes of a message.
    #[arg(long)]
    pub(crate) payload_bytes: Option<usize>,
    /// Connections that publish.
    #[arg(long)]
    pub(crate) publishers: Option<usize>,
    /// Connections that receive.
    #[arg(long)]
    pub(crate) subscribers: Option<usize>,
    /// Kafka topics of one partition, AMQP queues, or MQTT topics.
    #[arg(long)]
    pub(crate) topics: Option<usize>,
    /// MQTT: 0 or 1.
    #[arg(long)]
    pub(crate) qos: Option<u8>,
    /// AMQP: delivery mode 2?
    #[arg(long)]
    pub(crate) persistent: Option<bool>,
    /// AMQP: unacknowledged messages of a consumer.
    #[arg(long)]
    pub(crate) prefetch: Option<u16>,
    /// AMQP: one acknowledgement for so many messages; 0: none wanted.
    #[arg(long)]
    pub(crate) ack_batch: Option<u64>,
    /// Unacknowledged messages of a publisher; 0: AMQP without confirms.
    #[arg(long)]
    pub(crate) window: Option<u64>,
    /// Messages published and not yet delivered.
    #[arg(long)]
    pub(crate) undelivered_max: Option<u64>,
    /// Kafka: 0, 1, or -1 for all.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) acks: Option<i16>,
    /// Kafka: the size of a batch at full speed.
    #[arg(long)]
    pub(crate) batch_bytes: Option<usize>,
    /// Kafka: requests of a producer in flight.
    #[arg(long)]
    pub(crate) requests_max: Option<usize>,
    /// Messages sent before the measured ones of a closed loop.
    #[arg(long)]
    pub(crate) warm_up: Option<u64>,
    /// MQTT: sessions that come back during the load.
    #[arg(long)]
    pub(crate) sessions: Option<usize>,
    /// Messages that wait for each of them, or for the reader of old records.
    #[arg(long)]
    pub(crate) backlog: Option<u64>,
}

#[derive(Debug, Args, Clone)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) command: Option<BenchCommand>,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// What to measure; by default what a broker's three protocols allow of kafka, amqp, mqtt0, mqtt1 and fanout.
    #[arg(long = "scenario", value_enum)]
    pub(crate) scenarios: Vec<Scenario>,
    /// The process whose CPU time is read, with its children, when the broker runs already. Without it there is none.
    #[arg(long)]
    pub(crate) pid: Option<i32>,
    /// Runs of each, whose medians are reported.
    #[arg(long, default_value_t = 3)]
    pub(crate) runs: usize,
    #[command(flatten)]
    pub(crate) pace: PaceArgs,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Write the figures here as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Debug, Subcommand, Clone)]
pub(crate) enum BenchCommand {
    /// Run the gateway in turn with Apache Kafka, RabbitMQ and Mosquitto, which are started here.
    Compare(CompareArgs),
}

#[derive(Debug, Args, Clone)]
pub(crate) struct CompareArgs {
    /// The gateway's binary; by default `omnilog` beside this program.
    #[arg(long, value_name = "FILE")]
    pub(crate) gateway: Option<PathBuf>,
    /// Further configuration of every gateway, as its own --set.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// What to measure; kafka, amqp, mqtt0, mqtt1 and fanout when none is named.
    #[arg(long = "scenario", value_enum)]
    pub(crate) scenarios: Vec<Scenario>,
    /// Only these: omnilog, omnilog-written, omnilog-nolog, kafka, rabbitmq, mosquitto; all when none is named.
    #[arg(long = "broker", value_name = "NAME")]
    pub(crate) brokers: Vec<String>,
    /// Rounds in which each broker has its turn; medians are reported.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    #[command(flatten)]
    pub(crate) pace: PaceArgs,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Write the figures of every round, their medians and ratios here as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}
