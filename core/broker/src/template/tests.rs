//! Templates and their inverses.

use super::{Level, PathTemplate};
use bytes::Bytes;
use proptest::prelude::*;

fn template(text: &str) -> PathTemplate {
    PathTemplate::parse(text).unwrap()
}

fn levels(path: &[u8]) -> Vec<&[u8]> {
    path.split(|byte| *byte == b'/').collect()
}

#[test]
fn a_template_says_the_path_of_a_key() {
    let path = |text: &str, key: Option<&str>| {
        let path = template(text).path(key.map(str::as_bytes))?;
        Some(String::from_utf8(path.to_vec()).unwrap())
    };
    let is = |text: &str| Some(text.to_owned());
    let rule = "sensors/{1}/temp/{rest}";
    assert_eq!(path(rule, Some("k7/in")), is("sensors/k7/temp/in"));
    assert_eq!(path(rule, Some("k7")), is("sensors/k7/temp"));
    assert_eq!(path(rule, Some("k7/")), is("sensors/k7/temp/"));
    assert_eq!(path(rule, None), None);
    assert_eq!(path("o/{rest}", None), is("o"));
    assert_eq!(path("o/{rest}", Some("")), is("o/"));
    assert_eq!(path("a/{2}/b/{1}", Some("x/y")), is("a/y/b/x"));
    assert_eq!(path("a/{2}/b/{1}", Some("x")), None);
    assert_eq!(path("a/{2}/b/{1}", Some("x/y/z")), None);
    assert_eq!(path("a/{rest}/z", Some("x/y")), is("a/x/y/z"));
    assert_eq!(path("{rest}", Some("/a")), is("/a"));
    // Nobody could publish there.
    assert_eq!(path("{rest}", None), None);
    assert_eq!(path("{rest}", Some("$SYS/x")), None);
    assert_eq!(path("{rest}", Some("a/+")), None);
    assert_eq!(path("alarms/fire", None), is("alarms/fire"));
}

#[test]
fn what_has_no_inverse_is_no_template() {
    let wrong = |text: &str| PathTemplate::parse(text).unwrap_err().to_string();
    assert!(wrong("").contains("empty"));
    assert!(wrong("a/{1}/{1}").contains("{1} stands in it twice"));
    assert!(wrong("a/{rest}/{rest}").contains("{rest} stands in it twice"));
    assert!(wrong("a/{2}").contains("{1} is missing"));
    assert!(wrong("a/{1}/{3}").contains("{2} is missing"));
    assert!(wrong("a/x{1}").contains("neither"));
    assert!(wrong("a/{0}").contains("neither"));
    assert!(wrong("a/+").contains("can't be a level"));
    assert!(wrong("$SYS/{rest}").contains("can't be a level"));
}

#[test]
fn a_topics_default_is_its_name_and_the_rest() {
    assert!(template("orders/{rest}").is_default(b"orders"));
    assert!(!template("orders/{rest}").is_default(b"order"));
    assert!(!template("orders/{1}").is_default(b"orders"));
}

fn any_template() -> impl Strategy<Value = PathTemplate> {
    let literals = prop::collection::vec("[a-c]{0,2}", 2..5);
    (literals, 0usize..4, any::<bool>(), any::<u64>()).prop_map(|(literals, keys, rest, seed)| {
        let mut levels: Vec<Level> = literals
            .into_iter()
            .map(|text| Level::Literal(Bytes::from(text)))
            .chain((0..keys).map(Level::Key))
            .chain(rest.then_some(Level::Rest))
            .collect();
        let count = levels.len();
        let mut seed = seed;
        for at in (1..count).rev() {
            levels.swap(at, usize::try_from(seed % (at as u64 + 1)).unwrap());
            seed = seed.rotate_left(7).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
        PathTemplate::new(levels).unwrap()
    })
}

proptest! {
    #[test]
    fn a_key_comes_back_from_its_path(template in any_template(), key in prop::option::of("[a-c/%é]{0,12}")) {
        let key = key.map(Bytes::from);
        if let Some(path) = template.path(key.as_deref()) {
            prop_assert_eq!(template.key(&levels(&path)), Some(key));
        }
    }

    #[test]
    fn a_path_comes_back_from_its_key(template in any_template(), path in "[a-c/%é]{1,16}") {
        if let Some(key) = template.key(&levels(path.as_bytes())) {
            prop_assert_eq!(template.path(key.as_deref()), Some(Bytes::from(path)));
        }
    }

    #[test]
    fn what_it_is_written_as_is_read_as_the_same(template in any_template()) {
        prop_assert_eq!(PathTemplate::parse(&template.to_string()), Ok(template));
    }
}
