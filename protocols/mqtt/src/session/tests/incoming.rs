//! What the client publishes.

use super::*;
use omnilog_broker::{Publish, Published, RetainAction, Routed, SessionStep, Wait};

fn published() -> Reply {
    Reply::Published(Published {
        outcomes: vec![],
        duplicate: false,
    })
}

fn as_publish(command: Command) -> Publish {
    match command {
        Command::Publish(publish) => publish,
        other => panic!("{other:?}"),
    }
}

#[test]
fn qos_0_waits_for_nothing() {
    let mut pair = Pair::open(4);
    pair.send(&publish(4, 0, "a/b", 0, &[], b"x"));
    let (correlation, command) = pair.commands.remove(0);
    assert_eq!((correlation, as_publish(command).wait), (0, Wait::Decided));
    assert!(pair.bytes().is_empty());
}

#[test]
fn puback_waits_for_the_broker() {
    let mut pair = Pair::open(4);
    pair.send(&publish(4, 2, "a/b", 9, &[], b"x"));
    assert!(pair.bytes().is_empty());
    let sent = as_publish(pair.answer(published()));
    assert_eq!(sent.wait, Wait::Durable);
    assert_eq!(sent.records[0].envelope.publisher, "c");
    assert_eq!(pair.bytes(), [0x40, 2, 0, 9]);
}

#[test]
fn consecutive_publishes_of_one_first_level_are_one_command() {
    let mut pair = Pair::open(4);
    pair.send(
        &[
            publish(4, 2, "a/1", 1, &[], b"x"),
            publish(4, 2, "a/2", 8, &[], b"y"),
            publish(4, 2, "a", 2, &[], b"z"),
            publish(4, 2, "b", 3, &[], b"z"),
        ]
        .concat(),
    );
    let (second, first) = (pair.commands.remove(1), pair.commands.remove(0));
    assert_eq!(as_publish(first.1).records.len(), 3);
    assert_eq!(as_publish(second.1).records.len(), 1);
    // Acknowledged in the order of the publishes, whatever comes first [4.6.0-2].
    pair.reply(second.0, Ok(published()));
    assert!(pair.bytes().is_empty());
    pair.reply(first.0, Ok(published()));
    assert_eq!(
        pair.bytes(),
        [0x40, 2, 0, 1, 0x40, 2, 0, 8, 0x40, 2, 0, 2, 0x40, 2, 0, 3]
    );
}

#[test]
fn qos_0_is_gathered_apart_from_the_others() {
    let mut pair = Pair::open(4);
    let each = [0, 0, 2, 2, 0];
    let packets: Vec<u8> = each
        .iter()
        .zip(1..)
        .flat_map(|(&flags, id)| publish(4, flags, "a", id, &[], b"x"))
        .collect();
    pair.send(&packets);
    let counts = [(); 3].map(|()| as_publish(pair.command()).records.len());
    assert_eq!(counts, [2, 2, 1]);
}

#[test]
fn version_5_hears_what_became_of_each() {
    let mut pair = Pair::open(5);
    let both = [
        publish(5, 2, "a", 1, &[], b"x"),
        publish(5, 2, "a", 2, &[], b"x"),
    ]
    .concat();
    pair.send(&both);
    let outcomes = vec![Routed::NoTaker, Routed::Rejected];
    pair.answer(Reply::Published(Published {
        outcomes,
        duplicate: false,
    }));
    let bytes = pair.bytes();
    assert_eq!(bytes[..5], [0x40, 3, 0, 1, 0x10]);
    assert_eq!((bytes[5], bytes[9]), (0x40, 0x97));
}

#[test]
fn qos_2_goes_through_its_four_packets() {
    // 4.3.3: PUBREC after the message is durable, PUBCOMP after the removal of the id is.
    let mut pair = Pair::open(5);
    pair.send(&publish(5, 4, "a", 7, &[], b"x"));
    let sent = as_publish(pair.answer(published()));
    assert_eq!(sent.dedupe.map(|dedupe| dedupe.packet_id), Some(7));
    assert_eq!(pair.bytes(), [0x50, 2, 0, 7]);
    pair.send(&ack(0x62, 7));
    assert!(pair.bytes().is_empty());
    let step = pair.answer(Reply::Step(true));
    assert_eq!(
        step,
        Command::Step(SESSION, SessionStep::Released { packet_id: 7 })
    );
    assert_eq!(pair.bytes(), [0x70, 2, 0, 7]);
    pair.send(&ack(0x62, 7));
    pair.answer(Reply::Step(false));
    assert_eq!(pair.bytes(), [0x70, 3, 0, 7, 0x92]);
}

#[test]
fn a_repeated_qos_2_publish_is_the_brokers_to_tell() {
    // 4.3.3-10
    let mut pair = Pair::open(4);
    for flags in [4, 0x0C] {
        pair.send(&publish(4, flags, "a", 7, &[], b"x"));
        pair.answer(Reply::Published(Published {
            outcomes: vec![],
            duplicate: flags != 4,
        }));
        assert_eq!(pair.bytes(), [0x50, 2, 0, 7]);
    }
}

#[test]
fn a_rejected_qos_2_publish_frees_its_id() {
    let mut pair = Pair::open(5);
    pair.send(&publish(5, 4, "a", 7, &[], b"x"));
    let outcomes = vec![Routed::Rejected];
    pair.answer(Reply::Published(Published {
        outcomes,
        duplicate: false,
    }));
    let bytes = pair.bytes();
    assert_eq!((bytes[0], bytes[4]), (0x50, 0x97));
    assert_eq!(
        pair.command(),
        Command::Step(SESSION, SessionStep::Released { packet_id: 7 })
    );
}

#[test]
fn more_than_the_receive_maximum_is_too_much() {
    // 3.3.4-7
    let config = MqttConfig {
        receive_max: 2,
        ..MqttConfig::default()
    };
    let mut pair = Pair::open_with(config.clone(), &connect(5, "c", 2, &[]));
    for id in 1..=2 {
        pair.send(&publish(5, 4, "a", id, &[], b"x"));
    }
    // The same id again is the same exchange.
    pair.send(&publish(5, 0x0C, "a", 1, &[], b"x"));
    assert!(pair.ended.is_none());
    pair.send(&publish(5, 2, "a", 3, &[], b"x"));
    assert_eq!(pair.bytes()[2], 0x93);
    assert!(pair.ended.is_some());
    // Version 3 was never told.
    let mut pair = Pair::open_with(config, &connect(4, "c", 2, &[]));
    for id in 1..=3 {
        pair.send(&publish(4, 4, "a", id, &[], b"x"));
    }
    assert!(pair.ended.is_none());
}

#[test]
fn aliases_stand_for_topics() {
    // 3.3.2-7 to 3.3.2-9
    let mut pair = Pair::open(5);
    pair.send(&publish(5, 0, "a/b", 0, &[Property::TopicAlias(3)], b"1"));
    pair.send(&publish(5, 0, "", 0, &[Property::TopicAlias(3)], b"2"));
    pair.command();
    let second = as_publish(pair.command());
    let topic = Bytes::from_static(b"a/b");
    assert_eq!(
        second.records[0].envelope.address,
        omnilog_broker::Address::Mqtt { topic }
    );
    pair.send(&publish(5, 0, "", 0, &[Property::TopicAlias(4)], b"3"));
    assert_eq!(pair.bytes()[2], 0x82);
}

#[test]
fn an_alias_above_the_maximum_is_invalid() {
    let mut pair = Pair::open(5);
    pair.send(&publish(5, 0, "a", 0, &[Property::TopicAlias(65)], b"1"));
    assert_eq!(pair.bytes()[2], 0x94);
}

#[test]
fn retain_sets_and_clears() {
    // 3.3.1-5 to 3.3.1-7
    let mut pair = Pair::open(4);
    let both = [
        publish(4, 1, "a", 0, &[], b"x"),
        publish(4, 1, "a", 0, &[], b""),
    ]
    .concat();
    pair.send(&both);
    let sent = as_publish(pair.command());
    let actions: Vec<_> = sent.records.iter().map(|record| record.retain).collect();
    assert_eq!(
        actions,
        [Some(RetainAction::Set), Some(RetainAction::Clear)]
    );
}

#[test]
fn message_expiry_is_stamped_at_receipt() {
    let mut pair = Pair::open(5);
    pair.send(&publish(5, 0, "a", 0, &[Property::MessageExpiry(3)], b"x"));
    let envelope = as_publish(pair.command()).records.remove(0).envelope;
    assert_eq!(envelope.expires_at_ms, Some(1_003_000));
    assert!(envelope.properties.is_empty());
}

#[test]
fn the_servers_own_topics_are_not_published_to() {
    let mut pair = Pair::open(5);
    pair.send(&publish(5, 2, "$SYS/x", 1, &[], b"x"));
    assert_eq!(pair.bytes()[4], 0x87);
    pair.send(&publish(5, 0, "$SYS/x", 0, &[], b"x"));
    assert!(pair.ended.is_none() && pair.commands.is_empty());
    // In version 3 there is no word for it: acknowledged and dropped.
    let mut pair = Pair::open(4);
    pair.send(&publish(4, 2, "$SYS/x", 1, &[], b"x"));
    assert_eq!(pair.bytes(), [0x40, 2, 0, 1]);
    assert!(pair.commands.is_empty());
}

#[test]
fn a_topic_of_too_many_levels_ends_the_connection() {
    let mut pair = Pair::open(5);
    pair.send(&publish(5, 0, &"/".repeat(65_000), 0, &[], b"x"));
    assert_eq!(pair.bytes()[2], 0x90);
    let mut pair = Pair::open(5);
    pair.send(&publish(5, 0, &"/".repeat(200), 0, &[], b"x"));
    assert_eq!(pair.bytes()[2], 0x90);
}

#[test]
fn a_refusal_that_may_pass_closes_version_3_and_is_told_version_5() {
    let mut pair = Pair::open(4);
    pair.send(&publish(4, 2, "a", 1, &[], b"x"));
    let (correlation, _) = pair.commands.remove(0);
    pair.reply(correlation, Err(Refusal::DiskFull));
    assert!(pair.bytes().is_empty() && pair.ended.is_some());
    let mut pair = Pair::open(5);
    pair.send(&publish(5, 2, "a", 1, &[], b"x"));
    let (correlation, _) = pair.commands.remove(0);
    pair.reply(correlation, Err(Refusal::DiskFull));
    assert_eq!(pair.bytes()[4], 0x97);
    assert!(pair.ended.is_none());
}

#[test]
fn blocked_publishers_are_not_read_and_others_are() {
    let mut pair = Pair::open(4);
    pair.event(Event::Blocked(omnilog_broker::BlockReason::Disk));
    pair.send(&[0xC0, 0]);
    assert_eq!(pair.bytes(), [0xD0, 0]);
    pair.send(&publish(4, 2, "a", 1, &[], b"x"));
    assert!(pair.out.reading_paused() && pair.commands.is_empty());
    assert_eq!(pair.session.deadline(), None);
    pair.event(Event::Unblocked);
    as_publish(pair.command());
}

#[test]
fn a_packet_in_pieces_is_one_packet() {
    let mut pair = Pair::open(4);
    for byte in publish(4, 0, "a/b", 0, &[], b"payload") {
        assert!(pair.commands.is_empty());
        pair.send(&[byte]);
    }
    as_publish(pair.command());
}
