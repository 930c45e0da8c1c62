//! What a session emits: bytes for the peer, commands for the broker, and what becomes of the connection.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use omnilog_broker::{ClientInfo, Command, NamespaceId};
use std::collections::VecDeque;
use std::io::IoSlice;

/// From this length on, bytes are chained and written from where they lie; shorter ones are copied together.
const CHAIN_BYTES_MIN: usize = 1024;

/// The first room for small writes, so that it does not grow from nothing after every idle moment.
const TAIL_BYTES_MIN: usize = 1024;

/// Slices handed to one vectored write.
const SLICES_MAX: usize = 64;

/// Kept for reuse when all is written; a larger buffer goes back to the allocator.
const KEEP_BYTES_MAX: usize = 64 << 10;

/// A session's effects, in order. The driver carries them out after every call.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Complete pieces, to be written before `tail`.
    chain: VecDeque<Bytes>,
    chain_bytes: usize,
    /// Small writes, coalesced.
    tail: BytesMut,
    actions: Vec<Action>,
    close: Option<Close>,
    reading_paused: bool,
}

/// Something for the broker.
#[derive(Debug)]
pub enum Action {
    /// Become a client of this namespace's shard.
    Connect(NamespaceId, ClientInfo),
    /// A command with its correlation number.
    Command(u64, Command),
}

/// How a connection is closed, once everything before is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// At once.
    Flushed,
    /// Say that nothing more follows, then wait a little for the peer to close, discarding what it still sends: a reset
    /// could otherwise destroy our last words before the peer has read them.
    Linger,
}

impl Outbox {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    // === bytes ===

    /// Where small writes go. Append only: what lies there already may belong to earlier frames. Positions stay valid
    /// until the next [`Outbox::put_bytes`].
    pub fn buffer(&mut self) -> &mut BytesMut {
        if self.tail.capacity() == 0 {
            self.tail.reserve(TAIL_BYTES_MIN);
        }
        &mut self.tail
    }

    /// Copies bytes behind all earlier ones.
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.buffer().put_slice(bytes);
    }

    /// Puts bytes behind all earlier ones: without copying, if there are enough of them.
    pub fn put_bytes(&mut self, bytes: Bytes) {
        if bytes.len() < CHAIN_BYTES_MIN {
            self.buffer().put_slice(&bytes);
            return;
        }
        if !self.tail.is_empty() {
            let head = self.tail.split().freeze();
            self.chain_bytes += head.len();
            self.chain.push_back(head);
        }
        self.chain_bytes += bytes.len();
        self.chain.push_back(bytes);
    }

    /// Puts a part of shared bytes behind all earlier ones: without copying, if there are enough of them.
    ///
    /// # Panics
    /// If `part` does not lie in `whole`.
    pub fn put_part(&mut self, whole: &Bytes, part: &[u8]) {
        if part.len() < CHAIN_BYTES_MIN {
            self.put_slice(part);
        } else {
            self.put_bytes(whole.slice_ref(part));
        }
    }

    /// Bytes not written yet.
    pub fn backlog_bytes(&self) -> usize {
        self.chain_bytes + self.tail.len()
    }

    // === broker ===

    /// Becomes a client of the broker. Commands are allowed from here on.
    pub fn connect(&mut self, namespace: NamespaceId, info: ClientInfo) {
        self.actions.push(Action::Connect(namespace, info));
    }

    /// Sends a command. Correlation 0: nobody waits for its success.
    pub fn command(&mut self, correlation: u64, command: Command) {
        self.actions.push(Action::Command(correlation, command));
    }

    // === the connection ===

    /// Closes the connection once everything put so far is written. The session is not called again, except for
    /// [`crate::Session::on_closed`].
    pub fn close(&mut self, close: Close) {
        self.close.get_or_insert(close);
    }

    /// Stops or resumes reading from the peer.
    pub fn pause_reading(&mut self, pause: bool) {
        self.reading_paused = pause;
    }

    /// Has the session paused reading?
    pub fn reading_paused(&self) -> bool {
        self.reading_paused
    }

    /// Has the session asked to close?
    pub fn closing(&self) -> Option<Close> {
        self.close
    }

    // === for the driver, and for tests that play it ===

    /// Takes what is for the broker, in order, keeping the room for more.
    pub fn drain_actions(&mut self) -> impl Iterator<Item = Action> + '_ {
        self.actions.drain(..)
    }

    /// Takes all bytes, as one piece.
    pub fn take_bytes(&mut self) -> Bytes {
        if self.chain.is_empty() {
            return self.tail.split().freeze();
        }
        let mut all = BytesMut::with_capacity(self.backlog_bytes());
        for piece in self.chain.drain(..) {
            all.put_slice(&piece);
        }
        self.chain_bytes = 0;
        all.put_slice(&self.tail);
        self.tail.clear();
        all.freeze()
    }

    /// Hands the first pieces to `write` as slices.
    pub(crate) fn slices<R>(&self, write: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let pieces = self
            .chain
            .iter()
            .map(|piece| &piece[..])
            .chain(std::iter::once(&self.tail[..]));
        let mut count = 0;
        for (slot, piece) in slices
            .iter_mut()
            .zip(pieces.filter(|piece| !piece.is_empty()))
        {
            *slot = IoSlice::new(piece);
            count += 1;
        }
        write(slices.get(..count).unwrap_or(&[]))
    }

    /// Forgets bytes that were written.
    pub(crate) fn written(&mut self, mut count: usize) {
        while let Some(first) = self.chain.front_mut() {
            let step = count.min(first.len());
            first.advance(step);
            self.chain_bytes -= step;
            count -= step;
            if !first.is_empty() {
                return;
            }
            self.chain.pop_front();
        }
        self.tail.advance(count.min(self.tail.len()));
        if self.tail.is_empty() {
            self.tail.clear();
        }
    }

    /// Gives back memory that an idle connection does not need.
    pub(crate) fn release(&mut self) {
        if self.backlog_bytes() == 0 {
            self.tail = BytesMut::new();
            self.chain = VecDeque::new();
        }
        if self.actions.is_empty() && self.actions.capacity() * size_of::<Action>() > KEEP_BYTES_MAX
        {
            self.actions = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests;
