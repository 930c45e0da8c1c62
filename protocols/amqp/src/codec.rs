//! The wire format: frames, methods, tables, content headers.
//!
//! [`frame`] splits the stream, [`method`] decodes what clients send, [`write`](mod@write) encodes what we send,
//! [`properties`] reads content headers and [`table`] field tables. Nothing here knows a connection's state.

mod frame;
mod id;
mod method;
mod properties;
mod read;
mod table;
mod write;

#[cfg(test)]
mod tests;

pub use frame::{
    FRAME_END, FRAME_MIN_BYTES, FRAME_OVERHEAD_BYTES, Frame, FrameError, FrameKind,
    PROTOCOL_HEADER, split_frame,
};
pub use id::MethodId;
pub use method::{Method, MethodError};
pub use properties::{ContentHeader, Properties};
pub use read::{Malformed, Reader};
pub use table::{DEPTH_MAX, decode_table, encode_table};
pub use write::{Content, Writer};
