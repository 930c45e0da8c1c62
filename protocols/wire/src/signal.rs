//! A protocol's own asynchronous events on their way to a session.

use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// A channel of signals for one session.
///
/// It has no bound of its own: every signal answers something that its session asked for, and sessions bound what they
/// have asked for.
pub fn signals<T>() -> (SignalSender<T>, SignalReceiver<T>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (
        SignalSender(sender),
        SignalReceiver {
            receiver,
            open: true,
        },
    )
}

/// Where signals for a session are put. Cheap to clone.
#[derive(Debug)]
pub struct SignalSender<T>(mpsc::UnboundedSender<T>);

impl<T> Clone for SignalSender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> SignalSender<T> {
    /// Sends a signal; says whether the session is still there to get it.
    pub fn send(&self, signal: T) -> bool {
        self.0.send(signal).is_ok()
    }
}

/// The driver's end.
#[derive(Debug)]
pub struct SignalReceiver<T> {
    receiver: mpsc::UnboundedReceiver<T>,
    open: bool,
}

impl<T> SignalReceiver<T> {
    /// The next signal. Never ready again once all senders are gone.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        if !self.open {
            return Poll::Pending;
        }
        match self.receiver.poll_recv(cx) {
            Poll::Ready(Some(signal)) => Poll::Ready(signal),
            Poll::Ready(None) => {
                self.open = false;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// A signal that is already there, for tests that play the driver.
    pub fn try_recv(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}
