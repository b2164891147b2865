//! Which events are sent to a webhook.

use crate::core::event::EventType;
use crate::core::text::one_line;

/// Which event types are sent to a webhook.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum WebhookEventFilter {
    /// All but `operation.progress`.
    #[default]
    AllButProgress,
    /// Those that at least one glob matches.
    Globs(Vec<EventGlob>),
}

impl WebhookEventFilter {
    /// Whether events of this type are sent.
    #[must_use]
    pub fn matches(&self, event_type: EventType) -> bool {
        match self {
            Self::AllButProgress => event_type != EventType::Progress,
            Self::Globs(globs) => globs.iter().any(|glob| glob.matches(event_type.as_str())),
        }
    }
}

/// A pattern for event types, in which `*` matches any text. It matches at least one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventGlob(String);

impl EventGlob {
    /// Parses a glob.
    ///
    /// # Errors
    /// When no event type matches: the problem and the help.
    pub fn parse(text: &str) -> Result<Self, (String, String)> {
        let glob = Self(text.to_owned());
        if EventType::ALL
            .iter()
            .any(|event_type| glob.matches(event_type.as_str()))
        {
            return Ok(glob);
        }
        let nearest = EventType::ALL
            .iter()
            .map(|event_type| event_type.as_str())
            .map(|event_type| (strsim::damerau_levenshtein(text, event_type), event_type))
            .min()
            .filter(|(distance, _)| *distance <= 5);
        let problem = format!("no event type matches {:?}", one_line(text, 80));
        let help = match nearest {
            Some((_, event_type)) => {
                format!("did you mean {event_type:?}? \"operation.*\", \"group.*\" and \"api.*\" match all")
            }
            None => {
                "use types such as \"operation.failed\", or \"operation.*\", \"group.*\" and \"api.*\" for all".to_owned()
            }
        };
        Err((problem, help))
    }

    /// Whether the glob matches this type.
    #[must_use]
    pub fn matches(&self, event_type: &str) -> bool {
        let mut parts = self.0.split('*');
        // The first part is a prefix; text that later parts skip matches the stars before them.
        let Some(mut rest) = parts.next().and_then(|first| event_type.strip_prefix(first)) else {
            return false;
        };
        let Some(last) = parts.next_back() else {
            return rest.is_empty();
        };
        for part in parts {
            match rest.split_once(part) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        let matching = |glob: &str| {
            let glob = EventGlob(glob.to_owned());
            EventType::ALL
                .iter()
                .filter(|event_type| glob.matches(event_type.as_str()))
                .count()
        };
        assert_eq!(matching("*"), EventType::ALL.len());
        assert_eq!(matching("**"), EventType::ALL.len());
        assert_eq!(matching("operation.*"), 13);
        assert_eq!(matching("group.*"), 1);
        assert_eq!(matching("*.reachable"), 2);
        assert_eq!(matching("*reachable"), 4);
        assert_eq!(matching("api.*_*ed"), 2);
        assert_eq!(matching("operation.failed"), 1);
        assert_eq!(matching("operation.fail"), 0);
        assert_eq!(matching("operation.failed*failed"), 0);
        assert_eq!(matching(""), 0);
    }

    #[test]
    fn the_default_excludes_progress() {
        let sent = EventType::ALL
            .iter()
            .filter(|event_type| WebhookEventFilter::default().matches(**event_type))
            .count();
        assert_eq!(sent, EventType::ALL.len() - 1);
        assert!(!WebhookEventFilter::default().matches(EventType::Progress));
    }

    #[test]
    fn a_glob_that_matches_nothing_is_refused() {
        let (problem, help) = EventGlob::parse("operation.suceeded").unwrap_err();
        assert_eq!(problem, "no event type matches \"operation.suceeded\"");
        assert!(help.contains("operation.succeeded"), "{help}");
        assert!(EventGlob::parse("x*").unwrap_err().1.contains("such as"));
    }
}
