//! Offsets by time, in a log of which only the last batch is in memory.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use bytes::Bytes;
use omnilog_broker::*;
use support::*;

async fn offset(peer: &mut Peer, at: OffsetAt) -> (i64, i64) {
    let topic = TopicRef::Name(Bytes::from_static(b"readings"));
    let find = FindOffset {
        topic,
        partition: 0,
        at,
        committed: false,
    };
    match peer.ask(Command::FindOffset(find)).await {
        Ok(Reply::Offset(found)) => (found.offset, found.timestamp_ms),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_first_record_of_the_greatest_time_is_found_wherever_it_lies() {
    let dir = tempfile::tempdir().unwrap();
    let running = start_small(dir.path());
    let mut peer = Peer::join(&running);
    let began = now_ms();
    let create = CreateTopic {
        name: Bytes::from_static(b"readings"),
        partitions: Some(1),
        settings: LogSettings::default(),
        validate_only: false,
        path_template: None,
    };
    peer.ask(Command::CreateTopic(create)).await.unwrap();
    for late in [5, 9, 7, 9, 8] {
        peer.append_at("readings", b"k", "21", began + late).await;
    }
    let greatest = OffsetAt::MaxTimestamp;
    assert_eq!(offset(&mut peer, greatest).await, (1, began + 9));
    let since = OffsetAt::Time(began + 6);
    assert_eq!(offset(&mut peer, since).await, (1, began + 9));
    peer.append_at("readings", b"k", "22", began + 10).await;
    assert_eq!(offset(&mut peer, greatest).await, (5, began + 10));
    running.stop().unwrap();
}
