//! Compacted topics take records with keys only, whoever writes them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use bytes::Bytes;
use omnilog_broker::*;
use omnilog_record::{BatchBuilder, BatchOptions, Compression, Header, NewRecord, Pieces};
use support::{Peer, start};

fn batch(keys: &[Option<&[u8]>], compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions {
        compression,
        ..BatchOptions::default()
    });
    for key in keys {
        let headers: [Header<'_>; 0] = [];
        let record = NewRecord {
            timestamp: 1,
            key: *key,
            value: Some(Pieces::One(b"value")),
            headers,
        };
        builder.append(&record).unwrap();
    }
    builder.finish().unwrap().to_bytes()
}

async fn append(peer: &mut Peer, batch: Bytes) -> Result<Reply, Refusal> {
    let append = Append {
        topic: TopicRef::Name(Bytes::from_static(b"table")),
        partition: 0,
        batch,
        wait: Wait::Durable,
        keyless: false,
        transactional_id: None,
    };
    peer.ask(Command::Append(append)).await
}

#[tokio::test]
async fn a_compacted_topic_refuses_records_without_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    let name = Bytes::from_static(b"table");
    let settings = LogSettings {
        cleanup: Some(CleanupPolicy::CompactDelete),
        ..LogSettings::default()
    };
    let create = CreateTopic {
        name: name.clone(),
        partitions: Some(1),
        settings,
        validate_only: false,
        path_template: None,
    };
    peer.ask(Command::CreateTopic(create)).await.unwrap();
    for compression in [Compression::None, Compression::Zstd, Compression::Snappy] {
        let mixed = batch(&[Some(b"a"), None], compression);
        let refused = append(&mut peer, mixed).await;
        assert!(
            matches!(refused, Err(Refusal::InvalidRecord(_))),
            "{refused:?}"
        );
        let empty_key = batch(&[Some(b"a"), Some(b"")], compression);
        append(&mut peer, empty_key).await.unwrap();
    }
    // The setting counts at once, both ways.
    let reference = TopicRef::Name(name);
    let plain = AlterTopic::new(reference.clone(), LogSettings::default());
    peer.ask(Command::AlterTopic(plain)).await.unwrap();
    append(&mut peer, batch(&[None], Compression::None))
        .await
        .unwrap();
    let compacted = LogSettings {
        cleanup: Some(CleanupPolicy::Compact),
        ..LogSettings::default()
    };
    peer.ask(Command::AlterTopic(AlterTopic::new(reference, compacted)))
        .await
        .unwrap();
    let refused = append(&mut peer, batch(&[None], Compression::None)).await;
    assert!(
        matches!(refused, Err(Refusal::InvalidRecord(_))),
        "{refused:?}"
    );
    drop(peer);
    running.stop().unwrap();
    // And after a start.
    let running = start(dir.path());
    let mut peer = Peer::join(&running);
    let refused = append(&mut peer, batch(&[None], Compression::None)).await;
    assert!(
        matches!(refused, Err(Refusal::InvalidRecord(_))),
        "{refused:?}"
    );
}
