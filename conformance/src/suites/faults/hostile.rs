//! Hostile bytes under an address-space limit, while a probe of 100 messages a second per protocol goes on undisturbed.

pub(super) mod amqp;
pub(super) mod kafka;
pub(super) mod mqtt;
mod probes;

use crate::case::Context;
use crate::harness::{GatewayOptions, Target};
use crate::raw;
use anyhow::Context as _;
use probes::Probes;
use std::io::{Read, Write};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a hostile peer looks at what comes back.
const LOOK: Duration = Duration::from_millis(150);

/// One hostile peer: what it sends after a greeting in good order, if it has one.
struct Attack {
    name: String,
    bytes: Vec<u8>,
    /// 0: nothing before it; 1: the handshake's first half; 2: logged in.
    stage: u8,
}

fn attack(name: impl Into<String>, stage: u8, bytes: Vec<u8>) -> Attack {
    Attack {
        name: name.into(),
        bytes,
        stage,
    }
}

/// Connects, says hello, throws the bytes, looks at what comes, and leaves.
fn throw(address: &str, attack: &Attack, hello: &[u8]) -> anyhow::Result<()> {
    let mut stream = raw::connect(address, Duration::from_secs(5))?;
    if !hello.is_empty() {
        stream.write_all(hello)?;
        _ = stream.read(&mut [0; 64])?;
    }
    hurl(stream, &attack.bytes);
    Ok(())
}

/// Writes and reads until the server has closed or said nothing for a moment. How it refuses is its own affair here.
fn hurl(mut stream: std::net::TcpStream, bytes: &[u8]) {
    _ = stream.set_write_timeout(Some(Duration::from_secs(2)));
    _ = stream.set_read_timeout(Some(LOOK));
    if stream.write_all(bytes).is_err() {
        return;
    }
    let until = Instant::now() + 4 * LOOK;
    let mut answer = [0; 4096];
    while Instant::now() < until && matches!(stream.read(&mut answer), Ok(1..)) {}
}

/// Attacks while probes run. Whatever is lost, disconnected, ended or slow fails.
fn under_attack(
    context: &Context<'_>,
    attacks: &[Attack],
    carry_out: impl Fn(&Target, &Attack) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    let mut gateway = context.start(&GatewayOptions {
        wrapper: vec!["prlimit".into(), "--as=1073741824".into()],
        ..GatewayOptions::default()
    })?;
    let target = gateway.target().clone();
    let probes = Probes::start(&target, gateway.data_dir())?;
    sleep(Duration::from_millis(500));
    for attack in attacks {
        let refused = carry_out(&target, attack);
        if let Some(status) = gateway.exited()? {
            anyhow::bail!(
                "\"{}\" ended the gateway, {status}:\n{}",
                attack.name,
                gateway.log_tail()
            );
        }
        refused.with_context(|| format!("connecting for \"{}\"", attack.name))?;
    }
    sleep(Duration::from_millis(500));
    probes.finish()?;
    gateway.ready()
}

/// Bytes that look random and are the same in every run.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}
