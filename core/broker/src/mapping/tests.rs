//! Mapping rules: what they take, and what can't be one.

use super::{Mapping, Placed, Rule, has_kafka_name};
use crate::api::{MappingRule, Name};
use bytes::Bytes;
use proptest::prelude::*;

fn written(filter: &str, key: &str, partition_key: Option<&str>) -> MappingRule {
    MappingRule {
        filter: filter.to_owned(),
        topic: Name::from_static(b"temps"),
        key: key.to_owned(),
        partition_key: partition_key.map(str::to_owned),
        partitions: None,
    }
}

fn levels(path: &str) -> Vec<&[u8]> {
    path.split('/').map(str::as_bytes).collect()
}

#[test]
fn a_rule_says_key_and_partition_key() {
    let rule = Rule::new(&written("sensors/+/temp/#", "{1}/{rest}", Some("{1}"))).unwrap();
    let placed = |path: &str| rule.place(&levels(path));
    let is = |key: &'static str, by: &'static str| {
        Some(Placed {
            key: Some(Bytes::from_static(key.as_bytes())),
            partition_key: Some(Bytes::from_static(by.as_bytes())),
        })
    };
    assert_eq!(placed("sensors/k7/temp/in/left"), is("k7/in/left", "k7"));
    assert_eq!(placed("sensors/k7/temp"), is("k7", "k7"));
    assert_eq!(placed("sensors/k7/hum"), None);
    assert_eq!(rule.template.to_string(), "sensors/{1}/temp/{rest}");
    let turned = Rule::new(&written("a/+/b/+", "{2}/{1}", None)).unwrap();
    let key = turned.place(&levels("a/x/b/y")).unwrap().key;
    assert_eq!(key.unwrap(), "y/x");
    assert_eq!(turned.template.to_string(), "a/{2}/b/{1}");
}

#[test]
fn a_rule_without_an_inverse_is_refused_with_its_key() {
    let wrong = |filter: &str, key: &str, by: Option<&str>| {
        let error = Rule::new(&written(filter, key, by)).unwrap_err();
        format!("{}: {error}", error.key)
    };
    assert!(wrong("a/+/#", "{1}", None).starts_with("key: {rest} is missing"));
    assert!(wrong("a/+/+", "{1}/{1}", None).starts_with("key: {1} stands in it twice"));
    assert!(wrong("a/+", "{1}/{2}", None).starts_with("key: the filter has no wildcard for {2}"));
    assert!(wrong("a/+/#", "{rest}/{1}", None).starts_with("key: {rest} must be its last"));
    assert!(wrong("a/+", "x/{1}", None).starts_with("key: 'x' is no placeholder"));
    assert!(wrong("a/#/b", "{rest}", None).starts_with("filter: "));
    assert!(wrong("$SYS/#", "{rest}", None).starts_with("filter: "));
    assert!(wrong("a/+", "{1}", Some("{rest}")).starts_with("partition_key: the filter has no"));
}

#[test]
fn two_rules_for_one_topic_are_refused() {
    let rules = [
        written("a/#", "{rest}", None),
        written("b/#", "{rest}", None),
    ];
    let (number, error) = Mapping::new(&rules, &Name::new(), 1, "").unwrap_err();
    assert_eq!((number, error.key), (Some(1), "topic"));
    let (number, error) =
        Mapping::new(&rules[..1], &Name::from_static(b"temps"), 1, "").unwrap_err();
    assert_eq!((number, error.key), (None, "catch_all"));
}

#[test]
fn the_catch_all_keeps_whole_paths_and_a_devices_together() {
    let rule = Rule::catch_all(&Name::from_static(b"mqtt"), 4, "{1}/{2}").unwrap();
    let placed = |path: &str| rule.place(&levels(path)).unwrap();
    assert_eq!(placed("/a/b").key.unwrap(), "/a/b");
    assert_eq!(placed("/a/b").partition_key.unwrap(), "/a");
    assert_eq!(placed("dev").partition_key.unwrap(), "dev");
    assert_eq!(rule.place(&levels("$SYS/x")), None);
}

#[test]
fn names_that_kafka_cannot_have() {
    assert!(has_kafka_name(b"orders"));
    assert!(has_kafka_name(b"my queue"));
    assert!(!has_kafka_name(b""));
    assert!(!has_kafka_name(b".."));
    assert!(has_kafka_name(&[b'a'; 249]));
    assert!(!has_kafka_name(&[b'a'; 250]));
    assert!(!has_kafka_name("é".repeat(32).as_bytes()));
}

proptest! {
    #[test]
    fn a_path_comes_back_from_where_a_rule_puts_it(
        filter in prop::collection::vec(prop::sample::select(&["a", "b", "+"][..]), 1..5),
        rest in any::<bool>(),
        turn in any::<bool>(),
        path in "[ab/é%]{1,12}",
    ) {
        let wildcards = filter.iter().filter(|level| **level == "+").count();
        let mut key: Vec<String> = (1..=wildcards).map(|number| format!("{{{number}}}")).collect();
        if turn {
            key.reverse();
        }
        let mut filter = filter.join("/");
        if rest {
            filter.push_str("/#");
            key.push("{rest}".to_owned());
        }
        let rule = Rule::new(&written(&filter, &key.join("/"), None)).unwrap();
        let pattern = crate::route::Pattern::mqtt(filter.as_bytes()).unwrap().apart();
        let mut matcher = crate::route::Matcher::default();
        matcher.insert(&pattern, ());
        let mut matched = false;
        matcher.matches(&levels(&path), false, &mut |()| matched = true);
        let placed = rule.place(&levels(&path));
        prop_assert_eq!(placed.is_some(), matched);
        if let Some(placed) = placed {
            prop_assert_eq!(rule.template.path(placed.key.as_deref()), Some(Bytes::from(path)));
        }
    }
}
