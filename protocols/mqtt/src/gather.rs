//! Publishes on their way to the broker: those of one read with the same first level become one record batch.

use crate::codec::Properties;
use crate::mapping;
use bytes::Bytes;
use omnilog_broker::{
    Address, Delay, Envelope, Provenance, Publish, PublishRecord, RetainAction, Wait,
};
use omnilog_record::{BatchBuilder, BatchOptions, Header, NewRecord, Pieces};

/// The most records in one batch.
const RECORDS_MAX: usize = 256;

/// The most bytes in one batch of more than one record.
const BATCH_BYTES_MAX: usize = 64 << 10;

/// What a record takes in a batch beside its payload, properties and topic, at the most.
const RECORD_OVERHEAD_BYTES: usize = 64;

/// A publish as it came in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incoming<'a> {
    pub(crate) topic: &'a Bytes,
    pub(crate) payload: &'a Bytes,
    /// Its properties without topic alias and message expiry.
    pub(crate) forward: &'a Properties,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) expires_at_ms: Option<i64>,
    /// How long it is to wait.
    pub(crate) delay_ms: Option<i64>,
}

/// Publishes that wait for the rest of their batch.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    builder: Option<BatchBuilder>,
    records: Vec<PublishRecord>,
    /// Bytes and records of the batch before: mostly also those of the next, which need not grow then.
    expected: (usize, usize),
    /// The topic of the newest record: mostly also that of the next.
    topic: Bytes,
    durable: bool,
}

impl Gather {
    /// Does this publish go into the batch that is being gathered?
    pub(crate) fn takes(&self, incoming: &Incoming<'_>) -> bool {
        let Some(builder) = &self.builder else {
            return true;
        };
        let bytes = incoming.payload.len()
            + incoming.topic.len()
            + 2 * incoming.forward.block().len()
            + RECORD_OVERHEAD_BYTES;
        // QoS 0 apart from the others: it passes through a durable session beside what the session holds, and keeps its
        // place only between batches.
        self.records.len() < RECORDS_MAX
            && self.durable == (incoming.qos > 0)
            && builder.wire_bytes() + bytes <= BATCH_BYTES_MAX
            && first_level(&self.topic) == first_level(incoming.topic)
    }

    /// Adds a publish; says which of the batch's records it is.
    pub(crate) fn push(
        &mut self,
        incoming: &Incoming<'_>,
        publisher: &Bytes,
        now_ms: i64,
    ) -> usize {
        let mapped = mapping::headers_of(incoming.forward);
        let headers = mapped.headers.iter().map(|(name, value)| Header {
            key: name,
            value: Some(value),
        });
        let (bytes, records) = self.expected;
        let builder = self.builder.get_or_insert_with(|| {
            self.records.reserve_exact(records);
            BatchBuilder::with_capacity(BatchOptions::default(), bytes)
        });
        let appended = builder.append(&NewRecord {
            timestamp: now_ms,
            key: mapping::key_of(incoming.topic).as_deref(),
            value: Some(Pieces::One(incoming.payload)),
            headers,
        });
        let range = match appended {
            Ok(appended) => appended.range(),
            Err(error) => {
                // Packets are far smaller than what a batch may hold.
                tracing::error!(%error, "a publish does not fit into a batch");
                return self.records.len();
            }
        };
        if self.topic != *incoming.topic {
            self.topic = Bytes::copy_from_slice(incoming.topic);
        }
        self.durable |= incoming.qos > 0;
        self.records.push(PublishRecord {
            envelope: Envelope {
                address: Address::Mqtt {
                    topic: self.topic.clone(),
                },
                provenance: Provenance::Mqtt,
                publisher: publisher.clone(),
                properties: Bytes::copy_from_slice(incoming.forward.block()),
                qos: incoming.qos,
                retain: incoming.retain,
                expires_at_ms: incoming.expires_at_ms,
                priority: 0,
                property_headers: mapped.properties,
                range,
            },
            more_routing_keys: Vec::new(),
            headers: Vec::new(),
            retain: retain_action(incoming),
            delay: incoming.delay_ms.map(|ms| {
                Box::new(Delay {
                    ms,
                    properties: None,
                })
            }),
        });
        self.records.len() - 1
    }

    /// The batch, if there is anything in it.
    pub(crate) fn take(&mut self) -> Option<Publish> {
        let builder = self.builder.take()?;
        let records = std::mem::take(&mut self.records);
        self.expected = (builder.wire_bytes().min(BATCH_BYTES_MAX), records.len());
        let durable = std::mem::take(&mut self.durable);
        match builder.finish() {
            Ok(batch) => Some(Publish {
                batch: batch.to_bytes(),
                records,
                wait: if durable {
                    Wait::Durable
                } else {
                    Wait::Decided
                },
                dedupe: None,
            }),
            Err(error) => {
                tracing::error!(%error, "a batch of publishes could not be built");
                None
            }
        }
    }
}

/// A single publish, as a will is.
pub(crate) fn single(incoming: &Incoming<'_>, publisher: &Bytes, now_ms: i64) -> Option<Publish> {
    let mut gather = Gather::default();
    gather.push(incoming, publisher, now_ms);
    gather.take()
}

/// A topic's first level, which names the log.
pub(crate) fn first_level(topic: &[u8]) -> &[u8] {
    let end = topic.iter().position(|&byte| byte == b'/');
    topic.get(..end.unwrap_or(topic.len())).unwrap_or(topic)
}

fn retain_action(incoming: &Incoming<'_>) -> Option<RetainAction> {
    match (incoming.retain, incoming.payload.is_empty()) {
        (false, _) => None,
        (true, false) => Some(RetainAction::Set),
        (true, true) => Some(RetainAction::Clear),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incoming<'a>(topic: &'a Bytes, payload: &'a Bytes, none: &'a Properties) -> Incoming<'a> {
        Incoming {
            topic,
            payload,
            forward: none,
            qos: 0,
            retain: false,
            expires_at_ms: None,
            delay_ms: None,
        }
    }

    #[test]
    fn only_one_first_level_goes_into_a_batch() {
        let none = Properties::default();
        let (payload, publisher) = (Bytes::from_static(b"p"), Bytes::new());
        let (a, b) = (Bytes::from_static(b"a/1"), Bytes::from_static(b"b/1"));
        let mut gather = Gather::default();
        assert!(gather.takes(&incoming(&a, &payload, &none)));
        gather.push(&incoming(&a, &payload, &none), &publisher, 1);
        assert!(!gather.takes(&incoming(&b, &payload, &none)));
        let a2 = Bytes::from_static(b"a");
        assert!(gather.takes(&incoming(&a2, &payload, &none)));
    }

    #[test]
    fn a_batch_has_at_most_256_records_and_64_kib() {
        let none = Properties::default();
        let (small, publisher) = (Bytes::from_static(b"p"), Bytes::new());
        let topic = Bytes::from_static(b"a");
        let mut gather = Gather::default();
        for index in 0..256 {
            assert!(gather.takes(&incoming(&topic, &small, &none)), "{index}");
            gather.push(&incoming(&topic, &small, &none), &publisher, 1);
        }
        assert!(!gather.takes(&incoming(&topic, &small, &none)));
        let publish = gather.take().unwrap();
        assert_eq!(publish.records.len(), 256);
        let large = Bytes::from(vec![0; 100_000]);
        assert!(gather.takes(&incoming(&topic, &large, &none)));
        gather.push(&incoming(&topic, &large, &none), &publisher, 1);
        assert!(!gather.takes(&incoming(&topic, &small, &none)));
    }

    #[test]
    fn the_first_level_may_be_empty() {
        assert_eq!(first_level(b"a/b"), b"a");
        assert_eq!(first_level(b"/b"), b"");
    }
}
