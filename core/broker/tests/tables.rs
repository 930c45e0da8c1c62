//! Topics with `omnilog.retain=latest`: what Kafka clients write there are retained messages.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use bytes::Bytes;
use omnilog_broker::*;
use std::collections::BTreeMap;
use std::time::Duration;
use support::*;

fn topic(name: &'static str) -> TopicRef {
    TopicRef::Name(Bytes::from_static(name.as_bytes()))
}

fn retain(value: &str) -> LogSettings {
    LogSettings {
        others: vec![(RETAIN.to_owned(), value.to_owned())],
        ..LogSettings::default()
    }
}

async fn create(peer: &mut Peer, name: &'static str, value: &str, template: Option<&str>) {
    let create = CreateTopic {
        name: Bytes::from_static(name.as_bytes()),
        partitions: Some(1),
        settings: retain(value),
        validate_only: false,
        path_template: template.map(str::to_owned),
    };
    peer.ask(Command::CreateTopic(create)).await.unwrap();
}

async fn alter(peer: &mut Peer, name: &'static str, value: &str) -> Result<Reply, Refusal> {
    peer.ask(Command::AlterTopic(AlterTopic::new(
        topic(name),
        retain(value),
    )))
    .await
}

async fn put(peer: &mut Peer, name: &'static str, key: &str, value: &str) {
    peer.append(name, key.as_bytes(), value).await;
}

async fn delete(peer: &mut Peer, name: &'static str, key: &str) {
    peer.append_record(name, key.as_bytes(), None, now_ms())
        .await;
}

async fn stats(peer: &mut Peer) -> Stats {
    match peer.ask(Command::Stats).await {
        Ok(Reply::Stats(stats)) => *stats,
        other => panic!("{other:?}"),
    }
}

/// Waits until everything that was written has been looked at.
async fn caught_up(peer: &mut Peer) {
    for _ in 0..1000 {
        if stats(peer).await.link_lag == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the table has not been read");
}

/// What somebody gets who subscribes for the first time, at this QoS: payloads by topic.
async fn retained(
    running: &Running,
    name: &str,
    filter: &str,
    qos: u8,
    expiry: SessionExpiry,
) -> BTreeMap<String, String> {
    let mut peer = Peer::join(running);
    let open = OpenSession {
        client_id: Bytes::copy_from_slice(name.as_bytes()),
        clean_start: true,
        expiry,
        credit: 1000,
        will: None,
    };
    let Ok(Reply::Session(session)) = peer.ask(Command::OpenSession(open)).await else {
        panic!("no session")
    };
    let subscription = |filter: &str| Subscription {
        filter: Bytes::copy_from_slice(filter.as_bytes()),
        share: None,
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: 0,
        identifier: None,
    };
    // The second tells where the retained messages of the first end.
    let subscribe = Subscribe {
        session: session.session,
        subscriptions: vec![subscription(filter), subscription("end/of/it")],
    };
    peer.ask(Command::Subscribe(subscribe)).await.unwrap();
    peer.publish(mqtt("end/of/it"), "end").await;
    let mut found = BTreeMap::new();
    loop {
        let delivery = peer.delivery().await;
        let text = value(&delivery.message);
        if text == "end" {
            return found;
        }
        assert!(delivery.retained, "{text}");
        let path = match &delivery.message.envelope().unwrap().address {
            Address::Mqtt { topic } => topic.clone(),
            Address::Kafka { topic, key } => path::mqtt_topic(topic, key.as_deref()),
            other @ Address::Amqp { .. } => panic!("{other:?}"),
        };
        let path = String::from_utf8(path.to_vec()).unwrap();
        assert!(found.insert(path, text).is_none(), "one for each topic");
    }
}

/// What somebody new gets, however they subscribe.
async fn table(running: &Running, filter: &str) -> BTreeMap<String, String> {
    let cases = [
        ("plain", 0, SessionExpiry::AtClose),
        ("held", 1, SessionExpiry::AfterMs(60_000)),
    ];
    let mut all = Vec::new();
    for (name, qos, expiry) in cases {
        all.push(retained(running, name, filter, qos, expiry).await);
    }
    assert_eq!(all[0], all[1]);
    all.remove(0)
}

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(topic, value): &(&str, &str)| ((*topic).to_owned(), (*value).to_owned());
    entries.iter().map(owned).collect()
}

#[tokio::test]
async fn the_last_value_of_each_key_is_its_topics_retained_message() {
    for start in [start, start_small] {
        let dir = tempfile::tempdir().unwrap();
        let running = start(dir.path());
        let mut peer = Peer::join(&running);
        create(&mut peer, "prices", "latest", None).await;
        for (key, value) in [("a", "1"), ("b/c", "2"), ("a", "3"), ("d", "4"), ("e", "5")] {
            put(&mut peer, "prices", key, value).await;
        }
        delete(&mut peer, "prices", "d").await;
        put(&mut peer, "prices", "e", "").await;
        put(&mut peer, "prices", "a+b", "6").await;
        caught_up(&mut peer).await;
        let expected = map(&[
            ("prices/a", "3"),
            ("prices/b/c", "2"),
            ("prices/~b64YSti", "6"),
        ]);
        assert_eq!(table(&running, "prices/#").await, expected);
        assert_eq!(
            table(&running, "+/b/c").await,
            map(&[]),
            "first-level wildcards reach exposed topics only"
        );
        assert_eq!(
            table(&running, "prices/+/c").await,
            map(&[("prices/b/c", "2")])
        );
        drop(peer);
        running.stop().unwrap();

        let running = start(dir.path());
        let mut peer = Peer::join(&running);
        assert_eq!(table(&running, "prices/#").await, expected);
        delete(&mut peer, "prices", "a+b").await;
        delete(&mut peer, "prices", "a").await;
        caught_up(&mut peer).await;
        let expected = map(&[("prices/b/c", "2")]);
        assert_eq!(table(&running, "prices/#").await, expected);
        assert_eq!(stats(&mut peer).await.retained, 1);
        drop(peer);
        running.stop().unwrap();
    }
}

#[tokio::test]
async fn paths_are_those_of_the_topics_template() {
    let dir = tempfile::tempdir().unwrap();
    let config = BrokerConfig {
        expose: vec![Bytes::from_static(b"temps")],
        ..BrokerConfig::default()
    };
    let running = start_with(dir.path(), config);
    let mut peer = Peer::join(&running);
    let template = Some("sensors/{1}/temp/{rest}");
    create(&mut peer, "temps", "latest", template).await;
    put(&mut peer, "temps", "k7/in/left", "20").await;
    caught_up(&mut peer).await;
    let expected = map(&[("sensors/k7/temp/in/left", "20")]);
    assert_eq!(table(&running, "sensors/#").await, expected);
    assert_eq!(table(&running, "+/k7/#").await, expected, "it is exposed");
    running.stop().unwrap();
}

#[tokio::test]
async fn a_topic_is_read_from_its_start_when_it_is_set_and_forgotten_when_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    create(&mut peer, "prices", "none", None).await;
    assert!(alter(&mut peer, "prices", "first").await.is_err());
    for (key, value) in [("a", "1"), ("b", "2"), ("c", "3"), ("a", "4")] {
        put(&mut peer, "prices", key, value).await;
    }
    assert_eq!(table(&running, "prices/#").await, map(&[]));
    alter(&mut peer, "prices", "latest").await.unwrap();
    caught_up(&mut peer).await;
    let all = [("prices/a", "4"), ("prices/b", "2"), ("prices/c", "3")];
    assert_eq!(table(&running, "prices/#").await, map(&all));

    alter(&mut peer, "prices", "none").await.unwrap();
    assert_eq!(table(&running, "prices/#").await, map(&[]), "at once");
    put(&mut peer, "prices", "b", "5").await;
    for _ in 0..100 {
        if stats(&mut peer).await.retained == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(stats(&mut peer).await.retained, 0);

    // It is read again once all of it was forgotten.
    alter(&mut peer, "prices", "latest").await.unwrap();
    let all = [("prices/a", "4"), ("prices/b", "5"), ("prices/c", "3")];
    for _ in 0..100 {
        if table(&running, "prices/#").await == map(&all) {
            break;
        }
    }
    assert_eq!(table(&running, "prices/#").await, map(&all));
    peer.ask(Command::DeleteTopic(topic("prices")))
        .await
        .unwrap();
    assert_eq!(table(&running, "prices/#").await, map(&[]));
    running.stop().unwrap();
}

async fn publish_retained(peer: &mut Peer, path: &str, value: &str) {
    let mut publish = message(mqtt(path), value);
    let record = &mut publish.records[0];
    record.envelope.retain = true;
    record.retain = Some(if value.is_empty() {
        RetainAction::Clear
    } else {
        RetainAction::Set
    });
    peer.ask(Command::Publish(publish)).await.unwrap();
}

#[tokio::test]
async fn what_mqtt_clients_retain_there_counts_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    create(&mut peer, "prices", "none", None).await;
    // None of this is read before all of it is there.
    put(&mut peer, "prices", "a", "kafka").await;
    publish_retained(&mut peer, "prices/a", "mqtt").await;
    publish_retained(&mut peer, "prices/b", "mqtt").await;
    put(&mut peer, "prices", "b", "kafka").await;
    put(&mut peer, "prices", "c", "kafka").await;
    publish_retained(&mut peer, "prices/c", "mqtt").await;
    publish_retained(&mut peer, "prices/c", "").await;
    publish_retained(&mut peer, "prices/d", "mqtt").await;
    delete(&mut peer, "prices", "d").await;
    put(&mut peer, "prices", "e", "kafka").await;
    peer.publish(mqtt("prices/e"), "not retained").await;
    alter(&mut peer, "prices", "latest").await.unwrap();
    caught_up(&mut peer).await;
    let expected = map(&[
        ("prices/a", "mqtt"),
        ("prices/b", "kafka"),
        ("prices/e", "kafka"),
    ]);
    assert_eq!(table(&running, "prices/#").await, expected);
    // What was published stays when the topic is none any more.
    alter(&mut peer, "prices", "none").await.unwrap();
    let expected = map(&[("prices/a", "mqtt")]);
    assert_eq!(table(&running, "prices/#").await, expected);
    running.stop().unwrap();
}

/// Values by key as the log has them, in order.
async fn log(peer: &mut Peer, name: &'static str) -> Vec<(String, Option<String>)> {
    let fetched = peer.fetch(name, 0).await;
    let mut found = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    for batch in fetched.batches {
        let batch = omnilog_record::RecordBatch::parse(batch).unwrap();
        let records = batch.records(1 << 20).unwrap();
        for record in records.iter() {
            let record = record.unwrap();
            found.push((text(record.key.unwrap_or_default()), record.value.map(text)));
        }
    }
    found
}

#[tokio::test]
async fn a_retained_message_that_an_mqtt_client_takes_away_is_a_deleted_key() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    create(&mut peer, "prices", "latest", None).await;
    create(&mut peer, "plain", "none", None).await;
    for name in ["prices", "plain"] {
        put(&mut peer, name, "a", "1").await;
    }
    caught_up(&mut peer).await;
    publish_retained(&mut peer, "prices/a", "").await;
    publish_retained(&mut peer, "plain/a", "").await;
    peer.publish(mqtt("prices/b"), "").await;
    assert_eq!(table(&running, "prices/#").await, map(&[]));
    let entry = |key: &str, value: Option<&str>| (key.to_owned(), value.map(str::to_owned));
    let expected = [
        entry("a", Some("1")),
        entry("a", None),
        entry("b", Some("")),
    ];
    assert_eq!(log(&mut peer, "prices").await, expected);
    let expected = [entry("a", Some("1")), entry("a", Some(""))];
    assert_eq!(log(&mut peer, "plain").await, expected, "no table");
    running.stop().unwrap();
}

#[tokio::test]
async fn a_subscriber_misses_nothing_between_retained_and_live_messages() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    create(&mut peer, "prices", "latest", None).await;
    for round in 0..30 {
        // Nobody waits for the table here.
        put(&mut peer, "prices", "k", &round.to_string()).await;
        let mut listener = Peer::join(&running);
        let name: &'static str = format!("listener-{round}").leak();
        listener.subscribe(name, "prices/k").await;
        loop {
            let delivery = listener.delivery().await;
            if value(&delivery.message) == round.to_string() {
                break;
            }
        }
    }
    running.stop().unwrap();
}

#[tokio::test]
async fn with_too_many_retained_messages_keys_that_are_known_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let config = BrokerConfig {
        table_retained_max: 2,
        retain_latest: vec![Bytes::from_static(b"pri*")],
        ..BrokerConfig::default()
    };
    let running = start_with(dir.path(), config);
    let mut peer = Peer::join(&running);
    create(&mut peer, "other", "none", None).await;
    let create = CreateTopic {
        name: Bytes::from_static(b"prices"),
        partitions: None,
        settings: LogSettings::default(),
        validate_only: false,
        path_template: None,
    };
    peer.ask(Command::CreateTopic(create)).await.unwrap();
    put(&mut peer, "other", "a", "0").await;
    for key in ["a", "b", "c"] {
        put(&mut peer, "prices", key, "1").await;
    }
    put(&mut peer, "prices", "b", "2").await;
    let deep = "x/".repeat(200);
    put(&mut peer, "prices", &deep, "1").await;
    caught_up(&mut peer).await;
    let expected = map(&[("prices/a", "1"), ("prices/b", "2")]);
    assert_eq!(table(&running, "prices/#").await, expected);
    assert_eq!(stats(&mut peer).await.not_retained, 2);
    delete(&mut peer, "prices", "a").await;
    caught_up(&mut peer).await;
    put(&mut peer, "prices", "c", "3").await;
    caught_up(&mut peer).await;
    let expected = map(&[("prices/b", "2"), ("prices/c", "3")]);
    assert_eq!(table(&running, "prices/#").await, expected);
    running.stop().unwrap();
}
