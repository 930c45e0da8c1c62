//! Kafka: librdkafka (Python and kcat), the Java client, franz-go.

use super::{KAFKA, driver, restarted};
use crate::case::{Case, Client, Context, Run};
use crate::clients::Verdict;
use crate::harness::GatewayOptions;
use crate::raw::kafka as raw;
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
        "confluent/transaction_commit_and_abort",
        "confluent/transaction_open_hides_what_follows",
        "confluent/transaction_fences_the_one_before",
        "confluent/transaction_consume_produce",
        "confluent/transaction_times_out",
        "confluent/transaction_timeout_too_long",
    ]
    .map(|name| driver("kafka", KAFKA, Client::Python, name))
    .to_vec();
    cases.extend(
        [
            "java/produce_consume",
            "java/rebalance_and_resume",
            "java/admin",
            "java/compression",
            "java/transaction_commit_and_abort",
            "java/transaction_consume_produce",
            "java/transaction_zombie",
            "java/transaction_admin",
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
    cases.push(Case {
        timeout: Duration::from_secs(120),
        run: Run::Own(compacted),
        ..kcat("kcat/compacted", produce_consume)
    });
    cases.push(driver("kafka", KAFKA, Client::Python, "raw/read_only"));
    cases.push(Case {
        timeout: Duration::from_secs(120),
        run: Run::Own(raw_view),
        ..driver(
            "kafka",
            KAFKA,
            Client::Python,
            "raw/every_record_as_written",
        )
    });
    cases.push(restarted(
        "kafka",
        KAFKA,
        Client::Python,
        "confluent/committed_survive_restart",
    ));
    cases.push(restarted(
        "kafka",
        KAFKA,
        Client::Python,
        "confluent/transaction_survives_restart",
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
    run_kcat_at(context.target.kafka()?, args, input)
}

fn run_kcat_at(broker: &str, args: &[&str], input: &str) -> anyhow::Result<String> {
    let mut child = Command::new("timeout")
        .args(["25", "kcat", "-b", broker])
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

/// With these a gateway compacts what was written a second ago.
const COMPACTS_SOON: [&str; 7] = [
    "journal.file_bytes=1048576",
    "journal.disk_reserve_bytes=4194304",
    "journal.disk_low_bytes=8388608",
    "journal.checkpoint_ms=200",
    "journal.checkpoint_bytes=65536",
    "topics.message_bytes_max=200000",
    "memory.tail_bytes_max=1048576",
];

/// A compacted topic is read as it was written, before and after it was compacted, and after the gateway was killed.
fn raw_view(context: &Context<'_>) -> anyhow::Result<()> {
    let name = "raw/every_record_as_written";
    let mut gateway = context.start(&GatewayOptions {
        set: COMPACTS_SOON.map(str::to_owned).to_vec(),
        ..GatewayOptions::default()
    })?;
    for phase in 1..3 {
        if phase > 1 {
            gateway.kill()?;
            gateway.launch()?;
        }
        let (target, prefix) = (gateway.target(), &context.prefix);
        let (client, within) = (Client::Python, Duration::from_secs(100));
        let verdict = context
            .clients
            .drive(client, name, target, prefix, phase, within)?;
        if let Verdict::Skipped(reason) = verdict {
            anyhow::bail!("phase {phase} was skipped: {reason}");
        }
    }
    Ok(())
}

/// A reader of a compacted log comes to its end from any offset, and finds the last record of each key.
fn compacted(context: &Context<'_>) -> anyhow::Result<()> {
    const KEYS: usize = 10;
    const RECORDS: usize = 2000;
    let gateway = context.start(&GatewayOptions {
        set: COMPACTS_SOON.map(str::to_owned).to_vec(),
        ..GatewayOptions::default()
    })?;
    let broker = gateway.target().kafka()?.to_owned();
    let mut client = raw::Client::open(&broker)?;
    let settings = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.1"),
    ];
    client.create_with("table", &settings)?;
    let padding = "x".repeat(300);
    let lines: String = (0..RECORDS)
        .map(|n| format!("k{}:{n} {padding}\n", n % KEYS))
        .collect();
    let small = ["-X", "batch.size=10000"];
    let produce = [&["-P", "-t", "table", "-K", ":"], &small[..]].concat();
    run_kcat_at(&broker, &produce, &lines)?;
    // Other records push the table's out of memory and out of the newest file.
    let other: String = (0..6000)
        .map(|n| format!("{n} {}\n", "y".repeat(1000)))
        .collect();
    let produce = [&["-P", "-t", "other"], &small[..]].concat();
    let mut left = RECORDS;
    for _ in 0..40 {
        run_kcat_at(&broker, &produce, &other)?;
        std::thread::sleep(Duration::from_millis(500));
        let whole = [
            "-C",
            "-t",
            "table",
            "-e",
            "-q",
            "-o",
            "beginning",
            "-f",
            "%k %o %s\n",
        ];
        let read = run_kcat_at(&broker, &whole, "")?;
        left = read.lines().count();
        for key in 0..KEYS {
            let last = RECORDS - KEYS + key;
            let line = format!("k{key} {last} {last} {padding}");
            ensure!(read.contains(&line), "the last record of k{key} is lost");
        }
        if left < RECORDS / 4 {
            break;
        }
    }
    ensure!(left < RECORDS / 4, "{left} of {RECORDS} records are left");
    for from in ["1", "777", "1500", "1999"] {
        let rest = ["-C", "-t", "table", "-e", "-q", "-o", from, "-f", "%o\n"];
        let read = run_kcat_at(&broker, &rest, "")?;
        ensure!(read.lines().last() == Some("1999"), "from {from}: {read}");
    }
    Ok(())
}
