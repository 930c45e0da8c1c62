//! The journaled encoding must not change under what is written already.

use super::{Event, Holders, decode, encode};
use crate::api::*;
use bytes::Bytes;
use smallvec::smallvec;

/// An event of many kinds, each with its bytes in hexadecimal as version 1 wrote them.
fn written() -> Vec<(Event, &'static str)> {
    let name = Bytes::from_static(b"orders");
    let declared = DeclareQueue {
        name: name.clone(),
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: vec![(Bytes::from_static(b"x"), Value::Int(-1))],
    };
    let binding = Binding {
        source: name.clone(),
        destination: Destination::Queue(name.clone()),
        routing_key: Bytes::from_static(b"eu.*"),
        arguments: Vec::new(),
    };
    let subscription = Subscription {
        filter: Bytes::from_static(b"a/+"),
        share: Some(Bytes::from_static(b"g")),
        qos: 2,
        no_local: false,
        retain_as_published: true,
        retain_handling: 1,
        identifier: Some(7),
    };
    vec![
        (
            Event::EpochBegan {
                epoch: 3,
                first_sequence: 300,
            },
            "0003ac02",
        ),
        (
            Event::LogStartMoved {
                partition: 5,
                offset: 42,
            },
            "050554",
        ),
        (Event::Appended { section: 0 }, "0600"),
        (
            Event::Published {
                namespace: NamespaceId(0),
                section: 1,
                holders: vec![
                    (2, Holders::Inline(smallvec![QueueId(9)])),
                    (1, Holders::Set(4)),
                ],
            },
            "0700010202000109010104",
        ),
        (
            Event::QueueDeclared {
                namespace: NamespaceId(0),
                queue: QueueId(9),
                kind: QueueKind::Classic,
                declared,
            },
            "0b000900066f7264657273010000010178 0201",
        ),
        (
            Event::Bound {
                namespace: NamespaceId(0),
                binding,
            },
            "0d00066f726465727300066f72646572730465752e2a00",
        ),
        (
            Event::Removed {
                queue: QueueId(9),
                runs: vec![(300, 301)],
            },
            "0f0901ac02ad02",
        ),
        (
            Event::Subscribed {
                session: SessionId(1),
                queue: QueueId(9),
                subscription,
            },
            "18010903612f2b010167020001010107",
        ),
        (
            Event::OutgoingAssigned {
                session: SessionId(1),
                packet_id: 8,
                queue: QueueId(9),
                entry: EntryId(300),
            },
            "1c010809ac02",
        ),
        (
            Event::RetainedSet {
                namespace: NamespaceId(0),
                topic: name,
                sequence: 300,
            },
            "1f00066f7264657273ac02",
        ),
        (
            Event::LinkAdvanced {
                queue: QueueId(9),
                partition: 5,
                next_offset: 42,
                first_sequence: 302,
                runs: vec![(300, 301)],
            },
            "22090554ae0201ac02ad02",
        ),
        (
            Event::Copied {
                queue: QueueId(9),
                sequence: 303,
                original: 300,
            },
            "2509af02ac02",
        ),
        (
            Event::Prioritised {
                queues: Holders::Inline(smallvec![QueueId(9)]),
                first: 300,
                last: 301,
                priority: 7,
            },
            "26 0001 09 ac02 ad02 07",
        ),
        (
            Event::Keyed {
                queues: Holders::Set(4),
                first: 300,
                last: 300,
                lane: 1000,
            },
            "27 01 04 ac02 ac02 e807",
        ),
        (
            Event::LogCleaned {
                partition: 5,
                until: 42,
                at_ms: 7,
            },
            "28 05 54 0e",
        ),
        (
            Event::LogStartCut {
                partition: 5,
                offset: 42,
                bytes: 300,
            },
            "29 05 54 ac02",
        ),
        (
            Event::Expires {
                queues: Holders::Inline(smallvec![QueueId(9)]),
                first: 300,
                last: 301,
                at_ms: 7,
            },
            "2a 0001 09 ac02 ad02 0e",
        ),
        (
            Event::Sized {
                queue: QueueId(9),
                first: 300,
                bytes: vec![10, 300],
            },
            "2b 09 ac02 02 0a ac02",
        ),
        (
            Event::TransactionsInitialised {
                namespace: NamespaceId(0),
                id: Bytes::from_static(b"t"),
                producer: 5,
                epoch: 2,
                last_producer: -1,
                last_epoch: -1,
                timeout_ms: 60_000,
                at_ms: 9,
            },
            "2c0001740a040101e0d40312",
        ),
        (
            Event::TransactionJoined {
                namespace: NamespaceId(0),
                id: Bytes::from_static(b"t"),
                partitions: vec![7],
                groups: vec![Bytes::from_static(b"g")],
                at_ms: 9,
            },
            "2d000174010701016712",
        ),
        (
            Event::TransactionOffsets {
                namespace: NamespaceId(0),
                id: Bytes::from_static(b"t"),
                group: Bytes::from_static(b"g"),
                offsets: vec![(
                    TopicId(3),
                    GroupOffset {
                        topic: Bytes::from_static(b"orders"),
                        partition: 1,
                        offset: 42,
                        leader_epoch: -1,
                        metadata: Bytes::new(),
                    },
                )],
            },
            "2e00017401670103066f726465727302540100",
        ),
        (
            Event::Marked {
                section: 1,
                committed: true,
            },
            "2f0101",
        ),
        (
            Event::TransactionEnded {
                namespace: NamespaceId(0),
                id: Bytes::from_static(b"t"),
                committed: false,
                epoch: 3,
                at_ms: 9,
            },
            "30000174000612",
        ),
        (
            Event::TransactionalForgotten {
                namespace: NamespaceId(0),
                id: Bytes::from_static(b"t"),
            },
            "31000174",
        ),
        (
            Event::AbortedForgotten {
                partition: 7,
                below: 42,
            },
            "320754",
        ),
        (
            Event::LinkPassed {
                queue: QueueId(3),
                partition: 2,
                next_offset: 64,
            },
            "3303028001",
        ),
        (
            Event::Delayed {
                namespace: NamespaceId(0),
                first: 300,
                last: 301,
                at_ms: 9,
            },
            "3400ac02ad0212",
        ),
        (
            Event::DelayOver {
                entries: vec![(9, 300)],
            },
            "350112ac02",
        ),
        (
            Event::PathTemplateSet {
                topic: TopicId(3),
                template: "a/{1}".to_owned(),
            },
            "360305612f7b317d",
        ),
        (
            Event::AutoNamed {
                topic: TopicId(3),
                principal: Bytes::from_static(b"ann"),
            },
            "370303616e6e",
        ),
        (
            Event::Deferred {
                queue: QueueId(7),
                entries: vec![(300, 2, 1, 9), (301, 1, 0, 0)],
            },
            "380702ac02020112ad02010000",
        ),
        (
            Event::TableAdvanced {
                namespace: NamespaceId(0),
                partition: 5,
                next_offset: 42,
                kept: vec![(Bytes::from_static(b"t/k"), 300)],
                gone: vec![Bytes::from_static(b"t/l")],
            },
            "39 00 05 54 01 03742f6b ac02 01 03742f6c",
        ),
        (
            Event::TableCopied {
                queue: QueueId(9),
                sequence: 303,
                original: 300,
                partition: 5,
            },
            "3a 09 af02 ac02 05",
        ),
        (
            Event::RawViewed {
                topic: TopicId(3),
                view: TopicId(9),
                uuid: 300,
                logs: vec![(5, 7 | 1 << 63, 40)],
            },
            "3b 03 09 ac02 01 05 87808080808080808001 50",
        ),
        (Event::RawViewDropped { topic: TopicId(3) }, "3c 03"),
        (
            Event::RawStartMoved {
                partition: 5,
                offset: 42,
                bytes: 300,
            },
            "3d 05 54 ac02",
        ),
    ]
}

#[test]
fn events_are_written_as_version_1_wrote_them() {
    for (event, hex) in written() {
        let mut bytes = Vec::new();
        encode(&event, &mut bytes).unwrap();
        let spelled: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(spelled, hex.replace(' ', ""), "{event:?}");
    }
}

#[test]
fn a_frame_of_several_events_reads_back() {
    let events: Vec<Event> = written().into_iter().map(|(event, _)| event).collect();
    let mut decision = Vec::new();
    for event in &events {
        encode(event, &mut decision).unwrap();
    }
    assert_eq!(decode(&decision).unwrap(), events);
    for cut in 1..decision.len() {
        // Cut anywhere, it is an error or fewer events, never a panic.
        let _ = decode(&decision[..cut]);
    }
}
