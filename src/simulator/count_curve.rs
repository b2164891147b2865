//! How the record count of a simulated operation grows.

/// The shape of an operation's progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountCurve {
    /// The same number of records every second.
    Linear,
    /// Most records early: an estimate from the first minutes is too optimistic.
    FastFirst,
    /// Few records early, then more and more.
    SlowFirst,
    /// Eight bursts with pauses between them.
    Bursts,
    /// Up to one half, then nothing for [three tenths of the duration](CountCurve::STALL), then the rest.
    Stall,
    /// Up to 60 percent; after half of the duration again from zero, as the platform's second attempt.
    Restart,
}

/// A point of a curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CurvePoint {
    /// The processed fraction of all records, 0 to 1.
    pub fraction: f64,
    /// The number of the platform's attempt, from 1.
    pub attempt: u64,
}

impl CountCurve {
    /// Every curve, in a fixed order.
    pub const ALL: [Self; 6] = [
        Self::Linear,
        Self::FastFirst,
        Self::SlowFirst,
        Self::Bursts,
        Self::Stall,
        Self::Restart,
    ];

    /// The start and end of the stall in [`CountCurve::Stall`], as fractions of the duration.
    pub const STALL: (f64, f64) = (0.4, 0.7);

    /// When [`CountCurve::Restart`] counts from zero again, as a fraction of the duration.
    pub const RESTART: f64 = 0.5;

    /// The point after the fraction `life` of the duration, clamped to 0 to 1.
    #[must_use]
    pub fn at(self, life: f64) -> CurvePoint {
        let life = if life.is_nan() { 1.0 } else { life.clamp(0.0, 1.0) };
        let fraction = match self {
            Self::Linear => life,
            Self::FastFirst => 1.0 - (1.0 - life).powi(3),
            Self::SlowFirst => life.powi(3),
            Self::Bursts => {
                let (whole, part) = ((life * 8.0).floor(), (life * 8.0).fract());
                (whole + ((part - 0.6) / 0.4).max(0.0)) / 8.0
            }
            Self::Stall => {
                let (from, to) = Self::STALL;
                if life < from {
                    life / from * 0.5
                } else if life < to {
                    0.5
                } else {
                    0.5 + (life - to) / (1.0 - to) * 0.5
                }
            }
            Self::Restart if life < Self::RESTART => life / Self::RESTART * 0.6,
            Self::Restart => (life - Self::RESTART) / (1.0 - Self::RESTART),
        };
        let attempt = if self == Self::Restart && life >= Self::RESTART {
            2
        } else {
            1
        };
        CurvePoint {
            fraction: fraction.clamp(0.0, 1.0),
            attempt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_course_begins_at_zero_and_ends_at_one() {
        for curve in CountCurve::ALL {
            assert!(curve.at(0.0).fraction < 1e-9, "{curve:?}");
            assert!((curve.at(1.0).fraction - 1.0).abs() < 1e-9, "{curve:?}");
        }
    }

    #[test]
    fn only_a_restart_ever_goes_back_and_only_once() {
        for curve in CountCurve::ALL {
            let fractions: Vec<f64> = (0..=1000)
                .map(|i| curve.at(f64::from(i) / 1000.0).fraction)
                .collect();
            let falls = fractions.windows(2).filter(|pair| pair[1] < pair[0]).count();
            assert_eq!(falls, usize::from(curve == CountCurve::Restart), "{curve:?}");
        }
        assert_eq!(CountCurve::Restart.at(0.499).attempt, 1);
        assert_eq!(CountCurve::Restart.at(0.5).attempt, 2);
    }

    #[test]
    fn a_stall_keeps_its_count_and_fast_is_ahead_of_slow() {
        let (from, to) = CountCurve::STALL;
        assert_eq!(CountCurve::Stall.at(from), CountCurve::Stall.at(to - 0.001));
        assert!(CountCurve::Stall.at(to + 0.01).fraction > 0.5);
        assert!(CountCurve::FastFirst.at(0.5).fraction > 0.8);
        assert!(CountCurve::SlowFirst.at(0.5).fraction < 0.2);
    }

    #[test]
    fn a_life_outside_of_zero_to_one_is_harmless() {
        for life in [-1.0, 2.0, f64::NAN, f64::INFINITY] {
            for curve in CountCurve::ALL {
                assert!((0.0..=1.0).contains(&curve.at(life).fraction));
            }
        }
    }
}
