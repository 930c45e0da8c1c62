//! Log windows: a log starts where its time and bytes say, to the batch. The sequencer knows how much of a log each
//! journal file got; where in a file a window begins is found by its index, away from the sequencer.

use crate::api::*;
use crate::event::Event as Decision;
use crate::shard::Shard;
use crate::state::partition::{Partition, Topic};
use omnilog_ledger::format::{Entry, SECTION_HEADER};
use omnilog_ledger::{LogRange, SectionReader};

/// Indexes that are looked into for one slice of logs.
const LOOKS: usize = 64;

/// What a log may keep.
#[derive(Debug, Clone, Copy)]
struct Window {
    /// What is older goes: Unix milliseconds.
    since_ms: Option<i64>,
    bytes: Option<u64>,
    /// Everything that can go goes.
    reclaim: bool,
    /// From here on all stays, for links.
    held_from: i64,
}

/// A look at where in a file a log's window begins.
#[derive(Debug)]
pub(crate) struct WindowJob {
    partition: u64,
    file: u32,
    from: i64,
    until: i64,
    since_ms: Option<i64>,
    bytes_over: u64,
    held_from: i64,
}

/// What was seen.
#[derive(Debug)]
pub(crate) struct Windowed {
    partition: u64,
    from: i64,
    /// The window begins here, and so many bytes lie before.
    offset: i64,
    bytes: u64,
    /// The time of the first batch that stays.
    oldest_ms: Option<i64>,
    /// From here on all stayed for links.
    held_from: i64,
}

/// How a partition stood when it was looked at last.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    busy: bool,
    next_offset: i64,
    /// The first batch's time.
    oldest_ms: i64,
    /// From where on all stayed for links.
    held_from: i64,
}

impl WindowJob {
    /// Looks. Blocks.
    pub(crate) fn run(self, reader: &dyn SectionReader) -> Windowed {
        let mut seen = Windowed {
            partition: self.partition,
            from: self.from,
            offset: self.from,
            bytes: 0,
            oldest_ms: None,
            held_from: self.held_from,
        };
        let range = LogRange {
            partition: self.partition,
            from: self.from,
            until: self.until,
            files: &[self.file],
        };
        let walked = reader.walk(range, &mut |entry: &Entry| {
            let end = entry.base_offset + i64::from(entry.last_delta) + 1;
            let bytes = u64::from(entry.length).saturating_sub(SECTION_HEADER as u64);
            let old = self
                .since_ms
                .is_some_and(|since| entry.max_timestamp < since);
            if end > self.until || !(old || seen.bytes + bytes <= self.bytes_over) {
                seen.oldest_ms = Some(entry.max_timestamp);
                return false;
            }
            seen.offset = end;
            seen.bytes += bytes;
            true
        });
        if let Err(error) = walked {
            tracing::error!(partition = self.partition, %error, "a log's index can't be read");
        }
        seen
    }
}

impl Shard {
    /// Looks at logs' indexes that are wanted, taken by whoever drives the shard.
    pub(crate) fn take_window_jobs(&mut self) -> Vec<WindowJob> {
        std::mem::take(&mut self.windows.jobs)
    }

    fn window(&self, topic: &Topic, partition: &Partition) -> Option<Window> {
        let settings = &topic.settings;
        // Of a compacted log only keys decide what stays.
        if settings.cleanup == Some(CleanupPolicy::Compact) {
            return None;
        }
        let keep_ms = settings
            .retention_ms
            .unwrap_or(self.config.retention_ms_default);
        let keep_bytes = settings
            .retention_bytes
            .unwrap_or(self.config.retention_bytes_default);
        Some(Window {
            since_ms: (keep_ms >= 0).then(|| self.now.unix_ms.saturating_sub(keep_ms)),
            bytes: u64::try_from(keep_bytes).ok(),
            // When the disk fills, logs that nobody asked for go first.
            reclaim: self.blocked && topic.provisional,
            held_from: self.held_from(topic, partition),
        })
    }

    /// Moves the starts of some logs past what is out of their windows as a whole, and has it looked where within a
    /// file the others begin.
    pub(crate) fn move_log_starts(&mut self, keys: &[u64], newest: u32) {
        let mut moves = Vec::new();
        let mut looks = Vec::new();
        for partition in keys.iter().filter_map(|key| self.state.partitions.get(key)) {
            if partition.spans.is_empty() {
                continue;
            }
            let topic = self.state.topics.get(&partition.topic);
            let Some(window) = topic.and_then(|topic| self.window(topic, partition)) else {
                continue;
            };
            let (start, bytes) = self.whole_spans(partition, &window, newest);
            if start > partition.log_start {
                moves.push((partition.key, start));
            } else if looks.len() < LOOKS {
                looks.extend(self.look(partition, &window, bytes));
            }
        }
        moves.sort_unstable();
        for (partition, offset) in moves {
            self.record(&Decision::LogStartMoved { partition, offset });
        }
        for job in &looks {
            let looked = self.windows.looked.entry(job.partition).or_default();
            looked.busy = true;
        }
        self.windows.jobs.append(&mut looks);
    }

    /// Where a log starts when what lies outside its window as a whole is gone, and the bytes that it has then.
    fn whole_spans(&self, partition: &Partition, window: &Window, newest: u32) -> (i64, u64) {
        let mut bytes: u64 = partition.spans.iter().map(|span| span.bytes).sum();
        let mut start = partition.log_start;
        for (at, span) in partition.spans.iter().enumerate() {
            let end = partition
                .spans
                .get(at + 1)
                .map_or(partition.next_offset, |next| next.first_offset);
            let old = window
                .since_ms
                .is_some_and(|since| span.max_timestamp < since);
            let over = window
                .bytes
                .is_some_and(|keep| bytes.saturating_sub(span.bytes) >= keep);
            let reclaimed = window.reclaim && span.file != newest;
            let stays = window.held_from.min(partition.last_stable_offset());
            if !(old || over || reclaimed) || end > stays {
                break;
            }
            bytes -= span.bytes;
            start = start.max(end);
        }
        (start, bytes)
    }

    /// A look into the first file, if something of it may be outside the window.
    fn look(&self, partition: &Partition, window: &Window, bytes: u64) -> Option<WindowJob> {
        let span = partition.spans.first()?;
        let looked = self.windows.looked.get(&partition.key);
        if looked.is_some_and(|looked| looked.busy) {
            return None;
        }
        let over = window.bytes.map_or(0, |keep| bytes.saturating_sub(keep));
        let grown = looked.is_none_or(|looked| looked.next_offset != partition.next_offset);
        let aged = window
            .since_ms
            .is_some_and(|since| looked.is_none_or(|looked| looked.oldest_ms < since));
        let freed = looked.is_none_or(|looked| looked.held_from != window.held_from);
        if !(aged || over > 0 && (grown || freed)) || window.held_from <= span.first_offset {
            return None;
        }
        // What stays for links was looked at, however old it is.
        if window.held_from != i64::MAX && !grown && !freed {
            return None;
        }
        let next = partition.spans.get(1).map(|next| next.first_offset);
        Some(WindowJob {
            partition: partition.key,
            file: span.file,
            from: span.first_offset,
            until: next
                .unwrap_or(i64::MAX)
                .min(partition.last_stable_offset())
                .min(window.held_from),
            held_from: window.held_from,
            since_ms: window.since_ms,
            bytes_over: over,
        })
    }

    /// A look came back: the log starts there.
    pub(crate) fn windowed(&mut self, seen: &Windowed) {
        let Some(partition) = self.state.partitions.get(&seen.partition) else {
            self.windows.looked.remove(&seen.partition);
            return;
        };
        // A link may have begun behind what was looked at.
        let topic = self.state.topics.get(&partition.topic);
        let held = topic.map_or(i64::MAX, |topic| self.held_from(topic, partition));
        let looked = self.windows.looked.entry(seen.partition).or_default();
        looked.busy = false;
        looked.held_from = seen.held_from;
        looked.next_offset = partition.next_offset;
        looked.oldest_ms = seen.oldest_ms.unwrap_or(i64::MIN);
        let same = partition
            .spans
            .first()
            .is_some_and(|span| span.first_offset == seen.from);
        if same && seen.offset > partition.log_start && seen.offset <= held {
            self.record(&Decision::LogStartCut {
                partition: seen.partition,
                offset: seen.offset,
                bytes: seen.bytes,
            });
        }
    }
}

/// Windows that are being looked at.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    jobs: Vec<WindowJob>,
    looked: crate::state::IdMap<u64, Looked>,
}
