//! Where two runs part that should be one: both go side by side and are compared, again from their beginning in ever
//! smaller steps, until nothing lies between the last place where they are the same and the first where they are not.
//!
//! Nothing here knows what a machine is. Places are a line: every instruction boundary has its own virtual time, so
//! does every moment of sleep, and `order` counts what enters at one time.

use reprise_machine::replay::Position;

/// Steps of the first pass, over the whole run.
const COARSE_STEPS: u64 = 64;
/// Steps within the interval that a later pass refines.
const FINE_STEPS: u64 = 1000;
/// Steps of a later pass on its way to that interval. More with every move of the difference.
const WAY_STEPS: u64 = 16;
/// Behind the expected end, a step grows with the time passed: by this fraction of it.
const BEYOND: u64 = 16;
/// Runs of the pair, after which the best that was seen has to do.
pub(crate) const MAX_PASSES: u32 = 8;
/// So often a pair has to be the same to its end before it is believed: what goes by chance may go the same way twice.
const ALIKE_PASSES: u32 = 3;
/// So often the difference may be elsewhere than in the pass before.
const MAX_MOVES: u32 = 3;

/// Two runs that go side by side.
pub(crate) trait Pair {
    /// What there is to say where the two differ.
    type Finding;

    /// Let both go on to this place, unless they stop by themselves before it. Places only grow.
    fn go_to(&mut self, at: Position) -> Met;

    /// How they differ, where they stand.
    fn finding(&mut self) -> Self::Finding;
}

/// How two runs met at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Met {
    /// They stand in one place in one state, and if they have stopped then for one reason.
    pub(crate) same: bool,
    /// One of them goes no further.
    pub(crate) over: bool,
    /// Where they stand: at the place asked for, at the next one that exists, or where they stopped.
    pub(crate) vtime_ns: u64,
}

/// The run, as far as the search has to know it.
#[derive(Clone, Copy)]
pub(crate) struct Course<'a> {
    /// By here they are expected to differ.
    pub(crate) end: Position,
    /// How many events the log has at a virtual time.
    pub(crate) events_at: &'a dyn Fn(u64) -> u32,
}

/// Between these two places the runs part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bracket {
    /// The last place where they are known to be the same; `None` if they never were.
    pub(crate) same: Option<Position>,
    /// The first place where they are known to differ.
    pub(crate) other: Position,
}

/// What a search has found.
#[derive(Debug)]
pub(crate) enum Outcome<F> {
    /// They part.
    Apart(Apart<F>),
    /// They were the same to where both stopped, more than once.
    Together {
        /// What there is to say there.
        finding: F,
    },
}

/// Where and how two runs part.
#[derive(Clone, Debug)]
pub(crate) struct Apart<F> {
    /// Where.
    pub(crate) bracket: Bracket,
    /// No place lies between the two.
    pub(crate) exact: bool,
    /// In another pass it was elsewhere.
    pub(crate) moves: bool,
    /// How they differ at [`Bracket::other`].
    pub(crate) finding: F,
    /// How often they ran.
    pub(crate) passes: u32,
}

/// How far a search is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The run of the pair, from 1.
    pub(crate) pass: u32,
    /// How many it will probably be.
    pub(crate) of: u32,
    /// Where the pair stands.
    pub(crate) vtime_ns: u64,
}

/// What one pass has found.
enum Seen {
    Apart(Bracket),
    Together,
}

/// Find where two runs part. `fresh` makes the pair anew, at its beginning; the pair before is gone by then.
pub(crate) fn search<P: Pair, E>(
    mut fresh: impl FnMut() -> Result<P, E>,
    course: Course<'_>,
    tell: &mut dyn FnMut(Progress),
) -> Result<Outcome<P::Finding>, E> {
    let mut best: Option<(Bracket, P::Finding)> = None;
    let mut target: Option<Bracket> = None;
    let mut moved = 0;
    let mut pass = 0;
    while pass < MAX_PASSES && moved <= MAX_MOVES {
        pass += 1;
        let of = passes_to_come(pass, target, course);
        let mut pair = fresh()?;
        let mut plan = Plan::new(target, course, moved);
        match run(&mut pair, &mut plan, &mut |vtime_ns| tell(Progress { pass, of, vtime_ns })) {
            Seen::Apart(found) => {
                if target.is_some_and(|target| !target.holds(found)) {
                    moved += 1;
                }
                target = Some(found);
                if best.as_ref().is_none_or(|(best, _)| found.width() <= best.width()) {
                    best = Some((found, pair.finding()));
                }
                if found.is_exact(course) {
                    break;
                }
            }
            Seen::Together if target.is_none() && pass >= ALIKE_PASSES => {
                return Ok(Outcome::Together { finding: pair.finding() });
            }
            Seen::Together if target.is_none() => (),
            Seen::Together => moved += 1,
        }
    }
    let (bracket, finding) = best.expect("no pass is left before something differed");
    let exact = bracket.is_exact(course);
    Ok(Outcome::Apart(Apart { bracket, exact, moves: moved > 0, finding, passes: pass }))
}

fn run<P: Pair>(pair: &mut P, plan: &mut Plan<'_>, tell: &mut dyn FnMut(u64)) -> Seen {
    let mut same = None;
    loop {
        let at = plan.after(same);
        let met = pair.go_to(at);
        if !met.same {
            return Seen::Apart(Bracket { same, other: at });
        }
        tell(met.vtime_ns);
        // A place between two instructions is the next instruction's.
        let reached = Position { vtime_ns: met.vtime_ns, order: 0 }.max(at);
        if met.over || same == Some(reached) {
            return Seen::Together;
        }
        same = Some(reached);
    }
}

/// A pass now, and what it takes to refine its interval to one place.
fn passes_to_come(pass: u32, target: Option<Bracket>, course: Course<'_>) -> u32 {
    let span = target.map_or(course.end.vtime_ns / COARSE_STEPS, |bracket| bracket.width().0 / FINE_STEPS);
    let more = if span == 0 { 0 } else { 1 + span.ilog2() / FINE_STEPS.ilog2() };
    (pass + more).min(MAX_PASSES)
}

impl Bracket {
    fn width(&self) -> (u64, u32) {
        let same = self.same.unwrap_or_default();
        let time = self.other.vtime_ns - same.vtime_ns;
        (time, if time == 0 { self.other.order - same.order } else { 0 })
    }

    fn holds(&self, other: Bracket) -> bool {
        self.same <= other.same && other.other <= self.other
    }

    /// Whether no place lies between.
    fn is_exact(&self, course: Course<'_>) -> bool {
        let Some(same) = self.same else { return true };
        match self.other.vtime_ns - same.vtime_ns {
            0 => self.other.order - same.order <= 1,
            1 => self.other.order == 0 && same.order >= (course.events_at)(same.vtime_ns),
            _ => false,
        }
    }
}

/// The places of one pass.
struct Plan<'a> {
    course: Course<'a>,
    target: Option<Bracket>,
    way_step: u64,
    /// Step within the target, in nanoseconds.
    fine_step: u64,
}

impl<'a> Plan<'a> {
    fn new(target: Option<Bracket>, course: Course<'a>, moved: u32) -> Plan<'a> {
        let end = course.end.vtime_ns;
        let way_steps = match target {
            None => COARSE_STEPS,
            Some(_) => WAY_STEPS.pow(1 + moved.min(2)),
        };
        let span = target.map_or(0, |bracket| bracket.width().0);
        Plan {
            course,
            target,
            way_step: end.div_ceil(way_steps).max(1),
            fine_step: span.div_ceil(FINE_STEPS).max(1),
        }
    }

    /// The next place behind the last one where both were the same.
    fn after(&self, last: Option<Position>) -> Position {
        let Some(last) = last else { return Position::default() };
        let on_the_way = self.on_the_way(last);
        let Some(Bracket { same: Some(same), other }) = self.target else { return on_the_way };
        if last < same {
            on_the_way.min(same)
        } else if last < other {
            self.within(last, other).min(other)
        } else {
            on_the_way
        }
    }

    fn on_the_way(&self, last: Position) -> Position {
        let step = match last < self.course.end {
            true => self.way_step,
            false => self.way_step.max(last.vtime_ns / BEYOND),
        };
        let next = at(last.vtime_ns.saturating_add(step));
        if last < self.course.end { next.min(self.course.end) } else { next }
    }

    /// The next place in the interval: by time, and event by event where time stands still.
    fn within(&self, last: Position, other: Position) -> Position {
        let by_time = at(last.vtime_ns.saturating_add(self.fine_step));
        let last_order = match other.vtime_ns == last.vtime_ns {
            true => other.order,
            false => (self.course.events_at)(last.vtime_ns),
        };
        if self.fine_step > 1 || last.order >= last_order {
            return by_time;
        }
        let step = u64::from(last_order - last.order).div_ceil(FINE_STEPS);
        let order = u64::from(last.order).saturating_add(step).min(last_order.into());
        Position { vtime_ns: last.vtime_ns, order: u32::try_from(order).unwrap_or(last_order) }
    }
}

fn at(vtime_ns: u64) -> Position {
    Position { vtime_ns, order: 0 }
}

#[cfg(test)]
mod tests;
