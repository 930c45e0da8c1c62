//! The Fetch response, versions 4 to 18: small headers with the log's slices between them.

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::write::Writer;
use super::{Api, Reply};

/// The first version that names topics by id (KIP-516).
const TOPIC_ID_FROM: i16 = 13;

/// The reply to a Fetch request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchReply {
    /// How long the client should hold back, in milliseconds.
    pub throttle_time_ms: i32,
    /// An error of the whole request, 0 for none.
    pub error_code: i16,
    /// The fetch session; 0 for none.
    pub session_id: i32,
    /// One for each topic asked, in order.
    pub topics: Vec<FetchReplyTopic>,
}

/// One topic of a [`FetchReply`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchReplyTopic {
    /// The name as asked.
    pub name: StrBytes,
    /// The topic id as asked.
    pub topic_id: Uuid,
    /// One for each partition asked, in order.
    pub partitions: Vec<FetchReplyPartition>,
}

/// One partition of a [`FetchReplyTopic`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchReplyPartition {
    /// The partition.
    pub index: i32,
    /// Kafka's error code, 0 for none.
    pub error_code: i16,
    /// The end of what may be read, or -1.
    pub high_watermark: i64,
    /// The end of what a read_committed client may read, or -1.
    pub last_stable_offset: i64,
    /// The first offset there is, or -1.
    pub log_start_offset: i64,
    /// Aborted transactions among the batches, producer id and first offset, for a
    /// read_committed client; a read_uncommitted one gets null.
    pub aborted: Option<Vec<(i64, i64)>>,
    /// Whole batches in offset order.
    pub batches: Vec<Bytes>,
}

impl FetchReply {
    /// The response frame; batches are referred to, not copied.
    pub fn encode(&self, version: i16, correlation_id: i32) -> Reply {
        let mut writer = Writer::response(Api::Fetch, version, correlation_id);
        writer.int32(self.throttle_time_ms);
        if version >= 7 {
            writer.int16(self.error_code);
            writer.int32(self.session_id);
        }
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
        writer.no_tagged_fields();
        writer.finish()
    }
}

impl FetchReplyPartition {
    fn encode(&self, writer: &mut Writer, version: i16) {
        writer.int32(self.index);
        writer.int16(self.error_code);
        writer.int64(self.high_watermark);
        writer.int64(self.last_stable_offset);
        if version >= 5 {
            writer.int64(self.log_start_offset);
        }
        match &self.aborted {
            Some(aborted) => {
                writer.array_count(aborted.len());
                for (producer, first_offset) in aborted {
                    writer.int64(*producer);
                    writer.int64(*first_offset);
                    writer.no_tagged_fields();
                }
            }
            None => writer.null_array(),
        }
        if version >= 11 {
            writer.int32(-1); // no preferred read replica (KIP-392)
        }
        writer.records(&self.batches);
        writer.no_tagged_fields();
    }
}

#[cfg(test)]
mod tests;
