//! Which entry goes to which consumer: priorities, a single active consumer, sharing by key, queues that MQTT sessions
//! consume from, and what is in flight at QoS 2 to a session that shares with others.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use bytes::Bytes;
use omnilog_broker::*;
use std::time::Duration;
use support::*;

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn consume(peer: &mut Peer, queue: &'static str, key: u64, credit: u32, priority: i32) {
    let consume = Consume {
        queue: text(queue),
        consumer: ConsumerKey(key),
        no_ack: false,
        exclusive: false,
        credit,
        credit_group: None,
        priority,
        arguments: Vec::new(),
    };
    peer.ask(Command::Consume(consume)).await.unwrap();
}

async fn publish_with(
    peer: &mut Peer,
    address: Address,
    value: &str,
    change: impl Fn(&mut Envelope),
) {
    let mut publish = message(address, value);
    change(&mut publish.records[0].envelope);
    peer.ask(Command::Publish(publish)).await.unwrap();
}

async fn settle(peer: &mut Peer, delivery: &Delivery, settlement: Settlement) {
    let settle = Settle {
        entries: vec![(delivery.queue, delivery.entry)],
        settlement,
    };
    peer.ask(Command::Settle(settle)).await.unwrap();
}

/// The next deliveries' values.
async fn values(peer: &mut Peer, count: usize) -> Vec<String> {
    let mut found = Vec::new();
    for _ in 0..count {
        found.push(value(&peer.delivery().await.message));
    }
    found
}

/// Nothing comes for a while.
async fn silence(peer: &mut Peer) {
    let waited = tokio::time::timeout(
        Duration::from_millis(150),
        peer.client.recv(&mut peer.events),
    )
    .await;
    assert!(waited.is_err(), "{:?}", peer.events);
}

async fn stop(running: Running) {
    tokio::task::spawn_blocking(|| running.stop())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn the_highest_priority_comes_first_and_what_comes_back_has_its_place() {
    for durable in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let mut running = start(dir.path());
        let mut peer = Peer::join(&running);
        peer.declare_with("q", durable, vec![(text("x-max-priority"), Value::Int(5))])
            .await;
        for (value, priority) in [("a", 0), ("b", 3), ("c", 200), ("d", 3), ("e", 0), ("f", 5)] {
            publish_with(&mut peer, amqp("", "q"), value, |envelope| {
                envelope.provenance = Provenance::AmqpDefault;
                envelope.priority = priority;
            })
            .await;
        }
        if durable {
            // The journal knows them, and so does the checkpoint of a stop.
            drop(peer);
            stop(running).await;
            running = start(dir.path());
            peer = Peer::join(&running);
        }
        consume(&mut peer, "q", 1, 2, 0).await;
        // 200 counts as 5, the queue's highest.
        let first = peer.delivery().await;
        assert_eq!(value(&first.message), "c");
        let second = peer.delivery().await;
        assert_eq!(value(&second.message), "f");
        settle(&mut peer, &first, Settlement::Requeue).await;
        assert_eq!(values(&mut peer, 1).await, ["c"]);
        settle(&mut peer, &first, Settlement::Ack).await;
        settle(&mut peer, &second, Settlement::Ack).await;
        assert_eq!(values(&mut peer, 2).await, ["b", "d"]);
        peer.ask(Command::Cancel(ConsumerKey(1))).await.unwrap();
        consume(&mut peer, "q", 2, 0, 0).await;
        assert_eq!(values(&mut peer, 2).await, ["a", "e"]);
        drop(peer);
        stop(running).await;
    }
}

#[tokio::test]
async fn a_priority_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    for (max, reason) in [
        (-1, "{value_negative,-1}"),
        (256, "{max_value_exceeded,256}"),
    ] {
        let declare = DeclareQueue {
            name: text("q"),
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: vec![(text("x-max-priority"), Value::Int(max))],
        };
        let refused = peer.ask(Command::DeclareQueue(declare)).await;
        let Err(Refusal::InvalidArgument { reason: why, .. }) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(why, reason);
    }
    drop(peer);
    stop(running).await;
}

#[tokio::test]
async fn a_single_active_consumer_stays_until_it_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut first = Peer::join(&running);
    let mut second = Peer::join(&running);
    let single = vec![(text("x-single-active-consumer"), Value::Bool(true))];
    first.declare_with("q", true, single).await;
    consume(&mut first, "q", 1, 1, 0).await;
    consume(&mut second, "q", 1, 0, 0).await;
    consume(&mut second, "q", 2, 0, 9).await;
    for value in ["a", "b", "c"] {
        first.publish(amqp("", "q"), value).await;
    }
    // It has no room for more, and nobody else gets any.
    let a = first.delivery().await;
    silence(&mut second).await;
    settle(&mut first, &a, Settlement::Ack).await;
    assert_eq!(values(&mut first, 1).await, ["b"]);
    drop(first);
    // The highest priority follows, and gets what the other had.
    let b = second.delivery().await;
    assert_eq!(
        (value(&b.message).as_str(), b.consumer),
        ("b", ConsumerKey(2))
    );
    assert!(b.redelivered);
    assert_eq!(values(&mut second, 1).await, ["c"]);
    // No consumer can have such a queue for itself.
    let exclusive = Consume {
        queue: text("q"),
        consumer: ConsumerKey(7),
        no_ack: false,
        exclusive: true,
        credit: 0,
        credit_group: None,
        priority: 0,
        arguments: Vec::new(),
    };
    assert!(matches!(
        second.ask(Command::Consume(exclusive)).await,
        Err(Refusal::ExclusiveUse(_))
    ));
    drop(second);
    stop(running).await;
}

#[tokio::test]
async fn a_blocked_consumer_of_higher_priority_lets_others_have_it() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    peer.declare("q").await;
    consume(&mut peer, "q", 1, 0, 0).await;
    consume(&mut peer, "q", 2, 1, 10).await;
    let mut takers = Vec::new();
    for value in ["a", "b"] {
        peer.publish(amqp("", "q"), value).await;
        takers.push(peer.delivery().await);
    }
    let keys: Vec<_> = takers.iter().map(|delivery| delivery.consumer.0).collect();
    assert_eq!(keys, [2, 1]);
    settle(&mut peer, &takers[0], Settlement::Ack).await;
    peer.publish(amqp("", "q"), "c").await;
    assert_eq!(peer.delivery().await.consumer, ConsumerKey(2));
    drop(peer);
    stop(running).await;
}

#[tokio::test]
async fn a_prefetch_limit_of_a_channel_serves_all_its_consumers_in_turn() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    for queue in ["q", "r", "s"] {
        peer.declare(queue).await;
        for value in ["1", "2"] {
            peer.publish(amqp("", queue), value).await;
        }
    }
    let group = CreditGroup(1);
    peer.ask(Command::SetCredit(group, 1)).await.unwrap();
    for (key, queue) in [(1, "q"), (2, "r"), (3, "s")] {
        let consume = Consume {
            queue: text(queue),
            consumer: ConsumerKey(key),
            no_ack: false,
            exclusive: false,
            credit: 0,
            credit_group: Some(group),
            priority: 0,
            arguments: Vec::new(),
        };
        peer.ask(Command::Consume(consume)).await.unwrap();
    }
    let mut taken = Vec::new();
    for _ in 0..6 {
        let delivery = peer.delivery().await;
        silence(&mut peer).await;
        settle(&mut peer, &delivery, Settlement::Ack).await;
        taken.push(delivery.consumer.0);
    }
    taken.sort_unstable();
    assert_eq!(taken, [1, 1, 2, 2, 3, 3]);
    drop(peer);
    stop(running).await;
}

#[tokio::test]
async fn a_key_stays_with_its_consumer_while_it_has_any_of_it() {
    for durable in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let mut running = start(dir.path());
        let mut peer = Peer::join(&running);
        peer.declare_with(
            "q",
            durable,
            vec![(text("x-key-shared"), Value::Bool(true))],
        )
        .await;
        let exchange = DeclareExchange {
            name: text("x"),
            kind: ExchangeKind::Fanout,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: Vec::new(),
        };
        peer.ask(Command::DeclareExchange(exchange)).await.unwrap();
        let binding = Binding {
            source: text("x"),
            destination: Destination::Queue(text("q")),
            routing_key: Bytes::new(),
            arguments: Vec::new(),
        };
        peer.ask(Command::Bind(binding)).await.unwrap();
        for (key, value) in [
            ("k", "k1"),
            ("k", "k2"),
            ("l", "l1"),
            ("k", "k3"),
            ("l", "l2"),
        ] {
            peer.publish(amqp("x", key), value).await;
        }
        if durable {
            drop(peer);
            stop(running).await;
            running = start(dir.path());
            peer = Peer::join(&running);
        }
        let mut other = Peer::join(&running);
        consume(&mut peer, "q", 1, 1, 0).await;
        let k1 = peer.delivery().await;
        assert_eq!(value(&k1.message), "k1");
        // The rest of that key waits for it, the other key does not.
        consume(&mut other, "q", 1, 0, 0).await;
        assert_eq!(values(&mut other, 2).await, ["l1", "l2"]);
        silence(&mut other).await;
        // What comes back comes again first; the key is free then, and goes on in order.
        settle(&mut peer, &k1, Settlement::Requeue).await;
        peer.ask(Command::Cancel(ConsumerKey(1))).await.unwrap();
        let mut rest = Vec::new();
        for peer in [&mut peer, &mut other] {
            while let Ok(()) = tokio::time::timeout(
                Duration::from_millis(150),
                peer.client.recv(&mut peer.events),
            )
            .await
            {}
            for event in peer.events.drain(..) {
                if let Event::Delivery(delivery) = event {
                    rest.push(value(&delivery.message));
                }
            }
        }
        // Either the first had it again and has it still, or the other has all of it.
        assert!(rest == ["k1"] || rest == ["k1", "k2", "k3"], "{rest:?}");
        drop(peer);
        if rest.len() == 1 {
            assert_eq!(values(&mut other, 3).await, ["k1", "k2", "k3"]);
        }
        drop(other);
        stop(running).await;
    }
}

/// Opens a session that lasts, or not, and subscribes.
async fn session(
    peer: &mut Peer,
    id: &'static str,
    share: Option<&'static str>,
    filter: &'static str,
    lasts: bool,
) -> SessionOpened {
    let open = OpenSession {
        client_id: text(id),
        clean_start: false,
        expiry: if lasts {
            SessionExpiry::Never
        } else {
            SessionExpiry::AtClose
        },
        credit: 10,
        will: None,
    };
    let Ok(Reply::Session(opened)) = peer.ask(Command::OpenSession(open)).await else {
        panic!("no session")
    };
    if !opened.present {
        let Ok(Reply::Subscribed(results)) = subscribe(peer, opened.session, share, filter).await
        else {
            panic!("not subscribed")
        };
        assert_eq!(results, [Ok(())]);
    }
    *opened
}

async fn subscribe(
    peer: &mut Peer,
    session: SessionId,
    share: Option<&'static str>,
    filter: &'static str,
) -> Result<Reply, Refusal> {
    let subscription = Subscription {
        filter: text(filter),
        share: share.map(text),
        qos: 2,
        no_local: false,
        retain_as_published: false,
        retain_handling: 0,
        identifier: None,
    };
    peer.ask(Command::Subscribe(Subscribe {
        session,
        subscriptions: vec![subscription],
    }))
    .await
}

#[tokio::test]
async fn a_session_competes_with_the_consumers_of_a_queue() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut amqp_peer = Peer::join(&running);
    let mut mqtt_peer = Peer::join(&running);
    amqp_peer.declare("q").await;
    consume(&mut amqp_peer, "q", 1, 0, 0).await;
    let opened = session(&mut mqtt_peer, "device", None, "$queue/q", true).await;
    for value in ["a", "b", "c", "d"] {
        amqp_peer.publish(amqp("", "q"), value).await;
    }
    let from_mqtt = [mqtt_peer.delivery().await, mqtt_peer.delivery().await];
    let mut all: Vec<_> = from_mqtt
        .iter()
        .map(|delivery| value(&delivery.message))
        .collect();
    let from_amqp = values(&mut amqp_peer, 2).await;
    all.extend(from_amqp);
    all.sort_unstable();
    assert_eq!(all, ["a", "b", "c", "d"], "each went to one of them");
    // What the session leaves goes to the other.
    settle(&mut mqtt_peer, &from_mqtt[0], Settlement::Ack).await;
    drop(mqtt_peer);
    let left = amqp_peer.delivery().await;
    assert_eq!(left.entry, from_mqtt[1].entry);
    assert!(left.redelivered);
    // The session consumes again when it is back.
    let mut mqtt_peer = Peer::join(&running);
    assert!(
        session(&mut mqtt_peer, "device", None, "$queue/q", true)
            .await
            .present
    );
    amqp_peer
        .ask(Command::Cancel(ConsumerKey(1)))
        .await
        .unwrap();
    amqp_peer.publish(amqp("", "q"), "e").await;
    assert_eq!(values(&mut mqtt_peer, 1).await, ["e"]);
    // A queue that isn't there, or is another's alone, can't be had.
    let missing = subscribe(&mut mqtt_peer, opened.session, None, "$queue/none").await;
    assert!(
        matches!(&missing, Ok(Reply::Subscribed(results)) if matches!(results[0], Err(Refusal::NotFound(..)))),
        "{missing:?}"
    );
    let grouped = subscribe(&mut mqtt_peer, opened.session, Some("g"), "$queue/q").await;
    assert!(matches!(&grouped, Ok(Reply::Subscribed(results)) if results[0].is_err()));
    drop((amqp_peer, mqtt_peer));
    stop(running).await;
}

async fn assign(peer: &mut Peer, session: SessionId, packet_id: u16, delivery: &Delivery) {
    let step = SessionStep::Assign {
        packet_id,
        queue: delivery.queue,
        entry: delivery.entry,
    };
    peer.ask(Command::Step(session, step)).await.unwrap();
}

#[tokio::test]
async fn a_begun_qos_2_delivery_of_a_shared_subscription_stays_with_its_session() {
    let dir = tempfile::tempdir().unwrap();
    let mut running = start(dir.path());
    let mut one = Peer::join(&running);
    let mut two = Peer::join(&running);
    let first = session(&mut one, "one", Some("g"), "s/#", true).await;
    one.publish(mqtt("s/a"), "begun").await;
    one.publish(mqtt("s/b"), "not begun").await;
    let begun = one.delivery().await;
    let _ = one.delivery().await;
    assign(&mut one, first.session, 7, &begun).await;
    session(&mut two, "two", Some("g"), "s/#", true).await;
    drop(one);
    // What was not begun goes to another member, what was begun does not.
    assert_eq!(values(&mut two, 1).await, ["not begun"]);
    silence(&mut two).await;
    drop(two);
    // Not even after a restart.
    stop(running).await;
    running = start(dir.path());
    let mut two = Peer::join(&running);
    session(&mut two, "two", Some("g"), "s/#", true).await;
    assert_eq!(values(&mut two, 1).await, ["not begun"]);
    silence(&mut two).await;
    // It goes on when its session is back.
    let mut one = Peer::join(&running);
    let resumed = session(&mut one, "one", Some("g"), "s/#", true).await;
    assert_eq!(resumed.outgoing.len(), 1);
    let OutgoingStage::Publish {
        entry,
        message: Some(_),
        ..
    } = &resumed.outgoing[0].stage
    else {
        panic!("{:?}", resumed.outgoing)
    };
    assert_eq!(*entry, begun.entry);
    // It dies with its session.
    drop(one);
    let mut one = Peer::join(&running);
    let clean = OpenSession {
        client_id: text("one"),
        clean_start: true,
        expiry: SessionExpiry::AtClose,
        credit: 10,
        will: None,
    };
    one.ask(Command::OpenSession(clean)).await.unwrap();
    silence(&mut two).await;
    drop((one, two));
    stop(running).await;
}

#[tokio::test]
async fn a_retained_message_beyond_the_tail_keeps_its_qos() {
    let dir = tempfile::tempdir().unwrap();
    let running = start_small(dir.path());
    let mut peer = Peer::join(&running);
    let mut publish = message(mqtt("r/a"), "kept");
    publish.records[0].retain = Some(RetainAction::Set);
    peer.ask(Command::Publish(publish)).await.unwrap();
    peer.publish(mqtt("other"), "pushes it out").await;
    let mut clean = Peer::join(&running);
    session(&mut clean, "clean", None, "r/#", false).await;
    let delivery = clean.delivery().await;
    assert_eq!(value(&delivery.message), "kept");
    assert!(delivery.retained && delivery.unsettled && delivery.qos > 0);
    settle(&mut clean, &delivery, Settlement::Ack).await;
    drop((peer, clean));
    stop(running).await;
}

#[tokio::test]
async fn a_cold_delivery_says_that_it_came_by_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let running = start_small(dir.path());
    let mut peer = Peer::join(&running);
    peer.declare("q").await;
    let binding = Binding {
        source: text("amq.topic"),
        destination: Destination::Queue(text("q")),
        routing_key: text("a.#"),
        arguments: Vec::new(),
    };
    peer.ask(Command::Bind(binding)).await.unwrap();
    peer.publish(mqtt("a/b"), "by the root").await;
    peer.publish(mqtt("other"), "pushes it out").await;
    consume(&mut peer, "q", 1, 0, 0).await;
    let delivery = peer.delivery().await;
    assert_eq!(value(&delivery.message), "by the root");
    assert!(delivery.by_root);
    drop(peer);
    stop(running).await;
}

#[tokio::test]
async fn a_linked_record_of_a_deleted_topic_keeps_its_topics_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut running = start_small(dir.path());
    let mut peer = Peer::join(&running);
    peer.declare("orders").await;
    peer.append("orders", b"k", "linked").await;
    for _ in 0..200 {
        let check = peer.ask(Command::CheckQueue(text("orders"))).await;
        if matches!(check, Ok(Reply::Queue(info)) if info.ready == 1) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    peer.ask(Command::DeleteTopic(TopicRef::Name(text("orders"))))
        .await
        .unwrap();
    drop(peer);
    stop(running).await;
    running = start_small(dir.path());
    let mut peer = Peer::join(&running);
    consume(&mut peer, "orders", 1, 0, 0).await;
    let delivery = peer.delivery().await;
    let envelope = delivery.message.envelope().unwrap();
    let Address::Kafka { topic, .. } = &envelope.address else {
        panic!("{envelope:?}")
    };
    assert_eq!(topic, "orders");
    drop(peer);
    stop(running).await;
}
