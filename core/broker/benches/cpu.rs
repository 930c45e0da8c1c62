//! What the thread has worked, in time of a core: unlike the clock, it leaves out what others on the machine do.

#![allow(dead_code, unreachable_pub, reason = "a module of programs")]

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// What asking for the time takes: to be taken off what is short.
pub fn overhead() -> Duration {
    let mut times: Vec<Duration> = (0..1001)
        .map(|_| {
            let began = now();
            now() - began
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// The thread's time so far.
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
