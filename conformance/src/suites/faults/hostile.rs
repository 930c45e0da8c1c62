//! Hostile bytes under an address-space limit, while a probe of 100 messages a second per protocol goes on undisturbed.

use crate::case::Context;
use crate::harness::{GatewayOptions, Target};
use crate::raw::{self, amqp, kafka, mqtt};
use anyhow::{Context as _, ensure};
use mqttbytes::QoS;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

const LATENCY_P99: Duration = Duration::from_millis(50);
/// How often an attack is carried out, at the most, for one round in which that holds.
const ROUNDS: u32 = 3;
const PERIOD: Duration = Duration::from_millis(10);
/// How long a hostile peer looks at what comes back.
const LOOK: Duration = Duration::from_millis(150);

/// One hostile peer: what it sends after a greeting in good order, if it has one.
struct Attack {
    name: String,
    bytes: Vec<u8>,
    /// 0: nothing before it; 1: the handshake's first half; 2: logged in.
    stage: u8,
}

fn attack(name: impl Into<String>, stage: u8, bytes: Vec<u8>) -> Attack {
    Attack {
        name: name.into(),
        bytes,
        stage,
    }
}

pub(super) fn kafka(context: &Context<'_>) -> anyhow::Result<()> {
    let frame = |api, version, body: &[u8]| kafka::request(api, version, 1, body);
    let sized = |size: i32, body: &[u8]| [&size.to_be_bytes()[..], body].concat();
    let huge = i32::MAX.to_be_bytes();
    let mut attacks = vec![
        attack("negative size", 0, sized(-1, b"")),
        attack("size 0", 0, sized(0, b"")),
        attack("size 3", 0, sized(3, b"abc")),
        attack("size 2^31-1", 0, sized(i32::MAX, &[0; 4096])),
        attack(
            "a size of 99 MB that never comes",
            0,
            sized(99_000_000, &[1; 4096]),
        ),
        attack("unknown api", 0, frame(999, 0, b"")),
        attack("negative api", 0, frame(-5, 0, b"")),
        attack("version of tomorrow", 0, frame(3, 99, b"")),
        attack(
            "ApiVersions of tomorrow",
            0,
            frame(18, 99, b"\xff\xff\xff\xff"),
        ),
        attack("truncated header", 0, sized(8, &[0, 3, 0, 1, 0, 0, 0, 1])),
        attack(
            "client id of 32 KiB that isn't there",
            0,
            sized(10, &[0, 3, 0, 1, 0, 0, 0, 1, 0x7f, 0xff]),
        ),
        attack("HTTP", 0, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec()),
        attack(
            "TLS",
            0,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        ),
    ];
    for (api, version) in [
        (3i16, 1i16),
        (3, 4),
        (3, 12),
        (1, 4),
        (1, 12),
        (0, 7),
        (0, 9),
        (2, 1),
        (2, 6),
        (8, 2),
        (8, 8),
    ]
    .into_iter()
    .chain([
        (9, 1),
        (9, 8),
        (10, 4),
        (11, 5),
        (11, 6),
        (12, 4),
        (13, 4),
        (14, 3),
        (14, 5),
        (19, 2),
        (19, 5),
    ])
    .chain([(20, 1), (20, 6), (22, 0), (22, 4), (32, 1), (32, 4)])
    {
        let at = |what: &str| format!("{what}, api {api} v{version}");
        attacks.push(attack(at("count 2^31-1"), 0, frame(api, version, &huge)));
        attacks.push(attack(
            at("compact count 2^32-1"),
            0,
            frame(api, version, &[0, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        ));
        attacks.push(attack(at("all ones"), 0, frame(api, version, &[0xff; 512])));
        attacks.push(attack(at("all 0x7f"), 0, frame(api, version, &[0x7f; 512])));
        attacks.push(attack(at("nothing"), 0, frame(api, version, b"")));
        attacks.push(attack(
            at("noise"),
            0,
            frame(api, version, &noise(u64::from(api.unsigned_abs()) + 7, 700)),
        ));
    }
    for (name, broken) in broken_batches() {
        let body = kafka::produce_body("hostile", -1, &broken);
        attacks.push(attack(name, 0, frame(0, 7, &body)));
    }
    for seed in 0..40 {
        attacks.push(attack("noise", 0, noise(seed, 600)));
    }
    under_attack(context, &attacks, |target, attack| {
        throw(target.kafka()?, attack, &[])
    })
}

fn broken_batches() -> Vec<(&'static str, Vec<u8>)> {
    let good = kafka::batch(&[b"hello"]);
    // Changes a batch and gives it a right checksum again.
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut batch = good.clone();
        change(&mut batch);
        let crc = crc32c::crc32c(&batch[21..]).to_be_bytes();
        batch[17..21].copy_from_slice(&crc);
        batch
    };
    let count = |n: i32| with(&|batch| batch[57..61].copy_from_slice(&n.to_be_bytes()));
    vec![
        ("a count of 2^20 in 61 bytes", count(1 << 20)),
        ("a count of 2^31-1", count(i32::MAX)),
        ("a negative count", count(-1)),
        ("a wrong checksum", {
            let mut batch = good.clone();
            batch[18] ^= 1;
            batch
        }),
        ("a batch cut short", good[..good.len() - 3].to_vec()),
        ("61 bytes of nothing", vec![0; 61]),
        ("magic 0", with(&|batch| batch[16] = 0)),
        ("a codec that isn't", with(&|batch| batch[22] = 7)),
        ("gzip of nothing", with(&|batch| batch[22] = 1)),
        (
            "snappy of 4 GiB",
            with(&|batch| {
                batch[22] = 2;
                batch.truncate(61);
                batch.extend([0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]);
                let size = batch.len() as i32 - 12;
                batch[8..12].copy_from_slice(&size.to_be_bytes());
            }),
        ),
        ("zstd of noise", with(&|batch| batch[22] = 4)),
        ("a client's control batch", with(&|batch| batch[22] = 32)),
        (
            "a delta that lies",
            with(&|batch| batch[23..27].copy_from_slice(&9i32.to_be_bytes())),
        ),
        (
            "a record longer than its batch",
            with(&|batch| batch[61] = 0xfe),
        ),
    ]
}

pub(super) fn amqp(context: &Context<'_>) -> anyhow::Result<()> {
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

pub(super) fn mqtt(context: &Context<'_>) -> anyhow::Result<()> {
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

/// Connects, says hello, throws the bytes, looks at what comes, and leaves.
fn throw(address: &str, attack: &Attack, hello: &[u8]) -> anyhow::Result<()> {
    let mut stream = raw::connect(address, Duration::from_secs(5))?;
    if !hello.is_empty() {
        stream.write_all(hello)?;
        _ = stream.read(&mut [0; 64])?;
    }
    hurl(stream, &attack.bytes);
    Ok(())
}

/// Writes and reads until the server has closed or said nothing for a moment. How it refuses is its own affair here.
fn hurl(mut stream: std::net::TcpStream, bytes: &[u8]) {
    _ = stream.set_write_timeout(Some(Duration::from_secs(2)));
    _ = stream.set_read_timeout(Some(LOOK));
    if stream.write_all(bytes).is_err() {
        return;
    }
    let until = Instant::now() + 4 * LOOK;
    let mut answer = [0; 4096];
    while Instant::now() < until && matches!(stream.read(&mut answer), Ok(1..)) {}
}

/// Attacks while probes run. Whatever is lost, disconnected or ended fails at once. Latency is judged in the best of
/// [`ROUNDS`] rounds: a machine that is busy with something else can only make it look worse than it is.
fn under_attack(
    context: &Context<'_>,
    attacks: &[Attack],
    carry_out: impl Fn(&Target, &Attack) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    let mut gateway = context.start(&GatewayOptions {
        wrapper: vec!["prlimit".into(), "--as=1073741824".into()],
        ..GatewayOptions::default()
    })?;
    let target = gateway.target().clone();
    let mut slow = Vec::new();
    for round in 0..ROUNDS {
        let probes = Probes::start(&target, round)?;
        sleep(Duration::from_millis(500));
        for attack in attacks {
            let refused = carry_out(&target, attack);
            if let Some(status) = gateway.exited()? {
                anyhow::bail!(
                    "\"{}\" ended the gateway, {status}:\n{}",
                    attack.name,
                    gateway.log_tail()
                );
            }
            refused.with_context(|| format!("connecting for \"{}\"", attack.name))?;
        }
        sleep(Duration::from_millis(500));
        match probes.finish()? {
            None => return gateway.ready(),
            Some(what) => slow.push(what),
        }
    }
    anyhow::bail!("in each of {ROUNDS} rounds: {}", slow.join("; "))
}

/// One client of each protocol that sends a message every 10 ms and wants it back.
struct Probes {
    stop: Arc<AtomicBool>,
    threads: Vec<(&'static str, JoinHandle<anyhow::Result<Vec<Duration>>>)>,
}

impl Probes {
    fn start(target: &Target, round: u32) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();

        let mut client = kafka::Client::open(target.kafka()?)?;
        if round == 0 {
            client.create("probe")?;
        }
        let mut reader = kafka::Client::open(target.kafka()?)?;
        threads.push((
            "Kafka",
            probe(&stop, move |number| {
                let offset = client.produce("probe", &number.to_be_bytes())?;
                let got = reader.fetch("probe", offset, 1000)?;
                let (at, value) = got.first().context("the record can't be fetched")?;
                ensure!(
                    *at == offset && value[..] == number.to_be_bytes(),
                    "another record at {offset}"
                );
                Ok(())
            }),
        ));

        let mut client = amqp::Client::open(target.amqp()?)?;
        client.declare_queue("probe-queue", true)?;
        client.consume("probe-queue", 0, true)?;
        threads.push((
            "AMQP",
            probe(&stop, move |number| {
                client.publish("", "probe-queue", &number.to_be_bytes())?;
                let (_, body) = amqp::read_delivery(&mut client.reader)?;
                ensure!(
                    body == number.to_be_bytes(),
                    "another message than {number}"
                );
                Ok(())
            }),
        ));

        let mut publisher = mqtt::Client::open(target.mqtt()?, "probe-publisher", true)?;
        let mut subscriber = mqtt::Client::open(target.mqtt()?, "probe-subscriber", true)?;
        subscriber.subscribe("probe-mqtt/x", QoS::AtLeastOnce)?;
        threads.push((
            "MQTT",
            probe(&stop, move |number| {
                publisher.publish("probe-mqtt/x", QoS::AtLeastOnce, &number.to_be_bytes())?;
                let message = subscriber.receive()?;
                ensure!(
                    message.payload[..] == number.to_be_bytes(),
                    "another message than {number}"
                );
                Ok(())
            }),
        ));
        Ok(Self { stop, threads })
    }

    /// Ends the probes: what was lost is an error; what was slow is told.
    fn finish(self) -> anyhow::Result<Option<String>> {
        let mut slow = None;
        self.stop.store(true, Ordering::Relaxed);
        for (name, thread) in self.threads {
            let mut latencies = thread
                .join()
                .ok()
                .context("a probe panicked")?
                .with_context(|| format!("the {name} probe"))?;
            latencies.sort_unstable();
            let p99 = latencies
                .get(latencies.len() * 99 / 100)
                .context("the probe sent nothing")?;
            if *p99 >= LATENCY_P99 {
                slow.get_or_insert(format!(
                    "the {name} probe's p99 is {p99:?} (p50 {:?}, {} messages)",
                    latencies[latencies.len() / 2],
                    latencies.len()
                ));
            }
        }
        Ok(slow)
    }
}

/// Carries out a round trip every 10 ms until told to stop; returns how long each took from when it was due.
fn probe(
    stop: &Arc<AtomicBool>,
    mut round_trip: impl FnMut(u64) -> anyhow::Result<()> + Send + 'static,
) -> JoinHandle<anyhow::Result<Vec<Duration>>> {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let start = Instant::now();
        let mut latencies = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let number = latencies.len() as u64;
            let due = start + PERIOD * latencies.len() as u32;
            sleep(due.saturating_duration_since(Instant::now()));
            round_trip(number).with_context(|| format!("message {number}"))?;
            latencies.push(due.elapsed());
        }
        Ok(latencies)
    })
}

/// Bytes that look random and are the same in every run.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}
