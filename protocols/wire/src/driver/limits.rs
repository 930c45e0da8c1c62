//! What a connection may take.

use std::time::Duration;

/// A connection's bounds, whatever its protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriverLimits {
    /// With this many bytes unwritten, neither events are taken nor bytes read.
    pub write_backlog_bytes_max: usize,
    /// A peer that takes no byte for this long, while some wait for it, is given up.
    pub peer_stall_max: Duration,
    /// How long last words may take: writing them, and waiting for the peer to close.
    pub linger_max: Duration,
    /// How long a session may take to close when the server stops.
    pub shutdown_grace: Duration,
    /// The largest single read, bytes.
    pub read_bytes_max: usize,
    /// The most that may be read and not taken by the session, bytes. Sessions know their frame limits and refuse
    /// earlier; this is the net below.
    pub input_bytes_max: usize,
}

impl Default for DriverLimits {
    fn default() -> Self {
        Self {
            write_backlog_bytes_max: 1 << 20,
            peer_stall_max: Duration::from_secs(60),
            linger_max: Duration::from_secs(2),
            shutdown_grace: Duration::from_secs(5),
            read_bytes_max: 64 << 10,
            input_bytes_max: 272 << 20,
        }
    }
}
