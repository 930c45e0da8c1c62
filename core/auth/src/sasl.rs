//! SASL mechanisms as step functions (RFC 4422).

mod exchange;
mod plain;
pub mod scram;

pub use exchange::{Exchange, Mechanism, Step};
pub use plain::{PlainMessage, parse_plain};
