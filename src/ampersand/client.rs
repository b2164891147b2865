//! The client of the Ampersand API: what can be asked, and of whom.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, HeaderValue};
use reqwest::{Certificate, redirect, retry};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;
use url::Url;

use super::api_error::ApiError;
use super::reply::Reply;
use super::transport;
use crate::clock;
use crate::config::is_loopback;
use crate::core::answer::{Answer, FailureClass};
use crate::core::log_line::LogLine;
use crate::core::operation::Operation;

/// The largest file of CA certificates in bytes: a whole system's bundle has a quarter of a mebibyte.
const MAX_CA_FILE: u64 = 8 * 1024 * 1024;

/// Idle connections are closed after this time: before most load balancers do, which close after a minute,
/// and a connection closed from both ends at once is a failed poll.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// An operation ID that no operation has.
const NO_OPERATION: &str = "00000000-0000-0000-0000-000000000000";

/// How the API is reached.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// `https://host[:port][/path]`, or `http`; without user, password, query and fragment.
    pub base_url: Url,
    /// The time limit of one exchange, from connecting to the body's last byte.
    pub request_timeout: Duration,
    /// A PEM file of CA certificates that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// How many requests run at once at most: so many connections are kept.
    pub max_concurrent_requests: usize,
}

/// Why there is no client.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The base URL is of no use.
    #[error("ampersand.base_url {0}; it should look like https://api.withampersand.com/v1")]
    BaseUrl(&'static str),
    /// The CA file cannot be read.
    #[error("cannot read ampersand.ca_file {path}; check that it is there and readable for this user")]
    CaFileUnreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The CA file holds no certificate.
    #[error(
        "ampersand.ca_file {0} holds no certificate; it should have PEM blocks (-----BEGIN CERTIFICATE-----)"
    )]
    CaFileEmpty(PathBuf),
    /// The CA file holds something that is not a certificate.
    #[error("ampersand.ca_file {path} holds a PEM block that is no CA certificate; make the file anew")]
    CaFileInvalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: reqwest::Error,
    },
    /// TLS cannot be set up.
    #[error(
        "no CA certificates to trust the API by were found; install the package ca-certificates, or name a PEM \
         bundle by ampersand.ca_file or the environment's SSL_CERT_FILE"
    )]
    NoTrust {
        /// What is missing.
        source: reqwest::Error,
    },
}

/// One page of an installation's operations.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationsPage {
    /// The operations, in the API's order.
    pub operations: Vec<Operation>,
    /// What to ask the next page with; `None` after the last.
    pub next_page_token: Option<String>,
}

/// The client of one API. Clones share their connections and are cheap.
///
/// It sends `GET` alone, follows no redirect and retries nothing: when to ask again is decided elsewhere.
/// The proxies of `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` are used, except to
/// this machine itself.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base_url: Arc<Url>,
    /// Host and port, for messages.
    host: Arc<str>,
    request_timeout: Duration,
}

impl Client {
    /// Builds the client. Reads the CA file and the system's CA certificates, and blocks meanwhile.
    ///
    /// # Errors
    ///
    /// When the base URL or the CA file is of no use, or no CA certificate is found to trust an `https` API by.
    pub fn new(settings: ClientSettings) -> Result<Self, ClientError> {
        let host = checked_host(&settings.base_url).map_err(ClientError::BaseUrl)?;
        let limit = settings.request_timeout;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("backfill-watch/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .timeout(limit)
            // Split among the addresses of a name, so that one dead address leaves time for the next.
            .connect_timeout(limit / 2)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(settings.max_concurrent_requests)
            .tcp_keepalive(Duration::from_secs(15))
            // A dead HTTP/2 connection must not cost every request on it its whole time limit, poll after poll.
            .http2_keep_alive_interval(limit / 4)
            .http2_keep_alive_timeout(limit / 4);
        let certificates = match &settings.ca_file {
            Some(path) => read_ca_file(path)?,
            None => Vec::new(),
        };
        builder = if settings.base_url.scheme() == "http" {
            // Without TLS the system's CA certificates are not needed, and need not be there.
            builder.tls_certs_only(certificates)
        } else {
            builder.tls_certs_merge(certificates)
        };
        if is_loopback(&settings.base_url) {
            // No proxy leads back to this machine.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|source| match settings.ca_file {
            Some(path) => ClientError::CaFileInvalid { path, source },
            None => ClientError::NoTrust { source },
        })?;
        Ok(Self {
            http,
            base_url: Arc::new(settings.base_url),
            host: host.into(),
            request_timeout: limit,
        })
    }

    /// Asks for an operation of a project (its ID or name).
    pub async fn get_operation(&self, project: &str, operation: &str, api_key: &SecretString) -> Answer {
        match self.try_get_operation(project, operation, api_key).await {
            Ok(operation) => Answer::Operation(Box::new(operation)),
            Err(error) => error.into(),
        }
    }

    /// Asks whether a project's key is good, without any effect: asks for an operation that does not exist.
    ///
    /// [`Answer::NotFound`] means that the key is good, [`Answer::Unauthorized`] and [`Answer::Forbidden`]
    /// that it is not; with any other answer nothing is known of the key.
    pub async fn probe(&self, project: &str, api_key: &SecretString) -> Answer {
        self.get_operation(project, NO_OPERATION, api_key).await
    }

    /// Asks for one page of an installation's operations; `page_size` is 1 to 1000.
    ///
    /// # Errors
    ///
    /// When the API gives no such page.
    pub async fn list_operations(
        &self,
        project: &str,
        integration: &str,
        installation: &str,
        api_key: &SecretString,
        page_size: u16,
        page_token: Option<&str>,
    ) -> Result<OperationsPage, ApiError> {
        #[derive(Deserialize)]
        struct Wire {
            results: Vec<Operation>,
            pagination: Pagination,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Pagination {
            done: bool,
            next_page_token: Option<String>,
        }
        let mut url = self.url(&[
            "projects",
            project,
            "integrations",
            integration,
            "installations",
            installation,
            "operations",
        ])?;
        url.query_pairs_mut()
            .append_pair("pageSize", &page_size.to_string())
            .extend_pairs(page_token.map(|token| ("pageToken", token)));
        let page: Wire = self.get(url, api_key, self.request_timeout).await?;
        let next = page.pagination.next_page_token.filter(|token| !token.is_empty());
        if !page.pagination.done && next.is_none() {
            // Half a list must not be taken for the whole.
            let reason = "the page says that more follow, and has no nextPageToken".to_owned();
            return Err(ApiError::failed(FailureClass::Malformed, reason));
        }
        Ok(OperationsPage {
            operations: page.results,
            next_page_token: if page.pagination.done { None } else { next },
        })
    }

    /// Asks for an operation's log, in the API's order, within a time limit of its own. Lines that make no
    /// sense are left out; [`last_warnings`](crate::core::log_line::last_warnings) finds those that explain
    /// a failure.
    ///
    /// # Errors
    ///
    /// When the API gives no log.
    pub async fn get_logs(
        &self,
        project: &str,
        operation: &str,
        api_key: &SecretString,
        timeout: Duration,
    ) -> Result<Vec<LogLine>, ApiError> {
        let url = self.url(&["projects", project, "operations", operation, "logs"])?;
        let lines: Vec<Value> = self.get(url, api_key, timeout).await?;
        Ok(lines.iter().filter_map(LogLine::from_api).collect())
    }

    async fn try_get_operation(
        &self,
        project: &str,
        id: &str,
        api_key: &SecretString,
    ) -> Result<Operation, ApiError> {
        let url = self.url(&["projects", project, "operations", id])?;
        let reply = self.ask(url, api_key, self.request_timeout).await?;
        reply.operation(id, clock::wall())
    }

    async fn get<T: serde::de::DeserializeOwned>(
        &self,
        url: Url,
        api_key: &SecretString,
        limit: Duration,
    ) -> Result<T, ApiError> {
        self.ask(url, api_key, limit).await?.json(clock::wall())
    }

    async fn ask(&self, url: Url, api_key: &SecretString, limit: Duration) -> Result<Reply, ApiError> {
        let mut key = HeaderValue::from_str(api_key.expose_secret())
            .ok()
            .filter(|key| !key.is_empty())
            .ok_or_else(|| {
                ApiError::Unauthorized(
                    "the API key is empty or has characters that no key has; write it anew".to_owned(),
                )
            })?;
        key.set_sensitive(true);
        let response = self
            .http
            .get(url)
            .header("x-api-key", key)
            .header(ACCEPT, "application/json, application/problem+json")
            .timeout(limit)
            .send()
            .await
            .map_err(|error| ApiError::Failed(transport::failure(&error, &self.host, limit)))?;
        Ok(Reply::read(response, &self.host, limit, api_key).await)
    }

    /// The base URL with `segments` appended, each percent-encoded.
    fn url(&self, segments: &[&str]) -> Result<Url, ApiError> {
        // These would be taken for steps in the path, whether encoded or not, and ask for something else.
        if let Some(odd) = segments.iter().find(|text| matches!(**text, "" | "." | "..")) {
            return Err(ApiError::Refused(format!(
                "'{odd}' is no name that the API can be asked for"
            )));
        }
        let mut url = Url::clone(&self.base_url);
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        Ok(url)
    }
}

/// Host and port of a base URL that can be used, or what is wrong with it.
fn checked_host(url: &Url) -> Result<String, &'static str> {
    let host = match (url.scheme(), url.host_str()) {
        ("http" | "https", Some(host)) => host,
        _ => return Err("is neither https nor http"),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user or password, which do not belong there");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("holds a query or fragment ('?' or '#')");
    }
    Ok(match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}

fn read_ca_file(path: &Path) -> Result<Vec<Certificate>, ClientError> {
    let mut pem = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_CA_FILE).read_to_end(&mut pem))
        .map_err(|source| ClientError::CaFileUnreadable {
            path: path.to_owned(),
            source,
        })?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|source| ClientError::CaFileInvalid {
        path: path.to_owned(),
        source,
    })?;
    if certificates.is_empty() {
        return Err(ClientError::CaFileEmpty(path.to_owned()));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(base_url: &str) -> Result<Client, ClientError> {
        Client::new(ClientSettings {
            base_url: base_url.parse().unwrap(),
            request_timeout: Duration::from_secs(10),
            ca_file: None,
            max_concurrent_requests: 32,
        })
    }

    #[test]
    fn segments_are_encoded_and_appended_to_the_base_path() {
        for base in ["http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1/"] {
            let url = client(base)
                .unwrap()
                .url(&["projects", "a/b c?d#e%2f", "operations", "ü"]);
            assert_eq!(
                url.unwrap().as_str(),
                "http://127.0.0.1:9/v1/projects/a%2Fb%20c%3Fd%23e%252f/operations/%C3%BC"
            );
        }
        for odd in ["", ".", ".."] {
            let url = client("http://127.0.0.1:9").unwrap().url(&["projects", odd]);
            assert!(matches!(url, Err(ApiError::Refused(_))), "{odd:?}");
        }
    }

    #[test]
    fn a_base_url_of_no_use_is_refused_without_telling_its_password() {
        for bad in [
            "ftp://example.com",
            "data:text/plain,x",
            "https://user:hunter2@example.com/v1",
            "https://example.com/v1?key=hunter2",
            "https://example.com/v1#x",
        ] {
            let error = client(bad).unwrap_err();
            assert!(matches!(error, ClientError::BaseUrl(_)), "{bad}");
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }
}
