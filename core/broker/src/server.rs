//! The broker as a running thing: its shard's thread, the clients' mailboxes, the readers of cold records.

mod client;
mod cold;
mod intake;
mod mailbox;

pub use client::{Broker, Client};
pub(crate) use cold::ColdReads;
pub(crate) use intake::{Input, Intake};
pub(crate) use mailbox::{Mailbox, Parcel};
