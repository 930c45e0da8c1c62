//! One thread, one epoll loop, all connections of a load: so that the client costs the machine as little as it can, and
//! needs no signals between threads.

use super::book::{Book, Quantiles};
use super::wire::Wire;
use anyhow::{Context as _, bail};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A load in which nothing happens for so long has failed.
const STALL: Duration = Duration::from_secs(30);
/// What may be lost and has not come for so long is.
const LOST_AFTER: Duration = Duration::from_secs(2);
/// Messages generated between two looks at the network.
const BURST: u64 = 512;

/// What speaks a protocol on one connection.
pub(super) trait Peer: Send {
    /// May this publisher send a further message?
    fn has_room(&self) -> bool {
        false
    }

    /// Appends a message that is due at this time.
    fn publish(&mut self, _due_ns: u64, _out: &mut Vec<u8>) {}

    /// Takes the whole frames among what came, and says how many bytes they were.
    fn take(&mut self, input: &[u8], out: &mut Vec<u8>, book: &mut Book) -> anyhow::Result<usize>;

    /// Everything at hand was published or taken: what was gathered goes out.
    fn flush(&mut self, _out: &mut Vec<u8>, _is_last: bool) {}
}

/// How messages are generated.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace<'a> {
    /// Messages a second, open loop; as fast as the windows allow when not given.
    pub(super) rate: Option<u64>,
    /// Ends after so many messages ...
    pub(super) messages: Option<u64>,
    /// ... or after so much time ...
    pub(super) seconds: Option<f64>,
    /// ... or when this says so ...
    pub(super) until: Option<&'a AtomicBool>,
    /// ... or when so many have been received that were not published here.
    pub(super) background: Option<u64>,
    /// Messages published and not yet delivered everywhere, at most.
    pub(super) undelivered_max: u64,
    /// To how many receivers each message goes.
    pub(super) copies: u64,
    /// Is every message acknowledged to its publisher?
    pub(super) has_acks: bool,
    /// May deliveries be missing at the end, as of QoS 0?
    pub(super) may_lose: bool,
}

/// What one run of the engine saw.
#[derive(Debug, Clone, Default)]
pub(super) struct Stretch {
    pub(super) published: u64,
    pub(super) delivered: u64,
    pub(super) missing: u64,
    pub(super) background: u64,
    /// From the first message to the last delivery or acknowledgement.
    pub(super) seconds: f64,
    pub(super) ack: Quantiles,
    pub(super) delivery: Quantiles,
}

struct Link {
    wire: Wire,
    peer: Box<dyn Peer>,
    is_touched: bool,
}

pub(super) struct Engine {
    epoll: OwnedFd,
    links: Vec<Link>,
    publishers: Vec<usize>,
    touched: Vec<usize>,
    next: usize,
    book: Book,
}

impl Engine {
    pub(super) fn new() -> anyhow::Result<Self> {
        // A wait ends when it should, not up to 50 us later.
        _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            links: Vec::new(),
            publishers: Vec::new(),
            touched: Vec::new(),
            next: 0,
            book: Book::new()?,
        })
    }

    /// Takes over a connection with what was already read from it.
    pub(super) fn add(
        &mut self,
        stream: TcpStream,
        read_ahead: &[u8],
        peer: Box<dyn Peer>,
        is_publisher: bool,
    ) -> anyhow::Result<()> {
        let number = self.links.len();
        let wire = Wire::new(stream, read_ahead)?;
        wire.register(&self.epoll, number as u64)?;
        self.links.push(Link {
            wire,
            peer,
            is_touched: false,
        });
        if is_publisher {
            self.publishers.push(number);
        }
        // A peer that has something to say at once does; what was read ahead is taken.
        self.serve(number)
            .with_context(|| format!("connection {number}"))?;
        self.send(true)
    }

    /// Publishes at this pace until its end, then waits until everything has arrived.
    pub(super) fn run(&mut self, pace: &Pace<'_>) -> anyhow::Result<Stretch> {
        self.book.turn();
        let start_ns = self.book.tick();
        let end_ns = pace
            .seconds
            .map(|seconds| start_ns + (seconds * 1e9) as u64);
        let mut published = 0u64;
        let mut is_over = false;
        let mut last_progress = (0, start_ns);
        loop {
            let now = self.book.tick();
            is_over = is_over
                || pace.messages.is_some_and(|messages| published >= messages)
                || end_ns.is_some_and(|end| now >= end)
                || pace.until.is_some_and(|flag| flag.load(Ordering::Relaxed))
                || pace
                    .background
                    .is_some_and(|count| self.book.background >= count);
            let mut wait = STALL;
            if is_over {
                // Batches that are not full go out too.
                self.publishers
                    .clone()
                    .into_iter()
                    .for_each(|number| self.touch(number));
            } else {
                published += self.generate(pace, start_ns, published, &mut wait);
            }
            self.send(is_over || pace.rate.is_some())?;
            let is_acked = !pace.has_acks || self.book.acked >= published;
            if is_over && is_acked && self.book.delivered >= published * pace.copies {
                break;
            }
            if let Some(end) = end_ns.filter(|_| !is_over) {
                wait = wait.min(Duration::from_nanos(end.saturating_sub(now)));
            }
            self.receive(wait.min(Duration::from_secs(1)))?;
            let progress = published + self.book.acked + self.book.delivered + self.book.background;
            if progress != last_progress.0 {
                last_progress = (progress, self.book.now_ns);
            } else if (is_over || pace.background.is_some())
                && pace.may_lose
                && is_acked
                && self.idle(last_progress.1) > LOST_AFTER.as_secs_f64()
            {
                break;
            } else if self.idle(last_progress.1) > STALL.as_secs_f64() {
                bail!(
                    "stuck: {published} published, {} acknowledged, {} of {} delivered",
                    self.book.acked,
                    self.book.delivered,
                    published * pace.copies
                );
            }
        }
        let delivered = self.book.delivered;
        // Those that came before this run, too: sessions get theirs as soon as they are back.
        let background = std::mem::take(&mut self.book.background);
        let (ack, delivery) = self.book.turn();
        Ok(Stretch {
            published,
            delivered,
            missing: (published * pace.copies).saturating_sub(delivered),
            background,
            seconds: last_progress.1.saturating_sub(start_ns) as f64 / 1e9,
            ack,
            delivery,
        })
    }

    fn idle(&self, since_ns: u64) -> f64 {
        self.book.now_ns.saturating_sub(since_ns) as f64 / 1e9
    }

    /// Publishes what is due and what the windows allow; says how long until more is due.
    fn generate(
        &mut self,
        pace: &Pace<'_>,
        start_ns: u64,
        published: u64,
        wait: &mut Duration,
    ) -> u64 {
        let now = self.book.now_ns;
        let limit = pace.messages.unwrap_or(u64::MAX).min(published + BURST);
        let mut number = published;
        while number < limit {
            let due = match pace.rate {
                Some(rate) => start_ns + due_ns(number, rate),
                None => now,
            };
            if due > now {
                *wait = Duration::from_nanos(due - now);
                return number - published;
            }
            let arrived = self.book.delivered / pace.copies.max(1);
            let is_open = pace.copies == 0 || number < arrived + pace.undelivered_max;
            let Some(link) = is_open.then(|| self.publisher()).flatten() else {
                return number - published;
            };
            self.touch(link);
            let link = &mut self.links[link];
            link.peer.publish(due, &mut link.wire.out);
            number += 1;
        }
        *wait = Duration::ZERO;
        number - published
    }

    /// The next publisher in turn that has room.
    fn publisher(&mut self) -> Option<usize> {
        for _ in 0..self.publishers.len() {
            let number = self.publishers[self.next];
            self.next = (self.next + 1) % self.publishers.len();
            let link = &self.links[number];
            if link.peer.has_room() && link.wire.has_room() {
                return Some(number);
            }
        }
        None
    }

    fn touch(&mut self, number: usize) {
        let link = &mut self.links[number];
        if !link.is_touched {
            link.is_touched = true;
            self.touched.push(number);
        }
    }

    /// One write for everything that was gathered for a connection.
    fn send(&mut self, is_last: bool) -> anyhow::Result<()> {
        while let Some(number) = self.touched.pop() {
            let link = &mut self.links[number];
            link.is_touched = false;
            link.peer.flush(&mut link.wire.out, is_last);
            link.wire.write(&self.epoll, number as u64)?;
        }
        Ok(())
    }

    fn receive(&mut self, wait: Duration) -> anyhow::Result<()> {
        let mut ready = [const { MaybeUninit::<epoll::Event>::uninit() }; 256];
        let timeout = Timespec {
            tv_sec: wait.as_secs() as i64,
            tv_nsec: wait.subsec_nanos().into(),
        };
        let (ready, _) = match epoll::wait(&self.epoll, &mut ready, Some(&timeout)) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for event in ready {
            let number = event.data.u64() as usize;
            self.links[number]
                .wire
                .read()
                .and_then(|_| self.serve(number))
                .with_context(|| format!("connection {number}"))?;
        }
        Ok(())
    }

    fn serve(&mut self, number: usize) -> anyhow::Result<()> {
        self.book.tick();
        let link = &mut self.links[number];
        let (input, out) = link.wire.halves();
        let taken = link.peer.take(input, out, &mut self.book)?;
        link.wire.take(taken);
        self.touch(number);
        Ok(())
    }
}

/// When a message of an open loop is due, after the start.
pub(super) fn due_ns(number: u64, rate: u64) -> u64 {
    (u128::from(number) * 1_000_000_000 / u128::from(rate.max(1))) as u64
}

#[cfg(test)]
mod tests;
