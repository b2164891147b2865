//! Whether the gate leaves enough requests to ask for all objects in time.

use std::time::Duration;

use jiff::SignedDuration;

/// A pass through all objects should not take longer.
const LONGEST_PASS: Duration = Duration::from_hours(12);
/// The rate is judged after this long without a pause.
const JUDGED_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// The rate of requests while objects wait for theirs.
#[derive(Debug, Default)]
pub(super) struct Capacity {
    /// Since when objects have waited all the time.
    since: Option<SignedDuration>,
    requests: u64,
    last: SignedDuration,
}

impl Capacity {
    /// A request was answered.
    pub fn answered(&mut self, now: SignedDuration) {
        self.since.get_or_insert(now);
        self.requests = self.requests.saturating_add(1);
        self.last = now;
    }

    /// No object waits.
    pub fn set_idle(&mut self) {
        *self = Self::default();
    }

    /// How long a pass through so many objects takes, when that is too long.
    pub fn exceeded(&self, objects: usize) -> Option<Duration> {
        let elapsed = self.last.saturating_sub(self.since?);
        if elapsed < JUDGED_AFTER || self.requests == 0 {
            return None;
        }
        let each = Duration::try_from(elapsed).ok()?.div_f64(self.requests as f64);
        let pass = Duration::try_from_secs_f64(each.as_secs_f64() * objects as f64).unwrap_or(Duration::MAX);
        (pass > LONGEST_PASS).then_some(pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_that_takes_too_long_is_noticed_after_ten_minutes() {
        let mut capacity = Capacity::default();
        for minute in 0..=10 {
            assert_eq!(capacity.exceeded(10_000), None, "{minute}");
            capacity.answered(SignedDuration::from_mins(minute));
        }
        // Eleven requests in ten minutes.
        assert!(
            capacity
                .exceeded(10_000)
                .is_some_and(|pass| pass > Duration::from_hours(150))
        );
        assert_eq!(capacity.exceeded(700), None);
        capacity.set_idle();
        assert_eq!(capacity.exceeded(10_000), None);
    }
}
