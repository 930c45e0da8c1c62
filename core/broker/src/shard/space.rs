//! What happens as the disk fills: who may still write, and what is held until there is space again.
//!
//! Below the low mark publishers are refused or wait. When no journal file can be claimed any more, the reserve serves
//! what lets consumers drain; nothing new is made. When that is used up too, frames are held in memory, in order, and
//! with them everything that would be told of them: nothing is lost, and nothing is acknowledged.

use crate::api::*;
use crate::shard::Shard;
use omnilog_ledger::{Class, Section, Space};
use std::collections::VecDeque;
use std::sync::Arc;

/// Held frames may take this much memory, roughly; then commands that change anything are refused.
const HELD_BYTES_MAX: usize = 8 << 20;

/// Wills of sessions that have ended, waiting for space, may take this much memory.
const WILLS_BYTES_MAX: usize = 64 << 20;

/// Wills that can't be published are tried again after this time.
pub(crate) const WILL_RETRY_MS: i64 = 1000;

/// A frame that the journal has no space for yet.
#[derive(Debug)]
pub(crate) struct HeldFrame {
    pub(crate) decision: Vec<u8>,
    pub(crate) sections: Vec<Section>,
    pub(crate) stored: Vec<Arc<StoredBatch>>,
}

impl HeldFrame {
    fn bytes(&self) -> usize {
        let sections = self.sections.iter();
        self.decision.len()
            + 64
            + sections
                .map(|section| section.batch.len() + section.envelope.len() + 64)
                .sum::<usize>()
    }
}

/// What waits for space.
#[derive(Debug, Default)]
pub(crate) struct Held {
    frames: VecDeque<HeldFrame>,
    bytes: usize,
    /// Wills of sessions that are gone.
    wills: VecDeque<(NamespaceId, Publish)>,
    wills_bytes: usize,
}

impl Held {
    /// Does any frame wait?
    pub(crate) fn any(&self) -> bool {
        !self.frames.is_empty()
    }

    pub(crate) fn push(&mut self, frame: HeldFrame) {
        self.bytes += frame.bytes();
        self.frames.push_back(frame);
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> u64 {
        (self.bytes + self.wills_bytes) as u64
    }
}

impl Shard {
    /// Do frames wait for space?
    #[cfg(test)]
    pub(crate) fn holds_frames(&self) -> bool {
        self.held.any()
    }

    /// May publishers write?
    pub(crate) fn may_publish(&self) -> Result<(), Refusal> {
        if self.journal.space() == Space::Plenty && !self.held.any() {
            Ok(())
        } else {
            Err(Refusal::DiskFull)
        }
    }

    /// May anything durable be made that would stay? What the reserve is for needs no leave.
    pub(crate) fn may_grow(&self) -> Result<(), Refusal> {
        if self.journal.space() < Space::Reserve && !self.held.any() {
            Ok(())
        } else {
            Err(Refusal::DiskFull)
        }
    }

    /// May a command be decided, as far as memory goes? Too much may wait for space.
    pub(crate) fn may_decide(&self, command: &Command) -> Result<(), Refusal> {
        if self.held.bytes <= HELD_BYTES_MAX {
            return Ok(());
        }
        match command {
            // These change nothing durable, or are gathered while frames are held, or can't wait.
            Command::Fetch(_)
            | Command::Get(..)
            | Command::FindOffset(_)
            | Command::UnstableOffsets(_)
            | Command::DescribeTransactions(_)
            | Command::Stats
            | Command::DescribeTopics(_)
            | Command::EpochEnd(..)
            | Command::FetchOffsets(..)
            | Command::ListGroups
            | Command::CheckExchange(_)
            | Command::CheckQueue(_)
            | Command::Consume(_)
            | Command::Cancel(_)
            | Command::SetCredit(..)
            | Command::Settle(_)
            | Command::CloseSession(_) => Ok(()),
            _ => Err(Refusal::DiskFull),
        }
    }

    /// Looks at the disk: tells publishers when it is nearly full, and when it is not any more, and writes what was
    /// held, as far as there is space.
    pub(crate) fn watch_space(&mut self) {
        self.journal.look_at_space();
        self.write_held(Class::Reserve);
        self.publish_kept_wills();
        let blocked = self.may_publish().is_err();
        if blocked == self.blocked {
            return;
        }
        self.blocked = blocked;
        if blocked {
            tracing::warn!(space = ?self.journal.space(), "the disk is nearly full: publishers wait");
        } else {
            tracing::info!("the disk has space again: publishers go on");
        }
        let mut clients: Vec<ClientId> = self.clients.keys().copied().collect();
        clients.sort_unstable();
        for client in clients {
            let event = match self.blocked_for(client) {
                Some(reason) => Event::Blocked(reason),
                None => Event::Unblocked,
            };
            self.send(client, event);
        }
    }

    /// Writes held frames, until there is no space.
    pub(crate) fn write_held(&mut self, class: Class) {
        while let Some(frame) = self.held.frames.pop_front() {
            let bytes = frame.bytes();
            match self.push_frame(frame, class) {
                Ok(_) => self.held.bytes = self.held.bytes.saturating_sub(bytes),
                Err(frame) => {
                    self.held.frames.push_front(frame);
                    return;
                }
            }
        }
    }

    /// Keeps the will of a session that ends while nothing can be written.
    pub(crate) fn keep_will(&mut self, namespace: NamespaceId, publish: Publish) {
        let bytes = publish.batch.len() + 512;
        if self.held.wills_bytes + bytes > WILLS_BYTES_MAX {
            tracing::error!("too many wills wait for space: one is dropped");
            return;
        }
        self.held.wills_bytes += bytes;
        self.held.wills.push_back((namespace, publish));
    }

    fn publish_kept_wills(&mut self) {
        while self.may_grow().is_ok() {
            let Some((namespace, publish)) = self.held.wills.pop_front() else {
                return;
            };
            let bytes = publish.batch.len() + 512;
            self.held.wills_bytes = self.held.wills_bytes.saturating_sub(bytes);
            if let Err(refusal) = self.try_publish(ClientId(0), namespace, publish) {
                tracing::warn!(%refusal, "a will can't be published");
            }
            self.conclude_frame();
        }
    }
}

#[cfg(test)]
mod tests;
