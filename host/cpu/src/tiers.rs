//! The engines of a cluster, and which of them is on. Where there is no back end for the host's architecture, there are
//! the interpreters.

use crate::block::Arena;
use crate::engine::{Engine, EngineError};
use crate::hart::Hart;
use crate::observe;
use crate::run::{self, Pause};
use crate::shared::Cx;
use crate::threaded::Threaded;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use crate::jit::Jit;

/// A back end for a host without one.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
enum Jit {}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
impl Jit {
    fn new() -> Result<Jit, EngineError> {
        Err(EngineError::Architecture(Engine::Jit))
    }

    fn execute(&mut self, _: &mut Hart, _: &mut Cx<'_>, _: &mut Arena) -> Pause {
        match *self {}
    }
}

/// What executes instructions now: the engine that is on, or, while it is watched, what tells of each of them.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Active {
    #[default]
    Interp,
    Threaded,
    Jit,
    Observed,
}

impl From<Engine> for Active {
    fn from(engine: Engine) -> Active {
        match engine {
            Engine::Interp => Active::Interp,
            Engine::Threaded => Active::Threaded,
            Engine::Jit => Active::Jit,
        }
    }
}

/// What executes instructions besides the plain interpreter.
#[derive(Default)]
pub(crate) struct Tiers {
    on: Engine,
    active: Active,
    threaded: Threaded,
    /// Kept while it is off: what it translated stays good.
    jit: Option<Box<Jit>>,
}

impl Tiers {
    pub(crate) fn choose(&mut self, engine: Engine) -> Result<(), EngineError> {
        if engine == Engine::Jit && self.jit.is_none() {
            self.jit = Some(Box::new(Jit::new()?));
        }
        self.on = engine;
        self.observe(self.active == Active::Observed);
        Ok(())
    }

    /// From here on every instruction is told, or none is.
    pub(crate) fn observe(&mut self, every: bool) {
        self.active = if every { Active::Observed } else { self.on.into() };
    }

    pub(crate) fn engine(&self) -> Engine {
        self.on
    }

    /// Runs `h` on the engine that is on, as [`run::execute`] does.
    pub(crate) fn execute(&mut self, h: &mut Hart, cx: &mut Cx<'_>, arena: &mut Arena) -> Pause {
        match (self.active, &mut self.jit) {
            (Active::Interp, _) => run::execute::<false>(h, cx, arena),
            (Active::Jit, Some(jit)) => jit.execute(h, cx, arena),
            (Active::Threaded | Active::Jit, _) => self.threaded.execute(h, cx, arena),
            (Active::Observed, _) => observe::execute(h, cx, arena),
        }
    }

    /// As [`Tiers::execute`], one instruction at a time as they are decoded: for somebody who looks at each.
    pub(crate) fn execute_plainly(&self, h: &mut Hart, cx: &mut Cx<'_>, arena: &mut Arena) -> Pause {
        match self.active {
            Active::Observed => observe::execute(h, cx, arena),
            Active::Interp | Active::Threaded | Active::Jit => run::execute::<false>(h, cx, arena),
        }
    }
}
