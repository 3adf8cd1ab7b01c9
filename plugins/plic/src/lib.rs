//! The platform-level interrupt controller: RISC-V PLIC specification 1.0.0, with SiFive's memory map.
//!
//! Every hart has two contexts, M-mode then S-mode, in the order of the harts. All sources are level-triggered: a
//! gateway forwards one request while its line is high, and the next only after a completion; a request that was
//! forwarded stays pending when the line falls (§1.2).
//!
//! The levels at the input pins are the wires', not ours to reset. A line that is high when the machine is reset counts
//! again only if it is still high once every device had its reset: hence the bottom half.

mod map;

use map::Register;
use reprise_plugin_api::desc::{DeviceDesc, FdtNode, FdtValue};
use reprise_plugin_api::{
    Access, Bh, ConfigError, Ctx, Device, DeviceConfig, DeviceState, Fault, InPin, OutPin, Reset,
    export_devices,
};

/// Samples the lines once all devices were reset.
const SAMPLE: Bh = Bh(0);

/// Options of the controller.
#[derive(DeviceConfig)]
pub struct Config {
    /// Number of interrupt sources; they are numbered from 1.
    #[config(default = 95, min = 1, max = 1023)]
    pub sources: u32,
    /// Number of harts; each has an M-mode and an S-mode context.
    #[config(board = "harts", min = 1, max = 512)]
    pub harts: u32,
    /// Highest priority and threshold: a power of two less one. Bits above it do not exist.
    #[config(default = 7, min = 1)]
    pub max_priority: u32,
}

/// One interrupt target.
#[derive(DeviceState, Clone)]
struct Context {
    /// A bit for each source.
    enabled: Box<[u32]>,
    /// Only higher priorities interrupt.
    threshold: u32,
}

/// The controller.
#[derive(DeviceState)]
#[state(version = 1)]
pub struct Plic {
    // Configuration.
    #[state(config)]
    sources: u32,
    #[state(config)]
    harts: u32,
    #[state(config)]
    max_priority: u32,
    // Wiring: the levels at the output pins, by context.
    #[state(skip, rebuild = "Self::rebuild_raised")]
    raised: Box<[bool]>,
    // State. Bit sets have a bit for each source; bit 0 is always clear.
    /// Levels at the input pins.
    lines: Box<[u32]>,
    pending: Box<[u32]>,
    /// Forwarded by the gateway and not completed yet: pending, or claimed.
    in_flight: Box<[u32]>,
    priority: Box<[u32]>,
    contexts: Box<[Context]>,
}

impl Device for Plic {
    type Config = Config;

    fn describe(config: &Config) -> DeviceDesc {
        let Config { sources, harts, max_priority: _ } = *config;
        let node = FdtNode {
            name: "plic".into(),
            compatible: ["sifive,plic-1.0.0", "riscv,plic0"].map(Into::into).into(),
            props: vec![
                ("#address-cells".into(), FdtValue::Cells(vec![0])),
                ("riscv,ndev".into(), FdtValue::Cells(vec![sources])),
            ],
            // The position in this list is the number of the context.
            interrupts: (0..2 * harts as usize).map(|context| output(context, harts).0).collect(),
            interrupt_controller: Some(1),
            ..FdtNode::default()
        };
        DeviceDesc::new("plic", "RISC-V platform-level interrupt controller 1.0.0")
            .region("regs", map::SIZE, 4)
            // Pin 0 is no source, but with it a pin's number is the source's.
            .inputs("irq", sources + 1)
            .outputs("meip", harts)
            .outputs("seip", harts)
            .bottom_half("sample")
            .fdt(node)
    }

    fn create(config: Config) -> Result<Self, ConfigError> {
        let Config { sources, harts, max_priority } = config;
        if !max_priority.wrapping_add(1).is_power_of_two() && max_priority != u32::MAX {
            let message = format!("{max_priority} is not a power of two less one");
            return Err(ConfigError { path: "max_priority".into(), message });
        }
        let bits = || vec![0; sources as usize / 32 + 1].into_boxed_slice();
        let contexts = 2 * harts as usize;
        Ok(Self {
            sources,
            harts,
            max_priority,
            raised: vec![false; contexts].into(),
            lines: bits(),
            pending: bits(),
            in_flight: bits(),
            priority: vec![0; sources as usize + 1].into(),
            contexts: vec![Context { enabled: bits(), threshold: 0 }; contexts].into(),
        })
    }

    fn reset(&mut self, cx: &mut Ctx<'_>, _kind: Reset) {
        let Self {
            sources: _,
            harts,
            max_priority: _,
            raised,
            lines,
            pending,
            in_flight,
            priority,
            contexts,
        } = self;
        pending.fill(0);
        in_flight.fill(0);
        priority.fill(0);
        for context in contexts {
            context.enabled.fill(0);
            context.threshold = 0;
        }
        raised.fill(false);
        for context in 0..raised.len() {
            cx.set_pin(output(context, *harts), false);
        }
        if lines.iter().any(|word| *word != 0) {
            cx.bh_schedule(SAMPLE);
        }
    }

    fn mmio_read(&mut self, cx: &mut Ctx<'_>, access: Access) -> Result<u64, Fault> {
        Ok(u64::from(match self.decode(access.offset) {
            Some(Register::Priority { source }) => self.priority[source],
            Some(Register::Pending { word }) => self.pending[word],
            Some(Register::Enable { context, word }) => self.contexts[context].enabled[word],
            Some(Register::Threshold { context }) => self.contexts[context].threshold,
            Some(Register::Claim { context }) => self.claim(cx, context),
            None => 0,
        }))
    }

    fn mmio_write(&mut self, cx: &mut Ctx<'_>, access: Access, value: u64) -> Result<(), Fault> {
        let value = value as u32;
        match self.decode(access.offset) {
            Some(Register::Priority { source }) => {
                self.priority[source] = value & self.max_priority;
                self.update_source(cx, source);
            }
            // §5: the pending bits are read-only.
            Some(Register::Pending { .. }) | None => {}
            Some(Register::Enable { context, word }) => {
                self.contexts[context].enabled[word] = value & self.existing(word);
                self.update_context(cx, context);
            }
            Some(Register::Threshold { context }) => {
                self.contexts[context].threshold = value & self.max_priority;
                self.update_context(cx, context);
            }
            Some(Register::Claim { context }) => self.complete(cx, context, value),
        }
        Ok(())
    }

    fn on_pin(&mut self, cx: &mut Ctx<'_>, pin: InPin, high: bool) {
        let source = pin.0 as usize;
        if source == 0 || source >= self.priority.len() {
            return;
        }
        set_bit(&mut self.lines, source, high);
        self.forward(cx, source);
    }

    /// After a reset: the lines that are still high.
    fn on_bh(&mut self, cx: &mut Ctx<'_>, _bh: Bh, _payload: Option<&[u8]>) {
        for source in 1..self.priority.len() {
            self.forward(cx, source);
        }
    }

    fn after_load(&mut self) -> Result<(), String> {
        let sets = [("lines", &self.lines), ("pending", &self.pending), ("in_flight", &self.in_flight)];
        let enables = self.contexts.iter().map(|context| ("enabled", &context.enabled));
        for (name, set) in sets.into_iter().chain(enables) {
            if set.iter().enumerate().any(|(word, bits)| bits & !self.existing(word) != 0) {
                return Err(format!("`{name}` has a source that does not exist"));
            }
        }
        if self.pending.iter().zip(&self.in_flight).any(|(pending, in_flight)| pending & !in_flight != 0) {
            return Err("a pending source is not in flight".to_owned());
        }
        let levels = self.priority.iter().chain(self.contexts.iter().map(|context| &context.threshold));
        if levels.into_iter().any(|level| level & !self.max_priority != 0) || self.priority[0] != 0 {
            return Err("a priority or threshold that does not exist".to_owned());
        }
        Ok(())
    }
}

impl Plic {
    fn decode(&self, offset: u64) -> Option<Register> {
        map::register(offset, self.lines.len(), self.priority.len())
            .filter(|register| register.context().is_none_or(|context| context < self.contexts.len()))
    }

    /// The bits of this word of a bit set that stand for sources.
    fn existing(&self, word: usize) -> u32 {
        let sources = self.sources as usize;
        let upper = if word < sources / 32 { u32::MAX } else { u32::MAX >> (31 - sources % 32) };
        upper & if word == 0 { !1 } else { u32::MAX }
    }

    /// The gateway: a high line makes one request until it is completed. §1.2.
    fn forward(&mut self, cx: &mut Ctx<'_>, source: usize) {
        if bit(&self.lines, source) && !bit(&self.in_flight, source) {
            set_bit(&mut self.in_flight, source, true);
            set_bit(&mut self.pending, source, true);
            self.update_source(cx, source);
        }
    }

    /// §8: the best pending source enabled for this context, or 0; the threshold plays no part. It is no longer
    /// pending.
    fn claim(&mut self, cx: &mut Ctx<'_>, context: usize) -> u32 {
        let Some(source) = self.best(context, 0) else { return 0 };
        set_bit(&mut self.pending, source, false);
        self.update_source(cx, source);
        source as u32
    }

    /// §9: a completion is ignored if its source is not enabled for this context, or was not claimed.
    fn complete(&mut self, cx: &mut Ctx<'_>, context: usize, source: u32) {
        let source = source as usize;
        let known = source < self.priority.len() && bit(&self.contexts[context].enabled, source);
        if known && bit(&self.in_flight, source) && !bit(&self.pending, source) {
            set_bit(&mut self.in_flight, source, false);
            self.forward(cx, source);
        }
    }

    /// The pending and enabled source of the highest priority above `floor`; of equals the lowest number (§4).
    /// Priority 0 never interrupts.
    fn best(&self, context: usize, floor: u32) -> Option<usize> {
        let mut best = None;
        let mut above = floor;
        for (word, (pending, enabled)) in self.pending.iter().zip(&self.contexts[context].enabled).enumerate()
        {
            let mut candidates = pending & enabled;
            while candidates != 0 {
                let source = word * 32 + candidates.trailing_zeros() as usize;
                candidates &= candidates - 1;
                // A loaded state is only checked after the pins' levels were rebuilt from it.
                let priority = self.priority.get(source).copied().unwrap_or(0);
                if priority > above {
                    above = priority;
                    best = Some(source);
                }
            }
        }
        best
    }

    fn wants_interrupt(&self, context: usize) -> bool {
        self.best(context, self.contexts[context].threshold).is_some()
    }

    /// Something about a source changed: only contexts that it is enabled for care.
    fn update_source(&mut self, cx: &mut Ctx<'_>, source: usize) {
        for context in 0..self.contexts.len() {
            if bit(&self.contexts[context].enabled, source) {
                self.update_context(cx, context);
            }
        }
    }

    fn update_context(&mut self, cx: &mut Ctx<'_>, context: usize) {
        let level = self.wants_interrupt(context);
        if level != self.raised[context] {
            self.raised[context] = level;
            cx.set_pin(output(context, self.harts), level);
        }
    }

    /// Every callback ends with the pins at these levels.
    fn rebuild_raised(&mut self) {
        self.raised = (0..self.contexts.len()).map(|context| self.wants_interrupt(context)).collect();
    }
}

/// The pin of a context: even ones are the harts' `meip`, odd ones their `seip`.
fn output(context: usize, harts: u32) -> OutPin {
    let (hart, supervisor) = (context as u32 / 2, context % 2 == 1);
    OutPin(if supervisor { harts + hart } else { hart })
}

fn bit(set: &[u32], source: usize) -> bool {
    set[source / 32] >> (source % 32) & 1 != 0
}

fn set_bit(set: &mut [u32], source: usize, value: bool) {
    let mask = 1 << (source % 32);
    if value {
        set[source / 32] |= mask;
    } else {
        set[source / 32] &= !mask;
    }
}

export_devices!(Plic);

#[cfg(test)]
mod tests;
