//! Mapping rules, path templates and the catch-all topic: where records are kept, which paths they have, and that it is
//! the same after a restart.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod support;

use bytes::Bytes;
use omnilog_broker::*;
use omnilog_record::RecordBatch;
use std::path::Path;
use support::*;

fn config() -> BrokerConfig {
    BrokerConfig {
        mapping: vec![MappingRule {
            filter: "sensors/+/temp/#".to_owned(),
            topic: Bytes::from_static(b"temps"),
            key: "{1}/{rest}".to_owned(),
            ..MappingRule::default()
        }],
        catch_all: Bytes::from_static(b"mqtt"),
        auto_names_principal_max: 2,
        ..BrokerConfig::default()
    }
}

fn start_mapped(dir: &Path) -> Running {
    start_with(dir, config())
}

async fn stop(running: Running) {
    tokio::task::spawn_blocking(|| running.stop())
        .await
        .unwrap()
        .unwrap();
}

/// Keys and values of all records of a topic.
async fn table(peer: &mut Peer, topic: &'static str) -> Vec<(Option<String>, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut found = Vec::new();
    let mut next = 0;
    loop {
        let fetched = peer.fetch(topic, next).await;
        for batch in fetched.batches {
            let batch = RecordBatch::parse(batch).unwrap();
            for record in batch.records(1 << 20).unwrap().iter() {
                let record = record.unwrap();
                next = record.offset + 1;
                found.push((record.key.map(text), text(record.value.unwrap_or_default())));
            }
        }
        if next >= fetched.high_watermark {
            return found;
        }
    }
}

fn row(key: &str, value: &str) -> (Option<String>, String) {
    (Some(key.to_owned()), value.to_owned())
}

fn create(name: &'static str, template: Option<&str>) -> Command {
    Command::CreateTopic(CreateTopic {
        name: Bytes::from_static(name.as_bytes()),
        partitions: Some(1),
        settings: LogSettings::default(),
        validate_only: false,
        path_template: template.map(str::to_owned),
    })
}

async fn describe(peer: &mut Peer, name: &'static str) -> TopicInfo {
    let topic = TopicRef::Name(Bytes::from_static(name.as_bytes()));
    match peer.ask(Command::DescribeTopics(Some(vec![topic]))).await {
        Ok(Reply::Topics(mut topics)) => topics.pop().unwrap().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn address(delivery: &Delivery) -> Address {
    delivery.message.envelope().unwrap().address.clone()
}

#[tokio::test]
async fn a_rule_says_topic_and_key_and_what_kafka_writes_there_has_the_rules_path() {
    let dir = tempfile::tempdir().unwrap();
    for turn in 0..2 {
        let running = start_mapped(dir.path());
        let mut mqtt_peer = Peer::join(&running);
        let mut kafka_peer = Peer::join(&running);
        let device = ["one", "two"][turn];
        mqtt_peer.subscribe(device, "sensors/k7/#").await;
        mqtt_peer.publish(mqtt("sensors/k7/temp/in"), "21").await;
        assert_eq!(value(&mqtt_peer.delivery().await.message), "21");
        let rows = table(&mut kafka_peer, "temps").await;
        assert_eq!(rows.len(), 1 + 2 * turn);
        assert_eq!(rows.last(), Some(&row("k7/in", "21")));
        let template = describe(&mut kafka_peer, "temps").await.path_template;
        assert_eq!(template.as_deref(), Some("sensors/{1}/temp/{rest}"));
        // Back by the inverse, live and by a link that begins anew after the restart.
        kafka_peer.append("temps", b"k7/out", "4").await;
        let delivery = mqtt_peer.delivery().await;
        assert_eq!(value(&delivery.message), "4");
        let topic = Bytes::from_static(b"sensors/k7/temp/out");
        assert_eq!(address(&delivery), Address::Mqtt { topic });
        assert_eq!(
            delivery.message.envelope().unwrap().provenance,
            Provenance::Kafka
        );
        // Paths that no rule matches are kept as ever.
        mqtt_peer.publish(mqtt("sensors/k7/hum"), "60").await;
        let rows = table(&mut kafka_peer, "sensors").await;
        assert_eq!(rows.last(), Some(&row("k7/hum", "60")));
        assert_eq!(value(&mqtt_peer.delivery().await.message), "60");
        drop((mqtt_peer, kafka_peer));
        stop(running).await;
    }
}

#[tokio::test]
async fn a_queue_bound_to_the_paths_exchange_gets_what_kafka_wrote_to_the_rules_topic() {
    let dir = tempfile::tempdir().unwrap();
    let running = start_mapped(dir.path());
    let mut amqp_peer = Peer::join(&running);
    let mut kafka_peer = Peer::join(&running);
    amqp_peer.declare("q").await;
    let binding = Binding {
        source: Bytes::from_static(b"amq.topic"),
        destination: Destination::Queue(Bytes::from_static(b"q")),
        routing_key: Bytes::from_static(b"sensors.*.temp.#"),
        arguments: Vec::new(),
    };
    amqp_peer.ask(Command::Bind(binding)).await.unwrap();
    amqp_peer.consume("q").await;
    kafka_peer.ask(create("temps", None)).await.unwrap();
    kafka_peer.append("temps", b"k7/in", "from kafka").await;
    assert_eq!(value(&amqp_peer.delivery().await.message), "from kafka");
    // And what AMQP publishes on the rule's paths is kept there.
    amqp_peer
        .publish(amqp("amq.topic", "sensors.k8.temp"), "from amqp")
        .await;
    let rows = table(&mut kafka_peer, "temps").await;
    assert_eq!(rows, [row("k7/in", "from kafka"), row("k8", "from amqp")]);
}

#[tokio::test]
async fn what_is_addressed_to_a_queue_is_in_no_rules_paths() {
    let dir = tempfile::tempdir().unwrap();
    let config = BrokerConfig {
        mapping: vec![MappingRule {
            filter: "#".to_owned(),
            topic: Bytes::from_static(b"all"),
            key: "{rest}".to_owned(),
            ..MappingRule::default()
        }],
        ..BrokerConfig::default()
    };
    let running = start_with(dir.path(), config);
    let mut peer = Peer::join(&running);
    peer.declare("work").await;
    peer.consume("work").await;
    for key in ["work", "nobody"] {
        peer.publish(amqp("", key), "task").await;
    }
    peer.publish(mqtt("work"), "by its path").await;
    for expected in ["task", "by its path"] {
        assert_eq!(value(&peer.delivery().await.message), expected);
    }
    assert_eq!(table(&mut peer, "all").await, [row("work", "by its path")]);
    assert_eq!(table(&mut peer, "work").await, [(None, "task".to_owned())]);
}

#[tokio::test]
async fn records_of_one_batch_go_where_each_ones_path_says() {
    let dir = tempfile::tempdir().unwrap();
    let running = start_mapped(dir.path());
    let mut peer = Peer::join(&running);
    let paths = [
        "sensors/a/temp/x",
        "sensors/a/temp/y",
        "sensors/a/hum",
        "sensors/b/temp/z",
    ];
    let messages: Vec<(Address, &str)> = paths.iter().map(|path| (mqtt(path), *path)).collect();
    let publish = gathered(&messages);
    peer.ask(Command::Publish(publish)).await.unwrap();
    let keys = |rows: Vec<(Option<String>, String)>| -> Vec<String> {
        rows.into_iter().filter_map(|(key, _)| key).collect()
    };
    assert_eq!(keys(table(&mut peer, "temps").await), ["a/x", "a/y", "b/z"]);
    assert_eq!(keys(table(&mut peer, "sensors").await), ["a/hum"]);
}

#[tokio::test]
async fn what_has_no_log_of_its_own_is_caught_and_declared_names_are_reserved() {
    let dir = tempfile::tempdir().unwrap();
    for turn in 0..2 {
        let running = start_mapped(dir.path());
        let mut peer = Peer::join(&running);
        peer.subscribe(["one", "two"][turn], "#").await;
        let long = format!("{}/x", "n".repeat(250));
        for path in [
            "/a/b",
            long.as_str(),
            "one/x",
            "two/x",
            "three/x",
            "$private/x",
        ] {
            peer.publish(mqtt(path), path).await;
        }
        let rows = table(&mut peer, "mqtt").await;
        let caught = [
            row("/a/b", "/a/b"),
            row(&long, &long),
            row("three/x", "three/x"),
        ];
        assert_eq!(rows.get(3 * turn..), Some(&caught[..]));
        assert_eq!(table(&mut peer, "two").await.len(), 1 + turn);
        for path in ["/a/b", long.as_str(), "one/x", "two/x", "three/x"] {
            assert_eq!(value(&peer.delivery().await.message), path);
        }
        // A queue of that name: its log is its own, whatever the cap.
        peer.declare("four").await;
        peer.publish(mqtt("four/x"), "4").await;
        assert_eq!(table(&mut peer, "four").await.len(), 1 + turn);
        drop(peer);
        stop(running).await;
    }
}

#[tokio::test]
async fn a_deleted_name_makes_room_for_another() {
    let dir = tempfile::tempdir().unwrap();
    let running = start_mapped(dir.path());
    let mut peer = Peer::join(&running);
    for path in ["one/x", "two/x", "three/x"] {
        peer.publish(mqtt(path), path).await;
    }
    assert_eq!(table(&mut peer, "mqtt").await, [row("three/x", "three/x")]);
    let one = TopicRef::Name(Bytes::from_static(b"one"));
    peer.ask(Command::DeleteTopic(one)).await.unwrap();
    peer.publish(mqtt("four/x"), "4").await;
    assert_eq!(table(&mut peer, "four").await, [row("x", "4")]);
}

#[tokio::test]
async fn templates_are_fixed_when_a_topic_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let running = start_mapped(dir.path());
    let mut peer = Peer::join(&running);
    let refused = |answer: Result<Reply, Refusal>| match answer {
        Err(Refusal::InvalidSetting(text)) => text,
        other => panic!("{other:?}"),
    };
    let other = peer.ask(create("temps", Some("t/{rest}"))).await;
    assert!(refused(other).contains("sensors/{1}/temp/{rest}"));
    let broken = peer.ask(create("x", Some("a/{1}/{1}"))).await;
    assert!(refused(broken).contains("twice"));
    peer.publish(mqtt("orders/eu"), "1").await;
    let late = peer.ask(create("orders", Some("o/{rest}"))).await;
    assert!(refused(late).contains("orders/{rest}"));
    peer.ask(create("own", Some("o/{1}/x"))).await.unwrap();
    // Its name is no path of its records: what is published there is kept elsewhere.
    peer.subscribe("device", "o/#").await;
    peer.append("own", b"eu", "kafka").await;
    let topic = Bytes::from_static(b"o/eu/x");
    assert_eq!(address(&peer.delivery().await), Address::Mqtt { topic });
    peer.publish(mqtt("own/y"), "2").await;
    assert_eq!(table(&mut peer, "mqtt").await, [row("own/y", "2")]);
    assert_eq!(table(&mut peer, "own").await, [row("eu", "kafka")]);
}

#[tokio::test]
async fn a_rule_for_a_topic_with_another_template_refuses_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    peer.publish(mqtt("temps/x"), "1").await;
    drop(peer);
    stop(running).await;
    let error = try_start(dir.path(), config()).unwrap_err().to_string();
    assert!(error.contains("'temps/{rest}'"), "{error}");
    assert!(error.contains("sensors/{1}/temp/{rest}"), "{error}");
}

#[tokio::test]
async fn a_rule_for_a_raw_view_refuses_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let with_raw = |name: &'static str| {
        let Command::CreateTopic(mut create) = create(name, None) else {
            panic!("it creates a topic");
        };
        create.settings.cleanup = Some(CleanupPolicy::Compact);
        let setting = (RAW_RETENTION_MS.to_owned(), "-1".to_owned());
        create.settings.others.push(setting);
        Command::CreateTopic(create)
    };
    let rule = |topic: &'static [u8]| BrokerConfig {
        mapping: vec![MappingRule {
            filter: "sensors/+/temp/#".to_owned(),
            topic: Bytes::from_static(topic),
            key: "{1}/{rest}".to_owned(),
            ..MappingRule::default()
        }],
        ..BrokerConfig::default()
    };
    let running = start_with(dir.path(), rule(b"temps.raw"));
    let mut peer = Peer::join(&running);
    let taken = peer.ask(with_raw("temps")).await;
    assert!(
        matches!(taken, Err(Refusal::InvalidSetting(_))),
        "{taken:?}"
    );
    peer.ask(with_raw("state")).await.unwrap();
    drop(peer);
    stop(running).await;
    let error = try_start(dir.path(), rule(b"state.raw")).unwrap_err();
    assert!(
        error.to_string().contains("'state.raw' is a raw view"),
        "{error}"
    );
    // Paths of its name are kept in no log of that name.
    let running = start_with(dir.path(), config());
    let mut peer = Peer::join(&running);
    peer.publish(mqtt("state.raw/x"), "1").await;
    assert_eq!(table(&mut peer, "mqtt").await, [row("state.raw/x", "1")]);
    assert_eq!(table(&mut peer, "state.raw").await, []);
}
