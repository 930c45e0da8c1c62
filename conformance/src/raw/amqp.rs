//! An AMQP 0-9-1 client in bytes: one connection, one channel.

use anyhow::{Context as _, bail, ensure};
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

pub(crate) const FRAME_METHOD: u8 = 1;
pub(crate) const FRAME_HEADER: u8 = 2;
pub(crate) const FRAME_BODY: u8 = 3;
const FRAME_END: u8 = 0xce;
const FRAME_MAX: usize = 131_072;

/// Class and method, as `(60, 40)` for basic.publish.
pub(crate) type Method = (u16, u16);
pub(crate) const CONNECTION_CLOSE: Method = (10, 50);
pub(crate) const CONNECTION_BLOCKED: Method = (10, 60);
pub(crate) const CHANNEL_CLOSE: Method = (20, 40);
pub(crate) const BASIC_DELIVER: Method = (60, 60);
pub(crate) const BASIC_ACK: Method = (60, 80);

/// A frame as it came.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The method that a method frame carries.
    pub(crate) fn method(&self) -> Option<Method> {
        let id = |at: usize| {
            Some(u16::from_be_bytes([
                *self.payload.get(at)?,
                *self.payload.get(at + 1)?,
            ]))
        };
        (self.kind == FRAME_METHOD).then_some(())?;
        Some((id(0)?, id(2)?))
    }

    /// The delivery tag of basic.deliver or the sequence number of basic.ack.
    pub(crate) fn tag(&self) -> Option<u64> {
        let at = match self.method()? {
            BASIC_DELIVER => 5 + usize::from(*self.payload.get(4)?),
            _ => 4,
        };
        Some(u64::from_be_bytes(
            self.payload.get(at..at + 8)?.try_into().ok()?,
        ))
    }

    /// Does basic.ack stand for all before it too?
    pub(crate) fn is_multiple(&self) -> bool {
        self.payload.get(12).is_some_and(|bits| bits & 1 == 1)
    }
}

/// What a client reads from.
pub(crate) type Reader = BufReader<TcpStream>;

/// A connection with channel 1 open.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) reader: Reader,
}

impl Client {
    /// Logs in as guest and opens channel 1.
    pub(crate) fn open(address: &str) -> anyhow::Result<Self> {
        let mut client = Self::greet(address)?;
        client.log_in()?;
        client.call((20, 10), &[0], (20, 11))?;
        Ok(client)
    }

    /// Sends the protocol header and reads connection.start.
    pub(crate) fn greet(address: &str) -> anyhow::Result<Self> {
        let stream = super::connect(address, Duration::from_secs(10))?;
        let reader = BufReader::with_capacity(1 << 16, stream.try_clone()?);
        let mut client = Self { stream, reader };
        client.stream.write_all(b"AMQP\0\0\x09\x01")?;
        client.expect((10, 10))?;
        Ok(client)
    }

    /// Everything between connection.start and connection.open-ok.
    pub(crate) fn log_in(&mut self) -> anyhow::Result<()> {
        let mut args = Vec::new();
        // Says that it understands connection.blocked and basic.cancel.
        let mut capabilities = Vec::new();
        for name in ["connection.blocked", "consumer_cancel_notify"] {
            short(&mut capabilities, name);
            capabilities.extend(b"t\x01");
        }
        let mut properties = Vec::new();
        short(&mut properties, "capabilities");
        properties.push(b'F');
        long(&mut properties, &capabilities);
        long(&mut args, &properties);
        short(&mut args, "PLAIN");
        long(&mut args, b"\0guest\0guest");
        short(&mut args, "en_US");
        self.send(0, (10, 11), &args)?;
        let tune = self.expect((10, 30))?;
        let offered = tune
            .payload
            .get(4..10)
            .context("tune is too short")?
            .to_vec();
        let frame_max = u32::from_be_bytes([offered[2], offered[3], offered[4], offered[5]]);
        let frame_max = match frame_max {
            0 => FRAME_MAX as u32,
            n => n.min(FRAME_MAX as u32),
        };
        let mut args = offered[..2].to_vec();
        args.extend(frame_max.to_be_bytes());
        args.extend(0u16.to_be_bytes());
        self.send(0, (10, 31), &args)?;
        let mut args = Vec::new();
        short(&mut args, "/");
        args.extend([0, 0]);
        self.send(0, (10, 40), &args)?;
        self.expect((10, 41))?;
        Ok(())
    }

    pub(crate) fn send(&mut self, channel: u16, method: Method, args: &[u8]) -> anyhow::Result<()> {
        let mut frame = Vec::new();
        put_method(&mut frame, channel, method, args);
        Ok(self.stream.write_all(&frame)?)
    }

    /// Sends a method on channel 1 and waits for its answer.
    pub(crate) fn call(
        &mut self,
        method: Method,
        args: &[u8],
        answer: Method,
    ) -> anyhow::Result<Frame> {
        self.send(1, method, args)?;
        self.expect(answer)
    }

    /// The next method, which must be this one. Heartbeats are passed over.
    pub(crate) fn expect(&mut self, method: Method) -> anyhow::Result<Frame> {
        loop {
            let frame = read_frame(&mut self.reader)?;
            match frame.method() {
                Some(got) if got == method => return Ok(frame),
                Some(got) => bail!(
                    "method {got:?} instead of {method:?}: {}",
                    printable(&frame.payload)
                ),
                None if frame.kind == 8 => {}
                None => bail!(
                    "a frame of type {} instead of method {method:?}",
                    frame.kind
                ),
            }
        }
    }

    pub(crate) fn declare_queue(&mut self, name: &str, durable: bool) -> anyhow::Result<u32> {
        let mut args = vec![0, 0];
        short(&mut args, name);
        args.push(u8::from(durable) << 1);
        args.extend([0; 4]);
        let ok = self.call((50, 10), &args, (50, 11))?;
        let at = 5 + name.len();
        let count = ok
            .payload
            .get(at..at + 4)
            .context("declare-ok is too short")?;
        Ok(u32::from_be_bytes([count[0], count[1], count[2], count[3]]))
    }

    pub(crate) fn declare_exchange(&mut self, name: &str, kind: &str) -> anyhow::Result<()> {
        let mut args = vec![0, 0];
        short(&mut args, name);
        short(&mut args, kind);
        args.push(0b10);
        args.extend([0; 4]);
        self.call((40, 10), &args, (40, 11))?;
        Ok(())
    }

    pub(crate) fn bind(&mut self, queue: &str, exchange: &str, key: &str) -> anyhow::Result<()> {
        let mut args = vec![0, 0];
        short(&mut args, queue);
        short(&mut args, exchange);
        short(&mut args, key);
        args.extend([0; 5]);
        self.call((50, 20), &args, (50, 21))?;
        Ok(())
    }

    /// Declares durable queues, all before the first answer is awaited.
    pub(crate) fn declare_queues(&mut self, names: &[String]) -> anyhow::Result<()> {
        let mut out = Vec::new();
        for name in names {
            let mut args = vec![0, 0];
            short(&mut args, name);
            args.push(0b10);
            args.extend([0; 4]);
            put_method(&mut out, 1, (50, 10), &args);
        }
        self.stream.write_all(&out)?;
        names
            .iter()
            .try_for_each(|_| self.expect((50, 11)).map(drop))
    }

    /// Binds queues to an exchange with an empty key, all before the first answer is awaited.
    pub(crate) fn bind_queues(&mut self, queues: &[String], exchange: &str) -> anyhow::Result<()> {
        let mut out = Vec::new();
        for queue in queues {
            let mut args = vec![0, 0];
            short(&mut args, queue);
            short(&mut args, exchange);
            args.extend([0; 6]);
            put_method(&mut out, 1, (50, 20), &args);
        }
        self.stream.write_all(&out)?;
        queues
            .iter()
            .try_for_each(|_| self.expect((50, 21)).map(drop))
    }

    /// Deletes queues with what is in them, all before the first answer is awaited.
    pub(crate) fn delete_queues(&mut self, names: &[String]) -> anyhow::Result<()> {
        let mut out = Vec::new();
        for name in names {
            let mut args = vec![0, 0];
            short(&mut args, name);
            args.push(0);
            put_method(&mut out, 1, (50, 40), &args);
        }
        self.stream.write_all(&out)?;
        names
            .iter()
            .try_for_each(|_| self.expect((50, 41)).map(drop))
    }

    pub(crate) fn delete_exchange(&mut self, name: &str) -> anyhow::Result<()> {
        let mut args = vec![0, 0];
        short(&mut args, name);
        args.push(0);
        self.call((40, 20), &args, (40, 21))?;
        Ok(())
    }

    /// A consumer for each of these queues, on the one channel; their answers are left to be read.
    pub(crate) fn consume_all(
        &mut self,
        queues: &[String],
        prefetch: u16,
        no_ack: bool,
    ) -> anyhow::Result<()> {
        let mut args = vec![0; 4];
        args.extend(prefetch.to_be_bytes());
        args.push(0);
        self.call((60, 10), &args, (60, 11))?;
        let mut out = Vec::new();
        for queue in queues {
            let mut args = vec![0, 0];
            short(&mut args, queue);
            short(&mut args, "");
            args.push(u8::from(no_ack) << 1);
            args.extend([0; 4]);
            put_method(&mut out, 1, (60, 20), &args);
        }
        Ok(self.stream.write_all(&out)?)
    }

    /// The connection, and what was already read from it.
    pub(crate) fn into_stream(self) -> (TcpStream, Vec<u8>) {
        let read_ahead = self.reader.buffer().to_vec();
        (self.stream, read_ahead)
    }

    pub(crate) fn confirm(&mut self) -> anyhow::Result<()> {
        self.call((85, 10), &[0], (85, 11))?;
        Ok(())
    }

    /// Starts a consumer; acknowledgements are wanted unless `no_ack`.
    pub(crate) fn consume(
        &mut self,
        queue: &str,
        prefetch: u16,
        no_ack: bool,
    ) -> anyhow::Result<()> {
        let mut args = vec![0; 4];
        args.extend(prefetch.to_be_bytes());
        args.push(0);
        self.call((60, 10), &args, (60, 11))?;
        let mut args = vec![0, 0];
        short(&mut args, queue);
        short(&mut args, "");
        args.push(u8::from(no_ack) << 1);
        args.extend([0; 4]);
        self.call((60, 20), &args, (60, 21))?;
        Ok(())
    }

    pub(crate) fn publish(&mut self, exchange: &str, key: &str, body: &[u8]) -> anyhow::Result<()> {
        let mut out = Vec::new();
        put_publish(&mut out, exchange, key, body);
        Ok(self.stream.write_all(&out)?)
    }

    /// Waits until the publish with this number is confirmed.
    pub(crate) fn confirmed(&mut self, number: u64) -> anyhow::Result<()> {
        loop {
            let frame = read_frame(&mut self.reader)?;
            match frame.method() {
                Some(BASIC_ACK) if frame.tag() == Some(number) => return Ok(()),
                Some(BASIC_ACK) if frame.is_multiple() && frame.tag() > Some(number) => {
                    return Ok(());
                }
                Some(BASIC_ACK) => {}
                Some(CONNECTION_BLOCKED) => bail!("blocked"),
                Some(other) => bail!(
                    "method {other:?} instead of a confirm: {}",
                    printable(&frame.payload)
                ),
                None => ensure!(frame.kind == 8, "frame of type {}", frame.kind),
            }
        }
    }
}

/// The next delivery's tag and body; other frames are passed over.
pub(crate) fn read_delivery(reader: &mut Reader) -> anyhow::Result<(u64, Vec<u8>)> {
    loop {
        let frame = read_frame(reader)?;
        match frame.method() {
            Some(BASIC_DELIVER) => {
                let tag = frame.tag().context("deliver is too short")?;
                let header = read_frame(reader)?;
                ensure!(
                    header.kind == FRAME_HEADER,
                    "no content header after deliver"
                );
                let size = header
                    .payload
                    .get(4..12)
                    .context("content header is too short")?;
                let size = u64::from_be_bytes(size.try_into()?) as usize;
                let mut body = Vec::with_capacity(size.min(1 << 20));
                while body.len() < size {
                    let part = read_frame(reader)?;
                    ensure!(part.kind == FRAME_BODY, "no content body");
                    body.extend(part.payload);
                }
                return Ok((tag, body));
            }
            Some(CONNECTION_CLOSE | CHANNEL_CLOSE) => {
                bail!("closed: {}", printable(&frame.payload))
            }
            _ => {}
        }
    }
}

pub(crate) fn read_frame(reader: &mut Reader) -> anyhow::Result<Frame> {
    let mut head = [0; 7];
    reader.read_exact(&mut head)?;
    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    ensure!(size <= FRAME_MAX, "a frame of {size} bytes");
    let mut payload = vec![0; size + 1];
    reader.read_exact(&mut payload)?;
    ensure!(payload.pop() == Some(FRAME_END), "no frame end");
    Ok(Frame {
        kind: head[0],
        payload,
    })
}

pub(crate) fn put_frame(out: &mut Vec<u8>, kind: u8, channel: u16, payload: &[u8]) {
    out.push(kind);
    out.extend(channel.to_be_bytes());
    out.extend((payload.len() as u32).to_be_bytes());
    out.extend(payload);
    out.push(FRAME_END);
}

pub(crate) fn put_method(out: &mut Vec<u8>, channel: u16, method: Method, args: &[u8]) {
    let mut payload = method.0.to_be_bytes().to_vec();
    payload.extend(method.1.to_be_bytes());
    payload.extend(args);
    put_frame(out, FRAME_METHOD, channel, &payload);
}

/// basic.publish of a persistent message, with its content.
pub(crate) fn put_publish(out: &mut Vec<u8>, exchange: &str, key: &str, body: &[u8]) {
    put_message(out, exchange, key, true, body);
}

/// basic.publish with its content.
pub(crate) fn put_message(
    out: &mut Vec<u8>,
    exchange: &str,
    key: &str,
    is_persistent: bool,
    body: &[u8],
) {
    let mut args = vec![0, 0];
    short(&mut args, exchange);
    short(&mut args, key);
    args.push(0);
    put_method(out, 1, (60, 40), &args);
    let mut header = vec![0, 60, 0, 0];
    header.extend((body.len() as u64).to_be_bytes());
    // delivery-mode is the fourth property.
    header.extend(0x1000u16.to_be_bytes());
    header.push(if is_persistent { 2 } else { 1 });
    put_frame(out, FRAME_HEADER, 1, &header);
    for part in body.chunks(FRAME_MAX - 8) {
        put_frame(out, FRAME_BODY, 1, part);
    }
}

/// basic.ack of one delivery.
pub(crate) fn put_ack(out: &mut Vec<u8>, tag: u64) {
    let mut args = tag.to_be_bytes().to_vec();
    args.push(0);
    put_method(out, 1, BASIC_ACK, &args);
}

pub(crate) fn short(out: &mut Vec<u8>, text: &str) {
    out.push(text.len() as u8);
    out.extend(text.as_bytes());
}

pub(crate) fn long(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend(bytes);
}

fn printable(payload: &[u8]) -> String {
    payload.escape_ascii().to_string()
}
