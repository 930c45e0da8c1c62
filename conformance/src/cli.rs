//! The command line.

mod bench;

pub(crate) use bench::{BenchArgs, BenchCommand, CompareArgs, LoadArgs, Loop, PaceArgs, Scenario};

use crate::case::Case;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Black-box conformance suites and load for Omnilog, or for another broker of the same protocol.
#[derive(Debug, Parser)]
#[command(name = "omnilog-conformance", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run cases and say which held.
    Run(RunArgs),
    /// Print the names of the cases.
    List(SelectArgs),
    /// Load a broker: what it gets through, its CPU time, and the latency its clients see.
    Bench(Box<BenchArgs>),
}

#[derive(Debug, Args, Clone, Default)]
pub(crate) struct SelectArgs {
    /// Only these suites (kafka, amqp, mqtt, crossing, load, faults); all when none is named.
    #[arg(long = "suite", value_name = "SUITE")]
    pub(crate) suites: Vec<String>,
    /// Only cases whose `suite/name` contains one of these.
    #[arg(value_name = "PART")]
    pub(crate) filters: Vec<String>,
    /// Without cases whose `suite/name` contains one of these.
    #[arg(long, value_name = "PART")]
    pub(crate) except: Vec<String>,
    /// Also the long form of cases that have one, such as 20 rounds of kills instead of 4.
    #[arg(long)]
    pub(crate) long: bool,
}

impl SelectArgs {
    pub(crate) fn selects(&self, case: &Case) -> bool {
        let name = case.full_name();
        (self.suites.is_empty() || self.suites.iter().any(|suite| suite == case.suite))
            && (self.filters.is_empty() || self.filters.iter().any(|part| name.contains(part)))
            && !self.except.iter().any(|part| name.contains(part))
    }
}

/// Where the broker is: a gateway that is started here, or one that runs already.
#[derive(Debug, Args, Clone, Default)]
pub(crate) struct TargetArgs {
    /// The gateway's binary; by default `omnilog` beside this program.
    #[arg(long, value_name = "FILE")]
    pub(crate) gateway: Option<PathBuf>,
    /// Further configuration of the gateway, as its own --set.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// A running broker's Kafka listener; with any of these three no gateway is started.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) kafka: Option<String>,
    /// A running broker's AMQP listener.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) amqp: Option<String>,
    /// A running broker's MQTT listener.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) mqtt: Option<String>,
}

impl TargetArgs {
    pub(crate) fn is_foreign(&self) -> bool {
        self.kafka.is_some() || self.amqp.is_some() || self.mqtt.is_some()
    }
}

#[derive(Debug, Args, Clone)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) select: SelectArgs,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// How many cases run at a time (those that need a gateway of their own run alone).
    #[arg(long, default_value_t = 2)]
    pub(crate) jobs: usize,
    /// Write the results here as JUnit XML.
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// Write the results here as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Where the drivers in other languages lie.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/clients"))]
    pub(crate) clients_dir: PathBuf,
}
