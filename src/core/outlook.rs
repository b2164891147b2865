//! How likely an operation ends how soon, as far as its count tells.

/// How far estimates of the total err: so many (of 1) lie within that part of the truth to either side, evenly.
const ERRORS: [(f64, f64); 3] = [(0.68, 0.05), (0.19, 0.15), (0.1, 0.4)];
/// The others: the truth lies beyond half of the estimate, by any factor. They keep an estimate that has long
/// proved wrong from calling for a poll every moment.
const WILD: f64 = 0.03;
/// Where the truth of wild estimates begins, as a part of the estimate.
const WILD_FROM: f64 = 0.5;

/// A course whose rate fades to nothing within a time, were the fall to go on straight, ends between these parts
/// of that time: early or late, the course bends.
const FADE: (f64, f64) = (0.4, 4.0);
/// How often a fading course ends at all where it points to.
const FADES_OUT: f64 = 0.35;
/// Before this part of the estimated total a slower course is just slower.
const FADES_FROM: f64 = 0.6;

/// What is known of an operation's end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlook {
    /// How the count moves towards the estimated total, where there is one.
    pub motion: Option<Motion>,
    /// In how many seconds the rate would fade to nothing, if it does fade.
    pub fades_in: Option<f64>,
}

/// How a count moves, the estimated total being 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Motion {
    /// How much is processed.
    pub part: f64,
    /// By how much that rises a second.
    pub speed: f64,
    /// By how much the speed rises a second.
    pub gain: f64,
}

impl Outlook {
    /// Nothing to go by.
    pub const UNKNOWN: Self = Self {
        motion: None,
        fades_in: None,
    };

    /// How likely, from 0 to 1, the operation that runs now has ended in so many seconds.
    #[must_use]
    pub fn ends_within(&self, seconds: f64) -> f64 {
        let runs_on = self.motion.map_or(1.0, |motion| motion.runs_on(seconds));
        let near = self.motion.is_none_or(|motion| motion.part >= FADES_FROM);
        let fading = self.fades_in.filter(|_| near).map_or(0.0, |fades_in| {
            let (from, to) = FADE;
            FADES_OUT * ((seconds / fades_in / from).ln() / (to / from).ln()).clamp(0.0, 1.0)
        });
        1.0 - runs_on * (1.0 - fading)
    }
}

impl Motion {
    fn runs_on(&self, seconds: f64) -> f64 {
        // A speed that falls does not fall below nothing.
        let moves = if self.gain < 0.0 {
            seconds.min(self.speed / -self.gain)
        } else {
            seconds
        };
        let part = self.part + moves * (self.speed + self.gain * moves / 2.0);
        (beyond(part) / beyond(self.part)).clamp(0.0, 1.0)
    }
}

/// Which part of all operations process more than this part of what was estimated.
fn beyond(part: f64) -> f64 {
    let error = 1.0 / part.max(f64::MIN_POSITIVE) - 1.0;
    let tame: f64 = ERRORS
        .iter()
        .map(|(share, within)| share * ((error + within) / (2.0 * within)).clamp(0.0, 1.0))
        .sum();
    tame + WILD * (WILD_FROM / part.max(WILD_FROM))
}
