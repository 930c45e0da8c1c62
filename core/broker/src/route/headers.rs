//! The matching of a headers exchange, as `rabbit_exchange_type_headers` does it.

use crate::api::{Table, Value};
use std::cmp::Ordering;

/// Can a binding be made with these arguments? `x-match` is one of those that [`headers_match`] knows.
///
/// # Errors
///
/// What is wrong, as RabbitMQ says it.
pub fn check_arguments(arguments: &Table) -> Result<(), String> {
    let given = arguments.iter().find(|(name, _)| name == "x-match");
    match given.map(|(_, value)| value.as_bytes()) {
        None => Ok(()),
        Some(None) => Err("Invalid x-match field type; expected longstr".to_owned()),
        Some(Some(mode)) => match &mode[..] {
            b"all" | b"any" | b"all-with-x" | b"any-with-x" => Ok(()),
            mode => Err(format!(
                "Invalid x-match field value <<\"{}\">>; expected all, any, all-with-x, or any-with-x",
                mode.escape_ascii()
            )),
        },
    }
}

/// Does a binding with these arguments take a message with these headers? Both are sorted by name, as
/// [`sorted`] does it; of headers of one name each is compared with one argument of that name.
///
/// `x-match` is `all` (if it is missing, too), `any`, `all-with-x` or `any-with-x`; without `-with-x`,
/// arguments whose names begin with `x-` are not compared. An argument without a value asks only whether the header is
/// there. Types are not compared: numbers are equal by value.
pub fn headers_match(arguments: &Table, headers: &Table) -> bool {
    let mode = arguments
        .iter()
        .find(|(name, _)| name == "x-match")
        .and_then(|(_, value)| value.as_bytes())
        .map_or(&b"all"[..], |mode| mode);
    let (any, with_x) = match mode {
        b"any" => (true, false),
        b"any-with-x" => (true, true),
        b"all-with-x" => (false, true),
        _ => (false, false),
    };
    let mut all_match = true;
    let mut left = headers.iter().peekable();
    for (name, asked) in arguments {
        let compared = if with_x {
            name != "x-match"
        } else {
            !name.starts_with(b"x-")
        };
        if !compared {
            continue;
        }
        while left.next_if(|(header, _)| header < name).is_some() {}
        let held = left
            .next_if(|(header, _)| header == name)
            .map(|(_, held)| held);
        let matches = held.is_some_and(|held| matches!(asked, Value::Void) || equal(asked, held));
        if any && matches {
            return true;
        }
        all_match &= matches;
    }
    !any && all_match
}

/// The table sorted by name; equal names stay in their order.
pub fn sorted(mut table: Table) -> Table {
    table.sort_by(|(a, _), (b, _)| a.cmp(b));
    table
}

/// Erlang's `==`: numbers by value whatever their type, everything else as it is.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Int(a) | Value::Timestamp(a), Value::Int(b) | Value::Timestamp(b)) => a == b,
        (Value::Int(a) | Value::Timestamp(a), Value::Float(b))
        | (Value::Float(b), Value::Int(a) | Value::Timestamp(a)) => same_number(*a, *b),
        (a, b) => a == b,
    }
}

/// Is the float exactly this integer?
fn same_number(integer: i64, float: f64) -> bool {
    // i64::MAX as a float is 2^63, which no i64 is.
    let within = float >= i64::MIN as f64 && float < i64::MAX as f64;
    within && float.fract() == 0.0 && (float as i64).cmp(&integer) == Ordering::Equal
}

#[cfg(test)]
mod tests {
    use super::{headers_match, sorted};
    use crate::api::{Table, Value};
    use bytes::Bytes;

    fn text(value: &'static str) -> Value {
        Value::Bytes(Bytes::from_static(value.as_bytes()))
    }

    fn table(fields: &[(&'static str, Value)]) -> Table {
        let fields = fields.iter();
        sorted(
            fields
                .map(|(name, value)| (Bytes::from_static(name.as_bytes()), value.clone()))
                .collect(),
        )
    }

    fn matches(arguments: &[(&'static str, Value)], headers: &[(&'static str, Value)]) -> bool {
        headers_match(&table(arguments), &table(headers))
    }

    #[test]
    fn all_and_any_ask_for_what_they_say() {
        let headers = [("a", text("1")), ("b", text("2")), ("x-c", text("3"))];
        let all = |fields: &[(&'static str, Value)]| matches(fields, &headers);
        assert!(all(&[]), "nothing is asked for");
        assert!(all(&[("a", text("1")), ("b", text("2"))]));
        assert!(!all(&[("a", text("1")), ("d", text("2"))]));
        assert!(all(&[
            ("x-match", text("any")),
            ("a", text("0")),
            ("b", text("2"))
        ]));
        assert!(!all(&[("x-match", text("any"))]), "nothing of nothing");
        assert!(!all(&[("x-match", text("any")), ("a", text("0"))]));
        assert!(all(&[("x-match", text("nonsense")), ("a", text("1"))]));
    }

    #[test]
    fn names_with_x_count_only_where_they_are_asked_for() {
        let headers = [("a", text("1")), ("x-c", text("3"))];
        let with =
            |mode, value| matches(&[("x-match", text(mode)), ("x-c", text(value))], &headers);
        assert!(with("all", "0"));
        assert!(!with("all-with-x", "0"));
        assert!(with("all-with-x", "3"));
        assert!(!with("any", "3"));
        assert!(with("any-with-x", "3"));
    }

    #[test]
    fn values_are_compared_and_types_are_not() {
        assert!(matches(
            &[("a", Value::Int(1))],
            &[("a", Value::Float(1.0))]
        ));
        assert!(!matches(
            &[("a", Value::Int(1))],
            &[("a", Value::Float(1.5))]
        ));
        assert!(matches(
            &[("a", Value::Int(1))],
            &[("a", Value::Timestamp(1))]
        ));
        assert!(!matches(&[("a", Value::Int(1))], &[("a", text("1"))]));
        assert!(!matches(
            &[("a", text("true"))],
            &[("a", Value::Bool(true))]
        ));
        assert!(matches(&[("a", Value::Void)], &[("a", text("whatever"))]));
        assert!(!matches(&[("a", Value::Void)], &[("b", text("whatever"))]));
        assert!(!matches(&[("a", text("1"))], &[("a", Value::Void)]));
    }

    #[test]
    fn of_several_headers_of_one_name_the_first_counts() {
        let headers = [("a", text("1")), ("a", text("2"))];
        assert!(matches(&[("a", text("1"))], &headers));
        assert!(!matches(&[("a", text("2"))], &headers));
        assert!(matches(&[("a", text("1")), ("a", text("2"))], &headers));
    }
}
