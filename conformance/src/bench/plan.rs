//! What is sent: every setting of a load, and the loads that have a name.

use crate::cli::{LoadArgs, Loop, PaceArgs, Scenario};
use crate::harness::Target;
use anyhow::ensure;
use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Protocol {
    Kafka,
    Amqp,
    Mqtt,
}

impl Protocol {
    /// Where a broker speaks it.
    pub(super) fn address(self, target: &Target) -> anyhow::Result<&str> {
        match self {
            Self::Kafka => target.kafka(),
            Self::Amqp => target.amqp(),
            Self::Mqtt => target.mqtt(),
        }
    }
}

/// The parts that a load has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Shape {
    /// Publishers and subscribers at once.
    Live,
    /// A live load, and beside it sessions that come back to what waits for them.
    Resume,
    /// A live load, and beside it a reader of old records.
    Cold,
    /// Everything is written, and then read: of one topic, and of many.
    CatchUp,
    /// A live load on gateways that are busy with their own files, and on one that is not.
    Upkeep,
}

/// A load's settings. Those that a protocol has no use for are left as they are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Plan {
    pub(super) scenario: String,
    pub(super) shape: Shape,
    pub(super) protocol: Protocol,
    pub(super) payload_bytes: usize,
    pub(super) publishers: usize,
    /// Connections that receive.
    pub(super) subscribers: usize,
    /// Kafka topics of one partition, AMQP queues, or MQTT topics.
    pub(super) topics: usize,
    /// AMQP: every message goes to every queue, through a fanout exchange.
    pub(super) fan: bool,
    pub(super) qos: u8,
    pub(super) persistent: bool,
    pub(super) prefetch: u16,
    /// AMQP: one acknowledgement for so many messages; 0: none wanted.
    pub(super) ack_batch: u64,
    /// Unacknowledged messages of a publisher at most; AMQP without confirms if 0.
    pub(super) window: u64,
    /// Messages published and not yet delivered at most.
    pub(super) undelivered_max: u64,
    pub(super) acks: i16,
    pub(super) batch_bytes: usize,
    /// Kafka requests of a producer in flight.
    pub(super) requests_max: usize,
    /// Messages a second, open loop.
    pub(super) rate: Option<u64>,
    pub(super) messages: Option<u64>,
    pub(super) seconds: Option<f64>,
    pub(super) warm_up: u64,
    /// Sessions that come back.
    pub(super) sessions: usize,
    /// How much waits for each of them, or for the reader of old records.
    pub(super) backlog: u64,
}

impl Plan {
    fn base(scenario: Scenario, protocol: Protocol) -> Self {
        Self {
            scenario: scenario.name(),
            shape: Shape::Live,
            protocol,
            payload_bytes: 128,
            publishers: 1,
            subscribers: 1,
            topics: 1,
            fan: false,
            qos: 0,
            persistent: true,
            prefetch: 1000,
            ack_batch: 1,
            window: 1000,
            undelivered_max: 1000,
            acks: -1,
            batch_bytes: 16 << 10,
            requests_max: 5,
            rate: None,
            messages: Some(300_000),
            seconds: Some(5.0),
            warm_up: 20_000,
            sessions: 0,
            backlog: 0,
        }
    }

    /// The settings of a named load, at full speed.
    pub(super) fn named(scenario: Scenario) -> Self {
        let base = |protocol| Self::base(scenario, protocol);
        match scenario {
            Scenario::Kafka => Self {
                payload_bytes: 1024,
                undelivered_max: 16_384,
                ..base(Protocol::Kafka)
            },
            // The publisher's window and the consumer's.
            Scenario::Amqp => Self {
                undelivered_max: 2_000,
                ..base(Protocol::Amqp)
            },
            Scenario::Mqtt0 => Self {
                messages: Some(1_000_000),
                ..base(Protocol::Mqtt)
            },
            Scenario::Mqtt1 => Self {
                qos: 1,
                window: 100,
                ..base(Protocol::Mqtt)
            },
            Scenario::Resume => Self {
                shape: Shape::Resume,
                qos: 1,
                window: 1000,
                sessions: 5_000,
                backlog: 1_000,
                ..base(Protocol::Mqtt)
            },
            Scenario::Cold => Self {
                shape: Shape::Cold,
                payload_bytes: 1024,
                backlog: 10_000_000,
                ..base(Protocol::Kafka)
            },
            Scenario::CatchUp => Self {
                shape: Shape::CatchUp,
                payload_bytes: 1024,
                topics: 1_000,
                messages: Some(1_000_000),
                seconds: None,
                ..base(Protocol::Kafka)
            },
            Scenario::Upkeep => Self {
                shape: Shape::Upkeep,
                topics: 20_000,
                undelivered_max: 2_000,
                ..base(Protocol::Amqp)
            },
            Scenario::Fanout => Self {
                subscribers: 100,
                messages: Some(50_000),
                warm_up: 200,
                ..base(Protocol::Mqtt)
            },
            Scenario::Queues => Self {
                topics: 10_000,
                subscribers: 10,
                fan: true,
                window: 4,
                undelivered_max: 4,
                messages: Some(100),
                warm_up: 4,
                ..base(Protocol::Amqp)
            },
        }
    }

    /// With what the command line says instead.
    pub(super) fn with(mut self, args: &LoadArgs, pace: &PaceArgs) -> Self {
        fn set<T: Clone>(field: &mut T, value: Option<&T>) {
            if let Some(value) = value {
                *field = value.clone();
            }
        }
        set(&mut self.payload_bytes, args.payload_bytes.as_ref());
        set(&mut self.publishers, args.publishers.as_ref());
        set(&mut self.subscribers, args.subscribers.as_ref());
        set(&mut self.topics, args.topics.as_ref());
        set(&mut self.qos, args.qos.as_ref());
        set(&mut self.persistent, args.persistent.as_ref());
        set(&mut self.prefetch, args.prefetch.as_ref());
        set(&mut self.ack_batch, args.ack_batch.as_ref());
        set(&mut self.window, args.window.as_ref());
        set(&mut self.undelivered_max, args.undelivered_max.as_ref());
        set(&mut self.acks, args.acks.as_ref());
        set(&mut self.batch_bytes, args.batch_bytes.as_ref());
        set(&mut self.requests_max, args.requests_max.as_ref());
        set(&mut self.warm_up, args.warm_up.as_ref());
        set(&mut self.sessions, args.sessions.as_ref());
        set(&mut self.backlog, args.backlog.as_ref());
        // What is given ends it; both, whichever comes first.
        if pace.messages.is_some() || pace.seconds.is_some() {
            (self.messages, self.seconds) = (pace.messages, pace.seconds);
        }
        self
    }

    /// The loops that are asked for: the closed one, and the open one at a steady rate.
    pub(super) fn loops(self, pace: &PaceArgs) -> Vec<Self> {
        let steady = self.steady(pace.rate, pace.steady_s);
        match (self.shape, pace.only) {
            (Shape::CatchUp, _) | (Shape::Live, Some(Loop::Closed)) => vec![self],
            // Latencies are what counts there.
            (Shape::Resume | Shape::Cold | Shape::Upkeep, _) | (Shape::Live, Some(Loop::Open)) => {
                vec![steady]
            }
            // Ten thousand copies at a rate are no rate.
            (Shape::Live, None) if self.copies() > 1000 => vec![self],
            (Shape::Live, None) => vec![self, steady],
        }
    }

    /// The same load at a steady rate for a while, begun with half a second of it.
    fn steady(&self, rate: u64, seconds: f64) -> Self {
        Self {
            rate: Some(rate),
            messages: None,
            seconds: Some(seconds),
            warm_up: rate / 2,
            ..self.clone()
        }
    }

    /// A first load for brokers that become fast as they run; it isn't measured.
    pub(super) fn first(&self) -> Self {
        Self {
            shape: Shape::Live,
            topics: self.topics.min(100),
            rate: None,
            seconds: Some(self.seconds.unwrap_or(3.0)),
            ..self.clone()
        }
    }

    /// The loops of this load, so short that they only show that it works.
    pub(super) fn brief(self) -> Vec<Self> {
        let pace = PaceArgs {
            only: None,
            rate: 500,
            steady_s: 0.5,
            messages: Some(if self.copies() > 1 { 50 } else { 3_003 }),
            seconds: None,
        };
        let small = Self {
            topics: self.topics.min(50),
            sessions: self.sessions.min(20),
            backlog: self.backlog.min(50),
            warm_up: 10,
            ..self
        };
        small.with(&LoadArgs::default(), &pace).loops(&pace)
    }

    /// To how many receivers a message goes.
    pub(super) fn copies(&self) -> u64 {
        (match self.protocol {
            Protocol::Amqp if self.fan => self.topics,
            Protocol::Amqp => 1,
            _ => (self.subscribers / self.topics).max(1),
        }) as u64
    }

    pub(super) fn batch(&self) -> usize {
        (self.batch_bytes / self.payload_bytes).max(1)
    }

    pub(super) fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.payload_bytes >= 8,
            "a payload carries a time: at least 8 bytes"
        );
        ensure!(self.qos <= 1, "QoS 0 and 1 are measured");
        ensure!(
            self.publishers > 0 && self.subscribers > 0 && self.topics > 0,
            "publishers, subscribers and topics: at least one of each"
        );
        ensure!(
            self.protocol == Protocol::Amqp
                || self.topics.is_multiple_of(self.subscribers)
                || self.subscribers.is_multiple_of(self.topics),
            "topics and subscribers must divide one another, so that every message goes to as many"
        );
        ensure!(
            self.protocol != Protocol::Amqp || self.payload_bytes <= 131_064,
            "a message of one frame: at most 131064 bytes"
        );
        ensure!(
            self.messages.is_some() || self.seconds.is_some(),
            "a count or a time ends a load"
        );
        Ok(())
    }

    /// Whether subscriber number `of` takes from topic number `topic`.
    pub(super) fn takes(&self, of: usize, topic: usize) -> bool {
        if self.subscribers >= self.topics {
            of % self.topics == topic
        } else {
            topic % self.subscribers == of
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_has_as_many_takers_as_a_message_has_copies() {
        for (subscribers, topics) in [(1, 1), (100, 1), (1, 10), (10, 2), (3, 9)] {
            let plan = Plan {
                subscribers,
                topics,
                ..Plan::named(Scenario::Mqtt0)
            };
            plan.check().unwrap();
            for topic in 0..topics {
                let takers = (0..subscribers).filter(|&of| plan.takes(of, topic));
                assert_eq!(
                    takers.count() as u64,
                    plan.copies(),
                    "{subscribers} {topics}"
                );
            }
        }
        let uneven = Plan {
            subscribers: 3,
            topics: 2,
            ..Plan::named(Scenario::Mqtt0)
        };
        assert!(uneven.check().is_err());
    }

    fn pace(messages: Option<u64>, seconds: Option<f64>) -> PaceArgs {
        PaceArgs {
            only: None,
            rate: 500,
            steady_s: 3.0,
            messages,
            seconds,
        }
    }

    #[test]
    fn what_the_command_line_says_comes_first() {
        let args = LoadArgs {
            payload_bytes: Some(64),
            ..LoadArgs::default()
        };
        let plan = Plan::named(Scenario::Amqp).with(&args, &pace(None, Some(2.0)));
        assert_eq!((plan.payload_bytes, plan.prefetch), (64, 1000));
        assert_eq!((plan.messages, plan.seconds), (None, Some(2.0)));
        let unsaid = Plan::named(Scenario::Amqp).with(&args, &pace(None, None));
        assert!(unsaid.messages.is_some() && unsaid.seconds.is_some());
    }

    #[test]
    fn a_load_has_a_closed_and_an_open_loop() {
        let loops = Plan::named(Scenario::Amqp).loops(&pace(None, None));
        assert_eq!(loops.len(), 2);
        assert_eq!(loops[0].rate, None);
        assert_eq!((loops[1].rate, loops[1].seconds), (Some(500), Some(3.0)));
        let only = PaceArgs {
            only: Some(Loop::Open),
            ..pace(None, None)
        };
        let loops = Plan::named(Scenario::Amqp).loops(&only);
        assert_eq!(
            loops.iter().map(|plan| plan.rate).collect::<Vec<_>>(),
            [Some(500)]
        );
        assert_eq!(
            Plan::named(Scenario::Queues).loops(&pace(None, None)).len(),
            1
        );
        for beside in [Scenario::Resume, Scenario::Cold] {
            let loops = Plan::named(beside).loops(&pace(None, None));
            assert_eq!(
                loops.iter().map(|plan| plan.rate).collect::<Vec<_>>(),
                [Some(500)]
            );
        }
    }
}
