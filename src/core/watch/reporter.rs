//! Builds the events of one observation.

use super::super::event::{Event, EventType, OperationData};
use super::super::operation::Status;
use super::{Watch, WatchContext};

/// Adds the events of one observation to `events`.
pub(super) struct Reporter<'a, 'b> {
    pub(super) events: &'a mut Vec<Event>,
    pub(super) previous: Option<&'a Status>,
    pub(super) cx: &'a WatchContext<'b>,
}

impl Reporter<'_, '_> {
    /// Adds an event of `watch`. `occurrence` distinguishes it from other events of its type.
    pub(super) fn report(
        &mut self,
        watch: &mut Watch,
        event_type: EventType,
        occurrence: &str,
        fill: impl FnOnce(&mut OperationData),
    ) {
        watch.sequence = watch.sequence.saturating_add(1);
        let mut data = watch.data(self.cx.key, self.cx.labels, self.cx.now);
        let id = &self.cx.key.operation;
        data.deadline = self
            .cx
            .deadline
            .and_then(|deadline| watch.deadline_time(id, deadline, self.cx.now));
        data.previous_status = self.previous.map(|status| status.as_str().to_owned());
        if event_type.is_ending() {
            data.duration_seconds = Some(watch.duration_seconds(self.cx.now));
        } else {
            data.result = None;
        }
        fill(&mut data);
        self.events.push(Event::operation(
            self.cx.key,
            event_type,
            occurrence,
            self.cx.now,
            data,
        ));
    }
}
