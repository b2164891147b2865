//! The API's problem details (RFC 9457).

use axum::response::{IntoResponse, Response};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{StatusCode, header};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use serde::Serialize;

use super::operation::later;
use super::reply::RetryAfter;

/// An error answer.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ApiProblem {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: String,
    subsystem: &'static str,
    time: Timestamp,
    request_id: String,
    remedy: &'static str,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<Timestamp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    issues: Vec<Issue>,
    #[serde(skip)]
    header: Option<String>,
}

/// An invalid input.
#[derive(Debug, Clone, Serialize)]
struct Issue {
    r#in: &'static str,
    name: &'static str,
    detail: String,
    value: String,
}

impl ApiProblem {
    /// The problem with this status and a default text.
    pub(super) fn new(status: StatusCode, request_id: String, now: Timestamp) -> Self {
        let (detail, remedy) = match status.as_u16() {
            401 => (
                "The API key is missing or not valid.",
                "Send a valid API key in the header X-Api-Key.",
            ),
            403 => (
                "The API key does not give access to this resource.",
                "Use an API key of the project that the resource belongs to.",
            ),
            429 => (
                "Too many requests.",
                "Wait until the time given, then send fewer requests.",
            ),
            500.. => ("The request could not be served.", "Try again later."),
            _ => (
                "The request cannot be served.",
                "Check the request against the API reference.",
            ),
        };
        let retryable = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        Self {
            r#type: format!("https://httpstatuses.com/{}", status.as_u16()),
            title: status.canonical_reason().unwrap_or("Unknown"),
            status: status.as_u16(),
            detail: detail.to_owned(),
            subsystem: "api",
            time: now,
            request_id,
            remedy,
            retryable,
            retry_after: None,
            issues: Vec::new(),
            header: None,
        }
    }

    /// 404 for an unknown operation, verbatim as in the API's example.
    pub(super) fn operation_not_found(request_id: String, now: Timestamp) -> Self {
        Self {
            detail: "Operation not found for the given operation ID.".to_owned(),
            remedy: "Verify the operation ID and project are correct, or list operations to find a valid ID.",
            ..Self::new(StatusCode::NOT_FOUND, request_id, now)
        }
    }

    /// 404 for an unknown installation.
    pub(super) fn installation_not_found(request_id: String, now: Timestamp) -> Self {
        Self {
            detail: "Installation not found for the given installation ID.".to_owned(),
            remedy: "Verify the installation ID, the integration ID and the project.",
            ..Self::new(StatusCode::NOT_FOUND, request_id, now)
        }
    }

    /// 404 for an object without a backfill.
    pub(super) fn backfill_not_found(request_id: String, now: Timestamp) -> Self {
        Self {
            detail: "No backfill operation found for the given object.".to_owned(),
            remedy: "Verify the object name, or wait until its backfill has started.",
            ..Self::new(StatusCode::NOT_FOUND, request_id, now)
        }
    }

    /// 404 for an unknown project.
    pub(super) fn project_not_found(request_id: String, now: Timestamp) -> Self {
        Self {
            detail: "Project not found for the given project ID or name.".to_owned(),
            remedy: "Verify the project ID or name.",
            ..Self::new(StatusCode::NOT_FOUND, request_id, now)
        }
    }

    /// 400 for an invalid query parameter.
    pub(super) fn bad_query(
        name: &'static str,
        value: &str,
        expected: &str,
        request_id: String,
        now: Timestamp,
    ) -> Self {
        Self {
            detail: "The input message is incorrect".to_owned(),
            remedy: "Correct the query parameters named in issues.",
            issues: vec![Issue {
                r#in: "query",
                name,
                detail: format!("{name} should be {expected}"),
                value: value.to_owned(),
            }],
            ..Self::new(StatusCode::BAD_REQUEST, request_id, now)
        }
    }

    /// Adds the time after which to retry.
    pub(super) fn retry_after(mut self, when: RetryAfter) -> Self {
        match when {
            RetryAfter::Absent => {}
            RetryAfter::Seconds(wait) => {
                let up = u64::from(wait.subsec_nanos() > 0);
                self.header = Some(wait.as_secs().saturating_add(up).to_string());
            }
            RetryAfter::Date(wait) => {
                let date = later(
                    later(self.time, wait),
                    std::time::Duration::from_nanos(999_999_999),
                );
                self.header = DateTimePrinter::new().timestamp_to_rfc9110_string(&date).ok();
            }
            RetryAfter::Body(wait) => self.retry_after = Some(later(self.time, wait)),
        }
        self
    }
}

impl IntoResponse for ApiProblem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(&self)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(value) = self.header.and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(header::RETRY_AFTER, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn throttled(when: RetryAfter) -> ApiProblem {
        let now = Timestamp::from_millisecond(784_111_776_500).unwrap();
        ApiProblem::new(StatusCode::TOO_MANY_REQUESTS, "r".into(), now).retry_after(when)
    }

    #[test]
    fn a_missing_operation_is_answered_as_in_the_contract() {
        let now = "2024-04-22T18:55:28.456076Z".parse().unwrap();
        let problem = ApiProblem::operation_not_found("89eb1ffb#87715".into(), now);
        assert_eq!(
            serde_json::to_value(&problem).unwrap(),
            serde_json::json!({
                "type": "https://httpstatuses.com/404",
                "title": "Not Found",
                "status": 404,
                "detail": "Operation not found for the given operation ID.",
                "subsystem": "api",
                "time": "2024-04-22T18:55:28.456076Z",
                "requestId": "89eb1ffb#87715",
                "remedy": "Verify the operation ID and project are correct, or list operations to find a valid ID.",
                "retryable": false
            })
        );
    }

    #[test]
    fn retry_after_is_sent_in_each_form_and_never_too_early() {
        let wait = Duration::from_millis(1_200);
        assert_eq!(throttled(RetryAfter::Absent).header, None);
        assert_eq!(throttled(RetryAfter::Seconds(wait)).header.as_deref(), Some("2"));
        assert_eq!(
            throttled(RetryAfter::Date(wait)).header.as_deref(),
            Some("Sun, 06 Nov 1994 08:49:38 GMT")
        );
        let body = throttled(RetryAfter::Body(wait)).retry_after.unwrap();
        assert_eq!(body.as_millisecond(), 784_111_777_700);
    }
}
