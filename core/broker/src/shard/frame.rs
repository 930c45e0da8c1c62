//! Building frames: decisions take effect at once and are written together.

use crate::api::*;
use crate::event::{self, Event as Decision};
use crate::shard::Shard;
use crate::shard::space::HeldFrame;
use crate::tail::TailEntry;
use omnilog_ledger::{Class, Frame, JournalError, Section};
use std::sync::Arc;

impl Shard {
    /// Decides: takes effect at once, and goes into the frame.
    pub(crate) fn record(&mut self, decision: &Decision) {
        self.state.apply(decision, &self.sections);
        if let Err(error) = event::encode(decision, &mut self.decision) {
            self.fail(&format!("a decision can't be encoded: {error}"));
        }
    }

    /// Takes effect at once, and is not journaled: what is not durable.
    pub(crate) fn record_volatile(&mut self, decision: &Decision) {
        self.state.apply(decision, &self.sections);
    }

    /// Takes effect, and is journaled if it is about something durable.
    pub(crate) fn record_if(&mut self, durable: bool, decision: &Decision) {
        if durable {
            self.record(decision)
        } else {
            self.record_volatile(decision)
        }
    }

    /// Adds a section to the frame under construction; returns its number.
    pub(crate) fn add_section(&mut self, section: Section, stored: Arc<StoredBatch>) -> u32 {
        self.sections.push(section);
        self.stored.push(stored);
        u32::try_from(self.sections.len() - 1).unwrap_or(u32::MAX)
    }

    /// Hands the frame under construction to the journal's group, if there is anything in it. Without space for it, it
    /// is held, and all that waits for it.
    pub(crate) fn finish_frame(&mut self) {
        self.write_frame();
        while !self.in_one_frame && self.publish_postponed() {
            self.write_frame();
        }
    }

    fn write_frame(&mut self) {
        if self.decision.is_empty() && self.sections.is_empty() {
            return;
        }
        let frame = HeldFrame {
            decision: std::mem::take(&mut self.decision),
            sections: std::mem::take(&mut self.sections),
            stored: std::mem::take(&mut self.stored),
        };
        #[cfg(test)]
        if self.failed.is_none()
            && let Some(inspector) = &mut self.inspector
        {
            let written = crate::shard::Written {
                decision: &frame.decision,
                sections: &frame.sections,
                stored: &frame.stored,
            };
            inspector(&written, &self.state);
        }
        let held = if self.held.any() {
            Some(frame)
        } else {
            match self.push_frame(frame, Class::Reserve) {
                Ok(emptied) => {
                    self.decision = emptied;
                    None
                }
                Err(frame) => Some(frame),
            }
        };
        self.head += 1;
        if let Some(frame) = held {
            self.held.push(frame);
        }
        #[cfg(test)]
        if self.failed.is_none()
            && let Some(witness) = &mut self.witness
        {
            witness(self.head, &self.state);
        }
    }

    /// Hands a frame to the journal, or back if there is no space for it. Returns the decision's buffer, emptied.
    pub(crate) fn push_frame(
        &mut self,
        held: HeldFrame,
        class: Class,
    ) -> Result<Vec<u8>, HeldFrame> {
        let frame = Frame {
            shard: self.id,
            decision: &held.decision,
            sections: &held.sections,
        };
        match self.journal.push(&frame, class) {
            Ok(pushed) => {
                let sections = held.sections.into_iter().zip(held.stored);
                for ((section, stored), place) in sections.zip(pushed.places.iter()) {
                    self.stored_at(&section, stored, place.file);
                }
            }
            Err(JournalError::Full) => return Err(held),
            Err(JournalError::Poisoned) => self.fail("the journal is poisoned"),
            Err(error) => self.fail(&format!("a frame can't be written: {error}")),
        }
        let mut emptied = held.decision;
        emptied.clear();
        Ok(emptied)
    }

    /// Hands on the frame under construction, with what happens when it is durable.
    pub(crate) fn conclude_frame(&mut self) {
        self.finish_frame();
        let head = self.head;
        for effect in std::mem::take(&mut self.after) {
            self.effect_at(head, effect);
        }
    }

    fn stored_at(&mut self, section: &Section, stored: Arc<StoredBatch>, file: u32) {
        let last = section.base_sequence + u64::from(section.last_delta);
        self.stats.records += u64::from(section.last_delta) + 1;
        let partition = self.state.partitions.get_mut(&section.partition);
        let index = partition.map(|partition| {
            partition.stored_in(
                file,
                section.base_offset,
                (section.envelope.len() + section.batch.len()) as u64,
                section.max_timestamp,
            );
            partition.index
        });
        let entry = TailEntry {
            first: section.base_sequence,
            last,
            index: 0,
            stored,
            partition: section.partition,
            partition_index: index.unwrap_or_default(),
            base_offset: section.base_offset,
        };
        match index {
            Some(_) => self.tail.push_logged(entry),
            None => self.tail.push(entry),
        }
    }

    /// Hands the group to the journal; what somebody waits for is synced at once.
    pub(crate) fn submit(&mut self) {
        self.bytes_written += self.journal.group_bytes() as u64;
        if std::mem::take(&mut self.urgent) && self.config.durability == Durability::Synced {
            self.journal.sync();
        }
        if let Err(error) = self.journal.submit() {
            self.fail(&format!("a group can't be written: {error}"));
        }
    }

    /// Bytes that may be written before the journal begins another file.
    pub(crate) fn journal_room(&self) -> u64 {
        self.journal.room()
    }

    /// Bounds the tail.
    pub(crate) fn evict(&mut self) {
        self.tail.evict(self.released);
    }

    /// The next record's sequence and those after it are taken by this many records.
    pub(crate) fn take_sequences(&mut self, count: u64) -> u64 {
        let first = self.state.next_sequence;
        self.state.next_sequence += count;
        first
    }
}
