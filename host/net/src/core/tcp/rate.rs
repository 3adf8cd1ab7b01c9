//! So many a second, after a burst: a bucket that fills with time. Whole numbers, so it is the same everywhere.

/// One of what is counted.
const ONE: u64 = 1_000_000_000;

#[derive(Debug)]
pub(super) struct Rate {
    per_s: u64,
    /// What the bucket holds at most, and holds; in parts of [`ONE`].
    most: u64,
    held: u64,
    filled_ns: u64,
}

impl Rate {
    pub(super) fn new(per_s: u32, burst: u32) -> Self {
        let most = u64::from(burst).saturating_mul(ONE);
        Self { per_s: per_s.into(), most, held: most, filled_ns: 0 }
    }

    /// Time goes on from here, which may be earlier. What the bucket holds stays.
    pub(super) fn restart(&mut self, now_ns: u64) {
        self.filled_ns = now_ns;
    }

    /// Takes one, if there is one.
    pub(super) fn take(&mut self, now_ns: u64) -> bool {
        let came = now_ns.saturating_sub(self.filled_ns).saturating_mul(self.per_s);
        self.held = self.held.saturating_add(came).min(self.most);
        self.filled_ns = self.filled_ns.max(now_ns);
        let Some(left) = self.held.checked_sub(ONE) else { return false };
        self.held = left;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_so_many_a_second() {
        let mut rate = Rate::new(10, 3);
        let mut taken = |from_ns: u64, count: u64, each_ns: u64| {
            (0..count).filter(|i| rate.take(from_ns + i * each_ns)).count()
        };
        assert_eq!(taken(5, 10, 0), 3);
        // 2 s in steps of a millisecond: one each 100 ms.
        assert_eq!(taken(5, 2001, 1_000_000), 20);
        assert_eq!(taken(u64::MAX - 1, 10, 0), 3, "it holds no more than the burst");
        assert_eq!(taken(0, 10, 0), 0, "time that goes back brings nothing");
        rate.restart(0);
        assert!(!rate.take(99_999_999) && rate.take(100_000_000), "but where it goes on from there");
    }
}
