//! A shard's sequencer, as a step function: inputs and journal news in, parcels for mailboxes out.
//!
//! One step releases what has become durable, decides what has come in, dispatches queues that have news, and hands
//! the group of frames to the journal. It never waits and never looks at a payload.

mod ahead;
mod append;
mod atomic;
mod behind;
mod checkpoint;
mod clients;
mod compaction;
mod consume;
mod dead_letters;
mod delays;
mod dispatch;
mod exchanges;
mod expiry;
mod fetch;
mod frame;
mod groups;
mod headers;
mod in_flight;
mod limits;
mod links;
mod listing;
mod news;
mod open;
mod pieces;
mod placement;
mod pressure;
mod publish;
mod queue_subscriptions;
mod queues;
mod ranks;
mod raw;
mod rebatch;
mod release;
mod retention;
mod returns;
mod route;
mod sessions;
mod set_memory;
mod settle;
mod space;
mod stats;
mod steps;
mod straight;
mod subscribe;
mod tables;
mod targets;
mod timers;
mod topics;
mod transactions;
mod turns;
mod wills;
mod windows;
#[cfg(test)]
mod workbench;

use crate::api::*;
use crate::mapping::Mapping;
use crate::server::{Input, Parcel, Taken};
use crate::shard::links::LinkReads;
use crate::state::{IdMap, State};
use crate::tail::Tail;
pub(crate) use append::BatchFields;
#[cfg(test)]
pub(crate) use checkpoint::CheckpointJob;
use checkpoint::Progress;
use clients::ClientState;
#[cfg(test)]
pub(crate) use compaction::CompactionJob;
use dead_letters::Postponed;
pub(crate) use dead_letters::{Dying, Exhumation};
pub(crate) use dispatch::published_qos;
use fetch::ParkedFetch;
use omnilog_ledger::{Journal, Lsn, Section, ShardId};
use release::{Effect, Pending};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
pub(crate) use topics::name_matches;
#[cfg(test)]
pub(crate) use windows::WindowJob;
pub(crate) use windows::Windowed;

/// The time of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Now {
    /// Unix milliseconds.
    pub(crate) unix_ms: i64,
    /// Milliseconds of a clock that never goes back.
    pub(crate) monotonic_ms: u64,
}

/// A shard.
pub(crate) struct Shard {
    id: ShardId,
    config: Arc<BrokerConfig>,
    mapping: Mapping,
    journal: Box<dyn Journal>,
    random: Box<dyn FnMut() -> u64 + Send>,
    pub(crate) state: State,
    clients: IdMap<ClientId, ClientState>,
    tail: Tail,
    now: Now,

    /// The frame being decided.
    decision: Vec<u8>,
    sections: Vec<Section>,
    stored: Vec<Arc<StoredBatch>>,
    /// What is due once that frame is durable.
    after: Vec<Effect>,

    /// The newest frame, the newest durable one, and what waits between them.
    pub(crate) head: Lsn,
    pub(crate) durable: Lsn,
    /// Completed runs of frames beyond a gap: first and last.
    completed: BTreeMap<Lsn, Lsn>,
    effects: VecDeque<Pending>,
    /// Records up to this sequence may be read.
    pub(crate) released: u64,

    /// Queues to dispatch before the step ends.
    news: news::News,
    /// Removals to journal.
    acked: settle::Acked,
    /// Groups that have got credit for which consumers wait.
    credited: Vec<(ClientId, CreditGroup)>,
    /// It was stopped: nothing is decided or dispatched any more.
    pub(crate) stopped: bool,
    /// Clients with parcels to put into their mailboxes.
    posting: Vec<ClientId>,
    /// Fetches that wait for more, and their deadlines.
    parked: BTreeMap<u64, ParkedFetch>,
    parked_deadlines: BTreeSet<(u64, u64)>,
    next_parked: u64,
    /// Sessions by the time something of theirs is due.
    session_timers: BTreeSet<(i64, SessionId)>,
    next_retention_ms: u64,
    next_sweep_ms: u64,
    /// A look for files in which nothing lives.
    sweep: Option<retention::Sweep>,
    /// Files in which nothing lives as of a frame.
    dead_files: Option<(Lsn, Vec<u32>)>,
    checkpoint: Progress,
    compaction: compaction::Progress,
    windows: windows::Windows,
    compacted: Arc<crate::server::Compacted>,
    /// Reads for links.
    link_reads: LinkReads,
    /// Records that dead letters need read.
    exhumations: Vec<Exhumation>,
    /// Entries that wait for that, by queue, in the order in which they died.
    pub(crate) exhuming: IdMap<QueueId, VecDeque<Dying>>,
    /// Queues by the time something of theirs is due: an entry's, or their own.
    queue_timers: BTreeSet<(i64, QueueId)>,
    /// Somebody waits for what this step writes.
    urgent: bool,
    blocked: bool,
    /// Bytes of groups submitted since the start.
    bytes_written: u64,
    pub(crate) stats: Stats,
    failed: Option<String>,
    /// What waits for space on the disk.
    held: space::Held,
    /// Who is blocked for want of memory.
    pressure: pressure::Pressure,
    census: stats::Census,
    /// Transactional ids by the time they are looked at: to abort what is open, or to forget them.
    transaction_timers: BTreeSet<(i64, NamespaceId, Name)>,
    /// Delayed messages on their way out.
    leaving: delays::Leaving,
    /// Queues that have more to dispatch than they could at once, in turn: of what is new, and of what is old.
    bursts: VecDeque<QueueId>,
    backlogs: VecDeque<QueueId>,
    /// Entries below this are old, and from the next second on those below that.
    old_below: u64,
    old_next: u64,
    /// Deliveries that this step may still dispatch: of queues with news, and of those in line.
    may_dispatch: usize,
    may_give_bursts: usize,
    may_give_backlogs: usize,
    /// What those that are behind were given, all together, and what they have taken of it.
    given: u64,
    taken: Arc<Taken>,
    /// They have enough; until then it waits for their taking.
    ahead_until_ms: Option<u64>,
    /// Connections that have a backlog, or have just come.
    behind: VecDeque<ClientId>,
    /// When some of them are looked at.
    next_seen_ms: u64,
    /// Topics whose records are retained messages.
    tables: tables::Tables,
    /// What is being decided must be in one frame.
    in_one_frame: bool,
    /// What queues' entries take in memory.
    set_memory: set_memory::SetMemory,
    /// Dead letters that are to have a frame of their own, next.
    postponed: VecDeque<Postponed>,
    /// Sees the state as of each frame.
    #[cfg(test)]
    pub(crate) witness: Option<Witness>,
    /// Sees each frame before it is written.
    #[cfg(test)]
    pub(crate) inspector: Option<Inspector>,
}

/// Sees the state as of a frame.
#[cfg(test)]
pub(crate) type Witness = Box<dyn FnMut(Lsn, &State) + Send>;

/// Sees a frame, and the state as of it.
#[cfg(test)]
pub(crate) type Inspector = Box<dyn FnMut(&Written<'_>, &State) + Send>;

/// A frame that is about to be written.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Written<'a> {
    pub(crate) decision: &'a [u8],
    pub(crate) sections: &'a [Section],
    pub(crate) stored: &'a [Arc<StoredBatch>],
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard")
            .field("id", &self.id)
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

/// What became of a command.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Tell at once.
    Now(Result<Reply, Refusal>),
    /// Tell when everything decided up to here is durable.
    Durable(Result<Reply, Refusal>),
    /// It will be told later, by other means.
    Later,
}

/// A group is handed to the journal when it has grown to this.
const GROUP_BYTES_MAX: usize = 1 << 20;

impl Shard {
    /// One step. Returns how long the next may wait, in milliseconds, if nothing comes in.
    pub(crate) fn step(&mut self, now: Now, inputs: &mut Vec<Input>) -> u64 {
        self.now = now;
        self.may_dispatch = dispatch::STEP_MAX;
        self.may_give_bursts = dispatch::STEP_LINE_MAX;
        self.may_give_backlogs = dispatch::STEP_LINE_MAX;
        self.release_durable();
        let mut inputs = inputs.drain(..);
        let mut looked_at = 0;
        loop {
            if looked_at == 0 {
                looked_at = ahead::TOGETHER;
                self.look_ahead(inputs.as_slice());
            }
            looked_at -= 1;
            let Some(input) = inputs.next().filter(|_| !self.stopped) else {
                break;
            };
            self.take(input);
            if self.journal.group_bytes() >= GROUP_BYTES_MAX {
                self.submit();
            }
        }
        // Behind a clean stop nothing is written any more.
        if self.stopped {
            return u64::MAX;
        }
        self.run_timers();
        self.gather_facts();
        self.count();
        self.measure_sets();
        self.dispatch_dirty();
        self.flush_acked(false);
        self.submit();
        self.release_durable();
        self.dispatch_dirty();
        if self.may_grow().is_ok() {
            self.pump_links();
        }
        self.evict();
        self.relieve();
        self.post();
        self.next_due_ms()
    }

    /// Where those that are behind say what they have taken.
    pub(crate) fn taken(&self) -> Arc<Taken> {
        self.taken.clone()
    }

    /// Why the shard can't go on, if it can't.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Connect {
                client,
                namespace,
                info,
                mailbox,
            } => {
                tracing::debug!(%client, protocol = info.protocol, peer = info.peer, "joined");
                self.clients
                    .insert(client, ClientState::new(namespace, info.principal, mailbox));
                self.begins_behind(client);
                if let Some(reason) = self.blocked_for(client) {
                    self.send(client, Event::Blocked(reason));
                }
            }
            Input::Disconnect(client) => self.disconnect(client),
            Input::Drained(client) => self.resume(client),
            Input::Pulled(pulled) => {
                self.pulled(&pulled);
                self.finish_frame();
            }
            Input::Windowed(seen) => {
                self.windowed(&seen);
                self.finish_frame();
            }
            Input::Exhumed(exhumation) => {
                self.exhumed(*exhumation);
                self.conclude_frame();
            }
            Input::Stop => self.stop(),
            Input::Command {
                client,
                correlation,
                command,
                cost,
            } => {
                drop(cost);
                self.stats.commands += 1;
                self.command(client, correlation, command);
            }
        }
    }

    fn command(&mut self, client: ClientId, correlation: u64, command: Command) {
        let Some(namespace) = self.clients.get(&client).map(|client| client.namespace) else {
            return;
        };
        let outcome = self.decide(client, namespace, correlation, command);
        self.finish_frame();
        self.reply(client, correlation, outcome);
    }

    /// Decides one command. Whatever it changes is in the frame under construction when it returns.
    fn decide(
        &mut self,
        client: ClientId,
        namespace: NamespaceId,
        correlation: u64,
        command: Command,
    ) -> Outcome {
        if self.failed.is_some() {
            return Outcome::Now(Err(Refusal::ShardLost));
        }
        if let Err(refusal) = self.may_decide(&command) {
            return Outcome::Now(Err(refusal));
        }
        let result = match command {
            Command::Publish(publish) => return self.publish(client, namespace, publish),
            Command::Settle(settle) => return self.settle(client, correlation, settle),
            Command::Append(append) => return self.append(namespace, append),
            Command::Fetch(fetch) => return self.fetch(client, namespace, correlation, fetch),
            Command::Get(queue, no_ack) => {
                return self.get(client, namespace, correlation, &queue, no_ack);
            }
            Command::FindOffset(find) => {
                return self.find_offset(client, namespace, correlation, &find);
            }
            Command::OpenSession(open) => {
                return self.open_session(client, namespace, correlation, open);
            }
            Command::List(listing) => {
                let page = self.list(namespace, &listing);
                return Outcome::Now(Ok(Reply::Listed(Box::new(page))));
            }
            Command::Stats => return Outcome::Now(Ok(Reply::Stats(Box::new(self.figures())))),
            Command::DescribeTopics(topics) => {
                Ok(Reply::Topics(self.describe_topics(namespace, topics)))
            }
            Command::CreateTopic(create) => self.create_topic(namespace, create),
            Command::DeleteTopic(topic) => self.delete_topic(namespace, &topic),
            Command::AddPartitions(topic, count) => self.add_partitions(namespace, &topic, count),
            Command::AlterTopic(alter) => self.alter_topic(namespace, alter),
            Command::EpochEnd(topic, partition, epoch) => {
                self.epoch_end(namespace, &topic, partition, epoch)
            }
            Command::DeleteRecords(topic, partition, offset) => {
                self.delete_records(namespace, &topic, partition, offset)
            }
            Command::InitProducer => self.init_producer(),
            Command::InitTransactions(init) => self.init_transactions(namespace, &init),
            Command::Enlist(transactor, what) => self.enlist(namespace, &transactor, what),
            Command::OffsetsInTransaction(commit) => self.offsets_in_transaction(namespace, commit),
            Command::EndTransaction(transactor, commit) => {
                self.end_transaction(namespace, &transactor, commit)
            }
            Command::DescribeTransactions(ids) => self.describe_transactions(namespace, ids),
            Command::UnstableOffsets(group) => self.unstable_offsets(namespace, &group),
            Command::CommitOffsets(group, offsets) => {
                self.commit_offsets(namespace, group, offsets)
            }
            Command::FetchOffsets(group, wanted) => self.fetch_offsets(namespace, &group, wanted),
            Command::PutGroup(group, state) => self.put_group(namespace, group, state),
            Command::ListGroups => self.list_groups(namespace),
            Command::DeclareExchange(declare) => self.declare_exchange(namespace, declare),
            Command::CheckExchange(name) => self.check_exchange(namespace, &name),
            Command::DeleteExchange(name, if_unused) => {
                self.delete_exchange(namespace, &name, if_unused)
            }
            Command::DeclareQueue(declare) => self.declare_queue(client, namespace, declare),
            Command::CheckQueue(name) => self.check_queue(client, namespace, &name),
            Command::DeleteQueue {
                name,
                if_unused,
                if_empty,
            } => self.delete_queue(client, namespace, &name, if_unused, if_empty),
            Command::PurgeQueue(name) => self.purge_queue(client, namespace, &name),
            Command::Bind(binding) => self.bind(client, namespace, binding),
            Command::Unbind(binding) => self.unbind(client, namespace, &binding),
            Command::Consume(consume) => self.consume(client, namespace, consume),
            Command::Cancel(consumer) => self.cancel(client, consumer),
            Command::SetCredit(group, limit) => self.set_credit(client, group, limit),
            Command::Atomic(commands) => self.atomic(client, namespace, commands),
            Command::CloseSession(close) => self.close_session(client, close),
            Command::Subscribe(subscribe) => self.subscribe(client, namespace, subscribe),
            Command::Unsubscribe(unsubscribe) => self.unsubscribe(client, unsubscribe),
            Command::Step(session, step) => self.session_step(client, session, step),
        };
        Outcome::Durable(result)
    }

    fn reply(&mut self, client: ClientId, correlation: u64, outcome: Outcome) {
        let (result, at) = match outcome {
            Outcome::Now(result) => (Some(result), self.durable),
            Outcome::Durable(result) => (Some(result), self.head),
            Outcome::Later => (None, self.head),
        };
        if let Some(result) = result
            && correlation != 0
        {
            let parcel = Parcel::Event(Event::reply(correlation, result));
            self.effect_at(at, Effect::Send(client, parcel, 0));
        }
        let head = self.head;
        for effect in std::mem::take(&mut self.after) {
            self.effect_at(head, effect);
        }
    }
}
