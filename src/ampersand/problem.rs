//! ProblemDetails details (RFC 9457), as the API explains its errors.

use std::time::Duration;

use jiff::Timestamp;

use super::media_type::MediaType;
use crate::core::json;
use crate::core::retry_after;
use crate::core::text::one_line;

/// The longest summary in bytes.
const MAX_SUMMARY: usize = 400;

/// An error as the API explains it. Members that are absent or not what the contract says are `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ProblemDetails {
    /// `type`: a URI that names the kind of problem.
    pub kind: Option<String>,
    /// The kind of problem in a few words.
    pub title: Option<String>,
    /// The HTTP status, as the problem repeats it.
    pub status: Option<u16>,
    /// What happened this time.
    pub detail: Option<String>,
    /// A URI that names this occurrence.
    pub instance: Option<String>,
    /// The part of the API that met the problem.
    pub subsystem: Option<String>,
    /// When it happened.
    pub time: Option<Timestamp>,
    /// What the API's support asks for.
    pub request_id: Option<String>,
    /// What led to the problem, in no order.
    pub causes: Vec<String>,
    /// What can be done about it.
    pub remedy: Option<String>,
    /// Whether the same request may succeed later.
    pub retryable: Option<bool>,
    /// When it may be tried again, as the API writes it.
    pub retry_after: Option<String>,
}

impl ProblemDetails {
    /// The problem details in `body`: an object called `application/problem+json`, or an object called JSON that has one
    /// of RFC 9457's own members. `None` if this is something else.
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
                    // An element that is no text costs itself alone.
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

    /// Gives every text that the API wrote to `each`.
    pub(super) fn for_each_text(&mut self, each: &mut dyn FnMut(&mut String)) {
        // Taken apart in full, so that a new member cannot be forgotten.
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

    /// How long it asks to be left alone, seen from `now`.
    pub(super) fn wait(&self, now: Timestamp) -> Option<Duration> {
        retry_after::from_body(self.retry_after.as_deref()?, now)
    }

    /// The problem in one line of at most about 400 bytes: `404 Not Found: no such operation (check the ID;
    /// request ID 89eb)`. `code` and `name` are those of the HTTP status; the problem's title beats the name.
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
    fn what_is_no_problem_is_told_from_one() {
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
