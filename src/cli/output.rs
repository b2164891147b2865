//! The output of all commands, complete or with an error.
//!
//! [`Output`] writes results to standard output. [`notice`] and [`error`] write to standard error. [`Background`] writes
//! to both on its own thread, for commands that must end even if the terminal is stopped. All of them finish partial
//! writes and escape control characters.

mod background;

use std::borrow::Cow;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

pub use self::background::Background;
use super::terminal::TerminalStyle;
use super::{exit, exit_code};
use crate::core::text::{escape_json, escape_lines};
use crate::report::log;
use crate::stdio::StandardStream;

/// How much is written at once.
const BUFFER: usize = 64 * 1024;

/// Whether some output was lost.
static IS_INCOMPLETE: AtomicBool = AtomicBool::new(false);

/// Why standard output is incomplete.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The reader closed it.
    #[error("standard output is closed")]
    Closed,
    /// It cannot be written.
    #[error("cannot write to standard output")]
    Failed(#[source] io::Error),
}

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Failed(error),
        }
    }
}

/// Standard output. Call [`flush`](Self::flush) at the end: dropping does not write.
#[derive(Debug)]
pub struct Output {
    buffer: Vec<u8>,
    is_terminal: bool,
}

impl Output {
    /// Standard output.
    #[must_use]
    pub fn stdout() -> Self {
        Self {
            buffer: Vec::new(),
            is_terminal: io::stdout().is_terminal(),
        }
    }

    /// Prints a line of text. Line ends and colours stay, other control characters are escaped.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn line(&mut self, text: &str) -> Result<(), OutputError> {
        self.text(text)?;
        self.raw(b"\n")
    }

    /// As [`line`](Self::line), without adding a line end.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn text(&mut self, text: &str) -> Result<(), OutputError> {
        self.raw(escape_lines(text).as_bytes())
    }

    /// Prints a JSON document. Only on a terminal, control characters are escaped.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn json(&mut self, document: &str) -> Result<(), OutputError> {
        let document = match self.is_terminal {
            true => escape_json(document),
            false => Cow::Borrowed(document),
        };
        self.raw(document.as_bytes())
    }

    /// Prints bytes that this program made.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < BUFFER {
            return Ok(());
        }
        self.flush()
    }

    /// Writes everything that was printed.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn flush(&mut self) -> Result<(), OutputError> {
        let written = StandardStream::Stdout.write_all(&self.buffer);
        self.buffer.clear();
        Ok(written?)
    }

    /// Whether the reader closed it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        StandardStream::Stdout.is_closed()
    }
}

/// Writes a line to standard error. A closed standard error is ignored.
pub fn notice(text: &str) {
    let _ = StandardStream::Stderr.write_all(format!("{}\n", escape_lines(text)).as_bytes());
}

/// Writes an error to standard error.
pub fn error(text: &str) {
    notice(&format!("error: {text}"));
}

/// Prints an error of the command line, or the requested help or version.
#[must_use]
pub fn usage(error: &clap::Error) -> ExitCode {
    let is_error = error.use_stderr();
    let style = if is_error {
        TerminalStyle::stderr()
    } else {
        TerminalStyle::stdout()
    };
    let text = match style.colour {
        true => error.render().ansi().to_string(),
        false => error.render().to_string(),
    };
    // `escape_lines` keeps styles, and escapes what the user typed.
    let text = escape_lines(&text);
    if is_error {
        let _ = StandardStream::Stderr.write_all(text.as_bytes());
        return ExitCode::from(exit::USAGE);
    }
    let mut output = Output::stdout();
    let printed = output.raw(text.as_bytes()).and_then(|()| output.flush());
    conclude(printed.map(|()| ExitCode::SUCCESS).map_err(Into::into))
}

/// Ends a command: prints its error, waits for pending output, and returns its exit code.
#[must_use]
pub fn conclude(result: anyhow::Result<ExitCode>) -> ExitCode {
    let (mut code, last) = match result {
        Ok(code) => (code, String::new()),
        Err(error) if matches!(error.downcast_ref(), Some(OutputError::Closed)) => {
            (ExitCode::SUCCESS, String::new())
        }
        Err(error) => {
            let text = format!("error: {error:#}\n");
            (
                ExitCode::from(exit_code(&error)),
                escape_lines(&text).into_owned(),
            )
        }
    };
    if IS_INCOMPLETE.load(Ordering::Relaxed) && code == ExitCode::SUCCESS {
        code = ExitCode::from(exit::FAILED);
    }
    log::finish(&last);
    code
}
