//! `/api/events`: the event log from a cursor.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::Site;
use super::params::Params;
use super::problem::Problem;
use crate::store::{Cursor, EventFilter, EventPage, EventsError};

/// The most events of one answer; each has at most 20 kB.
const MAX: usize = 1_000;

pub(super) async fn page(
    State(site): State<Arc<Site>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let params = Params::parse(query.as_deref(), &["after", "limit"])?;
    let limit = params.limit(MAX)?;
    let after = cursor(params.last("after"))?;
    let page = site
        .sources
        .store
        .events_after(after, limit, EventFilter::default())
        .await
        .map_err(|error| refuse(&error))?;
    let text = render(&page);
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
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

fn render(page: &EventPage) -> String {
    let mut text = String::from("{\"events\":[");
    for (index, event) in page.events.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(&event.to_json());
    }
    // A cursor has no characters that JSON escapes.
    text.push_str(&format!("],\"next\":\"{}\"}}", page.next));
    text
}
