//! Opening and stopping a shard: checkpoint, replay, a new epoch; a clean stop with its marks.

use crate::api::*;
use crate::event::{self, Event as Decision};
use crate::mapping::Mapping;
use crate::shard::checkpoint::Progress;
use crate::shard::{LinkReads, Now, Shard};
use crate::state::{IdMap, State};
use crate::tail::Tail;
use crate::template::PathTemplate;
use omnilog_ledger::{Class, Journal, Recovery, Section, ShardId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

/// What opening a shard found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Frames replayed.
    pub(crate) frames: u64,
    /// The journal had been closed cleanly.
    pub(crate) clean: bool,
}

impl State {
    /// The state after a checkpoint and the frames behind it.
    pub(crate) fn recover(
        namespaces: &[Name],
        journal: &dyn Journal,
        recovery: &Recovery,
        shard: ShardId,
    ) -> io::Result<(Self, u64)> {
        let damaged = |error: postcard::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        let mut state = Self::new(namespaces);
        let checkpoints = journal.checkpoints();
        let after = checkpoints.whole()?;
        if after > 0 {
            state.changes.off = true;
            checkpoints.read(after, &mut |key, value| {
                state.load_entry(key, value).map_err(damaged)
            })?;
            state.sort_names();
            state.changes.off = false;
            if !checkpoints.bears(after) {
                state.touch_everything();
            }
        }
        let mut frames = 0;
        for frame in recovery.frames(after) {
            let frame = frame?;
            if frame.shard != shard {
                continue;
            }
            frames += 1;
            let events = event::decode(&frame.decision).map_err(damaged)?;
            for event in &events {
                state.apply(event, &frame.sections);
            }
            for section in &frame.sections {
                state.stored(section, frame.file);
            }
        }
        Ok((state, frames))
    }

    /// Notes where a replayed section lies.
    fn stored(&mut self, section: &Section, file: u32) {
        if let Some(partition) = self.partitions.get_mut(&section.partition) {
            partition.stored_in(
                file,
                section.base_offset,
                (section.envelope.len() + section.batch.len()) as u64,
                section.max_timestamp,
            );
        }
    }
}

/// A rule's topic that is there already must have the rule's template: nothing is mapped otherwise than it was.
fn fit(mapping: &Mapping, state: &State) -> io::Result<()> {
    for rule in mapping.rules.iter().chain(&mapping.catch_all) {
        let mut names = state.namespaces.iter();
        if names.any(|names| names.raws.contains_key(&rule.topic)) {
            let name = String::from_utf8_lossy(&rule.topic);
            let text = format!("mapping: the topic '{name}' is a raw view; name another topic");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let topics = state
            .namespaces
            .iter()
            .filter_map(|names| names.topics.get(&state.topics, &rule.topic));
        for topic in topics {
            let is = state.templates.get(&topic);
            if is.is_none_or(|is| *is != rule.template) {
                let name = String::from_utf8_lossy(&rule.topic);
                let default = || PathTemplate::default_text(&rule.topic);
                let is = is.map_or_else(default, ToString::to_string);
                let text = format!(
                    "mapping: the topic '{name}' is there with the path template '{is}', and the rule's is '{}'; name \
                     another topic, or delete this one",
                    rule.template
                );
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        }
    }
    Ok(())
}

impl Shard {
    /// Opens a shard over a journal that was just opened.
    pub(crate) fn open(
        id: ShardId,
        config: Arc<BrokerConfig>,
        journal: Box<dyn Journal>,
        recovery: &Recovery,
        random: Box<dyn FnMut() -> u64 + Send>,
        now: Now,
    ) -> io::Result<(Self, Opened)> {
        let mapping = Mapping::of(&config).map_err(|(rule, error)| {
            let rule = rule.map_or("catch-all".to_owned(), |rule| format!("rule {}", rule + 1));
            let text = format!("mapping, {rule}: {}: {error}", error.key);
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        let (state, frames) = State::recover(&config.namespaces, &*journal, recovery, id)?;
        let checkpoint = Progress::after(&*journal.checkpoints())?;
        fit(&mapping, &state)?;
        let head = recovery.last_lsn();
        let tail = Tail::new(config.tail_bytes_max);
        let link_reads = LinkReads::new(&config, now.monotonic_ms);
        let mut shard = Self {
            id,
            config,
            mapping,
            journal,
            random,
            released: state.next_sequence.saturating_sub(1),
            old_below: state.next_sequence,
            old_next: state.next_sequence,
            state,
            clients: IdMap::default(),
            tail,
            now,
            decision: Vec::new(),
            sections: Vec::new(),
            stored: Vec::new(),
            after: Vec::new(),
            head,
            durable: head,
            completed: BTreeMap::new(),
            effects: VecDeque::new(),
            news: Default::default(),
            acked: Default::default(),
            credited: Vec::new(),
            posting: Vec::new(),
            parked: BTreeMap::new(),
            parked_deadlines: BTreeSet::new(),
            next_parked: 0,
            session_timers: BTreeSet::new(),
            next_retention_ms: now.monotonic_ms,
            next_sweep_ms: now.monotonic_ms,
            sweep: None,
            dead_files: None,
            checkpoint,
            compaction: Default::default(),
            windows: Default::default(),
            compacted: Default::default(),
            stopped: false,
            link_reads,
            exhumations: Vec::new(),
            exhuming: IdMap::default(),
            queue_timers: BTreeSet::new(),
            urgent: false,
            blocked: false,
            bytes_written: 0,
            stats: Stats::default(),
            failed: None,
            held: Default::default(),
            census: Default::default(),
            set_memory: Default::default(),
            postponed: VecDeque::new(),
            pressure: Default::default(),
            transaction_timers: BTreeSet::new(),
            leaving: Default::default(),
            given: 0,
            taken: Arc::default(),
            ahead_until_ms: None,
            bursts: VecDeque::new(),
            backlogs: VecDeque::new(),
            may_dispatch: 0,
            may_give_bursts: 0,
            may_give_backlogs: 0,
            behind: VecDeque::new(),
            next_seen_ms: 0,
            tables: Default::default(),
            in_one_frame: false,
            #[cfg(test)]
            witness: None,
            #[cfg(test)]
            inspector: None,
        };
        shard.begin_epoch(recovery.clean());
        Ok((
            shard,
            Opened {
                frames,
                clean: recovery.clean(),
            },
        ))
    }

    fn begin_epoch(&mut self, clean: bool) {
        let first_sequence = self.state.next_sequence;
        let epoch = self.journal.epoch();
        self.record(&Decision::EpochBegan {
            epoch,
            first_sequence,
        });
        self.end_connections();
        self.finish_frame();
        for partition in self.state.partitions.values_mut() {
            partition.high_watermark = partition.next_offset;
            let stable = partition.first_open();
            if let Some(known) = &mut partition.transactions {
                known.released = stable;
            }
        }
        for queue in self.state.queues.values_mut() {
            queue.suspect_below = if clean {
                queue.delivered_below
            } else {
                first_sequence
            };
            queue.had_consumer |= queue.kind == QueueKind::Classic && queue.declared.auto_delete;
        }
        self.key_unkeyed();
        self.keep_all_in_flight();
        self.arm_queues();
        self.arm_transactions();
        self.settle_tables();
        self.doubt_clusters();
        self.link_reads
            .news
            .extend(self.state.links.keys().map(|(partition, _)| *partition));
        let sessions: Vec<SessionId> = self.state.sessions.keys().collect();
        for id in sessions {
            self.arm_session(id);
        }
    }

    /// Connections ended with the server: sessions expire from now on, and not from each further start.
    fn end_connections(&mut self) {
        let now = self.now.unix_ms;
        let mut open: Vec<(SessionId, SessionExpiry)> = self
            .state
            .sessions
            .values()
            .filter(|session| session.expires_at_ms.is_none())
            .map(|session| (session.id, session.expiry))
            .collect();
        open.sort_unstable_by_key(|(session, _)| *session);
        for (session, expiry) in open {
            let expires_at_ms = match expiry {
                SessionExpiry::AtClose => now,
                SessionExpiry::AfterMs(after) => {
                    now.saturating_add(i64::try_from(after).unwrap_or(i64::MAX))
                }
                SessionExpiry::Never => continue,
            };
            self.record(&Decision::SessionClosed {
                session,
                expiry,
                expires_at_ms: Some(expires_at_ms),
            });
        }
    }

    /// A clean stop: what was delivered is noted, everything is brought to stable storage.
    pub(crate) fn stop(&mut self) {
        let mut delivered: Vec<(QueueId, u64)> = self
            .state
            .queues
            .values()
            .filter(|queue| queue.durable())
            // What an earlier run may have delivered stays suspect.
            .map(|queue| (queue.id, queue.delivered_below.max(queue.suspect_below)))
            .filter(|(_, below)| *below > 0)
            .collect();
        delivered.sort_unstable();
        self.flush_acked(true);
        self.record(&Decision::Stopped { delivered });
        self.finish_frame();
        self.write_held(Class::Upkeep);
        let clean = !self.held.any();
        if !clean {
            tracing::warn!("no space to note a clean stop: what nobody was told is given up");
        }
        self.stopped = true;
        if let Err(error) = self.journal.close(clean) {
            self.fail(&format!("the journal can't be closed: {error}"));
        }
        self.release_durable();
        self.post();
    }
}
