//! Sessions that come back at once to what waited for them, beside a steady load whose latency is what counts.

use super::connect;
use super::engine::{Engine, Pace};
use super::figure::Figure;
use super::measure::{Broker, figure, fresh_name};
use super::peers::mqtt;
use super::plan::Plan;
use crate::raw;
use anyhow::{Context as _, anyhow, ensure};
use mqttbytes::QoS;
use mqttbytes::v4::Disconnect;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// The steady load without and with the sessions that come back.
pub(super) fn measure(plan: &Plan, broker: &Broker) -> anyhow::Result<Vec<Figure>> {
    let name = fresh_name();
    fill(plan, &name, broker)?;
    let mut live = connect::connect(plan, &name, &broker.target)?;
    let pace = plan.pace();
    live.run(&Pace {
        messages: Some(plan.warm_up),
        ..pace
    })?;
    let watch = broker.watch()?;
    let before = live.run(&pace)?;
    let seen = watch.map(|watch| watch.end()).transpose()?;
    let before = figure(&named(plan, "before"), broker, &before, seen.as_ref());

    let is_drained = AtomicBool::new(false);
    let watch = broker.watch()?;
    let (during, drained) = thread::scope(|scope| {
        let drain = scope.spawn(|| {
            let drained = drain(plan, &name, broker);
            is_drained.store(true, Ordering::Relaxed);
            drained
        });
        let during = live.run(&Pace {
            messages: None,
            seconds: None,
            until: Some(&is_drained),
            ..pace
        });
        (during, drain.join())
    });
    let drained = drained.map_err(|_| anyhow!("the sessions' thread panicked"))??;
    let mut during = during?;
    during.background = drained;
    during.missing += plan.sessions as u64 * plan.backlog - drained;
    let seen = watch.map(|watch| watch.end()).transpose()?;
    let during = figure(&named(plan, "during"), broker, &during, seen.as_ref());
    forget(plan, &name, broker)?;
    Ok(vec![before, during])
}

fn named(plan: &Plan, part: &str) -> Plan {
    Plan {
        scenario: format!("{}:{part}", plan.scenario),
        ..plan.clone()
    }
}

fn session(name: &str, number: usize) -> String {
    format!("{name}-b{number}")
}

/// Sessions that subscribe and leave, and what is then published for all of them.
fn fill(plan: &Plan, name: &str, broker: &Broker) -> anyhow::Result<()> {
    let address = broker.target.mqtt()?;
    let topic = format!("{name}/backlog");
    for number in 0..plan.sessions {
        let mut client = raw::mqtt::Client::open(address, &session(name, number), false)
            .with_context(|| format!("session {number}"))?;
        client.subscribe(&topic, QoS::AtLeastOnce)?;
        client.put(|out| Disconnect.write(out))?;
    }
    let mut publisher = raw::mqtt::Client::open(address, &format!("{name}-b"), true)?;
    let body = super::peers::payload(plan.payload_bytes);
    for _ in 0..plan.backlog {
        publisher.publish(&topic, QoS::AtLeastOnce, &body)?;
    }
    Ok(())
}

/// All sessions come back and take what is theirs; says how many messages that were.
fn drain(plan: &Plan, name: &str, broker: &Broker) -> anyhow::Result<u64> {
    let address = broker.target.mqtt()?;
    let mut engine = Engine::new()?;
    for number in 0..plan.sessions {
        let client = raw::mqtt::Client::open(address, &session(name, number), false)
            .with_context(|| format!("session {number}"))?;
        ensure!(client.session_present, "session {number} was forgotten");
        let (stream, read_ahead) = client.into_stream();
        engine.add(
            stream,
            &read_ahead,
            Box::new(mqtt::Subscriber::background()),
            false,
        )?;
    }
    let all = plan.sessions as u64 * plan.backlog;
    let drained = engine.run(&Pace {
        background: Some(all),
        may_lose: true,
        ..Pace::default()
    })?;
    Ok(drained.background.min(all))
}

fn forget(plan: &Plan, name: &str, broker: &Broker) -> anyhow::Result<()> {
    let address = broker.target.mqtt()?;
    for number in 0..plan.sessions {
        raw::mqtt::Client::open(address, &session(name, number), true)?;
    }
    Ok(())
}
