//! Runs cases: skips what can't run here, bounds each in time, gathers what came out.

use crate::case::{Case, Client, Context, Run};
use crate::cli::RunArgs;
use crate::clients::{Clients, Verdict};
use crate::harness::{Gateway, GatewayOptions, Launcher, Target};
use crate::report::{self, Outcome, Report};
use crate::suites;
use anyhow::bail;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What every case of a run shares.
struct Shop {
    clients: Clients,
    launcher: Launcher,
    foreign: Option<Target>,
    stamp: String,
    long: bool,
    /// A missing client is a failure, not a skip.
    strict: bool,
}

pub(crate) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let shop = Arc::new(Shop {
        clients: Clients::new(&args.clients_dir),
        launcher: Launcher::new(args.target.gateway.as_deref(), &args.target.set),
        foreign: args
            .target
            .is_foreign()
            .then(|| Target::foreign(&args.target)),
        stamp: stamp(),
        long: args.select.long,
        strict: std::env::var_os("CI").is_some_and(|ci| ci == "true"),
    });
    if shop.foreign.is_none() && !shop.launcher.is_found() {
        bail!("no omnilog binary beside this program: build it, or name one with --gateway");
    }
    let mut cases = suites::all();
    cases.retain(|case| args.select.selects(case));
    if cases.is_empty() {
        bail!("no case has such a name");
    }
    let (alone, shared): (Vec<Case>, Vec<Case>) = cases.into_iter().partition(Case::is_alone);
    let reports = Mutex::new(Vec::new());
    let keep = |report: Report| {
        report.print();
        reports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(report);
    };
    run_shared(&shop, &shared, args.jobs.max(1), &keep);
    for case in &alone {
        keep(run_one(&shop, case, &Target::default()));
    }

    let reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(file) = &args.junit {
        report::write_junit(file, &reports)?;
    }
    if let Some(file) = &args.json {
        report::write_json(file, &reports)?;
    }
    Ok(if report::print_closing(&reports) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs cases several at a time against one broker, started anew should a case have ended it.
fn run_shared(shop: &Arc<Shop>, cases: &[Case], jobs: usize, keep: &(dyn Fn(Report) + Sync)) {
    if cases.is_empty() {
        return;
    }
    let gateway: Mutex<Option<Gateway>> = Mutex::new(None);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    keep(match shared_target(shop, &gateway) {
                        Ok(target) => {
                            let mut report = run_one(shop, case, &target);
                            note_death(&gateway, &mut report);
                            report
                        }
                        Err(error) => Report::new(case, Outcome::Failed(format!("{error:#}"))),
                    });
                }
            });
        }
    });
}

fn shared_target(shop: &Shop, gateway: &Mutex<Option<Gateway>>) -> anyhow::Result<Target> {
    if let Some(target) = &shop.foreign {
        return Ok(target.clone());
    }
    let mut gateway = gateway.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = &mut *gateway
        && running.exited()?.is_none()
    {
        return Ok(running.target().clone());
    }
    let started = shop.launcher.start(&GatewayOptions::default())?;
    let target = started.target().clone();
    *gateway = Some(started);
    Ok(target)
}

/// A case during which the gateway died has failed, whatever it says itself.
fn note_death(gateway: &Mutex<Option<Gateway>>, report: &mut Report) {
    let mut gateway = gateway.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = &mut *gateway
        && let Ok(Some(status)) = running.exited()
    {
        report.outcome = Outcome::Failed(format!(
            "the gateway ended during this case, {status}:\n{}",
            running.log_tail()
        ));
    }
}

fn run_one(shop: &Arc<Shop>, case: &Case, target: &Target) -> Report {
    let started = Instant::now();
    let outcome = match why_not(shop, case, target) {
        Some(outcome) => outcome,
        None => carry_out(shop, case, target),
    };
    let mut report = Report::new(case, outcome);
    report.took = started.elapsed();
    report
}

/// The outcome of a case that can't run here.
fn why_not(shop: &Shop, case: &Case, target: &Target) -> Option<Outcome> {
    if case.is_alone() {
        if shop.foreign.is_some() {
            return Some(Outcome::Skipped("needs a gateway of its own".into()));
        }
    } else if let Some(protocol) = case
        .speaks
        .iter()
        .find(|&&protocol| !target.speaks(protocol))
    {
        return Some(Outcome::Skipped(format!(
            "no {protocol:?} address was given"
        )));
    }
    let mut clients: Vec<Client> = case.clients.to_vec();
    if let Run::Driver(client, _) | Run::Restarted(client, _) = case.run {
        clients.push(client);
    }
    let missing = clients
        .iter()
        .find_map(|&client| shop.clients.missing(client))?;
    // A privilege can't be installed.
    let privilege = clients.contains(&Client::Mounts);
    Some(if shop.strict && !privilege {
        Outcome::Failed(missing)
    } else {
        Outcome::Skipped(missing)
    })
}

fn carry_out(shop: &Arc<Shop>, case: &Case, target: &Target) -> Outcome {
    let (tell, told) = mpsc::channel();
    let (shop, case, target) = (Arc::clone(shop), *case, target.clone());
    // A case that hangs is left behind in its thread: the run goes on and ends with the process.
    thread::spawn(move || {
        _ = tell.send(perform(&shop, &case, target));
    });
    // Drivers are killed at the limit and report what they printed; the thread gets a little longer for that.
    match told.recv_timeout(case.timeout + Duration::from_secs(10)) {
        Ok(Ok(Verdict::Held)) => Outcome::Passed,
        Ok(Ok(Verdict::Skipped(reason))) => Outcome::Skipped(reason),
        Ok(Err(error)) => Outcome::Failed(format!("{error:#}")),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            Outcome::Failed(format!("no end within {:?}", case.timeout))
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => Outcome::Failed("the case panicked".into()),
    }
}

fn perform(shop: &Shop, case: &Case, target: Target) -> anyhow::Result<Verdict> {
    let prefix = format!("{}-{}", case.name.replace(['/', '_'], "-"), shop.stamp);
    let mut context = Context {
        target,
        prefix,
        clients: &shop.clients,
        launcher: &shop.launcher,
        long: shop.long,
    };
    let drive = |context: &Context<'_>, client, name, phase| {
        let (clients, target) = (context.clients, &context.target);
        clients.drive(client, name, target, &context.prefix, phase, case.timeout)
    };
    match case.run {
        Run::Shared(check) | Run::Own(check) => check(&context).map(|()| Verdict::Held),
        Run::Driver(client, name) => drive(&context, client, name, 1),
        Run::Restarted(client, name) => {
            let mut gateway = context.start(&GatewayOptions::default())?;
            context.target = gateway.target().clone();
            let verdict = drive(&context, client, name, 1)?;
            if verdict != Verdict::Held {
                return Ok(verdict);
            }
            gateway.kill()?;
            gateway.launch()?;
            context.target = gateway.target().clone();
            drive(&context, client, name, 2)
        }
    }
}

/// Makes names of this run differ from those of other runs against the same broker.
fn stamp() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!("{:x}", now.as_millis() % 0x1000_0000)
}
