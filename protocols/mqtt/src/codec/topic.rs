//! Topic names and topic filters (MQTT 5 section 4.7) and shared subscriptions (section 4.8): what is valid.
//! Matching is the broker's.

use bytes::Bytes;
use thiserror::Error;

/// Why a topic filter can't be subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FilterError {
    /// It has no characters [4.7.3-1].
    #[error("empty topic filter")]
    Empty,
    /// `#` is not a whole last level [4.7.1-1].
    #[error("'#' must be the whole last level")]
    Hash,
    /// `+` is not a whole level [4.7.1-2].
    #[error("'+' must be a whole level")]
    Plus,
    /// `$share` without group or filter, or a group with a wildcard [4.8.2-1, 4.8.2-2].
    #[error("malformed shared subscription")]
    Share,
}

/// May this text (UTF-8, no U+0000) name a topic? No characters and wildcards may not [4.7.3-1, 3.3.2-2].
pub fn is_topic_name(topic: &[u8]) -> bool {
    !topic.is_empty() && !topic.iter().any(|&byte| byte == b'#' || byte == b'+')
}

/// Levels of a topic name or filter: one more than its slashes.
#[expect(clippy::naive_bytecount, reason = "names are short")]
pub fn level_count(topic: &[u8]) -> usize {
    1 + topic.iter().filter(|&&byte| byte == b'/').count()
}

/// Are the wildcards where they may be [4.7.1-1, 4.7.1-2]?
///
/// # Errors
/// What is wrong.
pub fn valid_filter(filter: &[u8]) -> Result<(), FilterError> {
    if filter.is_empty() {
        return Err(FilterError::Empty);
    }
    let mut levels = filter.split(|&byte| byte == b'/').peekable();
    while let Some(level) = levels.next() {
        if level.contains(&b'#') && (level.len() > 1 || levels.peek().is_some()) {
            return Err(FilterError::Hash);
        }
        if level.contains(&b'+') && level.len() > 1 {
            return Err(FilterError::Plus);
        }
    }
    Ok(())
}

/// A filter, and its group where it is a shared subscription's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedFilter {
    /// The group of `$share/group/filter`.
    pub group: Option<Bytes>,
    /// The filter itself.
    pub filter: Bytes,
}

/// Takes `$share/group/` off a filter and validates both.
///
/// # Errors
/// What is wrong.
pub fn split_shared(text: &Bytes) -> Result<SharedFilter, FilterError> {
    const PREFIX: &[u8] = b"$share/";
    if text.as_ref() == b"$share" {
        return Err(FilterError::Share);
    }
    let Some(rest) = text.strip_prefix(PREFIX) else {
        valid_filter(text)?;
        return Ok(SharedFilter {
            group: None,
            filter: text.clone(),
        });
    };
    let slash = rest
        .iter()
        .position(|&byte| byte == b'/')
        .ok_or(FilterError::Share)?;
    let group = text.slice(PREFIX.len()..PREFIX.len() + slash);
    let filter = text.slice(PREFIX.len() + slash + 1..);
    if group.is_empty() || filter.is_empty() || group.iter().any(|byte| b"+#".contains(byte)) {
        return Err(FilterError::Share);
    }
    valid_filter(&filter)?;
    Ok(SharedFilter {
        group: Some(group),
        filter,
    })
}

/// Does a valid filter match a topic name [4.7.1, 4.7.2]? For recomputing which of a session's own subscriptions a
/// delivery satisfies; who gets a message at all is the broker's decision.
pub fn filter_matches(filter: &[u8], topic: &[u8]) -> bool {
    if topic.first() == Some(&b'$') && matches!(filter.first(), Some(b'#' | b'+')) {
        return false;
    }
    // `#` stands for no level, too: `sport/#` matches `sport`.
    let mut levels = topic.split(|&byte| byte == b'/');
    for wanted in filter.split(|&byte| byte == b'/') {
        if wanted == b"#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == b"+" || wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}
