//! How commands reach the running daemon: by its control socket, otherwise over HTTP.

mod search;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Client, ClientBuilder, Method, Response};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use self::search::{Unusable, remark, search, searched};
use super::{Failure, exit};
use crate::config::SecretSource;
use crate::error::chain;

/// How long the daemon may take for an answer; health checks are given up by others after as long.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take for what it has to do first. It answers after less.
const LONG_TIMEOUT: Duration = Duration::from_mins(1);

/// How often a request is repeated whose connection broke, and after which time.
const REPEATS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);

/// Which daemon is meant.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DaemonArgs {
    /// Read settings from this file instead of /etc/backfill-watch/config.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Ask the daemon that keeps its state in this folder; by default as the settings say
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,
}

/// Where a daemon answers, and how it is asked.
pub struct Daemon {
    client: Client,
    way: Way,
    /// Why its control socket could not be used, where that matters.
    unusable: Option<Unusable>,
}

enum Way {
    Socket(PathBuf),
    Http {
        address: SocketAddr,
        /// The token, or why there is none.
        token: Result<SecretString, Option<String>>,
        /// Where else it was looked for.
        searched: String,
    },
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its JSON; null where it is none.
    pub body: Value,
}

impl Reply {
    /// Whether what was asked for was done.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.status == 200
    }

    /// What problem details say.
    #[must_use]
    pub fn detail(&self) -> &str {
        self.body["detail"].as_str().unwrap_or("it does not say why")
    }
}

impl Daemon {
    /// The daemon by its control socket, for what it does only there.
    ///
    /// # Errors
    /// [`Failure`], when there is none, or this user may not open it.
    pub async fn by_socket(args: &DaemonArgs) -> anyhow::Result<Self> {
        let (search, located) = search(args, None).await;
        let Some(path) = search.found else {
            let failure = match &search.unusable {
                Some(unusable) => unusable.failure(),
                None => Failure {
                    message: format!(
                        "no daemon answers: {}; is it running? (--config and --state-dir say where to look){}",
                        searched(&search.folders),
                        remark(&located)
                    ),
                    code: exit::UNREACHABLE,
                },
            };
            return Err(failure.into());
        };
        Self::on_socket(path)
    }

    /// The daemon by its control socket, otherwise over HTTP; with `listen`, over HTTP at that address.
    ///
    /// # Errors
    /// [`Failure`], when there is none, or `listen` is no address.
    pub async fn find(args: &DaemonArgs, listen: Option<&str>) -> anyhow::Result<Self> {
        let (search, located) = search(args, listen).await;
        if let Some(path) = search.found {
            return Self::on_socket(path);
        }
        // A state directory names one daemon, and an address of the settings may be another's.
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
                    None => bail!("--listen names no address to ask at"),
                };
            }
            let message = format!(
                "no daemon answers: {}{}; is it running? (--config, --state-dir and --listen say where to look){}",
                searched(&search.folders),
                match located.http.listen {
                    None => ", and it serves no HTTP (http.listen is \"off\")",
                    Some(_) => "",
                },
                remark(&located)
            );
            return Err(Failure {
                message,
                code: exit::UNREACHABLE,
            }
            .into());
        };
        Ok(Self {
            client: client(Client::builder().no_proxy())?,
            way: Way::Http {
                address: reachable(address),
                token: read_token(located.http.token.as_ref()),
                searched: match &*search.folders {
                    [] => String::new(),
                    folders => format!(" ({}{})", searched(folders), remark(&located)),
                },
            },
            unusable: search.unusable,
        })
    }

    fn on_socket(path: PathBuf) -> anyhow::Result<Self> {
        Ok(Self {
            client: client(Client::builder().unix_socket(path.as_path()))?,
            way: Way::Socket(path),
            unusable: None,
        })
    }

    /// Asks for what is there, and gives the answer back as it comes.
    ///
    /// # Errors
    /// When no daemon answers.
    pub async fn get(&self, path: &str) -> anyhow::Result<Response> {
        self.send(Method::GET, path, TIMEOUT).await
    }

    /// Asks for something to be done, and waits until it is.
    ///
    /// # Errors
    /// When no daemon answers, or its answer breaks off.
    pub async fn post(&self, path: &str) -> anyhow::Result<Reply> {
        self.read(self.send(Method::POST, path, LONG_TIMEOUT).await?)
            .await
    }

    /// The list of that name, and the cursor of its next page.
    ///
    /// # Errors
    /// When no daemon answers, or not with such a list.
    pub async fn list(&self, path: &str, name: &str) -> anyhow::Result<(Vec<Value>, Option<String>)> {
        let mut page = self.read(self.get(path).await?).await?;
        if !page.is_ok() {
            return Err(self.refused(&page));
        }
        let Value::Array(listed) = page.body[name].take() else {
            return Err(self
                .failure("the answer is not from backfill-watch", exit::UNREACHABLE)
                .into());
        };
        Ok((listed, page.body["next"].as_str().map(str::to_owned)))
    }

    /// The error of an answer that is none: without the right token it is a failure, otherwise as if no daemon answered.
    pub fn refused(&self, reply: &Reply) -> anyhow::Error {
        let is_locked = [401, 403].contains(&reply.status);
        if let (true, Some(unusable)) = (is_locked, &self.unusable) {
            return unusable.failure().into();
        }
        let mut what = format!("it answered {}: {}", reply.status, reply.detail());
        if let Way::Http {
            token: Err(Some(error)),
            ..
        } = &self.way
            && is_locked
        {
            what = format!("{what}; {error}; run this as root, for example with sudo");
        }
        let code = if is_locked {
            exit::FAILED
        } else {
            exit::UNREACHABLE
        };
        self.failure(&what, code).into()
    }

    async fn read(&self, answer: Response) -> anyhow::Result<Reply> {
        let status = answer.status().as_u16();
        let body = answer.bytes().await.map_err(|error| {
            let what = format!("its answer broke off: {}", chain(&error.without_url()));
            self.failure(&what, exit::UNREACHABLE)
        })?;
        let body = serde_json::from_slice(&body).unwrap_or_default();
        Ok(Reply { status, body })
    }

    async fn send(&self, method: Method, path: &str, timeout: Duration) -> anyhow::Result<Response> {
        let host = match &self.way {
            Way::Socket(_) => "localhost".to_owned(),
            Way::Http { address, .. } => address.to_string(),
        };
        let request = self
            .client
            .request(method, format!("http://{host}{path}"))
            .timeout(timeout);
        let mut request = match &self.way {
            Way::Http { token: Ok(token), .. } => request.bearer_auth(token.expose_secret()),
            Way::Http { .. } | Way::Socket(_) => request,
        };
        let mut repeats = 0..REPEATS;
        loop {
            let repeated = request.try_clone().filter(|_| repeats.next().is_some());
            match (request.send().await, repeated) {
                (Ok(answer), _) => return Ok(answer),
                (Err(error), _) if error.is_connect() => return Err(self.silent().into()),
                // A busy daemon closes idle connections for new ones. All that is asked may be asked twice.
                (Err(error), Some(repeated)) if !error.is_timeout() => request = repeated,
                (Err(error), _) => {
                    let what = chain(&error.without_url());
                    return Err(self.failure(&what, exit::UNREACHABLE).into());
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Nobody listens.
    fn silent(&self) -> Failure {
        if let Some(unusable) = &self.unusable {
            return unusable.failure();
        }
        let message = match &self.way {
            Way::Socket(path) => format!("no daemon answers at {}: it has just ended", path.display()),
            Way::Http {
                address, searched, ..
            } => format!(
                "no daemon answers at {address}{searched}: is it running, and is this its http.listen? (--config, \
                 --state-dir and --listen say where to look)"
            ),
        };
        Failure {
            message,
            code: exit::UNREACHABLE,
        }
    }

    fn failure(&self, what: &str, code: u8) -> Failure {
        let message = match &self.way {
            Way::Socket(path) => format!("the daemon at {} cannot be asked: {what}", path.display()),
            Way::Http { address, .. } => format!("the daemon at {address} cannot be asked: {what}"),
        };
        Failure { message, code }
    }
}

/// Each of several problems of settings in an answer, as `check` prints it.
#[must_use]
pub fn problem_lines(problems: &Value) -> Vec<String> {
    let problems = problems.as_array().into_iter().flatten();
    let lines = problems.map(|problem| {
        let part = |name: &str, after: &str| match problem[name].as_str() {
            Some(text) if !text.is_empty() => format!("{text}{after}"),
            _ => String::new(),
        };
        let help = match &*part("help", "") {
            "" => String::new(),
            help => format!("\n    help: {help}"),
        };
        format!(
            "{}{}{}{help}",
            part("place", ": "),
            part("key", ": "),
            part("detail", "")
        )
    });
    lines.collect()
}

fn client(builder: ClientBuilder) -> anyhow::Result<Client> {
    builder
        .redirect(reqwest::redirect::Policy::none())
        // Never used, and an image may have no certificates.
        .tls_certs_only([])
        .build()
        .context("cannot build the HTTP client")
}

/// Where to ask a daemon that listens on `listen`: everywhere includes here.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listen.port())
}

/// The token, or why it cannot be read, where there is one; the daemon may not want it.
fn read_token(source: Option<&SecretSource>) -> Result<SecretString, Option<String>> {
    let source = source.ok_or(None)?;
    source.read_line().map_err(|error| Some(chain(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_listens_everywhere_is_asked_here() {
        let asked = |listen: &str| reachable(listen.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:8464"), "127.0.0.1:8464");
        assert_eq!(asked("[::]:8464"), "[::1]:8464");
        assert_eq!(asked("10.0.0.7:8464"), "10.0.0.7:8464");
    }

    #[test]
    fn problems_are_printed_like_those_of_the_settings() {
        let problems = serde_json::json!([
            {"key": "poll.max_interval", "place": "c.toml:3:16", "detail": "is odd", "help": "give a duration"},
            {"key": "", "detail": "all is lost", "help": ""},
        ]);
        assert_eq!(
            problem_lines(&problems),
            [
                "c.toml:3:16: poll.max_interval: is odd\n    help: give a duration",
                "all is lost"
            ]
        );
        assert!(problem_lines(&Value::Null).is_empty());
    }

    #[test]
    fn a_client_needs_no_certificates() {
        client(Client::builder().unix_socket("/nowhere")).unwrap();
    }
}
