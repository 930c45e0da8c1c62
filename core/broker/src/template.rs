//! A topic's path template: which path a record with a given key has, whoever wrote it.
//!
//! A template is a path whose levels are literals, `{n}` (the key's n-th level, counted from 1) or `{rest}` (the key's
//! levels behind those that are numbered). A key's levels are divided by slashes; no key at all has none. So
//! `sensors/{1}/temp/{rest}` makes `sensors/k7/temp/in/left` of the key `k7/in/left`. Each placeholder stands there
//! once, so that the key can be had back from the path. A topic without a template has the default one: its name, and
//! behind it `{rest}`.

use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;
use thiserror::Error;

/// Levels of a template, at the most.
const LEVELS_MAX: usize = 128;

/// Bytes of an MQTT topic, at the most.
const PATH_BYTES_MAX: usize = 65_535;

/// `path = template(key)`, which has an inverse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    levels: Vec<Level>,
    /// How many levels of the key are numbered.
    numbered: usize,
    /// Where `{rest}` stands.
    rest: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Level {
    Literal(Bytes),
    /// The key's level of this number, counted from 0.
    Key(usize),
    Rest,
}

/// What is wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// It has no text.
    #[error("it is empty")]
    Empty,
    /// It is longer than a path may be.
    #[error("it has more than {LEVELS_MAX} levels")]
    TooDeep,
    /// Neither a literal nor a placeholder.
    #[error(
        "'{0}' is neither a level's text nor a placeholder: {{1}}, {{2}}, ... or {{rest}} as a level of its own"
    )]
    Level(String),
    /// The path could not be that of a message.
    #[error("'{0}' can't be a level: no wildcards, no NUL, and no '$' at the start of a path")]
    Literal(String),
    /// It would have no inverse.
    #[error("{0} stands in it twice, so a path would not say its key")]
    Twice(String),
    /// It would lose a level of the key.
    #[error("{0} is missing, so a path would not say its key")]
    Missing(String),
}

impl PathTemplate {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.is_empty() {
            return Err(TemplateError::Empty);
        }
        let levels = text.split('/').map(level).collect::<Result<Vec<_>, _>>()?;
        Self::new(levels)
    }

    pub(crate) fn new(levels: Vec<Level>) -> Result<Self, TemplateError> {
        let empty = |level: &Level| matches!(level, Level::Literal(text) if text.is_empty());
        if levels.len() < 2 && levels.iter().all(empty) {
            return Err(TemplateError::Empty);
        }
        if levels.len() > LEVELS_MAX {
            return Err(TemplateError::TooDeep);
        }
        let numbered = levels
            .iter()
            .filter(|level| matches!(level, Level::Key(_)))
            .count();
        let mut seen = vec![false; numbered];
        let mut rest = None;
        for (at, level) in levels.iter().enumerate() {
            match level {
                Level::Literal(text) => check_literal(text, at == 0)?,
                Level::Key(number) => match seen.get_mut(*number) {
                    Some(seen) if !*seen => *seen = true,
                    Some(_) => return Err(TemplateError::Twice(level.to_string())),
                    None => {
                        let missing = seen.iter().position(|seen| !*seen).unwrap_or(0);
                        return Err(TemplateError::Missing(Level::Key(missing).to_string()));
                    }
                },
                Level::Rest if rest.is_some() => {
                    return Err(TemplateError::Twice(level.to_string()));
                }
                Level::Rest => rest = Some(at),
            }
        }
        Ok(Self {
            levels,
            numbered,
            rest,
        })
    }

    /// Everything: a key is the whole path.
    pub(crate) fn whole() -> Self {
        Self {
            levels: vec![Level::Rest],
            numbered: 0,
            rest: Some(0),
        }
    }

    /// Is it the one that a topic of this name has without a word?
    pub fn is_default(&self, topic: &[u8]) -> bool {
        matches!(&self.levels[..], [Level::Literal(name), Level::Rest] if name == topic)
    }

    /// The text of the template of a topic that has none of its own.
    pub fn default_text(topic: &[u8]) -> String {
        format!("{}/{{rest}}", String::from_utf8_lossy(topic))
    }

    /// The first level of its paths, if they all have the same.
    pub(crate) fn head(&self) -> Option<&Bytes> {
        match self.levels.first() {
            Some(Level::Literal(head)) => Some(head),
            _ => None,
        }
    }

    /// The path of a record with this key, spelled as an MQTT topic. None if the key does not fit the template, or
    /// could not be published to.
    pub fn path(&self, key: Option<&[u8]>) -> Option<Bytes> {
        let given: Vec<&[u8]> =
            key.map_or_else(Vec::new, |key| key.split(|byte| *byte == b'/').collect());
        let fits = match self.rest {
            Some(_) => given.len() >= self.numbered,
            None => given.len() == self.numbered,
        };
        if !fits {
            return None;
        }
        let mut path = BytesMut::new();
        let mut first = true;
        let mut put = |level: &[u8]| {
            if !std::mem::take(&mut first) {
                path.put_u8(b'/');
            }
            path.put_slice(level);
        };
        for level in &self.levels {
            match level {
                Level::Literal(text) => put(text),
                Level::Key(number) => put(given.get(*number)?),
                Level::Rest => given
                    .get(self.numbered..)?
                    .iter()
                    .for_each(|level| put(level)),
            }
        }
        let can_be = !path.is_empty()
            && path.len() <= PATH_BYTES_MAX
            && !path.starts_with(b"$")
            && !path.iter().any(|byte| b"+#\0".contains(byte))
            && std::str::from_utf8(&path).is_ok();
        can_be.then(|| path.freeze())
    }

    /// The key of a path, the other way round. None if no key has this path; the key itself may be none.
    pub fn key(&self, path: &[&[u8]]) -> Option<Option<Bytes>> {
        let behind = match self.rest {
            Some(at) => self.levels.len() - at - 1,
            None => 0,
        };
        let fixed = self.levels.len() - usize::from(self.rest.is_some());
        let fits = match self.rest {
            Some(_) => path.len() >= fixed,
            None => path.len() == fixed,
        };
        if !fits {
            return None;
        }
        let mut numbered: Vec<&[u8]> = vec![b""; self.numbered];
        let mut rest: &[&[u8]] = &[];
        let mut at = 0;
        for level in &self.levels {
            match level {
                Level::Literal(text) => {
                    if *path.get(at)? != text {
                        return None;
                    }
                    at += 1;
                }
                Level::Key(number) => {
                    *numbered.get_mut(*number)? = path.get(at)?;
                    at += 1;
                }
                Level::Rest => {
                    let end = path.len() - behind;
                    rest = path.get(at..end)?;
                    at = end;
                }
            }
        }
        if numbered.is_empty() && rest.is_empty() {
            return Some(None);
        }
        let mut key = BytesMut::new();
        for (number, level) in numbered.iter().chain(rest).enumerate() {
            if number > 0 {
                key.put_u8(b'/');
            }
            key.put_slice(level);
        }
        Some(Some(key.freeze()))
    }
}

fn level(text: &str) -> Result<Level, TemplateError> {
    let placeholder = text
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'));
    match placeholder {
        Some("rest") => Ok(Level::Rest),
        Some(number) => number
            .parse::<usize>()
            .ok()
            .and_then(|number| number.checked_sub(1))
            .map(Level::Key)
            .ok_or_else(|| TemplateError::Level(text.to_owned())),
        None if text.contains(['{', '}']) => Err(TemplateError::Level(text.to_owned())),
        None => Ok(Level::Literal(Bytes::copy_from_slice(text.as_bytes()))),
    }
}

fn check_literal(text: &[u8], first: bool) -> Result<(), TemplateError> {
    let wrong = text.iter().any(|byte| b"+#\0/{}".contains(byte))
        || std::str::from_utf8(text).is_err()
        || first && text.starts_with(b"$");
    match wrong {
        true => Err(TemplateError::Literal(
            String::from_utf8_lossy(text).into_owned(),
        )),
        false => Ok(()),
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(text) => f.write_str(&String::from_utf8_lossy(text)),
            Self::Key(number) => write!(f, "{{{}}}", number + 1),
            Self::Rest => f.write_str("{rest}"),
        }
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, level) in self.levels.iter().enumerate() {
            if number > 0 {
                f.write_str("/")?;
            }
            write!(f, "{level}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
