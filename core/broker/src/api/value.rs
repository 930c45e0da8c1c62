//! Typed values of headers and arguments, neutral between protocols.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A header's or an argument's value. AMQP tables map onto it without loss of meaning; other protocols' are `Bytes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// No value.
    Void,
    /// A truth value.
    Bool(bool),
    /// Any integer width.
    Int(i64),
    /// Any floating width.
    Float(f64),
    /// A decimal: scale and unscaled value.
    Decimal(u8, i64),
    /// Seconds since the epoch.
    Timestamp(i64),
    /// Text or bytes; protocols that have only one of them use this.
    Bytes(Bytes),
    /// A nested table, in order.
    Table(Table),
    /// A nested list.
    List(Vec<Self>),
}

/// Named values in their order; names may repeat.
pub type Table = Vec<(Bytes, Value)>;

impl Value {
    /// The integer, where the value is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The bytes, where the value is text or bytes.
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Bytes(value) => Some(value),
            _ => None,
        }
    }

    /// The truth value, where it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }
}
