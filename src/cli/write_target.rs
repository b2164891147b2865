//! The daemon that `add` and `remove` change, and why it refuses.

use std::path::PathBuf;

use anyhow::Context as _;
use url::Url;

use super::daemon::{Daemon, DaemonAnswer};
use super::output::notice;
use super::{DaemonArgs, Failure, exit};
use crate::config::{SecretSource, is_loopback};
use crate::core::watch_list::LineProblem;

/// Which daemon to change.
#[derive(Debug, clap::Args)]
pub struct WriteTargetArgs {
    #[command(flatten)]
    daemon: DaemonArgs,

    /// Use HTTP at this URL instead of the control socket
    #[arg(long, value_name = "URL", value_parser = web_address, requires = "token_file", conflicts_with_all = ["config", "state_dir"])]
    url: Option<Url>,

    /// A file with a token of http.write_token_file of that daemon
    #[arg(long, value_name = "FILE", requires = "url")]
    token_file: Option<PathBuf>,
}

impl WriteTargetArgs {
    /// The daemon.
    ///
    /// # Errors
    /// When no control socket can be opened, or the token cannot be read.
    pub async fn open(&self) -> anyhow::Result<Daemon> {
        let (Some(url), Some(file)) = (&self.url, &self.token_file) else {
            return Daemon::by_socket(&self.daemon).await;
        };
        let source = SecretSource::File(file.clone());
        let tokens = tokio::task::spawn_blocking(move || source.read_tokens()).await?;
        let token = match tokens.map(|tokens| tokens.into_iter().next()) {
            Ok(token) => token.context("there is no token in --token-file")?,
            Err(error) => {
                return Err(refusal(format!(
                    "{}; check --token-file",
                    crate::error::chain(&error)
                )));
            }
        };
        if url.scheme() == "http" && !is_loopback(url) {
            notice("warning: the token is sent without encryption; use an https URL");
        }
        Daemon::at_url(url.clone(), token)
    }
}

/// An `http` or `https` URL without credentials, query and fragment.
fn web_address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text)
        .map_err(|error| format!("not a URL ({error}); use one such as http://127.0.0.1:8464"))?;
    let has_more = !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some();
    if !matches!(url.scheme(), "http" | "https") || has_more {
        return Err("use a URL such as http://127.0.0.1:8464, without a user, `?` and `#`".to_owned());
    }
    Ok(url)
}

/// The path of an operation in the API.
#[must_use]
pub fn operation_path(project: &str, id: &str) -> String {
    let mut path = Url::parse("http://localhost/api/operations").expect("it is a URL");
    path.path_segments_mut()
        .expect("an http URL has a path")
        .push(project)
        .push(id);
    path.path().to_owned()
}

/// A refusal by this program.
#[must_use]
pub fn refusal(message: String) -> anyhow::Error {
    Failure {
        message,
        code: exit::USAGE,
    }
    .into()
}

/// An argument that a watch list would not accept.
#[must_use]
pub fn bad_argument(argument: &str, problem: &LineProblem) -> anyhow::Error {
    refusal(format!("{argument}: {problem}"))
}

/// The error for an answer without success. The reasons of a refusal are printed before it.
#[must_use]
pub fn refused(daemon: &Daemon, answer: &DaemonAnswer) -> anyhow::Error {
    if !answer.is_problem() || !(400..500).contains(&answer.status) {
        return daemon.refused_change(answer);
    }
    let errors = answer.body["errors"].as_array().into_iter().flatten();
    let mut has_reasons = false;
    for error in errors {
        let pointer = error["pointer"].as_str().unwrap_or_default();
        let member = pointer
            .trim_start_matches("/operations/0")
            .trim_start_matches('/');
        notice(&format!(
            "{member}: {}",
            error["detail"].as_str().unwrap_or_default()
        ));
        has_reasons = true;
    }
    refusal(match has_reasons {
        true => "refused by the daemon; see above".to_owned(),
        false => format!("refused by the daemon: {}", answer.detail()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_in_a_path() {
        assert_eq!(
            operation_path("my project/a", "op-1"),
            "/api/operations/my%20project%2Fa/op-1"
        );
    }

    #[test]
    fn a_url_has_no_more_than_a_path() {
        for url in [
            "http://127.0.0.1:8464",
            "https://ops.example.com/backfills/",
            "http://[::1]:1/",
        ] {
            assert!(web_address(url).is_ok(), "{url}");
        }
        for url in [
            "127.0.0.1:8464",
            "ops",
            "ftp://a/",
            "http://u:p@a/",
            "http://a/?x",
            "http://a/#x",
            "",
        ] {
            assert!(web_address(url).is_err(), "{url}");
        }
    }
}
