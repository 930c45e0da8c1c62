//! Settings that can't be, or can't be together.

use super::load::ConfigError;
use super::places::Places;
use super::settings::{ListenerSettings, ProtocolName, Settings, UserSettings};
use crate::listeners::parse_address;
use std::net::SocketAddr;

/// Refuses what can't be, naming key and place.
pub(super) fn check(settings: &Settings, places: &Places) -> Result<(), ConfigError> {
    let checker = Checker { places };
    checker.namespaces(settings)?;
    for (name, listener) in &settings.listeners {
        checker.listener(name, listener)?;
    }
    checker.addresses(settings)?;
    for (name, user) in &settings.users {
        checker.user(name, user)?;
    }
    checker.numbers(settings)?;
    checker.log(settings)
}

struct Checker<'a> {
    places: &'a Places,
}

impl Checker<'_> {
    fn refuse(&self, key: &str, message: impl Into<String>) -> Result<(), ConfigError> {
        Err(ConfigError::Key {
            place: self.places.of(key),
            key: Some(key.to_owned()),
            message: message.into(),
        })
    }

    fn namespaces(&self, settings: &Settings) -> Result<(), ConfigError> {
        let names = &settings.namespaces;
        if names.is_empty() {
            return self.refuse(
                "namespaces",
                "at least one is needed; the first is the default",
            );
        }
        if names.iter().any(String::is_empty) {
            return self.refuse("namespaces", "a namespace needs a name");
        }
        for (index, name) in names.iter().enumerate() {
            if names.iter().skip(index + 1).any(|other| other == name) {
                return self.refuse("namespaces", format!("'{name}' is there twice"));
            }
        }
        Ok(())
    }

    fn listener(&self, name: &str, listener: &ListenerSettings) -> Result<(), ConfigError> {
        let key = |part: &str| format!("listeners.{name}.{part}");
        let own = format!("listeners.{name}");
        if name == "admin" {
            return self.refuse(&own, "this name is taken; see [admin]");
        }
        let Some(protocol) = listener.protocol else {
            return self.refuse(
                &own,
                "protocol is missing: one of \"kafka\", \"amqp\", \"mqtt\", \"auto\"",
            );
        };
        let of_name = ProtocolName::DEFAULT
            .iter()
            .find(|(default, ..)| *default == name);
        if of_name.is_some_and(|(_, expected, _)| *expected != protocol) {
            return self.refuse(
                &key("protocol"),
                format!("the listener named '{name}' speaks {name}; give this one another name"),
            );
        }
        if listener.bind.is_none() {
            return self.refuse(
                &own,
                "bind is missing: an address and port, \"127.0.0.1:0\"",
            );
        }
        if let Some(advertised) = &listener.advertised
            && let Err(message) = parse_address(advertised)
        {
            return self.refuse(&key("advertised"), message);
        }
        if listener.connections_max == Some(0) {
            return self.refuse(&key("connections_max"), "must be at least 1");
        }
        if let Some(tls) = &listener.tls {
            let files = [("cert", Some(&tls.cert)), ("key", Some(&tls.key))];
            for (part, path) in files
                .into_iter()
                .chain([("client_ca", tls.client_ca.as_ref())])
            {
                if let Some(path) = path
                    && let Err(error) = std::fs::metadata(path)
                {
                    return self.refuse(
                        &key(&format!("tls.{part}")),
                        format!("{}: {error}", path.display()),
                    );
                }
            }
        }
        Ok(())
    }

    /// No two may want the same address.
    fn addresses(&self, settings: &Settings) -> Result<(), ConfigError> {
        let mut taken: Vec<(String, SocketAddr)> = Vec::new();
        if settings.admin.enabled {
            taken.push(("admin.bind".to_owned(), settings.admin.bind));
        }
        let mut any = false;
        for (name, listener) in &settings.listeners {
            let Some(bind) = listener.bind.filter(|_| listener.is_enabled()) else {
                continue;
            };
            any = true;
            let key = format!("listeners.{name}.bind");
            if let Some((other, _)) = taken.iter().find(|(_, taken)| collide(*taken, bind)) {
                return self.refuse(&key, format!("{bind} is already taken by {other}"));
            }
            taken.push((key, bind));
        }
        if !any {
            return self.refuse("listeners", "all listeners are disabled");
        }
        Ok(())
    }

    fn user(&self, name: &str, user: &UserSettings) -> Result<(), ConfigError> {
        let own = format!("users.{name}");
        match (&user.password, &user.argon2) {
            (Some(_), Some(_)) => self.refuse(&own, "password and argon2 exclude each other"),
            (None, None) => self.refuse(&own, "password or argon2 is missing"),
            (None, Some(hash)) => match omnilog_auth::User::argon2(name, hash) {
                Ok(_) => Ok(()),
                Err(error) => self.refuse(&format!("{own}.argon2"), error.to_string()),
            },
            (Some(_), None) => Ok(()),
        }
    }

    fn numbers(&self, settings: &Settings) -> Result<(), ConfigError> {
        let Settings {
            topics,
            journal,
            memory,
            limits,
            ..
        } = settings;
        let at_least: [(&str, i128, i128); 18] = [
            (
                "topics.partitions_default",
                topics.partitions_default.into(),
                1,
            ),
            (
                "topics.retention_ms_default",
                topics.retention_ms_default.into(),
                -1,
            ),
            (
                "topics.retention_bytes_default",
                topics.retention_bytes_default.into(),
                -1,
            ),
            (
                "topics.window_ms_default",
                topics.window_ms_default.into(),
                -1,
            ),
            (
                "topics.window_bytes_default",
                topics.window_bytes_default.into(),
                -1,
            ),
            (
                "topics.message_bytes_max",
                topics.message_bytes_max.into(),
                1024,
            ),
            ("topics.auto_names_max", topics.auto_names_max.into(), 1),
            ("journal.file_bytes", journal.file_bytes.into(), 1 << 20),
            (
                "journal.checkpoint_bytes",
                journal.checkpoint_bytes.into(),
                1 << 16,
            ),
            ("journal.checkpoint_ms", journal.checkpoint_ms.into(), 100),
            (
                "memory.tail_bytes_max",
                memory.tail_bytes_max.into(),
                1 << 20,
            ),
            (
                "memory.mailbox_bytes_max",
                memory.mailbox_bytes_max.into(),
                1 << 12,
            ),
            (
                "memory.queue_bytes_max",
                memory.queue_bytes_max.into(),
                1 << 12,
            ),
            ("limits.connections_max", limits.connections_max as i128, 1),
            (
                "limits.handshake_ms_max",
                limits.handshake_ms_max.into(),
                100,
            ),
            (
                "limits.write_backlog_bytes_max",
                limits.write_backlog_bytes_max as i128,
                1 << 12,
            ),
            (
                "limits.peer_stall_ms_max",
                limits.peer_stall_ms_max.into(),
                100,
            ),
            (
                "limits.password_checks_max",
                limits.password_checks_max as i128,
                1,
            ),
        ];
        for (key, value, min) in at_least {
            if value < min {
                return self.refuse(key, format!("{value} is below the least possible, {min}"));
            }
        }
        if topics.message_bytes_max as u64 > journal.file_bytes / 4 {
            return self.refuse(
                "topics.message_bytes_max",
                "must not exceed a quarter of journal.file_bytes: a message lies in one file",
            );
        }
        if journal.disk_reserve_bytes >= journal.disk_low_bytes {
            return self.refuse(
                "journal.disk_reserve_bytes",
                "must be below journal.disk_low_bytes: the reserve is what is left when publishers are held",
            );
        }
        Ok(())
    }

    fn log(&self, settings: &Settings) -> Result<(), ConfigError> {
        match crate::logging::parse_filter(&settings.log.level) {
            Ok(_) => Ok(()),
            Err(error) => self.refuse("log.level", error),
        }
    }
}

/// Can't both be bound?
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() != 0
        && a.port() == b.port()
        && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}
