//! Produce, versions 3 to 13: batches are slices of the request frame, never copied or parsed.

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::read::Reader;
use super::write::Writer;
use super::{Api, CodecError, Reply};

/// The first version that names topics by id (KIP-516).
const TOPIC_ID_FROM: i16 = 13;

/// A Produce request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProduceRequest {
    /// The producer's transaction, if any.
    pub transactional_id: Option<StrBytes>,
    /// 0: no reply; 1, -1: reply once durable. Other values are refused by the api.
    pub acks: i16,
    /// How long the client waits for the reply, in milliseconds.
    pub timeout_ms: i32,
    /// What to append.
    pub topics: Vec<ProduceTopic>,
}

/// One topic of a [`ProduceRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProduceTopic {
    /// The name; empty from version 13 on.
    pub name: StrBytes,
    /// The topic id; nil below version 13.
    pub topic_id: Uuid,
    /// What to append to which partition.
    pub partitions: Vec<ProducePartition>,
}

/// One partition of a [`ProduceTopic`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducePartition {
    /// The partition.
    pub index: i32,
    /// The record batch as sent.
    pub records: Option<Bytes>,
}

impl ProduceRequest {
    /// Reads a body that [`check`](super::check) has passed.
    ///
    /// # Errors
    /// When a string is not UTF-8, or an array that may not be null is.
    pub fn decode(body: &Bytes, version: i16) -> Result<Self, CodecError> {
        let flexible = Api::Produce.is_flexible(version);
        let mut reader = Reader::new(body);
        let transactional_id = reader.nullable_string(flexible)?;
        let acks = reader.int16()?;
        let timeout_ms = reader.int32()?;
        let topics = array(&mut reader, flexible, |reader| {
            let (name, topic_id) = if version < TOPIC_ID_FROM {
                (reader.string(flexible)?, Uuid::nil())
            } else {
                (StrBytes::new(), reader.uuid()?)
            };
            let partitions = array(reader, flexible, |reader| {
                let index = reader.int32()?;
                let records = reader.nullable_bytes(flexible)?;
                skip_tags(reader, flexible)?;
                Ok(ProducePartition { index, records })
            })?;
            skip_tags(reader, flexible)?;
            Ok(ProduceTopic {
                name,
                topic_id,
                partitions,
            })
        })?;
        Ok(Self {
            transactional_id,
            acks,
            timeout_ms,
            topics,
        })
    }
}

fn array<T>(
    reader: &mut Reader<'_>,
    flexible: bool,
    mut element: impl FnMut(&mut Reader<'_>) -> Result<T, CodecError>,
) -> Result<Vec<T>, CodecError> {
    let count = reader
        .array_count(flexible)?
        .ok_or(CodecError::NegativeLength(-1))?;
    // Grows as elements are really there: the count alone reserves nothing.
    let mut elements = Vec::with_capacity(count.min(16));
    for _ in 0..count {
        elements.push(element(reader)?);
    }
    Ok(elements)
}

fn skip_tags(reader: &mut Reader<'_>, flexible: bool) -> Result<(), CodecError> {
    if flexible {
        reader.skip_tagged_fields()
    } else {
        Ok(())
    }
}

/// The reply to a Produce request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProduceReply {
    /// One for each topic asked, in order.
    pub topics: Vec<ProduceReplyTopic>,
    /// How long the client should hold back, in milliseconds.
    pub throttle_time_ms: i32,
}

/// One topic of a [`ProduceReply`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProduceReplyTopic {
    /// The name as asked.
    pub name: StrBytes,
    /// The topic id as asked.
    pub topic_id: Uuid,
    /// One for each partition asked, in order.
    pub partitions: Vec<ProduceReplyPartition>,
}

/// One partition of a [`ProduceReplyTopic`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProduceReplyPartition {
    /// The partition.
    pub index: i32,
    /// Kafka's error code, 0 for none.
    pub error_code: i16,
    /// The first record's offset, or -1.
    pub base_offset: i64,
    /// The broker's stamp where the topic has LogAppendTime, else -1.
    pub log_append_time_ms: i64,
    /// The partition's log start offset, or -1.
    pub log_start_offset: i64,
    /// What was wrong, for people.
    pub error_message: Option<String>,
}

impl ProduceReply {
    /// The response frame.
    pub fn encode(&self, version: i16, correlation_id: i32) -> Reply {
        let mut writer = Writer::response(Api::Produce, version, correlation_id);
        writer.array_count(self.topics.len());
        for topic in &self.topics {
            if version < TOPIC_ID_FROM {
                writer.string(&topic.name);
            } else {
                writer.uuid(topic.topic_id);
            }
            writer.array_count(topic.partitions.len());
            for partition in &topic.partitions {
                partition.encode(&mut writer, version);
            }
            writer.no_tagged_fields();
        }
        writer.int32(self.throttle_time_ms);
        writer.no_tagged_fields();
        writer.finish()
    }
}

impl ProduceReplyPartition {
    fn encode(&self, writer: &mut Writer, version: i16) {
        writer.int32(self.index);
        writer.int16(self.error_code);
        writer.int64(self.base_offset);
        writer.int64(self.log_append_time_ms);
        if version >= 5 {
            writer.int64(self.log_start_offset);
        }
        if version >= 8 {
            writer.array_count(0); // errors of single records
            writer.nullable_string(self.error_message.as_deref());
        }
        writer.no_tagged_fields();
    }
}

#[cfg(test)]
mod tests;
