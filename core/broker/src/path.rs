//! Paths across protocols: levels, and how each protocol spells them.
//!
//! A path is matched as a list of levels, never as a rewritten string. Where one protocol's levels are spelled in
//! another's separators, a separator that stands inside a level is written `%HH`, and so is a `%` that would read as
//! the start of such a spelling: the spelling can be undone, and different paths never meet.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};

/// What a Kafka key that no MQTT topic can have is spelled behind, in base64.
pub const BASE64_KEY: &[u8] = b"~b64";

/// The longest topic that an MQTT client may publish to, and that a retained message is kept under; bytes.
pub const MQTT_TOPIC_BYTES_MAX: usize = 4096;

/// The most levels of one.
pub const MQTT_LEVELS_MAX: usize = 128;

/// Levels as an AMQP routing key: words divided by dots.
pub fn amqp_key<'a>(levels: impl IntoIterator<Item = &'a [u8]>) -> Bytes {
    join(levels, b'.')
}

/// Levels as a Kafka key or the rest of an MQTT topic: divided by slashes.
pub fn slashed<'a>(levels: impl IntoIterator<Item = &'a [u8]>) -> Bytes {
    join(levels, b'/')
}

/// A routing key's words; the empty key has none.
pub fn words(key: &[u8]) -> Vec<&[u8]> {
    if key.is_empty() {
        Vec::new()
    } else {
        key.split(|byte| *byte == b'.').collect()
    }
}

/// The Kafka key of an AMQP routing key: its words divided by slashes; none for the empty key.
pub fn kafka_key(routing_key: &[u8]) -> Option<Bytes> {
    let words = words(routing_key);
    (!words.is_empty()).then(|| slashed(words))
}

fn join<'a>(levels: impl IntoIterator<Item = &'a [u8]>, separator: u8) -> Bytes {
    let mut out = BytesMut::new();
    for (number, level) in levels.into_iter().enumerate() {
        if number > 0 {
            out.put_u8(separator);
        }
        put_level(&mut out, level, |byte| byte == separator);
    }
    out.freeze()
}

/// Appends a level, spelling the bytes that `forbidden` names and a `%` that would read as a spelling.
pub fn put_level(out: &mut BytesMut, level: &[u8], forbidden: impl Fn(u8) -> bool) {
    for (at, byte) in level.iter().enumerate() {
        let reads_as_spelling = *byte == b'%'
            && level
                .get(at + 1..at + 3)
                .is_some_and(|next| next.iter().all(u8::is_ascii_hexdigit));
        if reads_as_spelling || forbidden(*byte) {
            put_spelled(out, *byte);
        } else {
            out.put_u8(*byte);
        }
    }
}

/// The same for a side whose levels are text: what is no UTF-8 is spelled, too.
pub fn put_text_level(out: &mut BytesMut, level: &[u8], forbidden: impl Fn(u8) -> bool) {
    for chunk in level.utf8_chunks() {
        put_level(out, chunk.valid().as_bytes(), &forbidden);
        chunk
            .invalid()
            .iter()
            .for_each(|byte| put_spelled(out, *byte));
    }
}

/// Appends the first level of an MQTT topic: it must not start with `$`, which is the server's.
pub fn put_first_level(topic: &mut BytesMut, level: &[u8]) {
    let rest = match level.split_first() {
        Some((b'$', rest)) => {
            topic.put_slice(b"%24");
            rest
        }
        _ => level,
    };
    put_text_level(topic, rest, |byte| b"+#\0/".contains(&byte));
}

/// Can a Kafka key stand in an MQTT topic as it is, and be taken for nothing else?
pub fn is_plain_key(key: &[u8]) -> bool {
    !key.starts_with(BASE64_KEY)
        && !key.iter().any(|byte| b"+#\0".contains(byte))
        && std::str::from_utf8(key).is_ok()
}

/// The MQTT topic of a Kafka record under the default path template: the topic's name, and its key behind it.
pub fn mqtt_topic(name: &[u8], key: Option<&[u8]>) -> Bytes {
    let mut topic = BytesMut::with_capacity(name.len() + 1 + key.map_or(0, <[u8]>::len));
    put_first_level(&mut topic, name);
    if let Some(key) = key {
        topic.put_u8(b'/');
        if is_plain_key(key) {
            topic.put_slice(key);
        } else {
            topic.put_slice(BASE64_KEY);
            topic.put_slice(URL_SAFE_NO_PAD.encode(key).as_bytes());
        }
    }
    topic.freeze()
}

fn put_spelled(out: &mut BytesMut, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.put_u8(b'%');
    out.extend(DIGITS.get(usize::from(byte >> 4)));
    out.extend(DIGITS.get(usize::from(byte & 15)));
}

/// The queue that an MQTT filter names: `$queue/q`.
pub fn queue_of_filter(filter: &[u8]) -> Option<&[u8]> {
    filter
        .strip_prefix(b"$queue/")
        .filter(|name| !name.is_empty())
}

/// The queue that a Kafka share group's name stands for: `queue:q`. Other groups have no queue.
pub fn queue_of_group(group: &[u8]) -> Option<&[u8]> {
    group
        .strip_prefix(b"queue:")
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{amqp_key, kafka_key, slashed, words};
    use proptest::prelude::*;

    #[test]
    fn separators_inside_levels_are_spelled() {
        assert_eq!(amqp_key([&b"spBv1.0"[..], b"g"]), "spBv1%2E0.g");
        assert_eq!(slashed([&b"a/b"[..], b"c"]), "a%2Fb/c");
        assert_eq!(slashed([&b"a%2Fb"[..], b"100%"]), "a%252Fb/100%");
        assert_eq!(kafka_key(b"eu.created").unwrap(), "eu/created");
        assert_eq!(kafka_key(b""), None);
        assert_eq!(words(b"."), [&b""[..], b""]);
    }

    fn level() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(&b"a%./2FE"[..]), 0..6)
    }

    proptest! {
        #[test]
        fn different_paths_are_spelled_differently(
            a in prop::collection::vec(level(), 1..4),
            b in prop::collection::vec(level(), 1..4),
        ) {
            let spell = |path: &[Vec<u8>]| slashed(path.iter().map(|level| &level[..]));
            prop_assert_eq!(spell(&a) == spell(&b), a == b);
        }
    }
}
