//! Problem details (RFC 9457) of our own errors.

use axum::body::Bytes;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;

const MEDIA_TYPE: &str = "application/problem+json";

/// An error response.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    errors: Vec<Value>,
}

#[derive(Serialize)]
struct Body<'a> {
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[Value]>::is_empty")]
    errors: &'a [Value],
}

impl Problem {
    /// A problem with this status; `detail` ends with what to do.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            errors: Vec::new(),
        }
    }

    /// Adds a list of single errors.
    pub(super) fn with_errors(self, errors: Vec<Value>) -> Self {
        Self { errors, ..self }
    }

    /// 400.
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 503 because the state cannot be read.
    pub(super) fn unreadable(error: &dyn std::error::Error) -> Self {
        let error = crate::error::chain(error);
        tracing::debug!(error = error.as_str(), "a request cannot be answered");
        let detail = format!("the state cannot be read: {error}; check the file system of state_dir");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }
}

impl<'a> Body<'a> {
    fn new(status: StatusCode, detail: &'a str, errors: &'a [Value]) -> Self {
        Self {
            title: title(status),
            status: status.as_u16(),
            detail,
            errors,
        }
    }
}

fn title(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Error")
}

/// A complete HTTP response for requests that cannot be parsed. The connection is closed after it.
pub(super) fn bare_answer(status: StatusCode, detail: &str) -> Bytes {
    let body = text(&Body::new(status, detail, &[]));
    let mut answer = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\nconnection: close\r\n\r\n",
        status.as_u16(),
        title(status),
        body.len(),
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    answer.into()
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = json(&Body::new(self.status, &self.detail, &self.errors));
        *response.status_mut() = self.status;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        response
    }
}

/// `body` as a JSON response.
pub(super) fn json(body: &impl Serialize) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text(body)).into_response()
}

/// `body` as JSON text.
pub(super) fn text(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("strings and numbers always serialize")
}
