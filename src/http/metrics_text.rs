//! `/metrics`: what is fixed in number at once, the series of each operation part by part.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::HttpService;
use super::chunked_body::{CHUNK_SIZE, ChunkSource, respond};
use super::problem::Problem;
use crate::board::{Board, ProjectUnavailable, WatchFilter};
use crate::clock;
use crate::core::connections::ConnectionClass;
use crate::core::watch_list::WatchKey;
use crate::error::chain;
use crate::report::metrics::{CONTENT_TYPE, OperationSeries, Scrape};

/// How long the outbox may take to be counted: scrapes time out after 10 s by default.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// The same where the answer must come within a second.
const STORE_TIMEOUT_RESERVED: Duration = Duration::from_millis(500);

pub(super) async fn metrics(
    State(site): State<Arc<HttpService>>,
    place: Option<Extension<ConnectionClass>>,
) -> Result<Response, Problem> {
    let sources = &site.sources;
    let is_reserved = place.is_some_and(|Extension(place)| place == ConnectionClass::Reserved);
    let scrape = Scrape {
        board: &sources.board,
        attention: sources.attention.entries().await,
        list: sources.list.borrow().clone(),
        store: &sources.store,
        polling: &sources.polling,
        store_timeout: if is_reserved {
            STORE_TIMEOUT_RESERVED
        } else {
            STORE_TIMEOUT
        },
    };
    let fixed = sources.metrics.render(&scrape).await.map_err(|error| {
        tracing::error!(
            error = chain(&error),
            "the metrics cannot be written: this is a bug, please report it"
        );
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the metrics cannot be written; see the log",
        )
    })?;
    let series: &[OperationSeries] = if sources.per_operation.load(Ordering::Relaxed) {
        &OperationSeries::ALL
    } else {
        &[]
    };
    let text = MetricsText {
        fixed: Some(fixed.into()),
        board: Arc::clone(&sources.board),
        every: Arc::default(),
        series,
        is_begun: false,
        after: None,
    };
    let answer = respond(CONTENT_TYPE, text).await;
    answer.map_err(|error| Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))
}

/// This many are copied at a time: what a reader that does not read keeps in memory.
const COPIES: usize = 64;

struct MetricsText {
    fixed: Option<Bytes>,
    board: Arc<Board>,
    every: Arc<WatchFilter>,
    /// Those that are not complete.
    series: &'static [OperationSeries],
    /// Whether the first of them is begun, and after which watch it continues.
    is_begun: bool,
    after: Option<WatchKey>,
}

impl ChunkSource for MetricsText {
    type Error = ProjectUnavailable;

    async fn next(&mut self) -> Result<Option<Bytes>, ProjectUnavailable> {
        if let Some(fixed) = self.fixed.take() {
            return Ok(Some(fixed));
        }
        let Some((series, others)) = self.series.split_first() else {
            return Ok(None);
        };
        let mut text = String::with_capacity(CHUNK_SIZE);
        if !std::mem::replace(&mut self.is_begun, true) {
            text.push_str(&series.head());
        }
        let now = clock::wall();
        while text.len() < CHUNK_SIZE {
            let page = self.board.page(self.after.as_ref(), &[], &self.every, COPIES);
            let (views, next) = page.await?;
            for view in &views {
                let progress = view.watch.progress(now);
                let sample = progress.and_then(|progress| series.sample(&view.key, &progress));
                text.push_str(&sample.unwrap_or_default());
            }
            self.after = next;
            if self.after.is_none() {
                self.series = others;
                self.is_begun = false;
                break;
            }
        }
        text.shrink_to_fit();
        Ok(Some(text.into()))
    }

    fn is_finished(&self) -> bool {
        self.fixed.is_none() && self.series.is_empty()
    }
}
