//! Memory that is free goes back to the system by a thread of its own.
//!
//! The allocator does that by itself a second after memory has become free, in whichever thread next empties a page of
//! its own: the sequencer among them, and those that serve connections. Hundreds of megabytes take tens of milliseconds,
//! in which that thread does nothing else; and where nobody empties a page any more, it is never done.

use anyhow::Context;
use std::ffi::{c_int, c_long};
use std::thread;
use std::time::Duration;

/// What has been free at the end of such a time goes back.
const INTERVAL: Duration = Duration::from_secs(1);
/// A user who sets this has the allocator do as it says.
const DELAY_ENV: &str = "MIMALLOC_PURGE_DELAY";
/// `mi_option_purge_delay` in `mimalloc.h`.
const DELAY_OPTION: c_int = 15;
/// No other thread gets there.
const DELAY_MS: c_long = 365 * 24 * 3600 * 1000;

/// From now on, until the process ends.
pub(crate) fn give_back() -> anyhow::Result<()> {
    if std::env::var_os(DELAY_ENV).is_some() {
        return Ok(());
    }
    set_delay();
    thread::Builder::new()
        .name("memory".to_owned())
        .spawn(|| {
            omnilog_broker::give_way();
            loop {
                thread::sleep(INTERVAL);
                collect();
            }
        })
        .context("cannot start the thread that gives memory back")?;
    Ok(())
}

#[allow(unsafe_code, reason = "a call of the allocator, which is C")]
fn set_delay() {
    // SAFETY: changes a number of a static table, whose index is checked. That others read it meanwhile is a race in C,
    // of a word that is written once, and why this is called before there are other threads.
    unsafe { libmimalloc_sys::mi_option_set(DELAY_OPTION, DELAY_MS) };
}

#[allow(unsafe_code, reason = "a call of the allocator, which is C")]
fn collect() {
    // SAFETY: may be called by any thread at any time. It looks through the calling thread's own memory and at what is
    // free of the process's.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::give_back;
    use std::hint::black_box;
    use std::time::{Duration, Instant};

    fn resident_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse().unwrap()
    }

    #[test]
    fn what_is_free_goes_back_though_nobody_asks_for_memory() {
        const KIB: u64 = 256 << 10;
        give_back().unwrap();
        let before = resident_kib();
        let pieces: Vec<Vec<u8>> = (0..KIB / 64).map(|_| vec![1; 64 << 10]).collect();
        let full = resident_kib();
        assert!(full >= before + KIB / 2, "{before} KiB, then {full}");
        drop(black_box(pieces));
        let end = Instant::now() + Duration::from_secs(30);
        while resident_kib() > full - KIB / 2 {
            assert!(Instant::now() < end, "{} KiB of {full}", resident_kib());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
