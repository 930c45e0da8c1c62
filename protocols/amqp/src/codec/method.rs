//! The methods that clients send.

use crate::codec::{Malformed, MethodId, Reader};
use bytes::Bytes;
use omnilog_broker::Table;
use thiserror::Error;

/// A method from a client. Names and keys are slices of its frame.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are the specification's own")]
pub enum Method {
    ConnectionStartOk {
        client_properties: Table,
        mechanism: Bytes,
        response: Bytes,
        locale: Bytes,
    },
    ConnectionSecureOk {
        response: Bytes,
    },
    ConnectionTuneOk {
        channel_max: u16,
        frame_max: u32,
        heartbeat: u16,
    },
    ConnectionOpen {
        vhost: Bytes,
    },
    ConnectionClose {
        code: u16,
        text: Bytes,
    },
    ConnectionCloseOk,
    ConnectionBlocked,
    ConnectionUnblocked,
    ConnectionUpdateSecret {
        secret: Bytes,
    },
    ChannelOpen,
    ChannelFlow {
        active: bool,
    },
    ChannelFlowOk,
    ChannelClose {
        code: u16,
        text: Bytes,
    },
    ChannelCloseOk,
    AccessRequest,
    ExchangeDeclare {
        exchange: Bytes,
        kind: Bytes,
        passive: bool,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        nowait: bool,
        arguments: Table,
    },
    ExchangeDelete {
        exchange: Bytes,
        if_unused: bool,
        nowait: bool,
    },
    ExchangeBind {
        destination: Bytes,
        source: Bytes,
        routing_key: Bytes,
        nowait: bool,
        arguments: Table,
    },
    ExchangeUnbind {
        destination: Bytes,
        source: Bytes,
        routing_key: Bytes,
        nowait: bool,
        arguments: Table,
    },
    QueueDeclare {
        queue: Bytes,
        passive: bool,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        nowait: bool,
        arguments: Table,
    },
    QueueBind {
        queue: Bytes,
        exchange: Bytes,
        routing_key: Bytes,
        nowait: bool,
        arguments: Table,
    },
    QueuePurge {
        queue: Bytes,
        nowait: bool,
    },
    QueueDelete {
        queue: Bytes,
        if_unused: bool,
        if_empty: bool,
        nowait: bool,
    },
    QueueUnbind {
        queue: Bytes,
        exchange: Bytes,
        routing_key: Bytes,
        arguments: Table,
    },
    BasicQos {
        prefetch_size: u32,
        prefetch_count: u16,
        global: bool,
    },
    BasicConsume {
        queue: Bytes,
        consumer_tag: Bytes,
        no_local: bool,
        no_ack: bool,
        exclusive: bool,
        nowait: bool,
        arguments: Table,
    },
    BasicCancel {
        consumer_tag: Bytes,
        nowait: bool,
    },
    BasicCancelOk,
    BasicPublish {
        exchange: Bytes,
        routing_key: Bytes,
        mandatory: bool,
        immediate: bool,
    },
    BasicGet {
        queue: Bytes,
        no_ack: bool,
    },
    BasicAck {
        delivery_tag: u64,
        multiple: bool,
    },
    BasicReject {
        delivery_tag: u64,
        requeue: bool,
    },
    BasicRecoverAsync {
        requeue: bool,
    },
    BasicRecover {
        requeue: bool,
    },
    BasicNack {
        delivery_tag: u64,
        multiple: bool,
        requeue: bool,
    },
    ConfirmSelect {
        nowait: bool,
    },
    TxSelect,
    TxCommit,
    TxRollback,
}

/// Why a method frame can't be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MethodError {
    /// Not even a method's number is there.
    #[error("method frame is too short")]
    Short,
    /// No method that a server knows.
    #[error("unknown method {0}")]
    Unknown(MethodId),
    /// Its arguments are malformed.
    #[error("{0}: {1}")]
    Arguments(MethodId, Malformed),
}

impl Method {
    /// Decodes a method frame's payload.
    ///
    /// # Errors
    /// See [`MethodError`].
    pub fn decode(payload: Bytes) -> Result<(MethodId, Self), MethodError> {
        let mut reader = Reader::new(payload);
        let id = MethodId(
            reader.u16().map_err(|_| MethodError::Short)?,
            reader.u16().map_err(|_| MethodError::Short)?,
        );
        match arguments(id, &mut reader) {
            Ok(Some(method)) => Ok((id, method)),
            Ok(None) => Err(MethodError::Unknown(id)),
            Err(malformed) => Err(MethodError::Arguments(id, malformed)),
        }
    }
}

/// Bits packed into one octet, lowest first.
fn bits<const N: usize>(reader: &mut Reader) -> Result<[bool; N], Malformed> {
    let octet = reader.u8()?;
    Ok(std::array::from_fn(|bit| octet & (1 << bit) != 0))
}

fn arguments(id: MethodId, r: &mut Reader) -> Result<Option<Method>, Malformed> {
    Ok(Some(match id {
        MethodId::BASIC_PUBLISH => {
            r.u16()?;
            let exchange = r.short_text()?;
            let routing_key = r.short_text()?;
            let [mandatory, immediate] = bits(r)?;
            Method::BasicPublish {
                exchange,
                routing_key,
                mandatory,
                immediate,
            }
        }
        MethodId::BASIC_ACK => {
            let delivery_tag = r.u64()?;
            let [multiple] = bits(r)?;
            Method::BasicAck {
                delivery_tag,
                multiple,
            }
        }
        MethodId::BASIC_NACK => {
            let delivery_tag = r.u64()?;
            let [multiple, requeue] = bits(r)?;
            Method::BasicNack {
                delivery_tag,
                multiple,
                requeue,
            }
        }
        MethodId::BASIC_REJECT => {
            let delivery_tag = r.u64()?;
            let [requeue] = bits(r)?;
            Method::BasicReject {
                delivery_tag,
                requeue,
            }
        }
        MethodId::BASIC_GET => {
            r.u16()?;
            let queue = r.short_text()?;
            let [no_ack] = bits(r)?;
            Method::BasicGet { queue, no_ack }
        }
        MethodId::BASIC_QOS => {
            let prefetch_size = r.u32()?;
            let prefetch_count = r.u16()?;
            let [global] = bits(r)?;
            Method::BasicQos {
                prefetch_size,
                prefetch_count,
                global,
            }
        }
        MethodId::BASIC_CONSUME => {
            r.u16()?;
            let queue = r.short_text()?;
            let consumer_tag = r.short_text()?;
            let [no_local, no_ack, exclusive, nowait] = bits(r)?;
            Method::BasicConsume {
                queue,
                consumer_tag,
                no_local,
                no_ack,
                exclusive,
                nowait,
                arguments: r.table()?,
            }
        }
        MethodId::BASIC_CANCEL => {
            let consumer_tag = r.short_text()?;
            let [nowait] = bits(r)?;
            Method::BasicCancel {
                consumer_tag,
                nowait,
            }
        }
        MethodId::BASIC_CANCEL_OK => Method::BasicCancelOk,
        MethodId::BASIC_RECOVER_ASYNC => {
            let [requeue] = bits(r)?;
            Method::BasicRecoverAsync { requeue }
        }
        MethodId::BASIC_RECOVER => {
            let [requeue] = bits(r)?;
            Method::BasicRecover { requeue }
        }
        MethodId(10, _) => return connection(id, r),
        MethodId(40, _) => return exchange(id, r),
        MethodId(50, _) => return queue(id, r),
        MethodId::CHANNEL_OPEN => Method::ChannelOpen,
        MethodId::CHANNEL_FLOW => {
            let [active] = bits(r)?;
            Method::ChannelFlow { active }
        }
        MethodId::CHANNEL_FLOW_OK => Method::ChannelFlowOk,
        MethodId::CHANNEL_CLOSE => Method::ChannelClose {
            code: r.u16()?,
            text: r.short_bytes()?,
        },
        MethodId::CHANNEL_CLOSE_OK => Method::ChannelCloseOk,
        MethodId::ACCESS_REQUEST => Method::AccessRequest,
        MethodId::CONFIRM_SELECT => {
            let [nowait] = bits(r)?;
            Method::ConfirmSelect { nowait }
        }
        MethodId::TX_SELECT => Method::TxSelect,
        MethodId::TX_COMMIT => Method::TxCommit,
        MethodId::TX_ROLLBACK => Method::TxRollback,
        _ => return Ok(None),
    }))
}

fn connection(id: MethodId, r: &mut Reader) -> Result<Option<Method>, Malformed> {
    Ok(Some(match id {
        MethodId::CONNECTION_START_OK => Method::ConnectionStartOk {
            client_properties: r.table()?,
            mechanism: r.short_text()?,
            response: r.long_bytes()?,
            locale: r.short_text()?,
        },
        MethodId::CONNECTION_SECURE_OK => Method::ConnectionSecureOk {
            response: r.long_bytes()?,
        },
        MethodId::CONNECTION_TUNE_OK => Method::ConnectionTuneOk {
            channel_max: r.u16()?,
            frame_max: r.u32()?,
            heartbeat: r.u16()?,
        },
        MethodId::CONNECTION_OPEN => Method::ConnectionOpen {
            vhost: r.short_text()?,
        },
        MethodId::CONNECTION_CLOSE => Method::ConnectionClose {
            code: r.u16()?,
            text: r.short_bytes()?,
        },
        MethodId::CONNECTION_CLOSE_OK => Method::ConnectionCloseOk,
        MethodId::CONNECTION_BLOCKED => Method::ConnectionBlocked,
        MethodId::CONNECTION_UNBLOCKED => Method::ConnectionUnblocked,
        MethodId::CONNECTION_UPDATE_SECRET => Method::ConnectionUpdateSecret {
            secret: r.long_bytes()?,
        },
        _ => return Ok(None),
    }))
}

fn exchange(id: MethodId, r: &mut Reader) -> Result<Option<Method>, Malformed> {
    r.u16()?;
    Ok(Some(match id {
        MethodId::EXCHANGE_DECLARE => {
            let exchange = r.short_text()?;
            let kind = r.short_text()?;
            let [passive, durable, auto_delete, internal, nowait] = bits(r)?;
            Method::ExchangeDeclare {
                exchange,
                kind,
                passive,
                durable,
                auto_delete,
                internal,
                nowait,
                arguments: r.table()?,
            }
        }
        MethodId::EXCHANGE_DELETE => {
            let exchange = r.short_text()?;
            let [if_unused, nowait] = bits(r)?;
            Method::ExchangeDelete {
                exchange,
                if_unused,
                nowait,
            }
        }
        MethodId::EXCHANGE_BIND | MethodId::EXCHANGE_UNBIND => {
            let destination = r.short_text()?;
            let source = r.short_text()?;
            let routing_key = r.short_text()?;
            let [nowait] = bits(r)?;
            let arguments = r.table()?;
            if id == MethodId::EXCHANGE_BIND {
                Method::ExchangeBind {
                    destination,
                    source,
                    routing_key,
                    nowait,
                    arguments,
                }
            } else {
                Method::ExchangeUnbind {
                    destination,
                    source,
                    routing_key,
                    nowait,
                    arguments,
                }
            }
        }
        _ => return Ok(None),
    }))
}

fn queue(id: MethodId, r: &mut Reader) -> Result<Option<Method>, Malformed> {
    r.u16()?;
    let queue = r.short_text()?;
    Ok(Some(match id {
        MethodId::QUEUE_DECLARE => {
            let [passive, durable, exclusive, auto_delete, nowait] = bits(r)?;
            Method::QueueDeclare {
                queue,
                passive,
                durable,
                exclusive,
                auto_delete,
                nowait,
                arguments: r.table()?,
            }
        }
        MethodId::QUEUE_BIND => {
            let exchange = r.short_text()?;
            let routing_key = r.short_text()?;
            let [nowait] = bits(r)?;
            Method::QueueBind {
                queue,
                exchange,
                routing_key,
                nowait,
                arguments: r.table()?,
            }
        }
        MethodId::QUEUE_PURGE => {
            let [nowait] = bits(r)?;
            Method::QueuePurge { queue, nowait }
        }
        MethodId::QUEUE_DELETE => {
            let [if_unused, if_empty, nowait] = bits(r)?;
            Method::QueueDelete {
                queue,
                if_unused,
                if_empty,
                nowait,
            }
        }
        MethodId::QUEUE_UNBIND => Method::QueueUnbind {
            queue,
            exchange: r.short_text()?,
            routing_key: r.short_text()?,
            arguments: r.table()?,
        },
        _ => return Ok(None),
    }))
}
