//! What operations of one kind that have ended teach of those that run: how long they take, and how wrong their estimates
//! are.

use std::collections::VecDeque;
use std::time::Duration;

use super::lifetimes::{Lifetimes, MEMORY};
use super::student::Student;

/// Where between nothing and the whole the error of an estimate lies before any was seen, as a part of the estimate.
const ERRORS: Student = Student {
    centre: 0.0,
    width: 0.03,
};
/// So many estimates must have been seen before their errors are expected again.
const ENOUGH: usize = 3;

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
    pub durations: Option<Lifetimes>,
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
    /// What follows from both; `None` until somebody asks.
    experience: Option<Experience>,
}

impl Lessons {
    /// Takes in one more.
    pub fn learn(&mut self, lesson: Lesson) {
        if !lesson.lasted.is_zero() {
            remember(&mut self.durations, lesson.lasted.as_secs_f32().ln());
        }
        if let Some((processed, estimated)) = lesson.records {
            remember(&mut self.errors, processed as f32 / estimated.max(1) as f32 - 1.0);
        }
        // A start learns from many at once, most of which others soon replace.
        self.experience = None;
    }

    /// What follows from all.
    #[must_use]
    pub fn experience(&mut self) -> Experience {
        *self.experience.get_or_insert_with(|| Experience {
            durations: Lifetimes::learned(self.durations.iter().copied()),
            errors: fitted(&mut self.errors, ERRORS.width).unwrap_or(ERRORS),
        })
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
            lessons.learn(lesson(seconds, None));
            assert_eq!(lessons.experience(), Experience::NONE);
        }
        lessons.learn(lesson(580, None));
        let outlasts = |lessons: &mut Lessons, seconds: f64| {
            let durations = lessons.experience().durations.unwrap();
            durations.beyond(seconds.ln())
        };
        assert!(outlasts(&mut lessons, 300.0) > 0.7 && outlasts(&mut lessons, 1_200.0) < 0.3);
        assert_eq!(lessons.experience().errors, ERRORS);
        // What comes later counts alone, in the end.
        for _ in 0..MEMORY {
            lessons.learn(lesson(60, None));
        }
        assert!(outlasts(&mut lessons, 300.0) < 0.1);
    }

    #[test]
    fn an_estimate_that_is_always_as_wrong_becomes_a_good_one() {
        let mut lessons = Lessons::default();
        for _ in 0..10 {
            lessons.learn(lesson(0, Some((1_300, 1_000))));
        }
        let errors = lessons.experience().errors;
        assert!(
            (errors.centre - 0.3).abs() < 1e-6 && errors.width < 0.02,
            "{errors:?}"
        );
        lessons.learn(lesson(0, Some((u64::MAX, 0))));
        lessons.learn(lesson(0, Some((0, u64::MAX))));
        let experience = lessons.experience();
        assert_eq!(experience.errors.centre, errors.centre);
        assert_eq!(experience.durations, None);
    }
}
