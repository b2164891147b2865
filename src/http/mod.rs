//! The daemon's own pages: health, metrics, JSON, the event stream, the status page.
//!
//! Everything is read-only and takes no request body. Whoever may see what is decided in one place (`access`),
//! before any page is looked for.

mod access;
mod endpoints;
mod events;
mod hub;
mod impatient;
mod listener;
mod operation;
mod operations;
mod page;
mod params;
mod problem;
mod stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::error::chain;
use crate::health::{Health, Stage};
use crate::report::metrics::{self, Metrics, Scrape};
use crate::store::Store;
use crate::watch_list::Snapshot;

pub use access::Access;
pub use listener::{BindError, Listener};

use hub::Hub;
use problem::Problem;

/// How long a page may take to make; the disk may be slow.
const PAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the pages show.
#[derive(Debug)]
pub struct Sources {
    /// Every listed watch.
    pub board: Arc<Board>,
    /// What probes are told.
    pub health: Arc<Health>,
    /// What is measured.
    pub metrics: Metrics,
    /// The event log and the outbox.
    pub store: Store,
    /// The watch list.
    pub list: watch::Receiver<Arc<Snapshot>>,
    /// The runtime that polls.
    pub polling: Handle,
    /// Whether each operation gets metrics of its own; a reload may change it.
    pub per_operation: Arc<AtomicBool>,
}

/// The pages, and who may see them.
#[derive(Debug)]
pub struct Site {
    sources: Sources,
    access: Arc<Access>,
    hub: Hub,
    /// Ends the event streams.
    closing: CancellationToken,
}

impl Site {
    /// The pages of `sources`; event streams end when `closing` is cancelled.
    #[must_use]
    pub fn new(sources: Sources, access: Arc<Access>, closing: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            hub: Hub::new(),
            sources,
            access,
            closing,
        })
    }

    /// Feeds the event streams until they close.
    pub async fn feed(self: Arc<Self>) {
        let closing = self.closing.clone();
        closing.run_until_cancelled(self.hub.feed(&self.sources)).await;
    }

    /// Serves the pages until they close, then gives the answers that are under way a moment.
    pub async fn serve(self: Arc<Self>, listener: Listener) {
        let closing = self.closing.clone();
        let streams = listener.max_connections() / 2;
        self.hub.limit_readers(streams);
        listener.serve(self.router(), closing).await;
    }

    /// What answers a request, whatever it came by.
    pub fn router(self: Arc<Self>) -> Router {
        router(self)
    }
}

fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .route("/api/operations", get(operations::list))
        .route("/api/operations/{id}", get(operations::one))
        .route("/api/events", get(events::page))
        .route("/api/events/stream", get(stream::stream))
        .route("/api/webhooks", get(endpoints::list))
        .merge(page::routes())
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is no such page"))
        .method_not_allowed_fallback(async || {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "everything here is read-only: use GET",
            )
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&site), guard))
        .with_state(site)
}

/// What every request passes and every answer gets.
async fn guard(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let mut response = if has_body(request.headers()) {
        // The body is never read, so the connection cannot go on: what follows might be taken for a request.
        let detail = "nothing here takes a request body; leave it out";
        let mut response = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).into_response();
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    } else {
        match site
            .access
            .judge(request.method(), request.uri(), request.headers())
        {
            Err(refusal) => refusal.into_response(),
            Ok(()) => match tokio::time::timeout(PAGE_TIMEOUT, next.run(request)).await {
                Ok(response) => response,
                Err(_) => Problem::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the answer took too long: is the disk with the state slow?",
                )
                .into_response(),
            },
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

async fn livez(State(site): State<Arc<Site>>) -> Response {
    match site.sources.health.check() {
        Ok(()) => plain("alive\n"),
        // Which poll it is stands in the log and behind the token, not here.
        Err(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "polls that are due are not started or not finished",
        )
        .into_response(),
    }
}

async fn readyz(State(site): State<Arc<Site>>) -> Response {
    let detail = match site.sources.health.stage() {
        Stage::Ready => return plain("ready\n"),
        Stage::Starting => "starting: the watch list was not looked at yet",
        Stage::Stopping => "stopping",
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response()
}

async fn metrics_text(State(site): State<Arc<Site>>) -> Response {
    let sources = &site.sources;
    let scrape = Scrape {
        board: &sources.board,
        list: sources.list.borrow().clone(),
        store: &sources.store,
        polling: &sources.polling,
        per_operation: sources.per_operation.load(Ordering::Relaxed),
    };
    match sources.metrics.render(&scrape).await {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(
                error = chain(&error),
                "the metrics cannot be told: this is a bug, please report it"
            );
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be told").into_response()
        }
    }
}

fn plain(text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}
