//! Sessions that are away: what is published meanwhile is theirs when they come back, each once, in order.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use bytes::Bytes;
use omnilog_broker::*;
use std::time::Duration;
use support::*;

/// So many that a set of them is told of a record as a whole.
const SESSIONS: usize = 80;

fn client_id(number: usize) -> &'static str {
    Box::leak(format!("client-{number:02}").into_boxed_str())
}

/// A peer that opens its session (again), with its subscription.
async fn come(running: &Running, number: usize) -> Peer {
    let mut peer = Peer::join(running);
    peer.subscribe(client_id(number), "fleet/#").await;
    peer
}

async fn publish(publisher: &mut Peer, number: usize, qos: u8) {
    let topic = format!("fleet/device-{}/state", number % 3);
    let mut publish = message(mqtt(&topic), &number.to_string());
    publish.records[0].envelope.qos = qos;
    publisher.ask(Command::Publish(publish)).await.unwrap();
}

/// Takes these, and nothing else, and acknowledges them.
async fn take(peer: &mut Peer, expected: std::ops::Range<usize>) {
    let mut entries = Vec::new();
    for number in expected {
        let delivery = peer.delivery().await;
        assert_eq!(value(&delivery.message), number.to_string());
        entries.push((delivery.queue, delivery.entry));
    }
    let settlement = Settlement::Ack;
    let settle = Command::Settle(Settle {
        entries,
        settlement,
    });
    peer.ask(settle).await.unwrap();
    let more = peer
        .events
        .iter()
        .any(|event| matches!(event, Event::Delivery(_)));
    assert!(!more, "{:?}", peer.events);
}

async fn figures(peer: &mut Peer, number: usize) -> SessionFigures {
    let listing = Listing {
        what: Listed::Sessions,
        after: Bytes::from_static(client_id(number).as_bytes()),
        limit: 1,
        only: true,
    };
    match peer.ask(Command::List(listing)).await {
        Ok(Reply::Listed(page)) => page.sessions[0].clone(),
        other => panic!("{other:?}"),
    }
}

/// Waits until a session's client is seen to have gone.
async fn gone(peer: &mut Peer, number: usize) {
    while figures(peer, number).await.connected {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn who_was_away_finds_what_came_and_who_stayed_gets_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    for number in 0..SESSIONS {
        come(&running, number).await;
    }
    let mut publisher = Peer::join(&running);
    for number in 0..SESSIONS {
        gone(&mut publisher, number).await;
    }
    for number in 0..10 {
        publish(&mut publisher, number, 1).await;
        // Something else in between, which only one of them is to get.
        let other = format!("other/{number}");
        publisher.publish(mqtt(&other), "other").await;
    }
    let mut seventh = come(&running, 7).await;
    take(&mut seventh, 0..10).await;
    for number in 10..20 {
        publish(&mut publisher, number, 1).await;
        take(&mut seventh, number..number + 1).await;
    }
    // At QoS 0 it comes to who is there.
    publish(&mut publisher, 100, 0).await;
    assert_eq!(value(&seventh.delivery().await.message), "100");
    drop(seventh);
    gone(&mut publisher, 7).await;
    for number in 20..30 {
        publish(&mut publisher, number, 1).await;
    }
    assert_eq!(figures(&mut publisher, 7).await.ready, 10);
    assert_eq!(figures(&mut publisher, 8).await.ready, 30);
    // One that ends takes nothing from the others.
    let mut ended = Peer::join(&running);
    let open = OpenSession {
        client_id: Bytes::from_static(client_id(9).as_bytes()),
        clean_start: true,
        expiry: SessionExpiry::AtClose,
        credit: 1,
        will: None,
    };
    ended.ask(Command::OpenSession(open)).await.unwrap();
    for number in (0..20).filter(|number| *number != 9) {
        let mut peer = come(&running, number).await;
        let from = if number == 7 { 20 } else { 0 };
        take(&mut peer, from..30).await;
    }
    running.stop().unwrap();
    let running = start(dir.path());
    for number in 20..SESSIONS {
        let mut peer = come(&running, number).await;
        take(&mut peer, 0..30).await;
    }
    let mut seventh = come(&running, 7).await;
    publish(&mut seventh, 30, 1).await;
    take(&mut seventh, 30..31).await;
    running.stop().unwrap();
}
