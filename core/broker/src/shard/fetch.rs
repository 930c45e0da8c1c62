//! Reading logs: at once where there is enough, parked where there is not.

use crate::api::*;
use crate::server::{ColdBatch, ColdFetched, ColdOffset, Parcel};
use crate::shard::{Outcome, Shard};
use crate::state::raw::ReadablePartition;

/// A fetch that waits for more.
#[derive(Debug)]
pub(crate) struct ParkedFetch {
    pub(crate) client: ClientId,
    namespace: NamespaceId,
    correlation: u64,
    fetch: Fetch,
    pub(crate) deadline_ms: u64,
}

/// One partition's part of a fetch.
type Part = Result<ColdFetched, Refusal>;

impl Shard {
    pub(crate) fn fetch(
        &mut self,
        client: ClientId,
        namespace: NamespaceId,
        correlation: u64,
        fetch: Fetch,
    ) -> Outcome {
        let (parts, bytes) = self.read(namespace, &fetch);
        let ready = bytes >= u64::from(fetch.bytes_min)
            || fetch.wait_ms_max == 0
            || fetch.partitions.is_empty()
            || parts.iter().any(Result::is_err);
        if ready {
            if parts.iter().flatten().any(ColdFetched::is_cold) {
                self.falls_behind(client);
            }
            self.send_parcel(client, Parcel::ColdFetch(correlation, parts), bytes);
            return Outcome::Later;
        }
        // What it waits for may be written already, and not yet synced because nobody waited.
        self.urgent |= self.head > self.durable;
        let id = self.next_parked;
        self.next_parked += 1;
        for asked in &fetch.partitions {
            if let Ok((_, key, _)) = self.readable_key(namespace, &asked.topic, asked.partition)
                && let Some(partition) = self.state.partitions.get_mut(&key)
            {
                partition.waiters.push(id);
            }
        }
        let deadline_ms = self.now.monotonic_ms + u64::from(fetch.wait_ms_max);
        self.parked_deadlines.insert((deadline_ms, id));
        self.parked.insert(
            id,
            ParkedFetch {
                client,
                namespace,
                correlation,
                fetch,
                deadline_ms,
            },
        );
        Outcome::Later
    }

    /// A partition may be read up to this offset: wakes who waited for it.
    pub(crate) fn watermark(&mut self, key: u64, offset: i64, stable: i64) {
        let Some(partition) = self.state.partitions.get_mut(&key) else {
            return;
        };
        partition.high_watermark = partition.high_watermark.max(offset);
        if let Some(known) = &mut partition.transactions {
            known.released = stable;
        }
        if partition.linked {
            self.link_reads.news.insert(key);
        }
        for id in partition.waiters.clone() {
            let Some(parked) = self.parked.get(&id) else {
                continue;
            };
            let (parts, bytes) = self.read(parked.namespace, &parked.fetch);
            if bytes >= u64::from(parked.fetch.bytes_min) || parts.iter().any(Result::is_err) {
                let (client, correlation) = (parked.client, parked.correlation);
                self.unpark(id);
                self.send_parcel(client, Parcel::ColdFetch(correlation, parts), bytes);
            }
        }
    }

    /// Answers a parked fetch with what there is: its time is over, or something under it changed.
    pub(crate) fn answer_parked(&mut self, id: u64) {
        let Some(parked) = self.parked.get(&id) else {
            return;
        };
        let (parts, bytes) = self.read(parked.namespace, &parked.fetch);
        let (client, correlation) = (parked.client, parked.correlation);
        self.unpark(id);
        self.send_parcel(client, Parcel::ColdFetch(correlation, parts), bytes);
    }

    /// Forgets a parked fetch.
    pub(crate) fn unpark(&mut self, id: u64) {
        let Some(parked) = self.parked.remove(&id) else {
            return;
        };
        self.parked_deadlines.remove(&(parked.deadline_ms, id));
        for asked in &parked.fetch.partitions {
            if let Ok((_, key, _)) =
                self.readable_key(parked.namespace, &asked.topic, asked.partition)
                && let Some(partition) = self.state.partitions.get_mut(&key)
            {
                partition.waiters.retain(|waiter| *waiter != id);
                partition.waiters.tidy();
            }
        }
    }

    /// What a fetch gets now, and how many bytes that is.
    fn read(&self, namespace: NamespaceId, fetch: &Fetch) -> (Vec<Part>, u64) {
        let mut left = u64::from(fetch.bytes_max);
        let mut total = 0;
        let parts = fetch
            .partitions
            .iter()
            .map(|asked| {
                let part =
                    self.read_partition(namespace, asked, left, total == 0, fetch.committed)?;
                let bytes: u64 = part.batches.iter().map(ColdBatch::bytes).sum();
                total += bytes;
                left = left.saturating_sub(bytes);
                Ok(part)
            })
            .collect();
        (parts, total)
    }

    fn read_partition(
        &self,
        namespace: NamespaceId,
        asked: &FetchPartition,
        left: u64,
        first: bool,
        committed: bool,
    ) -> Part {
        let log = self.readable_partition(namespace, &asked.topic, asked.partition)?;
        let partition = log.partition;
        self.check_epoch(asked.current_leader_epoch)?;
        let log_start = log.log_start();
        if asked.offset < log_start || asked.offset > partition.high_watermark {
            return Err(Refusal::OffsetOutOfRange {
                log_start_offset: log_start,
                high_watermark: partition.high_watermark,
            });
        }
        let limit = left.min(u64::from(asked.bytes_max));
        let stable = partition.last_stable_offset();
        let (aborted, until) = match committed {
            true => partition.aborted_between(asked.offset, stable),
            false => (Vec::new(), partition.high_watermark),
        };
        let told = aborted.iter().map(|aborted| AbortedTransaction {
            producer: aborted.producer,
            first_offset: aborted.first_offset,
            last_offset: aborted.last_offset,
        });
        Ok(ColdFetched {
            batches: self.batches_from(&log, asked.offset, until, limit, first),
            fetched: Fetched {
                batches: Vec::new(),
                high_watermark: partition.high_watermark,
                last_stable_offset: stable,
                log_start_offset: log_start,
                aborted: told.collect(),
            },
        })
    }

    /// Batches from an offset on, up to another and the limit; one at the least if `first`.
    pub(crate) fn batches_from(
        &self,
        log: &ReadablePartition<'_>,
        offset: i64,
        end: i64,
        limit: u64,
        first: bool,
    ) -> Vec<ColdBatch> {
        let partition = log.partition;
        if offset >= end || (limit == 0 && !first) {
            return Vec::new();
        }
        let oldest_here = self.tail.log_begins(partition.key);
        let oldest_here = oldest_here.unwrap_or(partition.next_offset);
        if offset < oldest_here {
            let until = oldest_here.min(end);
            return vec![ColdBatch::Cold {
                partition: partition.key,
                copies: log.copies(),
                files: log.files_from(offset),
                offset,
                until,
                bytes_max: limit,
                at_least_one: first,
            }];
        }
        let mut batches = Vec::new();
        let mut bytes = 0;
        for (base, sequence) in self.tail.log_from(partition.key, offset) {
            if base >= end {
                break;
            }
            let Some(entry) = self.tail.get(sequence) else {
                continue;
            };
            let size = entry.stored.batch.len() as u64;
            if bytes + size > limit && !(first && batches.is_empty()) {
                break;
            }
            bytes += size;
            batches.push(ColdBatch::Here(entry.stored.batch.clone()));
        }
        batches
    }

    /// Does a client know the journal's epoch (KIP-320)?
    pub(crate) fn check_epoch(&self, known: i32) -> Result<(), Refusal> {
        match i64::from(known).cmp(&i64::from(self.state.epoch)) {
            _ if known < 0 => Ok(()),
            std::cmp::Ordering::Less => Err(Refusal::FencedEpoch),
            std::cmp::Ordering::Greater => Err(Refusal::UnknownEpoch),
            std::cmp::Ordering::Equal => Ok(()),
        }
    }

    pub(crate) fn find_offset(
        &mut self,
        client: ClientId,
        namespace: NamespaceId,
        correlation: u64,
        find: &FindOffset,
    ) -> Outcome {
        let log = match self.readable_partition(namespace, &find.topic, find.partition) {
            Ok(log) => log,
            Err(refusal) => return Outcome::Durable(Err(refusal)),
        };
        let partition = log.partition;
        let known = |offset: i64| {
            let epoch = partition.epoch_at(offset).unwrap_or(self.state.epoch);
            Outcome::Durable(Ok(Reply::Offset(OffsetFound {
                offset,
                timestamp_ms: -1,
                leader_epoch: i32::try_from(epoch).unwrap_or(-1),
            })))
        };
        let end = match find.committed {
            true => partition.last_stable_offset(),
            false => partition.high_watermark,
        };
        let at = find.at;
        match at {
            OffsetAt::Earliest => known(log.log_start()),
            OffsetAt::Latest => known(end),
            OffsetAt::MaxTimestamp | OffsetAt::Time(_) => {
                let none = OffsetFound {
                    offset: -1,
                    timestamp_ms: -1,
                    leader_epoch: -1,
                };
                if let OffsetAt::Time(time) = at
                    && partition.max_timestamp < time
                {
                    return Outcome::Durable(Ok(Reply::Offset(none)));
                }
                // Timestamps lie in the batches: their readers look, not the sequencer.
                let job = ColdOffset {
                    at,
                    partition: partition.key,
                    copies: log.copies(),
                    files: match at {
                        OffsetAt::Time(time) => log.files_since(time),
                        _ => Vec::new(),
                    },
                    from: log.log_start(),
                    until: end,
                    here: self.batches_from(&log, self.oldest_here(&log), end, u64::MAX, true),
                    leader_epoch: i32::try_from(self.state.epoch).unwrap_or(-1),
                };
                let job = Parcel::ColdOffset(correlation, Box::new(job));
                self.send_parcel(client, job, 0);
                Outcome::Later
            }
        }
    }

    fn oldest_here(&self, log: &ReadablePartition<'_>) -> i64 {
        let oldest = self.tail.log_begins(log.partition.key);
        oldest.map_or(log.partition.high_watermark, |base| {
            base.max(log.log_start())
        })
    }

    /// Where a leader epoch ended (OffsetForLeaderEpoch).
    pub(crate) fn epoch_end(
        &self,
        namespace: NamespaceId,
        topic: &TopicRef,
        partition: i32,
        epoch: i32,
    ) -> Result<Reply, Refusal> {
        let partition = self
            .readable_partition(namespace, topic, partition)?
            .partition;
        let wanted = u32::try_from(epoch).unwrap_or(0);
        let after = partition
            .epochs
            .partition_point(|(known, _)| *known <= wanted);
        let end = partition
            .epochs
            .get(after)
            .map_or(partition.high_watermark, |(_, start)| *start);
        let (offset, leader_epoch) = if wanted > self.state.epoch {
            (-1, -1)
        } else if wanted == self.state.epoch {
            (partition.high_watermark, epoch)
        } else {
            let known = after.checked_sub(1).and_then(|at| partition.epochs.get(at));
            match known {
                Some((known, _)) => (end, i32::try_from(*known).unwrap_or(-1)),
                None => (-1, -1),
            }
        };
        Ok(Reply::Offset(OffsetFound {
            offset,
            timestamp_ms: -1,
            leader_epoch,
        }))
    }
}
