//! The HTTP client of the Ampersand API.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, ACCEPT_ENCODING, HeaderName, HeaderValue};
use reqwest::{Certificate, Method, Request};
use thiserror::Error;
use url::Url;

use super::api_error::ApiError;
use super::api_key::ApiKey;
use super::operations_page::OperationsPage;
use super::response::{ApiResponse, ResponseContext};
use super::transport;
use crate::clock;
use crate::config::is_loopback;
use crate::core::answer::{Answer, Failure, FailureClass, ProjectAnswer};
use crate::core::discovery::{
    self, BackfillPath, DiscoveryAnswer, DiscoveryReply, DiscoveryRequest, InstallationList, NamedOperation,
};
use crate::core::installation::{Installation, InstallationPath};
use crate::core::operation::{Member, Operation};
use crate::core::operation_log::OperationLogLine;
use crate::open_files;
use crate::outbound::{self, Peer, Proxies};

/// The largest CA file in bytes; a system's bundle has a quarter of a mebibyte.
const MAX_CA_FILE: u64 = 8 * 1024 * 1024;

/// Idle connections are closed before most load balancers close them, which is after a minute. A request on a
/// connection that is being closed fails.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest body of a response in bytes, and that of a list.
const MAX_BODY: usize = 1024 * 1024;
const MAX_LIST: usize = 64 * MAX_BODY;

/// A list of all installations may take this long, or longer if other requests may.
const LIST_TIMEOUT: Duration = Duration::from_secs(60);

/// The header of the API key.
static API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// An operation ID that no operation has.
pub const NO_OPERATION: &str = "00000000-0000-0000-0000-000000000000";

/// Settings of the client.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// `https://host[:port][/path]`, or `http`; without user, password, query and fragment.
    pub base_url: Url,
    /// The time limit of one exchange, from connecting to the last byte of the body.
    pub request_timeout: Duration,
    /// A PEM file of CA certificates that are trusted besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// The most requests at a time; as many connections are kept.
    pub max_concurrent_requests: usize,
}

/// Why the client cannot be created.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The base URL is not usable.
    #[error("ampersand.base_url {0}; it should look like https://api.withampersand.com/v1")]
    BaseUrl(&'static str),
    /// The CA file cannot be read.
    #[error("cannot read ampersand.ca_file {path}; check that the file exists and is readable for this user")]
    CaFileUnreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The CA file has no certificate.
    #[error("ampersand.ca_file {0} has no certificate; it needs PEM blocks (-----BEGIN CERTIFICATE-----)")]
    CaFileEmpty(PathBuf),
    /// The CA file has a block that is not a certificate.
    #[error("ampersand.ca_file {path} has a PEM block that is not a CA certificate; replace the file")]
    CaFileInvalid {
        /// The file.
        path: PathBuf,
        /// Why it was rejected.
        source: reqwest::Error,
    },
    /// There are no CA certificates.
    #[error(
        "no CA certificates were found to verify the API; install the package ca-certificates, or name a PEM \
         bundle by ampersand.ca_file or the environment's SSL_CERT_FILE"
    )]
    NoTrust {
        /// The error of the HTTP client.
        source: reqwest::Error,
    },
}

/// The client of one API. Clones share their connections and are cheap.
///
/// It sends only `GET`, follows no redirect and retries nothing. The proxies of `HTTPS_PROXY`, `HTTP_PROXY`,
/// `ALL_PROXY` and `NO_PROXY` are used, except for loopback addresses.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base_url: Arc<Url>,
    /// The API's host and proxy, for messages.
    peer: Arc<Peer>,
    request_timeout: Duration,
}

impl Client {
    /// Creates the client. Reads the CA file and the system's CA certificates, so it blocks.
    ///
    /// # Errors
    ///
    /// When the base URL or the CA file is not usable, or no CA certificate is found for an `https` API.
    pub fn new(settings: ClientSettings) -> Result<Self, ClientError> {
        check(&settings.base_url).map_err(ClientError::BaseUrl)?;
        let limit = settings.request_timeout;
        let limits = outbound::HttpTimeouts {
            // Half for connecting, so that one dead address of a name leaves time for the next.
            connect: limit / 2,
            exchange: limit,
            idle: POOL_IDLE_TIMEOUT,
        };
        let mut builder = outbound::client_builder(limits)
            .pool_max_idle_per_host(settings.max_concurrent_requests.min(max_idle_connections()))
            // Detects a dead HTTP/2 connection before all its requests time out.
            .http2_keep_alive_interval(limit / 4)
            .http2_keep_alive_timeout(limit / 4);
        let certificates = match &settings.ca_file {
            Some(path) => read_ca_file(path)?,
            None => Vec::new(),
        };
        builder = if settings.base_url.scheme() == "http" {
            // Without TLS the system's CA certificates are not needed, and may be absent.
            builder.tls_certs_only(certificates)
        } else {
            builder.tls_certs_merge(certificates)
        };
        if is_loopback(&settings.base_url) {
            // A proxy cannot reach this host's loopback.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|source| match settings.ca_file {
            Some(path) => ClientError::CaFileInvalid { path, source },
            None => ClientError::NoTrust { source },
        })?;
        Ok(Self {
            http,
            peer: Proxies::of_environment().peer(&settings.base_url).into(),
            base_url: Arc::new(settings.base_url),
            request_timeout: limit,
        })
    }

    /// Gets an operation of a project (its ID or name).
    pub async fn get_operation(&self, project: &str, operation: &str, api_key: &ApiKey) -> Answer {
        match self.try_get_operation(project, operation, api_key).await {
            Ok(operation) => Answer::Operation(Box::new(operation)),
            Err(error) => error.into(),
        }
    }

    /// Checks a project's key by requesting an operation that does not exist.
    ///
    /// [`Answer::NotFound`] means that the key is valid, [`Answer::Unauthorized`] and [`Answer::Forbidden`] that it is
    /// not. With any other answer the key may be valid or not.
    pub async fn probe(&self, project: &str, api_key: &ApiKey) -> Answer {
        self.get_operation(project, NO_OPERATION, api_key).await
    }

    /// Checks whether a project exists by requesting its list of integrations. The content of the list does not matter.
    pub async fn get_integrations(&self, project: &str, api_key: &ApiKey) -> ProjectAnswer {
        let url = match self.url(&["projects", project, "integrations"]) {
            Ok(url) => url,
            Err(error) => return ProjectAnswer::Unknown(error.to_string()),
        };
        let response = self.send(url, api_key, self.request_timeout, MAX_BODY).await;
        match response.and_then(ApiResponse::success) {
            Ok(()) | Err(ApiError::Forbidden(_)) => ProjectAnswer::Exists,
            Err(ApiError::NotFound(reason)) => ProjectAnswer::Missing(reason),
            Err(ApiError::Throttled { wait, reason }) => ProjectAnswer::Throttled { wait, reason },
            Err(ApiError::Unprocessed(failure)) => ProjectAnswer::Unprocessed(failure),
            Err(error) => ProjectAnswer::Unknown(error.to_string()),
        }
    }

    /// Gets an installation within `timeout`.
    ///
    /// # Errors
    ///
    /// When the API does not return the installation.
    pub async fn get_installation(
        &self,
        project: &str,
        path: &InstallationPath,
        api_key: &ApiKey,
        timeout: Duration,
    ) -> Result<Installation, ApiError> {
        let InstallationPath {
            integration,
            installation,
        } = path;
        let url = self.installation_url(project, integration, installation, &[])?;
        self.send(url, api_key, timeout, MAX_BODY)
            .await?
            .read_as(|body, mask| {
                let mut found = Installation::parse(body, installation).map_err(|error| error.to_string())?;
                found.for_each_text(mask);
                Ok(found)
            })
    }

    /// Gets one page of an installation's operations; `page_size` is 1 to 1000.
    ///
    /// # Errors
    ///
    /// When the API does not return the page.
    pub async fn list_operations(
        &self,
        project: &str,
        integration: &str,
        installation: &str,
        api_key: &ApiKey,
        page_size: u16,
        page_token: Option<&str>,
    ) -> Result<OperationsPage, ApiError> {
        let mut url = self.installation_url(project, integration, installation, &["operations"])?;
        url.query_pairs_mut()
            .append_pair("pageSize", &page_size.to_string())
            .extend_pairs(page_token.map(|token| ("pageToken", token)));
        let now = clock::wall();
        self.send(url, api_key, self.request_timeout, MAX_LIST)
            .await?
            .read_as(|body, mask| OperationsPage::parse(body, now, mask))
    }

    /// Gets an operation's log in the API's order, within `timeout`. Unusable lines are left out.
    /// [`last_warnings`](crate::core::operation_log::last_warnings) selects those that explain a failure.
    ///
    /// # Errors
    ///
    /// When the API does not return a log.
    pub async fn get_logs(
        &self,
        project: &str,
        operation: &str,
        api_key: &ApiKey,
        timeout: Duration,
    ) -> Result<Vec<OperationLogLine>, ApiError> {
        let url = self.url(&["projects", project, "operations", operation, "logs"])?;
        self.send(url, api_key, timeout, MAX_BODY)
            .await?
            .read_as(|body, mask| {
                let mut lines = OperationLogLine::parse_all(body)
                    .map_err(|error| format!("the body is not a JSON array: {error}"))?;
                lines.iter_mut().for_each(|line| line.for_each_text(mask));
                Ok(lines)
            })
    }

    /// Sends a request of discovery.
    pub async fn discover(
        &self,
        project: &str,
        request: &DiscoveryRequest,
        api_key: &ApiKey,
    ) -> DiscoveryReply {
        let answered = match request {
            DiscoveryRequest::Installations => self.list_installations(project, api_key).await,
            DiscoveryRequest::Integrations => self.list_integrations(project, api_key).await,
            DiscoveryRequest::Backfill(path) => self.get_backfill(project, path, api_key).await,
            DiscoveryRequest::Operation(operation) => {
                return DiscoveryReply::Other(self.get_operation(project, operation, api_key).await);
            }
        };
        match answered {
            Ok(answer) => DiscoveryReply::Answered(answer),
            Err(error) => DiscoveryReply::Other(error.into()),
        }
    }

    async fn list_installations(&self, project: &str, api_key: &ApiKey) -> Result<DiscoveryAnswer, ApiError> {
        let url = self.url(&["projects", project, "installations"])?;
        let response = self.send_for_list(url, api_key).await?;
        read_list(response, |body, mask| {
            let mut list = InstallationList::parse(body).map_err(|error| error.to_string())?;
            list.for_each_text(mask);
            Ok(DiscoveryAnswer::Installations(list))
        })
        .await
    }

    async fn list_integrations(&self, project: &str, api_key: &ApiKey) -> Result<DiscoveryAnswer, ApiError> {
        let url = self.url(&["projects", project, "integrations"])?;
        let response = self.send_for_list(url, api_key).await?;
        read_list(response, |body, mask| {
            let mut names = discovery::integrations(body).map_err(|error| error.to_string())?;
            for (id, name) in &mut names {
                mask(id);
                mask(name);
            }
            Ok(DiscoveryAnswer::Integrations(names))
        })
        .await
    }

    async fn get_backfill(
        &self,
        project: &str,
        path: &BackfillPath,
        api_key: &ApiKey,
    ) -> Result<DiscoveryAnswer, ApiError> {
        let (installation, object) = (&*path.key.installation, &*path.key.object);
        let below = ["objects", object, "backfill-progress"];
        let url = self.installation_url(project, &path.integration, installation, &below)?;
        let response = self.send(url, api_key, self.request_timeout, MAX_BODY).await?;
        let now = clock::wall();
        let read = response.read_as(|body, mask| {
            let mut named =
                NamedOperation::parse(body, installation, object, now).map_err(|error| error.to_string())?;
            mask(&mut named.id);
            Ok(DiscoveryAnswer::Backfill(Some(named)))
        });
        match read {
            Err(ApiError::NotFound(_)) => Ok(DiscoveryAnswer::Backfill(None)),
            other => other,
        }
    }

    async fn send_for_list(&self, url: Url, api_key: &ApiKey) -> Result<ApiResponse, ApiError> {
        let limit = self.request_timeout.max(LIST_TIMEOUT);
        self.send(url, api_key, limit, MAX_LIST).await
    }

    async fn try_get_operation(
        &self,
        project: &str,
        id: &str,
        api_key: &ApiKey,
    ) -> Result<Operation, ApiError> {
        let url = self.url(&["projects", project, "operations", id])?;
        let response = self.send(url, api_key, self.request_timeout, MAX_BODY).await?;
        let operation = response.operation(id)?;
        if !operation.unusable.is_empty() {
            let members: Vec<&str> = operation.unusable.members().map(Member::as_str).collect();
            tracing::debug!(
                project,
                operation_id = id,
                members = members.join(", "),
                "unusable members of the answer are treated as absent"
            );
        }
        Ok(operation)
    }

    async fn send(
        &self,
        url: Url,
        api_key: &ApiKey,
        limit: Duration,
        max_body: usize,
    ) -> Result<ApiResponse, ApiError> {
        let key = api_key.header().ok_or_else(|| {
            ApiError::Unauthorized(
                "the API key is empty or has characters that no key has; replace it".to_owned(),
            )
        })?;
        let mut request = Request::new(Method::GET, url);
        let headers = request.headers_mut();
        headers.insert(&API_KEY, key);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        // A limit of one request takes several allocations.
        if limit != self.request_timeout {
            *request.timeout_mut() = Some(limit);
        }
        let sent = outbound::send(&self.http, request).await;
        let response = sent.map_err(|failed| {
            let failure = transport::failure(&failed.error, &self.peer, limit);
            if failed.is_unprocessed {
                ApiError::Unprocessed(failure)
            } else {
                ApiError::Failed(failure)
            }
        })?;
        let context = ResponseContext {
            peer: &self.peer,
            limit,
            max_body,
            now: clock::wall(),
        };
        ApiResponse::read(response, context, api_key).await
    }

    /// The URL of an installation, followed by the segments `below`.
    fn installation_url(
        &self,
        project: &str,
        integration: &str,
        installation: &str,
        below: &[&str],
    ) -> Result<Url, ApiError> {
        let of = [
            "projects",
            project,
            "integrations",
            integration,
            "installations",
            installation,
        ];
        self.url(&[&of, below].concat())
    }

    /// The base URL with `segments` appended, each percent-encoded.
    fn url(&self, segments: &[&str]) -> Result<Url, ApiError> {
        // Also when encoded, these change the path and so request something else.
        if let Some(odd) = segments.iter().find(|text| matches!(**text, "" | "." | "..")) {
            return Err(ApiError::Refused(format!(
                "'{odd}' is not a valid name in an API path; check the watch list and the project names"
            )));
        }
        let base = self.base_url.path().trim_end_matches('/');
        let length = segments.iter().map(|segment| 1 + segment.len()).sum::<usize>();
        let mut path = String::with_capacity(base.len() + length);
        path.push_str(base);
        for segment in segments {
            path.push('/');
            push_encoded(&mut path, segment);
        }
        let mut url = Url::clone(&self.base_url);
        url.set_path(&path);
        Ok(url)
    }
}

/// Appends a segment of a path. `Url` would drop tabs and line breaks, and so request something else.
fn push_encoded(path: &mut String, segment: &str) {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    if segment.bytes().all(is_plain) {
        return path.push_str(segment);
    }
    for byte in segment.bytes() {
        if is_plain(byte) {
            path.push(byte.into());
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// Reads a list on another thread: a large one would delay polls.
async fn read_list<T: Send + 'static>(
    response: ApiResponse,
    parse: impl FnOnce(&str, &mut dyn FnMut(&mut String)) -> Result<T, String> + Send + 'static,
) -> Result<T, ApiError> {
    let reading = tokio::task::spawn_blocking(move || response.read_as(parse));
    reading.await.unwrap_or_else(|error| {
        Err(ApiError::Failed(Failure {
            class: FailureClass::Malformed,
            reason: format!("the list was not read: {error}"),
        }))
    })
}

/// How many idle connections are kept; fewer when the limit of open files is low.
fn max_idle_connections() -> usize {
    usize::try_from(open_files::limit() / 8)
        .unwrap_or(usize::MAX)
        .max(1)
}

/// Returns what is wrong with a base URL.
fn check(url: &Url) -> Result<(), &'static str> {
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("is neither https nor http");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user or password, which do not belong there");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a query or fragment ('?' or '#')");
    }
    Ok(())
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
        // Nothing is dropped from a name, nor read as a folder.
        for (name, path) in [
            ("a\tb\nc\r", "a%09b%0Ac%0D"),
            (".\n.", ".%0A."),
            ("%2e%2e", "%252e%252e"),
            ("a\\b", "a%5Cb"),
        ] {
            let url = client("http://127.0.0.1:9/v1")
                .unwrap()
                .url(&["projects", name, "x"]);
            assert_eq!(url.unwrap().path(), format!("/v1/projects/{path}/x"));
        }
        for odd in ["", ".", ".."] {
            let url = client("http://127.0.0.1:9").unwrap().url(&["projects", odd]);
            assert!(matches!(url, Err(ApiError::Refused(_))), "{odd:?}");
        }
    }

    #[test]
    fn a_base_url_of_no_use_is_refused_without_showing_its_password() {
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
