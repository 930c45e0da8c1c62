//! Kafka records that are read long after they were written: beside a live load, or as fast as it goes.

use super::beside::{beside, part};
use super::connect::{Counted, add_publishers, add_subscribers, create, remove};
use super::engine::{Engine, Pace, Stretch};
use super::figure::Figure;
use super::measure::{Broker, REST, figure, fresh_name};
use super::plan::Plan;
use std::thread::sleep;

/// A steady load before and while somebody reads old records.
pub(super) fn cold(plan: &Plan, broker: &Broker) -> anyhow::Result<Vec<Figure>> {
    let old = Plan {
        rate: None,
        ..plan.clone()
    };
    let name = fresh_name();
    write(&old, &name, broker, plan.backlog)?;
    // What the system has yet to write would disturb the first part and not the second.
    rustix::fs::sync();
    sleep(REST);
    let figures = beside(plan, &fresh_name(), broker, plan.backlog, || {
        read(&old, &name, broker, plan.backlog).map(|stretch| stretch.background)
    })?;
    remove(&old, &name, &broker.target)?;
    Ok(figures)
}

/// As many records in one topic and in many: how fast are they read?
pub(super) fn catch_up(plan: &Plan, broker: &Broker) -> anyhow::Result<Vec<Figure>> {
    let records = plan.messages.unwrap_or(1_000_000);
    let mut figures = Vec::new();
    for (name_of_part, topics) in [("one", 1), ("many", plan.topics)] {
        let plan = Plan {
            topics,
            ..part(plan, name_of_part)
        };
        let name = fresh_name();
        write(&plan, &name, broker, records)?;
        let watch = broker.watch()?;
        let mut stretch = read(&plan, &name, broker, records)?;
        let seen = watch.map(|watch| watch.end()).transpose()?;
        stretch.published = records;
        stretch.delivered = std::mem::take(&mut stretch.background);
        stretch.missing = records.saturating_sub(stretch.delivered);
        figures.push(figure(&plan, broker, &stretch, seen.as_ref()));
        remove(&plan, &name, &broker.target)?;
    }
    Ok(figures)
}

fn write(plan: &Plan, name: &str, broker: &Broker, records: u64) -> anyhow::Result<()> {
    create(plan, name, &broker.target)?;
    let mut engine = Engine::new()?;
    add_publishers(&mut engine, plan, name, &broker.target)?;
    engine.run(&Pace {
        messages: Some(records),
        has_acks: true,
        ..Pace::default()
    })?;
    Ok(())
}

fn read(plan: &Plan, name: &str, broker: &Broker, records: u64) -> anyhow::Result<Stretch> {
    let mut engine = Engine::new()?;
    let counted = Counted::Background;
    add_subscribers(&mut engine, plan, name, &broker.target, counted)?;
    engine.run(&Pace {
        background: Some(records),
        may_lose: true,
        ..Pace::default()
    })
}
