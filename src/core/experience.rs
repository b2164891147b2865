//! What operations of one kind that have ended teach of those that run: how long they take, and how wrong their estimates
//! are.

use std::collections::VecDeque;
use std::time::Duration;

use super::student::Student;

/// Where between nothing and the whole the error of an estimate lies before any was seen, as a part of the estimate.
const ERRORS: Student = Student {
    centre: 0.0,
    width: 0.03,
};
/// What the logarithms of durations are thought to differ by before any was seen.
const WIDTH: f64 = 0.3;
/// So many operations must have ended before others are expected to do the same.
const ENOUGH: usize = 3;
/// The last so many are remembered.
const MEMORY: usize = 15;

/// What an operation that has succeeded teaches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lesson {
    /// How long it ran.
    pub lasted: Duration,
    /// How many records it processed, and how many were estimated, where both are known.
    pub records: Option<(u64, u64)>,
}

/// What was learned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Experience {
    /// The logarithm of the seconds that operations last, once there are enough to tell.
    pub durations: Option<Student>,
    /// By how much more than was estimated is processed, as a part of the estimate.
    pub errors: Student,
}

impl Experience {
    /// Nothing yet.
    pub const NONE: Self = Self {
        durations: None,
        errors: ERRORS,
    };
}

impl Default for Experience {
    fn default() -> Self {
        Self::NONE
    }
}

/// What the operations that ended last were like, and what follows from it.
#[derive(Debug, Default)]
pub struct Lessons {
    durations: VecDeque<f32>,
    errors: VecDeque<f32>,
    experience: Experience,
}

impl Lessons {
    /// Takes in one more, and tells what follows from all.
    pub fn learn(&mut self, lesson: Lesson) -> Experience {
        if !lesson.lasted.is_zero() {
            remember(&mut self.durations, lesson.lasted.as_secs_f32().ln());
        }
        if let Some((processed, estimated)) = lesson.records {
            remember(&mut self.errors, processed as f32 / estimated.max(1) as f32 - 1.0);
        }
        self.experience = Experience {
            durations: fitted(&mut self.durations, WIDTH),
            errors: fitted(&mut self.errors, ERRORS.width).unwrap_or(ERRORS),
        };
        self.experience
    }

    /// What follows from all.
    #[must_use]
    pub fn experience(&self) -> Experience {
        self.experience
    }
}

fn remember(samples: &mut VecDeque<f32>, sample: f32) {
    if samples.len() == MEMORY {
        samples.pop_front();
    }
    samples.push_back(sample);
}

fn fitted(samples: &mut VecDeque<f32>, guess: f64) -> Option<Student> {
    let samples = samples.make_contiguous();
    Student::fitted(samples, guess).filter(|_| samples.len() >= ENOUGH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lesson(seconds: u64, records: Option<(u64, u64)>) -> Lesson {
        Lesson {
            lasted: Duration::from_secs(seconds),
            records,
        }
    }

    #[test]
    fn durations_are_told_once_there_are_enough() {
        let mut lessons = Lessons::default();
        for seconds in [600, 620] {
            assert_eq!(lessons.learn(lesson(seconds, None)), Experience::NONE);
        }
        let experience = lessons.learn(lesson(580, None));
        let durations = experience.durations.unwrap();
        assert!((durations.centre.exp() - 600.0).abs() < 1.0, "{durations:?}");
        assert_eq!(experience.errors, ERRORS);
        // What comes later counts alone, in the end.
        let later = (0..MEMORY).map(|_| lessons.learn(lesson(60, None)));
        let durations = later.last().unwrap().durations.unwrap();
        assert!((durations.centre.exp() - 60.0).abs() < 1.0, "{durations:?}");
    }

    #[test]
    fn an_estimate_that_is_always_as_wrong_becomes_a_good_one() {
        let mut lessons = Lessons::default();
        let wrong = (0..10).map(|_| lessons.learn(lesson(0, Some((1_300, 1_000)))));
        let errors = wrong.last().unwrap().errors;
        assert!(
            (errors.centre - 0.3).abs() < 1e-6 && errors.width < 0.02,
            "{errors:?}"
        );
        let _ = lessons.learn(lesson(0, Some((u64::MAX, 0))));
        let experience = lessons.learn(lesson(0, Some((0, u64::MAX))));
        assert_eq!(experience.errors.centre, errors.centre);
        assert_eq!(experience.durations, None);
    }
}
