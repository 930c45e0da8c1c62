//! Heartbeats (section 4.2.7): ours when we are silent for half the interval, the peer's missed after two.

use crate::codec::Writer;
use omnilog_wire::{ConnectionError, Outbox};
use std::time::{Duration, Instant};

/// Both directions' clocks.
#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Option<Duration>,
    last_heard: Instant,
    last_sent: Instant,
    /// We read nothing, so that silence is not the client's fault.
    deaf: bool,
}

impl Heartbeat {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            interval: None,
            last_heard: now,
            last_sent: now,
            deaf: false,
        }
    }

    /// The interval is agreed on; 0: none.
    pub(super) fn start(&mut self, now: Instant, seconds: u16) {
        self.interval = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
        self.last_heard = now;
        self.last_sent = now;
    }

    pub(super) fn stop(&mut self) {
        self.interval = None;
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.last_heard = now;
    }

    pub(super) fn sent(&mut self, now: Instant) {
        self.last_sent = now;
    }

    /// From now on we read nothing, or do again.
    pub(super) fn deaf(&mut self, now: Instant, deaf: bool) {
        self.deaf = deaf;
        self.last_heard = now;
    }

    fn next_beat(&self, interval: Duration) -> Instant {
        self.last_sent + interval / 2
    }

    fn silence_end(&self, interval: Duration) -> Option<Instant> {
        (!self.deaf).then(|| self.last_heard + interval * 2)
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let interval = self.interval?;
        let beat = self.next_beat(interval);
        Some(
            self.silence_end(interval)
                .map_or(beat, |silence| beat.min(silence)),
        )
    }

    /// A deadline has come: beat, or give the peer up.
    pub(super) fn beat(&mut self, now: Instant, out: &mut Outbox) -> Result<(), ConnectionError> {
        let Some(interval) = self.interval else {
            return Ok(());
        };
        if self.silence_end(interval).is_some_and(|at| at <= now) {
            return Err(ConnectionError::Silent("missed heartbeats"));
        }
        if self.next_beat(interval) <= now {
            Writer::heartbeat(out.buffer());
            self.last_sent = now;
        }
        Ok(())
    }
}
