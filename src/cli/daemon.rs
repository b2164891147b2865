//! Requests of commands to the running daemon, by its control socket or over HTTP.

mod search;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Client, ClientBuilder, Method, Response};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use url::Url;

use self::search::{UnusableSocket, error_note, search};
use super::{DaemonArgs, Failure, exit};
use crate::config::{DaemonLocation, HttpSettings, is_loopback};
use crate::error::{RUN_AS_ROOT, chain};

/// How long the daemon may take for an answer. Container health checks have similar limits.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a list may take: a busy daemon may need some seconds for a thousand watches.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a reload or check may take. The daemon answers earlier in any case.
const LONG_TIMEOUT: Duration = Duration::from_mins(1);

/// How often a request is repeated after its connection broke.
const REPEATS: u32 = 3;
/// The wait before each repetition.
const PAUSE: Duration = Duration::from_millis(100);

/// A running daemon.
pub struct Daemon {
    client: Client,
    route: Route,
    /// A control socket that could not be opened.
    unusable: Option<UnusableSocket>,
}

/// How the daemon is reached.
enum Route {
    Socket(PathBuf),
    Http {
        address: SocketAddr,
        /// The token, or why it cannot be read if one is configured.
        token: Result<SecretString, Option<String>>,
        /// The folders without a control socket, for errors.
        searched: String,
    },
    /// An address on the command line, perhaps behind a proxy.
    Url {
        base: Url,
        token: SecretString,
    },
}

/// An answer of the daemon.
#[derive(Debug)]
pub struct DaemonAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The JSON body, or null.
    pub body: Value,
}

impl DaemonAnswer {
    /// Whether the request succeeded.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether it is problem details of the daemon. A proxy or another program answers otherwise.
    #[must_use]
    pub fn is_problem(&self) -> bool {
        self.body["status"] == self.status && self.body["detail"].is_string()
    }

    /// The `detail` of problem details.
    #[must_use]
    pub fn detail(&self) -> &str {
        self.body["detail"].as_str().unwrap_or("no reason given")
    }
}

impl Daemon {
    /// The daemon by its control socket, for requests that exist only there.
    ///
    /// # Errors
    /// [`Failure`], when no control socket can be opened.
    pub async fn by_socket(args: &DaemonArgs) -> anyhow::Result<Self> {
        Self::by_socket_with(args, error_note).await
    }

    /// As [`by_socket`](Self::by_socket), for a command that prints the errors of the settings itself.
    ///
    /// # Errors
    /// [`Failure`], when no control socket can be opened.
    pub async fn by_socket_after_check(args: &DaemonArgs) -> anyhow::Result<Self> {
        Self::by_socket_with(args, |_| "").await
    }

    async fn by_socket_with(
        args: &DaemonArgs,
        note: fn(&DaemonLocation) -> &'static str,
    ) -> anyhow::Result<Self> {
        let (search, located) = search(args, None).await;
        let Some(path) = search.found else {
            let failure = match &search.unusable {
                Some(unusable) => unusable.failure(),
                None => Failure {
                    message: format!(
                        "no daemon answers: {}; start it, or use --config or --state-dir of another daemon{}",
                        search.describe(),
                        note(&located)
                    ),
                    code: exit::UNREACHABLE,
                },
            };
            return Err(failure.into());
        };
        Self::on_socket(path)
    }

    /// The daemon by its control socket, otherwise over HTTP. With `listen`, over HTTP at that address.
    ///
    /// # Errors
    /// [`Failure`], when there is no daemon, or `listen` is not an address.
    pub async fn find(args: &DaemonArgs, listen: Option<&str>) -> anyhow::Result<Self> {
        let (search, located) = search(args, listen).await;
        if let Some(path) = search.found {
            return Self::on_socket(path);
        }
        // With a state directory, the address in the settings may be that of another daemon.
        let address = match args.state_dir.is_none() || listen.is_some() || search.unusable.is_some() {
            true => located.http.listen,
            false => None,
        };
        let Some(address) = address else {
            if let Some(unusable) = &search.unusable {
                return Err(unusable.failure().into());
            }
            if listen.is_some() {
                return match located.errors {
                    Some(errors) => Err(errors.into()),
                    None => bail!("--listen is \"off\"; use the address of the daemon"),
                };
            }
            let message = format!(
                "no daemon answers: {}{}; start it, or use --config, --state-dir or --listen of another daemon{}",
                search.describe(),
                match located.http.listen {
                    None => ", and http.listen is \"off\"",
                    Some(_) => "",
                },
                error_note(&located)
            );
            return Err(Failure {
                message,
                code: exit::UNREACHABLE,
            }
            .into());
        };
        Ok(Self {
            client: client(Client::builder().no_proxy().tls_certs_only([]))?,
            route: Route::Http {
                address: reachable(address),
                token: read_token(&located.http),
                searched: match &*search.folders {
                    [] => String::new(),
                    _ => format!(" ({}{})", search.describe(), error_note(&located)),
                },
            },
            unusable: search.unusable,
        })
    }

    /// The daemon at a URL, over HTTP or HTTPS.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub fn at_url(base: Url, token: SecretString) -> anyhow::Result<Self> {
        let builder = match is_loopback(&base) {
            true => Client::builder().no_proxy(),
            false => Client::builder(),
        };
        let builder = match base.scheme() {
            "https" => builder,
            // A container image may have no certificates.
            _ => builder.tls_certs_only([]),
        };
        Ok(Self {
            client: client(builder)?,
            route: Route::Url { base, token },
            unusable: None,
        })
    }

    fn on_socket(path: PathBuf) -> anyhow::Result<Self> {
        Ok(Self {
            client: client(Client::builder().unix_socket(path.as_path()).tls_certs_only([]))?,
            route: Route::Socket(path),
            unusable: None,
        })
    }

    /// Where it answers.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.route {
            Route::Socket(path) => path.display().to_string(),
            Route::Http { address, .. } => address.to_string(),
            Route::Url { base, .. } => base.to_string(),
        }
    }

    /// Sends a `GET`, and returns the answer before its body is read.
    ///
    /// # Errors
    /// When no daemon answers.
    pub async fn get(&self, path: &str) -> anyhow::Result<Response> {
        self.send(Method::GET, path, None, TIMEOUT).await
    }

    /// Sends a `GET`, and waits for the whole answer.
    ///
    /// # Errors
    /// When no daemon answers, or its answer breaks off.
    pub async fn read_json(&self, path: &str) -> anyhow::Result<DaemonAnswer> {
        self.read(self.get(path).await?).await
    }

    /// Sends a `POST` with this body, and waits for the whole answer.
    ///
    /// # Errors
    /// When no daemon answers, or its answer breaks off.
    pub async fn post_json(&self, path: &str, body: &Value) -> anyhow::Result<DaemonAnswer> {
        self.read(self.send(Method::POST, path, Some(body), LONG_TIMEOUT).await?)
            .await
    }

    /// Sends a `DELETE`, and waits for the whole answer.
    ///
    /// # Errors
    /// When no daemon answers, or its answer breaks off.
    pub async fn delete(&self, path: &str) -> anyhow::Result<DaemonAnswer> {
        self.read(self.send(Method::DELETE, path, None, LONG_TIMEOUT).await?)
            .await
    }

    /// Sends a `POST`, and waits for the whole answer.
    ///
    /// # Errors
    /// When no daemon answers, or its answer breaks off.
    pub async fn post(&self, path: &str) -> anyhow::Result<DaemonAnswer> {
        self.read(self.send(Method::POST, path, None, LONG_TIMEOUT).await?)
            .await
    }

    /// The list member `name` of an answer, and the cursor of the next page.
    ///
    /// # Errors
    /// When no daemon answers, or the answer has no such list.
    pub async fn list(&self, path: &str, name: &str) -> anyhow::Result<(Vec<Value>, Option<String>)> {
        let answer = self.send(Method::GET, path, None, LIST_TIMEOUT).await?;
        let mut page = self.read(answer).await?;
        if !page.is_ok() {
            return Err(self.refusal(&page));
        }
        let Some(Value::Array(listed)) = page.body.get_mut(name).map(Value::take) else {
            return Err(self.foreign(&page));
        };
        Ok((listed, page.body["next"].as_str().map(str::to_owned)))
    }

    /// The page of the list `name` after a cursor, and the cursor of the next page.
    ///
    /// # Errors
    /// When no daemon answers, or the answer has no such list.
    pub async fn page(
        &self,
        name: &str,
        parameters: &[(&str, &str)],
        after: Option<&str>,
    ) -> anyhow::Result<(Vec<Value>, Option<String>)> {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query
            .extend_pairs(parameters)
            .extend_pairs(after.map(|after| ("after", after)));
        let path = format!("/api/{name}?{}", query.finish());
        self.list(path.trim_end_matches('?'), name).await
    }

    /// The error for an answer that the daemon does not give: no daemon answers there.
    #[must_use]
    pub fn foreign(&self, answer: &DaemonAnswer) -> anyhow::Error {
        let advice = match &self.route {
            Route::Socket(_) => "",
            Route::Http { .. } => "; check the address",
            Route::Url { .. } => "; check --url",
        };
        let reason = format!(
            "the answer, with status {}, is not from backfill-watch{advice}",
            answer.status
        );
        self.failure(&reason, exit::UNREACHABLE).into()
    }

    /// The error for a change that the daemon does not make: exit code 2. Without an answer of the daemon it is 3.
    #[must_use]
    pub fn refused_change(&self, answer: &DaemonAnswer) -> anyhow::Error {
        if !answer.is_problem() {
            return self.foreign(answer);
        }
        let reason = format!("it answered {}: {}", answer.status, answer.detail());
        self.failure(&reason, exit::USAGE).into()
    }

    /// The error for an answer without success: exit code 1 without a valid token, otherwise 3.
    #[must_use]
    pub fn refusal(&self, answer: &DaemonAnswer) -> anyhow::Error {
        let is_locked = [401, 403].contains(&answer.status);
        if let (true, Some(unusable)) = (is_locked, &self.unusable) {
            return unusable.failure().into();
        }
        let mut reason = format!("it answered {}: {}", answer.status, answer.detail());
        if let Route::Http {
            token: Err(Some(error)),
            ..
        } = &self.route
            && is_locked
        {
            reason = format!("{reason}; {error}; {RUN_AS_ROOT}");
        }
        let code = if is_locked {
            exit::FAILED
        } else {
            exit::UNREACHABLE
        };
        self.failure(&reason, code).into()
    }

    async fn read(&self, answer: Response) -> anyhow::Result<DaemonAnswer> {
        let status = answer.status().as_u16();
        let body = answer.bytes().await.map_err(|error| {
            let reason = format!("its answer was cut off: {}", chain(&error.without_url()));
            self.failure(&reason, exit::UNREACHABLE)
        })?;
        let body = serde_json::from_slice(&body).unwrap_or_default();
        Ok(DaemonAnswer { status, body })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        timeout: Duration,
    ) -> anyhow::Result<Response> {
        let url = match &self.route {
            Route::Socket(_) => format!("http://localhost{path}"),
            Route::Http { address, .. } => format!("http://{address}{path}"),
            Route::Url { base, .. } => format!("{}{path}", base.as_str().trim_end_matches('/')),
        };
        let mut request = self.client.request(method, url).timeout(timeout);
        if let Route::Http { token: Ok(token), .. } | Route::Url { token, .. } = &self.route {
            request = request.bearer_auth(token.expose_secret());
        }
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let mut repeats = 0..REPEATS;
        loop {
            let repeated = request.try_clone().filter(|_| repeats.next().is_some());
            match (request.send().await, repeated) {
                (Ok(answer), _) => return Ok(answer),
                (Err(error), _) if error.is_connect() => {
                    return Err(self.no_answer(&chain(&error.without_url())).into());
                }
                // A busy daemon closes idle connections. Every request can be repeated.
                (Err(error), Some(repeated)) if !error.is_timeout() => request = repeated,
                (Err(error), _) => {
                    let reason = chain(&error.without_url());
                    return Err(self.failure(&reason, exit::UNREACHABLE).into());
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The failure when the connection is refused.
    fn no_answer(&self, reason: &str) -> Failure {
        if let Some(unusable) = &self.unusable {
            return unusable.failure();
        }
        let message = match &self.route {
            Route::Socket(path) => format!("no daemon answers at {}: it has just stopped", path.display()),
            Route::Http {
                address, searched, ..
            } => format!(
                "no daemon answers at {address}{searched}; start it, or use --config, --state-dir or --listen of another \
                 daemon"
            ),
            Route::Url { base, .. } => format!("no daemon answers at {base}: {reason}; check --url"),
        };
        Failure {
            message,
            code: exit::UNREACHABLE,
        }
    }

    fn failure(&self, reason: &str, code: u8) -> Failure {
        let message = format!("request to the daemon at {} failed: {reason}", self.place());
        Failure { message, code }
    }
}

fn client(builder: ClientBuilder) -> anyhow::Result<Client> {
    builder
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("cannot build the HTTP client")
}

/// The address to connect to for a daemon that listens on `listen`, which may be unspecified.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listen.port())
}

/// A token that may read, or why it cannot be read; `None` if none is configured.
fn read_token(http: &HttpSettings) -> Result<SecretString, Option<String>> {
    let source = http.tokens.as_ref().or(http.write_tokens.as_ref()).ok_or(None)?;
    let tokens = source.read_tokens().map_err(|error| Some(chain(&error)))?;
    tokens.into_iter().next().ok_or(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_daemon_refuses_a_change() {
        let base = Url::parse("http://127.0.0.1:1/").unwrap();
        let daemon = Daemon::at_url(base, SecretString::from("token")).unwrap();
        let code = |status: u16, body: Value| {
            let error = daemon.refused_change(&DaemonAnswer { status, body });
            error.downcast_ref::<Failure>().unwrap().code
        };
        for status in [400, 409, 503] {
            let body = serde_json::json!({"title": "t", "status": status, "detail": "d"});
            assert_eq!(code(status, body), exit::USAGE, "{status}");
        }
        for (status, body) in [
            (200, serde_json::json!({"ok": 1})),
            (404, Value::Null),
            (502, serde_json::json!({"status": 500, "detail": "d"})),
        ] {
            assert_eq!(code(status, body), exit::UNREACHABLE, "{status}");
        }
    }

    #[test]
    fn an_unspecified_address_becomes_loopback() {
        let reached = |listen: &str| reachable(listen.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:8464"), "127.0.0.1:8464");
        assert_eq!(reached("[::]:8464"), "[::1]:8464");
        assert_eq!(reached("10.0.0.7:8464"), "10.0.0.7:8464");
    }

    #[test]
    fn a_client_needs_no_certificates() {
        client(Client::builder().unix_socket("/nowhere").tls_certs_only([])).unwrap();
    }
}
