//! Publisher confirms: numbers given at receipt, acknowledged as the broker's answers come.

use crate::codec::{MethodId, Writer};
use omnilog_wire::Outbox;
use std::collections::VecDeque;

/// A channel's confirms, in `confirm.select` mode.
#[derive(Debug)]
pub(crate) struct Confirms {
    /// The number of the oldest in `open`.
    first: u64,
    /// From the oldest unconfirmed on: is it confirmed?
    open: VecDeque<bool>,
}

impl Confirms {
    /// Numbers count from 1.
    pub(crate) fn new() -> Self {
        Self {
            first: 1,
            open: VecDeque::new(),
        }
    }

    /// A publish came in: its number.
    pub(crate) fn receive(&mut self) -> u64 {
        self.open.push_back(false);
        self.first + self.open.len() as u64 - 1
    }

    /// The broker has answered for `taken.len()` publishes from `from` on: acknowledge them, in as few methods as
    /// possible.
    pub(crate) fn settle(&mut self, channel: u16, from: u64, taken: &[bool], out: &mut Outbox) {
        let mut at = 0;
        while let Some(&ack) = taken.get(at) {
            let run = taken
                .get(at..)
                .unwrap_or_default()
                .iter()
                .take_while(|other| **other == ack)
                .count();
            let start = from + at as u64;
            let end = start + run as u64 - 1;
            // `multiple` speaks for everything before as well.
            let alone = (self.first..start).all(|number| self.is_confirmed(number));
            if alone {
                put(channel, ack, end, run > 1, out);
            } else {
                (start..=end).for_each(|number| put(channel, ack, number, false, out));
            }
            (start..=end).for_each(|number| self.confirm(number));
            at += run;
        }
        while self.open.front() == Some(&true) {
            self.open.pop_front();
            self.first += 1;
        }
    }

    fn index(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok()
    }

    fn is_confirmed(&self, number: u64) -> bool {
        self.index(number)
            .and_then(|index| self.open.get(index))
            .copied()
            .unwrap_or(true)
    }

    fn confirm(&mut self, number: u64) {
        if let Some(slot) = self
            .index(number)
            .and_then(|index| self.open.get_mut(index))
        {
            *slot = true;
        }
    }
}

fn put(channel: u16, ack: bool, tag: u64, multiple: bool, out: &mut Outbox) {
    let id = if ack {
        MethodId::BASIC_ACK
    } else {
        MethodId::BASIC_NACK
    };
    Writer::method(out.buffer(), channel, id, |w| {
        // A nack's `requeue` bit means nothing to a publisher.
        w.u64(tag).bit(multiple);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{FRAME_MIN_BYTES, Method, split_frame};
    use bytes::BytesMut;

    fn sent(out: &mut Outbox) -> Vec<Method> {
        let mut bytes = BytesMut::from(&out.take_bytes()[..]);
        let mut methods = Vec::new();
        while let Ok(Some(frame)) = split_frame(&mut bytes, FRAME_MIN_BYTES as usize) {
            methods.push(Method::decode(frame.payload).map(|(_, method)| method));
        }
        methods.into_iter().filter_map(Result::ok).collect()
    }

    fn ack(delivery_tag: u64, multiple: bool) -> Method {
        Method::BasicAck {
            delivery_tag,
            multiple,
        }
    }

    #[test]
    fn contiguous_acks_become_one() {
        let mut confirms = Confirms::new();
        let mut out = Outbox::new();
        assert_eq!(
            (1..=5).map(|_| confirms.receive()).collect::<Vec<_>>(),
            [1, 2, 3, 4, 5]
        );
        confirms.settle(1, 1, &[true, true, true], &mut out);
        assert_eq!(sent(&mut out), [ack(3, true)]);
        confirms.settle(1, 4, &[true], &mut out);
        assert_eq!(sent(&mut out), [ack(4, false)]);
    }

    #[test]
    fn multiple_never_speaks_for_what_is_open() {
        let mut confirms = Confirms::new();
        let mut out = Outbox::new();
        (0..5).for_each(|_| {
            confirms.receive();
        });
        confirms.settle(1, 3, &[true, true], &mut out);
        assert_eq!(sent(&mut out), [ack(3, false), ack(4, false)]);
        confirms.settle(1, 1, &[true, true], &mut out);
        assert_eq!(sent(&mut out), [ack(2, true)]);
        confirms.settle(1, 5, &[false], &mut out);
        assert_eq!(
            sent(&mut out),
            [Method::BasicNack {
                delivery_tag: 5,
                multiple: false,
                requeue: false
            }]
        );
    }
}
