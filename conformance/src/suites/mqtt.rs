//! MQTT 3.1.1 and 5: Mosquitto's tools, paho, MQTT.js.

use super::{MQTT, driver, restarted};
use crate::case::{Case, Client, Context, Run};
use anyhow::{Context as _, ensure};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        "paho/qos_v311",
        "paho/qos_v5",
        "paho/wildcards_v311",
        "paho/wildcards_v5",
        "paho/retained_v311",
        "paho/retained_v5",
        "paho/will_v311",
        "paho/will_v5",
        "paho/persistent_session_v311",
        "paho/persistent_session_v5",
        "paho/takeover_v311",
        "paho/takeover_v5",
        "paho/large_payload_v311",
        "paho/large_payload_v5",
        "paho/unsubscribe_v311",
        "paho/unsubscribe_v5",
        "paho/v5_properties",
        "paho/v5_subscription_options",
        "paho/keep_alive",
        "paho/delayed_messages",
        "paho/shared_subscription",
    ]
    .map(|name| driver("mqtt", MQTT, Client::Python, name))
    .to_vec();
    cases.extend(
        [
            "mqttjs/qos2_and_retained_v311",
            "mqttjs/qos2_and_retained_v5",
            "mqttjs/session_resume_v311",
            "mqttjs/session_resume_v5",
        ]
        .map(|name| driver("mqtt", MQTT, Client::Node, name)),
    );
    for (name, check) in [
        (
            "mosquitto/publish_subscribe_v31",
            publish_subscribe_v31 as Check,
        ),
        ("mosquitto/publish_subscribe_v311", publish_subscribe_v311),
        ("mosquitto/publish_subscribe_v5", publish_subscribe_v5),
        ("mosquitto/offline_session", offline_session),
    ] {
        cases.push(Case {
            suite: "mqtt",
            name,
            speaks: MQTT,
            clients: &[Client::Mosquitto],
            timeout: Duration::from_secs(40),
            run: Run::Shared(check),
        });
    }
    cases.push(restarted(
        "mqtt",
        MQTT,
        Client::Python,
        "paho/session_survives_restart",
    ));
    cases
}

type Check = fn(&Context<'_>) -> anyhow::Result<()>;

fn tool(
    context: &Context<'_>,
    name: &str,
    version: &str,
    args: &[&str],
) -> anyhow::Result<Command> {
    let address = context.target.mqtt()?;
    let (host, port) = address
        .rsplit_once(':')
        .context("an address is host:port")?;
    let mut command = Command::new("timeout");
    command
        .args(["20", name, "-h", host, "-p", port, "-V", version])
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command)
}

fn run(mut command: Command) -> anyhow::Result<String> {
    let output = command.output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?}: {}: {errors}",
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn publish_subscribe_v31(context: &Context<'_>) -> anyhow::Result<()> {
    publish_subscribe(context, "mqttv31")
}

fn publish_subscribe_v311(context: &Context<'_>) -> anyhow::Result<()> {
    publish_subscribe(context, "mqttv311")
}

fn publish_subscribe_v5(context: &Context<'_>) -> anyhow::Result<()> {
    publish_subscribe(context, "mqttv5")
}

fn publish_subscribe(context: &Context<'_>, version: &str) -> anyhow::Result<()> {
    // MQTT 3.1 allows 23 characters of client id, which the tools' own ids respect.
    let topic = context.name("t");
    let filter = format!("{topic}/#");
    let reader = tool(
        context,
        "mosquitto_sub",
        version,
        &["-t", &filter, "-q", "2", "-v", "-C", "3"],
    )?
    .spawn()?;
    // Its SUBACK can't be seen from here; a retained message would reach it in any case, live ones only after it.
    sleep(Duration::from_millis(700));
    for qos in ["0", "1", "2"] {
        let to = format!("{topic}/{qos}");
        run(tool(
            context,
            "mosquitto_pub",
            version,
            &["-t", &to, "-q", qos, "-m", &format!("hello {qos}")],
        )?)?;
    }
    let output = reader.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let wanted: Vec<String> = (0..3).map(|q| format!("{topic}/{q} hello {q}")).collect();
    ensure!(lines == wanted, "{}: got {lines:?}", output.status);
    Ok(())
}

fn offline_session(context: &Context<'_>) -> anyhow::Result<()> {
    let (topic, id) = (context.name("t"), context.name("c"));
    let session = ["-c", "-i", &id, "-q", "1", "-t", &topic];
    run(tool(
        context,
        "mosquitto_sub",
        "mqttv311",
        &[&session[..], &["-E"]].concat(),
    )?)?;
    for i in 0..5 {
        let text = i.to_string();
        run(tool(
            context,
            "mosquitto_pub",
            "mqttv311",
            &["-t", &topic, "-q", "1", "-m", &text],
        )?)?;
    }
    let read = run(tool(
        context,
        "mosquitto_sub",
        "mqttv311",
        &[&session[..], &["-C", "5"]].concat(),
    )?)?;
    ensure!(read == "0\n1\n2\n3\n4\n", "read {read:?}");
    Ok(())
}
