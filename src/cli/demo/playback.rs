//! Runs the script of the demo, and updates the screen frame by frame.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::folder::Folder;
use super::screen::Screen;
use super::script::{self, Backfill, LATECOMER, ScriptedStep};
use super::{event_text, progress_view};
use crate::board::{Board, WatchFilter, WatchView};
use crate::cli::terminal::TextStyle;
use crate::clock;
use crate::core::event::EventType;
use crate::simulator::{Callback, Simulator};

/// The received callbacks.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CallbackCounts {
    pub(super) verified: usize,
    /// Those without a valid signature.
    pub(super) refused: usize,
}

/// The running demo.
pub(super) struct Playback<'a> {
    screen: Screen,
    board: Arc<Board>,
    /// The watches when the board was last read, in the order of their IDs.
    watches: Vec<WatchView>,
    callbacks: mpsc::Receiver<Callback>,
    simulator: &'a Simulator,
    folder: &'a Folder,
    pub(super) start: Instant,
    steps: VecDeque<(Duration, ScriptedStep)>,
    seen: CallbackCounts,
}

impl<'a> Playback<'a> {
    pub(super) fn new(
        screen: Screen,
        board: Arc<Board>,
        callbacks: mpsc::Receiver<Callback>,
        simulator: &'a Simulator,
        folder: &'a Folder,
    ) -> Self {
        Self {
            screen,
            board,
            watches: Vec::new(),
            callbacks,
            simulator,
            folder,
            start: clock::instant(),
            steps: script::steps().into(),
            seen: CallbackCounts::default(),
        }
    }

    /// Performs due steps, and updates the screen.
    pub(super) async fn advance(&mut self) -> anyhow::Result<()> {
        let elapsed = clock::instant() - self.start;
        while self.steps.front().is_some_and(|(at, _)| *at <= elapsed) {
            if let Some((_, step)) = self.steps.pop_front() {
                self.perform(step)?;
            }
        }
        while let Ok(callback) = self.callbacks.try_recv() {
            self.print(&callback);
        }
        // After the daemon stopped, the previous watches stay.
        if let Ok(watches) = self.board.all(WatchFilter::default()).await
            && !watches.is_empty()
        {
            self.watches = watches;
        }
        self.screen.draw(&progress_view::progress_view(&self.watches));
        Ok(())
    }

    fn perform(&self, step: ScriptedStep) -> anyhow::Result<()> {
        match step {
            ScriptedStep::Faults(replies, description) => {
                self.simulator.faults().script_all(replies);
                self.print_line(
                    " ",
                    &format!(
                        "{} {description}",
                        self.screen
                            .paint(TextStyle::Magenta, &format!("{:<19}", "the API answers"))
                    ),
                );
            }
            ScriptedStep::AddToList => {
                let line: String = script::backfills()
                    .iter()
                    .filter(|part| part.customer == LATECOMER)
                    .map(Backfill::line)
                    .collect();
                let path = self.folder.path().join("watch.list");
                OpenOptions::new()
                    .append(true)
                    .open(path)
                    .and_then(|mut file| file.write_all(line.as_bytes()))
                    .context("cannot write to the temporary folder")?;
                self.print_line(" ", &format!("{:<19} + {}", "watch.list", line.trim_end()));
            }
        }
        Ok(())
    }

    fn print(&mut self, callback: &Callback) {
        let marks = marks(&self.screen);
        let mark = match &callback.verified {
            Ok(()) => {
                self.seen.verified += 1;
                self.screen.paint(TextStyle::Green, marks.0)
            }
            Err(_) => {
                self.seen.refused += 1;
                self.screen.paint(TextStyle::Red, marks.1)
            }
        };
        let body = callback.json();
        let Some(event_type) = body["type"].as_str().and_then(EventType::parse) else {
            return;
        };
        // On a terminal, bars show the progress.
        if event_type != EventType::Progress || !self.screen.draws() {
            self.print_line(&mark, &event_text::line(&self.screen, event_type, &body));
        }
    }

    /// The listed watches in the order of their IDs.
    pub(super) fn watches(&self) -> &[WatchView] {
        &self.watches
    }

    /// Whether there are that many watches, all of them finished.
    pub(super) fn is_finished(&self, watches: usize) -> bool {
        self.watches.len() == watches && self.watches.iter().all(|view| view.watch.phase().is_finished())
    }

    pub(super) fn end(self) -> CallbackCounts {
        self.screen.leave();
        self.seen
    }

    fn print_line(&self, mark: &str, line: &str) {
        let seconds = (clock::instant() - self.start).as_secs();
        let time = format!("{}:{:02}", seconds / 60, seconds % 60);
        self.screen.print(&format!(
            "{} {mark} {line}",
            self.screen.paint(TextStyle::Dim, &time)
        ));
    }
}

/// The marks of verified and of other callbacks.
pub(super) fn marks(screen: &Screen) -> (&'static str, &'static str) {
    if screen.style.unicode {
        ("✓", "✗")
    } else {
        ("v", "x")
    }
}
