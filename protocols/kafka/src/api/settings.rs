//! Topic settings in Kafka's spelling: their names, types, defaults and what each says.

use kafka_protocol::protocol::StrBytes;
use omnilog_broker::template::PathTemplate;
use omnilog_broker::{BrokerConfig, CleanupPolicy, HOLD, LogSettings, Name, RETAIN, TopicInfo};

use super::text;

/// The type of a setting, as DescribeConfigs numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub(super) enum Kind {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

/// Where a value comes from, as DescribeConfigs numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub(super) enum Source {
    /// Given for this topic.
    Topic = 1,
    /// The server's configuration.
    Server = 4,
    /// The default.
    Default = 5,
}

/// A setting that a topic may have.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// The server's setting that it falls back to.
    pub(super) server_name: &'static str,
    default: &'static str,
    /// For strings and lists: the values there are; empty for any.
    values: &'static [&'static str],
    pub(super) documentation: &'static str,
}

/// The setting that says which paths a topic's records have. The topic has it beside its log settings.
pub(super) const PATH_TEMPLATE: &str = "omnilog.path.template";

/// Why a setting is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidSetting {
    #[error("unknown topic config name: {0}")]
    Unknown(String),
    #[error("invalid value {value} for configuration {name}")]
    Value { name: &'static str, value: String },
    #[error("configuration {0} is no list")]
    NoList(&'static str),
    #[error("null value for configuration {0}")]
    Null(&'static str),
    #[error("{0} is fixed when a topic is created")]
    Fixed(&'static str),
}

macro_rules! settings {
    ($($name:literal $kind:ident $server:literal = $default:literal [$($value:literal)*] $doc:literal;)*) => {
        /// Every setting, by name.
        pub(super) const SETTINGS: &[Setting] = &[$(Setting {
            name: $name,
            kind: Kind::$kind,
            server_name: $server,
            default: $default,
            values: &[$($value),*],
            documentation: $doc,
        },)*];
    };
}

settings! {
    "cleanup.policy" List "log.cleanup.policy" = "delete" ["delete" "compact"]
        "What becomes of old records: deleted by time and size, or compacted to the last of each key.";
    "compression.gzip.level" Int "compression.gzip.level" = "-1" []
        "Kept for clients that set it: batches keep the compression of their producer.";
    "compression.lz4.level" Int "compression.lz4.level" = "9" []
        "Kept for clients that set it: batches keep the compression of their producer.";
    "compression.type" String "compression.type" = "producer"
        ["uncompressed" "zstd" "lz4" "snappy" "gzip" "producer"]
        "Kept for clients that set it: batches keep the compression of their producer.";
    "compression.zstd.level" Int "compression.zstd.level" = "3" []
        "Kept for clients that set it: batches keep the compression of their producer.";
    "delete.retention.ms" Long "log.cleaner.delete.retention.ms" = "86400000" []
        "How long a compacted topic keeps the mark of a deleted key.";
    "file.delete.delay.ms" Long "log.segment.delete.delay.ms" = "60000" []
        "Kept for clients that set it: a topic has no files of its own.";
    "flush.messages" Long "log.flush.interval.messages" = "9223372036854775807" []
        "Kept for clients that set it: the server's durability decides.";
    "flush.ms" Long "log.flush.interval.ms" = "9223372036854775807" []
        "Kept for clients that set it: the server's durability decides.";
    "index.interval.bytes" Int "log.index.interval.bytes" = "4096" []
        "Kept for clients that set it: a topic has no files of its own.";
    "local.retention.bytes" Long "log.local.retention.bytes" = "-2" []
        "Kept for clients that set it: there is no remote storage.";
    "local.retention.ms" Long "log.local.retention.ms" = "-2" []
        "Kept for clients that set it: there is no remote storage.";
    "max.compaction.lag.ms" Long "log.cleaner.max.compaction.lag.ms" = "9223372036854775807" []
        "How long a record of a compacted topic may stay uncompacted.";
    "max.message.bytes" Int "message.max.bytes" = "1048588" []
        "The largest record batch that a producer may append.";
    "message.timestamp.after.max.ms" Long "log.message.timestamp.after.max.ms" = "3600000" []
        "How far a record's time may lie in the future.";
    "message.timestamp.before.max.ms" Long "log.message.timestamp.before.max.ms" = "9223372036854775807" []
        "How far a record's time may lie in the past.";
    "message.timestamp.type" String "log.message.timestamp.type" = "CreateTime"
        ["CreateTime" "LogAppendTime"]
        "Whose clock stamps records: the producer's or the server's.";
    "min.cleanable.dirty.ratio" Double "log.cleaner.min.cleanable.ratio" = "0.5" []
        "The share of uncompacted records at which a topic is compacted.";
    "min.compaction.lag.ms" Long "log.cleaner.min.compaction.lag.ms" = "0" []
        "How long a record of a compacted topic stays uncompacted at least.";
    "min.insync.replicas" Int "min.insync.replicas" = "1" []
        "Kept for clients that set it: a record is acknowledged when the journal is durable.";
    "omnilog.hold" String "topics.hold_links" = "none" ["none" "links"]
        "With links: the log keeps what queues and sessions have not read, whatever the retention; a full disk refuses producers.";
    "omnilog.path.template" String "omnilog.path.template" = "" []
        "Which path a record has by its key, for MQTT and AMQP: fixed when the topic is created.";
    "omnilog.raw.retention.bytes" Long "omnilog.raw.retention.bytes" = "-1" []
        "How many bytes of a partition the raw view of a compacted topic keeps; -1 for no limit.";
    "omnilog.raw.retention.ms" Long "omnilog.raw.retention.ms" = "0" []
        "How long the raw view of a compacted topic, the read-only topic NAME.raw, keeps every record as it was written; -1 for no limit, 0 for no raw view.";
    "omnilog.retain" String "topics.retain_latest" = "none" ["none" "latest"]
        "With latest: the last record of each key that Kafka clients write is the retained message of its path for MQTT.";
    "preallocate" Boolean "log.preallocate" = "false" []
        "Kept for clients that set it: the journal's files are always preallocated.";
    "retention.bytes" Long "log.retention.bytes" = "-1" []
        "How many bytes a partition keeps; -1 for no limit.";
    "retention.ms" Long "log.retention.ms" = "604800000" []
        "How long records are kept, in milliseconds; -1 for no limit.";
    "segment.bytes" Int "log.segment.bytes" = "1073741824" []
        "Kept for clients that set it: a topic has no files of its own.";
    "segment.index.bytes" Int "log.index.size.max.bytes" = "10485760" []
        "Kept for clients that set it: a topic has no files of its own.";
    "segment.jitter.ms" Long "log.roll.jitter.ms" = "0" []
        "Kept for clients that set it: a topic has no files of its own.";
    "segment.ms" Long "log.roll.ms" = "604800000" []
        "Kept for clients that set it: a topic has no files of its own.";
    "unclean.leader.election.enable" Boolean "unclean.leader.election.enable" = "false" []
        "Kept for clients that set it: there are no elections.";
}

impl Setting {
    /// The setting of this name.
    pub(super) fn find(name: &str) -> Result<&'static Self, InvalidSetting> {
        let found = SETTINGS.iter().find(|setting| setting.name == name);
        found.ok_or_else(|| InvalidSetting::Unknown(name.to_owned()))
    }

    /// The value of a topic that says nothing itself, and whether the server's configuration
    /// decides it.
    pub(super) fn default(
        &self,
        broker: &BrokerConfig,
        topic: &Name,
        provisional: bool,
    ) -> (String, Source) {
        let value = match self.name {
            "retention.ms" if provisional => broker.window_ms_default.to_string(),
            "retention.bytes" if provisional => broker.window_bytes_default.to_string(),
            "retention.ms" => broker.retention_ms_default.to_string(),
            "retention.bytes" => broker.retention_bytes_default.to_string(),
            "max.message.bytes" => broker.message_bytes_max.to_string(),
            HOLD if broker.holds_by_default(topic) => "links".to_owned(),
            RETAIN if broker.retains_by_default(topic) => "latest".to_owned(),
            _ => self.default.to_owned(),
        };
        let source = if value == self.default {
            Source::Default
        } else {
            Source::Server
        };
        (value, source)
    }

    /// The value that the topic has of its own.
    pub(super) fn of(&self, settings: &LogSettings) -> Option<String> {
        match self.name {
            "retention.ms" => settings.retention_ms.map(|ms| ms.to_string()),
            "retention.bytes" => settings.retention_bytes.map(|bytes| bytes.to_string()),
            "max.message.bytes" => settings.message_bytes_max.map(|bytes| bytes.to_string()),
            "cleanup.policy" => settings.cleanup.map(|policy| spell(policy).to_owned()),
            "message.timestamp.type" => settings.log_append_time.map(|stamped| {
                if stamped {
                    "LogAppendTime"
                } else {
                    "CreateTime"
                }
                .to_owned()
            }),
            name => {
                let found = settings.others.iter().find(|(known, _)| known == name);
                found.map(|(_, value)| value.clone())
            }
        }
    }

    /// Sets or, with `None`, takes away the topic's own value.
    pub(super) fn set(
        &'static self,
        settings: &mut LogSettings,
        value: Option<&str>,
    ) -> Result<(), InvalidSetting> {
        if let Some(value) = value {
            self.check(value)?;
        }
        match self.name {
            "retention.ms" => settings.retention_ms = self.number(value, -1)?,
            "retention.bytes" => settings.retention_bytes = self.number(value, -1)?,
            "max.message.bytes" => settings.message_bytes_max = self.number(value, 0)?,
            "cleanup.policy" => settings.cleanup = value.map(policy),
            "message.timestamp.type" => {
                settings.log_append_time = value.map(|value| value == "LogAppendTime");
            }
            name => {
                settings.others.retain(|(known, _)| known != name);
                if let Some(value) = value {
                    settings.others.push((name.to_owned(), value.to_owned()));
                }
            }
        }
        Ok(())
    }

    /// Is the value of the setting's type, and one of those it may have?
    fn check(&'static self, value: &str) -> Result<(), InvalidSetting> {
        let fits = match self.kind {
            Kind::Boolean => matches!(value, "true" | "false"),
            Kind::Int => value.parse::<i32>().is_ok(),
            Kind::Long => value.parse::<i64>().is_ok(),
            Kind::Double => value.parse::<f64>().is_ok_and(f64::is_finite),
            Kind::String => self.values.is_empty() || self.values.contains(&value),
            Kind::List => !value.is_empty() && items(value).all(|item| self.values.contains(&item)),
        };
        if fits {
            Ok(())
        } else {
            Err(self.invalid(value))
        }
    }

    fn number<N: std::str::FromStr + PartialOrd + From<i8>>(
        &'static self,
        value: Option<&str>,
        min: i8,
    ) -> Result<Option<N>, InvalidSetting> {
        let Some(value) = value else { return Ok(None) };
        let number = value
            .parse::<N>()
            .ok()
            .filter(|number| *number >= N::from(min));
        number.map(Some).ok_or_else(|| self.invalid(value))
    }

    fn invalid(&'static self, value: &str) -> InvalidSetting {
        InvalidSetting::Value {
            name: self.name,
            value: value.to_owned(),
        }
    }

    /// The value with items of a list added or taken out.
    pub(super) fn with_items(
        &'static self,
        current: &str,
        value: &str,
        add: bool,
    ) -> Result<String, InvalidSetting> {
        if self.kind != Kind::List {
            return Err(InvalidSetting::NoList(self.name));
        }
        let mut list: Vec<&str> = items(current).collect();
        for item in items(value) {
            if !add {
                list.retain(|known| *known != item);
            } else if !list.contains(&item) {
                list.push(item);
            }
        }
        Ok(list.join(","))
    }
}

/// The path template of a topic.
pub(super) fn path_template(info: &TopicInfo) -> (String, Source) {
    match &info.path_template {
        Some(own) => (own.clone(), Source::Topic),
        None => (PathTemplate::default_text(&info.name), Source::Default),
    }
}

/// Takes a new topic's path template out of its settings.
pub(super) fn take_path_template(settings: &mut LogSettings) -> Option<String> {
    let mut others = settings.others.iter();
    let at = others.position(|(name, _)| name == PATH_TEMPLATE)?;
    Some(settings.others.remove(at).1)
}

/// The settings of a new topic.
pub(super) fn parse<'a>(
    configs: impl Iterator<Item = (&'a StrBytes, Option<&'a StrBytes>)>,
) -> Result<LogSettings, InvalidSetting> {
    let mut settings = LogSettings::default();
    for (name, value) in configs {
        let setting = Setting::find(name)?;
        let value = value.ok_or(InvalidSetting::Null(setting.name))?;
        setting.set(&mut settings, Some(value))?;
    }
    Ok(settings)
}

/// A setting's name for a response.
pub(super) fn name_text(setting: &Setting) -> StrBytes {
    text(setting.name)
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

fn policy(value: &str) -> CleanupPolicy {
    let compact = items(value).any(|item| item == "compact");
    let delete = items(value).any(|item| item == "delete");
    match (compact, delete) {
        (true, true) => CleanupPolicy::CompactDelete,
        (true, false) => CleanupPolicy::Compact,
        (false, _) => CleanupPolicy::Delete,
    }
}

fn spell(policy: CleanupPolicy) -> &'static str {
    match policy {
        CleanupPolicy::Delete => "delete",
        CleanupPolicy::Compact => "compact",
        CleanupPolicy::CompactDelete => "compact,delete",
    }
}
