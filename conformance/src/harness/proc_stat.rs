//! The CPU time of a process and of its children, from `/proc`.

use anyhow::Context as _;
use std::fs;
use std::time::Duration;

/// User and system time that the process and its present descendants have used, to a hundredth of a second.
pub(crate) fn cpu_time(pid: i32) -> anyhow::Result<Duration> {
    let mut ticks = 0;
    let mut family = vec![pid];
    let mut stats = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(id) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        if let Some(stat) = read(id) {
            stats.push((id, stat));
        }
    }
    while let Some(member) = family.pop() {
        let (_, stat) = stats
            .iter()
            .find(|(id, _)| *id == member)
            .with_context(|| format!("no process {member}"))?;
        ticks += stat.ticks;
        family.extend(
            stats
                .iter()
                .filter(|(_, stat)| stat.parent == member)
                .map(|(id, _)| *id),
        );
    }
    // USER_HZ is 100 on every Linux that this runs on.
    Ok(Duration::from_millis(ticks * 10))
}

struct Stat {
    parent: i32,
    ticks: u64,
}

fn read(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name stands in parentheses and may contain anything: fields are counted from the last one.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        ticks: fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?,
    })
}
