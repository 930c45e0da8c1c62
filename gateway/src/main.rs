//! One log under Kafka, AMQP 0-9-1 and MQTT: the gateway.
//!
//! The composition root: the only place that knows every protocol, the broker and the journal. [`serve`] puts them
//! together; the other modules are what a server needs around them.

mod addresses;
mod admin;
mod banner;
mod cli;
mod config;
mod data_dir;
mod engine;
mod inspect;
mod journal;
mod listeners;
mod logging;
mod memory;
mod metrics;
mod protocols;
mod serve;
mod shutdown;
mod tls;

use clap::Parser;
use cli::{Cli, Command, ConfigCommand};
use std::io::Write;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        None => serve::run(&cli.serve),
        Some(Command::Serve(args)) => serve::run(&args),
        Some(Command::Journal(command)) => journal::run(&command),
        Some(Command::Inspect(args)) => inspect::run(&args),
        Some(Command::Config(ConfigCommand::Check(args))) => check_config(&args),
        Some(Command::Config(ConfigCommand::HashPassword)) => hash_password(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The last word, also where logging is off or not set up yet.
            _ = writeln!(std::io::stderr(), "omnilog: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn hash_password() -> anyhow::Result<()> {
    let mut password = String::new();
    std::io::stdin().read_line(&mut password)?;
    let password = password.trim_end_matches(['\r', '\n']);
    anyhow::ensure!(!password.is_empty(), "no password on standard input");
    let hash = omnilog_auth::hash_password(password.as_bytes())?;
    writeln!(std::io::stdout(), "{hash}")?;
    Ok(())
}

fn check_config(args: &cli::ConfigArgs) -> anyhow::Result<()> {
    let settings = config::load(args)?;
    for listener in settings.listeners.values() {
        if let Some(tls) = &listener.tls {
            tls::read(tls)?;
        }
    }
    writeln!(std::io::stdout(), "the configuration is fine")?;
    Ok(())
}
