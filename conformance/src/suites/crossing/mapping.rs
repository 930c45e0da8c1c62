//! Mapping rules, path templates and the catch-all topic: gateways that are configured for them, and what clients of
//! all three protocols see then.

use crate::case::{Case, Client, Context, Run};
use crate::clients::Verdict;
use crate::harness::{Gateway, GatewayOptions};
use crate::suites::ALL;
use anyhow::{Context as _, bail, ensure};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(60);

/// The rules of `docs/mapping.md`, one for an exchange's paths, and one that an earlier one leaves little to.
const RULES: &str = r#"topics.mapping=[
    {filter = "sensors/+/temp/#", topic = "temps", key = "{1}/{rest}", partition_key = "{1}", partitions = 4},
    {filter = "plant/+/alarms/+", topic = "alarms", key = "{2}/{1}"},
    {filter = "plant/#", topic = "plants", key = "{rest}"},
    {filter = "shop/+/orders/#", topic = "shop-orders", key = "{1}/{rest}"},
]"#;

/// The same, but that temperatures are kept elsewhere, and orders of shops as any other path.
const CHANGED: &str = r#"topics.mapping=[
    {filter = "sensors/+/temp/#", topic = "warmth", key = "{1}/{rest}"},
]"#;

/// A rule for a topic that paths of its own name have been kept in.
const TOO_LATE: &str =
    r#"topics.mapping=[{filter = "sensors/+/hum", topic = "sensors", key = "{1}"}]"#;

const CATCH_ALL: &[&str] = &[
    "topics.catch_all=everything",
    "topics.catch_all_partitions=4",
    "topics.auto_names_principal_max=2",
    "topics.log_none=[\"secret*\"]",
    "topics.expose=[\"everything\"]",
    "users.guest.password=guest",
    "users.ann.password=ann",
];

const PER_SECOND: &[&str] = &[
    "topics.catch_all=everything",
    "topics.auto_names_per_s_max=3",
];

pub(super) fn cases() -> Vec<Case> {
    let python = &[Client::Python];
    let own = |name, clients, check| Case {
        suite: "crossing",
        name,
        speaks: ALL,
        clients,
        timeout: TIMEOUT,
        run: Run::Own(check),
    };
    vec![
        own("mapping/rules", python, |context| {
            phases(context, "mapping/rules", &[&[RULES], &[RULES]])
        }),
        own("mapping/rules_changed", python, rules_changed),
        own("mapping/templates", python, |context| {
            let set = &["topics.expose=[\"by-area\"]"][..];
            phases(context, "mapping/templates", &[set, set])
        }),
        own("mapping/catch_all", python, |context| {
            phases(context, "mapping/catch_all", &[CATCH_ALL, CATCH_ALL])
        }),
        own("mapping/catch_all_by_rate", python, |context| {
            phases(context, "mapping/catch_all_by_rate", &[PER_SECOND])
        }),
        own("mapping/without_catch_all", python, |context| {
            let set = &["topics.auto_names_principal_max=1"][..];
            phases(context, "mapping/without_catch_all", &[set])
        }),
        own("mapping/wrong_rules_refuse_the_start", &[], wrong_rules),
    ]
}

fn strings(set: &[&str]) -> Vec<String> {
    set.iter().map(|&text| text.to_owned()).collect()
}

/// Runs a driver's case in as many phases as there are settings: the gateway is killed between them, and goes on with
/// the next.
fn phases(context: &Context<'_>, name: &str, settings: &[&[&str]]) -> anyhow::Result<()> {
    let mut running: Option<Gateway> = None;
    for (set, phase) in settings.iter().zip(1..) {
        let gateway = match &mut running {
            None => running.insert(context.start(&GatewayOptions {
                set: strings(set),
                ..GatewayOptions::default()
            })?),
            Some(gateway) => {
                gateway.kill()?;
                gateway.reconfigure(strings(set));
                gateway.launch()?;
                gateway
            }
        };
        drive(context, gateway, name, phase)?;
    }
    Ok(())
}

fn drive(context: &Context<'_>, gateway: &Gateway, name: &str, phase: u32) -> anyhow::Result<()> {
    let (clients, target) = (context.clients, gateway.target());
    let verdict = clients.drive(
        Client::Python,
        name,
        target,
        &context.prefix,
        phase,
        TIMEOUT,
    )?;
    match verdict {
        Verdict::Held => Ok(()),
        Verdict::Skipped(reason) => bail!("phase {phase} was skipped: {reason}"),
    }
}

/// Rules that are changed count for what comes; a rule that would change the paths of what is there refuses the start.
fn rules_changed(context: &Context<'_>) -> anyhow::Result<()> {
    let mut gateway = context.start(&GatewayOptions {
        set: strings(&[RULES]),
        ..GatewayOptions::default()
    })?;
    drive(context, &gateway, "mapping/rules_changed", 1)?;
    ensure!(gateway.stop()?.success(), "the gateway did not stop well");
    gateway.reconfigure(strings(&[TOO_LATE]));
    let Err(error) = gateway.launch() else {
        bail!("started with a rule that the paths of a topic's records contradict");
    };
    let text = format!("{error:#}");
    for part in [
        "'sensors'",
        "'sensors/{rest}'",
        "sensors/{1}/hum",
        "exited at its start",
    ] {
        ensure!(
            text.contains(part),
            "the refusal does not say {part}: {text}"
        );
    }
    gateway.reconfigure(strings(&[CHANGED]));
    gateway.launch().context("after the refusal")?;
    drive(context, &gateway, "mapping/rules_changed", 2)
}

/// What is wrong with a rule is said by its key.
fn wrong_rules(context: &Context<'_>) -> anyhow::Result<()> {
    let rule = |filter: &str, topic: &str, key: &str| {
        format!(r#"topics.mapping=[{{filter = "{filter}", topic = "{topic}", key = "{key}"}}]"#)
    };
    let wrong = [
        (
            rule("a/+/b/#", "t", "{1}"),
            "topics.mapping.0.key",
            "{rest} is missing",
        ),
        (
            rule("a/+/b/+", "t", "{1}/{1}"),
            "topics.mapping.0.key",
            "{1} stands in it twice",
        ),
        (
            rule("a/+/b", "t", "{2}/{1}"),
            "topics.mapping.0.key",
            "no wildcard for {2}",
        ),
        (
            rule("a/+/#", "t", "{rest}/{1}"),
            "topics.mapping.0.key",
            "{rest} must be its last level",
        ),
        (
            rule("a/+", "t", "temp/{1}"),
            "topics.mapping.0.key",
            "'temp' is no placeholder",
        ),
        (
            rule("a/#/b", "t", "{rest}"),
            "topics.mapping.0.filter",
            "wildcard",
        ),
        (
            rule("$SYS/#", "t", "{rest}"),
            "topics.mapping.0.filter",
            "'$'",
        ),
        (
            rule("a/+", "amq.t", "{1}"),
            "topics.mapping.0.topic",
            "'amq.t' is the server's own",
        ),
        (
            "topics.mapping=[{filter = \"a/+\", topic = \"t\"}]".to_owned(),
            "topics.mapping: missing",
            "missing field `key`",
        ),
        (
            "topics.catch_all=$all".to_owned(),
            "topics.catch_all",
            "'$all' is the server's own",
        ),
        (
            "topics.catch_all_partition_key=first".to_owned(),
            "topics.catch_all_partition_key",
            "'first' is no placeholder",
        ),
    ];
    for (set, key, what) in wrong {
        let options = GatewayOptions {
            set: vec![set.clone()],
            ..GatewayOptions::default()
        };
        let Err(error) = context.start(&options) else {
            bail!("started with {set}");
        };
        let text = format!("{error:#}");
        ensure!(text.contains("exited at its start"), "{set}: {text}");
        for part in [key, what] {
            ensure!(text.contains(part), "{set}: no '{part}' in: {text}");
        }
    }
    Ok(())
}
