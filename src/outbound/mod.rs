//! The HTTP client code that the API client and the webhooks share: limits, requests that were not processed, proxies in
//! messages, and response headers.

mod connection_reuse;
mod peer;
pub mod response_head;

pub use self::peer::{Peer, Proxies};
pub use self::response_head::MAX_HEAD;

use std::time::Duration;

use reqwest::{Client, ClientBuilder, Request, Response, redirect, retry};

use crate::error::find;

/// As many headers as fit into 64 KiB: each takes four bytes at least.
const MAX_HEADERS: usize = MAX_HEAD / 4;
/// HTTP/2 counts 32 more bytes for each header. The exact limit is checked when the response has arrived.
const MAX_HEADER_LIST: u32 = (MAX_HEAD + 32 * MAX_HEADERS) as u32;

/// The timeouts of one exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpTimeouts {
    /// From resolving the name to the end of the TLS handshake.
    pub connect: Duration,
    /// The whole exchange, including connecting and reading the response.
    pub exchange: Duration,
    /// How long an idle connection is kept.
    pub idle: Duration,
}

/// A builder with the settings of every client. The client follows no redirects and repeats no requests.
pub fn client_builder(timeouts: HttpTimeouts) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("backfill-watch/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        // With a maximum of zero, no copy of the request is kept.
        .retry(retry::never().max_retries_per_request(0))
        .timeout(timeouts.exchange)
        .connect_timeout(timeouts.connect)
        .pool_idle_timeout(timeouts.idle)
        .tcp_keepalive(Duration::from_secs(15))
        // The defaults are 100 headers and 16 KiB.
        .http1_max_headers(MAX_HEADERS)
        .http2_max_header_list_size(MAX_HEADER_LIST)
        .connector_layer(connection_reuse::DetectConnections)
}

/// Why a request has no response.
#[derive(Debug)]
pub struct SendError {
    /// The error of the HTTP client.
    pub error: reqwest::Error,
    /// Whether the request may be repeated as if it had not been sent.
    pub is_unprocessed: bool,
}

/// Sends a request.
///
/// # Errors
/// When there is no response.
pub async fn send(client: &Client, request: Request) -> Result<Response, SendError> {
    let (sent, has_opened) = connection_reuse::run_and_detect(client.execute(request)).await;
    sent.map_err(|error| SendError {
        is_unprocessed: is_unprocessed(&error, has_opened),
        error,
    })
}

/// Whether the causes of an error mean that a proxy was reached and refused the connection to the host.
///
/// The type of that error is private to its library, so only its text can be checked.
#[must_use]
pub fn is_refused_by_proxy(causes: &str) -> bool {
    causes.contains("tunnel error") && !causes.contains("failed to create underlying connection")
}

/// Whether the peer did not process the request: HTTP/2 reports that, or a reused connection broke before a response began,
/// because the peer had closed it.
fn is_unprocessed(error: &reqwest::Error, has_opened: bool) -> bool {
    if let Some(error) = find::<h2::Error>(error)
        && error.is_remote()
    {
        // A reset of this stream is an answer, on a new connection too.
        if error.is_reset() {
            return error.reason() == Some(h2::Reason::REFUSED_STREAM);
        }
        if error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR) {
            return true;
        }
    }
    let has_begun = find::<hyper::Error>(error).is_some_and(hyper::Error::is_parse);
    !has_opened && error.is_request() && !error.is_timeout() && !error.is_connect() && !has_begun
}
