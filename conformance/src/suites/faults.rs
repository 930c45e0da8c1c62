//! What happens when things break: crashes, stops, slow and failing disks, hostile peers.

mod crashes;
mod disks;
mod full_disk;
mod hostile;
mod load;

use super::ALL;
use crate::case::{Case, Client, Context, Run};
use std::time::Duration;

pub(super) fn cases() -> Vec<Case> {
    let strace: &[Client] = &[Client::Strace];
    let mounts: &[Client] = &[Client::Mounts];
    let prlimit: &[Client] = &[Client::Prlimit];
    vec![
        own("kills_under_load", &[], 240, crashes::kills),
        own("stops_under_load", &[], 240, crashes::stops),
        own("slow_sync_delays_every_ack", strace, 90, disks::slow_sync),
        own(
            "failed_sync_ends_the_server",
            strace,
            60,
            disks::failed_sync,
        ),
        own("full_disk_refuses_publishers", &[], 60, disks::full),
        own(
            "a_really_full_disk_loses_nothing",
            mounts,
            120,
            full_disk::run,
        ),
        own("hostile_bytes_on_kafka", prlimit, 90, hostile::kafka::run),
        own("hostile_bytes_on_amqp", prlimit, 90, hostile::amqp::run),
        own("hostile_bytes_on_mqtt", prlimit, 90, hostile::mqtt::run),
    ]
}

type Check = fn(&Context<'_>) -> anyhow::Result<()>;

fn own(name: &'static str, clients: &'static [Client], timeout_s: u64, check: Check) -> Case {
    Case {
        suite: "faults",
        name,
        speaks: ALL,
        clients,
        timeout: Duration::from_secs(timeout_s),
        run: Run::Own(check),
    }
}
