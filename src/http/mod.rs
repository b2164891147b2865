//! The daemon's own pages: health, metrics, JSON, the event stream, the status page.
//!
//! Over TCP everything is read-only. No page takes a request body. Who may see what is decided in one place (`access`),
//! before any page is searched. The same pages are on the control socket, without tokens, with what exists there only.

mod access;
mod chunked_body;
mod client_socket;
mod connection_slots;
mod control;
mod control_socket;
mod endpoints;
mod event_stream;
mod events;
mod json_list;
mod key_check;
mod listener;
mod log_reader;
mod metrics_text;
mod operation_view;
mod operations;
mod pacing;
mod params;
mod problem;
mod startup;
mod status_page;
mod stream_fanout;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Router};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::core::connections::ConnectionClass;
use crate::health::{Health, Stage};
use crate::report::attention::AttentionList;
use crate::report::metrics::Metrics;
use crate::store::Store;
use crate::watch_list::WatchListSnapshot;

pub use access::{Access, AccessRules, StatusPageAccess};
pub use control::{
    CheckReport, ControlRequest, ControlSender, ReloadRefusal, ReloadReport, SettingsProblem, WatchListReport,
};
pub use control_socket::{CONTROL_SOCKET, ControlError, ControlFile, ControlListener, ControlSocket};
pub use listener::{BindError, HttpListener, Serve};
pub use startup::StartupRouter;

use problem::Problem;
use stream_fanout::{StreamFanout, StreamLimit};

/// How long an answer of the control socket may take to begin: a check reads files, then asks the API.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(50);
/// How long an answer may take to begin where other clients wait for the place.
const RESERVED_TIMEOUT: Duration = Duration::from_millis(900);

/// What the pages show.
#[derive(Debug)]
pub struct ServedData {
    /// Every listed watch.
    pub board: Arc<Board>,
    /// What probes are told.
    pub health: Arc<Health>,
    /// What is measured.
    pub metrics: Metrics,
    /// The event log and the outbox.
    pub store: Store,
    /// What is wrong now.
    pub attention: Arc<AttentionList>,
    /// The watch list.
    pub list: watch::Receiver<Arc<WatchListSnapshot>>,
    /// The runtime that polls.
    pub polling: Handle,
    /// Whether each operation gets metrics of its own; a reload may change it.
    pub per_operation: Arc<AtomicBool>,
}

/// The pages.
#[derive(Debug)]
pub struct HttpService {
    sources: ServedData,
    hub: StreamFanout,
    /// Ends the event streams.
    closing: CancellationToken,
}

impl HttpService {
    /// The pages of `sources`; event streams end when `closing` is cancelled.
    #[must_use]
    pub fn new(sources: ServedData, closing: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            hub: StreamFanout::new(),
            sources,
            closing,
        })
    }

    /// Feeds the event streams until they close.
    pub async fn feed(self: Arc<Self>) {
        let closing = self.closing.clone();
        closing.run_until_cancelled(self.hub.feed(&self.sources)).await;
    }

    /// What answers requests over the network, by the rules of `access`, with at most `max_streams` event streams.
    pub fn on_network(self: &Arc<Self>, access: Arc<Access>, max_streams: usize) -> Router {
        let pages = pages(Router::new(), READ_ONLY);
        with_guard(pages, self, RequestOrigin::Network(access), max_streams)
    }

    /// What answers requests over the control socket; reloads and checks go to `orders`.
    pub fn on_control_socket(self: &Arc<Self>, orders: ControlSender) -> Router {
        let pages = pages(control::routes(orders), CONTROL_METHODS);
        with_guard(
            pages,
            self,
            RequestOrigin::Control,
            ControlListener::max_streams(),
        )
    }
}

/// Says which methods there are.
const READ_ONLY: &str = "everything here is read-only: use GET";
const CONTROL_METHODS: &str = "use POST for /api/reload and /api/check, and GET for everything else";

/// The way that a request came.
#[derive(Debug, Clone)]
enum RequestOrigin {
    /// Over TCP, where rules decide who may see what.
    Network(Arc<Access>),
    /// Over the control socket, where the mode of the file has decided.
    Control,
}

fn with_guard(
    pages: Router<Arc<HttpService>>,
    site: &Arc<HttpService>,
    door: RequestOrigin,
    max_streams: usize,
) -> Router {
    pages
        .layer(Extension(Arc::new(StreamLimit::new(max_streams))))
        .layer(middleware::from_fn_with_state(door, guard))
        .with_state(Arc::clone(site))
}

fn pages(more: Router<Arc<HttpService>>, methods: &'static str) -> Router<Arc<HttpService>> {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text::metrics))
        .route("/api/attention", get(attention))
        .route("/api/operations", get(operations::list))
        .route("/api/operations/{id}", get(operations::one))
        .route("/api/events", get(events::page))
        .route("/api/events/stream", get(event_stream::stream))
        .route("/api/webhooks", get(endpoints::list))
        .merge(status_page::routes())
        .merge(more)
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is no such page"))
        .method_not_allowed_fallback(async move || Problem::new(StatusCode::METHOD_NOT_ALLOWED, methods))
}

/// What every request passes and every answer gets.
async fn guard(State(door): State<RequestOrigin>, request: Request, next: Next) -> Response {
    // A request that did not come over a listener has no place: nobody waits for it.
    let place = request
        .extensions()
        .get()
        .copied()
        .unwrap_or(ConnectionClass::Regular);
    let mut response = if has_body(request.headers()) {
        // The body is never read, so the connection cannot go on: what follows might be taken for a request.
        let detail = "nothing here takes a request body; leave it out";
        close(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail))
    } else if place == ConnectionClass::Reserved && !access::OPEN.contains(&request.uri().path()) {
        let detail = "all connections are in use; only /livez, /readyz and /metrics are answered now";
        close(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail))
    } else {
        let (judged, limit) = match &door {
            RequestOrigin::Network(access) => (access.judge(&request), chunked_body::CHUNK_TIMEOUT),
            RequestOrigin::Control => (Ok(()), CONTROL_TIMEOUT),
        };
        match (judged, place) {
            (Err(refusal), _) => refusal.into_response(),
            (Ok(()), ConnectionClass::Regular) => answer(request, next, limit).await,
            (Ok(()), ConnectionClass::Reserved) => answer(request, next, RESERVED_TIMEOUT).await,
        }
    };
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        headers.insert(name.clone(), HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn answer(request: Request, next: Next, limit: Duration) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the answer took too long: is the disk with the state slow?",
        )
        .into_response(),
    }
}

/// The answer after which the connection is closed.
fn close(problem: Problem) -> Response {
    let mut response = problem.into_response();
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn has_body(headers: &HeaderMap) -> bool {
    let is_empty = |length: &HeaderValue| length.as_bytes() == b"0";
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers
            .get_all(header::CONTENT_LENGTH)
            .iter()
            .any(|length| !is_empty(length))
}

const SECURITY_HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
];

async fn attention(State(site): State<Arc<HttpService>>) -> Response {
    let entries = site.sources.attention.entries().await;
    problem::json(&serde_json::json!({ "attention": entries }))
}

async fn livez(State(site): State<Arc<HttpService>>) -> Response {
    match site.sources.health.check_patiently().await {
        Ok(()) => plain("alive\n"),
        // Which poll it is stands in the log and behind the token, not here.
        Err(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "polls that are due are not started or not finished",
        )
        .into_response(),
    }
}

async fn readyz(State(site): State<Arc<HttpService>>) -> Response {
    let detail = match site.sources.health.stage() {
        Stage::Ready => return plain("ready\n"),
        Stage::Starting => "starting: the watch list was not looked at yet",
        Stage::Stopping => "stopping",
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response()
}

fn plain(text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}
