//! The command line.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// One log under Kafka, AMQP 0-9-1 and MQTT.
///
/// Without a command it serves, with its data in ./data: Kafka on 127.0.0.1:9092, AMQP on 127.0.0.1:5672, MQTT on
/// 127.0.0.1:1883, health and metrics on 127.0.0.1:8080.
#[derive(Debug, Parser)]
#[command(name = "omnilog", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve clients until stopped.
    Serve(ServeArgs),
    /// Look into a journal that no server has open.
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Look at a configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Args, Default)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Write the addresses that are listened on to this file, as JSON, once everything is ready.
    #[arg(long, value_name = "FILE")]
    pub(crate) addresses_file: Option<PathBuf>,
}

#[derive(Debug, Args, Default)]
pub(crate) struct ConfigArgs {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where the data lies; overrides the configuration's data_dir.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Override one key of the configuration, as in --set listeners.kafka.bind=127.0.0.1:0
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JournalCommand {
    /// Print every frame.
    Dump {
        /// The data directory.
        dir: PathBuf,
    },
    /// Read every frame and say whether all is well.
    Verify {
        /// The data directory.
        dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say what is wrong with a configuration, or that nothing is.
    Check(ConfigArgs),
    /// Read a password from standard input and print its hash, for a user's argon2 key.
    HashPassword,
}
