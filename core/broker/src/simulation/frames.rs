//! What must be one frame: whatever moves a message from one place to another. Power may be lost behind each frame, and
//! seldom is behind the one that would tell, so every frame is looked at when it is written.

use crate::api::*;
use crate::event::{Event as Decision, decode};
use crate::shard::Written;
use crate::simulation::delays::PASSING;
use crate::simulation::ends::STRICT;
use crate::state::State;
use omnilog_record::{Record, RecordBase};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of earlier frames.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Which message lies at a sequence.
    numbers: BTreeMap<u64, u64>,
    /// Records that wait, and will surely be taken by a queue then.
    waiting: BTreeMap<u64, bool>,
    /// How far each link came: by partition and queue.
    came: BTreeMap<(u64, QueueId), i64>,
}

/// The number of a message, whatever else is in it.
fn number(message: &Message) -> Option<u64> {
    let base = RecordBase {
        offset: 0,
        timestamp: 0,
        log_append_time: None,
    };
    let record = Record::parse(message.record_bytes()?, &base).ok()?;
    let value = record.value?.get(..8)?;
    Some(u64::from_be_bytes(value.try_into().ok()?))
}

/// What a frame holds.
#[derive(Default)]
struct Holds {
    /// Messages that lie in it.
    messages: BTreeSet<u64>,
    sequences: BTreeSet<u64>,
    /// Dead letters: of which queue and message.
    letters: Vec<(Name, u64)>,
    removed: BTreeSet<(Name, u64)>,
    marked: bool,
    ended: bool,
}

impl Frames {
    /// A start: what was decided and is lost did not happen.
    pub(super) fn started(&mut self, state: &State) {
        let links = state.links.iter();
        self.came = links.map(|(at, link)| (*at, link.next_offset)).collect();
    }

    /// A frame is to be written; the state is as of it.
    pub(super) fn written(&mut self, frame: &Written<'_>, state: &State) {
        let mut holds = Holds::default();
        self.take_records(frame, &mut holds);
        let events = decode(frame.decision).expect("events that can be read");
        for event in &events {
            self.take_event(event, &holds, state);
            match event {
                Decision::Removed { queue, runs } => {
                    let Some(queue) = state.queues.get(queue) else {
                        continue;
                    };
                    let name = &queue.declared.name;
                    for entry in runs.iter().flat_map(|(first, last)| *first..=*last) {
                        let number = self.numbers.get(&entry);
                        holds
                            .removed
                            .extend(number.map(|number| (name.clone(), *number)));
                    }
                }
                Decision::Marked { .. } => holds.marked = true,
                Decision::TransactionEnded { .. } => holds.ended = true,
                _ => {}
            }
        }
        assert!(
            !holds.marked || holds.ended,
            "a transaction's markers are written before its end: {events:?}"
        );
        for letter in &holds.letters {
            let (queue, id) = letter;
            let durable = state
                .queue_id(NamespaceId(0), queue)
                .and_then(|id| state.queues.get(&id))
                .is_some_and(|queue| queue.durable());
            assert!(
                !durable || *queue == STRICT || holds.removed.contains(letter),
                "{queue:?}: the dead letter of {id} is written, and {id} stays: {events:?}"
            );
        }
    }

    fn take_records(&mut self, frame: &Written<'_>, holds: &mut Holds) {
        for (section, stored) in frame.sections.iter().zip(frame.stored) {
            let last = section.base_sequence + u64::from(section.last_delta);
            holds.sequences.extend(section.base_sequence..=last);
            let records = u32::try_from(stored.envelopes.len()).unwrap_or(0);
            for index in 0..records {
                let message = Message {
                    stored: stored.clone(),
                    index,
                    position: None,
                };
                let Some(id) = number(&message) else { continue };
                holds.messages.insert(id);
                self.numbers
                    .insert(section.base_sequence + u64::from(index), id);
                let death = message.deaths().and_then(|deaths| deaths.deaths.first());
                holds
                    .letters
                    .extend(death.map(|death| (death.queue.clone(), id)));
                let fleeting = matches!(&message.stored.envelopes.get(index as usize).map(|envelope| &envelope.address),
                    Some(Address::Amqp { exchange, .. }) if *exchange == PASSING);
                self.waiting
                    .insert(section.base_sequence + u64::from(index), !fleeting);
            }
        }
    }

    fn take_event(&mut self, event: &Decision, holds: &Holds, state: &State) {
        match event {
            Decision::DelayOver { entries } => {
                for (_, sequence) in entries {
                    let certain = self.waiting.get(sequence).copied().unwrap_or(false);
                    let id = self.numbers.get(sequence);
                    assert!(
                        !certain || id.is_none_or(|id| holds.messages.contains(id)),
                        "{id:?} is not to be published any more, and was not"
                    );
                }
            }
            Decision::RetainedSet {
                topic, sequence, ..
            } => assert!(
                holds.sequences.contains(sequence),
                "{topic:?}: its retained message is not in the frame that sets it"
            ),
            Decision::IncomingReserved { packet_id, .. } => assert!(
                !holds.messages.is_empty(),
                "{packet_id} is known, and its message is not written"
            ),
            Decision::LinkCreated {
                queue,
                partition,
                offset,
                ..
            } => {
                self.came.insert((*partition, *queue), *offset);
            }
            Decision::LinkPassed {
                queue,
                partition,
                next_offset,
            } => {
                self.came.insert((*partition, *queue), *next_offset);
                let start = state.partitions.get(partition).map(|log| log.log_start);
                assert!(
                    start.is_none_or(|start| start >= *next_offset),
                    "{queue}: its link passes over {next_offset}, and the log begins at {start:?}"
                );
            }
            Decision::LinkAdvanced {
                queue,
                partition,
                next_offset,
                runs,
                ..
            } => {
                let before = self.came.insert((*partition, *queue), *next_offset);
                assert!(
                    before.is_none_or(|before| before <= *next_offset),
                    "{queue}: its link was at {before:?}, and goes back to {next_offset}"
                );
                assert!(
                    runs.is_empty() || before.is_none_or(|before| before < *next_offset),
                    "{queue}: it gets records, and its link stays at {next_offset}"
                );
            }
            _ => {}
        }
    }
}
