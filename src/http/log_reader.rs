//! Reads the event log in steps that fit into one chunk of a response.

use super::chunked_body::CHUNK_SIZE;
use crate::store::{Cursor, EventLogFilter, EventPage, EventsError, Store};

/// The size of the first step; an event has at most 20 kB.
const FIRST_STEP: usize = 4;
/// The largest step; more small events would not be read faster.
const MAX_STEP: usize = 64;

/// A position in the event log.
#[derive(Debug)]
pub(super) struct LogReader {
    store: Store,
    filter: EventLogFilter,
    /// The cursor of the last event that was read; `None` at the beginning.
    after: Option<Cursor>,
    step: usize,
}

impl LogReader {
    pub(super) fn new(store: Store, after: Option<Cursor>, filter: EventLogFilter) -> Self {
        Self {
            store,
            filter,
            after,
            step: FIRST_STEP,
        }
    }

    /// The cursor after the events that were read.
    pub(super) fn after(&self) -> Option<&Cursor> {
        self.after.as_ref()
    }

    /// Skips events up to this cursor.
    pub(super) fn set_after(&mut self, cursor: Cursor) {
        self.after = Some(cursor);
    }

    /// The next events: at most `most`, and about one chunk together. An empty page with `more` means that the filter
    /// matched nothing for a long stretch.
    pub(super) async fn read(&mut self, most: usize) -> Result<EventPage, EventsError> {
        let limit = self.step.min(most);
        let page = self
            .store
            .events_after(self.after.clone(), limit, self.filter.clone())
            .await?;
        let (page, size) = cut(page);
        self.step = next_step(self.step, &page, size);
        self.after = Some(page.next.clone());
        Ok(page)
    }
}

/// Keeps the events that fit into one chunk, at least one. Returns them with their size.
fn cut(mut page: EventPage) -> (EventPage, usize) {
    let mut size = 0;
    let mut fitting = 0;
    for event in &page.events {
        if fitting > 0 && size + event.body.len() > CHUNK_SIZE {
            break;
        }
        size += event.body.len();
        fitting += 1;
    }
    if fitting < page.events.len() {
        page.events.truncate(fitting);
        // `truncate` does not free memory.
        page.events.shrink_to_fit();
        page.more = true;
        if let Some(last) = page.events.last() {
            page.next = last.cursor.clone();
        }
    }
    (page, size)
}

/// The size of the next step: about as many events as fit into a chunk.
fn next_step(step: usize, page: &EventPage, size: usize) -> usize {
    let count = page.events.len();
    match size.checked_div(count) {
        // The average size of these events.
        Some(each) => (CHUNK_SIZE / each.max(1)).clamp(1, (step * 2).min(MAX_STEP)),
        None => step,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::core::event::EventType;
    use crate::store::StoredEvent;

    fn page(sizes: &[usize]) -> EventPage {
        let cursor = |row: usize| -> Cursor { format!("0a-{row}").parse().unwrap() };
        let events = sizes.iter().enumerate().map(|(index, size)| StoredEvent {
            cursor: cursor(index + 1),
            id: format!("evt_{index}"),
            event_type: EventType::Started,
            timestamp: Timestamp::UNIX_EPOCH,
            body: "x".repeat(*size),
        });
        EventPage {
            events: events.collect(),
            next: cursor(100),
            more: false,
        }
    }

    #[test]
    fn a_step_has_what_fits_and_goes_on_after_it() {
        let (whole, _) = cut(page(&[1_000, 2_000, 3_000]));
        assert_eq!((whole.events.len(), whole.more), (3, false));
        assert_eq!(whole.next.to_string(), "0a-100");
        let (part, size) = cut(page(&[1_000, 7_000, 3_000, 10]));
        assert_eq!((part.events.len(), part.more, size), (2, true, 8_000));
        assert_eq!(part.next.to_string(), "0a-2");
        let (large, _) = cut(page(&[20_000, 10]));
        assert_eq!((large.events.len(), large.more), (1, true));
        let (none, _) = cut(page(&[]));
        assert_eq!((none.events.len(), none.more), (0, false));
    }

    #[test]
    fn steps_grow_with_small_events_and_shrink_with_large_ones() {
        let next = |step: usize, sizes: &[usize]| {
            let (page, size) = cut(page(sizes));
            next_step(step, &page, size)
        };
        assert_eq!(next(4, &[10; 4]), 8);
        assert_eq!(next(64, &[10; 64]), MAX_STEP);
        assert_eq!(next(64, &[4_096; 64]), 2);
        assert_eq!(next(64, &[20_000]), 1);
        assert_eq!(next(4, &[]), 4);
        assert_eq!(next(4, &[0; 4]), 8);
    }
}
