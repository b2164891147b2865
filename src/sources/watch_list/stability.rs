//! Decides which content of the file applies: one that two checks in a row found.

use std::sync::Arc;

use super::file::{ContentFingerprint, WatchListError};

/// The result of one check.
#[derive(Debug, Clone)]
pub(super) enum Finding {
    /// The file has this content.
    Content(ContentFingerprint),
    /// The file cannot be read.
    Problem(Arc<WatchListError>),
}

impl Finding {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Content(a), Self::Content(b)) => a == b,
            (Self::Problem(a), Self::Problem(b)) => a.is_same(b),
            (Self::Content(_) | Self::Problem(_), _) => false,
        }
    }
}

/// The effect of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum StabilityChange {
    /// Nothing changed.
    Unchanged,
    /// It changed, and has to be confirmed by the next check.
    Unconfirmed,
    /// It changed, and applies from now on.
    Applies,
}

/// The result that applies, and one that has to be confirmed.
#[derive(Debug, Default)]
pub(super) struct Stability {
    current: Option<Finding>,
    candidate: Option<Finding>,
}

impl Stability {
    /// Adds the result of a check.
    pub(super) fn observe(&mut self, found: Finding) -> StabilityChange {
        let same_as = |other: &Option<Finding>| other.as_ref().is_some_and(|other| other.is_same(&found));
        if same_as(&self.current) {
            self.candidate = None;
            return StabilityChange::Unchanged;
        }
        // A file that is missing at start is reported at once: there is no list to protect.
        let is_first_problem = self.current.is_none() && matches!(found, Finding::Problem(_));
        if same_as(&self.candidate) || is_first_problem {
            self.set(found);
            return StabilityChange::Applies;
        }
        self.candidate = Some(found);
        StabilityChange::Unconfirmed
    }

    /// Sets a result that needs no confirmation.
    pub(super) fn set(&mut self, found: Finding) {
        self.candidate = None;
        self.current = Some(found);
    }

    /// Forgets all results, so that the next one counts as new.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// The content that applies, if one does.
    pub(super) fn content(&self) -> Option<ContentFingerprint> {
        match self.current {
            Some(Finding::Content(content)) => Some(content),
            Some(Finding::Problem(_)) | None => None,
        }
    }

    /// Whether a change has to be confirmed.
    pub(super) fn is_unconfirmed(&self) -> bool {
        self.candidate.is_some()
    }

    /// Whether a content applies and no change has to be confirmed, so that `stat` alone detects changes.
    pub(super) fn is_stable(&self) -> bool {
        self.candidate.is_none() && self.content().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(n: u8) -> Finding {
        Finding::Content(ContentFingerprint {
            length: 1,
            digest: [n; 32],
            ends_line: true,
        })
    }

    fn missing() -> Finding {
        Finding::Problem(Arc::new(WatchListError::Missing))
    }

    #[test]
    fn a_content_applies_when_found_twice_in_a_row() {
        let mut stability = Stability::default();
        let checks = [
            (content(1), StabilityChange::Unconfirmed),
            (content(2), StabilityChange::Unconfirmed),
            (content(1), StabilityChange::Unconfirmed),
            (content(1), StabilityChange::Applies),
            (content(1), StabilityChange::Unchanged),
            (content(2), StabilityChange::Unconfirmed),
            (content(1), StabilityChange::Unchanged),
            (content(2), StabilityChange::Unconfirmed),
            (content(2), StabilityChange::Applies),
        ];
        for (step, (found, verdict)) in checks.into_iter().enumerate() {
            assert_eq!(stability.observe(found), verdict, "step {step}");
        }
        assert!(stability.is_stable());
    }

    #[test]
    fn a_file_missing_for_one_check_is_no_problem() {
        let mut stability = Stability::default();
        assert_eq!(stability.observe(content(1)), StabilityChange::Unconfirmed);
        assert_eq!(stability.observe(content(1)), StabilityChange::Applies);
        assert_eq!(stability.observe(missing()), StabilityChange::Unconfirmed);
        assert!(stability.is_unconfirmed() && !stability.is_stable());
        assert_eq!(stability.observe(content(1)), StabilityChange::Unchanged);
        assert_eq!(stability.observe(missing()), StabilityChange::Unconfirmed);
        assert_eq!(stability.observe(missing()), StabilityChange::Applies);
        assert_eq!(stability.observe(missing()), StabilityChange::Unchanged);
        assert!(!stability.is_stable(), "`stat` cannot show that the file is back");
    }

    #[test]
    fn a_file_missing_at_start_is_reported_at_once() {
        let mut stability = Stability::default();
        assert_eq!(stability.observe(missing()), StabilityChange::Applies);
        assert_eq!(stability.observe(content(1)), StabilityChange::Unconfirmed);
        assert_eq!(stability.observe(content(1)), StabilityChange::Applies);
    }

    #[test]
    fn another_problem_is_a_change() {
        let mut stability = Stability::default();
        assert_eq!(stability.observe(missing()), StabilityChange::Applies);
        let directory = || Finding::Problem(Arc::new(WatchListError::NotAFile("directory")));
        assert_eq!(stability.observe(directory()), StabilityChange::Unconfirmed);
        assert_eq!(stability.observe(directory()), StabilityChange::Applies);
    }
}
