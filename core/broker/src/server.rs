//! The broker as a running thing: its shard's thread, the clients' mailboxes, the readers of cold records.

mod apart;
mod background;
mod budget;
mod catch_up;
mod client;
mod cold;
mod compacted;
mod intake;
mod mailbox;
mod sequencer;
mod start;
mod taken;

pub use background::give_way;
pub use catch_up::{CatchUpHandle, Place};
pub use client::{Broker, Client};
pub(crate) use cold::ColdReads;
#[cfg(test)]
pub(crate) use cold::read;
pub(crate) use cold::read_message;
pub(crate) use compacted::Compacted;
pub(crate) use intake::{Input, Intake};
pub(crate) use mailbox::{
    ColdBatch, ColdFetched, ColdOffset, ColdRecord, ColdSession, Mailbox, Parcel, Reached,
};
pub use start::{Running, StartError};
pub(crate) use taken::Taken;
