//! Clients in other languages and programs: are they there, and how is a driver run?
//!
//! A driver gets the case's name and the addresses as arguments, prints JSON lines, of which `{"note": ...}` is kept for
//! the report, `{"skip": reason}` and `{"error": text}` decide, and exits with 0 only if the case held.

use crate::case::Client;
use crate::harness::{SmallDisk, Target};
use anyhow::{Context as _, bail};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Where clients are found.
#[derive(Debug)]
pub(crate) struct Clients {
    sources: PathBuf,
    cache: PathBuf,
}

impl Clients {
    pub(crate) fn new(sources: &Path) -> Self {
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let cache = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(home)
            .unwrap_or_else(std::env::temp_dir)
            .join("omnilog-conformance");
        Self {
            sources: sources.to_owned(),
            cache: std::env::var_os("OMNILOG_CLIENTS_CACHE").map_or(cache, PathBuf::from),
        }
    }

    /// Where `setup.sh` puts what it installs.
    pub(crate) fn cache(&self) -> &Path {
        &self.cache
    }

    /// Why a client can't be used here, if it can't.
    pub(crate) fn missing(&self, client: Client) -> Option<String> {
        let program = |name: &str| {
            let found = std::env::var_os("PATH").is_some_and(|path| {
                std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
            });
            (!found).then(|| format!("{name} is not installed"))
        };
        let prepared = |path: &str| {
            let missing = !self.cache.join(path).exists();
            missing.then(|| format!("{path} is missing: run conformance/clients/setup.sh"))
        };
        match client {
            Client::Python => prepared("python/.ready"),
            Client::Node => program("node").or_else(|| prepared("node/.ready")),
            Client::Java => program("java").or_else(|| prepared("java/.ready")),
            Client::Go => prepared("go/franz"),
            Client::Kcat => program("kcat"),
            Client::Mosquitto => program("mosquitto_pub").or_else(|| program("mosquitto_sub")),
            Client::Strace => program("strace"),
            Client::Prlimit => program("prlimit"),
            Client::Mounts => SmallDisk::not_permitted(),
        }
    }

    /// The command that runs a driver of this language.
    pub(crate) fn driver(&self, client: Client) -> anyhow::Result<Command> {
        Ok(match client {
            Client::Python => {
                let mut command = Command::new(self.cache.join("python/bin/python"));
                command.arg("-u").arg(self.sources.join("python/run.py"));
                command
            }
            Client::Node => {
                let mut command = Command::new("node");
                command
                    .arg(self.sources.join("node/run.js"))
                    .env("NODE_PATH", self.cache.join("node/node_modules"));
                command
            }
            Client::Java => {
                let mut command = Command::new("java");
                let java = self.cache.join("java");
                let path = format!("{}/classes:{}/lib/*", java.display(), java.display());
                command.args(["-Xshare:auto", "-XX:TieredStopAtLevel=1", "-Xmx256m"]);
                command.args(["-cp", &path, "omnilog.Run"]);
                command
            }
            Client::Go => Command::new(self.cache.join("go/franz")),
            _ => bail!("{client:?} is a program, not a driver"),
        })
    }

    /// Runs one case of a driver to its end, or kills it at the time limit.
    pub(crate) fn drive(
        &self,
        client: Client,
        case: &str,
        target: &Target,
        prefix: &str,
        phase: u32,
        within: Duration,
    ) -> anyhow::Result<Verdict> {
        let mut command = self.driver(client)?;
        command.arg(case).args(["--prefix", prefix]);
        command.args(["--phase", &phase.to_string()]);
        for (name, address) in [
            ("--kafka", &target.kafka),
            ("--amqp", &target.amqp),
            ("--mqtt", &target.mqtt),
        ] {
            if let Some(address) = address {
                command.args([name, address]);
            }
        }
        run_driver(command, within)
    }
}

/// What a driver said of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Held,
    Skipped(String),
}

fn run_driver(mut command: Command, within: Duration) -> anyhow::Result<Verdict> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    let stdout = child.stdout.take().context("stdout was piped")?;
    let mut stderr = child.stderr.take().context("stderr was piped")?;
    let (say, said) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = Vec::new();
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            lines.push(line);
        }
        _ = say.send(lines);
    });
    let (complain, complaints) = mpsc::channel();
    thread::spawn(move || {
        let mut text = Vec::new();
        _ = stderr.read_to_end(&mut text);
        _ = complain.send(String::from_utf8_lossy(&text).into_owned());
    });

    let deadline = Instant::now() + within;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            break None;
        }
        thread::sleep(Duration::from_millis(10));
    };
    let grace = Duration::from_secs(2);
    let lines = said.recv_timeout(grace).unwrap_or_default();
    let stderr = complaints.recv_timeout(grace).unwrap_or_default();
    let mut error = None;
    let mut notes: Vec<String> = Vec::new();
    for line in &lines {
        let Ok(value) = serde_json::from_str::<Value>(line) else {
            notes.push(line.clone());
            continue;
        };
        if let Some(reason) = value["skip"].as_str() {
            return Ok(Verdict::Skipped(reason.to_owned()));
        }
        if let Some(text) = value["error"].as_str() {
            error = Some(text.to_owned());
        }
        if let Some(note) = value.get("note") {
            notes.push(note.as_str().unwrap_or(line).to_owned());
        }
    }
    let end = match status {
        Some(status) if status.success() && error.is_none() => return Ok(Verdict::Held),
        Some(status) => status.to_string(),
        None => format!("still running after {within:?}"),
    };
    bail!(
        "{} ({end}){}{}",
        error.as_deref().unwrap_or("the driver failed"),
        last_lines("\nnotes: ", &notes.join("\n"), 8),
        last_lines("\nstderr: ", &stderr, 14),
    )
}

fn last_lines(title: &str, text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return String::new();
    }
    format!(
        "{title}{}",
        lines[lines.len().saturating_sub(count)..].join("\n")
    )
}
