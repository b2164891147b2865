//! `/api/events`: the event log from a cursor.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::HttpService;
use super::board_list::listed;
use super::chunked_body::{ChunkSource, respond};
use super::json_list::JsonList;
use super::log_reader::LogReader;
use super::params::Params;
use super::problem::Problem;
use crate::config::EventGlob;
use crate::core::event::EventType;
use crate::store::{Cursor, EventLogFilter, EventsError};

/// The most events of one response; each has at most 20 kB.
const MAX: usize = 1_000;

pub(super) async fn page(
    State(service): State<Arc<HttpService>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let params = Params::parse(query.as_deref(), &["after", "limit", "operation", "type"])?;
    let limit = params.limit(MAX)?;
    let after = cursor(params.last("after"))?;
    let store = service.data.store.clone();
    let page = EventListing {
        log: LogReader::new(store, after, filter(&params)?),
        left: limit,
        list: JsonList::new("events"),
    };
    respond("application/json", page)
        .await
        .map_err(|error| refuse(&error))
}

fn filter(params: &Params) -> Result<EventLogFilter, Problem> {
    let (project, operation) = match params.last("operation").map(|name| name.rsplit_once('/')) {
        None => (None, None),
        // An operation ID has no slash.
        Some(Some((project, id))) if !project.is_empty() && !id.is_empty() => {
            (Some(project.to_owned()), Some(id.to_owned()))
        }
        Some(_) => return Err(Problem::bad_request("`operation` must be PROJECT/ID")),
    };
    let globs: Vec<EventGlob> = listed(params, "type")
        .map(|glob| {
            EventGlob::parse(glob)
                .map_err(|(problem, help)| Problem::bad_request(format!("{problem}; {help}")))
        })
        .collect::<Result<_, _>>()?;
    let mut types = EventType::ALL.to_vec();
    types.retain(|event_type| globs.iter().any(|glob| glob.matches(event_type.as_str())));
    Ok(EventLogFilter {
        operation,
        project,
        types: (!globs.is_empty()).then_some(types),
    })
}

/// Parses the cursor of a request, if any.
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

/// A page of the event log, produced in chunks.
struct EventListing {
    log: LogReader,
    /// How many events are still to be written.
    left: usize,
    list: JsonList,
}

impl ChunkSource for EventListing {
    type Error = EventsError;

    async fn next_chunk(&mut self) -> Result<Option<Bytes>, EventsError> {
        if self.is_finished() {
            return Ok(None);
        }
        let (events, next, more) = match self.log.read(self.left).await {
            Ok(step) => (step.events, Some(step.next), step.more),
            // The next events were pruned during the response. The page ends here; the next request reports the gap.
            Err(EventsError::Expired) if self.list.has_begun() => {
                (Vec::new(), self.log.after().cloned(), false)
            }
            Err(error) => return Err(error),
        };
        let chunk = self.list.next_chunk().map(|mut chunk| {
            for event in &events {
                chunk.push(event.to_json().as_bytes());
            }
            self.left -= events.len();
            if self.left == 0 || events.is_empty() || !more {
                // A cursor has no characters that JSON escapes.
                let next = next.map_or_else(|| "null".to_owned(), |cursor| format!("\"{cursor}\""));
                chunk.finish(next.as_bytes());
            }
            chunk.into_bytes()
        });
        Ok(chunk)
    }

    fn is_finished(&self) -> bool {
        self.list.is_finished()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;
    use crate::core::event::{Event, EventType};
    use crate::core::watch::Watch;
    use crate::core::watch_list::WatchKey;
    use crate::store::{StateChange, Store, Subject};

    #[tokio::test]
    async fn a_page_ends_before_what_is_removed_while_it_is_read() {
        let store = Store::in_memory();
        let now = clock::wall();
        let keys: Vec<WatchKey> = (0..20)
            .map(|number| WatchKey {
                project: "p".into(),
                operation: format!("op-{number}").into(),
            })
            .collect();
        for key in &keys {
            let data = Watch::default().data(key, &Vec::new(), now);
            let change = StateChange {
                subject: Subject::Watch(key.clone(), Box::default()),
                events: vec![Event::operation(key, EventType::Started, "1", now, data)],
            };
            store.commit(&change).await.unwrap();
        }
        let mut page = EventListing {
            log: LogReader::new(store.clone(), None, EventLogFilter::default()),
            left: 20,
            list: JsonList::new("events"),
        };
        let mut text = page.next_chunk().await.unwrap().unwrap().to_vec();
        assert!(!page.is_finished());
        store.set_unlisted(keys, now).await.unwrap();
        store
            .prune(now + Duration::from_hours(1), Duration::ZERO)
            .await
            .unwrap();
        while let Some(chunk) = page.next_chunk().await.unwrap() {
            text.extend_from_slice(&chunk);
        }
        let page: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert!(
            (1..20).contains(&page["events"].as_array().unwrap().len()),
            "{page}"
        );
        let next = cursor(page["next"].as_str()).unwrap();
        let gone = store.events_after(next, 1, EventLogFilter::default()).await;
        assert!(matches!(gone, Err(EventsError::Expired)));
    }
}
