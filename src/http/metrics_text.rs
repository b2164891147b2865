//! `/metrics`: the fixed series in one piece, the series of each operation chunk by chunk.

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

/// The time limit for counting the outbox; scrapes time out after 10 s by default.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// The same on a reserved connection, where the response must come within a second.
const STORE_TIMEOUT_RESERVED: Duration = Duration::from_millis(500);

pub(super) async fn metrics(
    State(service): State<Arc<HttpService>>,
    class: Option<Extension<ConnectionClass>>,
) -> Result<Response, Problem> {
    let data = &service.data;
    let is_reserved = class.is_some_and(|Extension(class)| class == ConnectionClass::Reserved);
    let scrape = Scrape {
        board: &data.board,
        attention: data.attention.entries().await,
        list: data.list.borrow().clone(),
        store: &data.store,
        polling: &data.polling,
        store_timeout: if is_reserved {
            STORE_TIMEOUT_RESERVED
        } else {
            STORE_TIMEOUT
        },
    };
    let fixed = data.metrics.render(&scrape).await.map_err(|error| {
        tracing::error!(
            error = chain(&error),
            "the metrics cannot be rendered: this is a bug, please report it"
        );
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the metrics cannot be rendered; see the log",
        )
    })?;
    let series: &[OperationSeries] = if data.per_operation.load(Ordering::Relaxed) {
        &OperationSeries::ALL
    } else {
        &[]
    };
    let text = MetricsText {
        fixed: Some(fixed.into()),
        board: Arc::clone(&data.board),
        every: Arc::default(),
        series,
        is_begun: false,
        after: None,
    };
    let answer = respond(CONTENT_TYPE, text).await;
    answer.map_err(|error| Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))
}

/// How many watches are copied at a time: what a client that does not read keeps in memory.
const COPIES: usize = 64;

struct MetricsText {
    fixed: Option<Bytes>,
    board: Arc<Board>,
    every: Arc<WatchFilter>,
    /// The series that are not complete yet.
    series: &'static [OperationSeries],
    /// Whether the first of them was started, and the watch after which it continues.
    is_begun: bool,
    after: Option<WatchKey>,
}

impl ChunkSource for MetricsText {
    type Error = ProjectUnavailable;

    async fn next_chunk(&mut self) -> Result<Option<Bytes>, ProjectUnavailable> {
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
