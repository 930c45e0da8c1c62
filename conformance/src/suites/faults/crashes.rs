//! The process is killed or stopped in the middle of its work.

use super::load::Load;
use crate::case::Context;
use crate::harness::GatewayOptions;
use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use std::thread::sleep;
use std::time::Duration;

/// SIGKILL again and again; what was acknowledged is kept and start-up needs no help.
pub(super) fn kills(context: &Context<'_>) -> anyhow::Result<()> {
    let mut gateway = context.start(&GatewayOptions::default())?;
    let load = Load::start(gateway.target())?;
    for round in 0..rounds(context) {
        let at = || format!("round {round}");
        load.progress(Duration::from_secs(15)).with_context(at)?;
        // A different moment of the load each time.
        sleep(Duration::from_millis(150 + 37 * round % 200));
        gateway.kill().with_context(at)?;
        gateway.launch().with_context(at)?;
    }
    load.progress(Duration::from_secs(15))?;
    load.settle().with_context(|| {
        format!(
            "after the last round; the log ends:\n{}",
            gateway.log_tail()
        )
    })
}

/// SIGSTOP and SIGCONT: time has passed for everybody but the server.
pub(super) fn stops(context: &Context<'_>) -> anyhow::Result<()> {
    let mut gateway = context.start(&GatewayOptions::default())?;
    let load = Load::start(gateway.target())?;
    for round in 0..rounds(context) {
        let at = || format!("round {round}");
        load.progress(Duration::from_secs(15)).with_context(at)?;
        gateway.signal(Signal::STOP).with_context(at)?;
        sleep(Duration::from_millis(100 + 53 * round % 300));
        gateway.signal(Signal::CONT).with_context(at)?;
    }
    load.progress(Duration::from_secs(15))?;
    load.settle()?;
    let status = gateway.stop()?;
    ensure!(
        status.success(),
        "after SIGTERM: {status}:\n{}",
        gateway.log_tail()
    );
    Ok(())
}

fn rounds(context: &Context<'_>) -> u64 {
    if context.long { 60 } else { 20 }
}
