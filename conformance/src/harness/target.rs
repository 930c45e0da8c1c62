//! Where a broker's listeners are.

use crate::case::Speaks;
use crate::cli::TargetArgs;
use anyhow::Context as _;
use serde::Deserialize;

/// The addresses of a broker, as `host:port`; a missing one is not spoken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Target {
    pub(crate) kafka: Option<String>,
    pub(crate) amqp: Option<String>,
    pub(crate) mqtt: Option<String>,
    pub(crate) admin: Option<String>,
}

impl Target {
    pub(crate) fn foreign(args: &TargetArgs) -> Self {
        Self {
            kafka: args.kafka.clone(),
            amqp: args.amqp.clone(),
            mqtt: args.mqtt.clone(),
            admin: None,
        }
    }

    pub(crate) fn speaks(&self, protocol: Speaks) -> bool {
        self.address(protocol).is_ok()
    }

    pub(crate) fn address(&self, protocol: Speaks) -> anyhow::Result<&str> {
        match protocol {
            Speaks::Kafka => self.kafka.as_deref(),
            Speaks::Amqp => self.amqp.as_deref(),
            Speaks::Mqtt => self.mqtt.as_deref(),
        }
        .with_context(|| format!("the broker has no {protocol:?} listener"))
    }

    pub(crate) fn kafka(&self) -> anyhow::Result<&str> {
        self.address(Speaks::Kafka)
    }

    pub(crate) fn amqp(&self) -> anyhow::Result<&str> {
        self.address(Speaks::Amqp)
    }

    pub(crate) fn mqtt(&self) -> anyhow::Result<&str> {
        self.address(Speaks::Mqtt)
    }
}
