//! How Kafka sees what the other protocols made.
//!
//! | elsewhere | Kafka |
//! |---|---|
//! | exchange, queue or first MQTT level `orders` with a log | topic `orders` |
//! | routing key `eu.created`, MQTT levels `eu/created` | record key `eu/created` |
//! | AMQP body, MQTT payload | record value, byte for byte; an empty one is empty, not null |
//! | content type, correlation id, reply-to, ... | record headers of those names |
//! | AMQP headers, MQTT user properties | record headers behind them |
//! | expiry | none: an expired record stays readable until its log lets it go |
//!
//! Such records are stored as record batches in Kafka's own format by those who wrote them, so
//! reading them needs nothing here. What is left is the spelling of names: Kafka's topics are of
//! `[A-Za-z0-9._-]`, at most 249 characters, and other protocols' names are any bytes. A byte that
//! Kafka does not allow is spelled `_xHH`; an underscore that would read as the beginning of such
//! a spelling is spelled `_x5F`. The two functions are each other's inverse.

/// The longest topic name that Kafka's clients accept.
const TOPIC_NAME_BYTES_MAX: usize = 249;

/// Why a topic's name cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidName {
    #[error("the topic name is empty")]
    Empty,
    #[error("a topic cannot be named '.' or '..'")]
    Dots,
    #[error("the topic name has more than {TOPIC_NAME_BYTES_MAX} characters")]
    TooLong,
    #[error("the topic name has characters other than ASCII letters, digits, '.', '_' and '-'")]
    Characters,
}

/// Kafka's spelling of a name; `None` if it has none that clients would take.
pub(crate) fn topic_name(name: &[u8]) -> Option<String> {
    let mut spelled = String::with_capacity(name.len());
    for (at, &byte) in name.iter().enumerate() {
        let escape = if byte == b'_' {
            escaped_byte(name.get(at..).unwrap_or_default()).is_some()
        } else {
            !is_legal(byte)
        };
        if escape {
            spelled.push_str(&format!("_x{byte:02X}"));
        } else {
            spelled.push(char::from(byte));
        }
    }
    check_topic_name(&spelled).is_ok().then_some(spelled)
}

/// The name that a Kafka topic's name spells.
pub(crate) fn name_of(topic: &str) -> Vec<u8> {
    let mut rest = topic.as_bytes();
    let mut name = Vec::with_capacity(rest.len());
    while let Some((&first, tail)) = rest.split_first() {
        if let Some(byte) = escaped_byte(rest) {
            name.push(byte);
            rest = rest.get(4..).unwrap_or_default();
        } else {
            name.push(first);
            rest = tail;
        }
    }
    name
}

/// May a client create a topic of this name?
pub(crate) fn check_topic_name(topic: &str) -> Result<(), InvalidName> {
    match topic {
        "" => Err(InvalidName::Empty),
        "." | ".." => Err(InvalidName::Dots),
        _ if topic.len() > TOPIC_NAME_BYTES_MAX => Err(InvalidName::TooLong),
        _ if !topic.bytes().all(is_legal) => Err(InvalidName::Characters),
        _ => Ok(()),
    }
}

fn is_legal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// The byte that the text's first four characters spell, if they spell one: an illegal byte, or
/// an underscore before what would otherwise spell one.
fn escaped_byte(text: &[u8]) -> Option<u8> {
    let [b'_', b'x', high, low, rest @ ..] = text else {
        return None;
    };
    let byte = hex(*high)? << 4 | hex(*low)?;
    if !is_legal(byte) {
        return Some(byte);
    }
    // `_x5F` and then `x2F`: an underscore that must not be taken for the start of `_x2F`.
    let mut behind = rest;
    let mut spelled = byte == b'_';
    while spelled {
        let [b'x', high, low, more @ ..] = behind else {
            return None;
        };
        let next = hex(*high)? << 4 | hex(*low)?;
        if !is_legal(next) {
            return Some(byte);
        }
        spelled = next == b'_';
        behind = more;
    }
    None
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_spelled_as_documented() {
        assert_eq!(topic_name(b"orders").as_deref(), Some("orders"));
        assert_eq!(topic_name(b"my queue").as_deref(), Some("my_x20queue"));
        assert_eq!(topic_name("é".as_bytes()).as_deref(), Some("_xC3_xA9"));
        assert_eq!(topic_name(b"foo_x2Fbar").as_deref(), Some("foo_x5Fx2Fbar"));
        assert_eq!(topic_name(b"foo_x41bar").as_deref(), Some("foo_x41bar"));
        assert_eq!(name_of("foo_x2Fbar"), b"foo/bar");
        assert_eq!(name_of("foo_x5Fx2Fbar"), b"foo_x2Fbar");
        assert_eq!(name_of("foo_x5Fbar"), b"foo_x5Fbar");
        assert_eq!(topic_name(b""), None);
        assert_eq!(topic_name(b".."), None);
        assert_eq!(topic_name(&[b'/'; 100]), None);
    }

    proptest! {
        #[test]
        fn every_name_comes_back(name in prop::collection::vec(
            prop_oneof![any::<u8>(), Just(b'_'), Just(b'x'), Just(b'5'), Just(b'F'), Just(b'2')],
            1..40,
        )) {
            if let Some(topic) = topic_name(&name) {
                prop_assert_eq!(name_of(&topic), name);
            }
        }

        #[test]
        fn every_topic_name_comes_back(topic in "[_x52FA/a.]{1,24}") {
            if check_topic_name(&topic).is_ok() {
                let name = name_of(&topic);
                prop_assert_eq!(topic_name(&name), Some(topic));
            }
        }
    }
}
