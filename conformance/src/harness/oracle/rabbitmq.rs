//! RabbitMQ: the node in the foreground, and a port mapper of its own instead of the machine's.

use super::{Oracle, free_port};
use crate::harness::Target;
use crate::raw;
use std::process::Command;

/// Not the command in the path, which changes the user and writes to the system's folders.
pub(super) const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

pub(super) fn launch(oracle: &mut Oracle) -> anyhow::Result<()> {
    let (port, mapper, distribution) = (free_port()?, free_port()?, free_port()?);
    let home = oracle.folder("home")?;
    let data = oracle.folder("mnesia")?;
    let logs = oracle.folder("logs")?;
    let plugins = oracle.write("enabled_plugins", "[].\n")?;
    let settings = oracle.write("rabbitmq.conf", "loopback_users.guest = true\n")?;
    let nothing = oracle.write("rabbitmq-env.conf", "")?;

    let mut command = Command::new("epmd");
    command.args(["-address", "127.0.0.1", "-port", &mapper.to_string()]);
    oracle.spawn(command)?;

    let mut command = Command::new(SERVER);
    command
        .env("HOME", home)
        .env("ERL_EPMD_PORT", mapper.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODENAME", format!("bench{port}@localhost"))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port.to_string())
        .env("RABBITMQ_DIST_PORT", distribution.to_string())
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-kernel inet_dist_use_interface {127,0,0,1}",
        )
        .env("RABBITMQ_CONF_ENV_FILE", nothing)
        .env("RABBITMQ_CONFIG_FILE", settings)
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins)
        .env("RABBITMQ_PID_FILE", data.join("pid"))
        .env("RABBITMQ_MNESIA_BASE", data)
        .env("RABBITMQ_LOG_BASE", logs)
        .env("RABBITMQ_LOGS", "-");
    oracle.target.amqp = Some(format!("127.0.0.1:{port}"));
    oracle.spawn(command)
}

pub(super) fn ask(target: &Target) -> anyhow::Result<()> {
    raw::amqp::Client::open(target.amqp()?).map(drop)
}
