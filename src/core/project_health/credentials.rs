//! Whether the API accepts the key.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AnswerScope, AnsweredPoll, Moment, ProjectContext};
use crate::core::doubt::Doubt;
use crate::core::gate::{CredentialsProbe, Pass};

/// What is known about the credentials of a project.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Credentials {
    /// When they were reported as rejected.
    rejected: Option<Timestamp>,
    /// The API's last reason, while they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rejection: Option<Arc<str>>,
    /// Probes without success since then, or in the doubt.
    probes: u32,
    #[serde(skip)]
    doubt: Option<Box<Doubt>>,
    #[serde(skip)]
    next_probe: Duration,
}

impl Credentials {
    pub fn rebuilt(rejected: Option<(Timestamp, String)>) -> Self {
        let (rejected, reason) = rejected.unzip();
        Self {
            rejected,
            rejection: reason.map(Arc::from),
            ..Self::default()
        }
    }

    pub fn rejected(&self) -> Option<Timestamp> {
        self.rejected
    }

    pub fn rejection(&self) -> Option<&Arc<str>> {
        self.rejection.as_ref().filter(|_| self.rejected.is_some())
    }

    pub fn doubt(&self) -> Option<&Doubt> {
        self.doubt.as_deref()
    }

    pub fn drop_doubt(&mut self) {
        self.doubt = None;
    }

    /// The API accepted them. Returns when they were rejected, if that ends.
    pub fn accept(&mut self, pass: Pass) -> Option<Timestamp> {
        self.doubt = None;
        // An answer to a request from before the rejection proves nothing about the current credentials.
        let since = self.rejected.take_if(|_| pass == Pass::Probe)?;
        self.probes = 0;
        self.rejection = None;
        Some(since)
    }

    /// The API rejected them. Returns whether that is new.
    pub fn reject(&mut self, pass: Pass, reason: &str, cx: &ProjectContext<'_>) -> bool {
        self.doubt = None;
        self.rejection = Some(reason.into());
        if self.rejected.is_some() {
            self.delay_probe(pass, cx);
            return false;
        }
        self.rejected = Some(cx.now.wall);
        self.probes = 0;
        self.delay_probe(Pass::Probe, cx);
        true
    }

    /// The API answered a poll with 403. Returns what that concerns; `None` if it rejected the credentials.
    pub fn forbid(&mut self, poll: AnsweredPoll<'_>, cx: &ProjectContext<'_>) -> Option<AnswerScope> {
        if self.rejected.is_some() || cx.watches <= 1 {
            return None;
        }
        match &self.doubt {
            None if poll.is_forbidden => Some(AnswerScope::Watch),
            None => {
                self.doubt = Some(Box::new(Doubt::new(poll.operation)));
                self.probe_at_once(cx.now);
                Some(AnswerScope::Unclear)
            }
            // The watch was removed and added again during its doubt.
            Some(doubt) if doubt.operation() == poll.operation => {
                self.record_undecided(poll.operation, poll.pass, cx);
                Some(match self.doubt {
                    Some(_) => AnswerScope::Unclear,
                    None => AnswerScope::Watch,
                })
            }
            // Its own 403 in its turn shows nothing about another operation.
            Some(_) if poll.is_forbidden && poll.pass == Pass::Turn => Some(AnswerScope::Watch),
            Some(_) => None,
        }
    }

    /// A probe decided nothing: the next one waits. A doubt ends after some of them.
    pub fn record_undecided(&mut self, operation: &str, pass: Pass, cx: &ProjectContext<'_>) {
        self.delay_probe(pass, cx);
        if pass == Pass::Probe {
            self.doubt.take_if(|doubt| doubt.record_undecided(operation));
        }
    }

    /// The next probe waits after this one.
    pub fn delay_probe(&mut self, pass: Pass, cx: &ProjectContext<'_>) {
        if pass == Pass::Probe {
            self.probes = self.probes.saturating_add(1);
            let wait = cx.schedule.after_attempts(self.probes);
            self.next_probe = cx.now.steady.saturating_add(wait);
        }
    }

    /// The next probe may be sent at once.
    pub fn probe_at_once(&mut self, now: Moment) {
        self.probes = 0;
        self.next_probe = now.steady;
    }

    /// When probes are sent instead of polls.
    pub fn probing(&self) -> Option<CredentialsProbe> {
        let is_probed = self.rejected.is_some() || self.doubt.is_some();
        is_probed.then_some(CredentialsProbe {
            not_before: self.next_probe,
        })
    }
}
