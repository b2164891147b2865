//! `/api/events`: the event log from a cursor.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::Site;
use super::body::{Parts, respond};
use super::json_list::JsonList;
use super::log_reader::LogReader;
use super::params::Params;
use super::problem::Problem;
use crate::store::{Cursor, EventFilter, EventsError};

/// The most events of one answer; each has at most 20 kB.
const MAX: usize = 1_000;

pub(super) async fn page(
    State(site): State<Arc<Site>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let params = Params::parse(query.as_deref(), &["after", "limit"])?;
    let limit = params.limit(MAX)?;
    let after = cursor(params.last("after"))?;
    let store = site.sources.store.clone();
    let page = Page {
        log: LogReader::new(store, after, EventFilter::default()),
        wanted: limit,
        list: JsonList::new("events"),
    };
    respond("application/json", page)
        .await
        .map_err(|error| refuse(&error))
}

/// The cursor that a request names, if any.
pub(super) fn cursor(text: Option<&str>) -> Result<Option<Cursor>, Problem> {
    text.map(|text| {
        text.parse()
            .map_err(|error| Problem::bad_request(format!("{error}")))
    })
    .transpose()
}

pub(super) fn refuse(error: &EventsError) -> Problem {
    match error {
        EventsError::Foreign | EventsError::Expired => Problem::new(StatusCode::GONE, error.to_string()),
        EventsError::Read(source) => Problem::unreadable(source),
    }
}

/// A page of the log, in parts.
struct Page {
    log: LogReader,
    /// How many events are still wanted.
    wanted: usize,
    list: JsonList,
}

impl Parts for Page {
    type Error = EventsError;

    async fn next(&mut self) -> Result<Option<Bytes>, EventsError> {
        if self.is_finished() {
            return Ok(None);
        }
        let step = self.log.read(self.wanted).await?;
        let part = self.list.part().map(|mut part| {
            for event in &step.events {
                part.push(event.to_json().as_bytes());
            }
            self.wanted -= step.events.len();
            if self.wanted == 0 || step.events.is_empty() || !step.more {
                // A cursor has no characters that JSON escapes.
                part.finish(format!("\"{}\"", step.next).as_bytes());
            }
            part.into_bytes()
        });
        Ok(part)
    }

    fn is_finished(&self) -> bool {
        self.list.is_finished()
    }
}
