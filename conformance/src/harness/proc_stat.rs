//! What a process and its children use, and what the rest of the machine does meanwhile, from `/proc`.

use anyhow::Context as _;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

/// What a process and its present descendants have used so far, or hold now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Usage {
    /// User and system time, to a hundredth of a second.
    pub(crate) cpu: Duration,
    /// Resident memory now, and the sum of the processes' peaks.
    pub(crate) rss_bytes: u64,
    pub(crate) rss_peak_bytes: u64,
    pub(crate) threads: u64,
    pub(crate) files: u64,
    /// What was written to disks, or will be.
    pub(crate) disk_bytes: u64,
}

/// What a process and its present descendants have used by now.
pub(crate) fn usage(pid: i32) -> anyhow::Result<Usage> {
    let mut usage = Usage::default();
    for (id, stat) in family(pid)? {
        // USER_HZ is 100 on every Linux that this runs on.
        usage.cpu += Duration::from_millis(stat.ticks * 10);
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        usage.rss_bytes += field("VmRSS:").unwrap_or(0) * 1024;
        usage.rss_peak_bytes += field("VmHWM:").unwrap_or(0) * 1024;
        usage.threads += field("Threads:").unwrap_or(0);
        usage.disk_bytes += disk_bytes(id);
        usage.files += fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count) as u64;
    }
    Ok(usage)
}

/// What a process has caused to be written to disks; 0 if that is not ours to see.
fn disk_bytes(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// CPU time of a process and its descendants by the names of their threads, numbers at the ends left out.
fn thread_times(pid: i32) -> anyhow::Result<BTreeMap<String, Duration>> {
    let mut times = BTreeMap::new();
    for (id, _) in family(pid)? {
        // A process that ended meanwhile has no threads.
        let tasks = fs::read_dir(format!("/proc/{id}/task"))
            .into_iter()
            .flatten();
        for task in tasks.flatten() {
            let Ok(text) = fs::read_to_string(task.path().join("stat")) else {
                continue;
            };
            if let (Some(name), Some(stat)) = (name_in(&text), parse(&text)) {
                let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
                *times.entry(name.to_owned()).or_default() +=
                    Duration::from_millis(stat.ticks * 10);
            }
        }
    }
    Ok(times)
}

/// How busy the machine was, and the shares in it of a broker and of this program.
#[derive(Debug)]
pub(crate) struct Watch {
    pid: i32,
    begun: Instant,
    machine: Duration,
    stolen: Duration,
    broker: Usage,
    threads: BTreeMap<String, Duration>,
    own: Duration,
}

/// What a [`Watch`] saw.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) broker_cpu_s: f64,
    /// The broker's, by the names of its threads.
    pub(crate) threads_cpu_s: BTreeMap<String, f64>,
    pub(crate) disk_bytes: u64,
    pub(crate) client_cpu_s: f64,
    /// Cores that other processes used meanwhile, the hypervisor's other guests included.
    pub(crate) others_cores: f64,
    /// What the broker holds at the end.
    pub(crate) broker: Usage,
}

impl Watch {
    pub(crate) fn begin(pid: i32) -> anyhow::Result<Self> {
        let (machine, stolen) = machine()?;
        Ok(Self {
            pid,
            begun: Instant::now(),
            machine,
            stolen,
            broker: usage(pid)?,
            threads: thread_times(pid)?,
            own: own_cpu(),
        })
    }

    pub(crate) fn end(&self) -> anyhow::Result<Seen> {
        let broker = usage(self.pid)?;
        let (machine, stolen) = machine()?;
        let client_cpu_s = own_cpu().saturating_sub(self.own).as_secs_f64();
        let broker_cpu_s = broker.cpu.saturating_sub(self.broker.cpu).as_secs_f64();
        let busy = machine.saturating_sub(self.machine) + stolen.saturating_sub(self.stolen);
        let others = busy.as_secs_f64() - broker_cpu_s - client_cpu_s;
        let threads = thread_times(self.pid)?.into_iter().map(|(name, time)| {
            let before = self.threads.get(&name).copied().unwrap_or_default();
            (name, time.saturating_sub(before).as_secs_f64())
        });
        Ok(Seen {
            broker_cpu_s,
            threads_cpu_s: threads.filter(|(_, seconds)| *seconds > 0.0).collect(),
            disk_bytes: broker.disk_bytes.saturating_sub(self.broker.disk_bytes),
            client_cpu_s,
            others_cores: others.max(0.0) / self.begun.elapsed().as_secs_f64().max(0.001),
            broker,
        })
    }
}

/// This program's own CPU time.
fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

/// Time in processes on all cores (not in interrupts, which belong to nobody), and time taken by the hypervisor.
fn machine() -> anyhow::Result<(Duration, Duration)> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("an empty /proc/stat")?;
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    let of = |index: usize| ticks.get(index).copied().unwrap_or(0) * 10;
    // user, nice, system; idle, iowait, irq and softirq are left out; steal.
    Ok((
        Duration::from_millis(of(0) + of(1) + of(2)),
        Duration::from_millis(of(7)),
    ))
}

struct Stat {
    parent: i32,
    ticks: u64,
}

/// The present descendants of a process, the youngest first.
pub(super) fn descendants(pid: i32) -> anyhow::Result<Vec<i32>> {
    Ok(family(pid)?
        .iter()
        .skip(1)
        .rev()
        .map(|(id, _)| *id)
        .collect())
}

/// A process and its present descendants.
fn family(pid: i32) -> anyhow::Result<Vec<(i32, Stat)>> {
    let mut others = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.parse().ok());
        if let Some((id, stat)) = id.and_then(|id| Some((id, read(id)?))) {
            others.push((id, stat));
        }
    }
    let at = others.iter().position(|(id, _)| *id == pid);
    let mut family = vec![others.swap_remove(at.with_context(|| format!("no process {pid}"))?)];
    let mut next = 0;
    while let Some((parent, _)) = family.get(next) {
        let parent = *parent;
        let (children, rest) = others
            .into_iter()
            .partition(|(_, stat)| stat.parent == parent);
        family.extend::<Vec<_>>(children);
        others = rest;
        next += 1;
    }
    Ok(family)
}

fn read(pid: i32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The command's name stands in parentheses and may contain anything: fields are counted from the last one.
fn parse(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        ticks: fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?,
    })
}

fn name_in(text: &str) -> Option<&str> {
    Some(text.rsplit_once(')')?.0.split_once('(')?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_s_use_is_counted_and_not_held_against_others() {
        let me = std::process::id().cast_signed();
        let watch = Watch::begin(me).unwrap();
        let begun = Instant::now();
        while usage(me).unwrap().cpu < watch.broker.cpu + Duration::from_millis(100) {
            assert!(begun.elapsed() < Duration::from_secs(30));
        }
        let seen = watch.end().unwrap();
        assert!(
            seen.broker_cpu_s >= 0.1 && seen.client_cpu_s >= 0.05,
            "{seen:?}"
        );
        assert!(
            seen.broker.threads >= 1 && seen.broker.files >= 3,
            "{seen:?}"
        );
        assert!(seen.broker.rss_peak_bytes >= seen.broker.rss_bytes.min(1 << 20));
        assert!(seen.threads_cpu_s.values().sum::<f64>() >= 0.05, "{seen:?}");
        assert!(usage(i32::MAX).is_err());
    }

    #[test]
    fn a_stat_line_is_read_whatever_the_name_is() {
        let line = "12 (a (b) c) S 7 1 1 0 -1 4 1 2 3 4 250 50 0 0 20 0 1 0 99 0 0";
        assert_eq!(name_in(line), Some("a (b) c"));
        assert_eq!(
            parse(line).map(|stat| (stat.parent, stat.ticks)),
            Some((7, 300))
        );
    }
}
