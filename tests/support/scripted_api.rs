//! An API with answers that a test computes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The API. Dropping it ends it.
pub struct ScriptedApi {
    address: SocketAddr,
    polls: Arc<Mutex<BTreeMap<String, u64>>>,
    task: JoinHandle<()>,
}

impl ScriptedApi {
    /// Answers each poll with the operation that `answer` gives for its ID and its number, from 0; without one, with a 500.
    pub async fn start(answer: impl Fn(&str, u64) -> Option<Value> + Send + Sync + 'static) -> Self {
        Self::with_installations(answer, |_| None).await
    }

    /// As [`ScriptedApi::start`], and answers each request for an installation with what `installation` gives for its ID.
    pub async fn with_installations(
        answer: impl Fn(&str, u64) -> Option<Value> + Send + Sync + 'static,
        installation: impl Fn(&str) -> Option<Value> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let polls: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
        let counted = Arc::clone(&polls);
        let answers = Arc::new((answer, installation));
        let app = Router::new().fallback(move |uri: Uri| {
            let response = match uri.path().split_once("/installations/") {
                Some((_, id)) => body((answers.1)(id)),
                None => respond(uri.path(), &counted, &answers.0),
            };
            async move { response }
        });
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, polls, task }
    }

    /// The base URL for the daemon.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// How often an operation was polled.
    pub fn polls(&self, id: &str) -> u64 {
        self.polls.lock().unwrap().get(id).copied().unwrap_or(0)
    }
}

impl Drop for ScriptedApi {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn respond(
    path: &str,
    polls: &Mutex<BTreeMap<String, u64>>,
    answer: &impl Fn(&str, u64) -> Option<Value>,
) -> Response {
    let Some((_, id)) = path.split_once("/operations/") else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let found = if id.ends_with("/logs") {
        Some(json!([]))
    } else {
        let mut polls = polls.lock().unwrap();
        let number = polls.entry(id.to_owned()).or_default();
        *number += 1;
        answer(id, *number - 1)
    };
    body(found)
}

fn body(found: Option<Value>) -> Response {
    match found {
        Some(body) => axum::Json(body).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// An operation with this status and this metadata.
pub fn operation(id: &str, status: &str, metadata: Value) -> Option<Value> {
    Some(json!({
        "id": id, "projectId": "p", "integrationId": "i", "configId": "c", "installationId": "n",
        "actionType": "read", "status": status, "metadata": metadata,
    }))
}

/// A running operation with so many records, of so many that are estimated.
pub fn counting(id: &str, processed: u64, total: u64) -> Option<Value> {
    let progress = json!({"recordsProcessed": processed, "recordsEstimatedTotal": total});
    operation(id, "in_progress", json!({"progress": progress}))
}
