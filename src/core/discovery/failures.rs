//! What discovery cannot read.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::request::ObjectKey;
use crate::core::text;

/// So many requests in a row must fail before that is reported.
const REPORTED: u8 = 3;

/// A failure of discovery that is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveryFailure {
    /// When it began.
    pub since: Timestamp,
    /// Why the last request failed.
    pub reason: Arc<str>,
    /// The objects that cannot be read; `None` when the installations cannot be listed.
    pub objects: Option<UnreadableObjects>,
}

/// Objects that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableObjects {
    /// How many they are.
    pub count: usize,
    /// Of how many.
    pub total: usize,
    /// One of them.
    pub example: ObjectKey,
}

impl DiscoveryFailure {
    /// Whether no new backfill is found.
    #[must_use]
    pub fn is_total(&self) -> bool {
        self.objects
            .as_ref()
            .is_none_or(|objects| objects.count == objects.total)
    }

    /// What cannot be read, with the reason.
    #[must_use]
    pub fn text(&self) -> String {
        let Some(UnreadableObjects {
            count,
            total,
            example: ObjectKey { installation, object },
        }) = &self.objects
        else {
            return format!("installations cannot be listed: {}", self.reason);
        };
        let reason = &self.reason;
        if *count == 1 {
            return format!("object {object} of installation {installation} cannot be read: {reason}");
        }
        let (count, total) = (text::count(*count as u64), text::count(*total as u64));
        format!(
            "{count} of {total} objects cannot be read, such as {object} of installation {installation}: {reason}"
        )
    }
}

/// Lists that failed in a row.
#[derive(Debug)]
struct FailedLists {
    count: u8,
    /// When the first of them failed.
    since: Timestamp,
    /// Why the last one did.
    reason: Arc<str>,
}

/// The failures since the last answers.
#[derive(Debug, Default)]
pub(super) struct Failures {
    lists: Option<FailedLists>,
    /// Objects that cannot be read, with the reason.
    objects: BTreeMap<ObjectKey, Arc<str>>,
    /// When the first of them was added.
    objects_since: Option<Timestamp>,
}

impl Failures {
    pub fn list_failed(&mut self, reason: &Arc<str>, now: Timestamp) {
        let before = self.lists.as_ref();
        self.lists = Some(FailedLists {
            count: before.map_or(1, |before| before.count.saturating_add(1)),
            since: before.map_or(now, |before| before.since),
            reason: Arc::clone(reason),
        });
    }

    pub fn list_answered(&mut self) {
        self.lists = None;
    }

    /// Whether the last list failed.
    pub fn do_lists_fail(&self) -> bool {
        self.lists.is_some()
    }

    /// So many requests for an object failed since it was last read.
    pub fn object_failed(&mut self, key: &ObjectKey, failures: u8, reason: &Arc<str>, now: Timestamp) {
        if failures >= REPORTED {
            self.objects.insert(key.clone(), Arc::clone(reason));
            self.objects_since.get_or_insert(now);
        }
    }

    /// The object was read, or is gone.
    pub fn forget_object(&mut self, key: &ObjectKey) {
        self.objects.remove(key);
        if self.objects.is_empty() {
            self.objects_since = None;
        }
    }

    /// Whether the installations cannot be listed.
    pub fn are_lists_reported(&self) -> bool {
        self.reported_lists().is_some()
    }

    fn reported_lists(&self) -> Option<&FailedLists> {
        self.lists.as_ref().filter(|lists| lists.count >= REPORTED)
    }

    /// What is reported, when so many objects are known.
    pub fn reported(&self, total: usize) -> Option<DiscoveryFailure> {
        if let Some(lists) = self.reported_lists() {
            return Some(DiscoveryFailure {
                since: lists.since,
                reason: Arc::clone(&lists.reason),
                objects: None,
            });
        }
        let (example, reason) = self.objects.first_key_value()?;
        Some(DiscoveryFailure {
            since: self.objects_since?,
            reason: Arc::clone(reason),
            objects: Some(UnreadableObjects {
                count: self.objects.len(),
                total,
                example: example.clone(),
            }),
        })
    }
}
