//! Problem details (RFC 9457) of the API's errors.

use std::time::Duration;

use jiff::Timestamp;

use super::media_type::MediaType;
use crate::core::json;
use crate::core::retry_after;
use crate::core::text::one_line;

/// The longest summary, in bytes.
const MAX_SUMMARY: usize = 400;

/// An error of the API. Absent and unusable members are `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ProblemDetails {
    /// `type`: a URI that names the kind of problem.
    pub kind: Option<String>,
    /// A short name of the kind of problem.
    pub title: Option<String>,
    /// The HTTP status, repeated.
    pub status: Option<u16>,
    /// What happened in this case.
    pub detail: Option<String>,
    /// A URI that names this case.
    pub instance: Option<String>,
    /// The part of the API that failed.
    pub subsystem: Option<String>,
    /// When it happened.
    pub time: Option<Timestamp>,
    /// The ID that the API's support needs.
    pub request_id: Option<String>,
    /// Causes, in no order.
    pub causes: Vec<String>,
    /// How to fix it.
    pub remedy: Option<String>,
    /// Whether the same request may succeed later.
    pub retryable: Option<bool>,
    /// When the request may be repeated, as sent.
    pub retry_after: Option<String>,
}

impl ProblemDetails {
    /// Parses the problem details in `body`: an object with the media type `application/problem+json`, or a JSON object
    /// with one of RFC 9457's own members. `None` for anything else.
    pub(super) fn parse(media_type: &MediaType, body: &str) -> Option<Self> {
        if !media_type.is_json() {
            return None;
        }
        let mut found = Self::default();
        let mut is_typical = false;
        json::members(body, |name, value| {
            is_typical |= matches!(name, "type" | "title" | "status" | "detail");
            match name {
                "type" => found.kind = value.string(),
                "title" => found.title = value.string(),
                "status" => found.status = value.count().and_then(|status| status.try_into().ok()),
                "detail" => found.detail = value.string(),
                "instance" => found.instance = value.string(),
                "subsystem" => found.subsystem = value.string(),
                "time" => found.time = value.time(),
                "requestId" => found.request_id = value.string(),
                "causes" => {
                    // An element that is not a string is skipped.
                    let _ = json::elements(value.text(), |cause| found.causes.extend(cause.string()));
                }
                "remedy" => found.remedy = value.string(),
                "retryable" => found.retryable = value.boolean(),
                "retryAfter" => found.retry_after = value.string(),
                _ => {}
            }
        })
        .ok()?;
        (is_typical || media_type.is_problem()).then_some(found)
    }

    /// Applies `each` to every text from the API.
    pub(super) fn for_each_text(&mut self, each: &mut dyn FnMut(&mut String)) {
        // Destructured in full, so that a new member cannot be forgotten.
        let Self {
            kind,
            title,
            status: _,
            detail,
            instance,
            subsystem,
            time: _,
            request_id,
            causes,
            remedy,
            retryable: _,
            retry_after,
        } = self;
        let texts = [
            kind,
            title,
            detail,
            instance,
            subsystem,
            request_id,
            remedy,
            retry_after,
        ];
        texts.into_iter().flatten().chain(causes).for_each(each);
    }

    /// The requested wait, counted from `now`.
    pub(super) fn wait(&self, now: Timestamp) -> Option<Duration> {
        retry_after::from_body(self.retry_after.as_deref()?, now)
    }

    /// The problem in one line of at most about 400 bytes: `404 Not Found: no such operation (check the ID;
    /// request ID 89eb)`. `name` is used when the problem has no title.
    #[must_use]
    pub(super) fn summary(&self, code: u16, name: &str) -> String {
        let title = self.title.as_deref().filter(|title| !title.trim().is_empty());
        let mut line = format!("{code} {}", one_line(title.unwrap_or(name), 60));
        if let Some(detail) = &self.detail {
            line.push_str(": ");
            line.push_str(&one_line(detail, 140));
        }
        let mut asides = Vec::new();
        if let Some(cause) = self.causes.first() {
            asides.push(format!("cause: {}", one_line(cause, 50)));
        }
        if let Some(remedy) = &self.remedy {
            asides.push(one_line(remedy, 100));
        }
        if let Some(id) = &self.request_id {
            asides.push(format!("request ID {}", one_line(id, 60)));
        }
        if !asides.is_empty() {
            line.push_str(&format!(" ({})", asides.join("; ")));
        }
        one_line(&line, MAX_SUMMARY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOT_FOUND: &str = r#"{"type":"https://httpstatuses.com/404","title":"Not Found","status":404,
        "detail":"Operation not found for the given operation ID.","instance":"urn:1","subsystem":"api",
        "time":"2024-04-22T18:55:28.456076Z","requestId":"89eb#87715","causes":["database query failed"],
        "remedy":"Verify the operation ID and project are correct.","retryable":false,
        "retryAfter":"2024-04-22T18:56:28Z","context":{"more":1}}"#;

    fn media_type(text: &str) -> MediaType {
        MediaType::parse(Some(text))
    }

    #[test]
    fn every_member_is_kept() {
        let problem = ProblemDetails::parse(&media_type("application/problem+json"), NOT_FOUND).unwrap();
        assert_eq!(problem.kind.as_deref(), Some("https://httpstatuses.com/404"));
        assert_eq!(problem.status, Some(404));
        assert_eq!(problem.instance.as_deref(), Some("urn:1"));
        assert_eq!(problem.subsystem.as_deref(), Some("api"));
        assert_eq!(problem.time, "2024-04-22T18:55:28.456076Z".parse().ok());
        assert_eq!(problem.retryable, Some(false));
        let now = "2024-04-22T18:55:28Z".parse().unwrap();
        assert_eq!(problem.wait(now), Some(Duration::from_secs(60)));
        assert_eq!(
            problem.summary(404, "Not Found"),
            "404 Not Found: Operation not found for the given operation ID. (cause: database query failed; \
             Verify the operation ID and project are correct.; request ID 89eb#87715)"
        );
    }

    #[test]
    fn members_of_the_wrong_kind_are_left_out() {
        let json =
            r#"{"title":7,"status":"x","causes":{"a":1},"retryable":"no","retryAfter":60,"detail":"\ud800"}"#;
        let problem = ProblemDetails::parse(&media_type("application/json"), json).unwrap();
        assert_eq!(problem, ProblemDetails::default());
        assert_eq!(problem.summary(404, "Not Found"), "404 Not Found");
    }

    #[test]
    fn other_bodies_are_distinguished_from_problems() {
        for (name, body, is_problem) in [
            ("application/problem+json", "{}", true),
            ("application/problem+json; charset=utf-8", "{}", true),
            ("application/problem+json", "[]", false),
            ("application/problem+json", "{", false),
            ("application/json", r#"{"detail":"x"}"#, true),
            ("application/json", "\u{feff}{\"detail\":1e999}", true),
            ("application/json", r#"{"message":"no Route matched"}"#, false),
            ("text/html", r#"{"title":"x"}"#, false),
        ] {
            let problem = ProblemDetails::parse(&media_type(name), body);
            assert_eq!(problem.is_some(), is_problem, "{name} {body}");
        }
    }

    #[test]
    fn a_long_problem_is_bounded_and_keeps_its_request_id() {
        let long = "x\n".repeat(5000);
        let problem = ProblemDetails {
            title: Some(long.clone()),
            detail: Some(long.clone()),
            remedy: Some(long.clone()),
            request_id: Some("89eb#87715".to_owned()),
            ..ProblemDetails::default()
        };
        let line = problem.summary(500, "Internal Server Error");
        assert!(line.len() <= MAX_SUMMARY && !line.contains('\n'), "{line}");
        assert!(line.ends_with("request ID 89eb#87715)"), "{line}");
        let wordy = ProblemDetails {
            causes: vec![long.clone()],
            request_id: Some(long),
            ..problem
        };
        assert!(wordy.summary(500, "Internal Server Error").len() <= MAX_SUMMARY);
    }
}
