//! Patterns, parsed into levels.

use bytes::Bytes;
use smallvec::SmallVec;
use thiserror::Error;

/// Levels of a pattern, at the most. AMQP's 255 bytes hold 128; MQTT filters beyond it are refused.
const LEVELS_MAX: usize = 200;

/// One level of a pattern; `L`: how a level is held.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Token<L = Bytes> {
    /// This level and no other.
    Literal(L),
    /// Any one level: AMQP's `*`, MQTT's `+`.
    One,
    /// Any number of levels, none included: `#`.
    Any,
}

/// A parsed pattern: its levels lie in what was parsed, or are its own ([`Pattern::apart`]).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern<L = Bytes> {
    /// Its levels.
    pub tokens: SmallVec<[Token<L>; 8]>,
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

impl<'a> Pattern<&'a [u8]> {
    /// An AMQP topic pattern: words divided by dots.
    pub fn amqp(pattern: &'a [u8]) -> Result<Self, PatternError> {
        let mut tokens = SmallVec::new();
        let words = pattern.split(|byte| *byte == b'.');
        for (at, word) in words.filter(|_| !pattern.is_empty()).enumerate() {
            if at == LEVELS_MAX {
                return Err(PatternError::TooDeep);
            }
            match word {
                b"*" => tokens.push(Token::One),
                // `#.#` matches what `#` does.
                b"#" if tokens.last() == Some(&Token::Any) => {}
                b"#" => tokens.push(Token::Any),
                word => tokens.push(Token::Literal(word)),
            }
        }
        Ok(Self {
            tokens,
            hides_dollar: false,
        })
    }

    /// An MQTT topic filter, without a `$share` prefix.
    pub fn mqtt(filter: &'a [u8]) -> Result<Self, PatternError> {
        if filter.is_empty() || filter.contains(&0) {
            return Err(PatternError::Empty);
        }
        let mut tokens = SmallVec::new();
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
                level => Token::Literal(level),
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

impl Pattern<&[u8]> {
    /// The same with levels of its own.
    pub fn apart(&self) -> Pattern {
        let tokens = self.tokens.iter().map(|token| match token {
            Token::Literal(level) => Token::Literal(Bytes::copy_from_slice(level)),
            Token::One => Token::One,
            Token::Any => Token::Any,
        });
        Pattern {
            tokens: tokens.collect(),
            hides_dollar: self.hides_dollar,
        }
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
