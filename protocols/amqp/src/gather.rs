//! Publishes on their way to the broker: those of one read to the same exchange become one record batch.

use crate::codec::Properties;
use crate::mapping;
use bytes::Bytes;
use omnilog_broker::{Address, Delay, Envelope, Publish, PublishRecord, Table, Wait};
use omnilog_record::{BatchBuilder, BatchOptions, Header, NewRecord, Pieces};

/// The most records in one batch.
const RECORDS_MAX: usize = 256;

/// The most bytes in one batch of more than one record.
const BATCH_BYTES_MAX: usize = 64 << 10;

/// What a record takes in a batch beside its body, properties and key, at the most.
const RECORD_OVERHEAD_BYTES: usize = 128;

/// A publish as it came in, checked.
#[derive(Debug, Clone)]
pub(crate) struct Incoming {
    pub(crate) exchange: Bytes,
    pub(crate) routing_key: Bytes,
    /// Property flags and list, verbatim.
    pub(crate) raw: Bytes,
    pub(crate) properties: Properties,
    pub(crate) headers: Table,
    /// `CC` and `BCC`.
    pub(crate) more_routing_keys: Vec<Bytes>,
    pub(crate) body: Vec<Bytes>,
    pub(crate) body_bytes: usize,
    pub(crate) expires_at_ms: Option<i64>,
    /// `x-delay`.
    pub(crate) delay: Option<Box<Delay>>,
}

impl Incoming {
    pub(crate) fn is_persistent(&self) -> bool {
        self.properties.delivery_mode == Some(2)
    }
}

/// Publishes that wait for the rest of their batch.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    builder: Option<BatchBuilder>,
    records: Vec<PublishRecord>,
    /// Bytes and records of the batch before: mostly also those of the next, which need not grow then.
    expected: (usize, usize),
    exchange: Bytes,
    /// The routing key of the newest record: mostly also that of the next.
    routing_key: Bytes,
    persistent: bool,
}

impl Gather {
    /// Does this publish go into the batch that is being gathered?
    pub(crate) fn takes(&self, incoming: &Incoming) -> bool {
        let Some(builder) = &self.builder else {
            return true;
        };
        let bytes = incoming.body_bytes
            + incoming.routing_key.len()
            + 2 * incoming.raw.len()
            + RECORD_OVERHEAD_BYTES;
        self.records.len() < RECORDS_MAX
            && builder.wire_bytes() + bytes <= BATCH_BYTES_MAX
            && self.exchange == incoming.exchange
    }

    /// Is nothing gathered?
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Adds a publish. It must be one that is taken.
    pub(crate) fn push(&mut self, incoming: Incoming, publisher: &Bytes, now_ms: i64) {
        let mapped = mapping::headers_of(&incoming.properties, &incoming.headers);
        let (bytes, records) = self.expected;
        let builder = self.builder.get_or_insert_with(|| {
            self.records.reserve_exact(records);
            BatchBuilder::with_capacity(BatchOptions::default(), bytes)
        });
        let appended = builder.append(&NewRecord {
            timestamp: now_ms,
            key: mapping::key_of(&incoming.exchange, &incoming.routing_key).as_deref(),
            value: Some(Pieces::Many(&incoming.body)),
            headers: mapped.headers.iter().map(|(name, value)| Header {
                key: name,
                value: value.as_deref(),
            }),
        });
        let range = match appended {
            Ok(appended) => appended.range(),
            Err(error) => {
                // Messages are far smaller than what a batch may hold.
                tracing::error!(%error, "a publish does not fit into a batch");
                return;
            }
        };
        if self.exchange != incoming.exchange {
            self.exchange = Bytes::copy_from_slice(&incoming.exchange);
        }
        if self.routing_key != incoming.routing_key {
            self.routing_key = Bytes::copy_from_slice(&incoming.routing_key);
        }
        let persistent = incoming.is_persistent();
        self.persistent |= persistent;
        self.records.push(PublishRecord {
            envelope: Envelope {
                address: Address::Amqp {
                    exchange: self.exchange.clone(),
                    routing_key: self.routing_key.clone(),
                },
                provenance: mapping::provenance_of(&incoming.exchange),
                publisher: publisher.clone(),
                properties: Bytes::copy_from_slice(&incoming.raw),
                qos: u8::from(persistent),
                retain: false,
                expires_at_ms: incoming.expires_at_ms,
                priority: incoming.properties.priority.unwrap_or(0),
                property_headers: mapped.properties,
                range,
            },
            more_routing_keys: incoming.more_routing_keys,
            headers: incoming.headers,
            retain: None,
            delay: incoming.delay,
        });
    }

    /// The batch, if there is anything in it. With `confirm` its reply waits for the journal where a message is
    /// persistent.
    pub(crate) fn take(&mut self, confirm: bool) -> Option<Publish> {
        let builder = self.builder.take()?;
        let records = std::mem::take(&mut self.records);
        self.expected = (builder.wire_bytes().min(BATCH_BYTES_MAX), records.len());
        let persistent = std::mem::take(&mut self.persistent);
        match builder.finish() {
            Ok(batch) => Some(Publish {
                batch: batch.to_bytes(),
                records,
                wait: if confirm && persistent {
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
