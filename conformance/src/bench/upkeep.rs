//! A steady load, and beside it a broker that keeps its own files in order: without that, and with it all the time.

use super::beside::part;
use super::connect::{add_publishers, connect, create};
use super::engine::{Engine, Pace};
use super::figure::Figure;
use super::measure::{Broker, figure, fresh_name};
use super::plan::Plan;
use crate::harness::{GatewayOptions, Launcher};
use anyhow::{Context as _, anyhow, ensure};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Messages a second to queues that nobody reads: each changes one of them, for the next checkpoint.
const OTHERS_RATE: u64 = 2_000;

/// A part, its settings, and the directory in which it leaves something.
type Part = (&'static str, &'static [&'static str], Option<&'static str>);

const PARTS: [Part; 3] = [
    (
        "without",
        &[
            "journal.checkpoint_ms=86400000",
            "journal.unclustered_files_max=100000",
        ],
        None,
    ),
    (
        "checkpoint",
        &[
            "journal.checkpoint_ms=1000",
            "journal.unclustered_files_max=100000",
        ],
        Some("checkpoints"),
    ),
    (
        "compaction",
        &[
            "journal.checkpoint_ms=1000",
            // Small files are soon full, and an append is at most a quarter of one.
            "journal.file_bytes=2097152",
            "topics.message_bytes_max=524288",
            "journal.unclustered_files_max=1",
        ],
        Some("clusters"),
    ),
];

/// The same load on a gateway of each kind.
pub(super) fn measure(plan: &Plan, launcher: &Launcher) -> anyhow::Result<Vec<Figure>> {
    let one = |(name, set, leaves): &Part| {
        let set = set.iter().map(ToString::to_string).collect();
        let gateway = launcher.start(&GatewayOptions {
            set,
            ..GatewayOptions::default()
        })?;
        let broker = Broker {
            name: "omnilog".to_owned(),
            target: gateway.target().clone(),
            pid: Some(gateway.pid()?),
        };
        let figure = load(&part(plan, name), &broker)?;
        // The files are looked at every ten seconds while few wait.
        let is_long = plan.seconds.is_some_and(|seconds| seconds >= 15.0);
        if let Some(leaves) = leaves.filter(|_| is_long) {
            let directory = gateway.data_dir().join(leaves);
            ensure!(has_files(&directory), "nothing in {}", directory.display());
        }
        Ok(figure)
    };
    let figures = PARTS.iter().map(one).collect::<anyhow::Result<_>>();
    figures.with_context(|| plan.scenario.clone())
}

fn has_files(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut files| files.next().is_some())
}

/// The measured load, beside one that changes many names.
fn load(plan: &Plan, broker: &Broker) -> anyhow::Result<Figure> {
    let (names, name) = (fresh_name(), fresh_name());
    create(plan, &names, &broker.target)?;
    let mut others = Engine::new()?;
    add_publishers(&mut others, plan, &names, &broker.target)?;
    let live = Plan {
        topics: 1,
        ..plan.clone()
    };
    let mut engine = connect(&live, &name, &broker.target)?;
    let pace = live.pace();
    let is_over = AtomicBool::new(false);
    let (stretch, seen, other) = thread::scope(|scope| {
        let other = scope.spawn(|| {
            others.run(&Pace {
                rate: Some(OTHERS_RATE),
                until: Some(&is_over),
                has_acks: true,
                ..Pace::default()
            })
        });
        let measured = (|| {
            engine.run(&Pace {
                messages: Some(plan.warm_up),
                ..pace
            })?;
            let watch = broker.watch()?;
            let stretch = engine.run(&pace)?;
            Ok((stretch, watch.map(|watch| watch.end()).transpose()?))
        })();
        is_over.store(true, Ordering::Relaxed);
        let (stretch, seen) = match measured {
            Ok((stretch, seen)) => (Ok(stretch), seen),
            Err(error) => (Err::<_, anyhow::Error>(error), None),
        };
        (stretch, seen, other.join())
    });
    other.map_err(|_| anyhow!("the thread of the other load panicked"))??;
    Ok(figure(plan, broker, &stretch?, seen.as_ref()))
}
