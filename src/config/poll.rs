//! `[poll]`: when to poll, and what to make of the answers.

use std::time::Duration;

use super::defaults;
use super::reader::{Reader, SHORTEST};
use super::value::Value;
use crate::core::operation::Status;
use crate::core::schedule::Pace;
use crate::core::watch::Rules;

/// How operations are polled.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PollSettings {
    /// When to poll.
    pub pace: Pace,
    /// What is told, and when.
    pub rules: Rules,
    /// The longest that the API may make us wait.
    pub max_retry_after: Duration,
}

impl PollSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            pace: pace(reader),
            rules: rules(reader),
            max_retry_after: reader.duration("poll.max_retry_after", defaults::MAX_RETRY_AFTER, SHORTEST),
        }
    }
}

fn pace(reader: &mut Reader<'_>) -> Pace {
    let pace = Pace {
        initial_interval: reader.duration("poll.initial_interval", Pace::DEFAULT.initial_interval, SHORTEST),
        min_interval: reader.duration("poll.min_interval", Pace::DEFAULT.min_interval, SHORTEST),
        max_interval: reader.duration("poll.max_interval", Pace::DEFAULT.max_interval, SHORTEST),
        multiplier: reader.number("poll.multiplier", Pace::DEFAULT.multiplier, &(1.0..=100.0)),
        randomization: reader.number("poll.randomization", Pace::DEFAULT.randomization, &(0.0..=1.0)),
        adaptive: reader.boolean("poll.adaptive", Pace::DEFAULT.adaptive),
    };
    let max = ("poll.max_interval", pace.max_interval);
    in_order(reader, ("poll.initial_interval", pace.initial_interval), max);
    in_order(reader, ("poll.min_interval", pace.min_interval), max);
    if pace.initial_interval < pace.min_interval && reader.given_at("poll.initial_interval").is_some() {
        let (initial, min) = (show(pace.initial_interval), show(pace.min_interval));
        reader.warn(
            "poll.initial_interval",
            format!("\"{initial}\" is below poll.min_interval ({min}), which holds"),
            format!("lower poll.min_interval to {initial} too, if polls that close are meant"),
        );
    }
    pace
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

fn rules(reader: &mut Reader<'_>) -> Rules {
    Rules {
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
