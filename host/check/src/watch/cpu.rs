//! Registers of the processor that outlive a call.
#![expect(unsafe_code, reason = "reads and sets a control register")]

/// Flags that arithmetic sets; the rest of the register is control.
#[cfg(target_arch = "x86_64")]
const STICKY: u32 = 0x3f;

/// The floating-point control register, without the flags of what was computed.
pub(crate) fn float_control() -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        let mut value = 0u32;
        // SAFETY: stores four bytes to `value`, nothing else.
        unsafe { core::arch::asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack, preserves_flags)) }
        value & !STICKY
    }
    #[cfg(not(target_arch = "x86_64"))]
    0
}

/// Put it back.
pub(crate) fn set_float_control(value: u32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a value that `float_control` read: no reserved bit is set.
    unsafe {
        core::arch::asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
