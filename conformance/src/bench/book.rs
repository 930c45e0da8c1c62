//! What a load counts, and how long things took.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::Instant;

/// Longer times than this are recorded as this.
const LATENCY_NS_MAX: u64 = 600_000_000_000;

/// Counts and times since the last turn of the page. Times are nanoseconds after the start; a message carries the time
/// at which it was *due*, so one that was sent late because the broker was slow counts from when it should have been sent.
#[derive(Debug)]
pub(super) struct Book {
    start: Instant,
    /// The time of the last look at the clock: once for everything that came in one read.
    pub(super) now_ns: u64,
    pub(super) acked: u64,
    pub(super) delivered: u64,
    /// Deliveries that are not measured: those of a background load.
    pub(super) background: u64,
    ack_ns: Histogram<u64>,
    delivery_ns: Histogram<u64>,
}

/// Quantiles in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Quantiles {
    pub(super) count: u64,
    pub(super) p50_us: f64,
    pub(super) p90_us: f64,
    pub(super) p99_us: f64,
    #[serde(rename = "p99.9_us")]
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
}

impl Book {
    pub(super) fn new() -> anyhow::Result<Self> {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3);
        Ok(Self {
            start: Instant::now(),
            now_ns: 0,
            acked: 0,
            delivered: 0,
            background: 0,
            ack_ns: histogram()?,
            delivery_ns: histogram()?,
        })
    }

    /// Looks at the clock.
    pub(super) fn tick(&mut self) -> u64 {
        self.now_ns = self.start.elapsed().as_nanos() as u64;
        self.now_ns
    }

    /// A message that was due at this time has been acknowledged to its publisher.
    pub(super) fn ack(&mut self, due_ns: u64) {
        self.acked += 1;
        self.ack_ns
            .saturating_record(self.now_ns.saturating_sub(due_ns));
    }

    /// A message that was due at this time has been delivered.
    pub(super) fn deliver(&mut self, due_ns: u64) {
        self.delivered += 1;
        self.delivery_ns
            .saturating_record(self.now_ns.saturating_sub(due_ns));
    }

    /// What was measured since the last call; counts and histograms begin anew, but for the background's.
    pub(super) fn turn(&mut self) -> (Quantiles, Quantiles) {
        let measured = (
            Quantiles::of(&self.ack_ns),
            Quantiles::of(&self.delivery_ns),
        );
        self.ack_ns.reset();
        self.delivery_ns.reset();
        self.acked = 0;
        self.delivered = 0;
        measured
    }
}

impl Quantiles {
    fn of(histogram: &Histogram<u64>) -> Self {
        let us = |ns: u64| (ns as f64 / 100.0).round() / 10.0;
        let at = |quantile| us(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: us(histogram.max()),
        }
    }
}
