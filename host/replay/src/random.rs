//! Every random draw of a run comes from one ChaCha20 stream keyed by the run's seed.

use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};

/// The seed of a run: the whole of what chance may decide in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub [u8; 32]);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Seed(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, ")")
    }
}

impl Seed {
    /// A seed from a number that a person can type: its little-endian bytes, then zeroes.
    #[must_use]
    pub fn from_number(number: u64) -> Seed {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        Seed(seed)
    }
}

/// The stream and how far it has been drawn, which is saved state.
#[derive(Debug)]
pub struct RandomStream {
    seed: Seed,
    drawn_bytes: u64,
    rng: ChaCha20Rng,
}

impl RandomStream {
    /// The stream of `seed`, undrawn.
    #[must_use]
    pub fn new(seed: Seed) -> RandomStream {
        RandomStream { seed, drawn_bytes: 0, rng: ChaCha20Rng::from_seed(seed.0) }
    }

    /// The stream of `seed` after `drawn_bytes` were drawn.
    #[must_use]
    pub fn at(seed: Seed, drawn_bytes: u64) -> RandomStream {
        let mut stream = RandomStream::new(seed);
        stream.drawn_bytes = drawn_bytes;
        stream.rng.set_word_pos(u128::from(drawn_bytes / 4));
        stream
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// How much has been drawn, in bytes: a multiple of 4.
    #[must_use]
    pub fn drawn_bytes(&self) -> u64 {
        self.drawn_bytes
    }

    /// Draw. Whole 32-bit words are used, so that the position is one number.
    pub fn fill(&mut self, into: &mut [u8]) {
        for chunk in into.chunks_mut(4) {
            let word = self.rng.next_u32().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
            self.drawn_bytes += 4;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_continues_from_its_position() {
        let seed = Seed::from_number(42);
        let mut whole = RandomStream::new(seed);
        let mut bytes = [0; 64];
        whole.fill(&mut bytes[..13]);
        let mut rest = RandomStream::at(seed, whole.drawn_bytes());
        let (mut a, mut b) = ([0; 40], [0; 40]);
        whole.fill(&mut a);
        rest.fill(&mut b);
        assert_eq!(a, b);
        assert_eq!(whole.drawn_bytes(), rest.drawn_bytes());
    }

    /// RFC 8439 keys differ in the nonce layout, so the reference here is the stream of the all-zero key, nonce and
    /// counter: RFC 7539 A.1 test vector 1 begins 76 b8 e0 ad.
    #[test]
    fn the_stream_is_chacha20() {
        let mut bytes = [0; 4];
        RandomStream::new(Seed([0; 32])).fill(&mut bytes);
        assert_eq!(bytes, [0x76, 0xb8, 0xe0, 0xad]);
    }
}
