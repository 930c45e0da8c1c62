//! Reads the configuration file, applies the command line, and checks the whole.

use super::check::check;
use super::places::Places;
use super::settings::{ProtocolName, Settings};
use crate::cli::ConfigArgs;
use std::net::SocketAddr;
use std::path::PathBuf;
use thiserror::Error;
use toml::{Table, Value};

/// What is wrong with a configuration: where, which key, and what.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    #[error("cannot read {path}: {source}", path = path.display())]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}{}{message}", prefix(place.as_deref()), prefix(key.as_deref()))]
    Key {
        place: Option<String>,
        key: Option<String>,
        message: String,
    },
}

impl ConfigError {
    fn message(&self) -> &str {
        match self {
            Self::Unreadable { .. } => "",
            Self::Key { message, .. } => message,
        }
    }
}

fn prefix(part: Option<&str>) -> String {
    part.map_or_else(String::new, |part| format!("{part}: "))
}

/// The settings to run with.
pub(crate) fn load(args: &ConfigArgs) -> Result<Settings, ConfigError> {
    let (mut table, mut places) = match &args.config {
        None => (Table::new(), Places::default()),
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
                path: path.clone(),
                source,
            })?;
            let places = Places::with_file(path, &text);
            // From the text, so that errors know their line.
            toml::from_str::<Settings>(&text).map_err(|error| in_file(&places, &error))?;
            let table = toml::from_str(&text).map_err(|error| in_file(&places, &error))?;
            (table, places)
        }
    };
    let mut incomplete = Vec::new();
    for assignment in &args.set {
        incomplete.extend(apply(&mut table, &mut places, assignment)?);
    }
    let mut settings: Settings = table.try_into().map_err(|error: toml::de::Error| {
        // Each assignment was checked; what is left is one that the others don't complete, or their combination.
        let message = error.message();
        incomplete
            .into_iter()
            .find(|known| known.message() == message)
            .unwrap_or_else(|| plain(None, message))
    })?;
    if let Some(dir) = &args.data_dir {
        settings.data_dir.clone_from(dir);
    }
    complete(&mut settings);
    check(&settings, &places)?;
    Ok(settings)
}

/// Adds the listeners that are there without a word, and what the names of others imply.
fn complete(settings: &mut Settings) {
    for (name, protocol, port) in ProtocolName::DEFAULT {
        let listener = settings.listeners.entry(name.to_owned()).or_default();
        listener.protocol.get_or_insert(protocol);
        listener
            .bind
            .get_or_insert(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    if let Some(listener) = settings.listeners.get_mut("auto") {
        listener.protocol.get_or_insert(ProtocolName::Auto);
    }
    for listener in settings.listeners.values_mut() {
        listener.enabled.get_or_insert(true);
    }
}

/// Applies `key=value`. The value is TOML where it can be, else a string. Says what is missing in it, which may come
/// from elsewhere.
fn apply(
    table: &mut Table,
    places: &mut Places,
    assignment: &str,
) -> Result<Option<ConfigError>, ConfigError> {
    let place = || Some(format!("--set {assignment}"));
    let Some((key, value)) = assignment.split_once('=') else {
        return Err(plain(place(), "expected KEY=VALUE"));
    };
    let (key, value) = (key.trim(), value.trim());
    let parsed = toml::from_str::<Table>(&format!("{key} = {value}")).or_else(|_| {
        let quoted = Value::String(value.to_owned());
        toml::from_str::<Table>(&format!("{key} = {quoted}"))
    });
    let parsed = parsed.map_err(|error| plain(place(), error.message()))?;
    // Alone first, so that an unknown key or a wrong type is this assignment's.
    let mut incomplete = None;
    if let Err(error) = Settings::deserialize_table(parsed.clone()) {
        let wrong = ConfigError::Key {
            place: place(),
            key: Some(key.to_owned()),
            message: error.message().to_owned(),
        };
        // A key that only makes sense beside others may be missing them here.
        if !error.message().starts_with("missing field") {
            return Err(wrong);
        }
        incomplete = Some(wrong);
    }
    places.note_set(key, assignment);
    merge(table, parsed);
    Ok(incomplete)
}

impl Settings {
    fn deserialize_table(table: Table) -> Result<Self, toml::de::Error> {
        table.try_into()
    }
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

fn in_file(places: &Places, error: &toml::de::Error) -> ConfigError {
    let (place, key) = error
        .span()
        .map_or((None, None), |span| places.at(span.start));
    ConfigError::Key {
        place,
        key,
        message: error.message().to_owned(),
    }
}

fn plain(place: Option<String>, message: &str) -> ConfigError {
    ConfigError::Key {
        place,
        key: None,
        message: message.to_owned(),
    }
}
