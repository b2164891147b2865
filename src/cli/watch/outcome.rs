//! How watching came to its end, what that means for the exit code, and how it is said.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use super::progress_view::bar;
use super::session::Session;
use crate::app::StopSignal;
use crate::cli::progress_bars::ProgressBar;
use crate::cli::{exit, format};
use crate::config::Settings;
use crate::core::event::{Event, EventData, EventType};
use crate::core::phase::Phase;

/// Operations that are named one by one when watching ends before they do.
const MAX_NAMED: usize = 20;

/// What ended the watching.
#[derive(Debug)]
pub(super) enum End {
    /// Every operation is over.
    Over,
    /// `--timeout` passed.
    TimedOut,
    /// A project's API is told unreachable.
    Unreachable {
        /// The project.
        project: String,
        /// Why.
        reason: String,
    },
    /// A project's API key is told rejected.
    Rejected {
        /// The project.
        project: String,
        /// What the API said.
        reason: String,
    },
    /// A signal came.
    Stopped(StopSignal),
    /// Standard output takes no more; why, if that is known.
    OutputClosed(Option<io::Error>),
}

impl End {
    /// The end that this event is for the watching, if it is one.
    pub(super) fn of(event: &Event) -> Option<Self> {
        let EventData::Api(data) = &event.data else {
            return None;
        };
        let (project, reason) = (data.project.clone(), data.reason.clone());
        match event.event_type {
            EventType::CredentialsRejected => Some(Self::Rejected { project, reason }),
            EventType::ApiUnreachable => Some(Self::Unreachable { project, reason }),
            _ => None,
        }
    }

    /// The graver of two ends.
    pub(super) fn or_graver(self, other: Self) -> Self {
        if other.gravity() > self.gravity() {
            other
        } else {
            self
        }
    }

    fn gravity(&self) -> u8 {
        match self {
            Self::Over => 0,
            Self::TimedOut => 1,
            Self::Unreachable { .. } => 2,
            Self::Rejected { .. } => 3,
            Self::Stopped(_) => 4,
            Self::OutputClosed(_) => 5,
        }
    }
}

/// Where the operations stand when watching ends.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// How many there are in each phase.
    pub(super) phases: BTreeMap<Phase, usize>,
    /// Whether the API ever answered.
    pub(super) answered: bool,
    /// The last failure of a poll.
    pub(super) last_failure: Option<String>,
    /// Those that are not over, one a line.
    pub(super) unfinished: Vec<String>,
}

impl Tally {
    /// Looks where they stand.
    pub(super) fn of(session: &Session) -> Self {
        let mut tally = Self {
            answered: session.was_answered(),
            last_failure: session.last_failure(),
            ..Self::default()
        };
        for target in &session.targets {
            let phase = session.phase(target);
            *tally.phases.entry(phase).or_default() += 1;
            if !phase.is_finished() {
                tally
                    .unfinished
                    .push(standing(&target.key.operation, &bar(session, target)));
            }
        }
        tally
    }

    fn total(&self) -> usize {
        self.phases.values().sum()
    }

    /// `2 of 3 operations still run`, and which.
    fn still_running(&self, named: bool) -> String {
        let (left, total) = (self.unfinished.len(), self.total());
        let mut text = match (left, total) {
            (0, _) => "every operation is over".to_owned(),
            (1, 1) => "the operation has not ended".to_owned(),
            _ => format!("{left} of {total} operations have not ended"),
        };
        if named && left > 0 {
            text.push(':');
            for line in self.unfinished.iter().take(MAX_NAMED) {
                text.push('\n');
                text.push_str(line);
            }
            if left > MAX_NAMED {
                text.push_str(&format!("\n  and {} more", left - MAX_NAMED));
            }
        }
        text
    }

    /// `3 operations: 2 succeeded, 1 failed`.
    pub(super) fn summary(&self) -> String {
        let parts: Vec<String> = self
            .phases
            .iter()
            .map(|(phase, count)| format!("{count} {phase}"))
            .collect();
        format!("{}: {}", format::operations(self.total()), parts.join(", "))
    }
}

/// Where one operation stands.
fn standing(operation: &str, bar: &ProgressBar) -> String {
    let mut line = format!("  {operation}  {}", bar.phase);
    if let Some(percent) = bar.percent {
        line.push_str(&format!("  {percent:.1}%"));
    }
    if let Some(processed) = bar.processed {
        line.push_str(&format!("  {} records", format::count(processed)));
    }
    if let Some(trouble) = &bar.trouble {
        line.push_str(&format!("  ({trouble})"));
    }
    line
}

/// The exit code, as the help of the command tells it.
pub(super) fn exit_code(end: &End, tally: &Tally) -> u8 {
    match end {
        End::Over if tally.phases.keys().all(|phase| *phase == Phase::Succeeded) => 0,
        End::Over => exit::FAILED,
        End::TimedOut if tally.answered => exit::TIMED_OUT,
        End::TimedOut | End::Unreachable { .. } => exit::UNREACHABLE,
        End::Rejected { .. } => exit::CREDENTIALS,
        End::Stopped(signal) => signal.exit_code(),
        End::OutputClosed(Some(error)) if error.kind() != io::ErrorKind::BrokenPipe => exit::FAILED,
        End::OutputClosed(_) => exit::BROKEN_PIPE,
    }
}

/// What is to be said of an end on standard error, in words that say what to do next. `named`: whether unfinished
/// operations are to be named, since they stand nowhere else.
pub(super) fn message(
    end: &End,
    tally: &Tally,
    settings: &Settings,
    timeout: Option<Duration>,
    named: bool,
) -> Option<String> {
    let timeout = humantime::format_duration(timeout.unwrap_or_default());
    Some(match end {
        End::Over => return None,
        End::TimedOut if tally.answered => format!(
            "{timeout} (--timeout) passed, and {}\nNothing ends at Ampersand by this: watch again, or allow more time.",
            tally.still_running(named)
        ),
        End::TimedOut => format!(
            "{timeout} (--timeout) passed without one answer of the API at {}: {}",
            settings.ampersand.base_url,
            tally.last_failure.as_deref().unwrap_or("no poll came to its end")
        ),
        End::Unreachable { project, reason } => format!(
            "project {project} cannot be polled: {reason}\nWhat runs at Ampersand goes on: watch again when this is mended."
        ),
        End::Rejected { project, reason } => {
            let projects = &settings.ampersand.projects;
            let source = projects.iter().find(|known| *known.name == **project);
            let source = source.map_or_else(String::new, |project| format!(", from {},", project.api_key));
            format!(
                "the API key of project {project}{source} is rejected: {reason}\nPut the key of this project there, and \
                 check at Ampersand that it is active."
            )
        }
        End::Stopped(_) => format!(
            "{}\nNothing ends at Ampersand by this: watch again at any time.",
            tally.still_running(named)
        ),
        End::OutputClosed(Some(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
            format!("cannot write to standard output: {error}")
        }
        // Somebody saw enough of it.
        End::OutputClosed(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(phases: &[(Phase, usize)], answered: bool) -> Tally {
        Tally {
            phases: phases.iter().copied().collect(),
            answered,
            ..Tally::default()
        }
    }

    fn rejected() -> End {
        End::Rejected {
            project: "p".into(),
            reason: "401".into(),
        }
    }

    fn unreachable() -> End {
        End::Unreachable {
            project: "p".into(),
            reason: "refused".into(),
        }
    }

    #[test]
    fn codes() {
        let all = tally(&[(Phase::Succeeded, 3)], true);
        assert_eq!(exit_code(&End::Over, &all), 0);
        for phase in [Phase::Failed, Phase::Ended, Phase::Gone, Phase::Expired] {
            let some = tally(&[(Phase::Succeeded, 3), (phase, 1)], true);
            assert_eq!(exit_code(&End::Over, &some), 1, "{phase}");
        }
        let running = |answered| tally(&[(Phase::Running, 1), (Phase::Failed, 1)], answered);
        assert_eq!(exit_code(&End::TimedOut, &running(true)), 8);
        assert_eq!(exit_code(&End::TimedOut, &running(false)), 3);
        assert_eq!(exit_code(&unreachable(), &running(true)), 3);
        assert_eq!(exit_code(&rejected(), &running(true)), 4);
        assert_eq!(exit_code(&End::Stopped(StopSignal::Interrupt), &all), 130);
        assert_eq!(exit_code(&End::Stopped(StopSignal::Terminate), &all), 143);
    }

    #[test]
    fn of_two_ends_the_graver_holds() {
        let holds = |a: End, b: End| exit_code(&a.or_graver(b), &tally(&[(Phase::Failed, 1)], true));
        assert_eq!(holds(End::TimedOut, rejected()), 4);
        assert_eq!(holds(rejected(), unreachable()), 4);
        assert_eq!(holds(End::Over, unreachable()), 3);
        assert_eq!(holds(unreachable(), End::TimedOut), 3);
    }
}
