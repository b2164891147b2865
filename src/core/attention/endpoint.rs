//! Entries about webhook endpoints.

use jiff::Timestamp;

use super::{Attention, AttentionKind, MAX_REASON};
use crate::core::text;

/// What is known of an endpoint.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConcernedEndpoint<'a> {
    /// Its name.
    pub name: &'a str,
    /// The first of the failures in a row, if they are too many.
    pub failing_since: Option<Timestamp>,
    /// Whether it answered 410 Gone.
    pub is_disabled: bool,
    /// Whether it has no secret to sign with.
    pub lacks_secret: bool,
    /// Events that wait.
    pub backlog: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// When the oldest one became a dead letter.
    pub dead_letters_since: Option<Timestamp>,
    /// Its last error, and the time of it.
    pub last_error: Option<&'a str>,
    /// The time of its last error.
    pub last_error_time: Option<Timestamp>,
}

impl ConcernedEndpoint<'_> {
    /// Its entries.
    #[must_use]
    pub fn entries(&self) -> Vec<Attention> {
        let mut entries = Vec::new();
        let name = self.name;
        let mut add = |kind, since, message: String, action: &str| {
            entries.push(
                Attention::new(kind, message, action)
                    .of_subject(name)
                    .since(since),
            );
        };
        let error = text::one_line(self.last_error.unwrap_or("no answer"), MAX_REASON);
        if self.is_disabled {
            add(
                AttentionKind::EndpointDisabled,
                self.last_error_time,
                format!("webhook \"{name}\" answered 410 Gone; sending stops until the next reload"),
                "correct its url, or remove the webhook from the settings; then reload",
            );
        } else if self.failing_since.is_some() {
            let events = text::plural(self.backlog, "event");
            let wait = if self.backlog == 1 { "waits" } else { "wait" };
            add(
                AttentionKind::EndpointFailing,
                self.failing_since,
                format!("webhook \"{name}\" fails: {error}. {events} {wait}."),
                "check the receiver; one waiting event is sent as a probe until it succeeds",
            );
        }
        if self.lacks_secret {
            add(
                AttentionKind::EndpointWithoutSecret,
                None,
                format!("webhook \"{name}\" has no readable secret; nothing is sent to it"),
                "write a secret into its secret file; it is read again automatically",
            );
        }
        if self.dead_letters > 0 {
            let count = text::plural(self.dead_letters, "dead letter");
            add(
                AttentionKind::DeadLetters,
                self.dead_letters_since,
                format!("webhook \"{name}\" has {count}: {error}"),
                "fix the receiver, then run `backfill-watch replay --dead-letters`",
            );
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_has_the_time_that_is_known_of_it() {
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        let endpoint = ConcernedEndpoint {
            name: "crm",
            failing_since: Some(at(1)),
            lacks_secret: true,
            backlog: 12_000,
            dead_letters: 3,
            dead_letters_since: Some(at(2)),
            last_error: Some("connection\nrefused"),
            last_error_time: Some(at(3)),
            ..ConcernedEndpoint::default()
        };
        let entries = endpoint.entries();
        let found: Vec<_> = entries
            .iter()
            .map(|entry| (entry.kind.as_str(), entry.since, &*entry.message))
            .collect();
        assert_eq!(
            found,
            [
                (
                    "endpoint_failing",
                    Some(at(1)),
                    "webhook \"crm\" fails: connection\\nrefused. 12,000 events wait."
                ),
                (
                    "endpoint_without_secret",
                    None,
                    "webhook \"crm\" has no readable secret; nothing is sent to it"
                ),
                (
                    "dead_letters",
                    Some(at(2)),
                    "webhook \"crm\" has 3 dead letters: connection\\nrefused"
                ),
            ]
        );
        let disabled = ConcernedEndpoint {
            is_disabled: true,
            dead_letters: 0,
            lacks_secret: false,
            ..endpoint
        };
        let entries = disabled.entries();
        assert_eq!(entries.len(), 1, "it is not failing too");
        assert_eq!(
            (entries[0].kind.as_str(), entries[0].since),
            ("endpoint_disabled", Some(at(3)))
        );
    }
}
