//! Publishes the state of the project for readers.

use std::time::Duration;

use super::project_task::ProjectTask;
use crate::ampersand::Fetch;
use crate::board::{ApiPause, DiscoveryView, FailedPolls};
use crate::core::answer::Answer;

impl<F: Fetch> ProjectTask<F> {
    /// Publishes the project. Readers are woken only by rare changes.
    pub(super) fn publish(&mut self) {
        self.update_discovery_view();
        let mut is_changed = std::mem::take(&mut self.is_view_changed);
        is_changed |= self.publish_concerns();
        let at = |steady: Duration| self.start + steady;
        self.channels.view.send_if_modified(|view| {
            is_changed |= view.phases != self.watches.phases() || view.groups != self.groups.counts();
            view.poll_times.next_due = self.watches.next_alarm().map(at);
            view.poll_times.oldest_request = self.requests.oldest().map(at);
            view.gate.waiting = self.gate.waiting();
            view.gate.in_flight = self.gate.in_flight();
            view.phases = self.watches.phases();
            view.groups = self.groups.counts();
            view.api.outage = self.health.outage().cloned();
            view.api.rejection = self.health.rejection().cloned();
            if is_changed {
                view.generation = self.reconciliation.applied;
                view.gate.limits = self.gate.limits();
                view.discovery = self.discovery_view();
                let api = &mut view.api;
                api.unreachable = self.health.unreachable_since();
                api.rejected = self.health.rejected_since();
                api.pause = self.health.pauses().map(|pauses| ApiPause {
                    until: at(pauses.until),
                    reason: pauses.reason,
                });
            }
            is_changed
        });
        if is_changed {
            self.services.board.announce();
        }
    }

    /// The state of discovery. With rules it is there before discovery has started.
    fn discovery_view(&self) -> Option<DiscoveryView> {
        match &self.discovery {
            Some(discovery) => Some(discovery.published.clone()),
            None => {
                let has_rules = self.settings.discovery.contains_key(&self.name);
                has_rules.then(DiscoveryView::default)
            }
        }
    }

    /// Publishes the state of the API after an answer.
    pub(super) fn publish_answer(&mut self, answer: &Answer) {
        let (instant, now) = (self.start + self.now(), self.moment().wall);
        let mut is_changed = false;
        self.channels.view.send_if_modified(|view| {
            let api = &mut view.api;
            is_changed =
                !matches!(answer, Answer::Operation(_)) || api.failing.is_some() || !api.was_answered();
            match answer {
                Answer::Failed(failure) | Answer::Unprocessed(failure) => {
                    let failing = api.failing.get_or_insert(FailedPolls {
                        since: instant,
                        polls: 0,
                    });
                    failing.polls = failing.polls.saturating_add(1);
                    api.last_failure = Some(failure.reason.as_str().into());
                    return false;
                }
                Answer::Throttled { reason, .. } => {
                    api.last_failure = Some(reason.as_str().into());
                }
                Answer::NotFound(reason)
                | Answer::Refused(reason)
                | Answer::Unauthorized(reason)
                | Answer::Forbidden(reason) => api.last_failure = Some(reason.as_str().into()),
                Answer::Operation(_) => {}
            }
            api.last_answer = Some(now);
            api.failing = None;
            false
        });
        self.is_view_changed |= is_changed;
    }
}
