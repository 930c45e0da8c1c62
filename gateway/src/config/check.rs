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
    checker.mapping(settings)?;
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
        for (key, value, min) in least(settings) {
            if value < min {
                return self.refuse(key, format!("{value} is below the least possible, {min}"));
            }
        }
        let Settings {
            topics,
            journal,
            kafka,
            limits,
            ..
        } = settings;
        if i128::from(topics.message_bytes_max) > i128::from(journal.file_bytes / 4) {
            return self.refuse(
                "topics.message_bytes_max",
                "must not exceed a quarter of journal.file_bytes: a message lies in one file",
            );
        }
        if limits.connection_threads > 1024 {
            return self.refuse("limits.connection_threads", "must not exceed 1024");
        }
        if kafka.session_timeout_ms_max < kafka.session_timeout_ms_min {
            return self.refuse(
                "kafka.session_timeout_ms_max",
                "must not be below kafka.session_timeout_ms_min",
            );
        }
        let least = journal
            .disk_low_bytes
            .saturating_add(journal.disk_reserve_bytes)
            .saturating_add(4 * journal.file_bytes);
        if journal.bytes_max != 0 && journal.bytes_max < least {
            return self.refuse(
                "journal.bytes_max",
                "must be 0 or at least journal.disk_low_bytes, journal.disk_reserve_bytes and four times \
                 journal.file_bytes together: with less publishers would wait for ever",
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

    /// Rules that have an inverse, each for a topic of its own.
    fn mapping(&self, settings: &Settings) -> Result<(), ConfigError> {
        for (number, rule) in settings.topics.mapping.iter().enumerate() {
            let partitions = rule.partitions.unwrap_or(1);
            if !(1..=10_000).contains(&partitions) {
                let key = format!("topics.mapping.{number}.partitions");
                return self.refuse(&key, "must be from 1 to 10000");
            }
        }
        match omnilog_broker::check_rules(&crate::engine::broker_config(settings)) {
            Ok(()) => Ok(()),
            Err((Some(rule), error)) => {
                let key = format!("topics.mapping.{rule}.{}", error.key);
                self.refuse(&key, error.message)
            }
            Err((None, error)) => self.refuse(&format!("topics.{}", error.key), error.message),
        }
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

/// Numbers with a least possible value.
fn least(settings: &Settings) -> Vec<(&'static str, i128, i128)> {
    let Settings {
        topics,
        journal,
        memory,
        limits,
        kafka,
        amqp,
        mqtt,
        links,
        ..
    } = settings;
    macro_rules! of {
        ($($section:ident.$key:ident >= $min:expr,)*) => {
            vec![$((
                concat!(stringify!($section), ".", stringify!($key)),
                $section.$key as i128,
                $min,
            )),*]
        };
    }
    of! {
        topics.partitions_default >= 1,
        topics.retention_ms_default >= -1,
        topics.retention_bytes_default >= -1,
        topics.window_ms_default >= -1,
        topics.window_bytes_default >= -1,
        topics.message_bytes_max >= 1024,
        topics.auto_names_max >= 1,
        topics.auto_names_principal_max >= 1,
        topics.catch_all_partitions >= 1,
        journal.file_bytes >= 1 << 20,
        journal.checkpoint_bytes >= 1 << 16,
        journal.checkpoint_ms >= 100,
        journal.unclustered_files_max >= 1,
        links.cpu_percent >= 1,
        memory.tail_bytes_max >= 1 << 20,
        memory.mailbox_bytes_max >= 1 << 12,
        memory.queue_bytes_max >= 1 << 12,
        memory.queues_bytes_max >= 1 << 12,
        memory.sets_bytes_max >= 1 << 20,
        memory.commands_bytes_max >= 1 << 16,
        limits.connections_max >= 1,
        limits.handshake_ms_max >= 100,
        limits.write_backlog_bytes_max >= 1 << 12,
        limits.peer_stall_ms_max >= 100,
        limits.shutdown_ms_max >= 100,
        limits.password_checks_max >= 1,
        kafka.node_id >= 0,
        kafka.request_bytes_max >= 1 << 16,
        kafka.fetch_bytes_max >= 1 << 10,
        kafka.idle_ms_max >= 1000,
        kafka.session_timeout_ms_min >= 1,
        kafka.group_members_max >= 1,
        kafka.transaction_timeout_ms_max >= 1,
        kafka.transactional_id_expiration_ms >= 1,
        amqp.frame_bytes_max >= 4096,
        amqp.message_bytes_max >= 1 << 10,
        mqtt.packet_bytes_max >= 1 << 10,
        mqtt.receive_max >= 1,
        mqtt.inflight_max >= 1,
        mqtt.subscriptions_max >= 1,
    }
}
