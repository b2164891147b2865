//! The distribution of the durations of operations: a kernel density estimate, and a wider distribution for durations
//! unlike all samples.

use std::sync::Arc;

use super::t_distribution::TDistribution;

/// Maximum number of samples.
pub const MAX_SAMPLES: usize = 63;
/// Weight of an unlike duration, in samples.
const UNLIKE_WEIGHT: f64 = 1.0;
/// Width of the distribution of unlike durations, in the logarithm of the duration.
const UNLIKE_WIDTH: f64 = 1.5;
/// Kernel widths that are tried: the narrowest, and the factor from one to the next.
const WIDTHS: (f64, f64) = (0.006, 1.5);
/// How many widths are tried: up to 1.75, a factor of 5.8 in duration.
const WIDTHS_TRIED: i32 = 15;
/// The prior of the width: its most likely value, and the standard deviation of its logarithm.
const WIDTH_PRIOR: (f64, f64) = (0.09, 1.5);
/// The table ends this many widths beyond the samples: less than one in a thousand of a kernel is outside.
const TABLE_MARGIN: f64 = 8.0;
/// The table has two steps a width, up to this number of steps.
const MAX_STEPS: f64 = 256.0;

/// The distribution of the logarithms of durations in seconds.
#[derive(Debug, PartialEq)]
pub struct DurationDistribution {
    /// The fractions of similar durations beyond `start`, `start + step` and so on. A poll needs many of them.
    beyond: Vec<f32>,
    start: f64,
    step: f64,
    samples: f64,
    unlike: UnlikeDurations,
}

/// How durations unlike all samples are distributed.
#[derive(Debug, Clone, PartialEq)]
enum UnlikeDurations {
    /// Widely, around the samples.
    Wide(TDistribution),
    /// As those of all operations of the project.
    AsInProject(Arc<DurationDistribution>),
}

/// Logistic kernels at the samples.
struct Kernels<'a> {
    samples: &'a [f32],
    width: f64,
}

impl DurationDistribution {
    /// Fits the distribution to the logarithms of durations in seconds. The kernel width is the one that predicts each
    /// sample best from the others. A duration unlike all samples is expected as in `project`, if that is known.
    /// `None` without samples, or if one is not finite.
    #[must_use]
    pub fn fitted(samples: &[f32], project: Option<&Arc<Self>>) -> Option<Self> {
        if samples.is_empty() || !samples.iter().all(|sample| sample.is_finite()) {
            return None;
        }
        let count = samples.len() as f64;
        let (least, most) = samples
            .iter()
            .map(|sample| f64::from(*sample))
            .fold((f64::MAX, f64::MIN), |(least, most), sample| {
                (least.min(sample), most.max(sample))
            });
        let unlike = match project {
            Some(project) => UnlikeDurations::AsInProject(Arc::clone(project)),
            None => UnlikeDurations::Wide(TDistribution {
                centre: samples.iter().copied().map(f64::from).sum::<f64>() / count,
                width: UNLIKE_WIDTH,
            }),
        };
        let unlike_densities: Vec<f64> = samples
            .iter()
            .map(|sample| unlike.density(f64::from(*sample)))
            .collect();
        let (narrowest, factor) = WIDTHS;
        let (_, kernels) = (0..WIDTHS_TRIED)
            .map(|step| Kernels {
                samples,
                width: narrowest * factor.powi(step),
            })
            .map(|kernels| (kernels.likelihood(&unlike_densities), kernels))
            .max_by(|(one, _), (other, _)| one.total_cmp(other))?;
        let start = least - TABLE_MARGIN * kernels.width;
        let range = most - least + 2.0 * TABLE_MARGIN * kernels.width;
        let steps = (2.0 * range / kernels.width).ceil().min(MAX_STEPS);
        let step = range / steps;
        Some(Self {
            beyond: (0..=steps as u32)
                .map(|place| kernels.beyond(start + step * f64::from(place)) as f32)
                .collect(),
            start,
            step,
            samples: count,
            unlike,
        })
    }

    /// The fraction of operations that last longer than `value`, the logarithm of seconds.
    #[must_use]
    pub fn beyond(&self, value: f64) -> f64 {
        let like = self.samples * self.like_beyond(value);
        (like + UNLIKE_WEIGHT * self.unlike.beyond(value)) / (self.samples + UNLIKE_WEIGHT)
    }

    /// The fraction of similar durations beyond `value`, by linear interpolation.
    fn like_beyond(&self, value: f64) -> f64 {
        let place = (value - self.start) / self.step;
        if place < 0.0 {
            return 1.0;
        }
        match self.beyond.windows(2).nth(place as usize) {
            Some(&[one, next]) => f64::from(one) + place.fract() * f64::from(next - one),
            _ => 0.0,
        }
    }

    /// The probability density at `value`.
    fn density(&self, value: f64) -> f64 {
        (self.beyond(value - self.step) - self.beyond(value + self.step)) / (2.0 * self.step)
    }
}

impl UnlikeDurations {
    fn beyond(&self, value: f64) -> f64 {
        match self {
            Self::Wide(distribution) => distribution.beyond(value, 0.0),
            Self::AsInProject(project) => project.beyond(value),
        }
    }

    fn density(&self, value: f64) -> f64 {
        match self {
            Self::Wide(distribution) => distribution.density(value),
            Self::AsInProject(project) => project.density(value),
        }
    }
}

impl Kernels<'_> {
    fn beyond(&self, value: f64) -> f64 {
        let beyond = |centre: &f32| 1.0 / (1.0 + ((value - f64::from(*centre)) / self.width).exp());
        self.samples.iter().map(beyond).sum::<f64>() / self.samples.len() as f64
    }

    fn density(&self, distance: f64) -> f64 {
        let tail = (-distance.abs() / self.width).exp();
        tail / (self.width * (1.0 + tail).powi(2))
    }

    /// The logarithm of the posterior of the width: leave-one-out likelihood of the samples, and the prior.
    fn likelihood(&self, unlike_densities: &[f64]) -> f64 {
        let (guess, error) = WIDTH_PRIOR;
        let before = ((self.width / guess).ln() / error).powi(2) / -2.0;
        let others = self.samples.len() as f64 - 1.0;
        let left_out = self.samples.iter().zip(unlike_densities).enumerate();
        left_out.fold(before, |sum, (out, (value, unlike))| {
            let like: f64 = self
                .samples
                .iter()
                .enumerate()
                .filter(|(place, _)| *place != out)
                .map(|(_, centre)| self.density(f64::from(value - centre)))
                .sum();
            sum + ((like + UNLIKE_WEIGHT * unlike) / (others + UNLIKE_WEIGHT)).ln()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(seconds: impl Iterator<Item = f32>) -> DurationDistribution {
        let samples: Vec<f32> = seconds.map(f32::ln).collect();
        DurationDistribution::fitted(&samples, None).unwrap()
    }

    /// The fraction that ends between these seconds, of those that last longer than `from`.
    fn ends_between(distribution: &DurationDistribution, from: f64, to: f64) -> f64 {
        1.0 - distribution.beyond(to.ln()) / distribution.beyond(from.ln())
    }

    #[test]
    fn similar_durations_predict_a_narrow_end_and_different_ones_hardly_any() {
        assert_eq!(DurationDistribution::fitted(&[], None), None);
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
    fn a_duration_unlike_its_kind_is_expected_as_in_the_project() {
        let project = Arc::new(fitted((0..20).map(|n| 3_000.0 + n as f32)));
        let kind = DurationDistribution::fitted(&[4.0, 4.1, 4.2], Some(&project)).unwrap();
        let alone = DurationDistribution::fitted(&[4.0, 4.1, 4.2], None).unwrap();
        assert!(ends_between(&kind, 40.0, 80.0) > 0.7);
        assert!(ends_between(&kind, 2_900.0, 3_100.0) > 0.8, "{kind:?}");
        assert!(ends_between(&alone, 2_900.0, 3_100.0) < 0.2, "{alone:?}");
    }

    #[test]
    fn extreme_durations_stay_finite() {
        for seconds in [[1e-9, 1.0, 1e15], [7.0; 3], [f32::MIN_POSITIVE; 3]] {
            let distribution = fitted(seconds.into_iter());
            let beyond: Vec<f64> = (-30..60)
                .map(|value| distribution.beyond(f64::from(value)))
                .collect();
            assert_eq!(distribution.beyond(f64::INFINITY), 0.0);
            assert!(
                beyond.iter().all(|part| (0.0..=1.0001).contains(part)) && beyond.is_sorted_by(|a, b| a >= b),
                "{beyond:?}"
            );
        }
    }
}
