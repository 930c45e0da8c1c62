//! Kafka's load, through librdkafka.

use super::{Done, Pace};
use crate::case::Client;
use crate::clients::Clients;
use crate::harness::Target;
use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

pub(super) fn run(
    target: &Target,
    clients: &Clients,
    name: &str,
    pace: Pace,
) -> anyhow::Result<Done> {
    if let Some(missing) = clients.missing(Client::Python) {
        bail!("{missing}");
    }
    let case = if pace.rate.is_some() {
        "bench/kafka_paced"
    } else {
        "bench/kafka_full"
    };
    let output = clients
        .driver(Client::Python)?
        .args([case, "--kafka", target.kafka()?, "--prefix", name])
        .args(["--count", &pace.messages.to_string()])
        .args(["--rate", &pace.rate.unwrap_or(0).to_string()])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let result = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|line| line.get("result").cloned())
        .context("the driver gave no result")?;
    Ok(Done {
        seconds: result["seconds"]
            .as_f64()
            .context("the driver gave no time")?,
        latency: pace.rate.map(|_| result),
    })
}
