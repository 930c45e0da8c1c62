//! One running gateway, in a directory of its own, on free ports.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// A gateway; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) dir: TempDir,
    pub(crate) addresses: BTreeMap<String, SocketAddr>,
}

/// The command, not started yet.
pub(crate) fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_omnilog"));
    command
        .current_dir(dir)
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Every default listener on a free port.
pub(crate) fn free_ports() -> Vec<String> {
    [
        "listeners.kafka.bind",
        "listeners.amqp.bind",
        "listeners.mqtt.bind",
        "admin.bind",
    ]
    .iter()
    .map(|key| format!("--set={key}=127.0.0.1:0"))
    .chain(["--set=journal.file_bytes=8388608".to_owned()])
    .collect()
}

impl Server {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_in(TempDir::new().unwrap(), args)
    }

    /// Starts in a directory and waits until it says that it is ready.
    pub(crate) fn start_in(dir: TempDir, args: &[&str]) -> Self {
        let file = dir.path().join("addresses.json");
        let mut all: Vec<String> = vec!["serve".into(), "--addresses-file=addresses.json".into()];
        all.extend(free_ports());
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let mut child = command(dir.path(), &all).spawn().unwrap();
        let begun = Instant::now();
        loop {
            if let Ok(text) = std::fs::read_to_string(&file) {
                let addresses = serde_json::from_str(&text).unwrap();
                return Self {
                    child,
                    dir,
                    addresses,
                };
            }
            if child.try_wait().unwrap().is_some() || begun.elapsed() > PATIENCE {
                _ = child.kill();
                let output = child.wait_with_output().unwrap();
                panic!("not ready: {}", String::from_utf8_lossy(&output.stderr));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn connect(&self, listener: &str) -> TcpStream {
        let stream = TcpStream::connect(self.addresses[listener]).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// An HTTP GET of the admin interface: status line and body.
    pub(crate) fn get(&self, path: &str) -> (String, String) {
        let mut stream = self.connect("admin");
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Asks it to stop and waits for that. Its directory is left.
    pub(crate) fn stop(mut self) -> (ExitStatus, TempDir) {
        self.signal(rustix::process::Signal::TERM);
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < PATIENCE, "does not stop");
            std::thread::sleep(Duration::from_millis(10));
        };
        (status, self.take_dir())
    }

    /// Kills it, as the system would.
    pub(crate) fn kill(mut self) -> TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.take_dir()
    }

    fn take_dir(&mut self) -> TempDir {
        std::mem::replace(&mut self.dir, TempDir::new().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Runs to the end; the exit status, and what was said on stdout and stderr.
pub(crate) fn run(dir: &Path, args: &[&str]) -> (ExitStatus, String, String) {
    let output = command(dir, args).output().unwrap();
    (
        output.status,
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}
