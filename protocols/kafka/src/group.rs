//! Consumer groups: the classic rebalance protocol, as Apache Kafka's group coordinator runs it.
//!
//! [`Coordinator`] is a state machine without clock, sockets or tasks: requests and the time go
//! in, [`Effect`]s come out. One task ([`task`]) runs it for all groups of a namespace; what of a
//! group must survive a restart goes through the broker's journal.
//!
//! A group's life: `Empty` → `PreparingRebalance` (members join) → `CompletingRebalance` (the
//! leader assigns) → `Stable`, and back whenever membership changes.

mod commit;
mod coordinator;
mod describe;
mod expiry;
mod heartbeat;
mod join;
mod leave;
mod member;
mod rebalance;
mod request;
mod snapshot;
mod state;
mod sync;
pub mod task;

pub use coordinator::{Coordinator, Effect, Purpose};
pub use request::*;
pub use state::State;

use std::time::Duration;

/// What the operator decides about groups.
#[derive(Debug, Clone)]
pub struct GroupConfig {
    /// How long the first rebalance of an empty group waits for more members
    /// (`group.initial.rebalance.delay.ms`).
    pub initial_rebalance_delay: Duration,
    /// The shortest session timeout a member may ask for (`group.min.session.timeout.ms`).
    pub session_timeout_min: Duration,
    /// The longest session timeout a member may ask for (`group.max.session.timeout.ms`).
    pub session_timeout_max: Duration,
    /// Members of one group (`group.max.size`).
    pub members_max: usize,
    /// How long an empty group and its offsets are kept (`offsets.retention.minutes`).
    pub offsets_retention: Duration,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            initial_rebalance_delay: Duration::from_secs(3),
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: Duration::from_secs(30 * 60),
            members_max: 10_000,
            offsets_retention: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}

#[cfg(test)]
mod tests;
