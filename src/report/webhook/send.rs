//! Makes one attempt to send one event.

use std::io;
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Request, Response, StatusCode};
use secrecy::SecretSlice;
use thiserror::Error;
use url::Url;

use super::address::{self, ForbiddenAddress};
use super::secrets::mask;
use super::{AttemptFuture, Deliver, signature};
use crate::clock;
use crate::config::is_loopback;
use crate::core::delivery::AttemptOutcome;
use crate::core::mask::Mask;
use crate::core::text::one_line;
use crate::error::{describe_dns, describe_http, find, find_io};
use crate::outbound::{self, Peer, Proxies, SendError, response_head};

/// The most bytes of a response body that are read.
const MAX_ANSWER: usize = 16 * 1024;
/// How long the body is read once the status is known. The status decides; the body only explains it in the log.
const REST_OF_ANSWER: Duration = Duration::from_secs(1);
/// The most bytes of a response body that are quoted.
const MAX_EXCERPT: usize = 512;
/// The longest error, in bytes.
const MAX_ERROR: usize = 640;
/// Idle connections are closed before most receivers close them, which is after five seconds by default in Node. An
/// attempt on a connection that is being closed fails.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Time limits of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimits {
    /// From the DNS lookup to the end of the TLS handshake.
    pub connect: Duration,
    /// The whole exchange, including connecting and reading the response.
    pub exchange: Duration,
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            exchange: Duration::from_secs(15),
        }
    }
}

/// An event to be sent.
#[derive(Debug)]
pub struct WebhookMessage {
    /// The event's ID.
    pub id: String,
    /// The recorded body.
    pub body: String,
}

/// The result of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryAttempt {
    /// The response or failure.
    pub outcome: AttemptOutcome,
    /// The error in one line without secrets; empty on success.
    pub error: String,
}

/// The HTTP client cannot be created.
#[derive(Debug, Error)]
#[error("cannot create the HTTP client for webhooks; this is a bug, please report it")]
pub struct WebhookSenderError(#[source] reqwest::Error);

/// Sends events. Clones share their connections and are cheap.
///
/// It follows no redirect, since a signed event goes only to the configured host. A request that was not processed is
/// repeated once; all other retries are decided in `core::delivery`. The proxies of `HTTPS_PROXY`, `HTTP_PROXY`,
/// `ALL_PROXY` and `NO_PROXY` are used, except for loopback addresses.
#[derive(Debug, Clone)]
pub struct WebhookSender {
    http: reqwest::Client,
    /// Without a proxy, for loopback addresses.
    here: reqwest::Client,
    proxies: Proxies,
    limits: TimeLimits,
    trust: Trust,
}

/// Which TLS certificates are trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Those that the system trusts.
    System,
    /// None: the system has no CA certificates. Endpoints with plain `http` still work.
    Nobody,
}

impl WebhookSender {
    /// Creates the client. Reads the system's CA certificates, so it blocks.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(limits: TimeLimits) -> Result<Self, WebhookSenderError> {
        let builder = || {
            let limits = outbound::HttpTimeouts {
                connect: limits.connect,
                exchange: limits.exchange,
                idle: POOL_IDLE_TIMEOUT,
            };
            outbound::client_builder(limits)
                .dns_resolver(address::Resolver)
                // Detects a dead HTTP/2 connection before all its events time out.
                .http2_keep_alive_interval(limits.exchange / 3)
                .http2_keep_alive_timeout(limits.connect)
        };
        let (http, here, trust) = match (builder().build(), builder().no_proxy().build()) {
            (Ok(http), Ok(here)) => (http, here, Trust::System),
            _ => {
                let nobody = || builder().tls_certs_only([]);
                let http = nobody().build().map_err(WebhookSenderError)?;
                let here = nobody().no_proxy().build().map_err(WebhookSenderError)?;
                (http, here, Trust::Nobody)
            }
        };
        Ok(Self {
            http,
            here,
            proxies: Proxies::of_environment(),
            limits,
            trust,
        })
    }

    async fn send(&self, url: &Url, secrets: &[SecretSlice<u8>], message: WebhookMessage) -> DeliveryAttempt {
        let answer = match self.exchange(url, secrets, message).await {
            Ok(answer) => answer,
            Err(attempt) => return masked(attempt, url, secrets),
        };
        let status = answer.status();
        let retry_after = response_head::wait(answer.headers(), clock::wall());
        let excerpt = ResponseExcerpt::read(answer, url).await;
        let outcome = AttemptOutcome::Answered {
            status: status.as_u16(),
            retry_after,
        };
        if status.is_success() {
            return DeliveryAttempt {
                outcome,
                error: String::new(),
            };
        }
        let error = excerpt.describe(status, &mask(url, secrets));
        masked(DeliveryAttempt { outcome, error }, url, secrets)
    }

    /// The response, or the failed attempt with an error that is not masked yet.
    async fn exchange(
        &self,
        url: &Url,
        secrets: &[SecretSlice<u8>],
        message: WebhookMessage,
    ) -> Result<Response, DeliveryAttempt> {
        if let Err(error) = address::check_literal(url) {
            return Err(no_answer(error.to_string()));
        }
        if self.trust == Trust::Nobody && url.scheme() != "http" {
            return Err(no_answer(
                "no CA certificates were found to verify the receiver; install the package ca-certificates, or name a \
                 PEM bundle by the environment's SSL_CERT_FILE, and restart"
                    .to_owned(),
            ));
        }
        let seconds = clock::wall().as_second();
        let signatures = signature::signatures(secrets, &message.id, seconds, message.body.as_bytes());
        let http = if is_loopback(url) { &self.here } else { &self.http };
        let request = http
            .post(url.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
            .header(signature::ID, message.id)
            .header(signature::TIMESTAMP, seconds)
            .header(signature::SIGNATURE, signatures)
            .body(message.body)
            .build();
        let sent = match request {
            Ok(request) => self.send_twice_if_unprocessed(http, request).await,
            Err(error) => Err(error),
        };
        sent.map_err(|error| {
            let peer = self.proxies.peer(url);
            if error.is_timeout() {
                DeliveryAttempt {
                    outcome: AttemptOutcome::TimedOut,
                    error: self.describe_timeout(&error, &peer),
                }
            } else {
                no_answer(describe(&error, &peer))
            }
        })
    }

    /// Sends the request, and repeats it once if it was not processed, within one time limit.
    async fn send_twice_if_unprocessed(
        &self,
        http: &reqwest::Client,
        request: Request,
    ) -> Result<Response, reqwest::Error> {
        let started = clock::instant();
        let again = request.try_clone();
        match (outbound::send(http, request).await, again) {
            (Ok(response), _) => Ok(response),
            (
                Err(SendError {
                    is_unprocessed: true, ..
                }),
                Some(mut request),
            ) => {
                let left = self.limits.exchange.saturating_sub(clock::instant() - started);
                *request.timeout_mut() = Some(left);
                outbound::send(http, request).await.map_err(|failed| failed.error)
            }
            (Err(failed), _) => Err(failed.error),
        }
    }

    fn describe_timeout(&self, error: &reqwest::Error, peer: &Peer) -> String {
        if error.is_connect() {
            format!(
                "no connection to {} within {:?}",
                peer.connected(),
                self.limits.connect
            )
        } else {
            format!("no answer from {peer} within {:?}", self.limits.exchange)
        }
    }
}

/// Removes the endpoint's secrets from the error. All errors pass through here.
fn masked(mut attempt: DeliveryAttempt, url: &Url, secrets: &[SecretSlice<u8>]) -> DeliveryAttempt {
    let error = mask(url, secrets).apply(&attempt.error).into_owned();
    attempt.error = one_line(&error, MAX_ERROR);
    attempt
}

impl Deliver for WebhookSender {
    fn attempt<'a>(
        &'a self,
        url: &'a Url,
        secrets: &'a [SecretSlice<u8>],
        message: WebhookMessage,
    ) -> AttemptFuture<'a> {
        Box::pin(self.send(url, secrets, message))
    }
}

/// The parts of a response that explain its status. They never change the outcome: after a 2xx, an endless or broken
/// body must not cause a second delivery.
#[derive(Debug, Default)]
struct ResponseExcerpt {
    redirect_host: Option<String>,
    coding: Option<String>,
    body: Vec<u8>,
}

impl ResponseExcerpt {
    async fn read(mut response: Response, url: &Url) -> Self {
        let headers = response.headers();
        let redirect_host = headers.get(LOCATION).and_then(|location| {
            url.join(location.to_str().ok()?)
                .ok()?
                .host_str()
                .map(str::to_owned)
        });
        Self {
            redirect_host,
            coding: response_head::content_coding(headers),
            body: read_body(&mut response).await,
        }
    }

    fn describe(&self, status: StatusCode, mask: &Mask) -> String {
        let name = status.canonical_reason().unwrap_or("(unknown status)");
        let code = status.as_u16();
        if status.is_redirection() {
            return match &self.redirect_host {
                Some(host) => format!(
                    "{code} {name} is a redirect to {host}, which is not followed; set the webhook's url to the \
                     final location"
                ),
                None => format!("{code} {name} instead of 2xx"),
            };
        }
        let excerpt = match &self.coding {
            Some(coding) => format!("(a body with the content coding {coding}, which was not requested)"),
            // Masked before it is cut, so that no part of a secret remains.
            None => one_line(&mask.apply(&String::from_utf8_lossy(&self.body)), MAX_EXCERPT),
        };
        if excerpt.is_empty() {
            format!("{code} {name}")
        } else {
            format!("{code} {name}: {excerpt}")
        }
    }
}

/// The first [`MAX_ANSWER`] bytes of the body, as far as they arrive soon. The rest is dropped with its connection.
async fn read_body(response: &mut Response) -> Vec<u8> {
    let mut body = Vec::new();
    let reading = async {
        while body.len() < MAX_ANSWER {
            let Ok(Some(chunk)) = response.chunk().await else {
                break;
            };
            let left = MAX_ANSWER - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(left)]);
        }
    };
    // On a timeout, the part that arrived is used.
    let _ = tokio::time::timeout(REST_OF_ANSWER, reading).await;
    body
}

fn no_answer(error: String) -> DeliveryAttempt {
    DeliveryAttempt {
        outcome: AttemptOutcome::NoAnswer,
        error,
    }
}

fn describe(error: &reqwest::Error, peer: &Peer) -> String {
    if let Some(forbidden) = find::<ForbiddenAddress>(error) {
        return forbidden.to_string();
    }
    let cause = describe_http(error);
    if let Some(tls) = find::<rustls::Error>(error) {
        return format!("no TLS connection to {peer}: {tls}; check the certificate of the receiver");
    }
    if error.is_dns() {
        let cause = describe_dns(error);
        return match &peer.proxy {
            Some(proxy) => format!(
                "the name of the proxy {proxy} cannot be resolved: {cause}; check HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
            ),
            None => format!(
                "the name {} cannot be resolved: {cause}; check the webhook's url and DNS",
                peer.host
            ),
        };
    }
    if error.is_connect() {
        return match &peer.proxy {
            Some(proxy) if outbound::is_refused_by_proxy(&cause) => {
                format!("the proxy {proxy} refuses a connection to {}: {cause}", peer.host)
            }
            _ if find_io(error).is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) => {
                format!("no connection to {}: connection refused", peer.connected())
            }
            _ => format!("no connection to {}: {cause}", peer.connected()),
        };
    }
    format!("the connection to {peer} was interrupted: {cause}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_short_line_without_the_urls_secret_parts() {
        let url = Url::parse("https://hooks.example.com/T0/s3cret?token=hunter2").unwrap();
        let describe = |status: u16, excerpt: ResponseExcerpt| {
            let status = StatusCode::from_u16(status).unwrap();
            let error = excerpt.describe(status, &mask(&url, &[]));
            masked(no_answer(error), &url, &[]).error
        };
        let excerpt = |status: u16, body: &str| {
            let body = body.as_bytes().to_vec();
            describe(
                status,
                ResponseExcerpt {
                    body,
                    ..ResponseExcerpt::default()
                },
            )
        };
        assert_eq!(excerpt(500, ""), "500 Internal Server Error");
        assert_eq!(
            excerpt(404, "Cannot POST /T0/s3cret\n<b>(/T0/s3cret?token=hunter2)</b>"),
            "404 Not Found: Cannot POST […]\\n<b>([…]?[…])</b>"
        );
        let long = excerpt(422, &"ü".repeat(10_000));
        assert!(long.len() < MAX_EXCERPT + 40 && long.ends_with('…'), "{long}");
        assert_eq!(
            excerpt(799, "no\0\u{1b}[31mwhere"),
            "799 (unknown status): no\\u{0}\\u{1b}[31mwhere"
        );
        let redirect = describe(
            302,
            ResponseExcerpt {
                redirect_host: Some("evil.example".to_owned()),
                ..ResponseExcerpt::default()
            },
        );
        assert!(
            redirect.starts_with("302 Found is a redirect to evil.example, which is not followed"),
            "{redirect}"
        );
    }
}
