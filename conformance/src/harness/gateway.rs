//! A gateway process: start, wait until ready, stop, kill, restart. Always ended by its own pid.

use super::Target;
use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const READY_WITHIN: Duration = Duration::from_secs(30);

/// Knows the binary and starts it.
#[derive(Debug)]
pub(crate) struct Launcher {
    binary: Option<PathBuf>,
    set: Vec<String>,
}

/// How a gateway is started.
#[derive(Debug, Clone, Default)]
pub(crate) struct GatewayOptions {
    /// Further `--set key=value`.
    pub(crate) set: Vec<String>,
    /// A command that runs the gateway as its last arguments, such as `prlimit --as=...`.
    pub(crate) wrapper: Vec<String>,
    /// The data directory; a fresh one when not given.
    pub(crate) data_dir: Option<PathBuf>,
}

impl Launcher {
    /// The binary named, or `omnilog` beside this program.
    pub(crate) fn new(binary: Option<&Path>, set: &[String]) -> Self {
        let beside = || {
            let path = std::env::current_exe().ok()?.with_file_name("omnilog");
            path.exists().then_some(path)
        };
        Self {
            binary: binary.map(Path::to_owned).or_else(beside),
            set: set.to_vec(),
        }
    }

    pub(crate) fn is_found(&self) -> bool {
        self.binary.as_deref().is_some_and(Path::exists)
    }

    /// Starts a gateway and waits until it is ready.
    pub(crate) fn start(&self, options: &GatewayOptions) -> anyhow::Result<Gateway> {
        let binary = self
            .binary
            .clone()
            .context("no omnilog binary beside this program; name one with --gateway")?;
        let room = tempfile::Builder::new()
            .prefix("omnilog-conformance-")
            .tempdir()?;
        let mut options = options.clone();
        options.set.splice(0..0, self.set.iter().cloned());
        let mut gateway = Gateway {
            data_dir: options
                .data_dir
                .clone()
                .unwrap_or_else(|| room.path().join("data")),
            binary,
            options,
            room,
            child: None,
            pid: None,
            target: Target::default(),
        };
        gateway.launch()?;
        Ok(gateway)
    }
}

/// A gateway process with its data directory.
#[derive(Debug)]
pub(crate) struct Gateway {
    binary: PathBuf,
    options: GatewayOptions,
    room: TempDir,
    data_dir: PathBuf,
    child: Option<Child>,
    /// The gateway's own process, which is a descendant of `child` under a wrapper.
    pid: Option<i32>,
    target: Target,
}

impl Gateway {
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Where its data lies.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// What the gateway printed.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.room.path().join("log")).unwrap_or_default()
    }

    /// The last lines of what it printed.
    pub(crate) fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    pub(crate) fn pid(&self) -> anyhow::Result<i32> {
        self.pid.context("the gateway is not running")
    }

    /// Other `--set key=value` from the next start on, in place of all there were.
    pub(crate) fn reconfigure(&mut self, set: Vec<String>) {
        self.options.set = set;
    }

    /// Starts the process, with the same data as before if it ran before.
    pub(crate) fn launch(&mut self) -> anyhow::Result<()> {
        let addresses = self.room.path().join("addresses.json");
        _ = fs::remove_file(&addresses);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.room.path().join("log"))?;
        let mut words: Vec<String> = self.options.wrapper.clone();
        words.push(self.binary.display().to_string());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args(["serve", "--data-dir"])
            .arg(&self.data_dir)
            .args(["--addresses-file"])
            .arg(&addresses);
        for key in [
            "listeners.kafka",
            "listeners.amqp",
            "listeners.mqtt",
            "admin",
        ] {
            // The same ports after a restart, as an operator's server has: clients find it again.
            let port = match key.rsplit('.').next() {
                Some("kafka") => &self.target.kafka,
                Some("amqp") => &self.target.amqp,
                Some("mqtt") => &self.target.mqtt,
                _ => &self.target.admin,
            };
            let address = port.as_deref().unwrap_or("127.0.0.1:0");
            command.args(["--set", &format!("{key}.bind={address}")]);
        }
        for set in &self.options.set {
            command.args(["--set", set]);
        }
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", words.join(" ")))?;
        self.pid = Some(child.id().cast_signed());
        self.child = Some(child);

        let deadline = Instant::now() + READY_WITHIN;
        self.target = loop {
            if let Some(status) = self.exited()? {
                bail!(
                    "the gateway exited at its start, {status}:\n{}",
                    self.log_tail()
                );
            }
            if let Ok(text) = fs::read(&addresses) {
                break serde_json::from_slice(&text).context("the addresses file")?;
            }
            ensure!(
                Instant::now() < deadline,
                "the gateway wrote no addresses within {READY_WITHIN:?}:\n{}",
                self.log_tail()
            );
            sleep(Duration::from_millis(20));
        };
        if !self.options.wrapper.is_empty() {
            self.pid = Some(self.own_pid(self.pid()?)?);
        }
        while let Err(error) = self.ready() {
            ensure!(
                Instant::now() < deadline,
                "not ready within {READY_WITHIN:?}: {error:#}\n{}",
                self.log_tail()
            );
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Asks the admin listener whether it is ready.
    pub(crate) fn ready(&self) -> anyhow::Result<()> {
        let status = self.admin_get("/readyz")?;
        ensure!(
            status.starts_with("HTTP/1.1 200"),
            "/readyz says {}",
            status.lines().next().unwrap_or_default()
        );
        Ok(())
    }

    /// One answer of the admin listener, head and body.
    pub(crate) fn admin_get(&self, path: &str) -> anyhow::Result<String> {
        let address = self.target.admin.as_deref().context("no admin listener")?;
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// The exit status, if the process has ended.
    pub(crate) fn exited(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?),
            None => bail!("the gateway is not running"),
        }
    }

    /// Waits for the process to end of itself.
    pub(crate) fn wait_exit(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.exited()? {
                self.child = None;
                self.pid = None;
                return Ok(status);
            }
            ensure!(
                Instant::now() < deadline,
                "the gateway still runs after {within:?}:\n{}",
                self.log_tail()
            );
            sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal to the gateway's own process.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(self.pid()?).context("a pid is never 0")?;
        kill_process(pid, signal).context("signal the gateway")
    }

    /// SIGKILL, as a crash of the process.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::KILL)?;
        self.wait_exit(Duration::from_secs(10))?;
        Ok(())
    }

    /// SIGTERM and a bounded wait.
    pub(crate) fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait_exit(Duration::from_secs(20))
    }

    fn own_pid(&self, wrapper: i32) -> anyhow::Result<i32> {
        let name = self.binary.file_name().context("a binary has a name")?;
        if fs::read_link(format!("/proc/{wrapper}/exe"))?.file_name() == Some(name) {
            return Ok(wrapper);
        }
        let children = fs::read_to_string(format!("/proc/{wrapper}/task/{wrapper}/children"))?;
        for child in children.split_whitespace() {
            if fs::read_link(format!("/proc/{child}/exe"))?.file_name() == Some(name) {
                return Ok(child.parse()?);
            }
        }
        bail!("no {} under process {wrapper}", name.display())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // A stopped process must run again to die under some wrappers.
            if let Some(pid) = self.pid.and_then(Pid::from_raw) {
                _ = kill_process(pid, Signal::CONT);
                _ = kill_process(pid, Signal::KILL);
            }
            _ = child.kill();
            _ = child.wait();
        }
    }
}
