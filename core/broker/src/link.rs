//! Links: how queues read what Kafka clients wrote.

/// What a link's reader found.
#[derive(Debug)]
pub(crate) struct Pulled;
