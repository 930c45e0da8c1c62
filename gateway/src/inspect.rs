//! `omnilog inspect`: what a server holds, asked of its admin interface; or what a data directory holds that no server
//! has open, which is only read.

use crate::admin::{self, Admin};
use crate::cli::{InspectArgs, InspectCommand};
use crate::config;
use crate::data_dir::DataDir;
use crate::engine;
use crate::metrics::Metrics;
use anyhow::{Context, bail};
use omnilog_broker::Broker;
use omnilog_ledger::{Env, JournalOptions};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);

pub(crate) fn run(args: &InspectArgs) -> anyhow::Result<()> {
    let settings = config::load(&args.config)?;
    let path = path(&args.command);
    let body = match (args.offline, args.admin) {
        (true, _) => offline(&settings, &path)?,
        (false, Some(address)) => get(address, &path)?,
        (false, None) => get(settings.admin.bind, &path)?,
    };
    // A line for people; what reads JSON does not mind.
    let body: serde_json::Value = serde_json::from_str(&body).context("not the answer's JSON")?;
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &body)?;
    writeln!(out)?;
    Ok(())
}

/// What is asked, as the admin interface takes it.
fn path(command: &InspectCommand) -> String {
    let mut path = String::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let first = if path.contains('?') { '&' } else { '?' };
            _ = write!(path, "{first}{name}={}", escaped(&value));
        }
    };
    let page = match command {
        InspectCommand::Topics(page)
        | InspectCommand::Queues(page)
        | InspectCommand::Sessions(page) => page,
        InspectCommand::Records(wanted) => {
            add("topic", Some(wanted.topic.clone()));
            add("namespace", wanted.namespace.clone());
            add("partition", Some(wanted.partition.to_string()));
            add("offset", wanted.offset.map(|offset| offset.to_string()));
            add("time_ms", wanted.time_ms.map(|time| time.to_string()));
            add("key", wanted.key.clone());
            add("message_id", wanted.message_id.clone());
            add("limit", Some(wanted.limit.to_string()));
            add("value_bytes", Some(wanted.value_bytes.to_string()));
            return format!("/api/records{path}");
        }
    };
    add("namespace", page.namespace.clone());
    add("name", page.name.clone());
    add("after", page.after.clone());
    add("limit", Some(page.limit.to_string()));
    let what = match command {
        InspectCommand::Queues(_) => "queues",
        InspectCommand::Sessions(_) => "sessions",
        _ => "topics",
    };
    format!("/api/{what}{path}")
}

/// Percent-encoding of everything that is not plain.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                escaped.push(char::from(byte));
            }
            byte => _ = write!(escaped, "%{byte:02X}"),
        }
    }
    escaped
}

/// Asks an admin interface.
fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_MAX).with_context(|| {
        format!("no server answers at {address}; --offline reads the data directory")
    })?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    write!(stream, "GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let Some((head, body)) = response.split_once("\r\n\r\n") else {
        bail!("{address} does not answer as an admin interface does");
    };
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if status != "200" {
        bail!("{}", body.trim());
    }
    Ok(body.to_owned())
}

/// Asks a server that is made for it, over a view of the data directory: nothing in that is changed.
fn offline(settings: &config::Settings, path: &str) -> anyhow::Result<String> {
    let dir = &settings.data_dir;
    if !dir.join("journal").is_dir() {
        bail!("there is no journal in {}", dir.display());
    }
    let _lock = DataDir::lock(dir)?;
    let options = JournalOptions {
        file_bytes: settings.journal.file_bytes,
        low_bytes: 0,
        reserve_bytes: 0,
        bytes_max: 0,
        ..JournalOptions::default()
    };
    let config = engine::broker_config(settings);
    let running = Broker::start(&Env::real().overlaid(), dir, options, config)
        .with_context(|| format!("cannot read the data in {}", dir.display()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let answer = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let admin = Admin {
            broker: running.broker().clone(),
            metrics: Arc::new(Metrics::new(1)),
            ready: Arc::new(AtomicBool::new(true)),
        };
        let stop = CancellationToken::new();
        tokio::spawn(admin::serve(admin, listener, stop.clone()));
        let path = path.to_owned();
        let answer = tokio::task::spawn_blocking(move || get(address, &path)).await?;
        stop.cancel();
        answer
    });
    running.stop().map_err(anyhow::Error::msg)?;
    answer
}
