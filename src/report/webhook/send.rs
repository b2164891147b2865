//! One attempt to send one event.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode, redirect, retry};
use secrecy::SecretSlice;
use thiserror::Error;
use url::Url;

use super::address::{self, ForbiddenAddress};
use super::{Attempting, Deliver, signature};
use crate::clock;
use crate::config::is_loopback;
use crate::core::retry::Outcome;
use crate::core::retry_after;
use crate::core::text::one_line;
use crate::error::{describe_http, find};

/// No more than this of an answer is read, in bytes.
const MAX_ANSWER: usize = 16 * 1024;
/// How long the rest of an answer is read once its status is known. The status decides; the rest only gives words
/// for the log, and the connection back.
const REST_OF_ANSWER: Duration = Duration::from_secs(1);
/// No more than this of an answer is told, in bytes.
const MAX_EXCERPT: usize = 200;
/// The longest error, in bytes.
const MAX_ERROR: usize = 500;
/// Idle connections are closed after this time: before the receiver does it, which in Node's default setting is after
/// five seconds. An attempt on a connection that is being closed fails.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// How long an attempt may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimits {
    /// From resolving the name to the end of the TLS handshake.
    pub connect: Duration,
    /// The whole exchange, connecting and reading the answer included.
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

/// What is sent.
#[derive(Debug)]
pub struct Message {
    /// The event's ID.
    pub id: String,
    /// The body, as it was recorded.
    pub body: String,
}

/// How an attempt went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What it met.
    pub outcome: Outcome,
    /// What went wrong, on one line without any secret; empty if nothing did.
    pub error: String,
}

/// The HTTP client cannot be set up.
#[derive(Debug, Error)]
#[error("the HTTP client for webhooks cannot be set up; this is a defect of this build, please report it")]
pub struct SenderError(#[source] reqwest::Error);

/// Sends events. Clones share their connections and are cheap.
///
/// It follows no redirect and retries nothing: what was signed goes to the configured host alone, and when to send
/// again is decided elsewhere. The proxies of `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` are used,
/// except to this machine itself.
#[derive(Debug, Clone)]
pub struct Sender {
    http: reqwest::Client,
    /// Without a proxy: none leads back to this machine.
    here: reqwest::Client,
    limits: TimeLimits,
    trust: Trust,
}

/// Whose TLS certificates are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Those that the system trusts.
    System,
    /// Nobody's: the system has no CA certificates. Endpoints with plain `http` work nevertheless.
    Nobody,
}

impl Sender {
    /// Builds the client. Reads the system's CA certificates, and blocks meanwhile.
    ///
    /// # Errors
    /// When TLS cannot be set up at all.
    pub fn new(limits: TimeLimits) -> Result<Self, SenderError> {
        let builder = || {
            reqwest::Client::builder()
                .user_agent(concat!("backfill-watch/", env!("CARGO_PKG_VERSION")))
                .redirect(redirect::Policy::none())
                .retry(retry::never())
                .dns_resolver(address::Resolver)
                .timeout(limits.exchange)
                .connect_timeout(limits.connect)
                .pool_idle_timeout(POOL_IDLE_TIMEOUT)
                .tcp_keepalive(Duration::from_secs(15))
                // A dead HTTP/2 connection must not cost every event on it the whole time limit, one after the other.
                .http2_keep_alive_interval(limits.exchange / 3)
                .http2_keep_alive_timeout(limits.connect)
        };
        let (http, here, trust) = match (builder().build(), builder().no_proxy().build()) {
            (Ok(http), Ok(here)) => (http, here, Trust::System),
            _ => {
                let nobody = || builder().tls_certs_only([]);
                let http = nobody().build().map_err(SenderError)?;
                let here = nobody().no_proxy().build().map_err(SenderError)?;
                (http, here, Trust::Nobody)
            }
        };
        Ok(Self {
            http,
            here,
            limits,
            trust,
        })
    }

    async fn send(&self, url: &Url, secrets: &[SecretSlice<u8>], message: Message) -> Attempt {
        let host = url.host_str().unwrap_or_default();
        if let Err(error) = address::check_literal(url) {
            return no_answer(error.to_string());
        }
        if self.trust == Trust::Nobody && url.scheme() != "http" {
            return no_answer(
                "no CA certificates to trust anybody by were found; install the package ca-certificates, or name a \
                 PEM bundle by the environment's SSL_CERT_FILE, and restart"
                    .to_owned(),
            );
        }
        let seconds = clock::wall().as_second();
        let signatures = signature::signatures(secrets, &message.id, seconds, message.body.as_bytes());
        let http = if is_loopback(url) { &self.here } else { &self.http };
        let sent = http
            .post(url.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(signature::ID, message.id)
            .header(signature::TIMESTAMP, seconds)
            .header(signature::SIGNATURE, signatures)
            .body(message.body)
            .send()
            .await;
        match sent {
            Ok(response) => read_answer(response, url).await,
            Err(error) if error.is_timeout() => Attempt {
                outcome: Outcome::TimedOut,
                error: self.describe_timeout(&error, host),
            },
            Err(error) => no_answer(describe(&error, host)),
        }
    }

    fn describe_timeout(&self, error: &reqwest::Error, host: &str) -> String {
        if error.is_connect() {
            format!("no connection to {host} within {:?}", self.limits.connect)
        } else {
            format!("no answer from {host} within {:?}", self.limits.exchange)
        }
    }
}

impl Deliver for Sender {
    fn attempt<'a>(
        &'a self,
        url: &'a Url,
        secrets: &'a [SecretSlice<u8>],
        message: Message,
    ) -> Attempting<'a> {
        Box::pin(self.send(url, secrets, message))
    }
}

/// The status decides. A 2xx is the receiver's word that it has the event: what comes after it, endless bytes or a
/// broken connection, must not make the event come twice.
async fn read_answer(mut response: Response, url: &Url) -> Attempt {
    let status = response.status();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| retry_after::from_header(value.to_str().ok()?, clock::wall()));
    let redirect_host = response.headers().get(LOCATION).and_then(|location| {
        url.join(location.to_str().ok()?)
            .ok()?
            .host_str()
            .map(str::to_owned)
    });
    let body = read_body(&mut response).await;
    Attempt {
        outcome: Outcome::Answered {
            status: status.as_u16(),
            retry_after,
        },
        error: describe_answer(status, redirect_host.as_deref(), &body, url),
    }
}

/// What comes of the body soon, at most [`MAX_ANSWER`] bytes. A longer one is left, which closes its connection.
async fn read_body(response: &mut Response) -> Vec<u8> {
    let mut body = Vec::new();
    let reading = async {
        while body.len() < MAX_ANSWER {
            let Ok(Some(chunk)) = response.chunk().await else {
                break;
            };
            let room = MAX_ANSWER - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
    };
    // What came before the time was over is as good as all of it.
    let _ = tokio::time::timeout(REST_OF_ANSWER, reading).await;
    body
}

fn describe_answer(status: StatusCode, redirect_host: Option<&str>, body: &[u8], url: &Url) -> String {
    let name = status.canonical_reason().unwrap_or("(unknown status)");
    let code = status.as_u16();
    let error = match code {
        200..=299 => return String::new(),
        300..=399 => match redirect_host {
            Some(host) => format!(
                "{code} {name} is a redirect to {host}, which is not followed; set the webhook's url to the place itself"
            ),
            None => format!("{code} {name} instead of 2xx"),
        },
        _ => {
            let said = excerpt(body, url);
            if said.is_empty() {
                format!("{code} {name}")
            } else {
                format!("{code} {name}: {said}")
            }
        }
    };
    one_line(&error, MAX_ERROR)
}

/// The beginning of what a receiver said, without the path and query of its URL: they may be a secret, and error
/// pages like to quote them.
fn excerpt(body: &[u8], url: &Url) -> String {
    let mut text = String::from_utf8_lossy(body).into_owned();
    for part in [url.query().unwrap_or_default(), url.path()] {
        if part.len() > 1 {
            text = text.replace(part, "[…]");
        }
    }
    one_line(&text, MAX_EXCERPT)
}

fn no_answer(error: String) -> Attempt {
    Attempt {
        outcome: Outcome::NoAnswer,
        error: one_line(&error, MAX_ERROR),
    }
}

fn describe(error: &reqwest::Error, host: &str) -> String {
    if let Some(forbidden) = find::<ForbiddenAddress>(error) {
        return forbidden.to_string();
    }
    let cause = describe_http(error);
    if let Some(tls) = find::<rustls::Error>(error) {
        return format!("no TLS connection to {host}: {tls}; have its certificate checked");
    }
    if error.is_dns() {
        return format!("the name {host} is not resolved: {cause}; check the webhook's url and DNS");
    }
    if error.is_connect() {
        return format!("no connection to {host}: {cause}");
    }
    format!("the exchange with {host} broke off: {cause}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_short_line_without_the_urls_secret_parts() {
        let url = Url::parse("https://hooks.example.com/T0/s3cret?token=hunter2").unwrap();
        let said = |status: u16, body: &str| {
            describe_answer(StatusCode::from_u16(status).unwrap(), None, body.as_bytes(), &url)
        };
        assert_eq!(said(204, "thanks"), "");
        assert_eq!(said(500, ""), "500 Internal Server Error");
        assert_eq!(
            said(404, "Cannot POST /T0/s3cret\n<b>(/T0/s3cret?token=hunter2)</b>"),
            "404 Not Found: Cannot POST […]\\n<b>([…]?[…])</b>"
        );
        let long = said(422, &"ü".repeat(10_000));
        assert!(long.len() < MAX_EXCERPT + 40 && long.ends_with('…'), "{long}");
        assert_eq!(
            said(799, "no\0\u{1b}[31mwhere"),
            "799 (unknown status): no\\u{0}\\u{1b}[31mwhere"
        );
        let redirect = describe_answer(StatusCode::FOUND, Some("evil.example"), b"", &url);
        assert!(
            redirect.starts_with("302 Found is a redirect to evil.example, which is not followed"),
            "{redirect}"
        );
    }
}
