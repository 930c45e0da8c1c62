//! AMQP 0-9-1 as RabbitMQ speaks it.
//!
//! A frame's way through: [`codec`] splits and decodes it; [`connection`] brings a connection up and hands each frame
//! to its [`channel`]; [`class`] has one file for each class of methods; [`gather`] makes batches of publishes;
//! [`mapping`] turns messages into records and records into messages; [`rescue`] turns what went wrong into reply codes.
//! Who gets a message, and what is in a queue, is the broker's to decide and to remember.

mod channel;
mod class;
pub mod codec;
mod config;
mod connection;
mod gather;
mod mapping;
mod protocol;
mod rescue;

pub use config::AmqpConfig;
pub use protocol::{AmqpProtocol, Clock};
