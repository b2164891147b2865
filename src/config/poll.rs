//! `[poll]`: when to poll, and how to judge the answers.

use std::time::Duration;

use super::reader::Reader;
use super::value::Value;
use crate::core::operation::Status;
use crate::core::schedule::ScheduleSettings;
use crate::core::watch::WatchSettings;

/// How operations are polled, and what is reported.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PollSettings {
    /// The schedule of polls.
    pub schedule: ScheduleSettings,
    /// What is reported, and when.
    pub watch: WatchSettings,
    /// The longest pause that the API can request.
    pub max_retry_after: Duration,
}

impl PollSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            schedule: schedule(reader),
            watch: watch(reader),
            max_retry_after: reader.duration("poll.max_retry_after"),
        }
    }
}

fn schedule(reader: &mut Reader<'_>) -> ScheduleSettings {
    let schedule = ScheduleSettings {
        initial_interval: reader.duration("poll.initial_interval"),
        min_interval: reader.duration("poll.min_interval"),
        max_interval: reader.duration("poll.max_interval"),
        multiplier: reader.number("poll.multiplier"),
        randomization: reader.number("poll.randomization"),
        adaptive: reader.boolean("poll.adaptive"),
    };
    let max = ("poll.max_interval", schedule.max_interval);
    in_order(reader, ("poll.initial_interval", schedule.initial_interval), max);
    in_order(reader, ("poll.min_interval", schedule.min_interval), max);
    if schedule.initial_interval < schedule.min_interval
        && reader.place_set("poll.initial_interval").is_some()
    {
        let (initial, min) = (show(schedule.initial_interval), show(schedule.min_interval));
        reader.warn(
            "poll.initial_interval",
            format!("\"{initial}\" is below poll.min_interval ({min}), which applies"),
            format!("lower poll.min_interval to {initial} too, to poll that often"),
        );
    }
    schedule
}

/// Notes an error if the first duration is longer than the second.
fn in_order(reader: &mut Reader<'_>, low: (&str, Duration), high: (&str, Duration)) {
    if low.1 <= high.1 || reader.problems.has_error(low.0) || reader.problems.has_error(high.0) {
        return;
    }
    let (low_shown, high_shown) = (show(low.1), show(high.1));
    // The error names a key that is set.
    if reader.place_set(high.0).is_some() {
        reader.fail(
            high.0,
            format!("\"{high_shown}\" is below {} ({low_shown})", low.0),
            format!("raise {} to at least {low_shown}, or lower {}", high.0, low.0),
        );
    } else {
        reader.fail(
            low.0,
            format!("\"{low_shown}\" is above {} ({high_shown})", high.0),
            format!("lower {} to at most {high_shown}, or raise {}", low.0, high.0),
        );
    }
}

fn show(duration: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(duration)
}

fn watch(reader: &mut Reader<'_>) -> WatchSettings {
    WatchSettings {
        stalled_after: reader.duration("poll.stalled_after"),
        silent_after: reader.duration_or_off("poll.silent_after"),
        unreachable_after: reader.duration("poll.unreachable_after"),
        not_found_grace: reader.duration("poll.not_found_grace"),
        give_up_after: reader.duration_or_off("poll.give_up_after"),
        active_statuses: active_statuses(reader),
        progress_step: reader.number("poll.progress_step"),
        progress_interval: reader.duration("poll.progress_interval"),
    }
}

fn active_statuses(reader: &mut Reader<'_>) -> Vec<String> {
    const KEY: &str = "poll.active_statuses";
    let mut statuses = reader.list(KEY).unwrap_or_default();
    for status_of_end in [Status::Success, Status::Failure] {
        if statuses.iter().any(|status| status == status_of_end.as_str()) {
            let problem = format!(
                "{:?} is a final status, which cannot count as running",
                status_of_end.as_str()
            );
            reader.fail(KEY, problem, "remove it from the list");
        }
    }
    let in_progress = Status::InProgress.as_str();
    if !statuses.iter().any(|status| status == in_progress) {
        statuses.insert(0, in_progress.to_owned());
    }
    reader
        .effective
        .note(KEY, Value::list(statuses.iter().map(String::as_str)));
    statuses
}
