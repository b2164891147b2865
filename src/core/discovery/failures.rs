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

/// The failures since the last answers.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// Lists that failed in a row.
    lists: u8,
    /// When the first of them failed, and why the last one did.
    list: Option<(Timestamp, Arc<str>)>,
    /// Objects that cannot be read, with the reason.
    objects: BTreeMap<ObjectKey, Arc<str>>,
    /// When the first of them was added.
    objects_since: Option<Timestamp>,
}

impl Failures {
    pub fn list_failed(&mut self, reason: &Arc<str>, now: Timestamp) {
        self.lists = self.lists.saturating_add(1);
        let (_, last) = self.list.get_or_insert_with(|| (now, Arc::clone(reason)));
        *last = Arc::clone(reason);
    }

    pub fn list_answered(&mut self) {
        (self.lists, self.list) = (0, None);
    }

    /// Whether the last list failed.
    pub fn do_lists_fail(&self) -> bool {
        self.lists > 0
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
        self.lists >= REPORTED
    }

    /// What is reported, when so many objects are known.
    pub fn reported(&self, total: usize) -> Option<DiscoveryFailure> {
        if self.are_lists_reported() {
            let (since, reason) = self.list.clone()?;
            return Some(DiscoveryFailure {
                since,
                reason,
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
