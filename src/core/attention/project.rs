//! Entries about a project, and all entries of a project.

use jiff::Timestamp;

use super::{Attention, AttentionKind, Concern, ConcernView, RestartLog};

/// What needs attention in a project, as its task publishes it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProjectAttention {
    /// Its operations, in the order of [`Concern::ALL`].
    pub operations: [ConcernView; Concern::ALL.len()],
    /// Its restarts.
    pub restarts: RestartLog,
}

impl ProjectAttention {
    /// The entries of a project. While no poll can succeed, that is the only entry for what it explains.
    pub fn entries(&self, project: &str, can_poll: bool, now: Timestamp) -> impl Iterator<Item = Attention> {
        let concerns = Concern::ALL.into_iter().zip(&self.operations);
        let concerns = concerns.filter(move |(concern, _)| can_poll || !concern.is_explained_by_outage());
        let operations = concerns.flat_map(move |(concern, view)| {
            let more = view.total.saturating_sub(view.named.len());
            let more = (more > 0).then(|| concern.more(project, more));
            let named = view.named.iter().map(|entry| Attention::clone(entry));
            named.chain(more)
        });
        operations.chain(self.restarts.entries(project, now))
    }
}

/// The entry for an unreachable API, with the error of the last request.
#[must_use]
pub fn api_unreachable(project: &str, since: Timestamp, last_error: Option<&str>) -> Attention {
    let reason = last_error.unwrap_or("no poll succeeds");
    let message =
        format!("the API is unreachable: {reason}. Figures are from before the outage. Polls are retried.");
    let action = "check ampersand.base_url, the network and the status of the API; nothing is lost";
    Attention::new(AttentionKind::ApiUnreachable, message, action)
        .of_project(project)
        .since(Some(since))
}

/// The entry for a rejected API key, with the API's reason.
#[must_use]
pub fn credentials_rejected(project: &str, since: Timestamp, last_error: Option<&str>) -> Attention {
    let reason = last_error.unwrap_or("the API refuses the key");
    let message =
        format!("the API key is rejected: {reason}. Polling is paused, except for one probe at a time.");
    let action = "replace the API key; a key file is retried automatically, a systemd credential or environment variable needs \
                  a restart";
    Attention::new(AttentionKind::CredentialsRejected, message, action)
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
        let kinds = |can_poll| -> Vec<(&str, usize)> {
            let entries = attention.entries("p", can_poll, now);
            entries.map(|entry| (entry.kind.as_str(), entry.count)).collect()
        };
        assert_eq!(
            kinds(false),
            [
                ("operation_overdue", 1),
                ("operation_overdue", 7),
                ("operation_failed", 1),
                ("operation_failed", 7)
            ]
        );
        assert_eq!(kinds(true).len(), 8);
    }
}
