//! Patterns that are made to be expensive: they cost a bounded time, and nobody is told of a message that it is safe
//! with all who want it when that was not looked into to the end.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use bytes::Bytes;
use omnilog_broker::*;
use support::*;

/// A filter of 200 levels: of the first nine some are `+`, another choice for each number. All of them have to be
/// followed nearly to the end of a path of as many levels `a`, where none matches.
fn subscription(number: u32) -> Subscription {
    let wild = |level: u32| level < 9 && number >> level & 1 == 1;
    let levels = (0..199).map(|level| if wild(level) { "+" } else { "a" });
    let filter = levels.chain(["b"]).collect::<Vec<_>>().join("/");
    Subscription {
        filter: Bytes::from(filter),
        share: None,
        qos: 1,
        no_local: false,
        retain_as_published: false,
        retain_handling: 0,
        identifier: None,
    }
}

#[tokio::test]
async fn a_message_whose_takers_are_not_all_found_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    let session = peer.subscribe("hostile", "x").await;
    let subscribe = Subscribe {
        session: session.session,
        subscriptions: (0..1 << 9).map(subscription).collect(),
    };
    peer.ask(Command::Subscribe(subscribe)).await.unwrap();
    let mut publisher = Peer::join(&running);
    let deep = Address::Mqtt {
        topic: Bytes::from(vec!["a"; 200].join("/")),
    };
    let refused = publisher
        .ask(Command::Publish(message(deep, "nowhere")))
        .await;
    assert!(matches!(refused, Err(Refusal::Limit(_))), "{refused:?}");
    publisher.publish(mqtt("x"), "everywhere").await;
    assert_eq!(value(&peer.delivery().await.message), "everywhere");
    running.stop().unwrap();
}
