//! The same machine comes to the same end, whatever the host does meanwhile.

use crate::reprise::Reprise;

/// Two quiet runs, and some with stops, dropped caches and another engine at random instructions.
fn same_end(run: impl Fn() -> Reprise) {
    let first = run().end().success().position_and_digest();
    assert_eq!(first, run().end().success().position_and_digest(), "two runs differ");
    for seed in ["1", "2", "3"] {
        let disturbed = run().args(["--chaos-seed", seed]).end().success().position_and_digest();
        assert_eq!(first, disturbed, "chaos seed {seed} was visible to the guest");
    }
}

#[test]
fn bare_guests_end_alike() {
    for guest in ["wfi.elf", "smc.elf", "irqstorm.elf", "paging.elf", "demo.elf"] {
        same_end(|| Reprise::bare("alike", guest));
    }
    same_end(|| Reprise::bare("alike-smp", "smp.elf").args(["-smp", "4"]));
}

#[test]
fn debian_ends_alike() {
    let run = || Reprise::debian("debian-alike", "reprise.test=boot reprise.poweroff");
    let first = run().end().success().position_and_digest();
    assert_eq!(first, run().end().success().position_and_digest(), "two runs differ");
    let disturbed = run().args(["--chaos-seed", "7"]).end().success().position_and_digest();
    assert_eq!(first, disturbed, "chaos was visible to the guest");
}

#[test]
fn another_seed_is_another_run() {
    // The guest prints the first random bytes that it gets: the comparison above can fail.
    let run = |seed: &str| {
        Reprise::bare("seeds", "demo.elf").args(["--seed", seed]).end().success().position_and_digest().2
    };
    assert_ne!(run("1"), run("2"));
}
