//! Applying decisions about what entries are told apart by: priorities, and lanes of keys.

use crate::api::QueueId;
use crate::event::{Event, Holders};
use crate::state::State;
use crate::state::order::Order;

impl State {
    pub(super) fn apply_rank(&mut self, event: &Event) {
        match event {
            Event::Prioritised {
                queues,
                first,
                last,
                priority,
            } => self.rank(queues, &|order| order.prioritise(*priority, *first, *last)),
            Event::Keyed {
                queues,
                first,
                last,
                lane,
            } => self.rank(queues, &|order| order.key(*lane, *first, *last)),
            _ => {}
        }
    }

    fn rank(&mut self, queues: &Holders, set: &dyn Fn(&mut Order)) {
        let known;
        let queues: &[QueueId] = match queues {
            Holders::Inline(queues) => queues,
            Holders::Set(id) => {
                let Some(set) = self.sets.queues(*id) else {
                    return;
                };
                known = set.clone();
                &known
            }
        };
        for queue in queues {
            if let Some(queue) = self.queues.get_mut(queue) {
                self.changes.touch(queue);
                if let Some(order) = queue.order.as_deref_mut() {
                    set(order);
                }
            }
        }
    }
}
