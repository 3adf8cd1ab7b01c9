//! MTIME and the MTIMECMP registers, ACLINT §2.

use reprise_plugin_api::desc::DeviceDesc;
use reprise_plugin_api::{Access, Ctx, DeviceState, OutPin, Size, Timer};

const NS_PER_S: u128 = 1_000_000_000;

/// Declare the timers that [`Mtimer`] arms, as the first of the device.
pub(crate) fn declare_timers(desc: DeviceDesc, harts: u32) -> DeviceDesc {
    (0..harts).fold(desc, |desc, hart| desc.timer(&format!("mtimecmp.{hart}")))
}

/// One counter, a compare register and a timer for each hart.
#[derive(DeviceState)]
pub(crate) struct Mtimer {
    // Configuration.
    #[state(config)]
    timebase_hz: u32,
    /// Pin of hart 0; the others follow.
    #[state(config)]
    first_pin: OutPin,
    // State.
    /// MTIME less the ticks of virtual time (wrapping).
    offset: u64,
    mtimecmp: Box<[u64]>,
}

impl Mtimer {
    pub(crate) fn new(harts: u32, timebase_hz: u32, first_pin: OutPin) -> Self {
        Self { timebase_hz, first_pin, offset: 0, mtimecmp: vec![u64::MAX; harts as usize].into() }
    }

    /// §2.2: MTIME is cleared. §2.3: MTIMECMP is unknown; all ones keeps the harts quiet.
    pub(crate) fn reset(&mut self, cx: &mut Ctx<'_>) {
        let Self { timebase_hz: _, first_pin: _, offset: _, mtimecmp } = self;
        mtimecmp.fill(u64::MAX);
        self.set_mtime(cx, 0);
    }

    pub(crate) fn read_mtime(&self, cx: &Ctx<'_>, access: Access) -> u64 {
        part(self.mtime(cx.now_ns()), access)
    }

    pub(crate) fn write_mtime(&mut self, cx: &mut Ctx<'_>, access: Access, value: u64) {
        let mtime = merge(self.mtime(cx.now_ns()), access, value);
        self.set_mtime(cx, mtime);
    }

    pub(crate) fn read_mtimecmp(&self, access: Access) -> u64 {
        self.mtimecmp.get((access.offset / 8) as usize).map_or(0, |mtimecmp| part(*mtimecmp, access))
    }

    pub(crate) fn write_mtimecmp(&mut self, cx: &mut Ctx<'_>, access: Access, value: u64) {
        let hart = (access.offset / 8) as usize;
        if let Some(mtimecmp) = self.mtimecmp.get_mut(hart) {
            *mtimecmp = merge(*mtimecmp, access, value);
            self.update(cx, hart);
        }
    }

    pub(crate) fn on_timer(&mut self, cx: &mut Ctx<'_>, timer: Timer) {
        self.update(cx, timer.0 as usize);
    }

    fn mtime(&self, now_ns: u64) -> u64 {
        (self.ticks(now_ns) as u64).wrapping_add(self.offset)
    }

    /// Full ticks of virtual time.
    fn ticks(&self, now_ns: u64) -> u128 {
        u128::from(now_ns) * u128::from(self.timebase_hz) / NS_PER_S
    }

    /// First nanosecond at which MTIME is `ahead` ticks on from now, if virtual time gets there.
    fn deadline_ns(&self, now_ns: u64, ahead: u64) -> Option<u64> {
        let ticks = self.ticks(now_ns) + u128::from(ahead);
        u64::try_from((ticks * NS_PER_S).div_ceil(u128::from(self.timebase_hz))).ok()
    }

    fn set_mtime(&mut self, cx: &mut Ctx<'_>, mtime: u64) {
        self.offset = mtime.wrapping_sub(self.ticks(cx.now_ns()) as u64);
        cx.set_time_offset(self.offset);
        for hart in 0..self.mtimecmp.len() {
            self.update(cx, hart);
        }
    }

    /// §2.3: MTIP is pending while MTIME is not less than MTIMECMP. Drive the pin to that, and come
    /// back when it changes.
    fn update(&self, cx: &mut Ctx<'_>, hart: usize) {
        let (mtime, mtimecmp) = (self.mtime(cx.now_ns()), self.mtimecmp[hart]);
        let timer = Timer(hart as u32);
        cx.set_pin(OutPin(self.first_pin.0 + hart as u32), mtime >= mtimecmp);
        let ahead = match mtimecmp.checked_sub(mtime) {
            Some(ahead @ 1..) => Some(ahead),
            // Pending until MTIME wraps to 0, which a guest that sets it close to the end gets to see.
            Some(0) | None => Some(mtime.wrapping_neg()).filter(|_| mtimecmp != 0),
        };
        match ahead.and_then(|ahead| self.deadline_ns(cx.now_ns(), ahead)) {
            Some(deadline_ns) => cx.timer_arm(timer, deadline_ns),
            None => cx.timer_cancel(timer),
        }
    }
}

/// The half of a register that an access reads, or all of it.
fn part(register: u64, access: Access) -> u64 {
    match access.size {
        Size::B8 => register,
        Size::B1 | Size::B2 | Size::B4 => register >> (8 * (access.offset % 8)) & 0xffff_ffff,
    }
}

/// The register after an access writes half of it, or all.
fn merge(register: u64, access: Access, value: u64) -> u64 {
    match access.size {
        Size::B8 => value,
        Size::B1 | Size::B2 | Size::B4 => {
            let shift = 8 * (access.offset % 8);
            register & !(0xffff_ffff << shift) | (value & 0xffff_ffff) << shift
        }
    }
}
