//! Log windows: a log starts where its time and bytes say, to the batch. The sequencer knows how much of a log each
//! journal file got; where in a file a window begins is found by its index, away from the sequencer. A raw view has a
//! window of its own.

use crate::api::*;
use crate::event::Event as Decision;
use crate::shard::Shard;
use crate::state::partition::{Partition, Span};
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

/// A log that has a window: a partition's own, or its raw view.
#[derive(Debug, Clone, Copy)]
struct Windowing<'a> {
    partition: &'a Partition,
    start: i64,
    spans: &'a [Span],
    /// Where the raw view's copies are.
    copies: Option<u64>,
}

impl<'a> Windowing<'a> {
    fn own(partition: &'a Partition) -> Self {
        Self {
            partition,
            start: partition.log_start,
            spans: &partition.spans,
            copies: None,
        }
    }

    fn raw(partition: &'a Partition) -> Option<Self> {
        let raw = partition.compacted.raw.as_ref()?;
        Some(Self {
            partition,
            start: raw.log_start,
            spans: &raw.spans,
            copies: Some(raw.key),
        })
    }

    /// The number it is known by.
    fn key(&self) -> u64 {
        self.copies.unwrap_or(self.partition.key)
    }
}

/// A look at where in a file a log's window begins.
#[derive(Debug)]
pub(crate) struct WindowJob {
    partition: u64,
    copies: Option<u64>,
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
    copies: Option<u64>,
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
            copies: self.copies,
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
            copies: self.copies,
        };
        let walked = reader.walk(range, &mut |entry: &Entry| {
            let end = entry.end();
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

    fn window(&self, log: &Windowing<'_>) -> Option<Window> {
        let topic = self.state.topics.get(&log.partition.topic)?;
        let settings = &topic.settings;
        let keep = |ms: i64, bytes: i64| Window {
            since_ms: (ms >= 0).then(|| self.now.unix_ms.saturating_sub(ms)),
            bytes: u64::try_from(bytes).ok(),
            reclaim: false,
            held_from: i64::MAX,
        };
        if log.copies.is_some() {
            let (ms, bytes) = Self::raw_window(topic);
            return Some(keep(ms, bytes));
        }
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
            // When the disk fills, logs that nobody asked for go first.
            reclaim: self.blocked && topic.provisional,
            held_from: self.held_from(topic, log.partition),
            ..keep(keep_ms, keep_bytes)
        })
    }

    /// Moves the starts of some logs past what is out of their windows as a whole, and has it looked where within a
    /// file the others begin.
    pub(crate) fn move_log_starts(&mut self, keys: &[u64], newest: u32) {
        let mut moves = Vec::new();
        let mut looks = Vec::new();
        let partitions = keys.iter().filter_map(|key| self.state.partitions.get(key));
        for log in partitions
            .flat_map(|known| std::iter::once(Windowing::own(known)).chain(Windowing::raw(known)))
        {
            if log.spans.is_empty() {
                continue;
            }
            let Some(window) = self.window(&log) else {
                continue;
            };
            let (start, bytes) = self.whole_spans(&log, &window, newest);
            if start > log.start {
                moves.push((log.partition.key, log.copies.is_some(), start));
            } else if looks.len() < LOOKS {
                looks.extend(self.look(&log, &window, bytes));
            }
        }
        moves.sort_unstable();
        for (partition, raw, offset) in moves {
            self.record(&match raw {
                true => Decision::RawStartMoved {
                    partition,
                    offset,
                    bytes: 0,
                },
                false => Decision::LogStartMoved { partition, offset },
            });
        }
        for job in &looks {
            let key = job.copies.unwrap_or(job.partition);
            let looked = self.windows.looked.entry(key).or_default();
            looked.busy = true;
        }
        self.windows.jobs.append(&mut looks);
    }

    /// Where a log starts when what lies outside its window as a whole is gone, and the bytes that it has then.
    fn whole_spans(&self, log: &Windowing<'_>, window: &Window, newest: u32) -> (i64, u64) {
        let (partition, spans) = (log.partition, log.spans);
        let mut bytes: u64 = spans.iter().map(|span| span.bytes).sum();
        let mut start = log.start;
        for (at, span) in spans.iter().enumerate() {
            let end = spans
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
    fn look(&self, log: &Windowing<'_>, window: &Window, bytes: u64) -> Option<WindowJob> {
        let partition = log.partition;
        let span = log.spans.first()?;
        let looked = self.windows.looked.get(&log.key());
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
        let next = log.spans.get(1).map(|next| next.first_offset);
        Some(WindowJob {
            partition: partition.key,
            copies: log.copies,
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
        let key = seen.copies.unwrap_or(seen.partition);
        let partition = self.state.partitions.get(&seen.partition);
        let log = partition.and_then(|partition| match seen.copies {
            Some(_) => Windowing::raw(partition).filter(|log| log.copies == seen.copies),
            None => Some(Windowing::own(partition)),
        });
        let Some(log) = log else {
            self.windows.looked.remove(&key);
            return;
        };
        let partition = log.partition;
        // A link may have begun behind what was looked at.
        let topic = self.state.topics.get(&partition.topic);
        let held = topic.filter(|_| log.copies.is_none());
        let held = held.map_or(i64::MAX, |topic| self.held_from(topic, partition));
        let looked = self.windows.looked.entry(key).or_default();
        looked.busy = false;
        looked.held_from = seen.held_from;
        looked.next_offset = partition.next_offset;
        looked.oldest_ms = seen.oldest_ms.unwrap_or(i64::MIN);
        let first = log.spans.first();
        let same = first.is_some_and(|span| span.first_offset == seen.from);
        if !same || seen.offset <= log.start || seen.offset > held {
            return;
        }
        let (partition, offset, bytes) = (seen.partition, seen.offset, seen.bytes);
        self.record(&match seen.copies {
            Some(_) => Decision::RawStartMoved {
                partition,
                offset,
                bytes,
            },
            None => Decision::LogStartCut {
                partition,
                offset,
                bytes,
            },
        });
    }
}

/// Windows that are being looked at.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    jobs: Vec<WindowJob>,
    looked: crate::state::IdMap<u64, Looked>,
}
