//! AMQP's load: persistent messages, confirms, a consumer that acknowledges one by one.

use super::{Done, Latencies, Pace, all_came, await_due, body};
use crate::raw::amqp::{self, BASIC_ACK, BASIC_DELIVER, Client};
use anyhow::{Context as _, bail};
use std::io::Write as _;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Instant;

/// Publishes not yet confirmed, at most.
const WINDOW: usize = 1000;
/// Publishes and acks in one write, at most.
const BATCH: usize = 50;

pub(super) fn run(address: &str, queue: &str, pace: Pace) -> anyhow::Result<Done> {
    let mut publisher = Client::open(address)?;
    publisher.declare_queue(queue, true)?;
    publisher.confirm()?;
    let mut consumer = Client::open(address)?;
    consumer.consume(queue, 1000, false)?;
    let (room, used) = sync_channel(WINDOW);
    let start = Instant::now();
    let Client {
        mut stream,
        mut reader,
    } = publisher;
    thread::scope(|scope| {
        let confirms = scope.spawn(move || take_confirms(&mut reader, &used, pace.messages));
        let consumes = scope.spawn(move || consume(consumer, pace, start));
        let mut out = Vec::new();
        for number in 0..pace.messages {
            let due = pace.rate.map_or(0, |rate| await_due(start, number, rate));
            if room.try_send(()).is_err() {
                // The window is full: what is gathered goes out before waiting.
                stream.write_all(&out)?;
                out.clear();
                room.send(()).ok().context("the confirms ended early")?;
            }
            amqp::put_publish(&mut out, "", queue, &body(due));
            if pace.rate.is_some() || number % BATCH as u64 == BATCH as u64 - 1 {
                stream.write_all(&out)?;
                out.clear();
            }
        }
        stream.write_all(&out)?;
        confirms.join().ok().context("the confirms panicked")??;
        let latency = consumes.join().ok().context("the consumer panicked")??;
        anyhow::Ok(Done {
            seconds: start.elapsed().as_secs_f64(),
            latency: pace.rate.map(|_| latency.summary()),
        })
    })
}

fn take_confirms(
    reader: &mut amqp::Reader,
    used: &Receiver<()>,
    messages: u64,
) -> anyhow::Result<()> {
    let mut confirmed = 0;
    while confirmed < messages {
        let frame =
            amqp::read_frame(reader).with_context(|| format!("after {confirmed} confirms"))?;
        match frame.method() {
            Some(BASIC_ACK) => {
                let tag = frame.tag().context("a confirm without number")?;
                let count = if frame.is_multiple() {
                    tag - confirmed
                } else {
                    1
                };
                confirmed += count;
                for _ in 0..count {
                    used.recv()?;
                }
            }
            Some(other) => bail!("method {other:?} instead of a confirm"),
            None => {}
        }
    }
    Ok(())
}

fn consume(client: Client, pace: Pace, start: Instant) -> anyhow::Result<Latencies> {
    let Client {
        mut stream,
        mut reader,
    } = client;
    let mut latencies = Latencies::new()?;
    let mut acks = Vec::new();
    let mut received = 0;
    let mut tag = None;
    while received < pace.messages {
        let frame =
            amqp::read_frame(&mut reader).with_context(|| format!("after {received} messages"))?;
        if frame.method() == Some(BASIC_DELIVER) {
            tag = frame.tag();
        } else if frame.kind == amqp::FRAME_BODY {
            received += 1;
            if pace.rate.is_some() {
                latencies.record(crate::raw::mqtt::number(&frame.payload)?, start)?;
            }
            amqp::put_ack(&mut acks, tag.context("a body without basic.deliver")?);
            // One ack per message; several go into one write when several messages came in one read.
            if reader.buffer().is_empty() || received % BATCH as u64 == 0 {
                stream.write_all(&acks)?;
                acks.clear();
            }
        }
    }
    stream.write_all(&acks)?;
    all_came(received, pace.messages)?;
    Ok(latencies)
}
