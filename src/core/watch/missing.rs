//! An operation that the API does not know.

use super::{MIN_FAILED_POLLS, PollStreak, Reporter, Watch, WatchContext};
use crate::core::event::{Event, EventType};
use crate::core::phase::Phase;

impl Watch {
    /// Whether the API did not know the operation at the last poll.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.missing.is_some()
    }

    /// The API does not know the operation. Returns true if it would be gone, but the project may be missing instead.
    pub(super) fn observe_not_found(
        &mut self,
        reason: &str,
        cx: &WatchContext<'_>,
        events: &mut Vec<Event>,
    ) -> bool {
        self.last_poll_succeeded = false;
        self.last_answer = cx.now.into();
        self.failing = None;
        PollStreak::interrupt(&mut self.refused);
        let missing = PollStreak::count_poll(&mut self.missing, cx.now);
        if missing.polls < MIN_FAILED_POLLS || missing.lasted < cx.settings.not_found_grace {
            return false;
        }
        if cx.project_proven.is_none_or(|ago| ago >= missing.lasted) {
            return true;
        }
        let since = missing.since;
        self.phase = Phase::Gone;
        let occurrence = self.occurrence();
        Reporter {
            events,
            previous: None,
            cx,
        }
        .report(self, EventType::Gone, &occurrence, |data| {
            data.since = Some(since);
            data.reason = Some(reason.to_owned());
        });
        false
    }
}
