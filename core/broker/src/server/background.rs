//! Threads whose work can wait.
//!
//! On a machine whose cores are all busy, a reader of old records or a compaction would have as much of them as the
//! sequencer and the connections. So their threads are of a lower priority: alone they are as fast as ever, beside others
//! they take what is left, and a tenth of a core in any case.

/// The system's nice value of such a thread.
const NICE: i32 = 10;

/// Makes the calling thread give way to others.
pub fn give_way() {
    // On Linux this is about the calling thread alone. Elsewhere it would be the whole process.
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        let set =
            getpriority_process(None).and_then(|nice| setpriority_process(None, nice.max(NICE)));
        if let Err(error) = set {
            tracing::debug!(%error, "a thread's priority can't be lowered");
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::{NICE, give_way};
    use rustix::process::getpriority_process;

    #[test]
    fn a_thread_that_gives_way_does_not_slow_down_the_others() {
        let mine = getpriority_process(None).unwrap();
        let other = std::thread::spawn(|| {
            give_way();
            getpriority_process(None).unwrap()
        });
        assert_eq!(other.join().unwrap(), NICE.max(mine));
        assert_eq!(getpriority_process(None).unwrap(), mine);
    }
}
