//! Retention: log starts move by their windows, and files in which nothing lives give their space back.

use crate::api::*;
use crate::event::Event as Decision;
use crate::shard::Shard;
use omnilog_ledger::{Class, FileInfo};

/// Partitions whose windows are looked at in one round.
const ROUND: usize = 10_000;

impl Shard {
    /// One round: moves log starts past their windows, then deletes the oldest files that hold nothing.
    pub(crate) fn retain(&mut self) {
        let files = self.journal.files();
        let newest = files.last().map_or(0, |file| file.id);
        if files.len() > 1 {
            self.delete_dead_files();
            self.move_log_starts(newest);
            self.finish_frame();
            if self.dead_files.is_none() {
                let dead = files
                    .iter()
                    .filter(|file| file.sealed && !self.lives_in(file))
                    .map(|file| file.id)
                    .collect();
                self.dead_files = Some((self.head, dead));
            }
            // What leads to space may use what is kept for that.
            if self
                .dead_files
                .as_ref()
                .is_some_and(|(_, dead)| !dead.is_empty())
            {
                self.write_held(Class::Upkeep);
            }
        }
    }

    fn move_log_starts(&mut self, newest: u32) {
        let reclaim = self.blocked;
        let mut moves = Vec::new();
        for partition in self.state.partitions.values() {
            let Some(first) = partition.spans.first() else {
                continue;
            };
            if first.file == newest {
                continue;
            }
            let Some(topic) = self.state.topics.get(&partition.topic) else {
                continue;
            };
            let keep_ms = topic
                .settings
                .retention_ms
                .unwrap_or(self.config.retention_ms_default);
            let keep_bytes = topic
                .settings
                .retention_bytes
                .unwrap_or(self.config.retention_bytes_default);
            // A compacted log is kept whole until the compactor has its say.
            if topic.settings.cleanup == Some(CleanupPolicy::Compact) {
                continue;
            }
            let mut bytes: u64 = partition.spans.iter().map(|span| span.bytes).sum();
            let mut start = partition.log_start;
            for (at, span) in partition.spans.iter().enumerate() {
                let end = partition
                    .spans
                    .get(at + 1)
                    .map_or(partition.next_offset, |next| next.first_offset);
                let old = keep_ms >= 0 && span.max_timestamp + keep_ms < self.now.unix_ms;
                let over = u64::try_from(keep_bytes).is_ok_and(|keep| bytes > keep);
                // When the disk fills, logs that nobody asked for go first.
                let reclaimed = reclaim && topic.provisional;
                if span.file == newest || !(old || over || reclaimed) {
                    break;
                }
                bytes -= span.bytes;
                start = start.max(end.min(partition.high_watermark));
            }
            if start > partition.log_start {
                moves.push((partition.key, start));
            }
            if moves.len() >= ROUND {
                break;
            }
        }
        moves.sort_unstable();
        for (partition, offset) in moves {
            self.record(&Decision::LogStartMoved { partition, offset });
        }
    }

    /// Deletes the files that were found dead, once what they died of is durable: a crash must not bring back an entry
    /// whose record is gone. What is dead stays dead.
    fn delete_dead_files(&mut self) {
        let Some((_, files)) = self.dead_files.take_if(|(at, _)| *at <= self.durable) else {
            return;
        };
        for file in files {
            match self.journal.delete_file(file) {
                Ok(true) => tracing::debug!(file, "a journal file's space is returned"),
                // A checkpoint still needs it, and so those after it. With a full disk the next ones come soon.
                Ok(false) => {
                    self.checkpoint.wanted = self.blocked;
                    return;
                }
                Err(error) => {
                    self.fail(&format!("a journal file can't be deleted: {error}"));
                    return;
                }
            }
        }
    }

    /// Does anything in a file live: log-live in a partition, or held by a queue or the retained table?
    fn lives_in(&self, file: &FileInfo) -> bool {
        let log_live = self
            .state
            .partitions
            .values()
            .any(|partition| partition.spans.iter().any(|span| span.file == file.id));
        if log_live {
            return true;
        }
        let Some((_, first, last)) = file.sequences.iter().find(|(shard, ..)| *shard == self.id)
        else {
            return false;
        };
        let within = |held: Option<u64>| held.is_some_and(|held| held <= *last);
        let held = self
            .state
            .queues
            .values()
            .filter(|queue| queue.durable())
            .any(|queue| {
                // What is acknowledged and not journaled yet would come back after a crash.
                within(queue.first_held_from(*first))
                    || within(queue.acked.first_at_or_after(*first))
            });
        let retained = self
            .state
            .namespaces
            .iter()
            .any(|names| within(names.retained.first_from(*first)));
        let copied = self
            .state
            .aliases
            .values()
            .any(|alias| alias.original <= *last && alias.original + alias.count > *first);
        held || retained || copied
    }
}
