//! What has changed since the last checkpoint, and the taking of the next while the shard goes on.
//!
//! Whatever is about to change, or has been made, is touched. A checkpoint begins by setting what was touched aside;
//! that is encoded in slices. What changes before its turn comes is encoded just before it does, as it was when the
//! checkpoint began: the checkpoint is the state as of one frame, and nothing ever waits for it.

use crate::api::*;
use crate::state::State;
use crate::state::partition::{Partition, Topic};
use crate::state::queue::Queue;
use crate::state::saved::Saved;
use crate::state::session::Session;
use std::collections::BTreeSet;

/// Objects that one slice looks at: most of them may have been encoded already.
const SLICE_OBJECTS: usize = 4096;

/// Which checkpoint an object waits for: 0 for none, else one of two sides in turn.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mark(u8);

impl PartialEq for Mark {
    /// It is no part of what an object is.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Mark {}

/// An object that has a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbered {
    Topic(TopicId),
    Partition(u64),
    Queue(QueueId),
    Session(SessionId),
}

/// What has a name, or is small.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Named {
    Exchange(NamespaceId, Name),
    /// All bindings from an exchange to a destination by one key.
    Bindings(NamespaceId, Name, Destination, bytes::Bytes),
    Group(NamespaceId, Name),
    Transactional(NamespaceId, Name),
    Retained(NamespaceId, Name),
    Alias(u64),
    Link(u64, QueueId),
    Orphan(u64),
    /// What is published later, of a part of the sequences.
    Delayed(u64),
    OrphanTemplate(u64),
    /// A topic's path template, and whose publishing made it.
    Placed(TopicId),
    /// A retained message that a Kafka client wrote.
    TableEntry(NamespaceId, bytes::Bytes),
    /// Such a one on its way to a session.
    TableCopy(u64),
}

impl Named {
    /// Those that a binding is one of.
    pub(crate) fn bindings(namespace: NamespaceId, binding: &Binding) -> Self {
        Self::Bindings(
            namespace,
            binding.source.clone(),
            binding.destination.clone(),
            binding.routing_key.clone(),
        )
    }
}

/// An object that is marked when it changes.
pub(crate) trait Marked {
    fn mark(&mut self) -> &mut Mark;
    fn number(&self) -> Numbered;
    /// Is it part of checkpoints?
    fn kept(&self) -> bool;
    fn save(&self, saved: &mut Saved);
}

/// What was touched since a checkpoint began.
#[derive(Debug, Default)]
struct Touched {
    numbered: Vec<Numbered>,
    /// Those that are gone for ever: numbers are not given twice.
    gone: Vec<Numbered>,
    named: BTreeSet<Named>,
}

/// What has changed.
#[derive(Debug)]
pub(crate) struct Changes {
    /// Nothing is noted, as a checkpoint is being loaded.
    pub(crate) off: bool,
    /// The mark of what was touched since the last checkpoint began.
    side: u8,
    touched: Touched,
    /// What the checkpoint being taken has not encoded yet.
    waiting: Touched,
    taken: Option<Saved>,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            off: false,
            side: 1,
            touched: Touched::default(),
            waiting: Touched::default(),
            taken: None,
        }
    }
}

impl Changes {
    /// An object was made, or is about to change.
    pub(crate) fn touch(&mut self, object: &mut impl Marked) {
        let mark = object.mark().0;
        if mark == self.side || self.off || !object.kept() {
            return;
        }
        if mark != 0
            && let Some(saved) = &mut self.taken
        {
            object.save(saved);
        }
        object.mark().0 = self.side;
        self.touched.numbered.push(object.number());
    }

    /// An object is about to go for ever.
    pub(crate) fn gone(&mut self, object: &mut impl Marked) {
        if object.kept() && !self.off {
            self.touch(object);
            self.touched.gone.push(object.number());
        }
    }

    /// Encodes an object if its turn has not come.
    fn save(&mut self, object: Option<&mut impl Marked>) {
        if let Some(object) = object
            && object.mark().0 == 3 - self.side
            && let Some(saved) = &mut self.taken
        {
            object.save(saved);
            object.mark().0 = 0;
        }
    }
}

impl State {
    /// What has a name was made, or is about to change or to go.
    pub(crate) fn touch(&mut self, named: Named) {
        if self.changes.off {
            return;
        }
        if self.changes.taken.is_some()
            && self.changes.waiting.named.remove(&named)
            && let Some(mut saved) = self.changes.taken.take()
        {
            self.save_named(&named, &mut saved);
            self.changes.taken = Some(saved);
        }
        self.changes.touched.named.insert(named);
    }

    /// A queue is about to change.
    pub(crate) fn touch_queue(&mut self, queue: QueueId) {
        if let Some(queue) = self.queues.get_mut(&queue) {
            self.changes.touch(queue);
        }
    }

    /// A partition is about to change.
    pub(crate) fn touch_partition(&mut self, partition: u64) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            self.changes.touch(partition);
        }
    }

    /// A session is about to change.
    pub(crate) fn touch_session(&mut self, session: SessionId) {
        if let Some(session) = self.sessions.get_mut(&session) {
            self.changes.touch(session);
        }
    }

    /// Everything is to be in the next checkpoint, which lies on no other.
    pub(crate) fn touch_everything(&mut self) {
        let changes = &mut self.changes;
        self.topics.values_mut().for_each(|it| changes.touch(it));
        self.partitions
            .values_mut()
            .for_each(|it| changes.touch(it));
        self.queues.values_mut().for_each(|it| changes.touch(it));
        self.sessions.values_mut().for_each(|it| changes.touch(it));
        for named in self.all_named() {
            self.touch(named);
        }
    }

    /// Everything that has a name.
    pub(crate) fn all_named(&self) -> Vec<Named> {
        let mut all = Vec::new();
        for names in &self.namespaces {
            let id = names.id;
            for (name, exchange) in &names.exchanges {
                all.push(Named::Exchange(id, name.clone()));
                all.extend(exchange.destinations().map(|(destination, key)| {
                    Named::Bindings(id, name.clone(), destination.clone(), key.clone())
                }));
            }
            all.extend(names.groups.keys().map(|it| Named::Group(id, it.clone())));
            let ids = names.transactions.keys();
            all.extend(ids.map(|it| Named::Transactional(id, it.clone())));
            let topics = names.retained.all();
            all.extend(topics.map(|(topic, kept)| kept.named(id, topic)));
        }
        all.extend(self.aliases.iter().map(|(at, alias)| alias.named(*at)));
        all.extend(self.delayed.parts().into_iter().map(Named::Delayed));
        let links = self.links.keys();
        all.extend(links.map(|(partition, queue)| Named::Link(*partition, *queue)));
        all.extend(self.orphans.keys().map(|it| Named::Orphan(*it)));
        let templates = self.orphan_templates.keys();
        all.extend(templates.map(|it| Named::OrphanTemplate(*it)));
        all.extend(self.templates.keys().map(|it| Named::Placed(*it)));
        for names in &self.namespaces {
            let made = names.makers.keys();
            let plain = made.filter(|topic| !self.templates.contains_key(topic));
            all.extend(plain.map(|it| Named::Placed(*it)));
        }
        all
    }

    /// Is a checkpoint being taken?
    pub(crate) fn is_saving(&self) -> bool {
        self.changes.taken.is_some()
    }

    /// Begins a checkpoint of what has changed, as of now.
    pub(crate) fn begin_saving(&mut self) {
        let mut saved = Saved::default();
        self.save_counters(&mut saved);
        self.changes.waiting = std::mem::take(&mut self.changes.touched);
        self.changes.side = 3 - self.changes.side;
        self.changes.taken = Some(saved);
    }

    /// Encodes some more, of about so many bytes; returns the whole, once it is complete.
    pub(crate) fn go_on_saving(&mut self, bytes: usize) -> Option<Saved> {
        let until = self.changes.taken.as_ref()?.bytes() + bytes;
        for _ in 0..SLICE_OBJECTS {
            if self.changes.taken.as_ref()?.bytes() >= until {
                return None;
            }
            let changes = &mut self.changes;
            if let Some(next) = changes.waiting.numbered.pop() {
                match next {
                    Numbered::Topic(id) => changes.save(self.topics.get_mut(&id)),
                    Numbered::Partition(key) => changes.save(self.partitions.get_mut(&key)),
                    Numbered::Queue(id) => changes.save(self.queues.get_mut(&id)),
                    Numbered::Session(id) => changes.save(self.sessions.get_mut(&id)),
                }
            } else if let Some(gone) = changes.waiting.gone.pop() {
                changes.taken.as_mut()?.gone(gone);
            } else if let Some(named) = changes.waiting.named.pop_first() {
                let mut saved = changes.taken.take()?;
                self.save_named(&named, &mut saved);
                self.changes.taken = Some(saved);
            } else {
                // The lists' memory is not kept: they are long after a first filling only.
                changes.waiting = Touched::default();
                return changes.taken.take();
            }
        }
        None
    }

    /// The whole durable state.
    #[cfg(test)]
    pub(crate) fn save(&self) -> Saved {
        let mut saved = Saved::default();
        self.save_counters(&mut saved);
        fn each<'a, T: Marked + 'a>(objects: impl Iterator<Item = &'a T>, saved: &mut Saved) {
            let kept = objects.filter(|object| object.kept());
            kept.for_each(|object| object.save(saved));
        }
        each(self.topics.values(), &mut saved);
        each(self.partitions.values(), &mut saved);
        each(self.queues.values(), &mut saved);
        each(self.sessions.values(), &mut saved);
        for named in self.all_named() {
            self.save_named(&named, &mut saved);
        }
        saved
    }
}

impl Marked for Topic {
    fn mark(&mut self) -> &mut Mark {
        &mut self.mark
    }
    fn number(&self) -> Numbered {
        Numbered::Topic(self.id)
    }
    fn kept(&self) -> bool {
        true
    }
    fn save(&self, saved: &mut Saved) {
        self.save_to(saved);
    }
}

impl Marked for Partition {
    fn mark(&mut self) -> &mut Mark {
        &mut self.mark
    }
    fn number(&self) -> Numbered {
        Numbered::Partition(self.key)
    }
    fn kept(&self) -> bool {
        true
    }
    fn save(&self, saved: &mut Saved) {
        self.save_to(saved);
    }
}

impl Marked for Queue {
    fn mark(&mut self) -> &mut Mark {
        &mut self.mark
    }
    fn number(&self) -> Numbered {
        Numbered::Queue(self.id)
    }
    fn kept(&self) -> bool {
        self.durable()
    }
    fn save(&self, saved: &mut Saved) {
        self.save_to(saved);
    }
}

impl Marked for Session {
    fn mark(&mut self) -> &mut Mark {
        &mut self.mark
    }
    fn number(&self) -> Numbered {
        Numbered::Session(self.id)
    }
    fn kept(&self) -> bool {
        self.durable()
    }
    fn save(&self, saved: &mut Saved) {
        self.save_to(saved);
    }
}
