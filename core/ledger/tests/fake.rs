//! The fake journal's manners.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use omnilog_ledger::sim::SimFiles;
use omnilog_ledger::{Class, Completion, FakeJournal, Frame, Journal, ShardId};
use std::time::Duration;

#[test]
fn news_come_late_and_out_of_order_but_all_come() {
    let (env, clock) = SimFiles::new(1, u64::MAX).env(7);
    let mut journal = FakeJournal::new(&env, Duration::from_millis(250)).unwrap();
    for number in 0..50u8 {
        let frame = Frame {
            shard: ShardId(0),
            decision: &[number],
            sections: &[],
        };
        journal.push(&frame, Class::Normal).unwrap();
        journal.submit().unwrap();
    }
    let mut synced = Vec::new();
    while let Some(due) = journal.next_news() {
        clock.advance(due.saturating_sub(env.clock.monotonic()));
        while let Some(news) = journal.poll() {
            if let Completion::Synced { first_lsn, .. } = news {
                assert!(env.clock.monotonic() >= Duration::from_millis(125));
                synced.push(first_lsn);
            }
        }
    }
    assert!(!synced.is_sorted());
    synced.sort_unstable();
    assert_eq!(synced, (1..=50).collect::<Vec<_>>());
}
