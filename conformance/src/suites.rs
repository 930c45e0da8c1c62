//! Every case there is, by suite.

mod amqp;
mod crossing;
mod faults;
mod kafka;
mod load;
mod mqtt;

use crate::case::{Case, Client, Run, Speaks};
use std::time::Duration;

pub(crate) fn all() -> Vec<Case> {
    [
        kafka::cases(),
        amqp::cases(),
        mqtt::cases(),
        crossing::cases(),
        load::cases(),
        faults::cases(),
    ]
    .concat()
}

const KAFKA: &[Speaks] = &[Speaks::Kafka];
const AMQP: &[Speaks] = &[Speaks::Amqp];
const MQTT: &[Speaks] = &[Speaks::Mqtt];
const ALL: &[Speaks] = &[Speaks::Kafka, Speaks::Amqp, Speaks::Mqtt];

/// A case that a driver carries out; it is called the same here and there.
fn driver(
    suite: &'static str,
    speaks: &'static [Speaks],
    client: Client,
    name: &'static str,
) -> Case {
    Case {
        suite,
        name,
        speaks,
        clients: &[],
        timeout: Duration::from_secs(60),
        run: Run::Driver(client, name),
    }
}

/// The same, in two phases with a kill of the gateway between them.
fn restarted(
    suite: &'static str,
    speaks: &'static [Speaks],
    client: Client,
    name: &'static str,
) -> Case {
    Case {
        run: Run::Restarted(client, name),
        ..driver(suite, speaks, client, name)
    }
}
