//! Matching paths against patterns, AMQP's and MQTT's in one trie over levels, and headers against a binding's.

mod headers;
mod matcher;
mod pattern;
mod targets;

pub use headers::{check_arguments, headers_match, sorted};
pub use matcher::Matcher;
pub use pattern::{Pattern, PatternError, Token, check_amqp_pattern, check_mqtt_filter};
pub(crate) use targets::Targets;
