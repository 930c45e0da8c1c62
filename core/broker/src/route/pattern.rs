//! Patterns, parsed into levels.

use bytes::Bytes;
use thiserror::Error;

/// Levels of a pattern, at the most. AMQP's 255 bytes hold 128; MQTT filters beyond it are refused.
const LEVELS_MAX: usize = 200;

/// One level of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Token {
    /// This level and no other.
    Literal(Bytes),
    /// Any one level: AMQP's `*`, MQTT's `+`.
    One,
    /// Any number of levels, none included: `#`.
    Any,
}

/// A parsed pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// Its levels.
    pub tokens: Vec<Token>,
    /// MQTT: a wildcard in the first level does not match one that starts with `$` (4.7.2-1).
    pub hides_dollar: bool,
}

/// What is wrong with a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PatternError {
    /// More levels than are matched.
    #[error("more than 200 levels")]
    TooDeep,
    /// A wildcard beside other characters, or `#` before the end (MQTT 4.7.1).
    #[error("a wildcard that is not a level of its own, or `#` before the end")]
    Misplaced,
    /// Nothing, or a NUL character (MQTT 4.7.3).
    #[error("empty, or with a NUL character")]
    Empty,
}

impl Pattern {
    /// An AMQP topic pattern: words divided by dots.
    pub fn amqp(pattern: &[u8]) -> Result<Self, PatternError> {
        let words: Vec<&[u8]> = if pattern.is_empty() {
            Vec::new()
        } else {
            pattern.split(|byte| *byte == b'.').collect()
        };
        if words.len() > LEVELS_MAX {
            return Err(PatternError::TooDeep);
        }
        let mut tokens: Vec<Token> = Vec::with_capacity(words.len());
        for word in words {
            match word {
                b"*" => tokens.push(Token::One),
                // `#.#` matches what `#` does.
                b"#" if tokens.last() == Some(&Token::Any) => {}
                b"#" => tokens.push(Token::Any),
                word => tokens.push(Token::Literal(Bytes::copy_from_slice(word))),
            }
        }
        Ok(Self {
            tokens,
            hides_dollar: false,
        })
    }

    /// An MQTT topic filter, without a `$share` prefix.
    pub fn mqtt(filter: &[u8]) -> Result<Self, PatternError> {
        if filter.is_empty() || filter.contains(&0) {
            return Err(PatternError::Empty);
        }
        let mut tokens = Vec::new();
        for level in filter.split(|byte| *byte == b'/') {
            if tokens.last() == Some(&Token::Any) {
                return Err(PatternError::Misplaced);
            }
            tokens.push(match level {
                b"+" => Token::One,
                b"#" => Token::Any,
                level if level.iter().any(|byte| matches!(byte, b'+' | b'#')) => {
                    return Err(PatternError::Misplaced);
                }
                level => Token::Literal(Bytes::copy_from_slice(level)),
            });
            if tokens.len() > LEVELS_MAX {
                return Err(PatternError::TooDeep);
            }
        }
        Ok(Self {
            tokens,
            hides_dollar: true,
        })
    }
}

/// Is it an AMQP pattern that can be matched?
pub fn check_amqp_pattern(pattern: &[u8]) -> Result<(), PatternError> {
    Pattern::amqp(pattern).map(|_| ())
}

/// Is it a valid MQTT filter that can be matched?
pub fn check_mqtt_filter(filter: &[u8]) -> Result<(), PatternError> {
    Pattern::mqtt(filter).map(|_| ())
}
