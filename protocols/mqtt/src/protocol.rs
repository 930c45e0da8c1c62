//! MQTT as the gateway sees it.

use crate::MqttConfig;
use crate::session::MqttSession;
use omnilog_broker::{Broker, NamespaceId};
use omnilog_wire::{
    Authenticator, BoxFuture, Connection, ConnectionError, DriverLimits, Protocol, Sniff, drive,
    signals,
};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Unix milliseconds, now.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Finds a namespace by its name.
pub(crate) type Namespaces = Arc<dyn Fn(&[u8]) -> Option<NamespaceId> + Send + Sync>;

/// What all MQTT connections share.
pub(crate) struct Shared {
    pub(crate) config: MqttConfig,
    pub(crate) authenticator: Authenticator,
    pub(crate) clock: Clock,
}

/// MQTT 3.1, 3.1.1 and 5.
pub struct MqttProtocol {
    shared: Arc<Shared>,
    limits: DriverLimits,
}

impl MqttProtocol {
    /// With these settings, and the users that the authenticator knows.
    pub fn new(
        config: MqttConfig,
        authenticator: Authenticator,
        limits: DriverLimits,
    ) -> Arc<Self> {
        Self::with_clock(config, authenticator, limits, Arc::new(unix_ms))
    }

    /// The same with a clock of the caller's.
    pub fn with_clock(
        config: MqttConfig,
        authenticator: Authenticator,
        limits: DriverLimits,
        clock: Clock,
    ) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::new(Shared {
                config,
                authenticator,
                clock,
            }),
            limits,
        })
    }
}

fn unix_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}

impl Protocol for MqttProtocol {
    fn name(&self) -> &'static str {
        "mqtt"
    }

    /// CONNECT: first byte 0x10, a remaining length, `00 04 MQTT` or `00 06 MQIsdp`.
    fn sniff(&self, prefix: &[u8]) -> Sniff {
        sniff(prefix)
    }

    fn serve(
        self: Arc<Self>,
        connection: Connection,
        broker: Broker,
    ) -> BoxFuture<'static, Result<(), ConnectionError>> {
        Box::pin(async move {
            let (sender, receiver) = signals();
            let known = broker.clone();
            let namespaces: Namespaces = Arc::new(move |name| {
                if name.is_empty() {
                    Some(known.default_namespace())
                } else {
                    known.namespace(name)
                }
            });
            let session = MqttSession::new(
                self.shared.clone(),
                connection.info.clone(),
                namespaces,
                sender,
                Instant::now(),
            );
            drive(connection, session, broker, receiver, self.limits).await
        })
    }
}

fn sniff(prefix: &[u8]) -> Sniff {
    const NAMES: [&[u8]; 2] = [b"\x00\x04MQTT", b"\x00\x06MQIsdp"];
    let Some((&first, rest)) = prefix.split_first() else {
        return Sniff::NeedMore;
    };
    if first != 0x10 {
        return Sniff::No;
    }
    let Some(last) = rest.iter().take(4).position(|byte| byte & 0x80 == 0) else {
        return if rest.len() < 4 {
            Sniff::NeedMore
        } else {
            Sniff::No
        };
    };
    let body = &rest[last + 1..];
    let mut answer = Sniff::No;
    for name in NAMES {
        match omnilog_wire::sniff::opens(body, name) {
            Sniff::Yes => return Sniff::Yes,
            Sniff::NeedMore => answer = Sniff::NeedMore,
            Sniff::No => {}
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::sniff;
    use omnilog_wire::Sniff;

    #[test]
    fn a_connect_is_recognised_from_any_prefix_long_enough() {
        let connect = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00";
        for length in 0..8 {
            assert_eq!(sniff(&connect[..length]), Sniff::NeedMore, "{length}");
        }
        assert_eq!(sniff(connect), Sniff::Yes);
        assert_eq!(sniff(b"\x10\x80\x01\x00\x06MQIsdp\x03"), Sniff::Yes);
        assert_eq!(sniff(b"\x10\xff\xff\xff\xff"), Sniff::No);
        assert_eq!(sniff(b"\x10\x0c\x00\x04HTTP"), Sniff::No);
        assert_eq!(sniff(b"AMQP\x00"), Sniff::No);
        assert_eq!(sniff(b"\x00\x00\x00\x20"), Sniff::No);
    }
}
