//! A named case, what it needs, and what it is run with.

use crate::clients::Clients;
use crate::harness::{Gateway, GatewayOptions, Launcher, Target};
use std::time::Duration;

/// A protocol that a case speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Kafka,
    Amqp,
    Mqtt,
}

/// A program or a language's client packages that a case drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    Python,
    Node,
    Java,
    Go,
    Kcat,
    Mosquitto,
    Strace,
    Prlimit,
    /// The privilege to mount file systems in a namespace of one's own.
    Mounts,
}

/// How a case is carried out.
#[derive(Clone, Copy)]
pub(crate) enum Run {
    /// Here, against the shared broker.
    Shared(fn(&Context<'_>) -> anyhow::Result<()>),
    /// Here, with gateways of its own.
    Own(fn(&Context<'_>) -> anyhow::Result<()>),
    /// By a driver in another language, against the shared broker.
    Driver(Client, &'static str),
    /// By a driver in two phases, the gateway killed and started again between them.
    Restarted(Client, &'static str),
}

/// One behaviour that is checked.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) suite: &'static str,
    pub(crate) name: &'static str,
    pub(crate) speaks: &'static [Speaks],
    pub(crate) clients: &'static [Client],
    pub(crate) timeout: Duration,
    pub(crate) run: Run,
}

impl Case {
    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.suite, self.name)
    }

    /// Does it start gateways itself?
    pub(crate) fn is_alone(&self) -> bool {
        matches!(self.run, Run::Own(_) | Run::Restarted(..))
    }
}

/// What a case is run with.
pub(crate) struct Context<'a> {
    /// The shared broker; empty for a case that starts its own.
    pub(crate) target: Target,
    /// Unique to this run of this case: names made from it are nobody else's.
    pub(crate) prefix: String,
    pub(crate) clients: &'a Clients,
    pub(crate) launcher: &'a Launcher,
    /// Run the long form?
    pub(crate) long: bool,
}

impl Context<'_> {
    /// Starts a gateway with fresh data.
    pub(crate) fn start(&self, options: &GatewayOptions) -> anyhow::Result<Gateway> {
        self.launcher.start(options)
    }

    /// A name that no other case uses.
    pub(crate) fn name(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.prefix)
    }
}
