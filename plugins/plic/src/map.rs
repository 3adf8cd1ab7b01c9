//! The memory map. PLIC specification 1.0.0 §3, "Memory Map".

/// Length of the region in bytes: room for 1024 contexts.
pub(crate) const SIZE: u64 = 0x60_0000;

/// Interrupt priorities, a word for each source. §4.
const PRIORITY: u64 = 0x0;
/// Interrupt pending bits, 32 sources a word. §5.
const PENDING: u64 = 0x1000;
/// Interrupt enables, likewise, a block for each context. §6.
const ENABLE: u64 = 0x2000;
const ENABLE_STRIDE: u64 = 0x80;
/// Threshold (§7) and claim/complete (§8, §9), a block for each context.
const CONTEXT: u64 = 0x20_0000;
const CONTEXT_STRIDE: u64 = 0x1000;

/// A register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Register {
    /// Priority of a source.
    Priority { source: usize },
    /// Pending bits.
    Pending { word: usize },
    /// Enable bits of a context.
    Enable { context: usize, word: usize },
    /// Priority threshold of a context.
    Threshold { context: usize },
    /// Claim (read) and complete (write) of a context.
    Claim { context: usize },
}

impl Register {
    /// The context, for a register that belongs to one.
    pub(crate) fn context(self) -> Option<usize> {
        match self {
            Register::Priority { .. } | Register::Pending { .. } => None,
            Register::Enable { context, .. }
            | Register::Threshold { context }
            | Register::Claim { context } => Some(context),
        }
    }
}

/// The register at a word-aligned offset, with bit sets of `words` words and priorities `1..priorities`. `None`:
/// nothing is there, as at the priority of source 0, which does not exist.
pub(crate) fn register(offset: u64, words: usize, priorities: usize) -> Option<Register> {
    let word_of = |base: u64| ((offset - base) / 4) as usize;
    match offset {
        PRIORITY..PENDING => {
            let source = word_of(PRIORITY);
            (1..priorities).contains(&source).then_some(Register::Priority { source })
        }
        PENDING..ENABLE => {
            let word = word_of(PENDING);
            (word < words).then_some(Register::Pending { word })
        }
        ENABLE..CONTEXT => {
            let context = ((offset - ENABLE) / ENABLE_STRIDE) as usize;
            let word = word_of(ENABLE) % (ENABLE_STRIDE / 4) as usize;
            (word < words).then_some(Register::Enable { context, word })
        }
        CONTEXT.. => {
            let context = ((offset - CONTEXT) / CONTEXT_STRIDE) as usize;
            match (offset - CONTEXT) % CONTEXT_STRIDE {
                0 => Some(Register::Threshold { context }),
                4 => Some(Register::Claim { context }),
                _ => None,
            }
        }
    }
}
