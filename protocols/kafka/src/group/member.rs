//! One member of a group.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;

use super::Join;

/// A new member's join is given up after this long: its client has surely gone away.
pub(super) const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// A member; `T` is the ticket of a request that waits for an answer.
#[derive(Debug)]
pub(super) struct Member<T> {
    pub(super) instance: Option<StrBytes>,
    pub(super) client_id: StrBytes,
    pub(super) client_host: StrBytes,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    pub(super) protocols: Vec<(StrBytes, Bytes)>,
    pub(super) assignment: Bytes,
    /// Its place in the order of joining: the oldest member becomes leader.
    pub(super) seniority: u64,
    /// The JoinGroup that waits for the rebalance to complete.
    pub(super) awaiting_join: Option<T>,
    /// The SyncGroup that waits for the leader's assignment.
    pub(super) awaiting_sync: Option<T>,
    /// It has asked for its assignment in this generation.
    pub(super) synced: bool,
    /// It does not know its id yet, and so cannot send heartbeats.
    pub(super) is_new: bool,
    /// When its session ends.
    pub(super) expires_at: Instant,
}

impl<T> Member<T> {
    pub(super) fn new(join: &Join, seniority: u64, now: Instant) -> Self {
        Self {
            instance: join.instance.clone(),
            client_id: join.client_id.clone(),
            client_host: join.client_host.clone(),
            session_timeout: milliseconds(join.session_timeout_ms),
            rebalance_timeout: milliseconds(join.rebalance_timeout_ms),
            protocols: join.protocols.clone(),
            assignment: Bytes::new(),
            seniority,
            awaiting_join: None,
            awaiting_sync: None,
            synced: false,
            is_new: true,
            expires_at: now + NEW_MEMBER_JOIN_TIMEOUT,
        }
    }

    /// Takes over what a repeated JoinGroup says.
    pub(super) fn update(&mut self, join: &Join) {
        self.protocols.clone_from(&join.protocols);
        self.session_timeout = milliseconds(join.session_timeout_ms);
        self.rebalance_timeout = milliseconds(join.rebalance_timeout_ms);
        self.client_id = join.client_id.clone();
        self.client_host = join.client_host.clone();
    }

    pub(super) fn supports(&self, protocol: &StrBytes) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    pub(super) fn metadata(&self, protocol: &StrBytes) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    /// Starts its session anew.
    pub(super) fn keep_alive(&mut self, now: Instant) {
        self.expires_at = now + self.session_timeout;
    }

    /// A member that waits for an answer is alive, whatever its session says; a new one, which
    /// can't send heartbeats, only for so long.
    pub(super) fn is_expired(&self, now: Instant) -> bool {
        let waits = self.awaiting_join.is_some() || self.awaiting_sync.is_some();
        now >= self.expires_at && (self.is_new || !waits)
    }
}

pub(super) fn milliseconds(value: i32) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or(0))
}
