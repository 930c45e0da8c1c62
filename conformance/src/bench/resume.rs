//! Sessions that come back at once to what waited for them, beside a steady load whose latency is what counts.

use super::beside::beside;
use super::engine::{Engine, Pace};
use super::figure::Figure;
use super::measure::{Broker, fresh_name};
use super::peers::mqtt;
use super::plan::Plan;
use crate::raw;
use anyhow::Context as _;
use mqttbytes::QoS;
use mqttbytes::v4::Disconnect;

/// The steady load before and while the sessions come back.
pub(super) fn measure(plan: &Plan, broker: &Broker) -> anyhow::Result<Vec<Figure>> {
    let name = fresh_name();
    fill(plan, &name, broker)?;
    let all = plan.sessions as u64 * plan.backlog;
    let figures = beside(plan, &name, broker, all, || drain(plan, &name, broker))?;
    forget(plan, &name, broker)?;
    Ok(figures)
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

/// All sessions come back at once, without waiting for each other, and take what is theirs; says how many messages that
/// were.
fn drain(plan: &Plan, name: &str, broker: &Broker) -> anyhow::Result<u64> {
    let address = broker.target.mqtt()?;
    let mut engine = Engine::new()?;
    for number in 0..plan.sessions {
        let stream = raw::mqtt::Client::come_back(address, &session(name, number))
            .with_context(|| format!("session {number}"))?;
        let peer = Box::new(mqtt::Subscriber::come_back());
        engine.add(stream, &[], peer, false)?;
    }
    let all = plan.sessions as u64 * plan.backlog;
    let drained = engine.run(&Pace {
        background: Some(all),
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
