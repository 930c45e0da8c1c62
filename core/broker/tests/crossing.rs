//! The broker over a real journal on disk: what one protocol's commands write, the others' read, and what was
//! acknowledged is there after a restart.

mod support;

use bytes::Bytes;
use omnilog_broker::*;
use support::*;

#[tokio::test]
async fn a_queue_a_session_and_a_log_of_one_name_each_get_what_the_table_says() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut amqp_peer = Peer::join(&running);
    let mut mqtt_peer = Peer::join(&running);
    let mut kafka_peer = Peer::join(&running);
    amqp_peer.declare("orders").await;
    amqp_peer.consume("orders").await;
    let session = mqtt_peer.subscribe("device", "orders/#").await;
    assert!(!session.present);

    // From Kafka: to the queue and the session by links, and to the log.
    let appended = kafka_peer
        .append("orders", b"eu/created", "from kafka")
        .await;
    assert_eq!(appended.base_offset, 0);
    for peer in [&mut amqp_peer, &mut mqtt_peer] {
        let delivery = peer.delivery().await;
        assert_eq!(value(&delivery.message), "from kafka");
        assert_eq!(
            delivery.message.envelope().unwrap().address,
            Address::Kafka {
                topic: Bytes::from_static(b"orders"),
                key: Some(Bytes::from_static(b"eu/created"))
            }
        );
    }

    // From MQTT: to the queue, the session, the log.
    mqtt_peer.publish(mqtt("orders/eu/paid"), "from mqtt").await;
    assert_eq!(value(&amqp_peer.delivery().await.message), "from mqtt");
    assert_eq!(value(&mqtt_peer.delivery().await.message), "from mqtt");

    // To the queue by the default exchange: the queue and the log, and a filter whose first level is its name.
    amqp_peer.publish(amqp("", "orders"), "from amqp").await;
    assert_eq!(value(&amqp_peer.delivery().await.message), "from amqp");
    assert_eq!(value(&mqtt_peer.delivery().await.message), "from amqp");

    let fetched = kafka_peer.fetch("orders", 0).await;
    assert_eq!(fetched.high_watermark, 3);
    assert_eq!(fetched.batches.len(), 3);
    drop((amqp_peer, mqtt_peer, kafka_peer));
    tokio::task::spawn_blocking(|| running.stop())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart_and_what_was_settled_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    peer.declare("work").await;
    for number in 0..10 {
        peer.publish(amqp("", "work"), &number.to_string()).await;
    }
    peer.consume("work").await;
    let mut settled = Vec::new();
    for number in 0..10 {
        let delivery = peer.delivery().await;
        assert_eq!(value(&delivery.message), number.to_string());
        assert!(!delivery.redelivered);
        if number % 2 == 0 {
            settled.push((delivery.queue, delivery.entry));
        }
    }
    let settle = Settle {
        entries: settled,
        settlement: Settlement::Ack,
    };
    peer.ask(Command::Settle(settle)).await.unwrap();
    drop(peer);
    tokio::task::spawn_blocking(|| running.stop())
        .await
        .unwrap()
        .unwrap();

    let running = start(dir.path());
    assert!(running.replayed().1, "a clean stop");
    let mut peer = Peer::join(&running);
    assert_eq!(peer.declare("work").await.ready, 5);
    peer.consume("work").await;
    for number in [1, 3, 5, 7, 9] {
        let delivery = peer.delivery().await;
        assert_eq!(value(&delivery.message), number.to_string());
        assert!(delivery.redelivered);
    }
    let fetched = peer.fetch("work", 4).await;
    assert_eq!(fetched.high_watermark, 10);
    assert_eq!(fetched.batches.len(), 6);
    drop(peer);
    tokio::task::spawn_blocking(|| running.stop())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn an_offline_session_gets_what_it_missed_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    let session = peer.subscribe("device", "a/+/c").await;
    let close = CloseSession {
        session: session.session,
        expiry: None,
        publish_will: false,
        in_flight: Vec::new(),
    };
    peer.ask(Command::CloseSession(close)).await.unwrap();
    let mut publisher = Peer::join(&running);
    for number in 0..50 {
        let published = publisher.publish(mqtt("a/b/c"), &number.to_string()).await;
        assert!(published.outcomes.is_empty(), "{published:?}");
    }
    let missed = publisher.publish(mqtt("a/b/d"), "nobody").await;
    assert_eq!(missed.outcomes, vec![Routed::NoTaker]);
    let open = OpenSession {
        client_id: Bytes::from_static(b"device"),
        clean_start: false,
        expiry: SessionExpiry::Never,
        credit: 100,
        will: None,
    };
    let Ok(Reply::Session(session)) = peer.ask(Command::OpenSession(open)).await else {
        panic!()
    };
    assert!(session.present);
    for number in 0..50 {
        assert_eq!(value(&peer.delivery().await.message), number.to_string());
    }
    drop((peer, publisher));
    tokio::task::spawn_blocking(|| running.stop())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_session_is_handed_from_one_connection_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut old = Peer::join(&running);
    let held = old.subscribe("device", "t").await;
    let mut new = Peer::join(&running);
    let open = OpenSession {
        client_id: Bytes::from_static(b"device"),
        clean_start: false,
        expiry: SessionExpiry::Never,
        credit: 100,
        will: None,
    };
    new.client.send(1000, Command::OpenSession(open));
    while !old.events.contains(&Event::SessionTakenOver(held.session)) {
        old.more().await;
    }
    let close = CloseSession {
        session: held.session,
        expiry: None,
        publish_will: false,
        in_flight: Vec::new(),
    };
    old.ask(Command::CloseSession(close)).await.unwrap();
    new.more().await;
    let opened = new.events.iter().any(|event| {
        let Event::Reply {
            correlation: 1000,
            result,
        } = event
        else {
            return false;
        };
        matches!(&**result, Ok(Reply::Session(session)) if session.present)
    });
    assert!(opened, "{:?}", new.events);
}
