//! Anything a peer may send, and anything the broker may answer: no panic, nothing after the end, no state without bound.

use super::*;
use omnilog_broker::Published;
use proptest::prelude::*;

/// What happens next to a connection.
#[derive(Debug, Clone)]
enum Move {
    Bytes(Vec<u8>),
    Packet(u8, Vec<u8>),
    Publish(u8, u16),
    Ack(u8, u16),
    Subscribe(u16),
    Deliver(u8),
    Answer(bool),
    Pass(u64),
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        1 => proptest::collection::vec(any::<u8>(), 0..20).prop_map(Move::Bytes),
        1 => (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(first, body)| Move::Packet(first, body)),
        5 => (0_u8..3, 1_u16..5).prop_map(|(qos, id)| Move::Publish(qos, id)),
        5 => (4_u8..8, 1_u16..5).prop_map(|(kind, id)| Move::Ack(kind, id)),
        2 => (1_u16..5).prop_map(Move::Subscribe),
        5 => (0_u8..3).prop_map(Move::Deliver),
        9 => any::<bool>().prop_map(Move::Answer),
        1 => (0_u64..20).prop_map(Move::Pass),
    ]
}

/// An answer that fits the command, or a refusal.
fn answer(command: &Command, yes: bool) -> Result<Reply, Refusal> {
    if !yes {
        return Err(Refusal::NotPermitted(
            omnilog_broker::Noun::Topic,
            Bytes::new(),
        ));
    }
    Ok(match command {
        Command::Publish(_) => Reply::Published(Published {
            outcomes: vec![],
            duplicate: false,
        }),
        Command::Step(..) => Reply::Step(true),
        Command::Subscribe(subscribe) => {
            Reply::Subscribed(vec![Ok(()); subscribe.subscriptions.len()])
        }
        Command::Unsubscribe(unsubscribe) => {
            Reply::Unsubscribed(vec![true; unsubscribe.filters.len()])
        }
        _ => Reply::Done,
    })
}

fn make(pair: &mut Pair, version: u8, step: &Move, entry: u64) {
    match step {
        Move::Bytes(bytes) => pair.send(bytes),
        Move::Packet(first, body) => pair.send(&packet(*first, &[body])),
        Move::Publish(qos, id) => pair.send(&publish(version, qos << 1, "a/b", *id, &[], b"x")),
        Move::Ack(kind, id) => {
            let flags = if *kind == 6 { 2 } else { 0 };
            pair.send(&ack(kind << 4 | flags, *id));
        }
        Move::Subscribe(id) => pair.send(&subscribe(version, *id, &[], &[("a/#", 2)])),
        Move::Deliver(qos) => pair.deliver(delivery(entry, "a/b", *qos, b"y")),
        Move::Answer(yes) => {
            if pair.commands.is_empty() {
                return;
            }
            let (correlation, command) = pair.commands.remove(0);
            if correlation != 0 {
                pair.reply(correlation, answer(&command, *yes));
            }
        }
        Move::Pass(seconds) => pair.pass(Duration::from_secs(*seconds)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_connection_survives_anything_or_ends(
        v5: bool,
        steps in proptest::collection::vec(moves(), 0..60),
    ) {
        let version = if v5 { 5 } else { 4 };
        let connect = connect_with(version, "c", 2, 10, &[], &[]);
        let mut pair = Pair::open_with(MqttConfig::default(), &connect);
        for (entry, step) in steps.iter().enumerate() {
            if pair.ended.is_some() || pair.out.closing().is_some() {
                break;
            }
            make(&mut pair, version, step, entry as u64);
        }
        // Whatever is written consists of whole packets.
        let mut written = &pair.bytes()[..];
        while let Some(header) = FixedHeader::parse(written, usize::MAX).unwrap() {
            written = &written[header.length + header.remaining..];
        }
        prop_assert!(written.is_empty());
        let told = |pair: &Pair| {
            let is_close = |command: &(u64, Command)| matches!(command.1, Command::CloseSession(_));
            pair.commands.iter().filter(|command| is_close(command)).count()
        };
        pair.close(ClosedBy::Peer);
        prop_assert_eq!(told(&pair), 1, "the broker hears of the end once");
    }
}
