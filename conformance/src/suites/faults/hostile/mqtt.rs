//! Hostile bytes for the MQTT port.

use super::{attack, noise, throw, under_attack};
use crate::case::Context;

/// The MQTT port under attack.
pub(in crate::suites::faults) fn run(context: &Context<'_>) -> anyhow::Result<()> {
    let packet = |first: u8, body: &[u8]| {
        let mut out = vec![first];
        let mut rest = body.len();
        while rest >= 0x80 {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
        out.extend(body);
        out
    };
    let string = |text: &[u8]| [&(text.len() as u16).to_be_bytes()[..], text].concat();
    let connect = |level: u8, flags: u8, rest: &[u8]| {
        packet(
            0x10,
            &[&string(b"MQTT")[..], &[level, flags, 0, 0], rest].concat(),
        )
    };
    let publish = |topic: &[u8]| packet(0x30, &[&string(topic)[..], b"x"].concat());
    let subscribe = |filter: &[u8]| packet(0x82, &[&[0, 1][..], &string(filter), &[1]].concat());
    let levels = |level: &str, count: usize| vec![level; count].join("/").into_bytes();
    let mut attacks = vec![
        attack(
            "a length without end",
            0,
            vec![0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        ),
        attack(
            "256 MiB that never come",
            0,
            vec![0x10, 0xff, 0xff, 0xff, 0x7f, 0, 4],
        ),
        attack("PUBLISH before CONNECT", 0, publish(b"a")),
        attack("packet type 0", 0, vec![0, 0]),
        attack(
            "a protocol unknown",
            0,
            packet(0x10, &[&string(b"MQXX")[..], &[4, 2, 0, 0, 0, 0]].concat()),
        ),
        attack("level 9", 0, connect(9, 2, &string(b"x"))),
        attack("the reserved flag", 0, connect(4, 3, &string(b"x"))),
        attack("will QoS 3", 0, connect(4, 0x1e, &string(b"x"))),
        attack(
            "a client id cut short",
            0,
            connect(4, 2, &[0xff, 0xff, b'x']),
        ),
        attack(
            "a client id that isn't UTF-8",
            0,
            connect(4, 2, &string(b"\xff\xfe")),
        ),
        attack(
            "properties past the packet",
            0,
            connect(5, 2, &[0xff, 0xff, 0x7f, 1]),
        ),
        attack(
            "the same property twice",
            0,
            connect(
                5,
                2,
                &[&[10, 17, 0, 0, 0, 1, 17, 0, 0, 0, 1][..], &string(b"x")].concat(),
            ),
        ),
        attack(
            "a will with a wildcard",
            0,
            connect(4, 6, &[string(b"x"), string(b"#"), string(b"x")].concat()),
        ),
        attack(
            "256 MiB after login",
            2,
            vec![0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, b'a'],
        ),
        attack("a second CONNECT", 2, connect(4, 2, &string(b"again"))),
        attack(
            "QoS 3",
            2,
            packet(0x36, &[&string(b"a")[..], &[0, 1]].concat()),
        ),
        attack(
            "packet id 0",
            2,
            packet(0x32, &[&string(b"a")[..], &[0, 0]].concat()),
        ),
        attack("a wildcard in a topic", 2, publish(b"a/#")),
        attack("an empty topic", 2, publish(b"")),
        attack("NUL in a topic", 2, publish(b"a\0b")),
        attack("a topic that isn't UTF-8", 2, publish(b"\xc3\x28")),
        attack(
            "a topic past the packet",
            2,
            packet(0x30, &[0xff, 0xff, b'a']),
        ),
        attack("SUBSCRIBE without filters", 2, packet(0x82, &[0, 1])),
        attack(
            "SUBSCRIBE with wrong flags",
            2,
            packet(0x80, &[&[0, 1][..], &string(b"a"), &[0]].concat()),
        ),
        attack(
            "SUBSCRIBE QoS 3",
            2,
            packet(0x82, &[&[0, 1][..], &string(b"a"), &[3]].concat()),
        ),
        attack("a filter like sport+", 2, subscribe(b"sport+")),
        attack("a filter like #/a", 2, subscribe(b"#/a")),
        attack(
            "accents against a wildcard",
            2,
            [subscribe(b"+/x"), publish("é/x".as_bytes())].concat(),
        ),
        attack("30,000 levels", 2, publish(&levels("a", 30_000))),
        attack(
            "30,000 wildcards",
            2,
            [
                subscribe(&levels("+", 30_000)),
                publish(&levels("a", 30_000)),
            ]
            .concat(),
        ),
        attack("PUBREL of an id unknown", 2, packet(0x62, &[0, 9])),
        attack("PUBACK of an id unknown", 2, packet(0x40, &[0, 9])),
        attack("a CONNACK from a client", 2, vec![0x20, 2, 0, 0]),
        attack("10,000 pings", 2, [0xc0, 0].repeat(10_000)),
    ];
    for stage in [0, 2] {
        for seed in 0..30 {
            attacks.push(attack(
                format!("noise at stage {stage}"),
                stage,
                noise(seed, 400),
            ));
            let first = (noise(seed, 1)[0] & 0xf0) | 2;
            attacks.push(attack(
                format!("framed noise at stage {stage}"),
                stage,
                packet(first, &noise(seed, 90)),
            ));
        }
    }
    under_attack(context, &attacks, |target, attack| {
        let hello = connect(
            4,
            2,
            &string(format!("hostile-{}", attack.bytes.len()).as_bytes()),
        );
        throw(
            target.mqtt()?,
            attack,
            if attack.stage == 2 { &hello } else { &[] },
        )
    })
}
