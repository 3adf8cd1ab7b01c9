use super::*;
use std::cell::{Cell, RefCell};

/// One instruction of the fakes, in nanoseconds.
const INSTRUCTION_NS: u64 = 8;

/// A pair of which the second goes wrong at a place.
struct Fake<'a> {
    /// Places at which it does, if reached: virtual time and how many events had entered.
    wrong_from: Position,
    /// All harts sleep from here to there: time can stand anywhere.
    idle: (u64, u64),
    /// Both stop here.
    ends_ns: u64,
    /// The second one stops when it has gone wrong for so long.
    stumbles_ns: u64,
    stands: Position,
    steps: &'a Cell<u64>,
}

impl Pair for Fake<'_> {
    type Finding = Position;

    fn go_to(&mut self, to: Position) -> Met {
        assert!(to >= self.stands, "the search went back from {:?} to {to:?}", self.stands);
        self.steps.set(self.steps.get() + 1);
        self.stands = match to.vtime_ns {
            at_ns if at_ns >= self.ends_ns => at(self.ends_ns),
            at_ns if (self.idle.0..=self.idle.1).contains(&at_ns) => to,
            at_ns if at_ns.is_multiple_of(INSTRUCTION_NS) => to,
            at_ns => at(at_ns.next_multiple_of(INSTRUCTION_NS)),
        };
        let wrong = self.stands >= self.wrong_from;
        let stumbled = wrong && self.stands.vtime_ns >= self.wrong_from.vtime_ns + self.stumbles_ns;
        Met {
            same: !wrong,
            over: stumbled || self.stands.vtime_ns == self.ends_ns,
            vtime_ns: self.stands.vtime_ns,
        }
    }

    fn finding(&mut self) -> Position {
        self.stands
    }
}

/// What happened in a search over fakes.
struct Told {
    outcome: Outcome<Position>,
    passes: u32,
    most_steps: u64,
}

/// Search with a difference that is elsewhere in each pass. Three events come in at 1600 ns.
fn search_moving(wrong: &[Position], idle: (u64, u64), ends_ns: u64) -> Told {
    let events_at = |vtime_ns| if vtime_ns == 1600 { 3 } else { 0 };
    let steps = Cell::new(0);
    let passes = RefCell::new(Vec::new());
    let fresh = || {
        let pass = passes.borrow().len();
        passes.borrow_mut().push(steps.replace(0));
        let wrong_from = wrong[pass.min(wrong.len() - 1)];
        Ok::<_, ()>(Fake { wrong_from, idle, ends_ns, stumbles_ns: 5000, stands: at(0), steps: &steps })
    };
    let course = Course { end: at(1_000_000), events_at: &events_at };
    let mut told = Vec::new();
    let outcome = search(fresh, course, &mut |progress| told.push(progress)).unwrap();
    let mut passes = passes.into_inner();
    passes.push(steps.get());
    assert!(told.is_sorted_by_key(|told| (told.pass, told.vtime_ns)), "progress goes forward");
    assert!(told.iter().all(|told| told.of >= told.pass && told.of <= MAX_PASSES));
    Told {
        outcome,
        passes: u32::try_from(passes.len() - 1).unwrap(),
        most_steps: *passes.iter().max().unwrap(),
    }
}

fn search_at(wrong: Position) -> Told {
    search_moving(&[wrong], (0, 0), 1_000_000)
}

/// Fails unless the search found exactly this.
fn assert_exact(told: &Told, same: Option<Position>, other: Position) {
    let Outcome::Apart(Apart { bracket, exact, moves, finding, passes }) = &told.outcome else {
        panic!("nothing found: {:?}", told.outcome)
    };
    assert_eq!(*bracket, Bracket { same, other });
    assert!(*exact && !moves, "{:?}", told.outcome);
    assert!(*finding >= other && *passes == told.passes);
}

#[test]
fn the_first_instruction_that_differs_is_found() {
    for first in [8, 80_000, 123_456, 999_992] {
        let told = search_at(at(first));
        assert_exact(&told, Some(at(first - 8)), at(first - 7));
        assert!(told.passes <= 4, "{} passes for {first}", told.passes);
        assert!(told.most_steps < 3 * FINE_STEPS, "{} steps in one pass", told.most_steps);
    }
}

#[test]
fn a_long_run_takes_few_passes() {
    let steps = Cell::new(0);
    let passes = Cell::new(0);
    let first = 3_600_000_000_008;
    let fresh = || {
        passes.set(passes.get() + 1);
        let fake = Fake {
            wrong_from: at(first),
            idle: (0, 0),
            ends_ns: 7_200_000_000_000,
            stumbles_ns: 1 << 40,
            stands: at(0),
            steps: &steps,
        };
        Ok::<_, ()>(fake)
    };
    let course = Course { end: at(7_200_000_000_000), events_at: &|_| 0 };
    let outcome = search(fresh, course, &mut |_| ()).unwrap();
    let Outcome::Apart(Apart { bracket, exact: true, moves: false, .. }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(bracket, Bracket { same: Some(at(first - 8)), other: at(first - 7) });
    assert!(passes.get() <= 6, "{} passes", passes.get());
    assert!(steps.get() < 10_000, "{} steps", steps.get());
}

#[test]
fn machines_that_never_were_the_same_are_told_at_once() {
    let told = search_at(at(0));
    assert_exact(&told, None, at(0));
    assert_eq!(told.passes, 1);
}

#[test]
fn a_difference_only_where_both_stop_is_found() {
    let told = search_moving(&[at(1_000_000)], (0, 0), 1_000_000);
    assert_exact(&told, Some(at(999_992)), at(999_993));
}

#[test]
fn a_difference_while_all_harts_sleep_is_found_to_the_nanosecond() {
    let told = search_moving(&[at(500_003)], (400_000, 700_000), 1_000_000);
    assert_exact(&told, Some(at(500_002)), at(500_003));
}

#[test]
fn the_event_that_makes_the_difference_is_found() {
    let second = Position { vtime_ns: 1600, order: 2 };
    let told = search_at(second);
    assert_exact(&told, Some(Position { order: 1, ..second }), second);
    // Behind the last event: the instruction after it.
    let told = search_at(at(1608));
    assert_exact(&told, Some(Position { vtime_ns: 1600, order: 3 }), at(1601));
}

#[test]
fn runs_that_never_differ_are_run_a_few_times() {
    let told = search_at(at(u64::MAX));
    let Outcome::Together { finding } = told.outcome else { panic!("{:?}", told.outcome) };
    assert_eq!((finding, told.passes), (at(1_000_000), ALIKE_PASSES));
}

#[test]
fn a_difference_that_does_not_come_at_once_is_found() {
    let told = search_moving(&[at(u64::MAX), at(u64::MAX), at(80_000)], (0, 0), 1_000_000);
    let Outcome::Apart(Apart { bracket, exact: true, moves: false, .. }) = told.outcome else {
        panic!("{:?}", told.outcome)
    };
    assert_eq!(bracket, Bracket { same: Some(at(79_992)), other: at(79_993) });
}

#[test]
fn a_difference_behind_the_expected_end_is_found() {
    let told = search_moving(&[at(50_000_000)], (0, 0), 60_000_000);
    assert_exact(&told, Some(at(49_999_992)), at(49_999_993));
}

#[test]
fn one_that_stops_early_differs_there_at_the_latest() {
    // Wrong at 480_000, over at 485_000: both in the first pass's first step behind 468_750.
    let told = search_at(at(480_000));
    assert_exact(&told, Some(at(479_992)), at(479_993));
}

#[test]
fn a_place_that_moves_is_said_to_move() {
    let wrong = [800_000, 300_000, 120_000, 640_000, 500_000, 10_000, 900_000, 70_000, 20_000].map(at);
    let told = search_moving(&wrong, (0, 0), 1_000_000);
    let Outcome::Apart(Apart { bracket, exact, moves: true, passes, .. }) = told.outcome else {
        panic!("{:?}", told.outcome)
    };
    assert!(!exact && passes <= MAX_PASSES, "{exact} {passes}");
    let width = bracket.width().0;
    assert!(width > 0 && width < 1_000_000 / WAY_STEPS.pow(2), "no narrower than {width} ns");
}

#[test]
fn a_place_that_moved_once_is_still_found() {
    // Earlier, later, and not at all, in the second pass.
    for second in [40_000, 960_000, u64::MAX] {
        let told = search_moving(&[at(800_000), at(second), at(800_000)], (0, 0), 1_000_000);
        let Outcome::Apart(Apart { bracket, exact: true, moves: true, .. }) = told.outcome else {
            panic!("{second}: {:?}", told.outcome)
        };
        assert_eq!(bracket, Bracket { same: Some(at(799_992)), other: at(799_993) }, "{second}");
    }
}

#[test]
fn a_pair_that_cannot_be_made_ends_the_search() {
    let fresh = || Err::<Fake<'_>, _>("no disk");
    let course = Course { end: at(1000), events_at: &|_| 0 };
    assert_eq!(search(fresh, course, &mut |_| ()).unwrap_err(), "no disk");
}
