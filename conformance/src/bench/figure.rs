//! What a run came to: one line to read, and the same with all settings as JSON.

use super::book::Quantiles;
use super::plan::Plan;
use serde::Serialize;
use std::collections::BTreeMap;

/// The heads of [`Figure::row`]'s columns.
pub(super) const HEADER: &str = "scenario      pace    broker            publ/s   deliv/s  cpu_s/M  p50_us   p99_us \
                                 p99.9_us   ack_p99  others";

/// One run, or the medians of several.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figure {
    pub(super) scenario: String,
    pub(super) broker: String,
    /// "closed", or the rate of an open loop.
    pub(super) pace: String,
    pub(super) published: u64,
    pub(super) delivered: u64,
    /// Of QoS 0, what never came.
    pub(super) missing: u64,
    pub(super) seconds: f64,
    pub(super) published_per_s: f64,
    pub(super) delivered_per_s: f64,
    /// The broker's CPU seconds per million deliveries.
    pub(super) broker_cpu_s_per_million: Option<f64>,
    /// The same by the names of the broker's threads.
    pub(super) threads_cpu_s_per_million: BTreeMap<String, f64>,
    pub(super) client_cpu_s_per_million: f64,
    pub(super) disk_bytes_per_delivery: Option<f64>,
    pub(super) rss_bytes: Option<u64>,
    /// Cores that other programs used meanwhile: with 0.2 or more the run was disturbed.
    pub(super) others_cores: Option<f64>,
    /// From when a message was due (open loop) or sent (closed loop) until its last delivery.
    pub(super) delivery: Quantiles,
    /// The same until its acknowledgement came.
    pub(super) ack: Quantiles,
    pub(super) settings: Plan,
}

impl Figure {
    /// Medians of several runs of the same, number by number; nothing if there are none.
    pub(super) fn median(runs: &[Self]) -> Option<Self> {
        let first = runs.first()?;
        let of = |number: &dyn Fn(&Self) -> f64| median(runs.iter().map(number));
        let some = |number: &dyn Fn(&Self) -> Option<f64>| {
            let numbers: Vec<f64> = runs.iter().filter_map(number).collect();
            (!numbers.is_empty()).then(|| median(numbers))
        };
        let whole = |number: &dyn Fn(&Self) -> u64| of(&|run| number(run) as f64) as u64;
        let threads = runs
            .iter()
            .flat_map(|run| run.threads_cpu_s_per_million.keys());
        let threads = threads.map(|name| {
            let of_run = |run: &Self| {
                let seconds = run.threads_cpu_s_per_million.get(name);
                seconds.copied().unwrap_or(0.0)
            };
            (name.clone(), of(&of_run))
        });
        Some(Self {
            published: whole(&|run| run.published),
            delivered: whole(&|run| run.delivered),
            missing: runs.iter().map(|run| run.missing).max()?,
            seconds: of(&|run| run.seconds),
            published_per_s: of(&|run| run.published_per_s),
            delivered_per_s: of(&|run| run.delivered_per_s),
            broker_cpu_s_per_million: some(&|run| run.broker_cpu_s_per_million),
            threads_cpu_s_per_million: threads.collect(),
            client_cpu_s_per_million: of(&|run| run.client_cpu_s_per_million),
            disk_bytes_per_delivery: some(&|run| run.disk_bytes_per_delivery),
            rss_bytes: some(&|run| run.rss_bytes.map(|bytes| bytes as f64))
                .map(|bytes| bytes as u64),
            others_cores: some(&|run| run.others_cores),
            delivery: quantiles(runs, |run| run.delivery),
            ack: quantiles(runs, |run| run.ack),
            ..first.clone()
        })
    }

    /// The same for runs of several parts, part by part.
    pub(super) fn medians(runs: &[Vec<Self>]) -> Vec<Self> {
        let parts = runs.first().map_or(0, Vec::len);
        let part = |number: usize| {
            let of: Vec<Self> = runs
                .iter()
                .filter_map(|run| run.get(number).cloned())
                .collect();
            Self::median(&of)
        };
        (0..parts).filter_map(part).collect()
    }

    /// For reading; in the columns of [`HEADER`].
    pub(super) fn row(&self) -> String {
        let optional = |number: Option<f64>, digits| {
            number.map_or_else(|| "-".to_owned(), |number| format!("{number:.digits$}"))
        };
        let measured = |times: &Quantiles, us: f64| optional((times.count > 0).then_some(us), 0);
        let delivery = &self.delivery;
        let missing = match self.missing {
            0 => String::new(),
            missing => format!("  ({missing} missing)"),
        };
        format!(
            "{:<13} {:<7} {:<15} {:>8.0} {:>9.0} {:>8} {:>7} {:>8} {:>8} {:>9} {:>7}{missing}",
            self.scenario,
            self.pace,
            self.broker,
            self.published_per_s,
            self.delivered_per_s,
            optional(self.broker_cpu_s_per_million, 2),
            measured(delivery, delivery.p50_us),
            measured(delivery, delivery.p99_us),
            measured(delivery, delivery.p999_us),
            measured(&self.ack, self.ack.p99_us),
            optional(self.others_cores, 2),
        )
    }
}

fn quantiles(runs: &[Figure], which: impl Fn(&Figure) -> Quantiles) -> Quantiles {
    let of = |number: fn(&Quantiles) -> f64| median(runs.iter().map(|run| number(&which(run))));
    Quantiles {
        count: of(|quantiles| quantiles.count as f64) as u64,
        p50_us: of(|quantiles| quantiles.p50_us),
        p90_us: of(|quantiles| quantiles.p90_us),
        p99_us: of(|quantiles| quantiles.p99_us),
        p999_us: of(|quantiles| quantiles.p999_us),
        max_us: of(|quantiles| quantiles.max_us),
    }
}

/// The middle one; between the two middle ones if they are an even number.
fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match (numbers.get(middle), numbers.len() % 2) {
        (None, _) => 0.0,
        (Some(&number), 1) => number,
        (Some(&number), _) => f64::midpoint(numbers[middle - 1], number),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cli::Scenario;

    pub(in crate::bench) fn figure(broker: &str, rate: f64, cpu: Option<f64>) -> Figure {
        let latency = Quantiles {
            count: 10,
            p50_us: rate / 10.0,
            p99_us: rate / 5.0,
            ..Quantiles::default()
        };
        Figure {
            scenario: "amqp".to_owned(),
            broker: broker.to_owned(),
            pace: "closed".to_owned(),
            published: 10,
            delivered: 10,
            missing: 0,
            seconds: 1.0,
            published_per_s: rate,
            delivered_per_s: rate,
            broker_cpu_s_per_million: cpu,
            threads_cpu_s_per_million: BTreeMap::new(),
            client_cpu_s_per_million: 1.0,
            disk_bytes_per_delivery: None,
            rss_bytes: None,
            others_cores: Some(0.0),
            delivery: latency,
            ack: latency,
            settings: Plan::named(Scenario::Amqp),
        }
    }

    #[test]
    fn medians_are_taken_number_by_number() {
        let runs = [
            figure("a", 30.0, Some(9.0)),
            figure("a", 10.0, Some(1.0)),
            figure("a", 20.0, Some(2.0)),
        ];
        let median = Figure::median(&runs).unwrap();
        assert_eq!(median.delivered_per_s, 20.0);
        assert_eq!(median.broker_cpu_s_per_million, Some(2.0));
        assert_eq!((median.delivery.p50_us, median.ack.p99_us), (2.0, 4.0));
        let even = Figure::median(&runs[..2]).unwrap();
        assert_eq!(even.delivered_per_s, 20.0);
        assert_eq!(Figure::median(&[]), None);
    }

    #[test]
    fn a_row_fits_its_heads_and_says_what_was_lost() {
        let mut figure = figure("a", 1.0, None);
        assert_eq!(figure.row().len(), HEADER.len());
        figure.missing = 3;
        assert!(figure.row().ends_with("(3 missing)"));
    }
}
