//! Queues that have news, each once, in the order in which they got it. Whether one is among them is noted here: a
//! message to ten thousand queues that wait would else have all of them fetched from memory for that alone.

use crate::api::QueueId;
use crate::state::IdMap;

/// Queues to dispatch.
#[derive(Debug, Default)]
pub(crate) struct News {
    queues: Vec<QueueId>,
    /// Those that were told and not served since, in words of neighbours.
    told: IdMap<u64, u64>,
}

/// A queue's word, and its bit there.
fn bit(queue: QueueId) -> (u64, u64) {
    (queue.0 / 64, 1 << (queue.0 % 64))
}

impl News {
    pub(crate) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// A queue has news.
    pub(crate) fn tell(&mut self, queue: QueueId) {
        if self.note(queue) {
            self.queues.push(queue);
        }
    }

    /// A queue waits elsewhere until it is served: what is told meanwhile adds nothing. Says whether that is new.
    pub(crate) fn note(&mut self, queue: QueueId) -> bool {
        let (at, bit) = bit(queue);
        let word = self.told.entry(at).or_default();
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// A queue is about to be served: what is told from now on is news.
    pub(crate) fn served(&mut self, queue: QueueId) {
        let (at, bit) = bit(queue);
        if let Some(word) = self.told.get_mut(&at) {
            *word &= !bit;
            if *word == 0 {
                self.told.remove(&at);
            }
        }
    }

    /// Takes the queues out, to be served.
    pub(crate) fn take(&mut self) -> Vec<QueueId> {
        std::mem::take(&mut self.queues)
    }

    /// Puts back those that were not served, ahead of what came since; the buffer is kept.
    pub(crate) fn put_back(&mut self, mut left: Vec<QueueId>) {
        left.append(&mut self.queues);
        self.queues = left;
    }
}

#[cfg(test)]
mod tests {
    use super::News;
    use crate::api::QueueId;

    #[test]
    fn each_is_told_once_until_it_is_served() {
        let mut news = News::default();
        for queue in [3, 70, 3, 64, 70] {
            news.tell(QueueId(queue));
        }
        let mut queues = news.take();
        assert_eq!(queues, [3, 70, 64].map(QueueId));
        news.served(QueueId(3));
        queues.remove(0);
        for queue in [64, 3, 5, 3] {
            news.tell(QueueId(queue));
        }
        news.put_back(queues);
        assert_eq!(news.take(), [70, 64, 3, 5].map(QueueId));
        for queue in [70, 64, 3, 5] {
            news.served(QueueId(queue));
        }
        assert!(news.is_empty() && news.told.is_empty());
    }
}
