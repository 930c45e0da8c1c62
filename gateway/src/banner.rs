//! What a person sees at the start: what listens where, and how to try it.

use crate::config::{Durability, ProtocolName, Settings};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;

/// Prints it to stdout.
pub(crate) fn print(settings: &Settings, addresses: &BTreeMap<String, SocketAddr>) {
    let text = text(settings, addresses);
    // Nobody may be reading.
    _ = std::io::stdout().write_all(text.as_bytes());
    _ = std::io::stdout().flush();
}

fn text(settings: &Settings, addresses: &BTreeMap<String, SocketAddr>) -> String {
    let durability = match settings.durability {
        Durability::Synced => "acknowledged when synced to disk",
        Durability::Written => "acknowledged when written; the last moments may be lost with power",
    };
    let mut text = format!(
        "omnilog {} · data in {} · {durability}\n",
        env!("CARGO_PKG_VERSION"),
        settings.data_dir.display(),
    );
    for (name, address) in addresses {
        let (speaks, hint) = match settings.listeners.get(name) {
            None => ("admin".to_owned(), format!("curl http://{address}/metrics")),
            Some(listener) => {
                let protocol = listener.protocol.unwrap_or(ProtocolName::Auto);
                let mut speaks = protocol.as_str().to_owned();
                if listener.tls.is_some() {
                    speaks.push_str("+tls");
                }
                (speaks, hint(protocol, *address))
            }
        };
        _ = writeln!(text, "  {name:<8} {speaks:<10} {address:<22} {hint}");
    }
    text
}

fn hint(protocol: ProtocolName, address: SocketAddr) -> String {
    let (host, port) = (address.ip(), address.port());
    match protocol {
        ProtocolName::Kafka => format!("kcat -b {address} -t hello -C"),
        ProtocolName::Amqp => format!("amqp://guest:guest@{address}/"),
        ProtocolName::Mqtt => format!("mosquitto_sub -h {host} -p {port} -t 'hello/#'"),
        ProtocolName::Auto => "kafka, amqp and mqtt on one port".to_owned(),
    }
}
