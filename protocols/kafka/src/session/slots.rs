//! The queue of a connection's requests: begun in order, answered in order.

use std::collections::VecDeque;

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;
use omnilog_wire::Outbox;

use crate::api::Exchange;
use crate::codec::{Api, Reply};

/// What of a request stays known until it is answered.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) number: u64,
    pub(super) api: Api,
    pub(super) version: i16,
    pub(super) correlation_id: i32,
    pub(super) client_id: StrBytes,
}

/// How far a request has come.
pub(super) enum Stage {
    /// Not begun; its body.
    Waiting(Bytes),
    /// Begun; the gate or an exchange that has not been set yet.
    Begun,
    /// Waits for answers.
    UnderWay(Box<dyn Exchange>),
    /// Its response; `None`: there is none to send.
    Done(Option<Reply>),
}

/// A request's place in the queue.
pub(super) struct Slot {
    request: Request,
    stage: Stage,
}

impl Slot {
    pub(super) fn waiting(
        api: Api,
        version: i16,
        correlation_id: i32,
        client_id: StrBytes,
        body: Bytes,
    ) -> Self {
        let request = Request {
            number: 0,
            api,
            version,
            correlation_id,
            client_id,
        };
        Self {
            request,
            stage: Stage::Waiting(body),
        }
    }

    pub(super) fn done(api: Api, reply: Option<Reply>) -> Self {
        let client_id = StrBytes::new();
        let request = Request {
            number: 0,
            api,
            version: 0,
            correlation_id: 0,
            client_id,
        };
        Self {
            request,
            stage: Stage::Done(reply),
        }
    }

    /// May this request be under way beside others? What Produce and Fetch do does not depend on
    /// each other's completion: the broker decides them in the order they are sent.
    fn overlaps(&self) -> bool {
        let held_back = matches!(&self.stage, Stage::UnderWay(exchange) if exchange.holds_back());
        matches!(self.request.api, Api::Produce | Api::Fetch) && !held_back
    }
}

/// The queue. Slots are numbered from 1 in the order of arrival.
pub(super) struct Slots {
    queue: VecDeque<Slot>,
    /// The number of the slot at the front.
    front: u64,
    /// How many at the front have been begun.
    begun: usize,
    held_bytes: usize,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            front: 1,
            begun: 0,
            held_bytes: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes of requests not begun.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub(super) fn push(&mut self, mut slot: Slot) {
        slot.request.number = self.front + self.queue.len() as u64;
        if let Stage::Waiting(body) = &slot.stage {
            self.held_bytes += body.len();
        }
        self.queue.push_back(slot);
    }

    /// The next request, if it may begin: when it is at the front, or when it and all before it
    /// that are not answered may overlap.
    pub(super) fn next_to_begin(&mut self) -> Option<u64> {
        loop {
            let slot = self.queue.get(self.begun)?;
            if matches!(slot.stage, Stage::Waiting(_)) {
                break;
            }
            self.begun += 1;
        }
        let unanswered = |slot: &&Slot| !matches!(slot.stage, Stage::Done(_));
        let mut before = self.queue.iter().take(self.begun).filter(unanswered);
        let slot = self.queue.get(self.begun)?;
        let may = before.all(|earlier| earlier.overlaps() && slot.overlaps());
        may.then_some(slot.request.number)
    }

    /// Is a request under way that changes something?
    pub(super) fn has_writes(&self) -> bool {
        let waits_only = [
            Api::Fetch,
            Api::JoinGroup,
            Api::SyncGroup,
            Api::Heartbeat,
            Api::Metadata,
        ];
        self.queue.iter().any(|slot| {
            matches!(slot.stage, Stage::UnderWay(_)) && !waits_only.contains(&slot.request.api)
        })
    }

    /// Takes a request's body out to begin it.
    pub(super) fn begin(&mut self, number: u64) -> Option<(Request, Bytes)> {
        let slot = self.get(number)?;
        let Stage::Waiting(body) = std::mem::replace(&mut slot.stage, Stage::Begun) else {
            return None;
        };
        let request = slot.request.clone();
        self.held_bytes -= body.len();
        Some((request, body))
    }

    pub(super) fn set(&mut self, number: u64, stage: Stage) {
        if let Some(slot) = self.get(number) {
            slot.stage = stage;
        }
    }

    pub(super) fn under_way(&mut self, number: u64) -> Option<(&Request, &mut dyn Exchange)> {
        let slot = self.get(number)?;
        match &mut slot.stage {
            Stage::UnderWay(exchange) => Some((&slot.request, &mut **exchange)),
            _ => None,
        }
    }

    /// Writes the responses that are done, up to the first that is not.
    pub(super) fn write_done(&mut self, out: &mut Outbox) {
        while let Some(Stage::Done(reply)) = self.queue.front_mut().map(|slot| &mut slot.stage) {
            for slice in reply.take().into_iter().flat_map(Reply::into_slices) {
                out.put_bytes(slice);
            }
            self.queue.pop_front();
            self.front += 1;
            self.begun = self.begun.saturating_sub(1);
        }
        if self.queue.is_empty() && self.queue.capacity() > 16 {
            self.queue = VecDeque::new();
        }
    }

    fn get(&mut self, number: u64) -> Option<&mut Slot> {
        let index = usize::try_from(number.checked_sub(self.front)?).ok()?;
        self.queue.get_mut(index)
    }
}
