//! Mapping rules: which log keeps what is published to a path, and under which key.

use crate::api::{BrokerConfig, MappingRule, Name};
use crate::route::{Pattern, Token};
use crate::template::{Level, PathTemplate};
use bytes::{BufMut, Bytes, BytesMut};
use std::sync::Arc;
use thiserror::Error;

/// The longest topic name that Kafka's clients accept.
const KAFKA_NAME_BYTES_MAX: usize = 249;

/// What is wrong with a rule, and with which of its keys.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct RuleError {
    /// `filter`, `topic`, `key` or `partition_key`.
    pub key: &'static str,
    /// What is wrong with it.
    pub message: String,
}

/// A level of a partition key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// What the n-th `+` matched, from 0; of a whole path the n-th level.
    Matched(usize),
    Rest,
}

/// Where records of paths that a filter matches are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pattern: Pattern,
    pub(crate) topic: Name,
    pub(crate) template: Arc<PathTemplate>,
    partition_key: Option<Vec<Part>>,
    pub(crate) partitions: Option<u32>,
}

/// The key under which a record is stored, and by what its partition is chosen if not by that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) key: Option<Bytes>,
    pub(crate) partition_key: Option<Bytes>,
}

/// All rules, in order, and what is caught at last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) rules: Vec<Rule>,
    pub(crate) catch_all: Option<Rule>,
}

impl Rule {
    /// Reads a rule; says which of its keys is wrong.
    pub(crate) fn new(rule: &MappingRule) -> Result<Self, RuleError> {
        let wrong = |key: &'static str, message: String| RuleError { key, message };
        let pattern = Pattern::mqtt(rule.filter.as_bytes())
            .map_err(|error| wrong("filter", error.to_string()))?
            .apart();
        if rule.filter.starts_with('$') {
            let message = "what begins with '$' is the server's and has no log".to_owned();
            return Err(wrong("filter", message));
        }
        if rule.filter.contains(['{', '}']) {
            let message = "braces can't be told from placeholders in the topic's path template";
            return Err(wrong("filter", message.to_owned()));
        }
        check_log_name(&rule.topic).map_err(|message| wrong("topic", message))?;
        let wildcards = pattern
            .tokens
            .iter()
            .filter(|token| **token == Token::One)
            .count();
        let rest = pattern.tokens.last() == Some(&Token::Any);
        let key = parts(&rule.key).map_err(|message| wrong("key", message))?;
        for (at, part) in key.iter().enumerate() {
            if key.iter().take(at).any(|before| before == part) {
                let message = format!("{} stands in it twice", spelled(part));
                return Err(wrong("key", message));
            }
            let there = match part {
                Part::Matched(number) => *number < wildcards,
                Part::Rest => rest,
            };
            if !there {
                let message = format!("the filter has no wildcard for {}", spelled(part));
                return Err(wrong("key", message));
            }
            if *part == Part::Rest && at + 1 < key.len() {
                let message = "{rest} must be its last level: no path could be had from the key";
                return Err(wrong("key", message.to_owned()));
            }
        }
        let all = (0..wildcards)
            .map(Part::Matched)
            .chain(rest.then_some(Part::Rest));
        for part in all {
            if !key.contains(&part) {
                let message = format!(
                    "{} is missing: no path could be had from the key",
                    spelled(&part)
                );
                return Err(wrong("key", message));
            }
        }
        let mut matched = 0;
        let levels = pattern.tokens.iter().map(|token| match token {
            Token::Literal(text) => Level::Literal(text.clone()),
            Token::One => {
                let part = Part::Matched(matched);
                matched += 1;
                Level::Key(key.iter().position(|known| *known == part).unwrap_or(0))
            }
            Token::Any => Level::Rest,
        });
        let template = PathTemplate::new(levels.collect())
            .map_err(|error| wrong("filter", error.to_string()))?;
        let partition_key = rule
            .partition_key
            .as_ref()
            .map(|text| {
                let of = parts(text)?;
                let absent = of.iter().find(|part| match part {
                    Part::Matched(number) => *number >= wildcards,
                    Part::Rest => !rest,
                });
                match absent {
                    Some(part) => Err(format!("the filter has no wildcard for {}", spelled(part))),
                    None => Ok(of),
                }
            })
            .transpose()
            .map_err(|message| wrong("partition_key", message))?;
        Ok(Self {
            pattern,
            topic: rule.topic.clone(),
            template: Arc::new(template),
            partition_key,
            partitions: rule.partitions,
        })
    }

    /// The topic for all that no rule and no name of its own takes: a key is the whole path.
    pub(crate) fn catch_all(topic: &Name, partitions: u32, key: &str) -> Result<Self, RuleError> {
        check_log_name(topic).map_err(|message| RuleError {
            key: "catch_all",
            message,
        })?;
        let partition_key = Self::catch_all_partition_key(key)?;
        Ok(Self {
            pattern: Pattern {
                tokens: smallvec::smallvec![Token::Any],
                hides_dollar: true,
            },
            topic: topic.clone(),
            template: Arc::new(PathTemplate::whole()),
            partition_key,
            partitions: Some(partitions),
        })
    }

    /// What the catch-all topic's partitions are chosen by; none: the key.
    fn catch_all_partition_key(text: &str) -> Result<Option<Vec<Part>>, RuleError> {
        if text.is_empty() {
            return Ok(None);
        }
        parts(text).map(Some).map_err(|message| RuleError {
            key: "catch_all_partition_key",
            message,
        })
    }

    /// The key of a path that it takes.
    pub(crate) fn place(&self, path: &[&[u8]]) -> Option<Placed> {
        let hidden = self.pattern.hides_dollar
            && !matches!(self.pattern.tokens.first(), Some(Token::Literal(_)))
            && path.first().is_some_and(|head| head.starts_with(b"$"));
        if hidden {
            return None;
        }
        let key = self.template.key(path)?;
        let partition_key = self
            .partition_key
            .as_ref()
            .map(|parts| self.partition_key(parts, path));
        Some(Placed { key, partition_key })
    }

    /// Levels that aren't there are left out.
    fn partition_key(&self, parts: &[Part], path: &[&[u8]]) -> Bytes {
        let whole = self.pattern.tokens[..] == [Token::Any];
        let matched: Vec<&[u8]> = match whole {
            true => path.to_vec(),
            false => self
                .pattern
                .tokens
                .iter()
                .zip(path)
                .filter(|(token, _)| **token == Token::One)
                .map(|(_, level)| *level)
                .collect(),
        };
        let behind = match whole {
            true => parts.iter().filter(|part| **part != Part::Rest).count(),
            false => self.pattern.tokens.len() - 1,
        };
        let mut key = BytesMut::new();
        let mut first = true;
        for part in parts {
            let levels: &[&[u8]] = match part {
                Part::Matched(number) => matched.get(*number..*number + 1).unwrap_or_default(),
                Part::Rest => path.get(behind..).unwrap_or_default(),
            };
            for level in levels {
                if !std::mem::take(&mut first) {
                    key.put_u8(b'/');
                }
                key.put_slice(level);
            }
        }
        key.freeze()
    }
}

/// Placeholders divided by slashes.
fn parts(text: &str) -> Result<Vec<Part>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let part = |text: &str| {
        let inner = text
            .strip_prefix('{')
            .and_then(|text| text.strip_suffix('}'));
        match inner {
            Some("rest") => Some(Part::Rest),
            Some(number) => number
                .parse::<usize>()
                .ok()
                .and_then(|number| number.checked_sub(1))
                .map(Part::Matched),
            None => None,
        }
        .ok_or_else(|| {
            format!(
                "'{text}' is no placeholder: {{1}} for what the first + matches, {{rest}} for the #"
            )
        })
    };
    text.split('/').map(part).collect()
}

fn spelled(part: &Part) -> String {
    match part {
        Part::Matched(number) => format!("{{{}}}", number + 1),
        Part::Rest => "{rest}".to_owned(),
    }
}

/// May a log be made under this name by configuration?
fn check_log_name(name: &[u8]) -> Result<(), String> {
    let shown = String::from_utf8_lossy(name);
    if name.is_empty() {
        return Err("a topic needs a name".to_owned());
    }
    if name.starts_with(b"$") || name.starts_with(b"amq.") {
        return Err(format!(
            "'{shown}' is the server's own and can't have a log"
        ));
    }
    if !has_kafka_name(name) {
        return Err(format!(
            "'{shown}' can't be spelled as a Kafka topic's name"
        ));
    }
    Ok(())
}

/// Can Kafka's clients be told this name? Bytes that theirs can't have take four characters (`_xHH`); an underscore
/// before an `x` counts like that, too, though it is seldom spelled so.
pub(crate) fn has_kafka_name(name: &[u8]) -> bool {
    let spelled: usize = name
        .iter()
        .enumerate()
        .map(|(at, byte)| match byte {
            b'_' if name.get(at + 1) == Some(&b'x') => 4,
            b'.' | b'_' | b'-' => 1,
            byte if byte.is_ascii_alphanumeric() => 1,
            _ => 4,
        })
        .sum();
    !matches!(name, b"" | b"." | b"..") && spelled <= KAFKA_NAME_BYTES_MAX
}

/// Can these be a server's rules and catch-all topic? Says which rule is wrong (none: the catch-all), and why.
pub fn check_rules(config: &BrokerConfig) -> Result<(), (Option<usize>, RuleError)> {
    Mapping::of(config).map(|_| ())
}

impl Mapping {
    /// A server's mapping.
    pub(crate) fn of(config: &BrokerConfig) -> Result<Self, (Option<usize>, RuleError)> {
        let mapping = Self::new(
            &config.mapping,
            &config.catch_all,
            config.catch_all_partitions,
            &config.catch_all_partition_key,
        )?;
        let unlogged = |rule: &Rule| {
            let mut patterns = config.log_none.iter();
            patterns.any(|pattern| crate::shard::name_matches(pattern, &rule.topic))
        };
        let wrong = |key: &'static str| RuleError {
            key,
            message: "topics.log_none says that this topic has no log".to_owned(),
        };
        if let Some(number) = mapping.rules.iter().position(unlogged) {
            return Err((Some(number), wrong("topic")));
        }
        if mapping.catch_all.iter().any(unlogged) {
            return Err((None, wrong("catch_all")));
        }
        Ok(mapping)
    }

    /// Reads rules and the catch-all topic; says which rule is wrong (none: the catch-all).
    pub(crate) fn new(
        rules: &[MappingRule],
        catch_all: &Name,
        catch_all_partitions: u32,
        catch_all_partition_key: &str,
    ) -> Result<Self, (Option<usize>, RuleError)> {
        let mut known: Vec<Rule> = Vec::with_capacity(rules.len());
        for (number, rule) in rules.iter().enumerate() {
            let rule = Rule::new(rule).map_err(|error| (Some(number), error))?;
            let same = |other: &Rule| other.topic == rule.topic;
            if let Some(at) = known.iter().position(same) {
                let message = format!(
                    "rule {} writes to '{}' already, and a topic has one path template",
                    at + 1,
                    String::from_utf8_lossy(&rule.topic)
                );
                return Err((
                    Some(number),
                    RuleError {
                        key: "topic",
                        message,
                    },
                ));
            }
            known.push(rule);
        }
        if catch_all.is_empty() {
            // Nobody is to find out that it is wrong on the day that it is needed.
            Rule::catch_all_partition_key(catch_all_partition_key)
                .map_err(|error| (None, error))?;
            return Ok(Self {
                rules: known,
                catch_all: None,
            });
        }
        let caught = Rule::catch_all(catch_all, catch_all_partitions, catch_all_partition_key)
            .map_err(|error| (None, error))?;
        if let Some(at) = known.iter().position(|rule| rule.topic == caught.topic) {
            let message = format!(
                "rule {} writes to this topic, and a topic has one path template",
                at + 1
            );
            return Err((
                None,
                RuleError {
                    key: "catch_all",
                    message,
                },
            ));
        }
        Ok(Self {
            rules: known,
            catch_all: Some(caught),
        })
    }

    /// The rule that makes a topic of this name, if one does.
    pub(crate) fn rule_of(&self, topic: &[u8]) -> Option<&Rule> {
        let all = self.rules.iter().chain(&self.catch_all);
        all.into_iter().find(|rule| rule.topic == topic)
    }
}

#[cfg(test)]
mod tests;
