//! The configuration: one TOML file, single keys overridden on the command line, everything checked before anything
//! is started.

mod check;
mod load;
mod places;
mod settings;
#[cfg(test)]
mod tests;

pub(crate) use load::load;
pub(crate) use settings::{
    Durability, ListenerSettings, LogFormat, LogSettings, MappingSettings, ProtocolName, Settings,
    TlsSettings,
};
