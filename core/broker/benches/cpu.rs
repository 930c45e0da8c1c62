//! What the thread has worked, in time of a core: unlike the clock, it leaves out what others on the machine do.

#![allow(unreachable_pub, reason = "a module of programs")]

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// The thread's time so far.
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
