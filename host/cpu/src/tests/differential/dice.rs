//! Chance, the same on every host.

/// SplitMix64 (Steele, Lea, Flood, 2014): neighbouring seeds give unrelated rolls.
#[derive(Clone)]
pub(in crate::tests) struct Dice(u64);

impl Dice {
    pub(in crate::tests) fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    pub(in crate::tests) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub(in crate::tests) fn below(&mut self, n: u64) -> u64 {
        self.bits() % n
    }

    /// A number from `low` to `high`, both included.
    pub(in crate::tests) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    pub(in crate::tests) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(in crate::tests) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    pub(in crate::tests) fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            all.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    /// One of `kinds`, as often as its weight says.
    pub(in crate::tests) fn weighted<T: Copy>(&mut self, kinds: &[(T, u64)]) -> T {
        let mut at = self.below(kinds.iter().map(|(_, weight)| weight).sum());
        for &(kind, weight) in kinds {
            if at < weight {
                return kind;
            }
            at -= weight;
        }
        unreachable!("the rolls are below the sum of the weights")
    }

    /// A 64-bit value in whose neighbourhood something changes, or any.
    pub(in crate::tests) fn value(&mut self) -> u64 {
        let bits = self.bits();
        match self.below(8) {
            0 => self.below(17).wrapping_sub(8),
            1 => 1 << (bits & 63),
            2 => (1 << (bits & 63)) - 1,
            3 => !(1 << (bits & 63)),
            4 => bits as i32 as u64,
            5 => bits & 0xff,
            6 => self.pick(&[i64::MIN as u64, i64::MAX as u64, i32::MIN as u64, i32::MAX as u64, 1 << 32]),
            _ => bits,
        }
    }

    /// The bits of a floating-point register: special values, numbers of all formats, and boxes that are none.
    pub(in crate::tests) fn float(&mut self) -> u64 {
        // So few that they meet their equals and opposites.
        const COMMON: [u64; 8] = [
            0,
            1 << 63,
            0x3ff0_0000_0000_0000,
            0xffff_ffff_0000_0000,
            0xffff_ffff_8000_0000,
            0xffff_ffff_3f80_0000,
            0xffff_ffff_ffff_0000,
            0xffff_ffff_ffff_8000,
        ];
        let bits = self.bits();
        let (double, single, half) =
            (self.exponent(bits, 11, 52), self.exponent(bits, 8, 23), self.exponent(bits, 5, 10));
        match self.below(10) {
            8 | 9 => self.pick(&COMMON),
            0 | 1 => double,
            2 | 3 => single | !0 << 32,
            4 | 5 => half | !0 << 16,
            6 => single | (bits >> 13) << 32,
            _ => bits,
        }
    }

    /// A number of a format: often special, or near 1 so that sums and products stay numbers.
    fn exponent(&mut self, bits: u64, exponent_bits: u32, fraction_bits: u32) -> u64 {
        let all = (1_u64 << exponent_bits) - 1;
        let fraction = match self.below(4) {
            0 => 0,
            1 => bits & 3,
            2 => 1 << (fraction_bits - 1) | bits & 1,
            _ => bits & ((1 << fraction_bits) - 1),
        };
        let exponent = match self.below(8) {
            0 => 0,
            1 => all,
            2 => all - 1,
            3 => 1,
            _ => all / 2 + self.below(u64::from(fraction_bits) / 2) - u64::from(fraction_bits) / 4,
        };
        (bits >> 63) << (exponent_bits + fraction_bits) | exponent << fraction_bits | fraction
    }
}
