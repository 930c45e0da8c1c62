//! A shard driven by hand, over a journal that takes frames and forgets them: nothing is written and nobody waits.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a bench fails by panicking"
)]

use omnilog_broker::bench::ByHand;
use omnilog_broker::*;
use omnilog_ledger::format::Entry;
use omnilog_ledger::sim::SimFiles;
use omnilog_ledger::{
    CheckpointStore, Class, Completion, FileInfo, Frame, Journal, JournalError, JournalOptions,
    LocalJournal, LogRange, Lsn, Place, Pushed, Section, SectionReader, ShardId, Space,
};
use omnilog_record::{BatchBuilder, BatchOptions, Header, NewRecord, Pieces};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of decisions and sections that were pushed.
pub static JOURNAL_BYTES: AtomicU64 = AtomicU64::new(0);

/// A journal that takes frames and forgets them.
struct Forgetful {
    next: Lsn,
    group: Option<(Lsn, usize)>,
    news: Vec<Completion>,
    checkpoints: Arc<dyn CheckpointStore>,
}

#[derive(Debug)]
struct NothingKept;

impl SectionReader for NothingKept {
    fn by_sequence(&self, _: ShardId, _: u64) -> std::io::Result<Option<Section>> {
        Ok(None)
    }
    fn by_offset(&self, _: LogRange<'_>, _: u64, _: bool) -> std::io::Result<Vec<Section>> {
        Ok(Vec::new())
    }
    fn by_time(&self, _: LogRange<'_>, _: i64) -> std::io::Result<Option<Section>> {
        Ok(None)
    }
    fn walk(&self, _: LogRange<'_>, _: &mut dyn FnMut(&Entry) -> bool) -> std::io::Result<()> {
        Ok(())
    }
}

impl Journal for Forgetful {
    fn push(&mut self, frame: &Frame<'_>, _: Class) -> Result<Pushed, JournalError> {
        let lsn = self.next;
        self.next += 1;
        let sections = frame.sections.iter();
        let bytes = frame.decision.len()
            + sections
                .map(|section| 48 + section.envelope.len() + section.batch.len())
                .sum::<usize>();
        JOURNAL_BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
        let group = self.group.get_or_insert((lsn, 0));
        group.1 += bytes;
        let place = Place {
            file: 1,
            position: 0,
            length: 0,
        };
        Ok(Pushed {
            lsn,
            places: frame.sections.iter().map(|_| place).collect(),
        })
    }
    fn group_bytes(&self) -> usize {
        self.group.map_or(0, |(_, bytes)| bytes)
    }
    fn submit(&mut self) -> Result<(), JournalError> {
        if let Some((first_lsn, _)) = self.group.take() {
            let last_lsn = self.next - 1;
            self.news.push(Completion::Synced {
                first_lsn,
                last_lsn,
            });
        }
        Ok(())
    }
    fn sync(&mut self) {}
    fn poll(&mut self) -> Option<Completion> {
        self.news.pop()
    }
    fn epoch(&self) -> u32 {
        1
    }
    fn frame_bytes_max(&self) -> usize {
        64 << 20
    }
    fn reader(&self) -> Arc<dyn SectionReader> {
        Arc::new(NothingKept)
    }
    fn files(&self) -> Vec<FileInfo> {
        Vec::new()
    }
    fn delete_file(&mut self, _: u32) -> Result<bool, JournalError> {
        Ok(false)
    }
    fn space(&self) -> Space {
        Space::Plenty
    }
    fn look_at_space(&mut self) -> Space {
        Space::Plenty
    }
    fn checkpoints(&self) -> Arc<dyn CheckpointStore> {
        self.checkpoints.clone()
    }
    fn close(&mut self, _: bool) -> Result<(), JournalError> {
        Ok(())
    }
}

/// A shard that never takes a checkpoint, and never fills a mailbox.
pub fn open() -> ByHand {
    let (env, _) = SimFiles::new(1, u64::MAX).env(1);
    let options = JournalOptions {
        low_bytes: 0,
        reserve_bytes: 0,
        ..JournalOptions::default()
    };
    let (journal, recovery) =
        LocalJournal::open(&env, Path::new("/data"), options, Arc::new(|| {})).unwrap();
    let forgetful = Forgetful {
        next: 1,
        group: None,
        news: Vec::new(),
        checkpoints: journal.checkpoints(),
    };
    let config = BrokerConfig {
        // No checkpoint while it is measured, and mailboxes that hold a round.
        checkpoint_bytes: u64::MAX,
        checkpoint_ms: u64::MAX / 2,
        mailbox_bytes_max: u64::MAX / 2,
        tail_bytes_max: 1 << 20,
        ..BrokerConfig::default()
    };
    ByHand::open(config, Box::new(forgetful), &recovery).unwrap()
}

/// A name.
pub fn name(text: &str) -> Name {
    Name::from(text.as_bytes().to_vec())
}

/// So many messages of 128 bytes in one batch.
pub fn message(address: &Address, provenance: Provenance, qos: u8, count: usize) -> Publish {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let mut records = Vec::new();
    for _ in 0..count {
        let headers: [Header<'_>; 0] = [];
        let appended = builder
            .append(&NewRecord {
                timestamp: 1_700_000_000_000,
                key: None,
                value: Some(Pieces::One(&[b'.'; 128])),
                headers,
            })
            .unwrap();
        records.push(PublishRecord::of(Envelope {
            publisher: name("guest"),
            qos,
            ..Envelope::new(address.clone(), provenance, appended.range())
        }));
    }
    Publish {
        batch: builder.finish().unwrap().to_bytes(),
        records,
        wait: if qos == 0 {
            Wait::Decided
        } else {
            Wait::Durable
        },
        dedupe: None,
    }
}
