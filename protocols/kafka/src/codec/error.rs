//! What can be wrong with bytes that claim to be a Kafka request.

/// A request that cannot be read. The connection is closed, as Apache Kafka does: there is no
/// reply to bytes whose correlation id or layout cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The frame's length prefix is negative.
    #[error("frame length {0} is negative")]
    NegativeFrame(i32),
    /// The frame's length prefix is above the connection's limit.
    #[error("frame of {size} bytes is above the limit of {limit}")]
    FrameTooLarge {
        /// What the client announced, in bytes.
        size: usize,
        /// What this connection accepts at the moment, in bytes.
        limit: usize,
    },
    /// A field reaches beyond the end of its frame.
    #[error("request ends inside a field")]
    Truncated,
    /// A length or count is negative where null is not allowed.
    #[error("negative length {0}")]
    NegativeLength(i64),
    /// A variable-length integer has more bytes than its type can hold.
    #[error("variable-length integer is too long")]
    VarintTooLong,
    /// The request holds more array elements than a request may.
    #[error("request holds more than {0} elements")]
    TooManyElements(usize),
    /// A tagged field's content has not the size that its prefix announces.
    #[error("tagged field {0} has a wrong size")]
    TagSize(u32),
    /// A string is not UTF-8.
    #[error("string is not UTF-8")]
    Utf8,
    /// The api key is not served here.
    #[error("api key {0} is not served")]
    UnknownApi(i16),
    /// The version of the api is not served here.
    #[error("version {version} of api key {key} is not served")]
    UnsupportedVersion {
        /// The request's api key.
        key: i16,
        /// The request's version.
        version: i16,
    },
    /// The body has the right shape but a value that its decoder refuses.
    #[error("request body of api key {0} is malformed")]
    Malformed(i16),
}
