//! One run of a load against a broker: connect, warm up, rest, run, and see what it cost.

use super::connect::{connect, remove};
use super::engine::{Pace, Stretch};
use super::figure::Figure;
use super::old_records;
use super::plan::{Plan, Shape};
use super::resume;
use crate::harness::{Seen, Target, Watch};
use anyhow::{Context as _, bail};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

/// Before a run, whatever a broker has left to do is done.
pub(super) const REST: Duration = Duration::from_millis(700);

/// Who is measured.
#[derive(Debug, Clone)]
pub(super) struct Broker {
    pub(super) name: String,
    pub(super) target: Target,
    /// Whose CPU time is read, if anybody's.
    pub(super) pid: Option<i32>,
}

impl Broker {
    pub(super) fn watch(&self) -> anyhow::Result<Option<Watch>> {
        self.pid.map(Watch::begin).transpose()
    }
}

/// A name for topics and queues that no other run has used.
pub(super) fn fresh_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("bench-{}-{number}", std::process::id())
}

/// Runs a load once. Most have one figure; one of several parts has one for each.
pub(super) fn measure(plan: &Plan, broker: &Broker) -> anyhow::Result<Vec<Figure>> {
    let figures = match plan.shape {
        Shape::Live => run(plan, broker).map(|figure| vec![figure]),
        Shape::Resume => resume::measure(plan, broker),
        Shape::Cold => old_records::cold(plan, broker),
        Shape::CatchUp => old_records::catch_up(plan, broker),
        Shape::Upkeep => bail!("it starts gateways of its own"),
    };
    figures.with_context(|| format!("{} with {}", plan.scenario, broker.name))
}

fn run(plan: &Plan, broker: &Broker) -> anyhow::Result<Figure> {
    let name = fresh_name();
    let mut engine = connect(plan, &name, &broker.target)?;
    let pace = plan.pace();
    if plan.warm_up > 0 {
        engine.run(&Pace {
            messages: Some(plan.warm_up),
            ..pace
        })?;
    }
    sleep(REST);
    let watch = broker.watch()?;
    let stretch = engine.run(&pace)?;
    let seen = watch.map(|watch| watch.end()).transpose()?;
    drop(engine);
    remove(plan, &name, &broker.target)?;
    Ok(figure(plan, broker, &stretch, seen.as_ref()))
}

/// Puts together what the engine and the watch saw.
pub(super) fn figure(
    plan: &Plan,
    broker: &Broker,
    stretch: &Stretch,
    seen: Option<&Seen>,
) -> Figure {
    let deliveries = ((stretch.delivered + stretch.background) as f64).max(1.0);
    let millions = deliveries / 1e6;
    let per_million = |seconds: f64| seconds / millions;
    let seconds = stretch.seconds.max(1e-6);
    let threads = seen.into_iter().flat_map(|seen| &seen.threads_cpu_s);
    Figure {
        scenario: plan.scenario.clone(),
        broker: broker.name.clone(),
        pace: plan
            .rate
            .map_or_else(|| "closed".to_owned(), |rate| format!("{rate}/s")),
        published: stretch.published,
        delivered: stretch.delivered,
        missing: stretch.missing,
        seconds,
        published_per_s: stretch.published as f64 / seconds,
        delivered_per_s: stretch.delivered as f64 / seconds,
        broker_cpu_s_per_million: seen.map(|seen| per_million(seen.broker_cpu_s)),
        threads_cpu_s_per_million: threads
            .map(|(name, &seconds)| (name.clone(), per_million(seconds)))
            .collect(),
        client_cpu_s_per_million: seen.map_or(0.0, |seen| per_million(seen.client_cpu_s)),
        disk_bytes_per_delivery: seen.map(|seen| seen.disk_bytes as f64 / deliveries),
        rss_bytes: seen.map(|seen| seen.broker.rss_bytes),
        others_cores: seen.map(|seen| seen.others_cores),
        delivery: stretch.delivery,
        ack: stretch.ack,
        settings: plan.clone(),
    }
}
