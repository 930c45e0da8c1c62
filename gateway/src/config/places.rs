//! Where a key got its value: a line of the file, or a `--set`.

use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Remembers where keys come from, for error messages.
#[derive(Debug, Default)]
pub(crate) struct Places {
    file: Option<(PathBuf, String)>,
    sets: Vec<(String, String)>,
}

impl Places {
    pub(crate) fn with_file(path: &Path, text: &str) -> Self {
        Self {
            file: Some((path.to_owned(), text.to_owned())),
            sets: Vec::new(),
        }
    }

    /// Notes that a key was set on the command line.
    pub(crate) fn note_set(&mut self, key: &str, assignment: &str) {
        self.sets.push((key.to_owned(), assignment.to_owned()));
    }

    /// Where the key, or the nearest of its parents that is anywhere, got its value.
    pub(crate) fn of(&self, key: &str) -> Option<String> {
        let set = self.sets.iter().rev().find(|(set, _)| set == key);
        if let Some((_, assignment)) = set {
            return Some(format!("--set {assignment}"));
        }
        let (path, text) = self.file.as_ref()?;
        let line = line_of_key(text, key)?;
        Some(format!("{}:{line}", path.display()))
    }

    /// The file's place at this byte, and the key that lies there.
    pub(crate) fn at(&self, offset: usize) -> (Option<String>, Option<String>) {
        let Some((path, text)) = &self.file else {
            return (None, None);
        };
        let place = format!("{}:{}", path.display(), line_at(text, offset));
        let key = DeTable::parse(text).ok().and_then(|table| {
            let mut keys = Vec::new();
            key_at(table.get_ref(), offset, &mut keys);
            (!keys.is_empty()).then(|| keys.join("."))
        });
        (Some(place), key)
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

fn line_of_key(text: &str, key: &str) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let mut table = table.get_ref();
    let mut found = None;
    let mut parts = key.split('.');
    while let Some(part) = parts.next() {
        let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == part) else {
            break;
        };
        found = Some(name.span().start);
        let mut value = value.get_ref();
        // The part behind a list's name is an element's number, from 0.
        if let DeValue::Array(elements) = value {
            let number = parts.next().and_then(|part| part.parse::<usize>().ok());
            let Some(element) = number.and_then(|number| elements.get(number)) else {
                break;
            };
            found = Some(element.span().start);
            value = element.get_ref();
        }
        match value {
            DeValue::Table(inner) => table = inner,
            _ => break,
        }
    }
    found.map(|offset| line_at(text, offset))
}

/// Collects the keys on the way to what lies at this byte.
fn key_at(table: &DeTable<'_>, offset: usize, keys: &mut Vec<String>) {
    let covers = |span: std::ops::Range<usize>| {
        span.start <= offset && offset < span.end.max(span.start + 1)
    };
    for (name, value) in table {
        let name: &Spanned<_> = name;
        if covers(name.span()) {
            keys.push(name.get_ref().to_string());
            return;
        }
        if let DeValue::Table(inner) = value.get_ref() {
            let depth = keys.len();
            keys.push(name.get_ref().to_string());
            key_at(inner, offset, keys);
            if keys.len() > depth + 1 || covers(value.span()) {
                return;
            }
            keys.truncate(depth);
        } else if covers(value.span()) {
            keys.push(name.get_ref().to_string());
            return;
        }
    }
}
