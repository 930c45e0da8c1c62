//! Counts of what the server does, in Prometheus' text format.

use omnilog_broker::Stats;
use omnilog_wire::Meter;
use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// All counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    started: Instant,
    connections_max: usize,
    total_open: Arc<AtomicUsize>,
    listeners: Mutex<Vec<Arc<Connections>>>,
}

/// The connections of one listener.
#[derive(Debug)]
pub(crate) struct Connections {
    listener: String,
    meter: Arc<Meter>,
    max: usize,
    open: AtomicUsize,
    total_open: Arc<AtomicUsize>,
    total_max: usize,
    refused: AtomicU64,
    by_protocol: Mutex<BTreeMap<&'static str, Arc<ProtocolCount>>>,
}

#[derive(Debug, Default)]
struct ProtocolCount {
    open: AtomicI64,
    accepted: AtomicU64,
}

/// One open connection; it stops counting when dropped.
#[derive(Debug)]
pub(crate) struct OpenGuard {
    connections: Arc<Connections>,
    protocol: Option<Arc<ProtocolCount>>,
}

impl Metrics {
    pub(crate) fn new(connections_max: usize) -> Self {
        Self {
            started: Instant::now(),
            connections_max,
            total_open: Arc::default(),
            listeners: Mutex::default(),
        }
    }

    /// The counts of a listener with this limit of its own.
    pub(crate) fn listener(&self, name: &str, max: Option<usize>) -> Arc<Connections> {
        let connections = Arc::new(Connections {
            listener: name.to_owned(),
            meter: Arc::default(),
            max: max.unwrap_or(usize::MAX),
            open: AtomicUsize::new(0),
            total_open: self.total_open.clone(),
            total_max: self.connections_max,
            refused: AtomicU64::new(0),
            by_protocol: Mutex::default(),
        });
        self.listeners.lock().push(connections.clone());
        connections
    }

    /// Everything as text, the broker's figures too where it gave them.
    pub(crate) fn render(&self, stats: Option<&Stats>) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("omnilog");
        let uptime = self.started.elapsed().as_secs_f64();
        registry.register(
            "uptime_seconds",
            "Time since the start",
            ConstGauge::<f64>::new(uptime),
        );
        registry
            .sub_registry_with_label(("version".into(), env!("CARGO_PKG_VERSION").into()))
            .register("build", "The version that runs", ConstGauge::<i64>::new(1));
        registry.register_collector(Box::new(ListenerCollector(self.listeners.lock().clone())));
        if let Some(stats) = stats {
            register_stats(&mut registry, stats);
        }
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

impl Connections {
    pub(crate) fn meter(&self) -> Arc<Meter> {
        self.meter.clone()
    }

    /// Counts a connection in, unless there are too many.
    pub(crate) fn open(self: &Arc<Self>) -> Option<OpenGuard> {
        let below = |count: &AtomicUsize, max: usize| count.fetch_add(1, Ordering::Relaxed) < max;
        let here = below(&self.open, self.max);
        let everywhere = below(&self.total_open, self.total_max);
        let guard = OpenGuard {
            connections: self.clone(),
            protocol: None,
        };
        if here && everywhere {
            return Some(guard);
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        None
    }
}

impl OpenGuard {
    /// The connection turned out to speak this.
    pub(crate) fn speaks(&mut self, protocol: &'static str) {
        let count = self
            .connections
            .by_protocol
            .lock()
            .entry(protocol)
            .or_default()
            .clone();
        count.open.fetch_add(1, Ordering::Relaxed);
        count.accepted.fetch_add(1, Ordering::Relaxed);
        self.protocol = Some(count);
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.connections.open.fetch_sub(1, Ordering::Relaxed);
        self.connections.total_open.fetch_sub(1, Ordering::Relaxed);
        if let Some(count) = &self.protocol {
            count.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[derive(Debug)]
struct ListenerCollector(Vec<Arc<Connections>>);

impl prometheus_client::collector::Collector for ListenerCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        type Figure = (&'static str, &'static str, fn(&Connections) -> u64);
        const COUNTERS: [Figure; 5] = [
            ("received_bytes", "Bytes read from clients.", |of| {
                of.meter.received_bytes()
            }),
            ("sent_bytes", "Bytes written to clients.", |of| {
                of.meter.sent_bytes()
            }),
            ("commands", "Commands given to the broker.", |of| {
                of.meter.commands()
            }),
            ("events", "Events that came from the broker.", |of| {
                of.meter.events()
            }),
            (
                "connections_refused",
                "Connections refused because of a limit.",
                |of| of.refused.load(Ordering::Relaxed),
            ),
        ];
        for (name, help, figure) in COUNTERS {
            let kind = ConstCounter::new(0_u64).metric_type();
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for connections in &self.0 {
                let labels = [("listener", connections.listener.as_str())];
                let metric = family.encode_family(&labels)?;
                ConstCounter::new(figure(connections)).encode(metric)?;
            }
        }
        self.encode_protocols(&mut encoder)
    }
}

impl ListenerCollector {
    fn encode_protocols(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let counts: Vec<(String, &'static str, i64, u64)> = self
            .0
            .iter()
            .flat_map(|connections| {
                let by_protocol = connections.by_protocol.lock();
                let rows: Vec<_> = by_protocol
                    .iter()
                    .map(|(protocol, count)| {
                        (
                            connections.listener.clone(),
                            *protocol,
                            count.open.load(Ordering::Relaxed),
                            count.accepted.load(Ordering::Relaxed),
                        )
                    })
                    .collect();
                rows
            })
            .collect();
        let kind = ConstGauge::new(0_i64).metric_type();
        let mut open = encoder.encode_descriptor("connections", "Open connections.", None, kind)?;
        for (listener, protocol, count, _) in &counts {
            let labels = [("listener", listener.as_str()), ("protocol", *protocol)];
            ConstGauge::new(*count).encode(open.encode_family(&labels)?)?;
        }
        let kind = ConstCounter::new(0_u64).metric_type();
        let help = "Connections accepted whose protocol was found.";
        let mut accepted = encoder.encode_descriptor("connections_accepted", help, None, kind)?;
        for (listener, protocol, _, count) in &counts {
            let labels = [("listener", listener.as_str()), ("protocol", *protocol)];
            ConstCounter::new(*count).encode(accepted.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn register_stats(registry: &mut Registry, stats: &Stats) {
    let registry = registry.sub_registry_with_prefix("broker");
    let gauges = [
        ("topics", "Topics with a log", stats.topics),
        ("queues", "Queues of all kinds", stats.queues),
        ("sessions", "MQTT sessions", stats.sessions),
        ("clients", "Clients connected to the shard", stats.clients),
        ("consumers", "Consumers", stats.consumers),
        ("bindings", "Bindings and subscriptions", stats.bindings),
        ("messages_ready", "Messages waiting in queues", stats.ready),
        (
            "messages_leased",
            "Messages delivered and not settled",
            stats.leased,
        ),
        ("messages_retained", "Retained messages", stats.retained),
        (
            "messages_deferred",
            "Messages that came back to their queues and wait for their next try",
            stats.deferred,
        ),
        (
            "tail_bytes",
            "Bytes of records kept in memory",
            stats.tail_bytes,
        ),
        (
            "journal_bytes",
            "Bytes of journal files",
            stats.journal_bytes,
        ),
        ("journal_files", "Journal files", stats.journal_files),
        ("lsn_head", "The newest frame", stats.lsn_head),
        ("lsn_durable", "The newest durable frame", stats.lsn_durable),
        (
            "disk_low",
            "Publishers wait for space on the disk (1) or not (0)",
            stats.disk_low,
        ),
        (
            "memory_low",
            "Publishers wait for memory (1) or not (0)",
            stats.memory_low,
        ),
        (
            "queues_memory_bytes",
            "Bytes of messages that are in memory only",
            stats.queues_bytes,
        ),
        (
            "sets_memory_bytes",
            "Bytes that queues' entries take, without their messages",
            stats.sets_bytes,
        ),
        (
            "commands_bytes",
            "Bytes of commands that wait for the sequencer",
            stats.commands_bytes,
        ),
        (
            "delayed_messages",
            "Messages that are published later",
            stats.delayed,
        ),
        (
            "delayed_next_milliseconds",
            "When the first delayed message is due, in Unix milliseconds; 0: none is",
            stats.delayed_next_ms,
        ),
        (
            "disk_held_bytes",
            "Bytes of frames and wills that wait for space on the disk",
            stats.held_bytes,
        ),
        (
            "link_lag",
            "Offsets that queues have yet to read of what Kafka clients wrote, all together",
            stats.link_lag,
        ),
        (
            "link_lag_max",
            "The same of the one that is furthest behind",
            stats.link_lag_max,
        ),
    ];
    for (name, help, value) in gauges {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        registry.register(name, help, ConstGauge::<i64>::new(value));
    }
    let counters = [
        ("commands", "Commands decided", stats.commands),
        ("records", "Records written", stats.records),
        ("deliveries", "Deliveries made", stats.deliveries),
        ("dead_letters", "Dead letters published", stats.dead_letters),
        (
            "deliveries_dropped",
            "QoS 0 deliveries dropped",
            stats.dropped,
        ),
        (
            "link_gaps",
            "Times that retention passed what a queue was to read",
            stats.link_gaps,
        ),
        (
            "link_gap_offsets",
            "Offsets that are missing in queues because of it",
            stats.link_gap_offsets,
        ),
        (
            "not_retained",
            "Records of topics with omnilog.retain=latest that could not become retained messages",
            stats.not_retained,
        ),
        (
            "delays_over",
            "Delayed messages published",
            stats.delays_over,
        ),
        (
            "delays_lost",
            "Delayed messages that could not be published any more",
            stats.delays_lost,
        ),
        ("decide_nanoseconds", "Time spent deciding", stats.decide_ns),
    ];
    for (name, help, value) in counters {
        registry.register(name, help, ConstCounter::<u64>::new(value));
    }
}
