//! What a record's queues will tell it apart by, decided when it is published: its priority, and its key's lane.

use crate::api::*;
use crate::event::{Event as Decision, Holders};
use crate::shard::Shard;
use crate::state::exchange::argument;
use crate::state::order::{KEY_SHARED, Order, lane, lane_of};
use crate::state::queue::Queue;

/// A record's ranks in the queues that hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ranks {
    /// Its priority, where a queue has priorities and it is not 0.
    priority: Option<u8>,
    /// Its key's lane, where a queue shares by key.
    lane: Option<u16>,
}

impl Ranks {
    /// A queue holds the record.
    pub(super) fn add(&mut self, queue: &Queue, envelope: &Envelope) {
        match queue.order.as_deref() {
            None => {}
            Some(Order::Priorities(_)) => {
                self.priority = Some(envelope.priority).filter(|priority| *priority > 0);
            }
            Some(Order::Keys(_)) => self.lane = Some(lane(&envelope.address, 0)),
        }
    }

    pub(super) fn any(&self) -> bool {
        self.priority.is_some() || self.lane.is_some()
    }
}

/// The decisions that tell a batch's records apart: for each run of equal ones.
pub(super) fn rank_events(
    base: u64,
    holders: &[(u32, Holders)],
    ranks: &[(u32, Ranks)],
) -> Vec<Decision> {
    if ranks.is_empty() {
        return Vec::new();
    }
    // (holders of the run, first, last, ranks)
    let mut runs: Vec<(&Holders, u64, u64, Ranks)> = Vec::new();
    let mut ranks = ranks.iter().peekable();
    let mut end = 0;
    for (count, queues) in holders {
        end += count;
        while let Some((index, ranks)) = ranks.next_if(|(index, _)| *index < end) {
            let sequence = base + u64::from(*index);
            match runs.last_mut() {
                Some((same, _, last, equal))
                    if std::ptr::eq(*same, queues) && *last + 1 == sequence && equal == ranks =>
                {
                    *last = sequence;
                }
                _ => runs.push((queues, sequence, sequence, *ranks)),
            }
        }
    }
    let mut events = Vec::new();
    for (queues, first, last, ranks) in runs {
        if let Some(priority) = ranks.priority {
            events.push(Decision::Prioritised {
                queues: queues.clone(),
                first,
                last,
                priority,
            });
        }
        if let Some(lane) = ranks.lane {
            events.push(Decision::Keyed {
                queues: queues.clone(),
                first,
                last,
                lane,
            });
        }
    }
    events
}

impl Shard {
    /// What a link put into a queue that shares by key: the lanes of the records' keys.
    pub(crate) fn key_linked(&mut self, id: QueueId, lanes: &[(u64, u16)]) {
        for run in lanes.chunk_by(|a, b| a.0 + 1 == b.0 && a.1 == b.1) {
            let (Some((first, lane)), Some((last, _))) = (run.first(), run.last()) else {
                continue;
            };
            self.record(&Decision::Keyed {
                queues: Holders::Inline(smallvec::smallvec![id]),
                first: *first,
                last: *last,
                lane: *lane,
            });
        }
    }

    /// What a queue that shares by key held before anything was journaled of keys is spread over the lanes.
    pub(crate) fn key_unkeyed(&mut self) {
        for queue in self.state.queues.values_mut() {
            let Some(order @ Order::Keys(_)) = queue.order.as_deref_mut() else {
                continue;
            };
            let missing: Vec<u64> = queue
                .ready
                .iter()
                .filter(|entry| order.rank(*entry).is_none())
                .collect();
            for entry in missing {
                order.key(lane_of(&entry.to_be_bytes()), entry, entry);
            }
        }
    }
}

/// Can a queue be served as its declaration asks for?
pub(super) fn check_modes(declare: &DeclareQueue) -> Result<(), Refusal> {
    let invalid = |argument: &str, reason: String| {
        Err(Refusal::InvalidArgument {
            noun: Noun::Queue,
            name: declare.name.clone(),
            argument: argument.to_owned(),
            reason,
        })
    };
    let given = |name: &str| argument(&declare.arguments, name.as_bytes());
    match given("x-max-priority").map(Value::as_int) {
        None | Some(Some(0..=255)) => {}
        Some(Some(negative @ i64::MIN..0)) => {
            return invalid("x-max-priority", format!("{{value_negative,{negative}}}"));
        }
        Some(Some(large)) => {
            return invalid("x-max-priority", format!("{{max_value_exceeded,{large}}}"));
        }
        Some(None) => return invalid("x-max-priority", "unacceptable type".to_owned()),
    }
    let key_shared = String::from_utf8_lossy(KEY_SHARED);
    for name in ["x-single-active-consumer", &key_shared] {
        if given(name).is_some_and(|value| value.as_bool().is_none()) {
            return invalid(name, "unacceptable type".to_owned());
        }
    }
    let on = |name: &str| given(name).and_then(Value::as_bool).unwrap_or(false);
    if on(&key_shared) {
        for (other, there) in [
            ("x-single-active-consumer", on("x-single-active-consumer")),
            (
                "x-max-priority",
                given("x-max-priority").and_then(Value::as_int).unwrap_or(0) > 0,
            ),
        ] {
            if there {
                return invalid(&key_shared, format!("not with '{other}'"));
            }
        }
    }
    Ok(())
}
