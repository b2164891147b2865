//! Entries about a project, and all entries of a project.

use std::time::Duration;

use jiff::Timestamp;

use super::{Attention, AttentionKind, Concern, ConcernView, MAX_REASON, RestartLog};
use crate::core::event::millis;
use crate::core::gate::RequestLimits;
use crate::core::project_health::{OutageClass, OutageReason};
use crate::core::text;

/// What needs attention in a project, as its task publishes it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProjectAttention {
    /// Its operations, in the order of [`Concern::ALL`].
    pub operations: [ConcernView; Concern::ALL.len()],
    /// The entry for its gate.
    pub gate: Option<Attention>,
    /// The entry for a pause that the API asked for.
    pub pause: Option<Attention>,
    /// Its restarts.
    pub restarts: RestartLog,
}

impl ProjectAttention {
    /// The entries of a project. While no poll can succeed, that is the only entry for what it explains.
    pub fn entries(&self, project: &str, can_poll: bool, now: Timestamp) -> impl Iterator<Item = Attention> {
        let is_listed = move |kind: AttentionKind| can_poll || !kind.is_explained_by_outage();
        let concerns = Concern::ALL.into_iter().zip(&self.operations);
        let concerns = concerns.filter(move |(concern, _)| is_listed(concern.kind()));
        let operations = concerns.flat_map(move |(concern, view)| {
            let more = view.total.saturating_sub(view.named.len());
            // They are older than the named ones.
            let since = view.named.last().and_then(|last| last.since);
            let more = (more > 0).then(|| concern.more(project, more).since(since));
            let named = view.named.iter().map(|entry| Attention::clone(entry));
            named.chain(more)
        });
        let polls = [&self.gate, &self.pause].into_iter().flatten();
        let polls = polls.filter(move |entry| is_listed(entry.kind)).cloned();
        operations.chain(polls).chain(self.restarts.entries(project, now))
    }
}

/// The entry for an unreachable API, with the cause.
#[must_use]
pub fn api_unreachable(project: &str, since: Timestamp, outage: Option<&OutageReason>) -> Attention {
    let reason = outage.map_or("no poll succeeds", |outage| &outage.reason);
    let reason = text::one_line(reason, MAX_REASON);
    let (problem, action) = match outage.map(|outage| outage.class) {
        None | Some(OutageClass::Failing) => (
            "the API is unreachable",
            "check ampersand.base_url, the network and the status of the API; nothing is lost",
        ),
        Some(OutageClass::Throttled) => (
            "the API is unreachable",
            "wait, or lower ampersand.max_requests_per_second; nothing is lost",
        ),
        Some(OutageClass::ProjectMissing) => (
            "the API does not know the project",
            "check the project's name, and that the API key belongs to it; nothing is lost",
        ),
        Some(OutageClass::AllRefused) => (
            "no operation can be polled",
            "check the project's name, ampersand.base_url, and that the API key belongs to the project; nothing is lost",
        ),
    };
    let message = format!("{problem}: {reason}. Figures are from before the outage. Polls are retried.");
    Attention::new(AttentionKind::ApiUnreachable, message, action)
        .of_project(project)
        .since(Some(since))
}

/// The entry for a rejected API key, with the API's reason.
#[must_use]
pub fn credentials_rejected(project: &str, since: Timestamp, rejection: Option<&str>) -> Attention {
    let reason = text::one_line(rejection.unwrap_or("the API refuses the key"), MAX_REASON);
    let message =
        format!("the API key is rejected: {reason}. Polling is paused, except for one probe at a time.");
    let action = "replace the API key; a key file is retried automatically, a systemd credential or environment variable needs \
                  a restart";
    Attention::new(AttentionKind::CredentialsRejected, message, action)
        .of_project(project)
        .since(Some(since))
}

/// A gate that admits polls too late.
#[derive(Debug, Clone, Copy)]
pub struct GateOverload {
    /// Unfinished watches of the project.
    pub watches: usize,
    /// The limits.
    pub limits: RequestLimits,
    /// The longest interval of polls.
    pub longest: Duration,
}

/// The entry for a gate that admits polls too late.
#[must_use]
pub fn gate_saturated(project: &str, since: Timestamp, overload: &GateOverload) -> Attention {
    let rate = overload.limits.per_second;
    let watches = text::count(overload.watches as u64);
    let round = overload.watches as f64 / rate;
    let (message, action) = if round > overload.longest.as_secs_f64() {
        (
            format!("polls are late: {watches} operations take {round:.0} s per round at {rate} requests/s"),
            "raise ampersand.max_requests_per_second, or poll.max_interval to poll each operation more rarely",
        )
    } else {
        let concurrent = overload.limits.concurrent;
        (
            format!(
                "polls are late: the API answers too slowly to poll {watches} operations by {concurrent} requests at a time"
            ),
            "raise ampersand.max_concurrent_requests, or poll.max_interval to poll each operation more rarely",
        )
    };
    Attention::new(AttentionKind::GateSaturated, message, action)
        .of_project(project)
        .since(Some(since))
}

/// The entry for a pause that the API asked for. `until` may have passed; then the next answer decides.
#[must_use]
pub fn paused_by_api(project: &str, since: Timestamp, until: Timestamp, reason: &str) -> Attention {
    let reason = text::one_line(reason, MAX_REASON);
    let message = format!(
        "the API asks for pauses: {reason}. No poll is sent until {}.",
        millis(until)
    );
    let action = "wait: polls continue automatically; if it repeats, lower ampersand.max_requests_per_second";
    Attention::new(AttentionKind::PausedByApi, message, action)
        .of_project(project)
        .since(Some(since))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn an_outage_explains_what_cannot_be_polled_and_nothing_else() {
        let mut attention = ProjectAttention::default();
        for (concern, view) in Concern::ALL.into_iter().zip(&mut attention.operations) {
            let named = Attention::new(concern.kind(), "named".to_owned(), "");
            *view = ConcernView {
                total: 8,
                named: Arc::new([Arc::new(named)]),
            };
        }
        let now = Timestamp::UNIX_EPOCH;
        let kinds = |attention: &ProjectAttention, can_poll| -> Vec<(&str, usize)> {
            let entries = attention.entries("p", can_poll, now);
            entries.map(|entry| (entry.kind.as_str(), entry.count)).collect()
        };
        assert_eq!(
            kinds(&attention, false),
            [
                ("operation_overdue", 1),
                ("operation_overdue", 7),
                ("operation_failed", 1),
                ("operation_failed", 7)
            ]
        );
        assert_eq!(kinds(&attention, true).len(), 8);
        attention.pause = Some(paused_by_api("p", now, now, "429"));
        let counts = (kinds(&attention, false).len(), kinds(&attention, true).len());
        assert_eq!(counts, (4, 9));
    }

    #[test]
    fn an_unknown_project_has_other_advice_than_an_outage() {
        let entry = |class| {
            let outage = OutageReason::new(class, "404 Not Found");
            api_unreachable("p", Timestamp::UNIX_EPOCH, Some(&outage))
        };
        let missing = entry(OutageClass::ProjectMissing);
        assert_eq!(
            missing.message,
            "the API does not know the project: 404 Not Found. Figures are from before the outage. Polls are retried."
        );
        assert!(missing.action.contains("the project's name") && !missing.action.contains("network"));
        let failing = entry(OutageClass::Failing);
        assert!(
            failing.message.starts_with("the API is unreachable: 404") && failing.action.contains("network")
        );
    }

    #[test]
    fn a_saturated_gate_has_the_figures_that_an_operator_needs() {
        let message = |watches, per_second| {
            let overload = GateOverload {
                watches,
                limits: RequestLimits {
                    concurrent: 32,
                    per_second,
                },
                longest: Duration::from_mins(1),
            };
            gate_saturated("p", Timestamp::UNIX_EPOCH, &overload).message
        };
        assert_eq!(
            message(2_000, 20.0),
            "polls are late: 2,000 operations take 100 s per round at 20 requests/s"
        );
        assert_eq!(
            message(800, 20.0),
            "polls are late: the API answers too slowly to poll 800 operations by 32 requests at a time"
        );
    }
}
