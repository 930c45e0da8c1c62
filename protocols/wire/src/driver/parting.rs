//! A connection's end: the session's last commands, last words to the peer, and a close that does not destroy them.

use super::{Driver, Hub, now};
use crate::{Close, ClosedBy, ConnectionError, Session};
use bytes::BytesMut;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use tokio::io::AsyncWrite;
use tokio::time::timeout;

/// Bytes that a lingering connection discards before it is dropped all the same.
const DISCARD_BYTES_MAX: usize = 16 << 20;

impl<S: Session, H: Hub> Driver<S, H> {
    /// Closes the connection.
    pub(super) async fn part(
        mut self: Box<Self>,
        ended: Result<ClosedBy, ConnectionError>,
    ) -> Result<(), ConnectionError> {
        let cause = match &ended {
            Ok(cause) => *cause,
            Err(ConnectionError::Io(_)) => ClosedBy::Peer,
            Err(_) => ClosedBy::Error,
        };
        // What the failing call had put into the outbox for the broker comes first.
        let carried = self.carry_out();
        self.session.on_closed(now(), cause, &mut self.wire.out);
        let carried = carried.and(self.carry_out());
        // The broker hears of the loss now, however long the peer takes over our last words.
        self.client = None;

        let stalled = matches!(ended, Err(ConnectionError::SlowPeer { .. }));
        if cause != ClosedBy::Peer && !stalled {
            let linger = match self.wire.out.closing() {
                Some(close) => close == Close::Linger,
                None => true,
            };
            // Best effort: a peer that does not take part in the farewell only loses it.
            _ = timeout(self.limits.linger_max, self.farewell(linger)).await;
        } else if cause == ClosedBy::Peer && ended.is_ok() {
            // The peer may have closed its half only; one attempt without waiting.
            poll_fn(|cx| {
                _ = self.wire.poll_write(cx);
                Poll::Ready(())
            })
            .await;
        }
        ended.and(carried)
    }

    async fn farewell(&mut self, linger: bool) -> io::Result<()> {
        let wire = &mut self.wire;
        poll_fn(|cx| wire.poll_write(cx)).await?;
        poll_fn(|cx| Pin::new(&mut wire.stream).poll_shutdown(cx)).await?;
        if !linger {
            return Ok(());
        }
        let mut discarded = 0;
        wire.input = BytesMut::new();
        while discarded < DISCARD_BYTES_MAX {
            let count = poll_fn(|cx| wire.poll_read(cx, 64 << 10)).await?;
            if count == 0 {
                break;
            }
            discarded += count;
            wire.input.clear();
        }
        Ok(())
    }
}
