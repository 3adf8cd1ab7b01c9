//! Two engines side by side: the same random programs in the same pieces, and the whole state compared.
//!
//! `REPRISE_FUZZ=1000000 cargo test --release -p reprise-cpu --lib differential::random` is the long form;
//! `REPRISE_FUZZ=1@77` runs the program of seed 77 alone.
#![expect(clippy::disallowed_methods, reason = "the environment says how long to look")]

mod assembler;
mod course;
mod dice;
mod program;
mod vectors;
mod world;

use crate::{Engine, ExitReason, HartConfig, Interest, Privilege, mnemonics};
use course::{Course, Step};
use program::Program;
use std::collections::{BTreeMap, BTreeSet};
use world::{World, differences};

/// What is compared with the interpreter.
const TESTED: [Engine; 2] = [Engine::Threaded, Engine::Jit];
/// Instructions before a difference that are shown.
const SHOWN: u64 = 24;
/// Memory is compared at so many exits of a run, besides its end: it takes longer than the rest.
const MEMORY_EVERY: u64 = 16;

/// Two machines.
struct Pair {
    reference: World,
    tested: World,
}

/// Where two machines were not the same, and in what.
struct Difference {
    /// The last place where they were compared, memory included, and were the same.
    same: u64,
    /// Where they were not.
    differ: u64,
    what: Vec<String>,
}

impl Pair {
    fn new(harts: usize, tested: Engine) -> Pair {
        Pair::of(HartConfig::default(), harts, tested)
    }

    /// The tested one configured otherwise: to see that differences are found.
    fn of(tested: HartConfig, harts: usize, engine: Engine) -> Pair {
        Pair {
            reference: World::new(HartConfig::default(), harts, Engine::Interp),
            tested: World::new(tested, harts, engine),
        }
    }

    /// Runs a program on both up to an instruction.
    fn run(&mut self, program: &Program, cut: u64) -> Result<(), Difference> {
        self.reference.load(program);
        self.tested.load(program);
        let mut course = Course::of(program);
        let (mut same, mut exits) = (0, 0);
        while let Some(step) = course.step(self.reference.icount)
            && self.reference.icount < cut
        {
            self.tested.meddle(step.meddle);
            let end = step.end.min(cut);
            while self.reference.icount < end {
                exits += 1;
                let thoroughly = exits % MEMORY_EVERY == 0;
                let what = self.advance(&step, end, thoroughly);
                let differ = self.reference.icount.max(self.tested.icount);
                if !what.is_empty() {
                    return Err(Difference { same, differ, what });
                }
                same = if thoroughly { differ } else { same };
            }
        }
        let what = differences(&mut self.reference, &mut self.tested, true);
        if what.is_empty() { Ok(()) } else { Err(Difference { same, differ: self.reference.icount, what }) }
    }

    /// Runs both to where they come back, and compares.
    fn advance(&mut self, step: &Step, end: u64, thoroughly: bool) -> Vec<String> {
        let exit = self.reference.run(step.hart, step.wires, end);
        let other = self.tested.run(step.hart, step.wires, end);
        let mut what = differences(&mut self.reference, &mut self.tested, thoroughly);
        if exit != other {
            what.insert(0, format!("exit: {other:?}, not {exit:?}"));
        }
        if exit.reason == ExitReason::Wfi {
            // It sleeps to the end of its turn.
            self.reference.icount = end;
            self.tested.icount = end;
        }
        what
    }

    /// The difference, narrowed down to the first run in which it shows, with the way there.
    fn report(&mut self, program: &Program, found: Difference) -> String {
        let (mut same, mut differ, mut what) = (found.same, found.differ, found.what);
        while same + 1 < differ {
            let middle = same + (differ - same) / 2;
            match self.run(program, middle) {
                Ok(()) => same = middle,
                Err(earlier) => (differ, what) = (earlier.differ.min(middle), earlier.what),
            }
        }
        let engine = self.tested.engine;
        format!(
            "seed {}: {} harts, {engine}; the same up to icount {same}, not at {differ}:\n  {}\n\
             before it, on the reference:\n{}",
            program.seed,
            program.harts,
            what.join("\n  "),
            self.trace(program, differ)
        )
    }

    /// The instructions before a place, one a line.
    fn trace(&mut self, program: &Program, end: u64) -> String {
        let world = &mut self.reference;
        world.load(program);
        let mut course = Course::of(program);
        let mut lines = String::new();
        while let Some(step) = course.step(world.icount)
            && world.icount < end
        {
            let until = step.end.min(end);
            while world.icount < until {
                let first_shown = end.saturating_sub(SHOWN);
                let limit =
                    if world.icount < first_shown { until.min(first_shown) } else { world.icount + 1 };
                if world.icount >= first_shown {
                    let text = world
                        .cluster
                        .upcoming(step.hart)
                        .map_or("?".into(), |next| format!("{:#x}  {}", next.pc, next.text));
                    lines += &format!("  {} hart {}: {text}\n", world.icount, step.hart);
                }
                if world.run(step.hart, step.wires, limit).reason == ExitReason::Wfi {
                    world.icount = until;
                }
            }
        }
        lines
    }
}

/// How many programs, from which seed on.
fn extent(usual: u64) -> (u64, u64) {
    let Ok(text) = std::env::var("REPRISE_FUZZ") else { return (usual, 1) };
    let number = |text: &str| text.parse().expect("REPRISE_FUZZ is COUNT or COUNT@SEED");
    text.split_once('@').map_or_else(|| (number(&text), 1), |(count, seed)| (number(count), number(seed)))
}

#[test]
fn random_programs_do_the_same_on_every_engine() {
    let (count, first) = extent(4_000);
    let end = first + count;
    for chunk in (first..end).step_by(1000) {
        for engine in TESTED {
            compare(engine, chunk..end.min(chunk + 1000));
        }
    }
}

/// Runs programs on an engine and on the reference.
fn compare(engine: Engine, seeds: std::ops::Range<u64>) {
    let mut pairs = [1, 2].map(|harts| Pair::new(harts, engine));
    let mut reports = Vec::new();
    for program in seeds.map(Program::of) {
        let pair = &mut pairs[program.harts - 1];
        if let Err(found) = pair.run(&program, u64::MAX) {
            reports.push(pair.report(&program, found));
            if reports.len() == 3 {
                break;
            }
        }
    }
    assert!(reports.is_empty(), "{engine}: {}", reports.join("\n"));
}

/// Watching is one more way to execute, which only tells more. What it tells adds up.
#[test]
fn random_programs_do_the_same_while_they_are_watched() {
    let all = Interest { blocks: true, accesses: true, traps: true };
    let interests =
        [all, Interest { accesses: false, ..all }, Interest { traps: true, ..Interest::default() }];
    let (count, first) = extent(1_000);
    for (interest, engine) in interests.into_iter().flat_map(|interest| TESTED.map(|on| (interest, on))) {
        let mut pairs = [1, 2].map(|harts| Pair::new(harts, engine));
        let mut accesses = 0;
        for program in (first..first + count).map(Program::of) {
            let pair = &mut pairs[program.harts - 1];
            let tested = &mut pair.tested;
            tested.cluster.set_observed(interest);
            tested.devices.seen = [0; 3];
            let failed = pair.run(&program, u64::MAX).err();
            assert!(failed.is_none(), "{}", failed.map_or_else(String::new, |it| pair.report(&program, it)));
            let World { cluster, devices, icount, .. } = &pair.tested;
            let ([instructions, loads_and_stores, told], traps) = (devices.seen, cluster.traps());
            assert!(
                interest.blocks == (instructions > 0) && told == traps,
                "seed {}: {instructions} instructions, {told} traps of {traps}",
                program.seed
            );
            // What sleeps attempts nothing, and what cannot be fetched is in no block.
            assert!(instructions <= *icount, "seed {}: {instructions} of {icount}", program.seed);
            accesses += loads_and_stores;
        }
        assert_eq!(interest.accesses, accesses > 0);
    }
}

/// An instruction that only one of them has is found, and is the last one that is shown.
#[test]
fn a_difference_is_found_and_narrowed_down() {
    let mut pair = Pair::of(HartConfig { zfh: false, ..HartConfig::default() }, 1, Engine::Interp);
    let mut found = 0;
    for program in (1..400).map(Program::of).filter(|program| program.harts == 1) {
        let Err(difference) = pair.run(&program, u64::MAX) else { continue };
        let report = pair.report(&program, difference);
        let last = report.lines().last().unwrap();
        let mnemonic = last.split_whitespace().nth(4).unwrap();
        assert!(mnemonic.starts_with('f') && mnemonic.contains(".h"), "{report}");
        assert!(report.contains("  hart 0 traps: "), "{report}");
        found += 1;
    }
    assert!(found > 20, "{found} programs of 400 use half precision");
}

/// What the programs do, counted. A generator that only makes programs that fall over finds nothing.
#[derive(Default)]
struct Census {
    /// By mnemonic: executed, and executed where it was often before.
    instructions: BTreeMap<String, [u64; 2]>,
    modes: [u64; 4],
    causes: BTreeSet<u64>,
    hot: u64,
    total: u64,
}

impl Census {
    /// Executions after which a place is hot: some more than it takes until it is translated.
    const HOT: u64 = 60;

    fn count(&mut self, program: &Program) {
        let mut world = World::new(HartConfig::default(), program.harts, Engine::Interp);
        world.load(program);
        let mut course = Course::of(program);
        let mut places = BTreeMap::new();
        while let Some(step) = course.step(world.icount) {
            while world.icount < step.end {
                self.instruction(&mut world, &step, &mut places);
            }
        }
    }

    fn instruction(&mut self, world: &mut World, step: &Step, places: &mut BTreeMap<u64, u64>) {
        let (hart, traps) = (step.hart, world.cluster.traps());
        self.modes[world.cluster.privilege(hart) as usize] += 1;
        if let Some(next) = world.cluster.upcoming(hart) {
            let place = places.entry(next.pc).or_default();
            *place += 1;
            let is_hot = *place > Census::HOT;
            let mnemonic = next.text.split([' ', '.']).next().unwrap();
            let counts = self.instructions.entry(mnemonic.to_owned()).or_default();
            counts[0] += 1;
            counts[1] += u64::from(is_hot);
            self.hot += u64::from(is_hot);
        }
        self.total += 1;
        if world.run(hart, step.wires, world.icount + 1).reason == ExitReason::Wfi {
            world.icount = step.end;
        }
        if world.cluster.traps() != traps {
            let csr = &world.cluster.hart(hart).csr;
            let is_machine = world.cluster.privilege(hart) == Privilege::Machine;
            self.causes.insert(if is_machine { csr.mcause } else { csr.scause });
        }
    }
}

#[test]
fn programs_are_hot_and_do_everything() {
    let mut census = Census::default();
    (1..600).map(Program::of).for_each(|program| census.count(&program));
    let share = |part: u64| part as f64 / census.total as f64;
    assert!(
        share(census.hot) > 0.5,
        "{:.2} of the instructions are executed where it is hot",
        share(census.hot)
    );
    let [user, supervisor, _, machine] = census.modes.map(share);
    assert!(
        user > 0.1 && supervisor > 0.1 && machine > 0.1,
        "U {user:.2}, S {supervisor:.2}, M {machine:.2}"
    );
    for cause in [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15] {
        assert!(census.causes.contains(&cause), "no exception {cause}");
    }
    let rows = mnemonics().map(|mnemonic| mnemonic.split('.').next().unwrap().to_owned());
    let cold: Vec<String> =
        rows.filter(|row| census.instructions.get(row).is_none_or(|n| n[1] == 0)).collect();
    assert!(cold.is_empty(), "never where it is hot: {cold:?}");
}
