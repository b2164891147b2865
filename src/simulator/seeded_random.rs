//! Reproducible random numbers.

use std::sync::atomic::{AtomicU64, Ordering};

/// Pseudo-random numbers that are the same for the same seed.
///
/// This is splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014) and not a
/// crate's generator, because its state is a counter: many requests draw from one stream with a single atomic
/// addition, no lock, and a seed on the command line reproduces a run. It must not be used for secrets.
#[derive(Debug)]
pub struct SeededRandom(AtomicU64);

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

impl SeededRandom {
    /// The stream of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// Starts the stream of this seed.
    pub fn reseed(&self, seed: u64) {
        self.0.store(seed, Ordering::Relaxed);
    }

    /// The next number.
    pub fn next_u64(&self) -> u64 {
        let mut z = self.0.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number from 0 up to, but not including, 1.
    pub fn next_f64(&self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        let random = SeededRandom::new(1_234_567);
        let numbers: Vec<u64> = (0..3).map(|_| random.next_u64()).collect();
        assert_eq!(
            numbers,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn fractions_stay_in_bounds_and_spread() {
        let random = SeededRandom::new(7);
        let low = (0..10_000).filter(|_| random.next_f64() < 0.2).count();
        assert!((1_800..2_200).contains(&low), "{low}");
        assert!((0..10_000).all(|_| (0.0..1.0).contains(&random.next_f64())));
    }
}
