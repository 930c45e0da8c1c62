//! The gateway under test: started, watched, stopped, or another broker in its place.

mod gateway;
mod oracle;
mod proc_stat;
mod small_disk;
mod target;

pub(crate) use gateway::{Gateway, GatewayOptions, Launcher};
pub(crate) use oracle::{Oracle, OracleKind};
pub(crate) use proc_stat::{Seen, Watch};
pub(crate) use small_disk::SmallDisk;
pub(crate) use target::Target;
