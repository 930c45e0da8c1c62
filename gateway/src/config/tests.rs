//! What a configuration may say, and how it is told off.

use super::*;
use crate::cli::ConfigArgs;
use std::io::Write;

fn load_text(text: &str, set: &[&str]) -> Result<Settings, String> {
    let mut file = tempfile::Builder::new()
        .prefix("config")
        .suffix(".toml")
        .tempfile()
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let args = ConfigArgs {
        config: Some(file.path().to_owned()),
        data_dir: None,
        set: set.iter().map(|set| (*set).to_owned()).collect(),
    };
    load(&args).map_err(|error| {
        let path = file.path().display().to_string();
        error.to_string().replace(&path, "FILE")
    })
}

#[track_caller]
fn refused(text: &str, set: &[&str], parts: &[&str]) {
    let error = load_text(text, set).expect_err("accepted");
    for part in parts {
        assert!(error.contains(part), "'{part}' is not in: {error}");
    }
}

#[test]
fn nothing_said_is_the_documented_default() {
    let settings = load_text("", &[]).unwrap();
    let binds: Vec<_> = settings
        .listeners
        .iter()
        .map(|(name, listener)| format!("{name} {}", listener.bind.unwrap()))
        .collect();
    assert_eq!(
        binds,
        [
            "amqp 127.0.0.1:5672",
            "kafka 127.0.0.1:9092",
            "mqtt 127.0.0.1:1883"
        ]
    );
    assert_eq!(settings.admin.bind.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.data_dir.to_str(), Some("./data"));
    assert_eq!(settings.durability, Durability::Synced);
}

#[test]
fn connections_have_two_threads_at_least_if_nothing_is_said() {
    let threads = |set: &[&str]| load_text("", set).unwrap().limits.connection_threads();
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(threads(&[]), (cores - 1).max(2));
    assert_eq!(threads(&["limits.connection_threads=1"]), 1);
    assert_eq!(threads(&["limits.connection_threads=1024"]), 1024);
    refused(
        "",
        &["limits.connection_threads=1025"],
        &["limits.connection_threads", "1024"],
    );
}

#[test]
fn single_keys_override_the_file() {
    let text = "[listeners.kafka]\nbind = \"127.0.0.1:1\"\nanonymous = false\n";
    let settings = load_text(
        text,
        &[
            "listeners.kafka.bind=127.0.0.1:0",
            "admin.bind=127.0.0.1:0",
            "durability=written",
            "topics.partitions_default = 4",
            "topics.log_none=[\"telemetry/*\"]",
        ],
    )
    .unwrap();
    let kafka = &settings.listeners["kafka"];
    assert_eq!(kafka.bind.unwrap().to_string(), "127.0.0.1:0");
    assert_eq!(kafka.anonymous, Some(false));
    assert_eq!(settings.admin.bind.port(), 0);
    assert_eq!(settings.durability, Durability::Written);
    assert_eq!(settings.topics.partitions_default, 4);
    assert_eq!(settings.topics.log_none, ["telemetry/*"]);
}

#[test]
fn unknown_keys_are_named_with_their_line() {
    refused(
        "\ndurabilty = \"synced\"\n",
        &[],
        &["FILE:2", "durabilty", "unknown field"],
    );
    refused(
        "[listeners.kafka]\nbind = \"127.0.0.1:0\"\nbnd = 1\n",
        &[],
        &["FILE:3", "listeners.kafka.bnd", "unknown field"],
    );
    refused(
        "",
        &["listeners.kafka.bnd=1"],
        &["--set listeners.kafka.bnd=1", "unknown field"],
    );
    refused("", &["nonsense"], &["--set nonsense", "KEY=VALUE"]);
}

#[test]
fn wrong_values_are_named_with_their_line() {
    refused(
        "durability = \"fast\"",
        &[],
        &["FILE:1", "durability", "fast"],
    );
    refused("[admin]\nbind = 8080\n", &[], &["FILE:2", "admin.bind"]);
    refused(
        "[admin]\nbind = \"nowhere\"\n",
        &[],
        &["FILE:2", "admin.bind"],
    );
    refused("", &["admin.bind=nowhere"], &["--set admin.bind=nowhere"]);
    refused(
        "[topics]\npartitions_default = 0\n",
        &[],
        &["FILE:2", "topics.partitions_default"],
    );
    refused("[log]\nlevel = \"a=b=c\"\n", &[], &["FILE:2", "log.level"]);
    refused("a = \n", &[], &["FILE:1"]);
}

#[test]
fn contradictions_are_refused() {
    refused(
        "[listeners.mqtt]\nbind = \"127.0.0.1:9092\"\n",
        &[],
        &[
            "FILE:2",
            "listeners.mqtt.bind",
            "already taken by listeners.kafka.bind",
        ],
    );
    refused(
        "",
        &["listeners.amqp.bind=0.0.0.0:8080"],
        &[
            "--set listeners.amqp.bind=0.0.0.0:8080",
            "already taken by admin.bind",
        ],
    );
    refused(
        "[listeners.x]\nbind = \"127.0.0.1:0\"\n",
        &[],
        &["listeners.x", "protocol is missing"],
    );
    refused(
        "[listeners.x]\nprotocol = \"mqtt\"\n",
        &[],
        &["FILE:1", "listeners.x", "bind is missing"],
    );
    refused(
        "[listeners.kafka]\nprotocol = \"mqtt\"\n",
        &[],
        &["FILE:2", "speaks kafka"],
    );
    refused(
        "[listeners.mqtt.tls]\ncert = \"a.pem\"\n",
        &[],
        &["FILE:1", "listeners.mqtt.tls", "key"],
    );
    refused(
        "[listeners.mqtt.tls]\ncert = \"/none/a.pem\"\nkey = \"/none/b.pem\"\n",
        &[],
        &["FILE:2", "listeners.mqtt.tls.cert", "/none/a.pem"],
    );
    refused("[users.a]\n", &[], &["FILE:1", "users.a", "missing"]);
    refused(
        "[users.a]\npassword = \"x\"\nargon2 = \"y\"\n",
        &[],
        &["users.a", "exclude"],
    );
    refused(
        "[users.a]\nargon2 = \"y\"\n",
        &[],
        &["FILE:2", "users.a.argon2"],
    );
    refused("namespaces = []", &[], &["FILE:1", "namespaces"]);
    refused("namespaces = [\"/\", \"/\"]", &[], &["FILE:1", "twice"]);
    refused(
        "[journal]\nfile_bytes = 1_048_576\n",
        &[],
        &["topics.message_bytes_max", "journal.file_bytes"],
    );
    refused(
        "",
        &[
            "listeners.kafka.enabled=false",
            "listeners.amqp.enabled=false",
            "listeners.mqtt.enabled=false",
        ],
        &["listeners", "disabled"],
    );
}

#[test]
fn mapping_rules_without_an_inverse_are_refused_by_key_and_line() {
    let rule = |filter: &str, topic: &str, key: &str| {
        format!("[[topics.mapping]]\nfilter = \"{filter}\"\ntopic = \"{topic}\"\nkey = \"{key}\"\n")
    };
    let good = rule("a/+/#", "t", "{1}/{rest}");
    load_text(&good, &[]).unwrap();
    refused(
        &(good.clone() + &rule("b/+/#", "u", "{1}")),
        &[],
        &["FILE:8", "topics.mapping.1.key", "{rest} is missing"],
    );
    refused(
        &(good.clone() + &rule("b/#", "t", "{rest}")),
        &[],
        &[
            "FILE:7",
            "topics.mapping.1.topic",
            "rule 1 writes to 't' already",
        ],
    );
    refused(
        &rule("a/#/b", "t", "{rest}"),
        &[],
        &["FILE:2", "topics.mapping.0.filter", "wildcard"],
    );
    refused(
        &(good.clone() + "partition_key = \"{2}\"\n"),
        &[],
        &[
            "FILE:5",
            "topics.mapping.0.partition_key",
            "no wildcard for {2}",
        ],
    );
    refused(
        &(good.clone() + "partitions = 0\n"),
        &[],
        &["FILE:5", "topics.mapping.0.partitions"],
    );
    refused(
        &format!("[topics]\nlog_none = [\"t*\"]\n{good}"),
        &[],
        &["FILE:5", "topics.mapping.0.topic", "topics.log_none"],
    );
    refused(
        &format!("[topics]\ncatch_all = \"t\"\n{good}"),
        &[],
        &["FILE:2", "topics.catch_all", "rule 1 writes to this topic"],
    );
    refused(
        "[topics]\ncatch_all = \"m\"\ncatch_all_partition_key = \"x\"\n",
        &[],
        &["FILE:3", "topics.catch_all_partition_key", "no placeholder"],
    );
    refused(
        "[topics]\ncatch_all_partition_key = \"x\"\n",
        &[],
        &["FILE:2", "topics.catch_all_partition_key", "no placeholder"],
    );
    refused(
        &(good + "keys = 1\n"),
        &[],
        &["FILE:5", "unknown field `keys`"],
    );
    let unfinished = "topics.mapping=[{filter = \"a/+\", topic = \"t\"}]";
    refused(
        "",
        &[unfinished],
        &["--set", "topics.mapping: missing field `key`"],
    );
}

#[test]
fn port_zero_and_disabled_listeners_collide_with_nobody() {
    load_text(
        "[listeners.kafka]\nbind = \"127.0.0.1:0\"\n[listeners.mqtt]\nbind = \"127.0.0.1:0\"\n",
        &["admin.bind=127.0.0.1:0"],
    )
    .unwrap();
    load_text(
        "[listeners.mqtt]\nenabled = false\nbind = \"127.0.0.1:9092\"\n",
        &[],
    )
    .unwrap();
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    let text = include_str!("../../../configs/default.toml");
    let documented = format!("{:?}", load_text(text, &[]).unwrap());
    let built_in = format!("{:?}", load_text("", &[]).unwrap());
    assert_eq!(documented, built_in);
    // Every key is there, at least in a comment.
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for field in built_in.split(": ").filter(|part| !part.is_empty()) {
        let name = field.rsplit(|c| !is_name(c)).next().unwrap();
        if !name.is_empty() && name.starts_with(|c: char| c.is_ascii_lowercase()) {
            assert!(
                text.contains(name),
                "configs/default.toml has no word on {name}"
            );
        }
    }
}
