//! The status on the whole terminal, refreshed until Ctrl-C.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::StatusArgs;
use super::detail::Detail;
use super::report::Report;
use super::screen::Screen;
use crate::cli::output::{Output, OutputError};
use crate::cli::terminal::{self, TextStyle};
use crate::cli::{Failure, exit, format};
use crate::clock;
use crate::core::text::one_line;

/// How often the daemon is asked.
const INTERVAL: Duration = Duration::from_secs(2);
/// A daemon with many watches is asked less often: it spends at most a fifth of its time on this.
const SHARE: u32 = 4;
/// The code of a process that was ended by `SIGTERM`.
const TERMINATED: u8 = 143;
/// The longest error, in bytes.
const MAX_ERROR: usize = 1_000;

/// What was read last.
#[derive(Debug)]
enum Content {
    Report(Box<Report>),
    Detail(Box<Detail>),
}

/// Shows the status until a signal ends it.
///
/// # Errors
/// When standard output is not a terminal, or the first answer does not come.
pub(super) async fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    if !std::io::stdout().is_terminal() {
        return Err(Failure {
            message: "--watch needs a terminal; without one, use `status --json` or `events --follow`"
                .to_owned(),
            code: exit::USAGE,
        }
        .into());
    }
    let mut signals = EndSignals::listen().context("cannot listen for signals")?;
    let mut resized = signal(SignalKind::window_change()).context("cannot listen for signals")?;
    let mut begin = clock::instant();
    let mut view = View {
        content: read(args).await?,
        read_at: clock::wall(),
        failure: None,
    };
    let mut terminal = AlternateScreen::enter()?;
    loop {
        terminal.draw(&view.lines(args))?;
        let pause = INTERVAL.max(begin.elapsed() * SHARE);
        tokio::select! {
            code = signals.end() => return Ok(ExitCode::from(code)),
            _ = resized.recv() => terminal.draw(&view.lines(args))?,
            () = tokio::time::sleep(pause) => {}
        }
        begin = clock::instant();
        let refreshed = tokio::select! {
            code = signals.end() => return Ok(ExitCode::from(code)),
            refreshed = read(args) => refreshed,
        };
        view.note(refreshed);
    }
}

async fn read(args: &StatusArgs) -> anyhow::Result<Content> {
    // After a restart, the daemon may be somewhere else.
    let daemon = args.find_daemon().await?;
    Ok(match &args.id {
        Some(_) => Content::Detail(Box::new(args.read_detail(&daemon).await?.0)),
        None => Content::Report(Box::new(Report::read(&daemon, &args.filters()).await?)),
    })
}

/// The last answer, and since when there is no new one.
struct View {
    content: Content,
    read_at: Timestamp,
    failure: Option<(Timestamp, String)>,
}

impl View {
    fn note(&mut self, refreshed: anyhow::Result<Content>) {
        let now = clock::wall();
        match refreshed {
            Ok(content) => {
                self.content = content;
                self.read_at = now;
                self.failure = None;
            }
            Err(error) => {
                let since = self.failure.take().map_or(now, |(since, _)| since);
                self.failure = Some((since, format!("{error:#}")));
            }
        }
    }

    /// The lines that fit on the terminal.
    fn lines(&self, args: &StatusArgs) -> Vec<String> {
        let mut screen = Screen::of_stdout();
        let height = terminal::rows().unwrap_or(24).max(4);
        let mut lines = match &self.failure {
            None => {
                let title = format!("backfill-watch status at {:.0}; Ctrl-C ends", screen.now);
                screen.paragraph("", &screen.style.paint(TextStyle::Dim, &title))
            }
            Some((since, error)) => {
                let text = format!(
                    "No answer for {}: {}. This is the status at {:.0}.",
                    format::time(clock::between(*since, screen.now)),
                    one_line(error, MAX_ERROR),
                    self.read_at
                );
                // The figures do not run on.
                screen.now = self.read_at;
                screen.paragraph(&screen.style.paint(TextStyle::Red, "ERROR    "), &text)
            }
        };
        lines.push(String::new());
        let left = height.saturating_sub(lines.len());
        lines.extend(match &self.content {
            Content::Report(report) => report.lines(&args.filters(), &screen, Some(left)),
            Content::Detail(detail) => detail.lines(&screen),
        });
        if lines.len() > height {
            let hidden = lines.len() + 1 - height;
            lines.truncate(height - 1);
            lines.push(format!("{} {hidden} more lines", screen.style.ellipsis()));
        }
        for line in &mut lines {
            *line = screen.style.shown(line).into_owned();
        }
        lines
    }
}

/// The signals that end the command.
struct EndSignals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl EndSignals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The exit code, once a signal ends the command. Ctrl-C is its regular end.
    async fn end(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 0,
            _ = self.terminate.recv() => TERMINATED,
            _ = self.hang_up.recv() => TERMINATED,
        }
    }
}

/// The second screen of the terminal. The first one, with what was printed before, returns when this is dropped.
struct AlternateScreen {
    out: Output,
}

impl AlternateScreen {
    fn enter() -> Result<Self, OutputError> {
        let mut screen = Self {
            out: Output::stdout(),
        };
        screen.out.raw(b"\x1b[?1049h\x1b[?25l\x1b[2J")?;
        Ok(screen)
    }

    /// Replaces what is shown, without flicker.
    fn draw(&mut self, lines: &[String]) -> Result<(), OutputError> {
        self.out.raw(b"\x1b[H")?;
        for (index, line) in lines.iter().enumerate() {
            if index > 0 {
                self.out.raw(b"\r\n")?;
            }
            self.out.text(line)?;
            self.out.raw(b"\x1b[K")?;
        }
        self.out.raw(b"\x1b[J")?;
        self.out.flush()
    }
}

impl Drop for AlternateScreen {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = self.out.raw(b"\x1b[?25h\x1b[?1049l");
        let _ = self.out.flush();
    }
}
