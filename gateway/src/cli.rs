//! The command line.

use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
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
    /// Show what a server holds, or a data directory that no server has open (--offline).
    Inspect(InspectArgs),
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

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// The server's admin address; else the configuration's admin.bind.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "offline")]
    pub(crate) admin: Option<SocketAddr>,
    /// Read the data directory instead of asking a server. Nothing in it is changed.
    #[arg(long)]
    pub(crate) offline: bool,
    #[command(subcommand)]
    pub(crate) command: InspectCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum InspectCommand {
    /// Logs, with offsets and bytes.
    Topics(PageArgs),
    /// AMQP queues, with their messages and consumers.
    Queues(PageArgs),
    /// MQTT sessions, with their subscriptions and messages.
    Sessions(PageArgs),
    /// Records of a log: from an offset or a time on, of a key or with a message id.
    Records(RecordsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PageArgs {
    /// Only this one.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Those whose names come after this one: the last page's next_after.
    #[arg(long, conflicts_with = "name")]
    pub(crate) after: Option<String>,
    /// How many, at the most 1000.
    #[arg(long, default_value_t = 100)]
    pub(crate) limit: u32,
    /// The namespace; else the default one.
    #[arg(long)]
    pub(crate) namespace: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RecordsArgs {
    /// The log's name.
    #[arg(long)]
    pub(crate) topic: String,
    /// The partition.
    #[arg(long, default_value_t = 0)]
    pub(crate) partition: i32,
    /// From this offset on; else from the log's start.
    #[arg(long)]
    pub(crate) offset: Option<i64>,
    /// From the first record at or after this time on, Unix milliseconds.
    #[arg(long, conflicts_with = "offset")]
    pub(crate) time_ms: Option<i64>,
    /// Only records with this key.
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Only records with this message id.
    #[arg(long)]
    pub(crate) message_id: Option<String>,
    /// How many, at the most 1000.
    #[arg(long, default_value_t = 100)]
    pub(crate) limit: usize,
    /// Bytes of each value to show, at the most 65536.
    #[arg(long, default_value_t = 0)]
    pub(crate) value_bytes: usize,
    /// The namespace; else the default one.
    #[arg(long)]
    pub(crate) namespace: Option<String>,
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
