//! `backfill-watch status`: what the running daemon watches.

mod attention;
mod table;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Client, Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use super::output::Output;
use super::{Failure, exit};
use crate::clock;
use crate::config::{Environment, Overrides, SecretSource, Settings};
use crate::error::chain;

const AFTER_HELP: &str = "\
Examples:
  backfill-watch status
  backfill-watch status --json | jq -r '.operations[] | select(.phase == \"failed\") | .operationId'

In a Dockerfile:
  HEALTHCHECK CMD [\"backfill-watch\", \"status\", \"--check\"]

Exit codes: 0 all is well; 1 something is wrong (with --strict, or anything needs attention), or with --check the daemon \
is not alive; 2 usage or settings; 3 no daemon answers.";

/// How long the daemon may take for an answer; health checks are given up by others after as long.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Show what the running daemon watches
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct StatusArgs {
    /// Read settings from this file instead of /etc/backfill-watch/config.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where the daemon serves its pages; by default as the settings say
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,

    /// One JSON object with what /api/attention and /api/operations answer
    #[arg(long)]
    json: bool,

    /// Exit with 1 if anything needs attention, not only errors
    #[arg(long)]
    strict: bool,

    /// Only tell by the exit code whether the daemon is alive: 0 or 1, no output
    #[arg(long, conflicts_with_all = ["json", "strict"])]
    check: bool,
}

/// Where the daemon answers, and how to ask it.
struct Daemon {
    client: Client,
    address: SocketAddr,
    token: Option<SecretString>,
}

/// Asks the daemon, and shows what it says.
///
/// # Errors
/// When settings are wrong, or no daemon answers.
pub async fn run(args: StatusArgs) -> anyhow::Result<ExitCode> {
    if args.check {
        let is_alive = check(&args).await.unwrap_or(false);
        return Ok(ExitCode::from(if is_alive { 0 } else { exit::FAILED }));
    }
    let daemon = Daemon::find(&args)?;
    let attention = daemon.list("/api/attention", "attention").await?.0;
    let operations = daemon.operations().await?;
    let has_errors = attention.iter().any(|entry| entry["severity"] == "error");
    let must_fail = has_errors || (args.strict && !attention.is_empty());
    let mut out = Output::stdout();
    if args.json {
        let all = serde_json::json!({ "attention": attention, "operations": operations, "next": null });
        out.json(&format!("{all}\n"))?;
    } else {
        out.text(&attention::render(&attention, clock::wall()))?;
        out.text(&table::render(&operations, clock::wall()))?;
    }
    out.flush()?;
    Ok(ExitCode::from(if must_fail { exit::FAILED } else { 0 }))
}

async fn check(args: &StatusArgs) -> anyhow::Result<bool> {
    let daemon = Daemon::find(args)?;
    let answer = daemon.get("/livez").await?;
    Ok(answer.status() == StatusCode::OK)
}

impl Daemon {
    fn find(args: &StatusArgs) -> anyhow::Result<Self> {
        let overrides = Overrides {
            listen: args.listen.clone(),
            ..Overrides::default()
        };
        let loaded = Settings::load_to_look(args.config.as_deref(), &Environment::capture(), &overrides)?;
        let http = loaded.settings.http;
        let Some(listen) = http.listen else {
            bail!("the daemon serves no pages (http.listen is \"off\"), so it cannot be asked");
        };
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .build()
            .context("cannot build the HTTP client")?;
        Ok(Self {
            client,
            address: reachable(listen),
            token: http.token.as_ref().and_then(read_token),
        })
    }

    async fn operations(&self) -> anyhow::Result<Vec<Value>> {
        let mut operations = Vec::new();
        let mut path = "/api/operations".to_owned();
        loop {
            let (listed, next) = self.list(&path, "operations").await?;
            operations.extend(listed);
            match next {
                // Cursors are made of characters that a query takes as they are.
                Some(next) => path = format!("/api/operations?after={next}"),
                None => return Ok(operations),
            }
        }
    }

    /// The list of that name, and the cursor of its next page.
    async fn list(&self, path: &str, name: &str) -> anyhow::Result<(Vec<Value>, Option<String>)> {
        let answer = self.get(path).await?;
        let status = answer.status();
        let body = answer
            .bytes()
            .await
            .with_context(|| self.broken("its answer broke off"))?;
        let mut page: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status != StatusCode::OK {
            let detail = page["detail"].as_str().unwrap_or("it does not say why");
            bail!("{}", self.broken(&format!("it answered {status}: {detail}")));
        }
        let Value::Array(listed) = page[name].take() else {
            bail!("{}", self.broken("what answers there is no backfill-watch"));
        };
        Ok((listed, page["next"].as_str().map(str::to_owned)))
    }

    async fn get(&self, path: &str) -> anyhow::Result<Response> {
        let request = self.client.get(format!("http://{}{path}", self.address));
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        };
        match request.send().await {
            Ok(answer) => Ok(answer),
            Err(error) if error.is_connect() => {
                let message = format!(
                    "no daemon answers at {}: is it running, and is this its http.listen? (--config and --listen say \
                     where to look)",
                    self.address
                );
                Err(Failure {
                    message,
                    code: exit::UNREACHABLE,
                }
                .into())
            }
            Err(error) => bail!("{}", self.broken(&chain(&error.without_url()))),
        }
    }

    fn broken(&self, what: &str) -> String {
        format!("the daemon at {} cannot be asked: {what}", self.address)
    }
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

/// The token, where it may be read; else the daemon says that it is missing.
fn read_token(source: &SecretSource) -> Option<SecretString> {
    match source.read_line() {
        Ok(token) => Some(token),
        Err(error) => {
            tracing::debug!(error = chain(&error), "the token cannot be read");
            None
        }
    }
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
}
