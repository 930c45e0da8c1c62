//! What reading for links may take: a share of one core's time. Producers and consumers keep the rest, however many
//! records somebody wants to see.

/// So much of its share may be taken at once.
const BURST_MS: i64 = 100;

/// The time that is left of the share.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Of one core.
    percent: i64,
    /// Nanoseconds; below 0: more was taken than there was.
    left_ns: i64,
    /// When it was looked at last, by the monotonic clock.
    at_ms: u64,
}

impl Budget {
    pub(crate) fn new(percent: u32, now_ms: u64) -> Self {
        let percent = i64::from(percent.max(1));
        Self {
            percent,
            left_ns: Self::full_ns(percent),
            at_ms: now_ms,
        }
    }

    fn full_ns(percent: i64) -> i64 {
        BURST_MS * percent * 10_000
    }

    /// Is there any left?
    pub(crate) fn any(&mut self, now_ms: u64) -> bool {
        let passed_ms = i64::try_from(now_ms.saturating_sub(self.at_ms)).unwrap_or(i64::MAX);
        self.at_ms = now_ms;
        let gained_ns = passed_ms.saturating_mul(self.percent * 10_000);
        let left_ns = self.left_ns.saturating_add(gained_ns);
        self.left_ns = left_ns.min(Self::full_ns(self.percent));
        self.left_ns > 0
    }

    /// A read took so long.
    pub(crate) fn take(&mut self, ns: u64) {
        let ns = i64::try_from(ns).unwrap_or(i64::MAX);
        self.left_ns = self.left_ns.saturating_sub(ns);
    }

    /// When there is some again; `None`: there is now.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        let missing = 1i64.saturating_sub(self.left_ns);
        let each_ms = self.percent * 10_000;
        let wait_ms = (missing + each_ms - 1) / each_ms;
        (missing > 0).then(|| self.at_ms + u64::try_from(wait_ms).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn over_time_no_more_is_taken_than_the_share() {
        // 20 % of a core.
        let mut budget = Budget::new(20, 5_000);
        assert!(budget.any(5_000));
        assert_eq!(budget.due_ms(), None);
        // One read of 70 ms, for which there were 20.
        budget.take(70_000_000);
        assert!(!budget.any(5_000));
        let due_ms = budget.due_ms().unwrap_or_default();
        assert_eq!(due_ms, 5_251, "50 ms and the first bit of the next");
        assert!(!budget.any(due_ms - 1));
        assert!(budget.any(due_ms));
        // What was not taken for long does not pile up.
        assert!(budget.any(1_000_000));
        budget.take(20_000_000);
        assert!(!budget.any(1_000_000));
    }
}
