//! Reads a response and classifies it by its status.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderName, LOCATION};
use reqwest::{Response, StatusCode};

use super::api_error::ApiError;
use super::api_key::ApiKey;
use super::media_type::MediaType;
use super::problem::ProblemDetails;
use super::transport;
use crate::core::answer::{Failure, FailureClass};
use crate::core::json::Json;
use crate::core::operation::Operation;
use crate::core::text::one_line;
use crate::outbound::{self, Peer, response_head};

/// The longest reason, in bytes.
const MAX_REASON: usize = 400;

/// How a response is read.
#[derive(Debug, Clone, Copy)]
pub struct ResponseContext<'a> {
    /// The sender of the response.
    pub peer: &'a Peer,
    /// The time limit of the exchange.
    pub limit: Duration,
    /// The largest body that is read, in bytes.
    pub max_body: usize,
    /// The current wall-clock time.
    pub now: Timestamp,
}

/// A response with its body, or with the error that the body had. The API key is removed from everything it returns.
#[derive(Debug)]
pub struct ApiResponse {
    status: StatusCode,
    media_type: MediaType,
    /// The wait in `Retry-After`.
    wait: Option<Duration>,
    /// The time of the response by the API's clock, which relative times refer to.
    api_time: Timestamp,
    now: Timestamp,
    /// The host of a redirect.
    redirect_host: Option<String>,
    body: Result<Body, Failure>,
    key: ApiKey,
}

/// A body as it was received. It may contain tokens of customers, so that it is never printed.
#[derive(Default)]
struct Body(Vec<u8>);

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

impl ApiResponse {
    /// Reads `response`; `key` is removed from what is read.
    ///
    /// # Errors
    /// When the headers are too large.
    pub async fn read(
        mut response: Response,
        context: ResponseContext<'_>,
        key: &ApiKey,
    ) -> Result<Self, ApiError> {
        let headers = response.headers();
        if response_head::head_size(headers) > outbound::MAX_HEAD {
            return Err(ApiError::failed(
                FailureClass::TooLarge,
                format!(
                    "{} answered with more than {} bytes of headers",
                    context.peer,
                    outbound::MAX_HEAD
                ),
            ));
        }
        let mask = key.mask();
        let header = |name: HeaderName| headers.get(name)?.to_str().ok();
        let content_type = header(CONTENT_TYPE).map(|text| mask.apply(text));
        let redirect_host = header(LOCATION)
            .and_then(|location| response.url().join(location).ok())
            .and_then(|target| target.host_str().map(|host| mask.apply(host).into_owned()));
        let coding = response_head::content_coding(headers).map(|coding| mask.apply(&coding).into_owned());
        let status = response.status();
        let mut api_response = Self {
            status,
            media_type: MediaType::parse(content_type.as_deref()),
            wait: response_head::wait(headers, context.now),
            api_time: if status == StatusCode::OK {
                context.now
            } else {
                response_head::date(headers, context.now)
            },
            now: context.now,
            redirect_host,
            body: Ok(Body::default()),
            key: key.clone(),
        };
        if api_response.needs_body() {
            api_response.body = match coding {
                Some(coding) => Err(malformed(format!(
                    "the body has the content coding {}, which was not requested; configure the proxies between this host and \
                     the API to pass responses unchanged",
                    one_line(&coding, 80)
                ))),
                None => read_body(&mut response, context).await,
            };
        }
        Ok(api_response)
    }

    fn needs_body(&self) -> bool {
        match self.status {
            StatusCode::OK => self.media_type.is_json(),
            other => other.is_client_error() || other.is_server_error(),
        }
    }

    /// The operation `id` of a 200.
    ///
    /// # Errors
    /// When the response is anything else.
    pub fn operation(self, id: &str) -> Result<Operation, ApiError> {
        let mut operation = Operation::parse(self.text()?, self.now)
            .map_err(|error| self.malformed(&format!("200, but {error}")))?;
        if operation.id != id {
            let other = self.key.mask().apply(&operation.id);
            return Err(self.malformed(&format!(
                "200, but the member `id` is {}; {id} was requested",
                one_line(&other, 128)
            )));
        }
        operation.for_each_text(&mut |text| self.key.mask().apply_to(text));
        Ok(operation)
    }

    /// The body of a 200, parsed by `parse`, which applies the given function to remove the API key.
    ///
    /// # Errors
    /// When the response is anything else, or `parse` fails.
    pub(super) fn read_as<T>(
        self,
        parse: impl FnOnce(&str, &mut dyn FnMut(&mut String)) -> Result<T, String>,
    ) -> Result<T, ApiError> {
        let body = self.text()?;
        parse(body, &mut |text| self.key.mask().apply_to(text))
            .map_err(|problem| self.malformed(&format!("200, but {problem}")))
    }

    /// Checks for a 200 with JSON, whatever its content.
    ///
    /// # Errors
    /// When the response is anything else.
    pub(super) fn success(self) -> Result<(), ApiError> {
        if self.status == StatusCode::OK && self.media_type.is_json() {
            return Ok(());
        }
        self.text().map(drop)
    }

    /// The body of a 200 with a JSON media type.
    fn text(&self) -> Result<&str, ApiError> {
        if self.status != StatusCode::OK {
            return Err(self.refusal());
        }
        if !self.media_type.is_json() {
            return Err(self.malformed(&format!(
                "200 with {} instead of JSON; check ampersand.base_url",
                self.media_type.describe()
            )));
        }
        self.body().map_err(ApiError::Failed)
    }

    /// The body. Decoded when it is read, since that takes long for a large one.
    fn body(&self) -> Result<&str, Failure> {
        let Body(bytes) = self.body.as_ref().map_err(Failure::clone)?;
        str::from_utf8(bytes).map_err(|_| malformed("the body is not UTF-8".to_owned()))
    }

    /// The error that a status other than 200 means.
    fn refusal(&self) -> ApiError {
        // A body that did not arrive is treated as no body.
        let body = self.body().ok();
        let mut problem = body.and_then(|body| ProblemDetails::parse(&self.media_type, body));
        if let Some(problem) = &mut problem {
            problem.for_each_text(&mut |text| self.key.mask().apply_to(text));
        }
        let is_json = self.media_type.is_json() && body.is_some_and(|body| Json::parse(body).is_ok());
        let is_retryable = problem
            .as_ref()
            .is_some_and(|problem| problem.retryable == Some(true));
        let code = self.status.as_u16();
        let name = self.status.canonical_reason().unwrap_or("(unknown status)");
        let reason = match &problem {
            Some(problem) => problem.summary(code, name),
            None => format!("{code} {name}"),
        };
        let in_body = problem.as_ref().and_then(|problem| problem.wait(self.api_time));
        let wait = self.wait.max(in_body);
        match code {
            429 => ApiError::Throttled { wait, reason },
            503 if wait.is_some() => ApiError::Throttled { wait, reason },
            401 if is_json => ApiError::Unauthorized(reason),
            403 if is_json => ApiError::Forbidden(reason),
            404 | 410 if problem.is_some() => ApiError::NotFound(reason),
            408 | 425 | 500..=599 => ApiError::failed(FailureClass::ServerError, reason),
            400 | 402 | 405..=499 if is_retryable => ApiError::failed(FailureClass::ServerError, reason),
            400 | 402 | 405..=499 if problem.is_some() => ApiError::Refused(reason),
            400..=499 => self.foreign_response(&reason),
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
            _ => self.malformed(&format!("{reason} instead of 200; check ampersand.base_url")),
        }
    }

    /// A 4xx without the API's problem details: a proxy, a login page or a wrong path may have answered.
    fn foreign_response(&self, reason: &str) -> ApiError {
        match self.body() {
            Ok(_) => self.malformed(&format!(
                "{reason} without problem details of the API; a proxy or a login page may have answered: check \
                 ampersand.base_url and the network"
            )),
            Err(failure) => ApiError::failed(
                failure.class,
                one_line(&format!("{reason}, and {}", failure.reason), MAX_REASON),
            ),
        }
    }

    fn malformed(&self, reason: &str) -> ApiError {
        ApiError::Failed(malformed(self.key.mask().apply(reason).into_owned()))
    }
}

fn malformed(reason: String) -> Failure {
    Failure {
        class: FailureClass::Malformed,
        reason: one_line(&reason, MAX_REASON),
    }
}

async fn read_body(response: &mut Response, context: ResponseContext<'_>) -> Result<Body, Failure> {
    let ResponseContext { peer, max_body, .. } = context;
    let too_large = || Failure {
        class: FailureClass::TooLarge,
        reason: format!("{peer} answered with more than {max_body} bytes"),
    };
    if response
        .content_length()
        .is_some_and(|length| length > max_body as u64)
    {
        return Err(too_large());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| transport::failure(&error, peer, context.limit))?
    {
        if body.len() + chunk.len() > max_body {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Body(body))
}

#[cfg(test)]
mod tests;
