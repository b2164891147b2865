//! `/metrics`: what is fixed in number at once, the series of each operation part by part.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::Site;
use super::body::{PART, Parts, respond};
use super::problem::Problem;
use crate::board::Watched;
use crate::clock;
use crate::core::connections::Place;
use crate::report::metrics::{CONTENT_TYPE, OperationSeries, Scrape};

/// How long the outbox may take to be counted: scrapes time out after 10 s by default.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// The same where the answer must come within a second.
const STORE_TIMEOUT_RESERVED: Duration = Duration::from_millis(500);

pub(super) async fn metrics(
    State(site): State<Arc<Site>>,
    place: Option<Extension<Place>>,
) -> Result<Response, Problem> {
    let sources = &site.sources;
    let is_reserved = place.is_some_and(|Extension(place)| place == Place::Reserved);
    let scrape = Scrape {
        board: &sources.board,
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
        tracing::error!(%error, "the metrics cannot be written: this is a bug, please report it");
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the metrics cannot be written; see the log",
        )
    })?;
    let mut text = MetricsText {
        fixed: Some(fixed.into()),
        watches: Vec::new(),
        series: &[],
        next: 0,
    };
    if sources.per_operation.load(Ordering::Relaxed) {
        text.watches = site.apart(|sources| sources.board.all()).await?;
        text.series = &OperationSeries::ALL;
    }
    let Ok(response) = respond(CONTENT_TYPE, text).await;
    Ok(response)
}

struct MetricsText {
    fixed: Option<Bytes>,
    watches: Vec<Arc<Watched>>,
    /// Those that are not complete.
    series: &'static [OperationSeries],
    /// The watch that comes next in the first of them.
    next: usize,
}

impl Parts for MetricsText {
    type Error = Infallible;

    async fn next(&mut self) -> Result<Option<Bytes>, Infallible> {
        if let Some(fixed) = self.fixed.take() {
            return Ok(Some(fixed));
        }
        let Some((series, others)) = self.series.split_first() else {
            return Ok(None);
        };
        let mut text = String::with_capacity(PART);
        if self.next == 0 {
            text.push_str(&series.head());
        }
        let now = clock::wall();
        let rest = self.watches.get(self.next..).unwrap_or_default();
        for watched in rest {
            if text.len() >= PART {
                break;
            }
            self.next += 1;
            let progress = watched.look(|watch| watch.progress(now));
            let sample = progress.and_then(|progress| series.sample(&watched.key, &progress));
            text.push_str(&sample.unwrap_or_default());
        }
        if self.next == self.watches.len() {
            self.series = others;
            self.next = 0;
        }
        text.shrink_to_fit();
        Ok(Some(text.into()))
    }

    fn is_finished(&self) -> bool {
        self.fixed.is_none() && self.series.is_empty()
    }
}
