//! How instructions are executed: the tiers. Which one runs can never be seen by the guest.

use std::fmt;
use std::str::FromStr;

/// The most that may execute an instruction. Each engine falls back to the ones before it, and all agree to the bit, so
/// a recording does not say which one made it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Engine {
    #[default]
    /// The interpreter: the reference, on every host.
    Interp,
    /// The interpreter with one function an instruction, each of which calls the next: on every host.
    Threaded,
    /// Translation to x86-64 machine code of what runs often.
    Jit,
}

/// An engine that this host or this build cannot have.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Not made for this architecture.
    #[error("the engine `{0}` does not exist for this host's architecture")]
    Architecture(Engine),
    /// The host refuses memory that holds code.
    #[error("the host gives no memory for translated code")]
    Memory(#[source] std::io::Error),
}

/// A name that no engine has.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no engine is called `{0}`: there are `interp`, `threaded` and `jit`")]
pub struct UnknownEngine(String);

impl Engine {
    /// All of them, the slowest first.
    pub const ALL: [Engine; 3] = [Engine::Interp, Engine::Threaded, Engine::Jit];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Interp => "interp",
            Engine::Threaded => "threaded",
            Engine::Jit => "jit",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Engine, UnknownEngine> {
        Engine::ALL
            .into_iter()
            .find(|engine| engine.name() == name)
            .ok_or_else(|| UnknownEngine(name.to_owned()))
    }
}
