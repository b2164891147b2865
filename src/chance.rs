//! The one source of chance; everybody else is told a number.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers that nobody needs to be unable to guess: SplitMix64 over a counter, so that drawing takes no lock.
/// Clones draw from the same row of numbers.
#[derive(Debug, Clone)]
pub struct Chance(Arc<AtomicU64>);

impl Chance {
    /// Seeded by the operating system.
    #[must_use]
    pub fn new() -> Self {
        // `RandomState` is seeded from the system's random source; an empty hash of it hands on that seed.
        Self::seeded(RandomState::new().build_hasher().finish())
    }

    /// The same numbers every time.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)))
    }

    /// A number from 0 to 1, 1 excluded.
    #[must_use]
    pub fn draw(&self) -> f64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl Default for Chance {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fill_the_range() {
        let chance = Chance::seeded(7);
        let drawn: Vec<f64> = (0..10_000).map(|_| chance.draw()).collect();
        assert!(drawn.iter().all(|number| (0.0..1.0).contains(number)));
        let mean = drawn.iter().sum::<f64>() / 10_000.0;
        assert!((0.48..0.52).contains(&mean), "{mean}");
    }
}
