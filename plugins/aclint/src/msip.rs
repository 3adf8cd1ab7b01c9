//! The MSIP registers, ACLINT §3.2: one word for each hart, of which bit 0 is the level of the hart's `msip` pin.

use reprise_plugin_api::{Access, Ctx, DeviceState, OutPin};

/// The registers. Hart N's pin is output N.
#[derive(DeviceState)]
pub(crate) struct Msip {
    levels: Box<[bool]>,
}

impl Msip {
    pub(crate) fn new(harts: u32) -> Self {
        Self { levels: vec![false; harts as usize].into() }
    }

    pub(crate) fn reset(&mut self, cx: &mut Ctx<'_>) {
        let Self { levels } = self;
        for (hart, level) in levels.iter_mut().enumerate() {
            *level = false;
            cx.set_pin(OutPin(hart as u32), false);
        }
    }

    /// A double word, which only the CLINT layout lets through, reads two registers.
    pub(crate) fn read(&self, access: Access) -> u64 {
        let level = |hart: u64| self.levels.get(hart as usize).is_some_and(|level| *level);
        words(access).fold(0, |value, (hart, shift)| value | u64::from(level(hart)) << shift)
    }

    pub(crate) fn write(&mut self, cx: &mut Ctx<'_>, access: Access, value: u64) {
        for (hart, shift) in words(access) {
            if let Some(level) = self.levels.get_mut(hart as usize) {
                *level = value >> shift & 1 != 0;
                cx.set_pin(OutPin(hart as u32), *level);
            }
        }
    }
}

/// The words that an access covers, each with its place in the value.
fn words(access: Access) -> impl Iterator<Item = (u64, u64)> {
    (0..access.size.bytes() / 4).map(move |word| (access.offset / 4 + word, 32 * word))
}
