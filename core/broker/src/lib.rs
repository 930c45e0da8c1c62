//! The sequencer and the views over the journal: partitions, queues, links, routes, tables.
//!
//! Protocols use [`Broker`] and [`Client`] and the plain data of [`api`]; nothing else of this crate is theirs to see.
//! Everything above the broker is a serialisable [`Command`] or [`Event`] with a correlation number, so that a shard
//! may one day live in another process without a protocol noticing.

pub mod api;
#[doc(hidden)]
pub mod bench;
mod event;
mod leaves;
mod link;
mod mapping;
mod partitioner;
pub mod path;
pub mod route;
pub mod sequence_set;
mod server;
mod shard;
#[cfg(test)]
mod simulation;
mod state;
mod table;
mod tail;
pub mod template;

pub use api::*;
pub use mapping::{RuleError, check_rules};
pub use server::{Broker, CatchUpHandle, Client, Place, Running, StartError, give_way};
