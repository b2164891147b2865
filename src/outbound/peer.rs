//! The peer of a request, for messages: the host, or a proxy.

use std::fmt;

use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

use crate::config::is_loopback;

/// The proxies of `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, as the HTTP client reads them.
#[derive(Clone)]
pub struct Proxies(std::sync::Arc<Matcher>);

impl Proxies {
    /// The proxies of this process's environment.
    #[must_use]
    pub fn of_environment() -> Self {
        Self(Matcher::from_system().into())
    }

    /// The peer of requests to `url`.
    #[must_use]
    pub fn peer(&self, url: &Url) -> Peer {
        let proxy = if is_loopback(url) {
            // Requests to this machine never use a proxy.
            None
        } else {
            url.as_str()
                .parse()
                .ok()
                .and_then(|target: Uri| self.0.intercept(&target))
        };
        Peer {
            host: host(url),
            proxy: proxy.and_then(|proxy| {
                let uri = proxy.uri();
                let host = uri.host()?;
                Some(match uri.port_u16() {
                    Some(port) => format!("{host}:{port}"),
                    None => host.to_owned(),
                })
            }),
        }
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxies")
    }
}

/// The peer of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The host of the URL, with the port if it is not the default.
    pub host: String,
    /// The host and port of the proxy, without user and password.
    pub proxy: Option<String>,
}

impl Peer {
    /// The peer of the TCP connection.
    #[must_use]
    pub fn connected(&self) -> String {
        match &self.proxy {
            Some(proxy) => format!("the proxy {proxy}"),
            None => self.host.clone(),
        }
    }
}

/// The host, and the proxy if there is one.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.proxy {
            Some(proxy) => write!(f, "{} (through the proxy {proxy})", self.host),
            None => f.write_str(&self.host),
        }
    }
}

fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}
