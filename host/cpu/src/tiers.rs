//! The engines of a cluster, and which of them is on. Where there is no back end for the host's architecture, there is
//! the interpreter.

use crate::block::Arena;
use crate::engine::{Engine, EngineError};
use crate::hart::Hart;
use crate::run::Pause;
use crate::shared::Cx;

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

/// What executes instructions besides the interpreter.
#[derive(Default)]
pub(crate) struct Tiers {
    on: bool,
    /// Kept while it is off: what it translated stays good.
    jit: Option<Box<Jit>>,
}

impl Tiers {
    pub(crate) fn choose(&mut self, engine: Engine) -> Result<(), EngineError> {
        if engine == Engine::Jit && self.jit.is_none() {
            self.jit = Some(Box::new(Jit::new()?));
        }
        self.on = engine == Engine::Jit;
        Ok(())
    }

    pub(crate) fn engine(&self) -> Engine {
        if self.on { Engine::Jit } else { Engine::Interp }
    }

    /// As [`crate::run::execute`], by translated code where there is some.
    pub(crate) fn execute(&mut self, h: &mut Hart, cx: &mut Cx<'_>, arena: &mut Arena) -> Pause {
        self.jit.as_mut().expect("an engine that is on was made").execute(h, cx, arena)
    }
}
