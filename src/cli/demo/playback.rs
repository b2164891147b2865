//! Runs the script of the demo, and updates the screen frame by frame.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::screen::Screen;
use super::script::{self, ScriptedStep};
use super::{event_text, progress_view};
use crate::board::{Board, WatchFilter, WatchView};
use crate::cli::terminal::TextStyle;
use crate::clock;
use crate::core::event::EventType;
use crate::simulator::{Callback, Simulator};

/// The received deliveries.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DeliveryCounts {
    pub(super) verified: usize,
    /// Those without a valid signature.
    pub(super) refused: usize,
    /// Those that report a completed group.
    pub(super) completed_groups: usize,
}

/// The running demo.
pub(super) struct Playback<'a> {
    screen: Screen,
    board: Arc<Board>,
    /// The watches when the board was last read, by customer and object.
    watches: Vec<WatchView>,
    deliveries: mpsc::Receiver<Callback>,
    simulator: &'a Simulator,
    pub(super) start: Instant,
    steps: VecDeque<(Duration, ScriptedStep)>,
    seen: DeliveryCounts,
}

impl<'a> Playback<'a> {
    pub(super) fn new(
        screen: Screen,
        board: Arc<Board>,
        deliveries: mpsc::Receiver<Callback>,
        simulator: &'a Simulator,
    ) -> Self {
        Self {
            screen,
            board,
            watches: Vec::new(),
            deliveries,
            simulator,
            start: clock::instant(),
            steps: script::steps().into(),
            seen: DeliveryCounts::default(),
        }
    }

    /// Performs due steps, and updates the screen.
    pub(super) async fn advance(&mut self) {
        let elapsed = clock::instant() - self.start;
        while self.steps.front().is_some_and(|(at, _)| *at <= elapsed) {
            if let Some((_, step)) = self.steps.pop_front() {
                self.perform(step);
            }
        }
        while let Ok(callback) = self.deliveries.try_recv() {
            self.print(&callback);
        }
        // After the daemon stopped, the previous watches stay.
        if let Ok(mut watches) = self.board.all(WatchFilter::default()).await
            && !watches.is_empty()
        {
            // The order of IDs is the order of starts, which changes from run to run.
            watches.sort_by_cached_key(progress_view::name);
            self.watches = watches;
        }
        self.screen.draw(&progress_view::progress_view(&self.watches));
    }

    fn perform(&self, step: ScriptedStep) {
        match step {
            ScriptedStep::Install(customer) => {
                self.simulator.install(script::installation(customer));
                let objects = script::objects(customer).join(", ");
                self.print_step("customer installs", &format!("{customer:<16} {objects}"));
            }
            ScriptedStep::Faults(replies, description) => {
                self.simulator.faults().script_all(replies);
                self.print_step("the API answers", description);
            }
        }
    }

    fn print_step(&self, what: &str, detail: &str) {
        let what = format!("{what:<19}");
        let what = self.screen.paint(TextStyle::Magenta, &what);
        self.screen.print_line(" ", &format!("{what} {detail}"));
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
        self.seen.completed_groups += usize::from(event_type == EventType::GroupCompleted);
        // On a terminal, bars show the progress.
        if event_type != EventType::Progress || !self.screen.draws() {
            self.screen
                .print_line(mark, &event_text::line(&self.screen, event_type, &body));
        }
    }

    /// The watches, by customer and object.
    pub(super) fn watches(&self) -> &[WatchView] {
        &self.watches
    }

    /// Whether that many groups are completed.
    pub(super) fn is_finished(&self, groups: usize) -> bool {
        self.seen.completed_groups >= groups
    }

    pub(super) fn end(self) -> DeliveryCounts {
        self.screen.leave();
        self.seen
    }
}

/// The marks of verified and of other deliveries. They differ from the signs of phases.
pub(super) fn marks(screen: &Screen) -> (&'static str, &'static str) {
    if screen.style.unicode {
        ("→", "?")
    } else {
        (">", "?")
    }
}
