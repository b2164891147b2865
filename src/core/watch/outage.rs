//! Outages of one operation while the API answers for others.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::super::answer::Failure;
use super::super::event::{Event, EventType, millis};
use super::{MIN_FAILED_POLLS, PollStreak, Reporter, Watch, WatchContext};

/// Minimum distance of two outages of one operation, since the start identifies the event.
const MIN_DISTANCE: Duration = Duration::from_millis(1);

impl Watch {
    /// Whether the operation is reported unreachable.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        self.outage().is_some()
    }

    /// Start of the reported outage; `None` if the operation is reachable or finished.
    #[must_use]
    pub fn outage(&self) -> Option<Timestamp> {
        let lasts = !self.is_reachable_again && !self.phase.is_finished();
        self.unreachable.get().filter(|_| lasts)
    }

    /// Whether the API refused this operation since it last answered with it.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// Whether the API answered 403 since it last answered with this operation. Another 403 does not question the key
    /// again.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.is_forbidden
    }

    /// How often in a row the API refused this operation.
    #[must_use]
    pub fn refusals(&self) -> u32 {
        self.refused.as_ref().map_or(0, |refused| refused.polls)
    }

    pub(super) fn observe_refused(&mut self, reason: &str, cx: &WatchContext<'_>, events: &mut Vec<Event>) {
        self.last_poll_succeeded = false;
        self.last_answer = cx.now.into();
        self.failing = None;
        let refused = PollStreak::count_poll(&mut self.refused, cx.now);
        if refused.polls >= MIN_FAILED_POLLS && !cx.all_others_refused {
            let since = refused.since;
            self.report_unreachable(since, reason, cx, events);
        }
    }

    /// A poll failed.
    pub(super) fn observe_failed(
        &mut self,
        failure: &Failure,
        cx: &WatchContext<'_>,
        events: &mut Vec<Event>,
    ) {
        self.last_poll_succeeded = false;
        let streak = PollStreak::count_poll(&mut self.failing, cx.now);
        let others_are_answered = cx.project_answered.is_some_and(|ago| ago < streak.lasted);
        if streak.polls >= MIN_FAILED_POLLS
            && streak.lasted >= cx.settings.unreachable_after
            && others_are_answered
        {
            let since = streak.since;
            self.report_unreachable(since, &failure.reason, cx, events);
        }
    }

    fn report_unreachable(
        &mut self,
        since: Timestamp,
        reason: &str,
        cx: &WatchContext<'_>,
        events: &mut Vec<Event>,
    ) {
        if self.is_unreachable() {
            return;
        }
        let since = self.distinct_start(since);
        self.unreachable = since.into();
        self.is_reachable_again = false;
        Reporter {
            events,
            previous: None,
            cx,
        }
        .report(self, EventType::Unreachable, &millis(since), |data| {
            data.since = Some(since);
            data.reason = Some(reason.to_owned());
        });
    }

    /// `since`, or slightly later if the last outage started in the same millisecond.
    fn distinct_start(&self, since: Timestamp) -> Timestamp {
        let least = self
            .unreachable
            .get()
            .and_then(|last| last.checked_add(MIN_DISTANCE).ok())
            // A clock that was set back by more than this is accepted as it is.
            .filter(|least| least.duration_since(since) <= SignedDuration::from_secs(1));
        least.map_or(since, |least| since.max(least))
    }
}
