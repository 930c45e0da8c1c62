//! The load program's scenarios, each for a moment: they drive the broker, and everything comes.

use super::{AMQP, KAFKA, MQTT};
use crate::bench;
use crate::case::{Case, Context, Run, Speaks};
use crate::cli::Scenario;
use std::time::Duration;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("kafka", KAFKA, |context| brief(context, Scenario::Kafka)),
        case("amqp", AMQP, |context| brief(context, Scenario::Amqp)),
        case("mqtt0", MQTT, |context| brief(context, Scenario::Mqtt0)),
        case("mqtt1", MQTT, |context| brief(context, Scenario::Mqtt1)),
        case("fanout", MQTT, |context| brief(context, Scenario::Fanout)),
        case("queues", AMQP, |context| brief(context, Scenario::Queues)),
        case("resume", MQTT, |context| brief(context, Scenario::Resume)),
        case("cold", KAFKA, |context| brief(context, Scenario::Cold)),
        case("catch_up", KAFKA, |context| {
            brief(context, Scenario::CatchUp)
        }),
        Case {
            run: Run::Own(|context| bench::brief_upkeep(context.launcher)),
            ..case("upkeep", AMQP, |_| Ok(()))
        },
    ]
}

fn case(
    name: &'static str,
    speaks: &'static [Speaks],
    run: fn(&Context<'_>) -> anyhow::Result<()>,
) -> Case {
    Case {
        suite: "load",
        name,
        speaks,
        clients: &[],
        timeout: Duration::from_secs(60),
        run: Run::Shared(run),
    }
}

fn brief(context: &Context<'_>, scenario: Scenario) -> anyhow::Result<()> {
    bench::brief(scenario, &context.target)
}
