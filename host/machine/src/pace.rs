//! Pacing: how virtual time is held to host time. Only positions of inputs show it, never the guest's computation.

/// Ties a virtual time to a host time. A stop moves the tie: the time it took is nobody's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pacer {
    real_ns: u64,
    virtual_ns: u64,
}

impl Pacer {
    pub(crate) fn new(real_ns: u64, virtual_ns: u64) -> Pacer {
        Pacer { real_ns, virtual_ns }
    }

    /// How long to wait at host time `real_now_ns` before virtual time may be `virtual_ns`.
    pub(crate) fn wait_ns(&self, real_now_ns: u64, virtual_ns: u64) -> u64 {
        let due = self.real_ns.saturating_add(virtual_ns.saturating_sub(self.virtual_ns));
        due.saturating_sub(real_now_ns)
    }

    /// The virtual time that host time `real_now_ns` allows.
    pub(crate) fn allowed_ns(&self, real_now_ns: u64) -> u64 {
        self.virtual_ns.saturating_add(real_now_ns.saturating_sub(self.real_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_time_waits_for_host_time_and_never_the_other_way() {
        let pacer = Pacer::new(1_000, 50);
        assert_eq!(pacer.wait_ns(1_000, 80), 30);
        assert_eq!(pacer.wait_ns(1_040, 80), 0);
        assert_eq!(pacer.allowed_ns(1_030), 80);
        assert_eq!(pacer.allowed_ns(10), 50);
    }
}
