//! Publishing later: `$delayed/seconds/topic`, as EMQX has it, or `$delayed/time/topic` with a Unix time in seconds.

use bytes::Bytes;

/// The prefix's first level.
pub(super) const PREFIX: &[u8] = b"$delayed";

/// A number this great is a time, and not how long to wait: 2001 and later, and more than thirty years.
const TIMES_FROM_S: i64 = 1_000_000_000;

/// What a topic below the prefix says: how long to wait, in milliseconds, and the topic to publish to. `None` if it can't
/// be made out.
pub(super) fn parse(topic: &Bytes, now_ms: i64) -> Option<(i64, Bytes)> {
    let rest = topic.strip_prefix(PREFIX)?.strip_prefix(b"/")?;
    let end = rest.iter().position(|&byte| byte == b'/')?;
    let (number, to) = (rest.get(..end)?, rest.get(end + 1..)?);
    if to.is_empty() || !number.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds: i64 = std::str::from_utf8(number).ok()?.parse().ok()?;
    let ms = seconds.checked_mul(1000)?;
    let wait_ms = if seconds < TIMES_FROM_S {
        ms
    } else {
        ms.saturating_sub(now_ms).max(0)
    };
    Some((wait_ms, topic.slice_ref(to)))
}

#[cfg(test)]
mod tests {
    use super::parse;
    use bytes::Bytes;

    #[test]
    fn a_number_of_seconds_or_a_time_and_a_topic() {
        let now_ms = 1_700_000_000_000;
        let parsed = |topic: &'static str| {
            parse(&Bytes::from_static(topic.as_bytes()), now_ms)
                .map(|(ms, topic)| (ms, String::from_utf8_lossy(&topic).into_owned()))
        };
        assert_eq!(parsed("$delayed/15/x/y"), Some((15_000, "x/y".to_owned())));
        assert_eq!(parsed("$delayed/0/x"), Some((0, "x".to_owned())));
        assert_eq!(
            parsed("$delayed/1700000060/x"),
            Some((60_000, "x".to_owned()))
        );
        assert_eq!(parsed("$delayed/1600000000/x"), Some((0, "x".to_owned())));
        for bad in [
            "$delayed/x",
            "$delayed/5",
            "$delayed/5/",
            "$delayed//x",
            "$delayed/-1/x",
            "$delayed/1.5/x",
            "$delayed/99999999999999999999/x",
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }
}
