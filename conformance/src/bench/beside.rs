//! A steady load alone, and then beside something else that the broker has to do.

use super::connect::{connect, remove};
use super::engine::Pace;
use super::figure::Figure;
use super::measure::{Broker, figure};
use super::plan::Plan;
use anyhow::anyhow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Measures the load before and during what `other` does; that says how many messages it was given, of `all`.
pub(super) fn beside(
    plan: &Plan,
    name: &str,
    broker: &Broker,
    all: u64,
    other: impl FnOnce() -> anyhow::Result<u64> + Send,
) -> anyhow::Result<Vec<Figure>> {
    let mut live = connect(plan, name, &broker.target)?;
    let pace = plan.pace();
    live.run(&Pace {
        messages: Some(plan.warm_up),
        ..pace
    })?;
    let watch = broker.watch()?;
    let before = live.run(&pace)?;
    let seen = watch.map(|watch| watch.end()).transpose()?;
    let before = figure(&part(plan, "before"), broker, &before, seen.as_ref());

    let is_over = AtomicBool::new(false);
    let watch = broker.watch()?;
    let (during, given) = thread::scope(|scope| {
        let other = scope.spawn(|| {
            let given = other();
            is_over.store(true, Ordering::Relaxed);
            given
        });
        let during = live.run(&Pace {
            messages: None,
            seconds: None,
            until: Some(&is_over),
            ..pace
        });
        (during, other.join())
    });
    let seen = watch.map(|watch| watch.end()).transpose()?;
    let given = given.map_err(|_| anyhow!("the thread of the other load panicked"))??;
    let mut during = during?;
    during.background = given;
    during.missing += all.saturating_sub(given);
    let during = figure(&part(plan, "during"), broker, &during, seen.as_ref());
    drop(live);
    remove(plan, name, &broker.target)?;
    Ok(vec![before, during])
}

/// The plan of one part of a scenario.
pub(super) fn part(plan: &Plan, part: &str) -> Plan {
    Plan {
        scenario: format!("{}:{part}", plan.scenario),
        ..plan.clone()
    }
}
