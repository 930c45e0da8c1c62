//! Brokers to hold the gateway against: Apache Kafka, RabbitMQ and Mosquitto, as they are shipped, with data of their own
//! and on free ports of the loopback. Each is ended with everything it started.

mod kafka;
mod mosquitto;
mod rabbitmq;

use super::Target;
use super::proc_stat::descendants;
use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const READY_WITHIN: Duration = Duration::from_secs(90);

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OracleKind {
    Kafka,
    RabbitMq,
    Mosquitto,
}

impl OracleKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::RabbitMq => "rabbitmq",
            Self::Mosquitto => "mosquitto",
        }
    }

    /// Why it can't be started here, if it can't. `cache` is where `setup.sh` puts what it installs.
    pub(crate) fn missing(self, cache: &Path) -> Option<String> {
        let wanted = match self {
            Self::Kafka => cache.join("kafka/.ready"),
            Self::RabbitMq => PathBuf::from(rabbitmq::SERVER),
            Self::Mosquitto => PathBuf::from(mosquitto::SERVER),
        };
        (!wanted.exists()).then(|| {
            format!(
                "{} is missing: run conformance/clients/setup.sh oracles",
                wanted.display()
            )
        })
    }
}

/// A broker that runs.
#[derive(Debug)]
pub(crate) struct Oracle {
    kind: OracleKind,
    target: Target,
    room: TempDir,
    /// The broker last, after what it needs.
    children: Vec<Child>,
}

impl Oracle {
    /// Starts a broker and waits until it answers in its protocol.
    pub(crate) fn start(kind: OracleKind, cache: &Path) -> anyhow::Result<Self> {
        let room = tempfile::Builder::new()
            .prefix("omnilog-oracle-")
            .tempdir()?;
        let mut oracle = Self {
            kind,
            target: Target::default(),
            room,
            children: Vec::new(),
        };
        match kind {
            OracleKind::Kafka => kafka::launch(&mut oracle, cache),
            OracleKind::RabbitMq => rabbitmq::launch(&mut oracle),
            OracleKind::Mosquitto => mosquitto::launch(&mut oracle),
        }
        .and_then(|()| oracle.await_ready())
        .with_context(|| format!("{} doesn't start:\n{}", kind.name(), oracle.log_tail()))?;
        Ok(oracle)
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// The process whose use, with its descendants', is the broker's.
    pub(crate) fn pid(&self) -> anyhow::Result<i32> {
        let broker = self.children.last().context("the broker is not running")?;
        Ok(broker.id().cast_signed())
    }

    fn await_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let answer = match self.kind {
                OracleKind::Kafka => kafka::ask(&self.target),
                OracleKind::RabbitMq => rabbitmq::ask(&self.target),
                OracleKind::Mosquitto => mosquitto::ask(&self.target),
            };
            let Err(error) = answer else {
                return Ok(());
            };
            for child in &mut self.children {
                if let Some(status) = child.try_wait()? {
                    bail!("it ended: {status}");
                }
            }
            ensure!(
                Instant::now() < deadline,
                "not ready within {READY_WITHIN:?}: {error:#}"
            );
            sleep(Duration::from_millis(100));
        }
    }

    /// A file with this text among the broker's data.
    fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.room.path().join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// An empty folder among the broker's data.
    fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.room.path().join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    fn spawn(&mut self, mut command: Command) -> anyhow::Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.room.path().join("log"))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .current_dir(self.room.path());
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        self.children.push(child);
        Ok(())
    }

    /// Runs a command to its end, which must be a good one.
    fn run(&mut self, command: Command) -> anyhow::Result<()> {
        self.spawn(command)?;
        let mut child = self.children.pop().context("it was spawned")?;
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Some(status) = child.try_wait()? {
                ensure!(status.success(), "a preparation ended: {status}");
                return Ok(());
            }
            if Instant::now() >= deadline {
                child.kill()?;
                child.wait()?;
                bail!("a preparation takes longer than {READY_WITHIN:?}");
            }
            sleep(Duration::from_millis(20));
        }
    }

    fn log_tail(&self) -> String {
        let log = fs::read(self.room.path().join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // Scripts and virtual machines have children of their own, which must be known before their parents are gone.
        while let Some(mut child) = self.children.pop() {
            let pid = child.id().cast_signed();
            for member in descendants(pid).unwrap_or_default() {
                if let Some(member) = Pid::from_raw(member) {
                    _ = kill_process(member, Signal::KILL);
                }
            }
            _ = child.kill();
            _ = child.wait();
        }
    }
}

/// A port of the loopback that nobody has at the moment.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
