//! The trie against a naive matcher, and the specification's examples.

use super::Matcher;
use crate::route::{Pattern, Token};
use proptest::prelude::*;

fn naive(tokens: &[Token<&[u8]>], levels: &[&[u8]]) -> bool {
    match tokens.split_first() {
        None => levels.is_empty(),
        Some((Token::Any, rest)) => (0..=levels.len()).any(|skip| naive(rest, &levels[skip..])),
        Some((Token::One, rest)) => levels
            .split_first()
            .is_some_and(|(_, below)| naive(rest, below)),
        Some((Token::Literal(level), rest)) => levels
            .split_first()
            .is_some_and(|(first, below)| first == level && naive(rest, below)),
    }
}

fn matched(matcher: &Matcher<usize>, levels: &[&[u8]]) -> Vec<usize> {
    let mut found = Vec::new();
    assert!(matcher.matches(levels, false, &mut |target| found.push(*target)));
    found.sort_unstable();
    found
}

fn level() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("a"), Just("b"), Just(""), Just("$c")]
}

fn word() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("a"), Just("b"), Just("*"), Just("#")]
}

proptest! {
    #[test]
    fn amqp_patterns_match_as_specified(
        patterns in prop::collection::vec(prop::collection::vec(word(), 0..6), 0..12),
        removed in 0usize..4,
        path in prop::collection::vec(level(), 1..6),
    ) {
        let mut matcher = Matcher::default();
        let patterns: Vec<String> = patterns.iter().map(|words| words.join(".")).collect();
        let patterns: Vec<Pattern<&[u8]>> =
            patterns.iter().map(|pattern| Pattern::amqp(pattern.as_bytes()).unwrap()).collect();
        for (number, pattern) in patterns.iter().enumerate() {
            matcher.insert(pattern, number);
        }
        for (number, pattern) in patterns.iter().enumerate().take(removed) {
            prop_assert!(matcher.remove(pattern, number));
            prop_assert!(!matcher.remove(pattern, number));
        }
        let levels: Vec<&[u8]> = path.iter().map(|level| level.as_bytes()).collect();
        let expected: Vec<usize> = patterns
            .iter()
            .enumerate()
            .skip(removed)
            .filter(|(_, pattern)| naive(&pattern.tokens, &levels))
            .map(|(number, _)| number)
            .collect();
        prop_assert_eq!(matched(&matcher, &levels), expected);
    }
}

#[test]
fn mqtt_filters_match_as_specified() {
    // MQTT 4.7: filter, topic, does it match?
    let cases = [
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        (
            "sport/tennis/player1/#",
            "sport/tennis/player1/ranking",
            true,
        ),
        ("sport/#", "sport", true),
        ("#", "/finance", true),
        ("+", "/finance", false),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("#", "$SYS/monitor", false),
        ("+/monitor", "$SYS/monitor", false),
        ("$SYS/#", "$SYS/monitor", true),
        ("$SYS/monitor/+", "$SYS/monitor/clients", true),
        ("é/x", "é/x", true),
    ];
    for (filter, topic, expected) in cases {
        let mut matcher = Matcher::default();
        matcher.insert(&Pattern::mqtt(filter.as_bytes()).unwrap(), 1);
        let levels: Vec<&[u8]> = topic.as_bytes().split(|byte| *byte == b'/').collect();
        assert_eq!(
            matched(&matcher, &levels) == [1],
            expected,
            "{filter} against {topic}"
        );
    }
}

#[test]
fn misplaced_wildcards_are_refused() {
    for filter in ["sport+", "sport/tennis#", "sport/#/ranking", "", "a\0b"] {
        assert!(Pattern::mqtt(filter.as_bytes()).is_err(), "{filter:?}");
    }
}

#[test]
fn hostile_patterns_end_within_their_bound() {
    let mut matcher = Matcher::default();
    for number in 0..50 {
        let pattern = format!("#.a.#.b.#.c{number}.#.a.#.b.#");
        matcher.insert(&Pattern::amqp(pattern.as_bytes()).unwrap(), number);
    }
    let levels: Vec<&[u8]> = std::iter::repeat_n([&b"a"[..], b"b"], 60)
        .flatten()
        .collect();
    let mut found = 0;
    matcher.matches(&levels, false, &mut |_| found += 1);
    assert_eq!(found, 0);
}

#[test]
fn a_literal_root_asks_for_the_first_level_itself() {
    let mut matcher = Matcher::default();
    for (number, filter) in ["#", "+/x", "q/#", "q/x"].iter().enumerate() {
        matcher.insert(&Pattern::mqtt(filter.as_bytes()).unwrap(), number);
    }
    let mut found = Vec::new();
    matcher.matches(&[b"q", b"x"], true, &mut |target| found.push(*target));
    found.sort_unstable();
    assert_eq!(found, [2, 3]);
}
