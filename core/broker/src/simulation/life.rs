//! A life of the server: from a start, which is compared with what was, to the stop or crash after it.

use crate::api::*;
use crate::link::LinkJob;
use crate::server::{Input, Parcel, read_message};
use crate::shard::{Shard, Written};
use crate::simulation::frames::Frames;
use crate::simulation::modes::delivered_entry;
use crate::simulation::peer::Ask;
use crate::simulation::view::{View, difference, view};
use crate::simulation::world::World;
use crate::state::State;
use omnilog_ledger::{Journal, LocalJournal, Lsn, Preparer, SectionReader, ShardId, Syncer};
use parking_lot::Mutex;
use rand::RngExt;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The live views as of those frames that a later start found last.
#[derive(Default)]
pub(super) struct Witnessed {
    /// The last frame of each start, as an earlier run of the seed told; empty: this is that run.
    pub(super) wanted: Vec<Lsn>,
    /// The last frame of each start of this run.
    pub(super) found: Vec<Lsn>,
    views: Arc<Mutex<BTreeMap<Lsn, View>>>,
    /// The frames that this run has written.
    frames: Arc<Mutex<Frames>>,
}

/// From a start to the stop or crash after it.
pub(super) struct Life {
    pub(super) shard: Shard,
    /// `None`: the journal syncs by itself.
    pub(super) syncer: Option<Syncer>,
    pub(super) preparer: Option<Preparer>,
    pub(super) reader: Arc<dyn SectionReader>,
    pub(super) inputs: VecDeque<Input>,
    pub(super) link_jobs: Vec<LinkJob>,
    pub(super) window_jobs: Vec<crate::shard::WindowJob>,
    /// Records that are being read, for dead letters and for what is due.
    pub(super) reads: Vec<crate::shard::Exhumation>,
    pub(super) checkpoint: Option<crate::shard::CheckpointJob>,
    pub(super) compaction: Option<Box<crate::shard::CompactionJob>>,
}

/// Now and then nobody starts it for days.
const DAYS_DOWN_MS_MAX: u64 = 3 * 24 * 60 * 60 * 1000;

/// Whatever is held has its record.
fn check_records(state: &State, reader: &dyn SectionReader) {
    let there = |what: &str, sequence: u64| {
        let sequence = state
            .original(sequence)
            .map_or(sequence, |(original, _)| original);
        let section = reader
            .by_sequence(ShardId(0), sequence)
            .expect("files that can be read");
        assert!(
            section.is_some(),
            "{what} holds {sequence}, and its record is gone"
        );
    };
    for queue in state.queues.values().filter(|queue| queue.durable()) {
        let name = String::from_utf8_lossy(&queue.declared.name);
        for (first, last) in queue.held().iter_runs() {
            for sequence in first..=last {
                there(&name, sequence);
            }
        }
    }
    for sequence in state.delayed.held_from(0) {
        there("the index of what waits", sequence);
    }
    for names in &state.namespaces {
        for (topic, kept) in names.retained.all() {
            there(&String::from_utf8_lossy(topic), kept.sequence);
        }
    }
}

impl World {
    /// Whatever is held by now has its record.
    pub(super) fn check_held_records(&self) {
        let life = self.life.as_ref().unwrap();
        check_records(&life.shard.state, &*life.reader);
    }

    /// Opens the journal, compares what is replayed with what was, and starts the shard.
    pub(super) fn start(&mut self) {
        let dir = Path::new("/broker");
        let open = || LocalJournal::open(&self.env, dir, self.options.clone(), Arc::new(|| {}));
        let mut opened = open();
        let again = opened.is_err() && self.tight;
        if again {
            // Without space for a file there is no start, and nothing is lost by trying.
            self.files.set_capacity(u64::MAX);
            opened = open();
            // The start that failed has sealed the last file.
            self.clean = false;
        }
        let (mut journal, recovery) = opened.expect("a journal that opens");
        let last = recovery.last_lsn();
        assert!(
            last >= self.safe,
            "frames up to {} were acknowledged and {last} is the last",
            self.safe
        );
        // A start that failed for want of space may have closed the file that said so.
        assert!(
            recovery.clean() == (self.clean && last > 0) || again && !recovery.clean(),
            "a clean stop is known as one"
        );
        let files = !self.tight;
        let names = &self.config.namespaces;
        let replay = || {
            let (state, _) =
                State::recover(names, &journal, &recovery, ShardId(0)).expect("a state");
            view(&state, files)
        };
        let replayed = replay();
        assert_eq!(replayed, replay(), "replaying twice differs");
        let (state, _) = State::recover(names, &journal, &recovery, ShardId(0)).expect("a state");
        check_records(&state, &*journal.reader());
        self.facts.gaps.started(&state);
        let now_ms = self.unix_ms();
        self.facts.lifetimes.started(&state, self.safe, now_ms);
        let start = self.witnessed.found.len();
        self.witnessed.found.push(last);
        let later = self.witnessed.wanted.iter().skip(start + 1);
        let later: BTreeSet<Lsn> = later.copied().collect();
        if last > 0 && !self.witnessed.wanted.is_empty() {
            let views = self.witnessed.views.lock();
            let live = views.get(&last).expect("a view of the last frame");
            assert!(
                *live == replayed,
                "the replayed state differs from the live one as of frame {last}:{}",
                difference(live, &replayed)
            );
        }
        let syncer = journal.syncer();
        let preparer = self.chance(50).then(|| journal.preparer());
        let reader = journal.reader();
        let random = self.env.random.clone();
        let (mut shard, _) = Shard::open(
            ShardId(0),
            self.config.clone(),
            Box::new(journal),
            &recovery,
            Box::new(move || random.next_u64()),
            self.now(),
        )
        .expect("a shard that opens");
        drop(recovery);
        self.facts.retries.started(&shard.state);
        self.facts.dying.started();
        let views = self.witnessed.views.clone();
        if later.contains(&shard.head) {
            views.lock().insert(shard.head, view(&shard.state, files));
        }
        if self.witnessed.wanted.is_empty() {
            self.witnessed.frames.lock().started(&shard.state);
            let frames = self.witnessed.frames.clone();
            let inspect =
                move |frame: &Written<'_>, state: &State| frames.lock().written(frame, state);
            shard.inspector = Some(Box::new(inspect));
        }
        if !later.is_empty() {
            shard.witness = Some(Box::new(move |lsn, state| {
                if later.contains(&lsn) {
                    views.lock().insert(lsn, view(state, files));
                }
            }));
        }
        self.life = Some(Life {
            shard,
            syncer: Some(syncer),
            preparer,
            reader,
            inputs: VecDeque::new(),
            link_jobs: Vec::new(),
            window_jobs: Vec::new(),
            reads: Vec::new(),
            checkpoint: None,
            compaction: None,
        });
        self.clean = false;
        self.harmed = false;
        for at in 0..self.peers.len() {
            self.join(at);
        }
    }

    /// The disk begins to fail: the next writes, or a sync soon.
    pub(super) fn harm(&mut self) {
        // Where only the writing counts, nobody can tell from outside how much of it was done.
        if self.harmed || self.config.durability == Durability::Written {
            return;
        }
        self.harmed = true;
        if self.chance(50) {
            self.files.fail_writes(true);
        } else {
            self.files.fail_sync(self.random.random_range(0..3));
        }
    }

    /// Has the server given up?
    pub(super) fn failed(&self) -> bool {
        let life = self.life.as_ref();
        life.is_some_and(|life| life.shard.failure().is_some())
    }

    /// The power fails, the process is killed, or it stops.
    pub(super) fn end_life(&mut self) {
        let dice = self.random.random_range(0..10);
        if dice < 2 && !self.harmed && !self.struck {
            self.input(Input::Stop);
            self.step(usize::MAX);
            // Without space even a stop can't be noted.
            self.clean = self
                .life
                .as_ref()
                .is_some_and(|life| !life.shard.holds_frames());
        }
        self.life = None;
        // What a failed sync left in the page cache is not on the disk, and nobody can tell.
        if self.config.durability == Durability::Written || dice < 4 && !self.harmed && !self.struck
        {
            self.files.kill_process();
        } else {
            self.files.lose_power();
        }
        self.files.fail_sync(u64::MAX / 2);
        if self.chance(15) {
            self.damage_checkpoint();
        }
        let ms = match self.chance(5) {
            true => self.random.random_range(0..DAYS_DOWN_MS_MAX),
            false => self.random.random_range(0..20_000),
        };
        if self.jumps {
            // Somebody sets the clock while the server is down.
            let by_ms = self.random.random_range(-20_000..20_000);
            self.clock.set_by(by_ms);
            self.back_ms += u64::try_from(-by_ms).unwrap_or(0);
            self.facts.delays.went_back |= by_ms < 0;
        }
        self.clock.advance(Duration::from_millis(ms));
    }

    /// The newest checkpoint is not as it was written.
    fn damage_checkpoint(&mut self) {
        let files = self.env.files.list(Path::new("/broker/checkpoints"));
        let mut whole: Vec<PathBuf> = files.unwrap_or_default();
        whole.retain(|path| path.extension().is_some_and(|kind| kind == "ckpt"));
        whole.sort();
        // Of two generations one stays whole, and so does the whole journal while there was only one ever.
        let since = whole.iter().filter(|path| **path > self.damaged).count();
        let Some(newest) = whole
            .last()
            .filter(|_| since > 1 || whole.len() == 1 && self.damaged.as_os_str().is_empty())
        else {
            return;
        };
        self.damaged.clone_from(newest);
        let length = self.env.files.open_read(newest).and_then(|file| file.len());
        let length = usize::try_from(length.unwrap_or(0)).unwrap();
        if length > 0 {
            let at = self.random.random_range(0..length);
            self.files.damage(newest, at, 0x10);
        }
    }

    pub(super) fn sync(&mut self) {
        if let Some(syncer) = self.life.as_ref().and_then(|life| life.syncer.as_ref()) {
            syncer.step();
            self.note_safe();
        }
    }

    /// What may be acknowledged by now.
    fn note_safe(&mut self) {
        let Some(life) = &self.life else { return };
        let synced = life.syncer.as_ref().map_or(Lsn::MAX, Syncer::synced);
        self.safe = match self.config.durability {
            Durability::Synced => synced,
            Durability::Written => life.shard.durable,
        };
    }

    /// Work that a server does on threads of their own.
    pub(super) fn work(&mut self, links: bool) {
        let Some(life) = &mut self.life else { return };
        if links && !life.link_jobs.is_empty() {
            let job = life.link_jobs.remove(0);
            let pulled = job.run(&*life.reader);
            life.inputs.push_back(Input::Pulled(Box::new(pulled)));
        }
        // Reads overtake each other.
        while !life.reads.is_empty() && self.random.random_range(0..4) > 0 {
            let any = self.random.random_range(0..life.reads.len());
            let mut job = life.reads.swap_remove(any);
            job.message = read_message(&job.record, &*life.reader);
            life.inputs.push_back(Input::Exhumed(Box::new(job)));
        }
        if let Some(job) = life.window_jobs.pop() {
            let seen = job.run(&*life.reader);
            life.inputs.push_back(Input::Windowed(Box::new(seen)));
        }
        let mut over = false;
        if let Some(job) = life.checkpoint.take() {
            job.run(&mut || {});
            over = true;
        }
        if let Some(job) = &mut life.compaction
            && !job.step([512, 8 << 10, 1 << 20][self.random.random_range(0..3)])
        {
            life.compaction = None;
            over = true;
        }
        if let Some(preparer) = &mut life.preparer {
            let prepared = preparer.step();
            assert!(
                prepared.is_ok() || self.harmed || self.tight,
                "the next file can't be prepared: {prepared:?}"
            );
        }
        if over {
            self.strike_after_job();
        }
    }

    /// The sequencer takes a step over some of the inputs.
    pub(super) fn step(&mut self, count: usize) {
        let now = self.now();
        let Some(life) = &mut self.life else { return };
        let count = count.min(life.inputs.len());
        let mut inputs: Vec<Input> = life.inputs.drain(..count).collect();
        let before = life.shard.head;
        self.facts.lifetimes.given(&inputs);
        for input in &inputs {
            if let Input::Command {
                client,
                correlation,
                ..
            } = input
                && let Some(peer) = self.peers.iter_mut().find(|peer| peer.client == *client)
                && let Some(asked) = peer.pending.get_mut(correlation)
            {
                asked.decided_after = before;
                match &asked.what {
                    Ask::Later(waits, queue) => {
                        self.facts.delays.decided(waits, queue, now.unix_ms);
                    }
                    Ask::Ends(ids, _) => self.facts.ends.decided(ids, now.unix_ms),
                    _ => {}
                }
            }
        }
        let state = &life.shard.state;
        self.facts.retries.before(state, &inputs, now.unix_ms);
        self.facts.heads.before(state);
        let removals = self.files.removals();
        self.facts.dying.before(state, &inputs);
        life.shard.step(now, &mut inputs);
        life.link_jobs.extend(life.shard.take_link_jobs());
        life.window_jobs.extend(life.shard.take_window_jobs());
        life.reads.extend(life.shard.take_exhumations());
        let mut taken = false;
        if let Some(job) = life.shard.take_checkpoint_job() {
            life.checkpoint = Some(job);
            taken = true;
        }
        if let Some(job) = life.shard.take_compaction_job() {
            life.compaction = Some(job);
            taken = true;
        }
        let removed = self.files.removals() > removals;
        let failed = life.shard.failure().is_some();
        assert!(!failed || self.harmed, "{:?}", life.shard.failure());
        self.note_safe();
        let mut keyed = Vec::new();
        for peer in &mut self.peers {
            let mut parcels = VecDeque::new();
            if peer.mailbox.try_take(&mut parcels) {
                keyed.extend(parcels.iter().filter_map(delivered_entry));
                for parcel in &parcels {
                    peer.check_not_early(parcel, self.safe);
                }
                // Whoever is told that the server has given up learns nothing more from it.
                parcels.retain(|parcel| !failed || !gives_up(parcel));
                peer.inbox.extend(parcels);
            }
        }
        self.check_delays();
        self.check_raw();
        self.check_links();
        self.check_stable();
        self.check_caps();
        self.check_lifetimes();
        self.check_ends(&keyed);
        self.check_returns(&keyed);
        self.check_dying(&keyed);
        self.check_modes(keyed);
        self.strike(taken, removed);
    }
}

/// Does a parcel say that the server has given up?
fn gives_up(parcel: &Parcel) -> bool {
    match parcel {
        Parcel::Event(Event::Reply { result, .. }) => **result == Err(Refusal::ShardLost),
        Parcel::Event(event) => *event == Event::ShardLost,
        _ => false,
    }
}
