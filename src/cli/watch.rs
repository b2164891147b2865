//! `backfill-watch watch`: watches operations until they are finished, without a daemon, state or list.

mod event_text;
mod ids;
mod notices;
mod outcome;
mod output;
mod progress_view;
mod session;
mod short_ids;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, sleep_until};

use self::outcome::{End, Tally};
use self::output::{EventPrinter, Show};
use self::progress_view::progress_view;
use self::session::Session;
use super::output::notice;
use super::progress_bars::{FRAME, HANG};
use super::terminal::{self, TerminalStyle};
use super::text_wrap::wrap;
use super::{Failure, RequestArgs};
use crate::app::{self, StopSignal};
use crate::clock;
use crate::config::PollSettings;

/// An API that has not answered by then ends the command: its address is probably wrong.
const FIRST_ANSWER: Duration = Duration::from_mins(1);
const AFTER_HELP: &str = "\
Examples:
  One operation, with only an API key:
    export AMPERSAND_API_KEY=…
    backfill-watch watch --project my-project 3efc0f0f-4bb9-498f-996c-9893d98ca4b5

  In a script, for at most an hour:
    backfill-watch watch --timeout 1h \"$ID\" && echo done

  The running operations of one customer:
    backfill-watch list --integration ID --installation ID --status in_progress --output ids \\
        | backfill-watch watch -

Exit codes: 0 all succeeded; 1 an operation failed, ended otherwise, is gone or expired; 2 usage or \
settings; 3 the API could not be reached, or did not answer within the first minute; 4 the API key was \
rejected; 8 --timeout passed while operations were running; 130 and 143 stopped by SIGINT and SIGTERM. If several apply: 4, 3, 8, 1. The operations at \
Ampersand are never changed.";

/// Watch operations until they are finished
///
/// On a terminal, each operation has a live bar on standard error, and results are printed to standard output. Otherwise each
/// event is one line on standard output. Nothing is written to disk.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct WatchArgs {
    /// Operation IDs; `-` reads a watch list from standard input
    #[arg(value_name = "ID", required = true, allow_hyphen_values = false)]
    ids: Vec<String>,

    #[command(flatten)]
    request: RequestArgs,

    /// Stop after this time, such as 90s, 15m or 1h 30m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,

    /// Poll each operation at least this often
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    interval: Option<Duration>,

    /// Print only errors
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,

    /// Print each event as one line of JSON
    #[arg(long)]
    json: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    /// Sums with the current time stay in the range of every clock.
    const LONGEST: Duration = Duration::from_hours(10 * 366 * 24);
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; use a number with a unit, such as 30s, 5m or 1h 30m"))?;
    if duration.is_zero() || duration > LONGEST {
        return Err("use more than zero and at most 10 years".to_owned());
    }
    Ok(duration)
}

/// Watches the operations until an end.
///
/// # Errors
/// When settings or IDs are wrong, a part cannot be built, or watching ends before the operations do.
pub async fn run(args: WatchArgs) -> anyhow::Result<ExitCode> {
    let mut settings = args.request.load()?;
    if let Some(interval) = args.interval {
        set_interval(&mut settings.poll, interval);
    }
    let list = ids::read(args.ids, &app::project_names(&settings.ampersand)).await?;
    // Signals are handled only from here on: while reading standard input, the defaults apply.
    let mut stops = Stops::listen().context("cannot handle signals")?;
    let session = Session::start(&settings, list).await?;
    let show = match (args.json, args.quiet) {
        (true, _) => Show::Json,
        (_, true) => Show::Nothing,
        _ => Show::Default,
    };
    let mut watching = Watching {
        session,
        output: EventPrinter::new(show),
        timeout: args.timeout,
    };
    let end = watching.until_end(&mut stops).await;
    let (end, tally, was_live) = watching.conclude(end, &mut stops).await;
    let code = outcome::exit_code(&end, &tally);
    match outcome::message(&end, &tally, &settings, args.timeout, !was_live) {
        Some(_) if matches!(end, End::Stopped(_)) && show == Show::Nothing => {}
        Some(message) if matches!(end, End::Stopped(_)) => {
            notice(&terminal_text("", &format!("stopped: {message}")));
        }
        Some(message) => {
            return Err(Failure {
                message: terminal_text("error: ", &message),
                code,
            }
            .into());
        }
        None if show == Show::Default
            && watching.session.targets.len() > 1
            && matches!(end, End::Finished) =>
        {
            notice(&terminal_text("", &tally.summary()));
        }
        None => {}
    }
    Ok(ExitCode::from(code))
}

/// A message for standard error, where `prefix` comes before it: on a terminal in its characters, wrapped at words.
fn terminal_text(prefix: &str, message: &str) -> String {
    let style = TerminalStyle::stderr();
    let width = terminal::error_columns().map(|width| width.saturating_sub(1));
    let text = wrap(&format!("{prefix}{}", style.shown(message)), width, HANG);
    text.strip_prefix(prefix).unwrap_or(message).to_owned()
}

/// Sets the longest interval, and lowers the others to it.
fn set_interval(poll: &mut PollSettings, interval: Duration) {
    let schedule = &mut poll.schedule;
    schedule.max_interval = interval;
    schedule.initial_interval = schedule.initial_interval.min(interval);
    schedule.min_interval = schedule.min_interval.min(interval);
}

/// The signals that stop. `SIGHUP` keeps its default, so that closing the terminal ends the process.
struct Stops {
    interrupt: Signal,
    terminate: Signal,
}

impl Stops {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> End {
        End::Stopped(tokio::select! {
            _ = self.interrupt.recv() => StopSignal::Interrupt,
            _ = self.terminate.recv() => StopSignal::Terminate,
        })
    }
}

/// A session and its output.
struct Watching {
    session: Session,
    output: EventPrinter,
    timeout: Option<Duration>,
}

impl Watching {
    /// Prints events until there is an end.
    async fn until_end(&mut self, stops: &mut Stops) -> End {
        let deadline = self
            .timeout
            .and_then(|timeout| clock::instant().checked_add(timeout));
        let deadline = async move {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let mut deadline = std::pin::pin!(deadline);
        let mut first_answer = std::pin::pin!(sleep_until(clock::instant() + FIRST_ANSWER));
        let mut must_answer = true;
        let mut finished = std::pin::pin!(self.session.finished());
        // Drawing takes longer with many operations.
        let many = u32::try_from(self.session.targets.len() / 500).unwrap_or(u32::MAX);
        let mut frames = tokio::time::interval(FRAME.saturating_mul(many.saturating_add(1)));
        frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changes = self.session.changes();
        loop {
            let event = tokio::select! {
                // Events are printed before the end that they cause.
                biased;
                end = stops.next() => return end,
                () = &mut deadline => return End::TimedOut,
                Some(event) = self.session.events.recv() => event,
                () = &mut finished => return End::Finished,
                () = &mut first_answer, if must_answer => {
                    must_answer = false;
                    self.session.refresh_projects();
                    if self.session.was_answered() {
                        continue;
                    }
                    return End::Unanswered;
                }
                // An outage may begin and end between two frames.
                Ok(()) = changes.changed() => {
                    self.session.refresh_projects();
                    self.hint();
                    continue;
                }
                _ = frames.tick() => {
                    self.show().await;
                    continue;
                }
            };
            tokio::select! {
                biased;
                end = stops.next() => return end,
                () = &mut deadline => return End::TimedOut,
                printed = self.output.print(&event) => if let Err(closed) = printed {
                    return End::OutputClosed(closed.0);
                }
            }
            if let Some(end) = End::of(&event) {
                return end;
            }
        }
    }

    /// Prints what no event reports.
    fn hint(&mut self) {
        for hint in self.session.new_hints() {
            self.output.hint(&hint);
        }
    }

    /// Updates what is shown.
    async fn show(&mut self) {
        self.session.refresh().await;
        self.hint();
        self.output.draw(|| progress_view(&self.session));
    }

    /// Prints the remaining events. Returns the end that applies then, the phases of the operations, and whether bars show
    /// them.
    async fn conclude(&mut self, end: End, stops: &mut Stops) -> (End, Tally, bool) {
        let end = tokio::select! {
            biased;
            end = stops.next() => end,
            end = self.print_rest(end) => end,
        };
        let was_live = self.output.is_live();
        self.show().await;
        let tally = Tally::of(&self.session);
        if matches!(end, End::Stopped(_) | End::TimedOut) {
            self.output.leave();
        } else {
            self.output.erase();
        }
        (end, tally, was_live)
    }

    async fn print_rest(&mut self, mut end: End) -> End {
        match end {
            End::Stopped(_) => return end,
            End::OutputClosed(known) => return End::OutputClosed(known.or(self.output.finish().await.err())),
            _ => {}
        }
        while let Ok(event) = self.session.events.try_recv() {
            if let Err(closed) = self.output.print(&event).await {
                return End::OutputClosed(closed.0.or(self.output.finish().await.err()));
            }
            if let Some(other) = End::of(&event) {
                end = end.or_more_severe(other);
            }
        }
        match self.output.finish().await {
            Ok(()) => end,
            Err(error) => End::OutputClosed(Some(error)),
        }
    }
}

#[cfg(test)]
mod tests;
