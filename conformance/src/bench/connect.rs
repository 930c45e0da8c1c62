//! Makes what a load needs on the broker, connects its publishers and subscribers, and puts them into the engine.

use super::engine::{Engine, Pace};
use super::peers::{amqp, kafka, mqtt};
use super::plan::{Plan, Protocol};
use crate::harness::Target;
use crate::raw;
use anyhow::Context as _;
use mqttbytes::QoS;

/// Declarations sent before their answers are awaited.
const PIPELINE: usize = 500;
/// Topics made or deleted by one request.
const TOPICS_AT_ONCE: usize = 50;

/// A plan's connections, subscribed and ready. `name` makes its topics and queues its own.
pub(super) fn connect(plan: &Plan, name: &str, target: &Target) -> anyhow::Result<Engine> {
    create(plan, name, target)?;
    let mut engine = Engine::new()?;
    add_subscribers(&mut engine, plan, name, target, Counted::Measured)?;
    add_publishers(&mut engine, plan, name, target)?;
    Ok(engine)
}

/// How a subscriber's deliveries count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// With their latencies.
    Measured,
    Background,
}

/// Makes the topics and queues.
pub(super) fn create(plan: &Plan, name: &str, target: &Target) -> anyhow::Result<()> {
    plan.check()?;
    let topics = topic_names(plan, name);
    match plan.protocol {
        Protocol::Mqtt => Ok(()),
        Protocol::Amqp => create_queues(plan, name, target.amqp()?, &topics),
        Protocol::Kafka => create_topics(target.kafka()?, &topics),
    }
    .context("creating topics or queues")
}

pub(super) fn add_subscribers(
    engine: &mut Engine,
    plan: &Plan,
    name: &str,
    target: &Target,
    counted: Counted,
) -> anyhow::Result<()> {
    let topics = topic_names(plan, name);
    for of in 0..plan.subscribers {
        let own: Vec<String> = (0..topics.len())
            .filter(|&number| plan.takes(of, number))
            .map(|number| topics[number].clone())
            .collect();
        match plan.protocol {
            Protocol::Mqtt => {
                let id = format!("{name}-s{of}");
                mqtt_subscriber(engine, plan, target.mqtt()?, &id, &own)
            }
            Protocol::Amqp => amqp_consumer(engine, plan, target.amqp()?, &own),
            Protocol::Kafka => kafka_fetcher(engine, target.kafka()?, &own, counted),
        }
        .context("connecting a subscriber")?;
    }
    Ok(())
}

pub(super) fn add_publishers(
    engine: &mut Engine,
    plan: &Plan,
    name: &str,
    target: &Target,
) -> anyhow::Result<()> {
    let topics = topic_names(plan, name);
    for of in 0..plan.publishers {
        let own: Vec<String> = plan.written_by(of, &topics).into_iter().cloned().collect();
        match plan.protocol {
            Protocol::Mqtt => {
                let id = format!("{name}-p{of}");
                mqtt_publisher(engine, plan, target.mqtt()?, &id, &own)
            }
            Protocol::Amqp => amqp_publisher(engine, plan, name, target.amqp()?, &own),
            Protocol::Kafka => kafka_producer(engine, plan, target.kafka()?, &own),
        }
        .context("connecting a publisher")?;
    }
    Ok(())
}

/// Deletes what was made for a plan whose connections are closed.
pub(super) fn remove(plan: &Plan, name: &str, target: &Target) -> anyhow::Result<()> {
    let topics = topic_names(plan, name);
    match plan.protocol {
        Protocol::Mqtt => Ok(()),
        Protocol::Amqp => {
            let mut client = raw::amqp::Client::open(target.amqp()?)?;
            let mut parts = topics.chunks(PIPELINE);
            parts.try_for_each(|part| client.delete_queues(part))?;
            if plan.fan {
                client.delete_exchange(&exchange_name(name))?;
            }
            Ok(())
        }
        Protocol::Kafka => {
            let mut client = raw::kafka::Client::open(target.kafka()?)?;
            let mut parts = topics.chunks(TOPICS_AT_ONCE);
            parts.try_for_each(|part| client.delete_all(part))
        }
    }
    .context("cleaning up")
}

fn topic_names(plan: &Plan, name: &str) -> Vec<String> {
    let topic = |number| match plan.protocol {
        Protocol::Mqtt => format!("{name}/t{number}"),
        _ => format!("{name}-t{number}"),
    };
    (0..plan.topics).map(topic).collect()
}

fn exchange_name(name: &str) -> String {
    format!("{name}-x")
}

impl Plan {
    /// The pace of a plan's measured part.
    pub(super) fn pace(&self) -> Pace<'static> {
        Pace {
            rate: self.rate,
            messages: self.messages,
            seconds: self.seconds,
            undelivered_max: self.undelivered_max.max(1),
            copies: self.copies(),
            has_acks: self.has_acks(),
            may_lose: self.protocol == Protocol::Mqtt && self.qos == 0,
            ..Pace::default()
        }
    }

    fn has_acks(&self) -> bool {
        match self.protocol {
            Protocol::Mqtt => self.qos > 0,
            Protocol::Amqp => self.window > 0,
            Protocol::Kafka => self.acks != 0,
        }
    }

    /// The topics that publisher `number` writes: all, each beginning elsewhere.
    fn written_by<'a>(&self, number: usize, topics: &'a [String]) -> Vec<&'a String> {
        let first = number % topics.len();
        let order = topics[first..].iter().chain(&topics[..first]);
        order.collect()
    }
}

fn create_queues(plan: &Plan, name: &str, address: &str, queues: &[String]) -> anyhow::Result<()> {
    let exchange = exchange_name(name);
    let mut client = raw::amqp::Client::open(address)?;
    if plan.fan {
        client.declare_exchange(&exchange, "fanout")?;
    }
    for part in queues.chunks(PIPELINE) {
        client.declare_queues(part)?;
        if plan.fan {
            client.bind_queues(part, &exchange)?;
        }
    }
    Ok(())
}

fn create_topics(address: &str, topics: &[String]) -> anyhow::Result<()> {
    let mut client = raw::kafka::Client::open(address)?;
    for part in topics.chunks(TOPICS_AT_ONCE) {
        client.create_all(part, &[])?;
    }
    topics
        .iter()
        .try_for_each(|topic| client.await_leader(topic))
}

fn mqtt_subscriber(
    engine: &mut Engine,
    plan: &Plan,
    address: &str,
    id: &str,
    topics: &[String],
) -> anyhow::Result<()> {
    let qos = if plan.qos == 0 {
        QoS::AtMostOnce
    } else {
        QoS::AtLeastOnce
    };
    let mut client = raw::mqtt::Client::open(address, id, true)?;
    for topic in topics {
        client.subscribe(topic, qos)?;
    }
    let (stream, read_ahead) = client.into_stream();
    let peer = Box::new(mqtt::Subscriber::default());
    engine.add(stream, &read_ahead, peer, false)
}

fn mqtt_publisher(
    engine: &mut Engine,
    plan: &Plan,
    address: &str,
    id: &str,
    topics: &[String],
) -> anyhow::Result<()> {
    let client = raw::mqtt::Client::open(address, id, true)?;
    let (bytes, window) = (plan.payload_bytes, plan.window as usize);
    let peer = Box::new(mqtt::Publisher::new(topics, bytes, plan.qos, window));
    let (stream, read_ahead) = client.into_stream();
    engine.add(stream, &read_ahead, peer, true)
}

fn amqp_consumer(
    engine: &mut Engine,
    plan: &Plan,
    address: &str,
    queues: &[String],
) -> anyhow::Result<()> {
    let mut client = raw::amqp::Client::open(address)?;
    client.consume_all(queues, plan.prefetch, plan.ack_batch == 0)?;
    let (stream, read_ahead) = client.into_stream();
    let peer = Box::new(amqp::Consumer::new(plan.ack_batch));
    engine.add(stream, &read_ahead, peer, false)
}

fn amqp_publisher(
    engine: &mut Engine,
    plan: &Plan,
    name: &str,
    address: &str,
    queues: &[String],
) -> anyhow::Result<()> {
    let mut client = raw::amqp::Client::open(address)?;
    if plan.window > 0 {
        client.confirm()?;
    }
    let addresses: Vec<(String, String)> = if plan.fan {
        vec![(exchange_name(name), String::new())]
    } else {
        let queues = queues.iter().cloned();
        queues.map(|queue| (String::new(), queue)).collect()
    };
    let (stream, read_ahead) = client.into_stream();
    let peer = amqp::Publisher::new(&addresses, plan.payload_bytes, plan.persistent, plan.window);
    engine.add(stream, &read_ahead, Box::new(peer), true)
}

fn kafka_fetcher(
    engine: &mut Engine,
    address: &str,
    topics: &[String],
    counted: Counted,
) -> anyhow::Result<()> {
    let is_background = counted == Counted::Background;
    let peer = Box::new(kafka::Fetcher::new(topics.iter().cloned(), is_background));
    let client = raw::kafka::Client::open(address)?;
    engine.add(client.stream, &[], peer, false)
}

fn kafka_producer(
    engine: &mut Engine,
    plan: &Plan,
    address: &str,
    topics: &[String],
) -> anyhow::Result<()> {
    let peer = kafka::Producer::new(
        topics,
        plan.payload_bytes,
        plan.batch(),
        plan.acks,
        plan.requests_max,
        plan.rate.is_none(),
    );
    let client = raw::kafka::Client::open(address)?;
    engine.add(client.stream, &[], Box::new(peer), true)
}
