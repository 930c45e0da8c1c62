//! The Kafka protocol.

pub mod codec;
