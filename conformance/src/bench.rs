//! The load program: what a broker gets through, what it costs in CPU time, and the latency that clients see, at full
//! speed and at a steady rate.
//!
//! One thread drives all connections of a load (`engine`), with a peer for each (`peers`); `plan` says what is sent,
//! `connect` makes it so, `measure` runs it once. `compare` does that for several brokers in turn.

mod beside;
mod book;
mod compare;
mod connect;
mod engine;
mod figure;
mod measure;
mod old_records;
mod peers;
mod plan;
mod resume;
mod upkeep;
mod wire;

use crate::cli::{BenchArgs, BenchCommand, Scenario};
use crate::harness::{Gateway, GatewayOptions, Launcher, Target};
use anyhow::{Context as _, ensure};
use figure::Figure;
use measure::Broker;
use plan::{Plan, Shape};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

/// What is measured when nothing is named.
const USUAL: [Scenario; 5] = [
    Scenario::Kafka,
    Scenario::Amqp,
    Scenario::Mqtt0,
    Scenario::Mqtt1,
    Scenario::Fanout,
];

pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    allow_many_files();
    if let Some(BenchCommand::Compare(args)) = &args.command {
        return compare::run(args);
    }
    let launcher = Launcher::new(args.target.gateway.as_deref(), &args.target.set);
    let (_gateway, broker) = broker(args, &launcher)?;
    let scenarios: Vec<Scenario> = if args.scenarios.is_empty() {
        let spoken = |scenario: &Scenario| {
            let protocol = Plan::named(*scenario).protocol;
            protocol.address(&broker.target).is_ok()
        };
        USUAL.into_iter().filter(spoken).collect()
    } else {
        args.scenarios.clone()
    };
    println!("{}", figure::HEADER);
    let mut figures = Vec::new();
    for scenario in scenarios {
        let plan = Plan::named(scenario).with(&args.load, &args.pace);
        for plan in plan.loops(&args.pace) {
            let runs: Vec<Vec<Figure>> = (0..args.runs.max(1))
                .map(|_| match plan.shape {
                    Shape::Upkeep => upkeep::measure(&plan, &launcher),
                    _ => measure::measure(&plan, &broker),
                })
                .collect::<anyhow::Result<_>>()?;
            for median in Figure::medians(&runs) {
                println!("{}", median.row());
                figures.push(median);
            }
        }
    }
    if let Some(file) = &args.json {
        write_json(file, &json!({"figures": figures}))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A named load, made short, in each of its loops: everything must come.
pub(crate) fn brief(scenario: Scenario, target: &Target) -> anyhow::Result<()> {
    let broker = Broker {
        name: "broker".to_owned(),
        target: target.clone(),
        pid: None,
    };
    for plan in Plan::named(scenario).brief() {
        for figure in measure::measure(&plan, &broker)? {
            let (pace, missing) = (&figure.pace, figure.missing);
            ensure!(missing == 0, "{pace}: {missing} messages never came");
            ensure!(figure.published > 0, "{pace}: nothing was sent");
            let timed = figure.delivery.count;
            let all = if plan.shape == Shape::CatchUp {
                0
            } else {
                figure.delivered
            };
            ensure!(
                timed == all,
                "{pace}: latencies of {timed} of {all} deliveries"
            );
        }
    }
    Ok(())
}

/// The load on gateways that are busy with their own files, for a moment.
pub(crate) fn brief_upkeep(launcher: &Launcher) -> anyhow::Result<()> {
    for plan in Plan::named(Scenario::Upkeep).brief() {
        for figure in upkeep::measure(&plan, launcher)? {
            let (part, published) = (&figure.scenario, figure.published);
            ensure!(figure.delivered == published, "{part}: some are missing");
        }
    }
    Ok(())
}

/// The broker that is named, or a gateway that is started.
fn broker(args: &BenchArgs, launcher: &Launcher) -> anyhow::Result<(Option<Gateway>, Broker)> {
    if args.target.is_foreign() {
        let broker = Broker {
            name: "broker".to_owned(),
            target: Target::foreign(&args.target),
            pid: args.pid,
        };
        return Ok((None, broker));
    }
    ensure!(
        args.pid.is_none(),
        "--pid is for a broker that runs already"
    );
    let gateway = launcher.start(&GatewayOptions::default())?;
    let broker = Broker {
        name: "omnilog".to_owned(),
        target: gateway.target().clone(),
        pid: Some(gateway.pid()?),
    };
    Ok((Some(gateway), broker))
}

/// As many connections as this process may have, and brokers that it starts.
fn allow_many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Without, a load of thousands of connections says itself what it lacks.
    _ = setrlimit(Resource::Nofile, limit);
}

fn write_json(file: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let text = format!("{}\n", serde_json::to_string_pretty(value)?);
    fs::write(file, text).with_context(|| format!("write {}", file.display()))
}
