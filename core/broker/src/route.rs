//! Matching paths against patterns, AMQP's and MQTT's in one trie over levels.

mod matcher;
mod pattern;

pub use matcher::Matcher;
pub use pattern::{Pattern, PatternError, Token, check_amqp_pattern, check_mqtt_filter};
