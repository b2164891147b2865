//! Checks the API keys of all projects, for `check --live`.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::board::{Board, ProjectView};
use crate::core::key_verdict::KeyVerdict;

/// The time limit for the gate and the request together.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The result for one project.
#[derive(Debug, Serialize)]
pub(super) struct KeyCheck {
    project: Arc<str>,
    #[serde(flatten)]
    verdict: KeyVerdict,
}

/// Asks the API about each project's key.
pub(super) async fn check_keys(board: &Board) -> Vec<KeyCheck> {
    let mut asking = tokio::task::JoinSet::new();
    let mut checks = Vec::new();
    for view in board.projects() {
        match known(&view) {
            Some(verdict) => checks.push(KeyCheck {
                project: view.name,
                verdict,
            }),
            None => {
                let question = board.check_key(&view.name);
                asking.spawn(async move {
                    let verdict = match tokio::time::timeout(TIMEOUT, question).await {
                        Ok(Ok(verdict)) => verdict,
                        Ok(Err(unavailable)) => KeyVerdict::Unknown(unavailable.to_string()),
                        Err(_) => KeyVerdict::Unknown(format!(
                            "no answer within {} s; other requests of the project may be queued before this one",
                            TIMEOUT.as_secs()
                        )),
                    };
                    KeyCheck {
                        project: view.name,
                        verdict,
                    }
                });
            }
        }
    }
    checks.extend(asking.join_all().await);
    checks.sort_by(|a, b| a.project.cmp(&b.project));
    checks
}

/// A verdict that needs no request: while the key is rejected or the project paused, the gate stays closed.
fn known(view: &ProjectView) -> Option<KeyVerdict> {
    let reason = || view.api.rejection.as_deref().unwrap_or_default().to_owned();
    if view.api.rejected.is_some() {
        return Some(KeyVerdict::Rejected(reason()));
    }
    view.api
        .pause
        .as_ref()
        .map(|pause| KeyVerdict::Unknown(pause.reason.to_string()))
}
