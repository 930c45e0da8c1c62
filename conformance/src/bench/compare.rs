//! The gateway and the servers that clients of each protocol usually meet, in turn: every round measures each of them once,
//! so that what else the machine does meets all alike.

use super::figure::{self, Figure};
use super::measure::{self, Broker};
use super::plan::{Plan, Protocol};
use super::{USUAL, write_json};
use crate::cli::{CompareArgs, Scenario};
use crate::clients::Clients;
use crate::harness::{Gateway, GatewayOptions, Launcher, Oracle, OracleKind};
use anyhow::{Context as _, bail, ensure};
use serde::Serialize;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

/// The gateway with its defaults, and with what others do without: syncs before acknowledgements, and a log that Kafka clients
/// can read.
const VARIANTS: [Variant; 3] = [
    Variant {
        name: "omnilog",
        set: &[],
        has_log: true,
    },
    Variant {
        name: "omnilog-written",
        set: &["durability=written"],
        has_log: true,
    },
    Variant {
        name: "omnilog-nolog",
        set: &["topics.log_none=[\"*\"]"],
        has_log: false,
    },
];

struct Variant {
    name: &'static str,
    set: &'static [&'static str],
    has_log: bool,
}

/// What runs, for as long as a scenario takes.
#[expect(
    dead_code,
    reason = "held so that the broker runs; ended when it is dropped"
)]
enum Running {
    Gateway(Gateway),
    Oracle(Oracle),
}

struct Contestant {
    broker: Broker,
    _running: Running,
}

/// One of the gateway's medians divided by the other server's.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Ratio {
    scenario: String,
    pace: String,
    broker: String,
    reference: String,
    delivered_per_s: f64,
    broker_cpu: Option<f64>,
    p50: f64,
    p99: f64,
    #[serde(rename = "p99.9")]
    p999: f64,
}

pub(super) fn run(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    check_names(&args.brokers)?;
    let launcher = Launcher::new(args.gateway.as_deref(), &args.set);
    ensure!(
        launcher.is_found(),
        "no omnilog binary beside this program: build it, or name one with --gateway"
    );
    let clients = Clients::new(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/clients")));
    let scenarios = if args.scenarios.is_empty() {
        &USUAL[..]
    } else {
        &args.scenarios
    };
    let (mut figures, mut medians, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut failures = Vec::new();
    for &scenario in scenarios {
        let rounds = rounds(args, scenario, &launcher, clients.cache(), &mut failures)?;
        let here = medians_of(&rounds);
        let compared = ratios_of(&here, reference(scenario).name());
        print(&here, &compared);
        figures.extend(rounds);
        medians.extend(here);
        ratios.extend(compared);
        // After each scenario: a run takes long, and what it has is kept.
        if let Some(file) = &args.json {
            let all = json!({
                "rounds": figures, "medians": medians, "ratios": ratios, "failures": failures,
            });
            write_json(file, &all)?;
        }
    }
    Ok(if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn check_names(brokers: &[String]) -> anyhow::Result<()> {
    let oracles = [
        OracleKind::Kafka,
        OracleKind::RabbitMq,
        OracleKind::Mosquitto,
    ];
    let names: Vec<&str> = VARIANTS
        .iter()
        .map(|variant| variant.name)
        .chain(oracles.map(OracleKind::name))
        .collect();
    match brokers.iter().find(|name| !names.contains(&name.as_str())) {
        Some(name) => bail!("no broker is called {name}; there are {}", names.join(", ")),
        None => Ok(()),
    }
}

/// Whom clients of this protocol usually meet.
fn reference(scenario: Scenario) -> OracleKind {
    match Plan::named(scenario).protocol {
        Protocol::Kafka => OracleKind::Kafka,
        Protocol::Amqp => OracleKind::RabbitMq,
        Protocol::Mqtt => OracleKind::Mosquitto,
    }
}

/// All measurements of a scenario, in the order in which they were made.
fn rounds(
    args: &CompareArgs,
    scenario: Scenario,
    launcher: &Launcher,
    cache: &Path,
    failures: &mut Vec<String>,
) -> anyhow::Result<Vec<Figure>> {
    let mut contestants = contestants(args, scenario, launcher, cache)?;
    let plan = Plan::named(scenario).with(&args.load, &args.pace);
    let mut fail = |error: anyhow::Error| {
        println!("FAILED: {error:#}");
        failures.push(format!("{error:#}"));
    };
    contestants.retain(|contestant| {
        measure::measure(&plan.first(), &contestant.broker)
            .map_err(&mut fail)
            .is_ok()
    });
    let mut figures = Vec::new();
    for plan in plan.loops(&args.pace) {
        for _ in 0..args.rounds.max(1) {
            for contestant in &contestants {
                match measure::measure(&plan, &contestant.broker) {
                    Ok(measured) => figures.extend(measured),
                    Err(error) => fail(error),
                }
            }
            // Nobody always comes after the same one.
            if !contestants.is_empty() {
                contestants.rotate_left(1);
            }
        }
    }
    Ok(figures)
}

/// Starts everybody who takes part in a scenario.
fn contestants(
    args: &CompareArgs,
    scenario: Scenario,
    launcher: &Launcher,
    cache: &Path,
) -> anyhow::Result<Vec<Contestant>> {
    let takes_part =
        |name: &str| args.brokers.is_empty() || args.brokers.iter().any(|one| one == name);
    let mut contestants = Vec::new();
    for variant in &VARIANTS {
        // A Kafka client's topic is a log.
        let fits = variant.has_log || scenario != Scenario::Kafka;
        if !fits || !takes_part(variant.name) {
            continue;
        }
        let options = GatewayOptions {
            set: variant.set.iter().map(ToString::to_string).collect(),
            ..GatewayOptions::default()
        };
        let gateway = launcher.start(&options).context(variant.name)?;
        contestants.push(Contestant {
            broker: Broker {
                name: variant.name.to_owned(),
                target: gateway.target().clone(),
                pid: Some(gateway.pid()?),
            },
            _running: Running::Gateway(gateway),
        });
    }
    let kind = reference(scenario);
    if takes_part(kind.name()) {
        if let Some(reason) = kind.missing(cache) {
            println!("without {}: {reason}", kind.name());
            return Ok(contestants);
        }
        let oracle = Oracle::start(kind, cache)?;
        contestants.push(Contestant {
            broker: Broker {
                name: kind.name().to_owned(),
                target: oracle.target().clone(),
                pid: Some(oracle.pid()?),
            },
            _running: Running::Oracle(oracle),
        });
    }
    Ok(contestants)
}

/// The median of each broker's rounds of the same.
fn medians_of(figures: &[Figure]) -> Vec<Figure> {
    let same = |a: &Figure, b: &Figure| {
        (&a.scenario, &a.pace, &a.broker) == (&b.scenario, &b.pace, &b.broker)
    };
    let mut groups: Vec<Vec<Figure>> = Vec::new();
    for figure in figures {
        match groups.iter_mut().find(|group| same(&group[0], figure)) {
            Some(group) => group.push(figure.clone()),
            None => groups.push(vec![figure.clone()]),
        }
    }
    groups
        .iter()
        .filter_map(|group| Figure::median(group))
        .collect()
}

fn ratios_of(medians: &[Figure], reference: &str) -> Vec<Ratio> {
    let mut ratios = Vec::new();
    for figure in medians.iter().filter(|figure| figure.broker != reference) {
        let other = medians.iter().find(|other| {
            (&other.scenario, &other.pace) == (&figure.scenario, &figure.pace)
                && other.broker == reference
        });
        let Some(other) = other else {
            continue;
        };
        let cpu = figure
            .broker_cpu_s_per_million
            .zip(other.broker_cpu_s_per_million);
        ratios.push(Ratio {
            scenario: figure.scenario.clone(),
            pace: figure.pace.clone(),
            broker: figure.broker.clone(),
            reference: reference.to_owned(),
            delivered_per_s: figure.delivered_per_s / other.delivered_per_s,
            broker_cpu: cpu.map(|(ours, theirs)| ours / theirs),
            p50: figure.delivery.p50_us / other.delivery.p50_us,
            p99: figure.delivery.p99_us / other.delivery.p99_us,
            p999: figure.delivery.p999_us / other.delivery.p999_us,
        });
    }
    ratios
}

/// A table of medians, each followed by its ratio.
fn print(medians: &[Figure], ratios: &[Ratio]) {
    println!("{}", figure::HEADER);
    for median in medians {
        println!("{}", median.row());
    }
    for ratio in ratios {
        println!("{}", ratio.row());
    }
    println!();
}

impl Ratio {
    /// In the columns of the figures.
    fn row(&self) -> String {
        let cpu = self
            .broker_cpu
            .map_or_else(|| "-".to_owned(), |ratio| format!("x{ratio:.2}"));
        format!(
            "{:<13} {:<7} {:<25} {:>9} {:>8} {:>7} {:>8} {:>8}  of {}'s",
            self.scenario,
            self.pace,
            self.broker,
            format!("x{:.2}", self.delivered_per_s),
            cpu,
            format!("x{:.2}", self.p50),
            format!("x{:.2}", self.p99),
            format!("x{:.2}", self.p999),
            self.reference,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figure::tests::figure;

    #[test]
    fn rounds_become_medians_and_ratios_per_broker() {
        let rounds = [
            figure("omnilog", 100.0, Some(1.0)),
            figure("rabbitmq", 10.0, Some(60.0)),
            figure("rabbitmq", 30.0, Some(70.0)),
            figure("omnilog", 300.0, Some(3.0)),
            figure("omnilog", 200.0, Some(2.0)),
            figure("rabbitmq", 20.0, Some(80.0)),
        ];
        let medians = medians_of(&rounds);
        let rates: Vec<(&str, f64)> = medians
            .iter()
            .map(|median| (median.broker.as_str(), median.delivered_per_s))
            .collect();
        assert_eq!(rates, [("omnilog", 200.0), ("rabbitmq", 20.0)]);
        let ratios = ratios_of(&medians, "rabbitmq");
        assert_eq!(ratios.len(), 1);
        assert_eq!((ratios[0].delivered_per_s, ratios[0].p99), (10.0, 10.0));
        assert_eq!(ratios[0].broker_cpu, Some(2.0 / 70.0));
        assert!(ratios[0].row().contains("x10.00"));
        assert!(ratios_of(&medians, "kafka").is_empty());
    }

    #[test]
    fn only_brokers_that_there_are_may_be_named() {
        assert!(check_names(&["omnilog-nolog".to_owned(), "kafka".to_owned()]).is_ok());
        assert!(check_names(&["nats".to_owned()]).is_err());
    }
}
