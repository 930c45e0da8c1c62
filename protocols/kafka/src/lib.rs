//! The Kafka protocol, as clients from Apache Kafka 2.1 on speak it.
//!
//! A request's way: the driver of `omnilog-wire` hands bytes to the session, which cuts
//! them into frames ([`codec`]), gives each request a slot, and lets its api begin: it
//! asks the broker or the coordinator of a [`group`]. The answers come back to the api, which
//! writes its response; responses leave in the order of the requests.

mod api;
pub mod codec;
mod config;
pub mod group;
mod mapping;
mod protocol;
mod rescue;
mod session;
mod topic_ids;

pub use config::KafkaConfig;
pub use protocol::KafkaProtocol;
pub use session::Signal;
