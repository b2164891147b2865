//! The operations that objects name: which are known, and which have to be polled before they count.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::request::ObjectKey;

/// The operations of a project.
#[derive(Debug, Default)]
pub(super) struct Operations {
    /// Known ones, with an object that names them.
    named: HashMap<Arc<str>, ObjectKey>,
    /// Those that are to be polled once, with the object that named them.
    unverified: HashMap<Arc<str>, ObjectKey>,
    to_verify: VecDeque<Arc<str>>,
    /// Those whose poll failed; the next round repeats it.
    failed: Vec<Arc<str>>,
}

impl Operations {
    pub fn object_of(&self, operation: &str) -> Option<&ObjectKey> {
        self.named.get(operation)
    }

    /// An object names this operation.
    pub fn name(&mut self, operation: &Arc<str>, key: &ObjectKey) {
        if !self.named.contains_key(operation) {
            self.named.insert(Arc::clone(operation), key.clone());
        }
    }

    /// The object does not name this operation any more.
    pub fn unname(&mut self, operation: &str, key: &ObjectKey) {
        if self.named.get(operation) == Some(key) {
            self.named.remove(operation);
        }
    }

    pub fn is_unverified(&self, operation: &str) -> bool {
        self.unverified.contains_key(operation)
    }

    pub fn has_unverified(&self) -> bool {
        !self.unverified.is_empty()
    }

    /// The operation has to be polled.
    pub fn add_unverified(&mut self, operation: Arc<str>, key: ObjectKey) {
        self.unverified.insert(Arc::clone(&operation), key);
        self.to_verify.push_back(operation);
    }

    /// The operation was polled, or nothing names it any more.
    pub fn remove_unverified(&mut self, operation: &str) -> Option<ObjectKey> {
        self.unverified.remove(operation)
    }

    /// The next operation to poll.
    pub fn next_to_verify(&mut self) -> Option<Arc<str>> {
        while let Some(operation) = self.to_verify.pop_front() {
            if self.is_unverified(&operation) {
                return Some(operation);
            }
        }
        None
    }

    pub fn poll_failed(&mut self, operation: Arc<str>) {
        self.failed.push(operation);
    }

    pub fn start_round(&mut self) {
        self.to_verify.extend(self.failed.drain(..));
    }
}
