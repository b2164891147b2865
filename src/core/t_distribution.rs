//! Student's t-distribution, and its robust fit to samples.

/// Degrees of freedom. The long tails keep a wrong estimate from being trusted too much.
const DEGREES: f64 = 4.0;
/// Half of all values lie within this many widths of the centre.
const QUARTILE: f64 = 0.741;
/// The weight of the prior width, in samples.
const PRIOR_WEIGHT: f64 = 2.0;
/// From here on the tail equals its leading term to one part in a thousand.
const FAR_OUT: f64 = 100.0;

/// A t-distribution with four degrees of freedom.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TDistribution {
    /// The median.
    pub centre: f64,
    /// The scale: a quarter of all values lies more than 0.74 widths above the centre, one in a thousand more than
    /// 7.2.
    pub width: f64,
}

impl TDistribution {
    /// Fits by medians, so that outliers do no harm. `guess` is the prior of the width. `None` without samples.
    #[must_use]
    pub fn fitted(samples: &[f32], guess: f64) -> Option<Self> {
        let centre = median(samples.iter().copied())?;
        let distance = median(samples.iter().map(|sample| (sample - centre).abs()))?;
        let seen = f64::from(distance) / QUARTILE;
        let count = samples.len() as f64;
        let square = (PRIOR_WEIGHT * guess.powi(2) + count * seen.powi(2)) / (PRIOR_WEIGHT + count);
        Some(Self {
            centre: f64::from(centre),
            width: square.sqrt(),
        })
    }

    /// The fraction of values above `value`, with a width of at least `least`.
    #[must_use]
    pub fn beyond(&self, value: f64, least: f64) -> f64 {
        let z = (value - self.centre) / self.width.max(least);
        let q = 1.0 + z * z / DEGREES;
        let central = 0.375 * z / q.sqrt() * (1.0 - z * z / q / 12.0);
        // Far out the difference below would be lost in rounding; the tail falls with the fourth power.
        if z > FAR_OUT {
            3.0 / z.powi(4)
        } else {
            0.5 - central
        }
    }

    /// The probability density at `value`.
    #[must_use]
    pub fn density(&self, value: f64) -> f64 {
        let z = (value - self.centre) / self.width;
        0.375 / self.width / (1.0 + z * z / DEGREES).powi(2) / (1.0 + z * z / DEGREES).sqrt()
    }
}

/// The median; the lower one of two.
fn median(values: impl Iterator<Item = f32>) -> Option<f32> {
    let mut values: Vec<f32> = values.collect();
    values.sort_unstable_by(f32::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: TDistribution = TDistribution {
        centre: 0.0,
        width: 1.0,
    };

    #[test]
    fn the_distribution_is_students() {
        // From a table of the t-distribution with four degrees of freedom.
        for (z, beyond) in [
            (0.0, 0.5),
            (0.741, 0.25),
            (2.132, 0.05),
            (3.747, 0.01),
            (7.173, 0.001),
        ] {
            assert!((UNIT.beyond(z, 0.0) - beyond).abs() < 1e-3 * beyond, "{z}");
            assert!((UNIT.beyond(-z, 0.0) - 1.0 + beyond).abs() < 1e-4);
        }
        let (inside, outside) = (UNIT.beyond(FAR_OUT, 0.0), UNIT.beyond(FAR_OUT + 1e-6, 0.0));
        assert!((inside / outside - 1.0).abs() < 2e-3, "{inside} {outside}");
        assert_eq!(UNIT.beyond(4.0, 2.0), UNIT.beyond(2.0, 0.0));
    }

    #[test]
    fn a_fit_follows_the_samples_and_ignores_an_outlier() {
        assert_eq!(TDistribution::fitted(&[], 1.0), None);
        let one = TDistribution::fitted(&[5.0], 0.3).unwrap();
        assert!(one.centre == 5.0 && (0.2..0.3).contains(&one.width), "{one:?}");
        let samples: Vec<f32> = (0..15).map(|n| 5.0 + 0.1 * (n % 5 - 2) as f32).collect();
        let fit = TDistribution::fitted(&samples, 0.1).unwrap();
        assert!(
            (fit.centre - 5.0).abs() < 0.01 && (0.1..0.2).contains(&fit.width),
            "{fit:?}"
        );
        let mut with_outlier = samples.clone();
        with_outlier[3] = 1e9;
        let fit = TDistribution::fitted(&with_outlier, 0.1).unwrap();
        assert!((fit.centre - 5.0).abs() < 0.11 && fit.width < 0.2, "{fit:?}");
    }
}
