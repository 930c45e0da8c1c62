//! The protocol as the gateway plugs it in.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::protocol::StrBytes;
use omnilog_broker::{Broker, NamespaceId};
use omnilog_wire::{
    Authenticator, BoxFuture, Connection, ConnectionError, DriverLimits, Protocol, SignalSender,
    Sniff, drive, signals,
};
use parking_lot::Mutex;

use crate::codec::Api;
use crate::config::KafkaConfig;
use crate::group::task::{self, GroupHandle};
use crate::session::{Context, KafkaSession, Signal};
use crate::topic_ids::TopicIds;

/// The Kafka protocol.
#[derive(Debug)]
pub struct KafkaProtocol {
    config: Arc<KafkaConfig>,
    authenticator: Authenticator,
    limits: DriverLimits,
    /// The group coordinator of each namespace in use.
    groups: Mutex<HashMap<NamespaceId, GroupHandle>>,
    topic_ids: Arc<TopicIds>,
}

impl KafkaProtocol {
    /// The protocol with its settings.
    pub fn new(
        config: KafkaConfig,
        authenticator: Authenticator,
        limits: DriverLimits,
    ) -> Arc<Self> {
        let config = Arc::new(config);
        Arc::new(Self {
            config,
            authenticator,
            limits,
            groups: Mutex::new(HashMap::new()),
            topic_ids: Arc::default(),
        })
    }

    /// The namespace's coordinator, started with its first connection, and again if it has ended
    /// with its shard.
    fn groups(&self, broker: &Broker, namespace: NamespaceId) -> GroupHandle {
        let mut groups = self.groups.lock();
        if let Some(handle) = groups.get(&namespace).filter(|handle| handle.is_running()) {
            return handle.clone();
        }
        let handle = task::spawn(broker, namespace, self.config.groups.clone());
        groups.insert(namespace, handle.clone());
        handle
    }

    fn context(
        &self,
        connection: &Connection,
        broker: &Broker,
        signals: SignalSender<Signal>,
    ) -> Context {
        let namespace = broker.default_namespace();
        let peer = connection.info.peer;
        Context {
            config: self.config.clone(),
            advertised: connection.info.advertised(),
            leader_epoch: broker.leader_epoch(),
            namespace,
            namespace_name: self
                .config
                .broker
                .namespaces
                .first()
                .cloned()
                .unwrap_or_default(),
            groups: self.groups(broker, namespace),
            topic_ids: self.topic_ids.clone(),
            signals,
            authenticator: self.authenticator.clone(),
            origin: connection.info.origin(),
            client_host: StrBytes::from_string(format!("/{}", peer.ip().to_canonical())),
            peer: peer.to_string(),
            principal: None,
        }
    }
}

impl Protocol for KafkaProtocol {
    fn name(&self) -> &'static str {
        "kafka"
    }

    /// A length, then a served api key in a served version. The length's first byte is 0 for
    /// anything below 16 MiB, which no request is that opens a connection.
    fn sniff(&self, prefix: &[u8]) -> Sniff {
        match *prefix {
            [first, ..] if first != 0 => Sniff::No,
            [_, _, _, _, k0, k1, v0, v1, ..] => {
                let (key, version) = (i16::from_be_bytes([k0, k1]), i16::from_be_bytes([v0, v1]));
                // A version newer than ours is told by ApiVersions, whatever it is.
                let versions = match Api::from_key(key) {
                    Some(Api::ApiVersions) => 0..=64,
                    Some(api) => api.versions().min..=api.versions().max,
                    None => return Sniff::No,
                };
                if versions.contains(&version) {
                    Sniff::Yes
                } else {
                    Sniff::No
                }
            }
            _ => Sniff::NeedMore,
        }
    }

    fn serve(
        self: Arc<Self>,
        connection: Connection,
        broker: Broker,
    ) -> BoxFuture<'static, Result<(), ConnectionError>> {
        Box::pin(async move {
            let (sender, receiver) = signals();
            let context = self.context(&connection, &broker, sender);
            let now = tokio::time::Instant::now().into_std();
            let session = KafkaSession::new(context, now);
            let limits = self.limits;
            drive(connection, session, broker, receiver, limits).await
        })
    }
}
