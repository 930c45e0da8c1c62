//! The end of a run: everything is read and drained, and nothing may be missing.

use crate::api::*;
use crate::simulation::peer::{Peer, Role};
use crate::simulation::world::World;
use omnilog_ledger::ShardId;
use std::collections::BTreeMap;
use std::path::Path;

impl World {
    /// Reads every log and drains every queue, and checks that nothing is missing.
    pub(super) fn finish(&mut self) {
        // Sessions let go of what they hold by the restart; the other clients go.
        self.files.set_capacity(u64::MAX);
        for at in 0..self.peers.len() {
            self.leave(at);
        }
        self.peers.truncate(0);
        for role in [Role::Kafka, Role::Amqp, Role::Mqtt(0)] {
            self.peers.push(Peer::new(role));
            self.peers.last_mut().unwrap().draining = true;
            let at = self.peers.len() - 1;
            self.join(at);
        }
        self.calm();
        self.finish_transactions(0);
        self.read_all(0);
        self.read_whole_raw(0);
        self.read_placed(0);
        self.outlast_raw(0);
        self.drain_queues(1);
        self.drain_ends(1);
        self.check_held_records();
        self.outlast_delays();
        let life = self.life.as_ref().unwrap();
        assert!(
            life.shard.may_publish().is_ok(),
            "there is space, and publishers wait"
        );
        self.check_retained();
        self.check_tables(0);
        self.facts.check_logs();
        if std::env::var_os("OMNILOG_SIM_TELL").is_some() {
            let life = self.life.as_ref().unwrap();
            for queue in life.shard.state.queues.values() {
                eprintln!(
                    "{:?} {} ready {:?} leases {:?} acked {:?} consumers {:?}",
                    queue.declared.name,
                    queue.id,
                    queue.ready.iter_runs().collect::<Vec<_>>(),
                    queue.leases,
                    queue.acked.iter_runs().collect::<Vec<_>>(),
                    queue.consumers
                );
            }
            eprintln!("{:?}", life.shard);
        }
        self.facts.check_queues();
        self.check_linked();
        self.check_windows();
        if std::env::var_os("OMNILOG_SIM_TELL").is_some() {
            eprintln!(
                "{} acknowledged, {} delivered, {} gaps, {} times something waited, {} died and waited, {} budgets spent, {} dropped, {} over, transactions {:?}, frame {}, files {:?}, clustered {:?}, checkpoints {:?}",
                self.facts.acknowledged,
                self.facts.deliveries,
                self.facts.gaps.count,
                self.facts.retries.waited,
                self.facts.dying.waited,
                self.facts.retries.budgets_spent,
                self.facts.heads.dropped,
                self.facts.lifetimes.ends,
                self.facts.transactions.figures(),
                self.safe,
                self.env.files.list(Path::new("/broker/journal")),
                self.env.files.list(Path::new("/broker/clusters")),
                self.env.files.list(Path::new("/broker/checkpoints")),
            );
        }
    }

    /// Where a log that may be gone begins by now.
    pub(super) fn present_start(&self, topic: &Name, partition: i32) -> i64 {
        let state = &self.life.as_ref().unwrap().shard.state;
        let found = state.topic(NamespaceId(0), &TopicRef::Name(topic.clone()));
        let key = found.and_then(|topic| topic.partitions.get(usize::try_from(partition).ok()?));
        let partition = key.and_then(|key| state.partitions.get(key));
        partition.map_or(i64::MAX, |partition| partition.log_start)
    }

    /// Where a log begins.
    pub(super) fn log_start(&self, topic: &'static str, partition: usize) -> i64 {
        let state = &self.life.as_ref().unwrap().shard.state;
        let name = Name::from_static(topic.as_bytes());
        let topic = state.topic(NamespaceId(0), &TopicRef::Name(name)).unwrap();
        state.partitions[&topic.partitions[partition]].log_start
    }

    /// Where a log ends.
    pub(super) fn log_end(&self, topic: &'static str, partition: usize) -> i64 {
        let state = &self.life.as_ref().unwrap().shard.state;
        let name = Name::from_static(topic.as_bytes());
        let topic = state.topic(NamespaceId(0), &TopicRef::Name(name)).unwrap();
        state.partitions[&topic.partitions[partition]].next_offset
    }

    /// A group's position in a log's first partition.
    pub(super) fn committed_position(&self, group: &'static str) -> Option<i64> {
        let state = &self.life.as_ref().unwrap().shard.state;
        let names = state.namespace(NamespaceId(0)).unwrap();
        let group = names.groups.get(group.as_bytes())?;
        group.offsets.values().next().map(|offset| offset.offset)
    }

    /// The retained messages are those asked for last, or asked for after the last acknowledged.
    pub(super) fn check_retained(&mut self) {
        let Some(life) = &self.life else { return };
        let names = life.shard.state.namespace(NamespaceId(0)).unwrap();
        let there: BTreeMap<Name, u64> = names
            .retained
            .all()
            .map(|(topic, kept)| (topic.clone(), kept.sequence))
            .collect();
        for (topic, (asked, acknowledged)) in &self.facts.retained {
            let found = there.get(topic).map(|sequence| {
                let section = life.reader.by_sequence(ShardId(0), *sequence).unwrap();
                let section = section.expect("a retained message has its record");
                crate::simulation::messages::fetched(&section.batch)[0].1
            });
            let from = acknowledged.map_or(0, |at| at);
            let allowed =
                (acknowledged.is_none() && found.is_none()) || asked[from..].contains(&found);
            assert!(
                allowed,
                "retained {topic:?} is {found:?}, asked for {asked:?}, acknowledged {acknowledged:?}"
            );
        }
    }
}
