//! Queues that sleep hold what they would hold if each were told at once.

use super::Asleep;
use crate::api::*;
use crate::event::{Event, Holders};
use crate::sequence_set::SequenceSet;
use crate::state::State;
use crate::state::consumers::Consumer;
use bytes::Bytes;
use omnilog_ledger::Section;
use proptest::prelude::*;

const QUEUES: u64 = 6;
const SETS: [&[u64]; 3] = [&[1, 2, 3, 4, 5, 6], &[1, 3, 5], &[4, 5, 6]];

#[derive(Debug, Clone)]
enum Step {
    /// So many records to a set; they expire then.
    Publish(usize, u32, Option<i64>),
    /// To one queue alone.
    Alone(u64),
    /// So many entries, so far back, are done with.
    Remove(u64, u64, u64),
    /// A queue gets a consumer, or loses it.
    Attend(u64),
    Leave(u64),
    Delete(u64),
    /// Somebody looks.
    TakeOver(u64),
    /// So many wake ahead of a checkpoint; it begins when all have.
    Checkpoint(usize),
    /// Its set is defined again under its number, as when an older checkpoint is behind the definition.
    Define(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let queue = 1..=QUEUES;
    let set = 0..SETS.len();
    prop_oneof![
        8 => (set.clone(), 0u32..3, prop::option::of(0i64..3))
            .prop_map(|(set, more, at)| Step::Publish(set, more, at)),
        2 => queue.clone().prop_map(Step::Alone),
        2 => (queue.clone(), 0u64..20, 1u64..5).prop_map(|(queue, back, count)| Step::Remove(queue, back, count)),
        1 => queue.clone().prop_map(Step::Attend),
        1 => queue.clone().prop_map(Step::Leave),
        1 => queue.clone().prop_map(Step::TakeOver),
        1 => (0usize..3).prop_map(Step::Checkpoint),
        1 => set.prop_map(Step::Define),
        1 => Just(Step::Delete(QUEUES)),
    ]
}

/// A state, and the numbers of its sets.
struct World {
    state: State,
    eager: bool,
    numbers: [u32; 3],
}

impl World {
    fn new(eager: bool) -> Self {
        let mut world = Self {
            state: State::new(&[Name::from_static(b"/")]),
            eager,
            numbers: [0; 3],
        };
        for number in 1..=QUEUES {
            world.apply(&Event::QueueDeclared {
                namespace: NamespaceId(0),
                queue: QueueId(number),
                kind: QueueKind::Session,
                declared: DeclareQueue {
                    name: Name::from(format!("client-{number}")),
                    durable: true,
                    exclusive: false,
                    auto_delete: false,
                    arguments: Vec::new(),
                },
            });
        }
        world.define_all();
        world
    }

    fn apply(&mut self, event: &Event) {
        self.state.sets.closing |= self.eager;
        self.state.apply(event, &[]);
    }

    fn define(&mut self, set: usize) {
        let queues = SETS[set].iter().copied().map(QueueId).collect();
        let id = self.numbers[set];
        self.apply(&Event::HoldersDefined { id, queues });
    }

    fn define_all(&mut self) {
        for set in 0..SETS.len() {
            self.numbers[set] = self.state.sets.next;
            self.define(set);
        }
    }

    fn publish(&mut self, holders: Holders, more: u32, at_ms: Option<i64>) {
        let first = self.state.next_sequence;
        let section = Section {
            partition: 0,
            base_offset: -1,
            base_sequence: first,
            last_delta: more,
            max_timestamp: -1,
            envelope: Bytes::new(),
            batch: Bytes::new(),
        };
        let published = Event::Published {
            namespace: NamespaceId(0),
            section: 0,
            holders: vec![(more + 1, holders.clone())],
        };
        self.state.sets.closing |= self.eager;
        self.state.apply(&published, &[section]);
        if let Some(at_ms) = at_ms {
            self.apply(&Event::Expires {
                queues: holders,
                first,
                last: first + u64::from(more),
                at_ms,
            });
        }
    }

    fn step(&mut self, step: &Step) {
        let client = ClientId(1);
        match step {
            Step::Publish(set, more, at_ms) => {
                self.publish(Holders::Set(self.numbers[*set]), *more, *at_ms);
            }
            Step::Alone(queue) => {
                let queues = smallvec::smallvec![QueueId(*queue)];
                self.publish(Holders::Inline(queues), 0, None);
            }
            Step::Remove(queue, back, count) => {
                let first = self.state.next_sequence.saturating_sub(*back);
                self.apply(&Event::Removed {
                    queue: QueueId(*queue),
                    runs: vec![(first, first + count)],
                });
            }
            Step::Attend(queue) => {
                self.state.wake(QueueId(*queue));
                if let Some(queue) = self.state.queues.get_mut(&QueueId(*queue)) {
                    let consumer = Consumer::new(client, SESSION_CONSUMER, 1);
                    queue.consumers.add(consumer, false);
                    assert!(queue.asleep.is_empty());
                }
            }
            Step::Leave(queue) => {
                if let Some(queue) = self.state.queues.get_mut(&QueueId(*queue)) {
                    queue.consumers.remove((client, SESSION_CONSUMER));
                }
            }
            Step::Delete(queue) => self.apply(&Event::QueueDeleted {
                queue: QueueId(*queue),
            }),
            Step::TakeOver(queue) => self.state.take_over(QueueId(*queue)),
            Step::Checkpoint(members) => {
                if self.state.wake_some(*members) {
                    let asleep = |id| self.state.queues.get(&id).map(|queue| queue.asleep.len());
                    let all = (1..=QUEUES).map(QueueId).filter_map(asleep);
                    assert_eq!(all.sum::<usize>(), 0);
                    self.state.forget_sets();
                    self.define_all();
                }
            }
            Step::Define(set) => self.define(*set),
        }
    }

    /// What a queue holds, and when that expires.
    fn holds(&self, queue: u64) -> Option<(SequenceSet, Vec<(u64, i64)>)> {
        let queue = self.state.queues.get(&QueueId(queue))?;
        let mut held = queue.ready.clone();
        let mut deadlines = queue.deadlines.as_deref().cloned().unwrap_or_default();
        let waits = self.state.sets.waiting_for(queue);
        self.state.sets.add_to(queue, &mut held, &mut deadlines);
        assert_eq!(held.len(), queue.ready.len() + waits, "{queue:?}");
        let listed: SequenceSet = self
            .state
            .sets
            .listed(u64::MAX)
            .flat_map(|(first, last)| first..=last)
            .collect();
        for entry in held.iter() {
            let known = queue.ready.contains(entry) || listed.contains(entry);
            assert!(known, "{entry} is held by nobody: {queue:?}");
            if !queue.ready.contains(entry) {
                assert_eq!(self.state.sets.first_listed_from(entry), Some(entry));
            }
        }
        let each = |(first, last, at)| (first..=last).map(move |entry| (entry, at));
        Some((held, deadlines.runs().flat_map(each).collect()))
    }
}

proptest! {
    #[test]
    fn they_hold_what_they_would_if_told_at_once(steps in prop::collection::vec(step(), 1..80)) {
        let (mut lazy, mut eager) = (World::new(false), World::new(true));
        for step in &steps {
            lazy.step(step);
            eager.step(step);
            for queue in 1..=QUEUES {
                prop_assert_eq!(lazy.holds(queue), eager.holds(queue), "queue {} after {:?}", queue, step);
            }
        }
    }
}

#[test]
fn who_sleeps_is_not_touched_by_what_is_published() {
    let mut world = World::new(false);
    for _ in 0..100 {
        world.publish(Holders::Set(0), 0, None);
        world.publish(Holders::Inline(smallvec::smallvec![QueueId(1)]), 0, None);
    }
    let queue = &world.state.queues[&QueueId(2)];
    assert_eq!(queue.ready.len(), 1, "the first is told at once");
    assert_eq!(world.state.sets.waiting_for(queue), 99);
    assert_eq!(*queue.asleep, vec![Asleep { set: 0, from: 3 }]);
    assert_eq!(world.state.sets.awake(0), Some(&[][..]));
    world.state.wake(QueueId(2));
    let queue = &world.state.queues[&QueueId(2)];
    assert_eq!(queue.ready.len(), 100);
    assert_eq!(world.state.sets.awake(0), Some(&[QueueId(2)][..]));
}
