//! Ends without success, and what makes them obsolete.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use jiff::Timestamp;

use super::super::phase::Phase;
use super::Watch;

impl Watch {
    /// Whether it finished without success.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.phase.is_finished() && self.phase != Phase::Succeeded
    }

    /// When it finished without success. `now` is for a watch that expired before its first poll.
    #[must_use]
    pub fn failure_time(&self, now: Timestamp) -> Option<Timestamp> {
        self.has_failed().then(|| self.end().unwrap_or(now))
    }

    /// Whether it is a success that makes the end of an `earlier` operation obsolete: one of the same installation and objects
    /// that started before.
    #[must_use]
    pub fn supersedes(&self, earlier: &Self) -> bool {
        let is_of_same = || {
            let (own, other) = (self.objects(), earlier.objects());
            own.len() == other.len() && own.iter().all(|object| other.contains(object))
        };
        self.phase == Phase::Succeeded
            && earlier.has_failed()
            && self.backfill_hash().is_some()
            && self.installation() == earlier.installation()
            && is_of_same()
            && self.start() > earlier.start()
    }

    /// A hash of installation and objects, in any order; `None` if either is unknown.
    #[must_use]
    pub fn backfill_hash(&self) -> Option<u64> {
        let installation = self.installation()?;
        let hash = |text: &str| {
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            hasher.finish()
        };
        let objects = self
            .objects()
            .iter()
            .map(|object| hash(object))
            .reduce(u64::wrapping_add)?;
        Some(hash(installation).rotate_left(1).wrapping_add(objects))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::operation_details::OperationDetails;
    use super::*;
    use crate::core::operation::Operation;

    fn watch(phase: Phase, installation: &str, objects: &[&str], created: &str) -> Watch {
        let operation: Operation = serde_json::from_value(serde_json::json!({
            "id": "op", "status": "success", "installationId": installation, "createTime": created,
            "metadata": {"objects": objects},
        }))
        .unwrap();
        Watch {
            phase,
            details: Some(Arc::new(OperationDetails::of(&operation))),
            ..Watch::default()
        }
    }

    #[test]
    fn only_a_later_success_of_the_same_backfill_makes_a_failure_obsolete() {
        const EARLY: &str = "2026-11-23T12:00:00Z";
        const LATE: &str = "2026-11-23T12:00:01Z";
        let failed = watch(Phase::Failed, "i", &["a", "b"], EARLY);
        for (success, expected) in [
            (watch(Phase::Succeeded, "i", &["b", "a"], LATE), true),
            (watch(Phase::Succeeded, "i", &["a", "b"], EARLY), false),
            (watch(Phase::Running, "i", &["a", "b"], LATE), false),
            (watch(Phase::Failed, "i", &["a", "b"], LATE), false),
            (watch(Phase::Succeeded, "j", &["a", "b"], LATE), false),
            (watch(Phase::Succeeded, "i", &["a"], LATE), false),
            (watch(Phase::Succeeded, "i", &["a", "c"], LATE), false),
        ] {
            assert_eq!(success.supersedes(&failed), expected, "{success:?}");
            if expected {
                assert_eq!(success.backfill_hash(), failed.backfill_hash());
            }
        }
        // An unknown installation or object is not the same as another unknown one.
        for (installation, objects) in [("", &["a"][..]), ("i", &[])] {
            let failed = watch(Phase::Gone, installation, objects, EARLY);
            assert!(!watch(Phase::Succeeded, installation, objects, LATE).supersedes(&failed));
            assert_eq!(failed.backfill_hash(), None);
        }
        let running = watch(Phase::Running, "i", &["a"], EARLY);
        assert!(!watch(Phase::Succeeded, "i", &["a"], LATE).supersedes(&running));
    }
}
