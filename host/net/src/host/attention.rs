//! Whether the thread must be woken: a system call and a switch of threads, so only if it really sleeps.

use std::sync::atomic::{AtomicU8, Ordering};

/// It looks at its inbox, or will before it sleeps.
const AWAKE: u8 = 0;
/// It sleeps, or is about to.
const ASLEEP: u8 = 1;
/// There is something that it may not have seen.
const CALLED: u8 = 2;

/// One thread sleeps, any number call. Whoever calls has left what it calls for before.
#[derive(Debug, Default)]
pub(super) struct Attention(AtomicU8);

impl Attention {
    /// Something was left. Returns whether the thread must be woken for it.
    #[must_use]
    pub(super) fn call(&self) -> bool {
        self.0.swap(CALLED, Ordering::SeqCst) == ASLEEP
    }

    /// The thread looks at everything from now on.
    pub(super) fn look(&self) {
        self.0.store(AWAKE, Ordering::SeqCst);
    }

    /// The thread has seen everything. Returns whether it may sleep: nobody has called since it began to look.
    #[must_use]
    pub(super) fn sleep(&self) -> bool {
        self.0.compare_exchange(AWAKE, ASLEEP, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, mpsc};

    #[test]
    fn only_who_sleeps_is_woken_and_only_once() {
        let attention = Attention::default();
        assert!(!attention.call(), "it has not looked yet");
        assert!(!attention.sleep(), "it must look first");
        attention.look();
        assert!(attention.sleep());
        assert!(attention.call());
        assert!(!attention.call(), "the wake-up is under way");
        attention.look();
        assert!(!attention.call(), "it is awake");
        assert!(!attention.sleep());
    }

    /// The channel stands for the poller, the mutex for the inbox.
    #[test]
    fn no_call_is_lost() {
        const CALLS: usize = 20_000;
        let shared = Arc::new((Attention::default(), std::sync::Mutex::new(0)));
        let (wake, woken) = mpsc::channel();
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let (shared, wake) = (Arc::clone(&shared), wake.clone());
                std::thread::spawn(move || {
                    for _ in 0..CALLS {
                        *shared.1.lock().unwrap() += 1;
                        if shared.0.call() {
                            wake.send(()).unwrap();
                        }
                    }
                })
            })
            .collect();
        let mut seen = 0;
        while seen < 2 * CALLS {
            shared.0.look();
            seen = *shared.1.lock().unwrap();
            if seen < 2 * CALLS && shared.0.sleep() {
                // A lost call would leave it here for ever: the senders are alive.
                let patience = std::time::Duration::from_secs(20);
                woken.recv_timeout(patience).expect("a call that nobody heard");
            }
        }
        callers.into_iter().for_each(|caller| caller.join().unwrap());
    }
}
