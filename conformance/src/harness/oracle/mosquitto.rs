//! Mosquitto, with the persistence that Debian's package switches on.

use super::{Oracle, free_port};
use crate::harness::Target;
use crate::raw;
use std::process::Command;

pub(super) const SERVER: &str = "/usr/sbin/mosquitto";

pub(super) fn launch(oracle: &mut Oracle) -> anyhow::Result<()> {
    let port = free_port()?;
    let data = oracle.folder("data")?;
    let mut settings = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\n\
         log_dest stderr\nlog_type error\nlog_type warning\n",
        data.display()
    );
    if rustix::process::geteuid().is_root() {
        // Else it becomes a user that may not write here.
        settings.push_str("user root\n");
    }
    let settings = oracle.write("mosquitto.conf", &settings)?;
    let mut command = Command::new(SERVER);
    command.arg("-c").arg(settings);
    oracle.target.mqtt = Some(format!("127.0.0.1:{port}"));
    oracle.spawn(command)
}

pub(super) fn ask(target: &Target) -> anyhow::Result<()> {
    raw::mqtt::Client::open(target.mqtt()?, "ready", true).map(drop)
}
