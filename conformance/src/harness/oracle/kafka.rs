//! Apache Kafka from its Maven packages: one process that is broker and controller, with the options of its start script.

use super::{Oracle, free_port};
use crate::harness::Target;
use crate::raw;
use std::path::Path;
use std::process::Command;

/// Any 16 bytes in URL-safe base64.
const CLUSTER_ID: &str = "b21uaWxvZy1iZW5jaC4uLg";

pub(super) fn launch(oracle: &mut Oracle, cache: &Path) -> anyhow::Result<()> {
    let (port, controller) = (free_port()?, free_port()?);
    let data = oracle.folder("data")?;
    let settings = format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
         controller.listener.names=CONTROLLER\n\
         inter.broker.listener.name=PLAINTEXT\n\
         num.network.threads=3\n\
         num.io.threads=8\n\
         socket.send.buffer.bytes=102400\n\
         socket.receive.buffer.bytes=102400\n\
         offsets.topic.replication.factor=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         log.dirs={}\n",
        data.display()
    );
    let settings = oracle.write("server.properties", &settings)?;
    let jars = cache.join("kafka/lib").join("*");
    let java = || {
        let mut command = Command::new("java");
        command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
        command.arg("-cp").arg(&jars);
        command
    };
    let mut format = java();
    format
        .args(["kafka.tools.StorageTool", "format", "--standalone"])
        .args(["-t", CLUSTER_ID, "-c"])
        .arg(&settings);
    oracle.run(format)?;
    let mut command = java();
    command
        .args(["-Xms1G", "-Xmx1G", "-server", "-XX:+UseG1GC"])
        .args([
            "-XX:MaxGCPauseMillis=20",
            "-XX:+ExplicitGCInvokesConcurrent",
        ])
        .args([
            "-XX:InitiatingHeapOccupancyPercent=35",
            "-Djava.awt.headless=true",
        ])
        .arg("kafka.Kafka")
        .arg(settings);
    oracle.target.kafka = Some(format!("127.0.0.1:{port}"));
    oracle.spawn(command)
}

pub(super) fn ask(target: &Target) -> anyhow::Result<()> {
    raw::kafka::Client::open(target.kafka()?)?.create("ready")
}
