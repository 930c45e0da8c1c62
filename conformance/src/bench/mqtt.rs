//! MQTT's load: one publisher, one subscriber, QoS 0 or 1.

use super::{Done, Latencies, Pace, all_came, await_due, body};
use crate::raw::mqtt::{Client, Packets, number, put_puback, put_publish};
use anyhow::{Context as _, bail};
use mqttbytes::QoS;
use mqttbytes::v4::Packet;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Instant;

/// Messages published and not yet received, at most.
const WINDOW: usize = 1000;
/// Messages of QoS 1 not yet acknowledged, at most.
const IN_FLIGHT: usize = 100;
const BATCH: u64 = 25;

pub(super) fn run(address: &str, name: &str, qos: u8, pace: Pace) -> anyhow::Result<Done> {
    let topic = format!("{name}/x");
    let mut subscriber = Client::open(address, &format!("{name}-s"), true)?;
    subscriber.subscribe(
        &topic,
        if qos == 0 {
            QoS::AtMostOnce
        } else {
            QoS::AtLeastOnce
        },
    )?;
    let publisher = Client::open(address, &format!("{name}-p"), true)?;
    let (mut stream, acks) = publisher.split();
    let (window, received) = sync_channel(WINDOW);
    let (flight, acked) = sync_channel(IN_FLIGHT);
    let start = Instant::now();
    thread::scope(|scope| {
        if qos > 0 {
            scope.spawn(move || take_acks(acks, &acked, pace.messages));
        }
        let (stream_in, packets) = subscriber.split();
        let receives = scope.spawn(move || receive(stream_in, packets, &received, pace, start));
        let mut out = Vec::new();
        for sent in 0..pace.messages {
            let due = pace.rate.map_or(0, |rate| await_due(start, sent, rate));
            let full = window.try_send(()).is_err();
            let crowded = qos > 0 && flight.try_send(()).is_err();
            if full || crowded {
                stream.write_all(&out)?;
                out.clear();
                if full {
                    window.send(()).ok().context("the subscriber ended early")?;
                }
                if crowded {
                    flight.send(()).ok().context("the acks ended early")?;
                }
            }
            put_publish(
                &mut out,
                &topic,
                qos,
                (sent % 65_535) as u16 + 1,
                &body(due),
            );
            if pace.rate.is_some() || sent % BATCH == BATCH - 1 {
                stream.write_all(&out)?;
                out.clear();
            }
        }
        stream.write_all(&out)?;
        let latency = receives.join().ok().context("the subscriber panicked")??;
        anyhow::Ok(Done {
            seconds: start.elapsed().as_secs_f64(),
            latency: pace.rate.map(|_| latency.summary()),
        })
    })
}

fn take_acks(mut packets: Packets, acked: &Receiver<()>, messages: u64) -> anyhow::Result<()> {
    for _ in 0..messages {
        match packets.next()? {
            Packet::PubAck(_) => acked.recv()?,
            other => bail!("{other:?} instead of PUBACK"),
        }
    }
    Ok(())
}

fn receive(
    mut stream: TcpStream,
    mut packets: Packets,
    received: &Receiver<()>,
    pace: Pace,
    start: Instant,
) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::new()?;
    let mut acks = Vec::new();
    let mut count = 0;
    while count < pace.messages {
        let packet = packets
            .next()
            .with_context(|| format!("after {count} messages"))?;
        let Packet::Publish(publish) = packet else {
            continue;
        };
        count += 1;
        received.recv()?;
        if pace.rate.is_some() {
            latencies.record(number(&publish.payload)?, start)?;
        }
        if publish.pkid != 0 {
            put_puback(&mut acks, publish.pkid);
            if packets.is_drained() || count % BATCH == 0 {
                stream.write_all(&acks)?;
                acks.clear();
            }
        }
    }
    stream.write_all(&acks)?;
    all_came(count, pace.messages)?;
    Ok(latencies)
}
