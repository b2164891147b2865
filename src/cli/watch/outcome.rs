//! Why watching ended, with its exit code and message.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use super::progress_view::bar;
use super::session::{Session, Target};
use crate::app::StopSignal;
use crate::cli::progress_bars::ProgressBar;
use crate::cli::{exit, format};
use crate::clock;
use crate::config::Settings;
use crate::core::discovery::GROUP_LABEL;
use crate::core::event::{Event, EventData, EventType};
use crate::core::operation::Status;
use crate::core::operation_name::OperationName;
use crate::core::phase::Phase;
use crate::core::text::one_line;

/// The longest reason in a list of operations, in bytes.
const MAX_REASON: usize = 300;
/// The longest status in a list of operations, in bytes.
const MAX_STATUS: usize = 100;

/// The most operations that a message names.
const MAX_NAMED: usize = 20;

/// What ended the watching.
#[derive(Debug)]
pub(super) enum End {
    /// Every operation is finished.
    Finished,
    /// `--timeout` passed.
    TimedOut,
    /// The API did not answer within [`FIRST_ANSWER`](super::FIRST_ANSWER).
    Unanswered,
    /// `api.unreachable` was reported for a project.
    Unreachable {
        /// The project.
        project: String,
        /// The last failure.
        reason: String,
    },
    /// `api.credentials_rejected` was reported for a project.
    Rejected {
        /// The project.
        project: String,
        /// The answer of the API.
        reason: String,
    },
    /// A signal arrived.
    Stopped(StopSignal),
    /// Standard output cannot be written; with the cause, if it is known.
    OutputClosed(Option<io::Error>),
}

impl End {
    /// The end that this event causes, if it does.
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

    /// The more severe of two ends.
    pub(super) fn or_more_severe(self, other: Self) -> Self {
        if other.severity() > self.severity() {
            other
        } else {
            self
        }
    }

    fn severity(&self) -> u8 {
        match self {
            Self::Finished => 0,
            Self::TimedOut | Self::Unanswered => 1,
            Self::Unreachable { .. } => 2,
            Self::Rejected { .. } => 3,
            Self::Stopped(_) => 4,
            Self::OutputClosed(_) => 5,
        }
    }
}

/// The phases of the operations when watching ends.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// The number of operations in each phase.
    pub(super) phases: BTreeMap<Phase, usize>,
    /// Whether the API ever answered.
    pub(super) answered: bool,
    /// The last failure of a poll.
    pub(super) last_failure: Option<String>,
    /// The unfinished operations, one line each.
    pub(super) unfinished: Vec<String>,
    /// The finished operations that did not succeed, one line each.
    pub(super) unsuccessful: Vec<String>,
}

impl Tally {
    /// Reads the phases.
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
                    .push(progress_line(&target.key.operation, &bar(session, target)));
            } else if phase != Phase::Succeeded {
                tally.unsuccessful.push(result_line(session, target, phase));
            }
        }
        tally
    }

    fn total(&self) -> usize {
        self.phases.values().sum()
    }

    /// `2 of 3 operations are not finished`, perhaps with their names.
    fn unfinished_text(&self, named: bool) -> String {
        let (left, total) = (self.unfinished.len(), self.total());
        let mut text = match (left, total) {
            (0, _) => "all operations are finished".to_owned(),
            (1, 1) => "the operation is not finished".to_owned(),
            _ => format!("{left} of {total} operations are not finished"),
        };
        if named && left > 0 {
            text.push(':');
            add_lines(&mut text, &self.unfinished);
        }
        text
    }

    /// `3 operations: 2 succeeded, 1 failed`, and the names of those that did not succeed.
    pub(super) fn summary(&self) -> String {
        let parts: Vec<String> = self
            .phases
            .iter()
            .map(|(phase, count)| format!("{count} {phase}"))
            .collect();
        let mut text = format!("{}: {}", format::operations(self.total()), parts.join(", "));
        add_lines(&mut text, &self.unsuccessful);
        text
    }
}

/// Adds the first lines, and the number of the others.
fn add_lines(text: &mut String, lines: &[String]) {
    for line in lines.iter().take(MAX_NAMED) {
        text.push('\n');
        text.push_str(line);
    }
    if lines.len() > MAX_NAMED {
        text.push_str(&format!("\n  and {} more", lines.len() - MAX_NAMED));
    }
}

/// The phase of a finished operation, and why.
fn result_line(session: &Session, target: &Target, phase: Phase) -> String {
    let mut line = format!("  {}  {phase}", target.key.operation);
    let Some(view) = session.watched(&target.key) else {
        return line;
    };
    let title = OperationName::new(view.labels(), view.watch.objects(), GROUP_LABEL).title();
    let data = view.data(clock::wall());
    if let Some(status) = data.status.as_deref().and_then(Status::beyond_phase) {
        line.push_str(&format!("  {}", one_line(status, MAX_STATUS)));
    }
    if !title.is_empty() {
        line.push_str(&format!("  {title}"));
    }
    let reason = data.result.as_deref().or(view.watch.last_error());
    if let Some(reason) = reason.filter(|reason| !reason.trim().is_empty()) {
        line.push_str(&format!(": {}", one_line(reason, MAX_REASON)));
    }
    line
}

/// The phase and progress of one operation.
fn progress_line(operation: &str, bar: &ProgressBar) -> String {
    let mut line = format!("  {operation}  {}", bar.phase);
    if let Some(percent) = bar.percent {
        line.push_str(&format!("  {percent:.1}%"));
    }
    if let Some(processed) = bar.processed {
        line.push_str(&format!("  {} records", format::count(processed)));
    }
    if !bar.title.is_empty() {
        line.push_str(&format!("  {}", bar.title));
    }
    if let Some(problem) = &bar.problem {
        line.push_str(&format!("  ({problem})"));
    }
    line
}

/// The exit code, as documented in the help of the command.
pub(super) fn exit_code(end: &End, tally: &Tally) -> u8 {
    match end {
        End::Finished if tally.phases.keys().all(|phase| *phase == Phase::Succeeded) => 0,
        End::Finished => exit::FAILED,
        End::TimedOut if tally.answered => exit::TIMED_OUT,
        End::TimedOut | End::Unanswered | End::Unreachable { .. } => exit::UNREACHABLE,
        End::Rejected { .. } => exit::CREDENTIALS,
        End::Stopped(signal) => signal.exit_code(),
        End::OutputClosed(Some(error)) if error.kind() != io::ErrorKind::BrokenPipe => exit::FAILED,
        End::OutputClosed(_) => exit::BROKEN_PIPE,
    }
}

/// The message for an end on standard error, with what to do. `named`: whether to name unfinished operations.
pub(super) fn message(
    end: &End,
    tally: &Tally,
    settings: &Settings,
    timeout: Option<Duration>,
    named: bool,
) -> Option<String> {
    let timeout = humantime::format_duration(timeout.unwrap_or_default());
    Some(match end {
        End::Finished => return None,
        End::TimedOut if tally.answered => format!(
            "--timeout {timeout} passed: {}\nThe operations at Ampersand continue. Run the command again, or with a longer --timeout.",
            tally.unfinished_text(named)
        ),
        End::TimedOut => format!(
            "--timeout {timeout} passed without an answer from the API at {}: {}",
            settings.ampersand.base_url,
            tally.last_failure.as_deref().unwrap_or("no poll was completed")
        ),
        End::Unanswered => format!(
            "no answer from the API at {} within the first minute: {}\nNothing was changed at Ampersand. Run the command \
             again when the API answers.",
            settings.ampersand.base_url,
            tally.last_failure.as_deref().unwrap_or("no poll was completed")
        ),
        End::Unreachable { project, reason } => format!(
            "the API of project {project} is unreachable: {reason}\nThe operations at Ampersand continue. Run the command again when the API answers."
        ),
        End::Rejected { project, reason } => {
            let projects = &settings.ampersand.projects;
            let source = projects.iter().find(|known| *known.name == **project);
            let source = source.map_or_else(String::new, |project| format!(" from {}", project.api_key));
            format!(
                "the API rejected the key of project {project}{source}: {reason}\nReplace it with an active key of this \
                 project."
            )
        }
        End::Stopped(_) if !tally.answered => format!(
            "{}\nNothing was changed at Ampersand. Run the command again to continue.",
            tally.unfinished_text(named)
        ),
        End::Stopped(_) => format!(
            "{}\nThe operations at Ampersand continue. Run the command again to watch them.",
            tally.unfinished_text(named)
        ),
        End::OutputClosed(Some(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
            format!("cannot write to standard output: {error}")
        }
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
        assert_eq!(exit_code(&End::Finished, &all), 0);
        for phase in [Phase::Failed, Phase::Ended, Phase::Gone, Phase::Expired] {
            let some = tally(&[(Phase::Succeeded, 3), (phase, 1)], true);
            assert_eq!(exit_code(&End::Finished, &some), 1, "{phase}");
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
    fn the_more_severe_of_two_ends_applies() {
        let applies = |a: End, b: End| exit_code(&a.or_more_severe(b), &tally(&[(Phase::Failed, 1)], true));
        assert_eq!(applies(End::TimedOut, rejected()), 4);
        assert_eq!(applies(rejected(), unreachable()), 4);
        assert_eq!(applies(End::Finished, unreachable()), 3);
        assert_eq!(applies(unreachable(), End::TimedOut), 3);
    }
}
