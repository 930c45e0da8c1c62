//! A connection that never blocks: what came and is not yet taken, what waits to be sent.

use anyhow::ensure;
use rustix::event::epoll::{self, EventData, EventFlags};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;

/// With so much waiting to be sent, nothing is added.
const OUT_BYTES_MAX: usize = 1 << 18;
const READ_BYTES: usize = 1 << 16;

#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    input: Vec<u8>,
    taken: usize,
    filled: usize,
    pub(super) out: Vec<u8>,
    sent: usize,
    is_blocked: bool,
}

impl Wire {
    /// Takes over a connection with what was already read from it.
    pub(super) fn new(stream: TcpStream, read_ahead: &[u8]) -> anyhow::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            filled: read_ahead.len(),
            input: read_ahead.to_vec(),
            taken: 0,
            out: Vec::new(),
            sent: 0,
            is_blocked: false,
        })
    }

    pub(super) fn register(&self, epoll: &OwnedFd, number: u64) -> anyhow::Result<()> {
        let data = EventData::new_u64(number);
        Ok(epoll::add(epoll, &self.stream, data, EventFlags::IN)?)
    }

    pub(super) fn has_room(&self) -> bool {
        self.out.len() - self.sent < OUT_BYTES_MAX
    }

    pub(super) fn take(&mut self, bytes: usize) {
        self.taken += bytes;
        if self.taken == self.filled {
            (self.taken, self.filled) = (0, 0);
        }
    }

    /// Both halves at once: what came, and where answers go.
    pub(super) fn halves(&mut self) -> (&[u8], &mut Vec<u8>) {
        (&self.input[self.taken..self.filled], &mut self.out)
    }

    /// Reads once; false when nothing is there.
    pub(super) fn read(&mut self) -> anyhow::Result<bool> {
        if self.taken > 0 {
            self.input.copy_within(self.taken..self.filled, 0);
            self.filled -= self.taken;
            self.taken = 0;
        }
        if self.input.len() < self.filled + READ_BYTES {
            let size = (self.input.len() * 2).max(self.filled + READ_BYTES);
            self.input.resize(size, 0);
        }
        match self.stream.read(&mut self.input[self.filled..]) {
            Ok(count) => {
                ensure!(count > 0, "the server closed the connection");
                self.filled += count;
                Ok(true)
            }
            Err(error) if is_moment(error.kind()) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what waits, as far as the socket takes it.
    pub(super) fn write(&mut self, epoll: &OwnedFd, number: u64) -> anyhow::Result<()> {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let is_blocked = self.sent < self.out.len();
        if is_blocked {
            // What is sent makes room only now and then: moving bytes costs more than keeping them.
            if self.sent >= OUT_BYTES_MAX {
                self.out.drain(..self.sent);
                self.sent = 0;
            }
        } else {
            self.out.clear();
            self.sent = 0;
        }
        if is_blocked != self.is_blocked {
            self.is_blocked = is_blocked;
            let flags = if is_blocked {
                EventFlags::IN | EventFlags::OUT
            } else {
                EventFlags::IN
            };
            epoll::modify(epoll, &self.stream, EventData::new_u64(number), flags)?;
        }
        Ok(())
    }
}

fn is_moment(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
