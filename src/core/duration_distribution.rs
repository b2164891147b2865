//! The distribution of the durations of one kind of operation: a kernel density estimate with one t-distribution per
//! sample, and one more for durations unlike all samples.

use super::t_distribution::TDistribution;

/// Maximum number of samples.
pub const MAX_SAMPLES: usize = 31;
/// Minimum number of samples.
const MIN_SAMPLES: usize = 3;
/// Weight of an unlike duration, in samples.
const UNLIKE_WEIGHT: f64 = 1.0;
/// Width of the distribution of unlike durations, in the logarithm of the duration.
const UNLIKE_WIDTH: f64 = 1.5;
/// Kernel widths that are tried: the narrowest, and the factor from one to the next.
const WIDTHS: (f64, f64) = (0.01, 1.5);
/// How many widths are tried: up to 3, a factor of 20 in duration.
const WIDTHS_TRIED: i32 = 15;
/// The prior of the width: its most likely value, and the standard deviation of its logarithm.
const WIDTH_PRIOR: (f64, f64) = (0.15, 1.5);

/// The distribution of the logarithms of durations. The kernel width is the one that predicts each sample best from
/// the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DurationDistribution {
    samples: [f32; MAX_SAMPLES],
    count: usize,
    width: f64,
    mean: f64,
}

impl DurationDistribution {
    /// Fits the distribution to the logarithms of durations in seconds. `None` if there are too few.
    #[must_use]
    pub fn fitted(logarithms: impl Iterator<Item = f32>) -> Option<Self> {
        let mut samples = [0.0; MAX_SAMPLES];
        let mut count = 0;
        for (place, sample) in samples.iter_mut().zip(logarithms) {
            *place = sample;
            count += 1;
        }
        if count < MIN_SAMPLES {
            return None;
        }
        let mean = samples[..count].iter().copied().map(f64::from).sum::<f64>() / count as f64;
        let distribution = |width| Self {
            samples,
            count,
            width,
            mean,
        };
        let (narrowest, factor) = WIDTHS;
        (0..WIDTHS_TRIED)
            .map(|step| distribution(narrowest * factor.powi(step)))
            .map(|distribution| (distribution.likelihood(), distribution))
            .max_by(|(one, _), (other, _)| one.total_cmp(other))
            .map(|(_, best)| best)
    }

    /// The geometric mean of the samples, in seconds.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.mean.exp()
    }

    /// The fraction of operations that last longer than `value`, the logarithm of seconds.
    #[must_use]
    pub fn beyond(&self, value: f64) -> f64 {
        let like: f64 = self
            .samples()
            .map(|centre| self.kernel(centre).beyond(value, 0.0))
            .sum();
        (like + UNLIKE_WEIGHT * self.unlike_durations().beyond(value, 0.0))
            / (self.count as f64 + UNLIKE_WEIGHT)
    }

    /// The logarithm of the posterior of the width: leave-one-out likelihood of the samples, and the prior.
    fn likelihood(&self) -> f64 {
        let (guess, error) = WIDTH_PRIOR;
        let before = ((self.width / guess).ln() / error).powi(2) / -2.0;
        let left_out = self.samples().enumerate().map(|(out, value)| {
            let others = self.samples().enumerate().filter(|(place, _)| *place != out);
            let like: f64 = others.map(|(_, centre)| self.kernel(centre).density(value)).sum();
            let unlike = UNLIKE_WEIGHT * self.unlike_durations().density(value);
            ((like + unlike) / (self.count as f64 - 1.0 + UNLIKE_WEIGHT)).ln()
        });
        before + left_out.sum::<f64>()
    }

    fn samples(&self) -> impl Iterator<Item = f64> {
        self.samples[..self.count].iter().copied().map(f64::from)
    }

    fn kernel(&self, centre: f64) -> TDistribution {
        TDistribution {
            centre,
            width: self.width,
        }
    }

    fn unlike_durations(&self) -> TDistribution {
        TDistribution {
            centre: self.mean,
            width: UNLIKE_WIDTH,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(seconds: impl Iterator<Item = f32>) -> DurationDistribution {
        DurationDistribution::fitted(seconds.map(f32::ln)).unwrap()
    }

    /// The fraction that ends between these seconds, of those that last longer than `from`.
    fn ends_between(distribution: &DurationDistribution, from: f64, to: f64) -> f64 {
        1.0 - distribution.beyond(to.ln()) / distribution.beyond(from.ln())
    }

    #[test]
    fn similar_durations_predict_a_narrow_end_and_different_ones_hardly_any() {
        assert_eq!(DurationDistribution::fitted([1.0, 2.0].into_iter()), None);
        let narrow = fitted((0..20).map(|n| 600.0 + n as f32));
        assert!(ends_between(&narrow, 590.0, 640.0) > 0.85);
        assert!(ends_between(&narrow, 200.0, 300.0) < 0.02);
        let wide = fitted((0..20).map(|n| 200.0 * 30_f32.powf(n as f32 / 20.0)));
        assert!(ends_between(&wide, 590.0, 640.0) < 0.1, "{wide:?}");
        let few = fitted([600.0, 601.0, 602.0].into_iter());
        assert!(ends_between(&few, 590.0, 640.0) < ends_between(&narrow, 590.0, 640.0));
    }

    #[test]
    fn those_that_outlast_one_group_are_of_another() {
        let two = fitted((0..20).map(|n| {
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
            let distribution = fitted(seconds.into_iter());
            let beyond: Vec<f64> = (-30..60)
                .map(|value| distribution.beyond(f64::from(value)))
                .collect();
            assert!(
                beyond.iter().all(|part| (0.0..=1.0001).contains(part)),
                "{beyond:?}"
            );
        }
    }
}
