//! What happens on the screen, and on the stage behind it, frame by frame.

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

/// The callbacks that came in.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CallbackCounts {
    pub(super) verified: usize,
    /// Those that were not signed as they should be.
    pub(super) refused: usize,
}

/// The demo while it runs.
pub(super) struct Playback<'a> {
    screen: Screen,
    board: Arc<Board>,
    /// The watches as they were when the board was read last, in the order of their IDs.
    watches: Vec<WatchView>,
    callbacks: mpsc::Receiver<Callback>,
    simulator: &'a Simulator,
    folder: &'a Folder,
    pub(super) start: Instant,
    turns: VecDeque<(Duration, ScriptedStep)>,
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
            turns: script::turns().into(),
            seen: CallbackCounts::default(),
        }
    }

    /// Does what is due, and brings the screen up to date.
    pub(super) async fn go_on(&mut self) -> anyhow::Result<()> {
        let elapsed = clock::instant() - self.start;
        while self.turns.front().is_some_and(|(at, _)| *at <= elapsed) {
            if let Some((_, turn)) = self.turns.pop_front() {
                self.take(turn)?;
            }
        }
        while let Ok(callback) = self.callbacks.try_recv() {
            self.tell(&callback);
        }
        // A daemon that has stopped answers nothing; what was read last stays.
        if let Ok(watches) = self.board.all(WatchFilter::default()).await
            && !watches.is_empty()
        {
            self.watches = watches;
        }
        self.screen.draw(&progress_view::progress_view(&self.watches));
        Ok(())
    }

    fn take(&self, turn: ScriptedStep) -> anyhow::Result<()> {
        match turn {
            ScriptedStep::Mishap(replies, words) => {
                self.simulator.faults().script_all(replies);
                self.say(
                    " ",
                    &format!(
                        "{} {words}",
                        self.screen
                            .paint(TextStyle::Magenta, &format!("{:<19}", "the API answers"))
                    ),
                );
            }
            ScriptedStep::Add => {
                let line: String = script::parts()
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
                self.say(" ", &format!("{:<19} + {}", "watch.list", line.trim_end()));
            }
        }
        Ok(())
    }

    fn tell(&mut self, callback: &Callback) {
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
        // On a terminal the bars show the progress.
        if event_type != EventType::Progress || !self.screen.draws() {
            self.say(&mark, &event_text::line(&self.screen, event_type, &body));
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

    fn say(&self, mark: &str, line: &str) {
        let seconds = (clock::instant() - self.start).as_secs();
        let time = format!("{}:{:02}", seconds / 60, seconds % 60);
        self.screen.say(&format!(
            "{} {mark} {line}",
            self.screen.paint(TextStyle::Dim, &time)
        ));
    }
}

/// What stands before a callback that was verified, and before one that was not.
pub(super) fn marks(screen: &Screen) -> (&'static str, &'static str) {
    if screen.style.unicode {
        ("✓", "✗")
    } else {
        ("v", "x")
    }
}
