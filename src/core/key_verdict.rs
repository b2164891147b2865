//! The result of checking a project's API key.

use serde::{Deserialize, Serialize};

use super::answer::Answer;

/// Whether the API accepts an API key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "verdict", content = "reason", rename_all = "lowercase")]
pub enum KeyVerdict {
    /// The API accepts it.
    Good,
    /// The API rejects it.
    Rejected(String),
    /// The API answered something else.
    Unknown(String),
    /// The API did not answer.
    Unreachable(String),
}

impl From<Answer> for KeyVerdict {
    /// The meaning of an answer to a request for an operation that does not exist.
    fn from(answer: Answer) -> Self {
        match answer.of_repeated() {
            Answer::Operation(_) | Answer::NotFound(_) => Self::Good,
            Answer::Unauthorized(reason) | Answer::Forbidden(reason) => Self::Rejected(reason),
            Answer::Throttled { reason, .. } | Answer::Refused(reason) => Self::Unknown(reason),
            Answer::Failed(failure) | Answer::Unprocessed(failure) => Self::Unreachable(failure.reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_of_the_credentials_rejects_a_key() {
        let reason = || "why".to_owned();
        for (answer, verdict) in [
            (Answer::NotFound(reason()), KeyVerdict::Good),
            (Answer::Unauthorized(reason()), KeyVerdict::Rejected(reason())),
            (Answer::Forbidden(reason()), KeyVerdict::Rejected(reason())),
            (Answer::Refused(reason()), KeyVerdict::Unknown(reason())),
        ] {
            assert_eq!(KeyVerdict::from(answer), verdict);
        }
    }

    #[test]
    fn a_verdict_is_one_object() {
        let text = |verdict: &KeyVerdict| serde_json::to_string(verdict).unwrap();
        assert_eq!(text(&KeyVerdict::Good), r#"{"verdict":"good"}"#);
        assert_eq!(
            text(&KeyVerdict::Rejected("why".to_owned())),
            r#"{"verdict":"rejected","reason":"why"}"#
        );
    }
}
