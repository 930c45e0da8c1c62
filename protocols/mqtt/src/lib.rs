//! MQTT 3.1, 3.1.1 and 5.
//!
//! A packet's way through: [`codec`] parses it; [`session`] holds a connection's state, one file for each direction and
//! phase; [`mapping`] turns publishes into records and records into publishes; [`rescue`] turns what went wrong into
//! MQTT's codes. Who gets a message, what is retained, and which packet ids of QoS 2 are in flight is the broker's to
//! decide and to remember.

pub mod codec;
mod config;
mod gather;
mod mapping;
mod protocol;
mod rescue;
mod session;

pub use config::MqttConfig;
pub use protocol::{Clock, MqttProtocol};
