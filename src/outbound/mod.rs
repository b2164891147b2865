//! What the API's client and the webhooks have in common when they send a request.
//!
//! One place decides the limits of the HTTP client, recognises a request that was never processed, names the proxy that
//! an error is about, and reads what any answer's head may say.

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
/// HTTP/2 counts 32 bytes more for each header. What an answer may really have is checked when it is there.
const MAX_HEADER_LIST: u32 = (MAX_HEAD + 32 * MAX_HEADERS) as u32;

/// Limits of one exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpTimeouts {
    /// From resolving the name to the end of the TLS handshake.
    pub connect: Duration,
    /// The whole exchange, connecting and reading the answer included.
    pub exchange: Duration,
    /// After this time without a request a connection is closed.
    pub idle: Duration,
}

/// What every client has. No redirect is followed and nothing is repeated: that is decided elsewhere.
pub fn client_builder(timeouts: HttpTimeouts) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("backfill-watch/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .timeout(timeouts.exchange)
        .connect_timeout(timeouts.connect)
        .pool_idle_timeout(timeouts.idle)
        .tcp_keepalive(Duration::from_secs(15))
        // The defaults are 100 headers and 16 KiB.
        .http1_max_headers(MAX_HEADERS)
        .http2_max_header_list_size(MAX_HEADER_LIST)
        .connector_layer(connection_reuse::Noting)
}

/// Why a request has no answer.
#[derive(Debug)]
pub struct SendError {
    /// What the HTTP client says.
    pub error: reqwest::Error,
    /// Whether the request may be repeated as if it had not been sent.
    pub is_unprocessed: bool,
}

/// Sends a request.
///
/// # Errors
/// When no answer comes.
pub async fn send(client: &Client, request: Request) -> Result<Response, SendError> {
    let (sent, has_opened) = connection_reuse::note(client.execute(request)).await;
    sent.map_err(|error| SendError {
        is_unprocessed: is_unprocessed(&error, has_opened),
        error,
    })
}

/// Whether, by the causes of an error, a proxy was reached and gives no connection to the host.
///
/// The error's type is private to the HTTP client's libraries; its words are all there is.
#[must_use]
pub fn is_refused_by_proxy(causes: &str) -> bool {
    causes.contains("tunnel error") && !causes.contains("failed to create underlying connection")
}

/// Whether HTTP/2 says that the request was not processed, or a connection that was there before broke before an answer
/// began: the other side has closed it while the request was on its way.
fn is_unprocessed(error: &reqwest::Error, has_opened: bool) -> bool {
    if let Some(error) = find::<h2::Error>(error)
        && error.is_remote()
    {
        // A reset of this one stream is an answer, on whatever connection.
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
