//! What came back for a request, and what that means by its status.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderName, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;

use super::api_error::ApiError;
use super::media_type::MediaType;
use super::problem::Problem;
use super::transport;
use crate::core::answer::{Failure, FailureClass};
use crate::core::operation::Operation;
use crate::core::retry_after;
use crate::core::text::one_line;

/// The largest body that is read, in bytes.
const MAX_BODY: usize = 1024 * 1024;

/// The longest reason made here, in bytes.
const MAX_REASON: usize = 400;

/// A key this short is not looked for in what the API says: it would be found in innocent words.
const MIN_KEY_TO_HIDE: usize = 8;

/// An answer with its body, or with what kept the body from arriving.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    media_type: MediaType,
    retry_after: Option<String>,
    /// The host that a redirect names.
    redirect_host: Option<String>,
    body: Result<Vec<u8>, Failure>,
}

impl Reply {
    /// Reads what is needed of `response`. `host` and `limit` are for messages; `key` is kept out of what is read.
    pub async fn read(mut response: Response, host: &str, limit: Duration, key: &SecretString) -> Self {
        let header = |name: HeaderName| response.headers().get(name)?.to_str().ok();
        let hidden = |text: &str| without_key(text, key).unwrap_or_else(|| text.to_owned());
        let status = response.status();
        // It is told in lower case, which may make a key of what is none.
        let content_type = header(CONTENT_TYPE).map(|text| hidden(&hidden(text).to_ascii_lowercase()));
        let media_type = MediaType::parse(content_type.as_deref());
        let retry_after = header(RETRY_AFTER).map(hidden);
        let redirect_host = header(LOCATION)
            .and_then(|location| response.url().join(location).ok())
            .and_then(|target| target.host_str().map(hidden));
        let wanted = if status == StatusCode::OK {
            media_type.is_json()
        } else {
            status.is_client_error() || status.is_server_error()
        };
        let body = if wanted {
            let body = read_body(&mut response, host, limit).await;
            body.map(|body| {
                // What is lossy goes byte by byte, and hardly any body is no text.
                let text =
                    str::from_utf8(&body).map_or_else(|_| String::from_utf8_lossy(&body), Cow::Borrowed);
                match without_key(&text, key) {
                    Some(text) => text.into_bytes(),
                    None => body,
                }
            })
        } else {
            Ok(Vec::new())
        };
        Self {
            status,
            media_type,
            retry_after,
            redirect_host,
            body,
        }
    }

    /// The operation `id`, if it is what a 200 holds; else why there is none. `now` is what a date to wait for is seen
    /// from.
    ///
    /// # Errors
    /// When the answer is another one.
    pub fn operation(self, id: &str, now: Timestamp) -> Result<Operation, ApiError> {
        let operation: Operation = self.json(now)?;
        if operation.id == id {
            return Ok(operation);
        }
        Err(ApiError::failed(
            FailureClass::Malformed,
            format!(
                "asked for operation {id}, but told of {}",
                one_line(&operation.id, 128)
            ),
        ))
    }

    /// The `T` of a 200 as JSON; of anything else, why there is none. `now` is what a date to wait for is
    /// seen from.
    pub(super) fn json<T: DeserializeOwned>(self, now: Timestamp) -> Result<T, ApiError> {
        if self.status != StatusCode::OK {
            return Err(self.refusal(now));
        }
        if !self.media_type.is_json() {
            return Err(self.malformed(&format!(
                "200 with {} instead of JSON; check ampersand.base_url",
                self.media_type.describe()
            )));
        }
        let body = self
            .body
            .as_deref()
            .map_err(|failure| ApiError::Failed(failure.clone()))?;
        if let Ok(value) = serde_json::from_slice(body) {
            return Ok(value);
        }
        // Once more for the place of the error: to keep track of that costs as much as to parse.
        let mut json = serde_json::Deserializer::from_slice(body);
        let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let place = match error.path().to_string() {
                root if root == "." => String::new(),
                path => format!(" at {path}"),
            };
            self.malformed(&format!(
                "200 with JSON that is not as agreed{place}: {}",
                error.inner()
            ))
        })?;
        json.end()
            .map_err(|error| self.malformed(&format!("200 with more than one JSON value: {error}")))?;
        Ok(value)
    }

    /// What a status other than 200 means.
    fn refusal(self, now: Timestamp) -> ApiError {
        // A body that did not arrive whole explains nothing, but the status stands without it.
        let problem = self
            .body
            .as_deref()
            .ok()
            .and_then(|body| Problem::parse(&self.media_type, &String::from_utf8_lossy(body)));
        let code = self.status.as_u16();
        let name = self.status.canonical_reason().unwrap_or("(unknown status)");
        let reason = match &problem {
            Some(problem) => problem.summary(code, name),
            None => format!("{code} {name}"),
        };
        let wait = self
            .retry_after
            .as_deref()
            .and_then(|value| retry_after::from_header(value, now))
            .or_else(|| retry_after::until(problem.as_ref()?.retry_after?, now));
        match code {
            401 => ApiError::Unauthorized(reason),
            403 => ApiError::Forbidden(reason),
            404 | 410 => self.not_found(problem.is_some(), reason),
            408 | 425 => ApiError::failed(FailureClass::ServerError, reason),
            429 => ApiError::Throttled { wait, reason },
            503 if wait.is_some() => ApiError::Throttled { wait, reason },
            300..=399 => {
                let what = match &self.redirect_host {
                    Some(host) => format!("is a redirect to {}, which is not followed", one_line(host, 100)),
                    None => "instead of 200".to_owned(),
                };
                ApiError::failed(
                    FailureClass::Redirect,
                    format!("{reason} {what}; check ampersand.base_url"),
                )
            }
            400..=499 => ApiError::Refused(reason),
            500..=599 => ApiError::failed(FailureClass::ServerError, reason),
            _ => self.malformed(&format!("{reason} instead of 200; check ampersand.base_url")),
        }
    }

    /// 404 and 410 are the API's word only with problem details: a proxy or a wrong path says 404 as well.
    fn not_found(self, is_problem: bool, reason: String) -> ApiError {
        match self.body {
            Ok(_) if is_problem => ApiError::NotFound(reason),
            Ok(_) => self.malformed(&format!(
                "{reason} without problem details: not the API seems to answer, but a proxy, or a wrong \
                 ampersand.base_url was asked"
            )),
            Err(failure) => ApiError::Failed(failure),
        }
    }

    fn malformed(&self, reason: &str) -> ApiError {
        ApiError::failed(FailureClass::Malformed, one_line(reason, MAX_REASON))
    }
}

/// `text` with the API key blotted out, lest an answer that quotes it brings it into logs, events and the state; `None`
/// if it does not.
fn without_key(text: &str, key: &SecretString) -> Option<String> {
    let key = key.expose_secret();
    (key.len() >= MIN_KEY_TO_HIDE && text.contains(key)).then(|| text.replace(key, "[API key]"))
}

async fn read_body(response: &mut Response, host: &str, limit: Duration) -> Result<Vec<u8>, Failure> {
    let too_large = || Failure {
        class: FailureClass::TooLarge,
        reason: format!("{host} answered with more than {MAX_BODY} bytes"),
    };
    if response
        .content_length()
        .is_some_and(|length| length > MAX_BODY as u64)
    {
        return Err(too_large());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| transport::failure(&error, host, limit))?
    {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use axum::http;

    use super::*;

    async fn reply(status: u16, header: (&str, &str), body: &str) -> Result<Operation, ApiError> {
        let response = http::Response::builder()
            .status(status)
            .header(header.0, header.1);
        let response = Response::from(response.body(body.to_owned()).unwrap());
        let key = SecretString::from("hunter2-hunter2");
        let limit = Duration::from_secs(1);
        let reply = Reply::read(response, "api.example.com", limit, &key).await;
        reply.operation("op", "2026-11-24T12:00:00Z".parse().unwrap())
    }

    #[tokio::test]
    async fn an_answer_that_quotes_the_key_does_not_bring_it_into_events() {
        let body = r#"{"id":"op","projectId":"p","integrationId":"i","configId":"c","installationId":"n",
            "actionType":"read","status":"failure","result":"the key hunter2-hunter2 was refused"}"#;
        let operation = reply(200, ("content-type", "application/json"), body)
            .await
            .unwrap();
        assert_eq!(operation.result.as_deref(), Some("the key [API key] was refused"));
        let kind = ("content-type", "text/HUNTER2-hunter2");
        let told = reply(200, kind, "").await.unwrap_err().to_string();
        assert!(told.contains("text/[api key]"), "{told}");
        let location = ("location", "https://hunter2-hunter2.example.com/");
        let told = reply(302, location, "").await.unwrap_err().to_string();
        assert!(!told.contains("hunter2"), "{told}");
        assert!(told.contains("[API key].example.com"), "{told}");
    }
}
