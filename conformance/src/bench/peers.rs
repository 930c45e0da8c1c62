//! One peer per protocol and side: frames are prepared once, and a message is a copy with its time in it.

pub(super) mod amqp;
pub(super) mod kafka;
pub(super) mod mqtt;

use anyhow::Context as _;

/// A payload in which the first eight bytes give the time the message was due.
pub(super) fn payload(bytes: usize) -> Vec<u8> {
    let mut payload: Vec<u8> = (0..bytes.max(8)).map(|at| (at % 251) as u8).collect();
    payload[..8].fill(0);
    payload
}

/// The time a message was due, from its payload.
fn due_ns(payload: &[u8]) -> anyhow::Result<u64> {
    let head = payload
        .get(..8)
        .context("a message that is not of this load")?;
    Ok(u64::from_be_bytes(head.try_into()?))
}

#[cfg(test)]
mod tests;
