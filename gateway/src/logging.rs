//! Logs and panics.

use crate::config::{LogFormat, LogSettings};
use std::io::Write;
use tracing_subscriber::EnvFilter;

/// The exit code after a panic.
const PANICKED: i32 = 101;

/// Understands a log level, or a filter like `info,omnilog_amqp=debug`.
pub(crate) fn parse_filter(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder()
        .parse(level)
        .map_err(|error| error.to_string())
}

/// Starts logging to stderr. `RUST_LOG` overrides the configured level.
pub(crate) fn start(settings: &LogSettings) -> anyhow::Result<()> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(level) if !level.is_empty() => parse_filter(&level),
        _ => parse_filter(&settings.level),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter.map_err(anyhow::Error::msg)?)
        .with_writer(std::io::stderr);
    match settings.format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    }
    .map_err(anyhow::Error::from_boxed)
}

/// A panic in any thread ends the process: half a server that looks alive is worse than none, and a restart loses
/// nothing that was acknowledged.
pub(crate) fn exit_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::force_capture();
        tracing::error!(%panic, "panic, exiting");
        _ = writeln!(std::io::stderr(), "omnilog: {panic}\n{backtrace}");
        std::process::exit(PANICKED);
    }));
}
