//! A Kafka client in bytes: Metadata, Produce and Fetch in versions before the flexible ones.

use anyhow::{Context as _, bail, ensure};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A connection to the one broker.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    correlation: i32,
}

impl Client {
    pub(crate) fn open(address: &str) -> anyhow::Result<Self> {
        Ok(Self {
            stream: super::connect(address, Duration::from_secs(10))?,
            correlation: 0,
        })
    }

    /// Sends a request with the old header and returns the answer's body.
    pub(crate) fn call(&mut self, api: i16, version: i16, body: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.correlation += 1;
        let frame = request(api, version, self.correlation, body);
        self.stream.write_all(&frame)?;
        self.answer()
    }

    /// The next answer's body.
    pub(crate) fn answer(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let size = u32::from_be_bytes(size) as usize;
        ensure!((4..1 << 27).contains(&size), "an answer of {size} bytes");
        let mut answer = vec![0; size];
        self.stream.read_exact(&mut answer)?;
        Ok(answer.split_off(4))
    }

    /// Asks for a topic until it is there, which makes it.
    pub(crate) fn create(&mut self, topic: &str) -> anyhow::Result<()> {
        let mut body = 1i32.to_be_bytes().to_vec();
        put_string(&mut body, topic);
        body.push(1);
        for _ in 0..100 {
            let answer = self.call(3, 4, &body)?;
            let mut at = Cursor(&answer);
            at.skip(4)?;
            for _ in 0..at.i32()? {
                at.skip(4)?;
                at.string()?;
                at.skip(4)?;
                at.string()?;
            }
            at.string()?;
            at.skip(4)?;
            ensure!(at.i32()? == 1, "Metadata doesn't answer for {topic}");
            if at.i16()? == 0 {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("topic {topic} doesn't come up")
    }

    /// Waits until partition 0 of a topic that was just made can be read, which Apache Kafka says later.
    pub(crate) fn await_leader(&mut self, topic: &str) -> anyhow::Result<()> {
        let mut last = Ok(());
        for _ in 0..200 {
            last = self.fetch(topic, 0, 0).map(drop);
            if last.is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        last
    }

    /// Makes a topic of one partition with these settings (CreateTopics 2).
    pub(crate) fn create_with(
        &mut self,
        topic: &str,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        self.create_all(&[topic.to_owned()], settings)
    }

    /// Makes topics of one partition with these settings, all by one request.
    pub(crate) fn create_all(
        &mut self,
        topics: &[String],
        settings: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let mut body = i32::try_from(topics.len())?.to_be_bytes().to_vec();
        for topic in topics {
            put_string(&mut body, topic);
            body.extend(1i32.to_be_bytes());
            body.extend(1i16.to_be_bytes());
            body.extend(0i32.to_be_bytes());
            body.extend(i32::try_from(settings.len())?.to_be_bytes());
            for (name, value) in settings {
                put_string(&mut body, name);
                put_string(&mut body, value);
            }
        }
        body.extend(10_000i32.to_be_bytes());
        body.push(0);
        let answer = self.call(19, 2, &body)?;
        let mut at = Cursor(&answer);
        at.skip(4)?;
        let count = at.i32()?;
        ensure!(
            usize::try_from(count)? == topics.len(),
            "CreateTopics answers for {count} topics"
        );
        for _ in topics {
            let topic = at.text()?.escape_ascii();
            let error = at.i16()?;
            ensure!(error == 0, "CreateTopics of {topic} fails with {error}");
            at.string()?;
        }
        Ok(())
    }

    /// Deletes topics (DeleteTopics 1).
    pub(crate) fn delete_all(&mut self, topics: &[String]) -> anyhow::Result<()> {
        let mut body = i32::try_from(topics.len())?.to_be_bytes().to_vec();
        for topic in topics {
            put_string(&mut body, topic);
        }
        body.extend(10_000i32.to_be_bytes());
        let answer = self.call(20, 1, &body)?;
        let mut at = Cursor(&answer);
        at.skip(4)?;
        for _ in 0..at.i32()? {
            let topic = at.text()?.escape_ascii();
            let error = at.i16()?;
            ensure!(error == 0, "DeleteTopics of {topic} fails with {error}");
        }
        Ok(())
    }

    /// Appends one record to partition 0 with acks=all and returns its offset.
    pub(crate) fn produce(&mut self, topic: &str, value: &[u8]) -> anyhow::Result<i64> {
        let answer = self.call(0, 7, &produce_body(topic, -1, &batch(&[value])))?;
        produced(&answer)
    }

    /// Values and offsets from an offset on; empty at the end.
    pub(crate) fn fetch(
        &mut self,
        topic: &str,
        offset: i64,
        wait_ms: i32,
    ) -> anyhow::Result<Vec<(i64, Vec<u8>)>> {
        let mut body = (-1i32).to_be_bytes().to_vec();
        body.extend(wait_ms.to_be_bytes());
        body.extend(1i32.to_be_bytes());
        body.extend((8i32 << 20).to_be_bytes());
        body.push(0);
        body.extend(1i32.to_be_bytes());
        put_string(&mut body, topic);
        body.extend(1i32.to_be_bytes());
        body.extend(0i32.to_be_bytes());
        body.extend(offset.to_be_bytes());
        body.extend((8i32 << 20).to_be_bytes());
        let answer = self.call(1, 4, &body)?;
        let mut at = Cursor(&answer);
        at.skip(4)?;
        ensure!(at.i32()? == 1, "Fetch doesn't answer for one topic");
        at.string()?;
        ensure!(at.i32()? == 1, "Fetch doesn't answer for one partition");
        at.skip(4)?;
        let error = at.i16()?;
        ensure!(error == 0, "Fetch error {error}");
        at.skip(16)?;
        for _ in 0..at.i32()? {
            at.skip(16)?;
        }
        let size = at.i32()?.max(0) as usize;
        let records = at.bytes(size)?;
        Ok(values(records)?
            .into_iter()
            .filter(|(at, _)| *at >= offset)
            .collect())
    }

    /// Everything in partition 0.
    pub(crate) fn read_all(&mut self, topic: &str) -> anyhow::Result<Vec<(i64, Vec<u8>)>> {
        let mut all = Vec::new();
        let mut next = 0;
        loop {
            let got = self.fetch(topic, next, 300)?;
            let Some((last, _)) = got.last() else {
                return Ok(all);
            };
            next = last + 1;
            all.extend(got);
        }
    }
}

/// A framed request with client id "raw".
pub(crate) fn request(api: i16, version: i16, correlation: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 4];
    frame.extend(api.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(correlation.to_be_bytes());
    put_string(&mut frame, "raw");
    frame.extend(body);
    let size = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&size.to_be_bytes());
    frame
}

/// The body of Produce 3 to 8 for partition 0 of one topic.
pub(crate) fn produce_body(topic: &str, acks: i16, batch: &[u8]) -> Vec<u8> {
    let mut body = (-1i16).to_be_bytes().to_vec();
    body.extend(acks.to_be_bytes());
    body.extend(10_000i32.to_be_bytes());
    body.extend(1i32.to_be_bytes());
    put_string(&mut body, topic);
    body.extend(1i32.to_be_bytes());
    body.extend(0i32.to_be_bytes());
    body.extend((batch.len() as i32).to_be_bytes());
    body.extend(batch);
    body
}

/// The base offset that an answer to Produce 5 to 7 of one partition gives.
pub(crate) fn produced(answer: &[u8]) -> anyhow::Result<i64> {
    let mut at = Cursor(answer);
    ensure!(at.i32()? == 1, "Produce doesn't answer for one topic");
    at.string()?;
    ensure!(at.i32()? == 1, "Produce doesn't answer for one partition");
    at.skip(4)?;
    let error = at.i16()?;
    ensure!(error == 0, "Produce error {error}");
    at.i64()
}

/// An uncompressed batch of records without keys and headers.
pub(crate) fn batch(values: &[&[u8]]) -> Vec<u8> {
    let mut records = Vec::new();
    for (delta, value) in values.iter().enumerate() {
        let mut record = vec![0];
        put_varint(&mut record, 0);
        put_varint(&mut record, delta as i64);
        put_varint(&mut record, -1);
        put_varint(&mut record, value.len() as i64);
        record.extend(*value);
        put_varint(&mut record, 0);
        put_varint(&mut records, record.len() as i64);
        records.extend(record);
    }
    // From the attributes on: what the checksum covers.
    let mut covered = 0i16.to_be_bytes().to_vec();
    covered.extend((values.len() as i32 - 1).to_be_bytes());
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis() as i64;
    covered.extend(now.to_be_bytes());
    covered.extend(now.to_be_bytes());
    covered.extend((-1i64).to_be_bytes());
    covered.extend((-1i16).to_be_bytes());
    covered.extend((-1i32).to_be_bytes());
    covered.extend((values.len() as i32).to_be_bytes());
    covered.extend(records);
    let mut batch = 0i64.to_be_bytes().to_vec();
    batch.extend((covered.len() as i32 + 9).to_be_bytes());
    batch.extend((-1i32).to_be_bytes());
    batch.push(2);
    batch.extend(crc32c::crc32c(&covered).to_be_bytes());
    batch.extend(covered);
    batch
}

/// Offsets and values of uncompressed batches; a batch cut off at the end is left out.
fn values(mut records: &[u8]) -> anyhow::Result<Vec<(i64, Vec<u8>)>> {
    let mut all = Vec::new();
    while records.len() >= 61 {
        let mut at = Cursor(records);
        let base = at.i64()?;
        let size = at.i32()?.max(0) as usize + 12;
        if records.len() < size {
            break;
        }
        ensure!(records[16] == 2, "magic {}", records[16]);
        ensure!(records[22] & 7 == 0, "a compressed batch");
        let is_control = records[22] & 32 != 0;
        let count = i32::from_be_bytes([records[57], records[58], records[59], records[60]]);
        let mut at = Cursor(&records[61..size]);
        for _ in 0..count {
            let length = at.varint()?.max(0) as usize;
            let mut record = Cursor(at.bytes(length)?);
            record.skip(1)?;
            record.varint()?;
            let delta = record.varint()?;
            let key = record.varint()?.max(0) as usize;
            record.skip(key)?;
            let value = record.varint()?.max(0) as usize;
            if !is_control {
                all.push((base + delta, record.bytes(value)?.to_vec()));
            }
        }
        records = &records[size..];
    }
    Ok(all)
}

pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as i16).to_be_bytes());
    out.extend(text.as_bytes());
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Reads big-endian fields in order.
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> anyhow::Result<&'a [u8]> {
        let (bytes, rest) = self
            .0
            .split_at_checked(count)
            .context("the answer is too short")?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn skip(&mut self, count: usize) -> anyhow::Result<()> {
        self.bytes(count).map(|_| ())
    }

    pub(crate) fn i16(&mut self) -> anyhow::Result<i16> {
        Ok(i16::from_be_bytes(self.bytes(2)?.try_into()?))
    }

    pub(crate) fn i32(&mut self) -> anyhow::Result<i32> {
        Ok(i32::from_be_bytes(self.bytes(4)?.try_into()?))
    }

    pub(crate) fn i64(&mut self) -> anyhow::Result<i64> {
        Ok(i64::from_be_bytes(self.bytes(8)?.try_into()?))
    }

    pub(crate) fn string(&mut self) -> anyhow::Result<()> {
        self.text().map(|_| ())
    }

    pub(crate) fn text(&mut self) -> anyhow::Result<&'a [u8]> {
        let size = self.i16()?.max(0) as usize;
        self.bytes(size)
    }

    pub(crate) fn varint(&mut self) -> anyhow::Result<i64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.bytes(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        bail!("a varint without end")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_reads_back() {
        let mut bytes = batch(&[b"one", b"", b"three"]);
        bytes[..8].copy_from_slice(&7i64.to_be_bytes());
        bytes.extend(&bytes.clone()[..40]);
        let got = values(&bytes).unwrap();
        assert_eq!(
            got,
            [(7, b"one".to_vec()), (8, vec![]), (9, b"three".to_vec())]
        );
    }
}
