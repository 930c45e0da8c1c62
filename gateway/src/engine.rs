//! The journal and the broker over it.

use crate::config::Settings;
use omnilog_broker::Broker;

pub(crate) struct Engine {
    pub(crate) broker: Broker,
}

impl Engine {
    pub(crate) fn start(_settings: &Settings) -> anyhow::Result<Self> {
        anyhow::bail!("no engine yet")
    }

    /// Waits until the journal has failed; says how.
    pub(crate) async fn failed(&self) -> anyhow::Error {
        std::future::pending().await
    }

    /// Lets the journal finish and leaves a clean end.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        Ok(())
    }
}
