//! `[poll]`: when to poll, and what to make of the answers.

use std::time::Duration;

use super::defaults;
use super::reader::{Reader, SHORTEST};
use super::value::Value;
use crate::core::operation::Status;
use crate::core::schedule::ScheduleSettings;
use crate::core::watch::WatchSettings;

/// How operations are polled.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PollSettings {
    /// When to poll.
    pub schedule: ScheduleSettings,
    /// What is told, and when.
    pub watch: WatchSettings,
    /// The longest that the API may make us wait.
    pub max_retry_after: Duration,
}

impl PollSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            schedule: schedule(reader),
            watch: watch(reader),
            max_retry_after: reader.duration("poll.max_retry_after", defaults::MAX_RETRY_AFTER, SHORTEST),
        }
    }
}

fn schedule(reader: &mut Reader<'_>) -> ScheduleSettings {
    let schedule = ScheduleSettings {
        initial_interval: reader.duration(
            "poll.initial_interval",
            ScheduleSettings::DEFAULT.initial_interval,
            SHORTEST,
        ),
        min_interval: reader.duration(
            "poll.min_interval",
            ScheduleSettings::DEFAULT.min_interval,
            SHORTEST,
        ),
        max_interval: reader.duration(
            "poll.max_interval",
            ScheduleSettings::DEFAULT.max_interval,
            SHORTEST,
        ),
        multiplier: reader.number(
            "poll.multiplier",
            ScheduleSettings::DEFAULT.multiplier,
            &(1.0..=100.0),
        ),
        randomization: reader.number(
            "poll.randomization",
            ScheduleSettings::DEFAULT.randomization,
            &(0.0..=1.0),
        ),
        adaptive: reader.boolean("poll.adaptive", ScheduleSettings::DEFAULT.adaptive),
    };
    let max = ("poll.max_interval", schedule.max_interval);
    in_order(reader, ("poll.initial_interval", schedule.initial_interval), max);
    in_order(reader, ("poll.min_interval", schedule.min_interval), max);
    if schedule.initial_interval < schedule.min_interval && reader.given_at("poll.initial_interval").is_some()
    {
        let (initial, min) = (show(schedule.initial_interval), show(schedule.min_interval));
        reader.warn(
            "poll.initial_interval",
            format!("\"{initial}\" is below poll.min_interval ({min}), which holds"),
            format!("lower poll.min_interval to {initial} too, if polls that close are meant"),
        );
    }
    schedule
}

/// Two times of which the first must not be longer than the second.
fn in_order(reader: &mut Reader<'_>, low: (&str, Duration), high: (&str, Duration)) {
    if low.1 <= high.1 || reader.problems.has_error(low.0) || reader.problems.has_error(high.0) {
        return;
    }
    let (low_shown, high_shown) = (show(low.1), show(high.1));
    // Told of the one that somebody wrote; of the higher one where both were written.
    if reader.given_at(high.0).is_some() {
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
        stalled_after: reader.duration("poll.stalled_after", defaults::STALLED_AFTER, SHORTEST),
        silent_after: reader.duration_or_off("poll.silent_after", Some(defaults::SILENT_AFTER)),
        unreachable_after: reader.duration("poll.unreachable_after", defaults::UNREACHABLE_AFTER, SHORTEST),
        not_found_grace: reader.duration("poll.not_found_grace", defaults::NOT_FOUND_GRACE, Duration::ZERO),
        give_up_after: reader.duration_or_off("poll.give_up_after", None),
        active_statuses: active_statuses(reader),
        // The percentage has one decimal, so that a smaller step tells nothing more.
        progress_step: reader.number("poll.progress_step", defaults::PROGRESS_STEP, &(0.1..=100.0)),
        progress_interval: reader.duration("poll.progress_interval", defaults::PROGRESS_INTERVAL, SHORTEST),
    }
}

fn active_statuses(reader: &mut Reader<'_>) -> Vec<String> {
    const KEY: &str = "poll.active_statuses";
    let mut statuses = reader.list(KEY).unwrap_or_default();
    for ending in [Status::Success, Status::Failure] {
        if statuses.iter().any(|status| status == ending.as_str()) {
            let problem = format!("{:?} is an ending, and cannot count as running", ending.as_str());
            reader.fail(KEY, problem, "remove it from the list");
        }
    }
    // What is in progress is active whatever else is.
    if !statuses.iter().any(|status| status == defaults::ACTIVE_STATUS) {
        statuses.insert(0, defaults::ACTIVE_STATUS.to_owned());
    }
    reader
        .effective
        .note(KEY, &Value::list(statuses.iter().map(String::as_str)));
    statuses
}
