//! What a row of looks at the file amounts to: nothing counts before two looks in a row found the same.

use std::sync::Arc;

use super::file::{Extent, WatchListError};

/// What one look found.
#[derive(Debug, Clone)]
pub(super) enum Finding {
    /// A file with this content.
    Content(Extent),
    /// No file that could be read.
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

/// What follows from one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Verdict {
    /// It is as it was known to be.
    Same,
    /// It is different; the next look tells whether it stays so.
    Wait,
    /// It is different, and holds from now on.
    Holds,
}

/// The looks so far.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// What holds.
    holds: Option<Finding>,
    /// What the last look found, where that is something else.
    candidate: Option<Finding>,
}

impl Looks {
    /// Notes what a look found.
    pub(super) fn note(&mut self, found: Finding) -> Verdict {
        let same_as = |other: &Option<Finding>| other.as_ref().is_some_and(|other| other.is_same(&found));
        if same_as(&self.holds) {
            self.candidate = None;
            return Verdict::Same;
        }
        // At start a missing file is told at once: there is no list that it could take away.
        let nothing_to_lose = self.holds.is_none() && matches!(found, Finding::Problem(_));
        if same_as(&self.candidate) || nothing_to_lose {
            self.candidate = None;
            self.holds = Some(found);
            return Verdict::Holds;
        }
        self.candidate = Some(found);
        Verdict::Wait
    }

    /// Notes what needs no second look to be sure of.
    pub(super) fn hold(&mut self, found: Finding) {
        self.candidate = None;
        self.holds = Some(found);
    }

    /// Forgets what holds, so that whatever is found counts as new once two looks find it.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The content that holds, if one does.
    pub(super) fn content(&self) -> Option<Extent> {
        match self.holds {
            Some(Finding::Content(extent)) => Some(extent),
            Some(Finding::Problem(_)) | None => None,
        }
    }

    /// Whether a difference waits to be confirmed.
    pub(super) fn is_waiting(&self) -> bool {
        self.candidate.is_some()
    }

    /// Whether `stat` alone can tell that nothing changed: there is a content, and nothing waits.
    pub(super) fn has_rested(&self) -> bool {
        self.candidate.is_none() && self.content().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(n: u8) -> Finding {
        Finding::Content(Extent {
            length: 1,
            digest: [n; 32],
            ends_line: true,
        })
    }

    fn missing() -> Finding {
        Finding::Problem(Arc::new(WatchListError::Missing))
    }

    #[test]
    fn a_content_holds_when_found_twice_in_a_row() {
        let mut looks = Looks::default();
        let row = [
            (content(1), Verdict::Wait),
            (content(2), Verdict::Wait),
            (content(1), Verdict::Wait),
            (content(1), Verdict::Holds),
            (content(1), Verdict::Same),
            (content(2), Verdict::Wait),
            (content(1), Verdict::Same),
            (content(2), Verdict::Wait),
            (content(2), Verdict::Holds),
        ];
        for (step, (found, verdict)) in row.into_iter().enumerate() {
            assert_eq!(looks.note(found), verdict, "step {step}");
        }
        assert!(looks.has_rested());
    }

    #[test]
    fn a_file_away_for_one_look_is_no_problem() {
        let mut looks = Looks::default();
        assert_eq!(looks.note(content(1)), Verdict::Wait);
        assert_eq!(looks.note(content(1)), Verdict::Holds);
        assert_eq!(looks.note(missing()), Verdict::Wait);
        assert!(looks.is_waiting() && !looks.has_rested());
        assert_eq!(looks.note(content(1)), Verdict::Same);
        assert_eq!(looks.note(missing()), Verdict::Wait);
        assert_eq!(looks.note(missing()), Verdict::Holds);
        assert_eq!(looks.note(missing()), Verdict::Same);
        assert!(!looks.has_rested(), "a file that is away must be looked for");
    }

    #[test]
    fn a_file_missing_at_start_is_told_at_once() {
        let mut looks = Looks::default();
        assert_eq!(looks.note(missing()), Verdict::Holds);
        assert_eq!(looks.note(content(1)), Verdict::Wait);
        assert_eq!(looks.note(content(1)), Verdict::Holds);
    }

    #[test]
    fn another_problem_is_another_finding() {
        let mut looks = Looks::default();
        assert_eq!(looks.note(missing()), Verdict::Holds);
        let directory = || Finding::Problem(Arc::new(WatchListError::NotAFile("directory")));
        assert_eq!(looks.note(directory()), Verdict::Wait);
        assert_eq!(looks.note(directory()), Verdict::Holds);
    }
}
