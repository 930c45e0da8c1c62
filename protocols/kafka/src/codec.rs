//! Bytes to requests and replies to bytes: framing, headers, the version table, a structural
//! check of every request before it is decoded, and the hot paths (Produce, Fetch) without copies.
//!
//! A request's way in: [`next_frame`] cuts the stream into frames, [`RequestHeader`]
//! reads key, version and correlation id, [`check`] walks the body by its schema (so that no
//! count on the wire can make a decoder allocate more than the frame pays for), and only then is
//! the body decoded, by [`ProduceRequest::decode`] or by `kafka-protocol`.

pub mod error;
pub mod fetch;
pub mod frame;
pub mod header;
#[cfg(test)]
pub(crate) mod maker;
pub mod produce;
pub mod read;
pub mod reply;
pub mod schema;
pub mod version;
pub mod walk;
pub mod write;

pub use error::CodecError;
pub use fetch::{FetchReply, FetchReplyPartition, FetchReplyTopic};
pub use frame::next_frame;
pub use header::RequestHeader;
pub use produce::{
    ProducePartition, ProduceReply, ProduceReplyPartition, ProduceReplyTopic, ProduceRequest,
    ProduceTopic,
};
pub use reply::Reply;
pub use version::{Api, VersionRange};
pub use walk::check;
