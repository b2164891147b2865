//! The HTTP interface: health, metrics, JSON API, event stream, status page.
//!
//! `access` decides which requests are answered, before routing and before a body is read. Only requests that add watches
//! have a body. The control socket serves the same routes without tokens, plus its own.

mod access;
mod board_list;
mod chunked_body;
mod client_socket;
mod connection_slots;
mod control;
mod control_socket;
mod endpoints;
mod event_stream;
mod events;
mod groups;
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
mod projects;
mod request_body;
mod single_operation;
mod startup;
mod status_page;
mod stream_fanout;
mod tokens;
mod writes;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Router};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::core::connections::ConnectionClass;
use crate::health::{Health, Stage};
use crate::report::attention::AttentionList;
use crate::report::metrics::Metrics;
use crate::sources::api::{ApiClient, ApiHandle};
use crate::sources::watch_list::WatchListSnapshot;
use crate::store::Store;

pub use access::{Access, AccessRules, StatusPageAccess};
pub use control::{
    CheckReport, ControlRequest, ControlSender, ReloadRefusal, ReloadReport, SettingsProblem, WatchListReport,
};
pub use control_socket::{CONTROL_SOCKET, ControlError, ControlFile, ControlListener, ControlSocket};
pub use listener::{BindError, HttpListener, Serve};
pub use startup::StartupRouter;

use client_socket::ClientAddress;
use params::NoParams;
use problem::Problem;
use request_body::has_body;
use stream_fanout::{StreamFanout, StreamLimit};

/// How long a response on the control socket may take to begin: a check reads files, then asks the API.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(50);
/// How long a write may take: its body, the writes before it, the commit, and until the watches can be found.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a response on a reserved connection may take to begin.
const RESERVED_TIMEOUT: Duration = Duration::from_millis(900);

/// The data that the routes serve.
#[derive(Debug)]
pub struct ServedData {
    /// The read model of all watches.
    pub board: Arc<Board>,
    /// The state that health probes report.
    pub health: Arc<Health>,
    /// The metrics.
    pub metrics: Metrics,
    /// The event log and the outbox.
    pub store: Store,
    /// The attention list.
    pub attention: Arc<AttentionList>,
    /// The watch list.
    pub list: watch::Receiver<Arc<WatchListSnapshot>>,
    /// Adds and withdraws watches.
    pub api: ApiHandle,
    /// The configured projects, in the order of the settings.
    pub projects: watch::Receiver<Arc<[Arc<str>]>>,
    /// The runtime of the pollers.
    pub polling: Handle,
    /// Whether each operation has series of its own; a reload may change it.
    pub per_operation: Arc<AtomicBool>,
}

/// Serves the routes.
#[derive(Debug)]
pub struct HttpService {
    data: ServedData,
    fanout: StreamFanout,
    /// The writes that may be in progress.
    writes: Semaphore,
    /// Ends the event streams.
    closing: CancellationToken,
}

impl HttpService {
    /// A service for `data`; event streams end when `closing` is cancelled.
    #[must_use]
    pub fn new(data: ServedData, closing: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            fanout: StreamFanout::new(),
            writes: Semaphore::new(writes::MAX_AT_A_TIME),
            data,
            closing,
        })
    }

    /// Feeds the event streams until they close.
    pub async fn feed_streams(self: Arc<Self>) {
        let closing = self.closing.clone();
        closing.run_until_cancelled(self.fanout.run(&self.data)).await;
    }

    /// The routes of the network listener, with access control and at most `max_streams` event streams.
    pub fn network_routes(self: &Arc<Self>, access: Arc<Access>, max_streams: usize) -> Router {
        let pages = routes(Router::new());
        with_guard(pages, self, RequestOrigin::Network(access), max_streams)
    }

    /// The routes of the control socket; reloads and checks are sent to `control`.
    pub fn control_routes(self: &Arc<Self>, control: ControlSender) -> Router {
        let pages = routes(control::routes(control));
        with_guard(
            pages,
            self,
            RequestOrigin::Control,
            ControlListener::max_streams(),
        )
    }
}

/// Where a request came from.
#[derive(Debug, Clone)]
enum RequestOrigin {
    /// TCP, with access control.
    Network(Arc<Access>),
    /// The control socket, whose file mode is the access control.
    Control,
}

fn with_guard(
    pages: Router<Arc<HttpService>>,
    service: &Arc<HttpService>,
    origin: RequestOrigin,
    max_streams: usize,
) -> Router {
    pages
        .layer(Extension(Arc::new(StreamLimit::new(max_streams))))
        .layer(Extension(origin.clone()))
        .layer(middleware::from_fn_with_state(origin, guard))
        .with_state(Arc::clone(service))
}

fn routes(more: Router<Arc<HttpService>>) -> Router<Arc<HttpService>> {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text::metrics))
        .route("/api/attention", get(attention))
        .route("/api/groups", get(groups::list))
        .route("/api/projects", get(projects::list))
        .route("/api/operations", get(operations::list).post(writes::post))
        .route("/api/operations/{id}", get(operations::one))
        .route(
            "/api/operations/{project}/{id}",
            get(operations::of_project)
                .put(writes::put)
                .delete(writes::delete),
        )
        .route("/api/events", get(events::page))
        .route("/api/events/stream", get(event_stream::stream))
        .route("/api/webhooks", get(endpoints::list))
        .merge(status_page::routes())
        .merge(more)
        .fallback(async || {
            Problem::new(
                StatusCode::NOT_FOUND,
                "there is nothing at this path; see the documentation of the HTTP API",
            )
        })
        .method_not_allowed_fallback(async || {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path has other methods; the header `Allow` lists them",
            )
        })
}

/// Wraps every request and response: bodies, access, time limits, headers.
async fn guard(State(origin): State<RequestOrigin>, mut request: Request, next: Next) -> Response {
    // Requests that did not come over a listener have no slot (tests).
    let class = request
        .extensions()
        .get()
        .copied()
        .unwrap_or(ConnectionClass::Regular);
    let is_write = writes::is_write(request.method(), request.uri().path());
    let has_body = has_body(request.headers());
    let mut response = if has_body && !is_write {
        request_body::unexpected().into_response()
    } else if class == ConnectionClass::Reserved && !access::OPEN_PATHS.contains(&request.uri().path()) {
        let detail =
            "all connections are in use; only /livez, /readyz and /metrics are answered now; try again later";
        close(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response())
    } else {
        let (judged, limit) = match &origin {
            RequestOrigin::Network(access) if is_write => (access.judge_write(&request), WRITE_TIMEOUT),
            RequestOrigin::Network(access) => (access.judge(&request), chunked_body::CHUNK_TIMEOUT),
            RequestOrigin::Control => (Ok(()), CONTROL_TIMEOUT),
        };
        match (judged, class) {
            (Err(refusal), _) => refusal.into_response(),
            (Ok(()), ConnectionClass::Regular) => {
                if is_write {
                    let client = api_client(&origin, &request);
                    request.extensions_mut().insert(client);
                }
                answer(request, next, limit).await
            }
            (Ok(()), ConnectionClass::Reserved) => answer(request, next, RESERVED_TIMEOUT).await,
        }
    };
    if has_body && !response.status().is_success() {
        // The body may be unread: its bytes must not be taken for a request.
        response = close(response);
    }
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
            "the response took too long; is the disk with the state slow?",
        )
        .into_response(),
    }
}

/// Who sends a request that may write.
fn api_client(origin: &RequestOrigin, request: &Request) -> ApiClient {
    let address = match (origin, request.extensions().get()) {
        (RequestOrigin::Network(_), Some(ClientAddress(Some(address)))) => address.to_string(),
        (RequestOrigin::Network(_), _) => "unknown".to_owned(),
        (RequestOrigin::Control, _) => "control socket".to_owned(),
    };
    ApiClient {
        method: request.method().to_string(),
        address,
    }
}

/// A response after which the connection is closed.
fn close(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
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

async fn attention(_: NoParams, State(service): State<Arc<HttpService>>) -> Response {
    let entries = service.data.attention.entries().await;
    problem::json(&serde_json::json!({ "attention": entries }))
}

async fn livez(State(service): State<Arc<HttpService>>) -> Response {
    match service.data.health.check_patiently().await {
        Ok(()) => plain("alive\n"),
        // Details are in the log and in the API, which needs a token.
        Err(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "due polls do not start or do not finish; see the log",
        )
        .into_response(),
    }
}

async fn readyz(State(service): State<Arc<HttpService>>) -> Response {
    let detail = match service.data.health.stage() {
        Stage::Ready => return plain("ready\n"),
        Stage::Starting => "starting: the watch list was not read yet",
        Stage::Stopping => "stopping",
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response()
}

fn plain(text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}
