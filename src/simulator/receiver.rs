//! A simulated webhook receiver: verifies and keeps callbacks, and answers with configured faults.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router, routing};
use hyper::body::Bytes;
use hyper::{HeaderMap, StatusCode, Uri};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::fault::Faults;
use super::fault_injector::FaultInjector;
use super::lock;
use super::request::RequestKind;
use super::server::{ClientConnection, Server};
use super::statistics::RequestCounts;
use super::verify::{ReceiverSecret, VerificationError, verify};
use crate::clock;

/// Settings of a receiver.
#[derive(Clone)]
pub struct ReceiverConfig {
    /// Where to listen: a loopback address; port 0 for any free one.
    pub listen: SocketAddr,
    /// The secrets that callbacks may be signed with.
    pub secrets: Vec<ReceiverSecret>,
    /// How many callbacks are kept, the latest ones.
    pub keep: usize,
    /// Called with each callback as it comes in, before it is answered. It must not block.
    pub on_callback: Option<OnCallback>,
}

/// A function to call with each callback.
pub type OnCallback = Arc<dyn Fn(&Callback) + Send + Sync>;

impl Default for ReceiverConfig {
    /// Any free port, no secret, so that nothing verifies, and 10,000 callbacks kept.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            secrets: Vec::new(),
            keep: 10_000,
            on_callback: None,
        }
    }
}

impl fmt::Debug for ReceiverConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiverConfig")
            .field("listen", &self.listen)
            .field("secrets", &self.secrets)
            .field("keep", &self.keep)
            .finish_non_exhaustive()
    }
}

/// A received `POST`, whatever the response.
#[derive(Debug, Clone)]
pub struct Callback {
    /// The path it was sent to.
    pub path: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, byte for byte.
    pub body: Bytes,
    /// When it arrived, by the wall clock.
    pub time: Timestamp,
    /// When it arrived, by the monotonic clock.
    pub instant: Instant,
    /// The result of the verification.
    pub verified: Result<(), VerificationError>,
}

impl Callback {
    /// The header `webhook-id`, empty if it is missing.
    #[must_use]
    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    /// The header `webhook-timestamp`, empty if it is missing.
    #[must_use]
    pub fn timestamp(&self) -> &str {
        self.header("webhook-timestamp")
    }

    /// The header `webhook-signature`, empty if it is missing.
    #[must_use]
    pub fn signature(&self) -> &str {
        self.header("webhook-signature")
    }

    /// The body as JSON, null if it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    fn header(&self, name: &str) -> &str {
        text(&self.headers, name).unwrap_or_default()
    }
}

/// A running receiver. Dropping it stops it, too, without waiting for its tasks.
#[derive(Debug)]
pub struct Receiver {
    state: Arc<ReceiverState>,
    server: Server,
}

/// State of the request handlers.
#[derive(Debug)]
struct ReceiverState {
    config: ReceiverConfig,
    injector: FaultInjector,
    callbacks: Mutex<VecDeque<Callback>>,
    /// The number of callbacks received, kept or not.
    count: watch::Sender<u64>,
}

impl Receiver {
    /// Starts a receiver. Without faults it answers every `POST` to any path with 200.
    ///
    /// # Errors
    /// When the address is not of the loopback interface or cannot be listened on.
    pub async fn start(config: ReceiverConfig) -> io::Result<Self> {
        let listen = config.listen;
        let state = Arc::new(ReceiverState {
            config,
            injector: FaultInjector::default(),
            callbacks: Mutex::default(),
            count: watch::Sender::new(0),
        });
        let app = Router::new()
            .fallback(routing::post(receive).fallback(refuse))
            .with_state(Arc::clone(&state));
        let server = Server::start(listen, app).await?;
        Ok(Self { state, server })
    }

    /// The URL to send to: `http://127.0.0.1:…/hook`. Any other path works, too.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.server.address())
    }

    /// Controls the responses; callbacks are named by path, such as `/hook`.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.state.injector.faults
    }

    /// The kept callbacks in the order of arrival.
    #[must_use]
    pub fn callbacks(&self) -> Vec<Callback> {
        lock(&self.state.callbacks).iter().cloned().collect()
    }

    /// The requests so far.
    #[must_use]
    pub fn requests(&self) -> RequestCounts {
        self.state.injector.statistics.snapshot()
    }

    /// Waits until at least `count` callbacks have arrived. Use it with a timeout.
    pub async fn received(&self, count: u64) {
        let mut counter = self.state.count.subscribe();
        // Cannot fail: `self` owns the sender.
        let _ = counter.wait_for(|so_far| *so_far >= count).await;
    }

    /// Closes all connections and waits until every task has ended.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

async fn receive(
    State(state): State<Arc<ReceiverState>>,
    Extension(connection): Extension<ClientConnection>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let now = clock::wall();
    let verified = verify(
        &state.config.secrets,
        text(&headers, "webhook-id"),
        text(&headers, "webhook-timestamp"),
        text(&headers, "webhook-signature"),
        &body,
        now,
    );
    let callback = Callback {
        path: uri.path().to_owned(),
        headers,
        body,
        time: now,
        instant: clock::instant(),
        verified,
    };
    if let Some(on_callback) = &state.config.on_callback {
        on_callback(&callback);
    }
    state.keep(callback);
    let normal = || Json(serde_json::json!({"received": true})).into_response();
    let request = RequestKind::Callback.named(uri.path());
    state.injector.answer(&request, &uri, &connection, normal).await
}

async fn refuse() -> StatusCode {
    StatusCode::METHOD_NOT_ALLOWED
}

impl ReceiverState {
    fn keep(&self, callback: Callback) {
        let mut callbacks = lock(&self.callbacks);
        callbacks.push_back(callback);
        if callbacks.len() > self.config.keep {
            callbacks.pop_front();
        }
        drop(callbacks);
        // After the callback is stored, so that waiting tests find it.
        self.count.send_modify(|count| *count += 1);
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
