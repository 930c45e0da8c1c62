//! AMQP as the gateway sees it.

use crate::AmqpConfig;
use crate::codec::PROTOCOL_HEADER;
use crate::connection::AmqpSession;
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

/// What all AMQP connections share.
pub(crate) struct Shared {
    pub(crate) config: AmqpConfig,
    pub(crate) authenticator: Authenticator,
    pub(crate) clock: Clock,
}

/// AMQP 0-9-1.
pub struct AmqpProtocol {
    shared: Arc<Shared>,
    limits: DriverLimits,
}

impl AmqpProtocol {
    /// With these settings, and the users that the authenticator knows.
    pub fn new(
        config: AmqpConfig,
        authenticator: Authenticator,
        limits: DriverLimits,
    ) -> Arc<Self> {
        Self::with_clock(config, authenticator, limits, Arc::new(unix_ms))
    }

    /// The same with a clock of the caller's.
    pub fn with_clock(
        config: AmqpConfig,
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

impl Protocol for AmqpProtocol {
    fn name(&self) -> &'static str {
        "amqp"
    }

    /// `AMQP`, whatever the version: a wrong one is answered in AMQP's terms.
    fn sniff(&self, prefix: &[u8]) -> Sniff {
        omnilog_wire::sniff::opens(prefix, &PROTOCOL_HEADER[..4])
    }

    fn serve(
        self: Arc<Self>,
        connection: Connection,
        broker: Broker,
    ) -> BoxFuture<'static, Result<(), ConnectionError>> {
        Box::pin(async move {
            let (sender, receiver) = signals();
            let known = broker.clone();
            let namespaces: Namespaces = Arc::new(move |name| known.namespace(name));
            let session = AmqpSession::new(
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
