//! Hostile bytes for the AMQP port.

use super::{attack, hurl, noise, throw, under_attack};
use crate::case::Context;
use crate::raw::amqp;

/// The AMQP port under attack.
pub(in crate::suites::faults) fn run(context: &Context<'_>) -> anyhow::Result<()> {
    let method = |channel, id, args: &[u8]| {
        let mut out = Vec::new();
        amqp::put_method(&mut out, channel, id, args);
        out
    };
    let frame = |kind, channel, payload: &[u8]| {
        let mut out = Vec::new();
        amqp::put_frame(&mut out, kind, channel, payload);
        out
    };
    let start_ok = |table: &[u8]| {
        let mut args = Vec::new();
        amqp::long(&mut args, table);
        amqp::short(&mut args, "PLAIN");
        amqp::long(&mut args, b"\0guest\0guest");
        amqp::short(&mut args, "en_US");
        method(0, (10, 11), &args)
    };
    let header = |size: u64, table: &[u8]| {
        let mut payload = vec![0, 60, 0, 0];
        payload.extend(size.to_be_bytes());
        payload.extend(0x2000u16.to_be_bytes());
        amqp::long(&mut payload, table);
        frame(2, 1, &payload)
    };
    let publish = method(1, (60, 40), &[0, 0, 0, 1, b'x', 0]);
    let declare = |table: &[u8]| {
        let mut args = vec![0, 0];
        amqp::short(&mut args, "hostile");
        args.push(0);
        amqp::long(&mut args, table);
        method(1, (50, 10), &args)
    };
    let mut attacks = vec![
        attack("AMQP 1.0", 0, b"AMQP\x03\x01\x00\x00".to_vec()),
        attack("HTTP", 0, b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        attack("half a header", 0, b"AMQP".to_vec()),
        attack(
            "a frame of 4 GiB",
            1,
            vec![1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 10, 0, 11],
        ),
        attack(
            "a frame of 5000 bytes before tune",
            1,
            frame(1, 0, &[0; 5000]),
        ),
        attack("tables 600 deep before login", 1, start_ok(&nested(600))),
        attack(
            "a table that claims 4 GiB",
            1,
            method(0, (10, 11), &[0xff; 64]),
        ),
        attack("publish before login", 1, publish.clone()),
        attack(
            "no frame end",
            1,
            vec![1, 0, 0, 0, 0, 0, 4, 0, 10, 0, 11, 0],
        ),
        attack("an unknown frame type", 1, frame(77, 0, b"")),
        attack("an unknown method", 2, method(1, (99, 99), b"")),
        attack("a method cut short", 2, method(1, (50, 10), &[0, 0, 200])),
        attack(
            "a channel that isn't open",
            2,
            method(9, (50, 10), &[0; 12]),
        ),
        attack("content without a method", 2, header(5, b"")),
        attack(
            "a body before its header",
            2,
            [&publish[..], &frame(3, 1, b"x")].concat(),
        ),
        attack(
            "a body of 2^64-1",
            2,
            [&publish[..], &header(u64::MAX, b""), &frame(3, 1, b"x")].concat(),
        ),
        attack(
            "a body of 100 GB",
            2,
            [&publish[..], &header(100 << 30, b""), &frame(3, 1, b"x")].concat(),
        ),
        attack(
            "more body than said",
            2,
            [&publish[..], &header(1, b""), &frame(3, 1, b"xyz")].concat(),
        ),
        attack(
            "headers 3000 deep",
            2,
            [&publish[..], &header(0, &nested(3000))].concat(),
        ),
        attack("arguments 3000 deep", 2, declare(&nested(3000))),
        attack(
            "arguments of an unknown type",
            2,
            declare(b"\x01a\xee\x00\x00"),
        ),
        attack(
            "an array that claims 4 GiB",
            2,
            declare(b"\x01aA\xff\xff\xff\xff"),
        ),
        attack(
            "a long string that claims 4 GiB",
            2,
            declare(b"\x01aS\xff\xff\xff\xff"),
        ),
        attack("a frame over frame-max", 2, frame(3, 1, &[0; 140_000])),
        attack("10,000 heartbeats", 2, frame(8, 0, b"").repeat(10_000)),
        attack("a heartbeat on channel 1", 2, frame(8, 1, b"")),
        attack("ack of a tag unknown", 2, method(1, (60, 80), &[0xff; 9])),
        attack("a second channel.open", 2, method(1, (20, 10), &[0])),
        attack(
            "2,000 channels",
            2,
            (2..2002)
                .flat_map(|channel| method(channel, (20, 10), &[0]))
                .collect(),
        ),
    ];
    for stage in 0..3 {
        for seed in 0..20 {
            attacks.push(attack(
                format!("noise at stage {stage}"),
                stage,
                noise(seed, 500),
            ));
            attacks.push(attack(
                format!("framed noise at stage {stage}"),
                stage,
                frame(1 + (seed % 3) as u8, (seed % 2) as u16, &noise(seed, 300)),
            ));
        }
    }
    under_attack(context, &attacks, |target, attack| {
        let address = target.amqp()?;
        match attack.stage {
            0 => throw(address, attack, &[]),
            stage => {
                let mut client = amqp::Client::greet(address)?;
                if stage == 2 {
                    client.log_in()?;
                    client.call((20, 10), &[0], (20, 11))?;
                }
                hurl(client.stream, &attack.bytes);
                Ok(())
            }
        }
    })
}

/// An AMQP table in a table in a table.
fn nested(depth: usize) -> Vec<u8> {
    let mut table = Vec::new();
    for _ in 0..depth {
        let mut outer = vec![1, b'a', b'F'];
        amqp::long(&mut outer, &table);
        table = outer;
    }
    table
}
