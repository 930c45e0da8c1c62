//! An MQTT 3.1.1 client in packets.

use anyhow::{Context as _, bail, ensure};
use bytes::BytesMut;
use mqttbytes::v4::{
    Connect, LastWill, Packet, PubAck, PubComp, PubRec, PubRel, Publish, Subscribe,
};
use mqttbytes::{Error, QoS};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const PACKET_MAX: usize = 1 << 26;

/// A connected client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) session_present: bool,
    packets: Packets,
    next_id: u16,
}

/// Reads packets from a stream.
#[derive(Debug)]
pub(crate) struct Packets {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Packets {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: BytesMut::with_capacity(1 << 16),
        }
    }

    pub(crate) fn next(&mut self) -> anyhow::Result<Packet> {
        loop {
            match mqttbytes::v4::read(&mut self.buffer, PACKET_MAX) {
                Ok(packet) => return Ok(packet),
                Err(Error::InsufficientBytes(_)) => {
                    let mut chunk = [0; 1 << 14];
                    let count = self.stream.read(&mut chunk)?;
                    ensure!(count > 0, "the server closed the connection");
                    self.buffer.extend_from_slice(&chunk[..count]);
                }
                Err(error) => bail!("a bad packet: {error:?}"),
            }
        }
    }
}

impl Client {
    /// Connects and reads CONNACK; keep alive is off.
    pub(crate) fn open(address: &str, id: &str, clean: bool) -> anyhow::Result<Self> {
        Self::with_will(address, id, clean, None)
    }

    pub(crate) fn with_will(
        address: &str,
        id: &str,
        clean: bool,
        will: Option<LastWill>,
    ) -> anyhow::Result<Self> {
        let mut client = Self::ask(address, id, clean, will)?;
        match client.packets.next()? {
            Packet::ConnAck(ack) => {
                ensure!(
                    ack.code == mqttbytes::v4::ConnectReturnCode::Success,
                    "refused: {:?}",
                    ack.code
                );
                client.session_present = ack.session_present;
            }
            other => bail!("{other:?} instead of CONNACK"),
        }
        Ok(client)
    }

    /// Asks to take up a session, and leaves CONNACK to whoever gets the connection.
    pub(crate) fn come_back(address: &str, id: &str) -> anyhow::Result<TcpStream> {
        Ok(Self::ask(address, id, false, None)?.stream)
    }

    fn ask(address: &str, id: &str, clean: bool, will: Option<LastWill>) -> anyhow::Result<Self> {
        let stream = super::connect(address, Duration::from_secs(10))?;
        let packets = Packets::new(stream.try_clone()?);
        let mut connect = Connect::new(id);
        connect.keep_alive = 0;
        connect.clean_session = clean;
        connect.last_will = will;
        let mut client = Self {
            stream,
            session_present: false,
            packets,
            next_id: 0,
        };
        client.put(|out| connect.write(out))?;
        Ok(client)
    }

    pub(crate) fn put(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> Result<usize, Error>,
    ) -> anyhow::Result<()> {
        let mut out = BytesMut::new();
        write(&mut out).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        Ok(self.stream.write_all(&out)?)
    }

    /// The connection, and what was already read from it.
    pub(crate) fn into_stream(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.packets.buffer.to_vec())
    }

    pub(crate) fn subscribe(&mut self, filter: &str, qos: QoS) -> anyhow::Result<()> {
        let mut subscribe = Subscribe::new(filter, qos);
        subscribe.pkid = self.id();
        self.put(|out| subscribe.write(out))?;
        match self.packets.next()? {
            Packet::SubAck(_) => Ok(()),
            other => bail!("{other:?} instead of SUBACK"),
        }
    }

    /// Publishes and waits for the acknowledgement that says the server has it.
    pub(crate) fn publish(&mut self, topic: &str, qos: QoS, payload: &[u8]) -> anyhow::Result<()> {
        let mut publish = Publish::new(topic, qos, payload);
        publish.pkid = self.id();
        let id = publish.pkid;
        self.put(|out| publish.write(out))?;
        match qos {
            QoS::AtMostOnce => Ok(()),
            QoS::AtLeastOnce => match self.packets.next()? {
                Packet::PubAck(ack) if ack.pkid == id => Ok(()),
                other => bail!("{other:?} instead of PUBACK"),
            },
            QoS::ExactlyOnce => match self.packets.next()? {
                Packet::PubRec(rec) if rec.pkid == id => Ok(()),
                other => bail!("{other:?} instead of PUBREC"),
            },
        }
    }

    /// The second half of a QoS 2 publish that was the last one.
    pub(crate) fn complete(&mut self) -> anyhow::Result<()> {
        let rel = PubRel::new(self.next_id);
        self.put(|out| rel.write(out))?;
        match self.packets.next()? {
            Packet::PubComp(_) => Ok(()),
            other => bail!("{other:?} instead of PUBCOMP"),
        }
    }

    /// The next message, acknowledged; handshakes of QoS 2 are played on the way.
    pub(crate) fn receive(&mut self) -> anyhow::Result<Publish> {
        loop {
            match self.packets.next()? {
                Packet::Publish(publish) => {
                    match publish.qos {
                        QoS::AtMostOnce => {}
                        QoS::AtLeastOnce => self.put(|out| PubAck::new(publish.pkid).write(out))?,
                        QoS::ExactlyOnce => self.put(|out| PubRec::new(publish.pkid).write(out))?,
                    }
                    return Ok(publish);
                }
                Packet::PubRel(rel) => self.put(|out| PubComp::new(rel.pkid).write(out))?,
                Packet::PubAck(_) | Packet::PingResp => {}
                other => bail!("{other:?} instead of a message"),
            }
        }
    }

    fn id(&mut self) -> u16 {
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        self.next_id
    }
}

/// A PUBLISH packet in bytes, without a copy of what is not needed.
pub(crate) fn put_publish(out: &mut Vec<u8>, topic: &str, qos: u8, id: u16, payload: &[u8]) {
    out.push(0x30 | qos << 1);
    let mut rest = 2 + topic.len() + payload.len() + if qos > 0 { 2 } else { 0 };
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
    out.extend((topic.len() as u16).to_be_bytes());
    out.extend(topic.as_bytes());
    if qos > 0 {
        out.extend(id.to_be_bytes());
    }
    out.extend(payload);
}

/// PUBACK in bytes.
pub(crate) fn put_puback(out: &mut Vec<u8>, id: u16) {
    out.extend([0x40, 2]);
    out.extend(id.to_be_bytes());
}

/// The first eight bytes of a payload, as a number.
pub(crate) fn number(payload: &[u8]) -> anyhow::Result<u64> {
    let head = payload.get(..8).context("the payload is too short")?;
    Ok(u64::from_be_bytes(head.try_into()?))
}
