//! Kafka: librdkafka (Python and kcat), the Java client, franz-go.

use super::{KAFKA, driver, restarted};
use crate::case::{Case, Client, Context, Run};
use anyhow::ensure;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        "confluent/produce_consume",
        "confluent/idempotent",
        "confluent/rebalance_two_members",
        "confluent/offsets_resume",
        "confluent/long_poll",
        "confluent/list_offsets_by_time",
        "confluent/create_delete_topics",
        "confluent/compression",
        "confluent/headers",
        "confluent/acks",
        "confluent/large_messages",
    ]
    .map(|name| driver("kafka", KAFKA, Client::Python, name))
    .to_vec();
    cases.extend(
        [
            "java/produce_consume",
            "java/rebalance_and_resume",
            "java/admin",
            "java/compression",
        ]
        .map(|name| driver("kafka", KAFKA, Client::Java, name)),
    );
    cases.extend(
        [
            "franz/produce_consume",
            "franz/group",
            "franz/resume",
            "franz/compression",
        ]
        .map(|name| driver("kafka", KAFKA, Client::Go, name)),
    );
    cases.push(kcat("kcat/produce_consume", produce_consume));
    cases.push(kcat("kcat/metadata_and_keys", metadata_and_keys));
    cases.push(restarted(
        "kafka",
        KAFKA,
        Client::Python,
        "confluent/committed_survive_restart",
    ));
    cases
}

fn kcat(name: &'static str, check: fn(&Context<'_>) -> anyhow::Result<()>) -> Case {
    Case {
        suite: "kafka",
        name,
        speaks: KAFKA,
        clients: &[Client::Kcat],
        timeout: Duration::from_secs(60),
        run: Run::Shared(check),
    }
}

/// Runs kcat within a time limit and returns what it printed.
fn run_kcat(context: &Context<'_>, args: &[&str], input: &str) -> anyhow::Result<String> {
    let mut child = Command::new("timeout")
        .args(["25", "kcat", "-b", context.target.kafka()?])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "kcat {args:?}: {}: {errors}",
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn produce_consume(context: &Context<'_>) -> anyhow::Result<()> {
    let topic = context.name("t");
    let lines: String = (0..100).map(|i| format!("line {i}\n")).collect();
    run_kcat(context, &["-t", &topic, "-P"], &lines)?;
    let read = run_kcat(
        context,
        &["-t", &topic, "-C", "-e", "-q", "-o", "beginning"],
        "",
    )?;
    ensure!(
        read == lines,
        "read {} lines: {read:.200}",
        read.lines().count()
    );
    let last = run_kcat(context, &["-t", &topic, "-C", "-e", "-q", "-o", "-3"], "")?;
    ensure!(
        last == "line 97\nline 98\nline 99\n",
        "the last three: {last}"
    );
    Ok(())
}

fn metadata_and_keys(context: &Context<'_>) -> anyhow::Result<()> {
    let topic = context.name("t");
    let produce = [
        "-t", &topic, "-P", "-K", ":", "-H", "a=1", "-H", "b=two", "-z", "snappy",
    ];
    run_kcat(context, &produce, "k1:v1\nk2:v2\n")?;
    let consume = [
        "-t",
        &topic,
        "-C",
        "-e",
        "-q",
        "-f",
        "%k=%s %h %o\n",
        "-o",
        "beginning",
    ];
    let read = run_kcat(context, &consume, "")?;
    ensure!(
        read == "k1=v1 a=1,b=two 0\nk2=v2 a=1,b=two 1\n",
        "read {read:?}"
    );
    let listed = run_kcat(context, &["-L", "-t", &topic], "")?;
    ensure!(
        listed.contains(&format!("topic \"{topic}\" with")),
        "listed {listed}"
    );
    ensure!(
        listed.contains(context.target.kafka()?),
        "the advertised address: {listed}"
    );
    Ok(())
}
