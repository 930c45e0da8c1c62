//! The raw view of the compacted log: it has everything that was acknowledged, from its start on, without a gap, whatever
//! was cleaned. In half of the worlds it is kept without end; in the others its window is short, or it comes and goes.

use crate::api::*;
use crate::simulation::committed::committed;
use crate::simulation::facts::TABLE;
use crate::simulation::kafka::fetch_of;
use crate::simulation::messages;
use crate::simulation::peer::Ask;
use crate::simulation::world::World;
use omnilog_record::RecordBatch;
use rand::RngExt;
use std::collections::BTreeMap;
use std::time::Duration;

/// The raw view of [`TABLE`].
const RAW: &str = "table.raw";

fn name(name: &'static str) -> Name {
    Name::from_static(name.as_bytes())
}

/// What is known of the view there is.
#[derive(Debug, Default)]
pub(super) struct Raw {
    /// When the compacted log's messages were sent.
    pub(super) sent_ms: BTreeMap<u64, i64>,
    /// Batches that were read, and their bytes.
    batches: BTreeMap<i64, u64>,
    /// The key of its copies, and where it began when the last step was over.
    view: Option<(u64, i64)>,
    /// The shortest window that it ever had, in time, and whether it had one in bytes.
    least_ms: Option<i64>,
    bytes: bool,
}

/// What was read of a raw view from an offset on has no gap, and every record of its batches; says where it ends.
fn check_whole(fetched: &Fetched, from: i64) -> i64 {
    let mut end = from;
    for bytes in &fetched.batches {
        let header = *RecordBatch::parse(bytes.clone()).unwrap().header();
        let base = header.base_offset;
        assert!(base <= end, "the raw view has nothing from {end} to {base}");
        assert!(base >= end || end == from, "{base} comes twice");
        end = end.max(messages::end(bytes));
        assert_eq!(
            header.record_count,
            header.last_offset_delta + 1,
            "a batch of the raw view at {base} was cleaned"
        );
    }
    end
}

impl World {
    /// The settings of a raw view, for the compacted log.
    pub(super) fn raw_settings(&mut self) -> Vec<(String, String)> {
        let windows = ["-1", "0", "3000", "20000"];
        let ms = match self.keeps_raw {
            true => "-1",
            false => windows[self.random.random_range(0..windows.len())],
        };
        let mut settings = vec![(RAW_RETENTION_MS.to_owned(), ms.to_owned())];
        if !self.keeps_raw && self.chance(30) {
            settings.push((RAW_RETENTION_BYTES.to_owned(), "3000".to_owned()));
        }
        settings
    }

    /// These are about to be written to a log.
    pub(super) fn sent_raw(&mut self, log: &'static str, ids: &[u64]) {
        if log == TABLE {
            let now = self.unix_ms();
            let sent = ids.iter().map(|id| (*id, now));
            self.facts.raw.sent_ms.extend(sent);
        }
    }

    /// Which view there is now: the key of its copies, and its start.
    fn raw_view(&self) -> Option<(u64, i64)> {
        let state = &self.life.as_ref()?.shard.state;
        let topic = state.topic(NamespaceId(0), &TopicRef::Name(name(TABLE)))?;
        let raw = state.partitions[&topic.partitions[0]]
            .compacted
            .raw
            .as_ref()?;
        Some((raw.key, raw.log_start))
    }

    /// A client reads the view from somewhere on.
    pub(super) fn read_raw(&mut self, at: usize) {
        let log = self.facts.logged.get(&(name(TABLE), 0));
        let end = log.and_then(|log| log.last_key_value());
        let end = end.map_or(0, |(offset, _)| *offset);
        let from = self.random.random_range(0..=end);
        let committed = self.chance(40);
        self.fetch_raw(at, from, committed);
    }

    fn fetch_raw(&mut self, at: usize, from: i64, committed: bool) {
        let key = self.raw_view().map_or(0, |(key, _)| key);
        let fetch = fetch_of(RAW, 0, from, committed);
        let ask = Ask::FetchRaw(key, from, committed);
        self.ask(at, ask, Command::Fetch(fetch));
    }

    /// What a reader of the view got.
    pub(super) fn fetched_raw(
        &mut self,
        key: u64,
        from: i64,
        as_committed: bool,
        parts: Vec<Result<Fetched, Refusal>>,
    ) {
        let Some((_, start)) = self.raw_view().filter(|(now, _)| *now == key) else {
            // Another view, or none, by now: what is read of it is as it was written nevertheless.
            assert!(!self.keeps_raw, "the raw view is gone");
            if let Some(Ok(fetched)) = parts.into_iter().next() {
                check_whole(&fetched, from);
            }
            return;
        };
        assert!(!self.keeps_raw || start == 0, "it begins at {start}");
        let fetched = match parts.into_iter().next() {
            Some(Ok(fetched)) => fetched,
            Some(Err(Refusal::OffsetOutOfRange { .. })) if from < start => return,
            // It was asked for before it was there.
            Some(Err(Refusal::NotFound(..))) if !self.keeps_raw => return,
            other => panic!("the raw view can't be read from {from} on: {other:?}"),
        };
        let end = check_whole(&fetched, from);
        for bytes in &fetched.batches {
            let header = *RecordBatch::parse(bytes.clone()).unwrap().header();
            let length = bytes.len() as u64;
            self.facts.raw.batches.insert(header.base_offset, length);
        }
        let first = from.max(start).min(end);
        let records = if as_committed {
            let (seen, _) = committed(&fetched, from);
            for id in seen.values() {
                self.facts.transactions.check_visible(*id);
            }
            seen
        } else {
            let batches = fetched.batches.iter();
            batches.flat_map(messages::fetched).collect()
        };
        let all: Vec<(i64, u64)> = records.iter().map(|(at, id)| (*at, *id)).collect();
        self.facts.fetched(&name(RAW), 0, first, &all, end);
        if let Some(log) = self.facts.logged.get(&(name(TABLE), 0)) {
            for (offset, id) in log.range(first..end) {
                let found = records.get(offset);
                let must = !as_committed || self.facts.transactions.must_be_visible(*id);
                assert!(
                    found == Some(id) || !must && found.is_none(),
                    "offset {offset} of the raw view, which begins at {start}, is {found:?}, and was acknowledged with {id}"
                );
            }
        }
        self.facts.raw_end = end;
    }

    /// At the end all of it is read.
    pub(super) fn read_whole_raw(&mut self, at: usize) {
        for committed in [false, true] {
            let Some((_, start)) = self.raw_view() else {
                assert!(!self.keeps_raw, "the raw view is gone");
                return;
            };
            let mut from = start;
            loop {
                self.facts.raw_end = from;
                self.fetch_raw(at, from, committed);
                self.calm();
                if self.facts.raw_end == from {
                    break;
                }
                from = self.facts.raw_end;
            }
            // Its window may have passed what was to be read.
            let end = self.log_end(TABLE, 0);
            let start = self.raw_view().map_or(end, |(_, start)| start);
            assert!(
                from == end || from < start,
                "the raw view ends at {from}, and the log at {end}"
            );
        }
    }

    /// Which window the view has: milliseconds and bytes, where it has any.
    fn raw_window(&self) -> (Option<i64>, Option<u64>) {
        let state = self.life.as_ref().map(|life| &life.shard.state);
        let topic = TopicRef::Name(name(TABLE));
        let topic = state.and_then(|state| state.topic(NamespaceId(0), &topic));
        let others = topic.map_or(&[][..], |topic| &topic.settings.others);
        let number = |name: &str| {
            let found = others.iter().find(|(known, _)| known == name);
            found.and_then(|(_, value)| value.parse::<i64>().ok())
        };
        let ms = number(RAW_RETENTION_MS).filter(|ms| *ms >= 0);
        let bytes = number(RAW_RETENTION_BYTES);
        (ms, bytes.and_then(|bytes| bytes.try_into().ok()))
    }

    /// A step was taken: nothing has left the view before its time.
    pub(super) fn check_raw(&mut self) {
        let now = self.unix_ms();
        let (view, (ms, bytes)) = (self.raw_view(), self.raw_window());
        let raw = &mut self.facts.raw;
        let before = std::mem::replace(&mut raw.view, view);
        let (Some((key, start)), Some((before, from))) = (view, before) else {
            (raw.least_ms, raw.bytes) = (ms, bytes.is_some());
            return;
        };
        if key != before {
            (raw.least_ms, raw.bytes) = (None, false);
        }
        raw.least_ms = raw.least_ms.into_iter().chain(ms).min();
        raw.bytes |= bytes.is_some();
        if key != before || start <= from || raw.bytes {
            return;
        }
        let least = raw.least_ms;
        let Some(log) = self.facts.logged.get(&(name(TABLE), 0)) else {
            return;
        };
        for (offset, id) in log.range(from..start) {
            let sent = self.facts.raw.sent_ms[id];
            assert!(
                least.is_some_and(|least| sent + least < now),
                "offset {offset} of the raw view has gone at {now}, was sent at {sent}, and the window is {least:?} ms"
            );
        }
    }

    /// What has left the view's window at the end is gone from it.
    pub(super) fn outlast_raw(&mut self, at: usize) {
        let (ms, bytes) = self.raw_window();
        if self.raw_view().is_none() {
            return;
        }
        if let Some(bytes) = bytes {
            self.calm();
            self.facts.raw.batches.clear();
            self.read_whole_raw(at);
            let kept = &self.facts.raw.batches;
            let but_first: u64 = kept.values().skip(1).sum();
            assert!(
                but_first < bytes,
                "the raw view keeps {kept:?}, and its window is {bytes} bytes"
            );
        }
        if let Some(ms) = ms {
            let wait = ms.unsigned_abs() + self.back_ms + 1000;
            self.clock.advance(Duration::from_millis(wait));
            self.calm();
            let start = self.raw_view().map(|(_, start)| start);
            assert_eq!(
                start,
                Some(self.log_end(TABLE, 0)),
                "all of the raw view is older than its window of {ms} ms"
            );
        }
    }
}
