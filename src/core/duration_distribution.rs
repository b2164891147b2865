//! The distribution of the durations of one kind of operation: a kernel density estimate with one t-distribution per
//! sample, and one more for durations unlike all samples.

use super::t_distribution::TDistribution;

/// Maximum number of samples.
pub const MEMORY: usize = 31;
/// Minimum number of samples.
const ENOUGH: usize = 3;
/// Weight of an unlike duration, in samples.
const UNLIKE: f64 = 1.0;
/// Width of the distribution of unlike durations, in the logarithm of the duration.
const UNLIKE_WIDTH: f64 = 1.5;
/// Kernel widths that are tried: the narrowest, and the factor from one to the next.
const WIDTHS: (f64, f64) = (0.01, 1.5);
/// How many widths are tried: up to 3, a factor of 20 in duration.
const TRIED: i32 = 15;
/// The prior of the width: its most likely value, and the standard deviation of its logarithm.
const GUESS: (f64, f64) = (0.15, 1.5);

/// The distribution of the logarithms of durations. The kernel width is the one that predicts each sample best from
/// the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DurationDistribution {
    seen: [f32; MEMORY],
    count: usize,
    width: f64,
    middle: f64,
}

impl DurationDistribution {
    /// Fits the distribution to the logarithms of durations in seconds. `None` if there are too few.
    #[must_use]
    pub fn learned(samples: impl Iterator<Item = f32>) -> Option<Self> {
        let mut seen = [0.0; MEMORY];
        let mut count = 0;
        for (place, sample) in seen.iter_mut().zip(samples) {
            *place = sample;
            count += 1;
        }
        if count < ENOUGH {
            return None;
        }
        let middle = seen[..count].iter().copied().map(f64::from).sum::<f64>() / count as f64;
        let lifetimes = |width| Self {
            seen,
            count,
            width,
            middle,
        };
        let (narrowest, factor) = WIDTHS;
        (0..TRIED)
            .map(|step| lifetimes(narrowest * factor.powi(step)))
            .map(|lifetimes| (lifetimes.likelihood(), lifetimes))
            .max_by(|(one, _), (other, _)| one.total_cmp(other))
            .map(|(_, best)| best)
    }

    /// The geometric mean of the samples, in seconds.
    #[must_use]
    pub fn middle(&self) -> f64 {
        self.middle.exp()
    }

    /// The fraction of operations that last longer than `value`, the logarithm of seconds.
    #[must_use]
    pub fn beyond(&self, value: f64) -> f64 {
        let like: f64 = self
            .seen()
            .map(|centre| self.about(centre).beyond(value, 0.0))
            .sum();
        (like + UNLIKE * self.unlike().beyond(value, 0.0)) / (self.count as f64 + UNLIKE)
    }

    /// The logarithm of the posterior of the width: leave-one-out likelihood of the samples, and the prior.
    fn likelihood(&self) -> f64 {
        let (guess, error) = GUESS;
        let before = ((self.width / guess).ln() / error).powi(2) / -2.0;
        let left_out = self.seen().enumerate().map(|(out, value)| {
            let others = self.seen().enumerate().filter(|(place, _)| *place != out);
            let like: f64 = others.map(|(_, centre)| self.about(centre).density(value)).sum();
            let unlike = UNLIKE * self.unlike().density(value);
            ((like + unlike) / (self.count as f64 - 1.0 + UNLIKE)).ln()
        });
        before + left_out.sum::<f64>()
    }

    fn seen(&self) -> impl Iterator<Item = f64> {
        self.seen[..self.count].iter().copied().map(f64::from)
    }

    fn about(&self, centre: f64) -> TDistribution {
        TDistribution {
            centre,
            width: self.width,
        }
    }

    fn unlike(&self) -> TDistribution {
        TDistribution {
            centre: self.middle,
            width: UNLIKE_WIDTH,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(seconds: impl Iterator<Item = f32>) -> DurationDistribution {
        DurationDistribution::learned(seconds.map(f32::ln)).unwrap()
    }

    /// The fraction that ends between these seconds, of those that last longer than `from`.
    fn ends_between(lifetimes: &DurationDistribution, from: f64, to: f64) -> f64 {
        1.0 - lifetimes.beyond(to.ln()) / lifetimes.beyond(from.ln())
    }

    #[test]
    fn alike_durations_foretell_a_narrow_end_and_wide_ones_hardly_any() {
        assert_eq!(DurationDistribution::learned([1.0, 2.0].into_iter()), None);
        let alike = learned((0..20).map(|n| 600.0 + n as f32));
        assert!(ends_between(&alike, 590.0, 640.0) > 0.85);
        assert!(ends_between(&alike, 200.0, 300.0) < 0.02);
        let wide = learned((0..20).map(|n| 200.0 * 30_f32.powf(n as f32 / 20.0)));
        assert!(ends_between(&wide, 590.0, 640.0) < 0.1, "{wide:?}");
        let few = learned([600.0, 601.0, 602.0].into_iter());
        assert!(ends_between(&few, 590.0, 640.0) < ends_between(&alike, 590.0, 640.0));
    }

    #[test]
    fn those_that_outlast_one_group_are_of_another() {
        let two = learned((0..20).map(|n| {
            if n % 10 == 0 {
                3_000.0 + n as f32
            } else {
                5.0 + 0.1 * n as f32
            }
        }));
        assert!(ends_between(&two, 4.0, 10.0) > 0.8, "{two:?}");
        assert!(ends_between(&two, 100.0, 2_000.0) < 0.4, "{two:?}");
        assert!(ends_between(&two, 2_500.0, 3_500.0) > 0.5, "{two:?}");
    }

    #[test]
    fn extreme_durations_stay_finite() {
        for seconds in [[1e-9, 1.0, 1e15], [7.0; 3], [f32::MIN_POSITIVE; 3]] {
            let lifetimes = learned(seconds.into_iter());
            let beyond: Vec<f64> = (-30..60)
                .map(|value| lifetimes.beyond(f64::from(value)))
                .collect();
            assert!(
                beyond.iter().all(|part| (0.0..=1.0001).contains(part)),
                "{beyond:?}"
            );
        }
    }
}
