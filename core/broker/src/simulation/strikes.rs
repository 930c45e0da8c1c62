//! The power fails just when something is done that rests on what is durable: a file goes, a job begins or is over.

use crate::api::Durability;
use crate::simulation::world::World;

/// How often it fails then, of a hundred times: as a file goes, as a job is taken, as one is over.
const CHANCE_REMOVED: u32 = 40;
const CHANCE_TAKEN: u32 = 20;
const CHANCE_OVER: u32 = 10;

impl World {
    /// Is there anything that a loss of power would take back?
    fn is_ahead(&self) -> bool {
        // Who settles for what is written, loses more.
        let synced = self.config.durability == Durability::Synced;
        self.shard()
            .is_some_and(|shard| synced && shard.failure().is_none() && shard.head > self.safe)
    }

    /// A step was taken, in which a job was taken, or files went. The job may be quick.
    pub(super) fn strike(&mut self, taken: bool, removed: bool) {
        let chance = match (taken, removed) {
            (_, true) => CHANCE_REMOVED,
            (true, false) => CHANCE_TAKEN,
            (false, false) => return,
        };
        if !self.is_ahead() || !self.chance(chance) {
            return;
        }
        self.struck = true;
        let Some(life) = self.life.as_mut().filter(|_| taken) else {
            return;
        };
        if let Some(job) = life.checkpoint.take() {
            job.run(&mut || {});
        }
        if let Some(mut job) = life.compaction.take() {
            while job.step(1 << 20) {}
        }
    }

    /// A job is over.
    pub(super) fn strike_after_job(&mut self) {
        if self.is_ahead() && self.chance(CHANCE_OVER) {
            self.struck = true;
        }
    }
}
