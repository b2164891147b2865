//! The only source of random numbers. Decisions receive them as arguments.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A lock-free SplitMix64 generator. Its numbers are not secret. Clones share one sequence.
#[derive(Debug, Clone)]
pub struct RandomSource(Arc<AtomicU64>);

impl RandomSource {
    /// A source that the operating system seeds.
    #[must_use]
    pub fn new() -> Self {
        // `RandomState` is seeded by the system; the hash of nothing passes that seed on.
        Self::seeded(RandomState::new().build_hasher().finish())
    }

    /// A source that returns the same numbers for the same seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)))
    }

    /// The next number: at least 0, less than 1.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl Default for RandomSource {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fill_the_range() {
        let random = RandomSource::seeded(7);
        let numbers: Vec<f64> = (0..10_000).map(|_| random.fraction()).collect();
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        let mean = numbers.iter().sum::<f64>() / 10_000.0;
        assert!((0.48..0.52).contains(&mean), "{mean}");
    }
}
