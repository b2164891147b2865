//! `backfill-watch demo`: the product in a minute. The real daemon watches simulated backfills; no account is needed,
//! and nothing is left behind.

mod cast;
mod folder;
mod lines;
mod screen;

use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::cast::{LATECOMER, Part, Turn};
use self::folder::Folder;
use self::screen::Screen;
use super::bars::Bars;
use super::exit;
use crate::app::{self, Ending, Insight, SettingsSource, Until};
use crate::board::Watched;
use crate::clock;
use crate::config::{Environment, Overrides};
use crate::core::event::EventType;
use crate::core::watch::{Phase, Watch};
use crate::report::log;
use crate::simulator::{Config, Requests, Simulator};
use crate::store::{Cursor, EventFilter};

const AFTER_HELP: &str = "\
Seven backfills of different fates are watched to their end, on this machine alone, by the daemon that `run` runs.
The demo exits with 0 when each ended as it should, one of them in failure.";

/// Settings as anybody would write them, but for a pace that fits into a minute.
const SETTINGS: &str = r#"
[poll]
initial_interval = "500ms"
min_interval = "400ms"
max_interval = "2s"
stalled_after = "3s"
progress_step = 25
progress_interval = "5s"

[http]
listen = "off"

[log]
# What happens to operations is on the screen already.
filter = "warn,backfill_watch::event=off"
"#;

/// How often the screen is brought up to date.
const FRAME: Duration = Duration::from_millis(100);
/// How many events are taken from the event log at a time.
const PAGE: usize = 100;

/// See it work: the daemon watches seven simulated backfills; takes less than a minute and no account
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct DemoArgs {}

/// Runs the demo to its end.
///
/// # Errors
/// When no temporary file can be written or nothing can listen on loopback.
pub async fn run(_: DemoArgs) -> anyhow::Result<ExitCode> {
    let folder =
        Folder::make().context("cannot make a temporary folder; set TMPDIR to one that can be written")?;
    let simulator = Simulator::start(Config::default())
        .await
        .context("cannot listen on a loopback address")?;
    let parts = cast::parts();
    for part in &parts {
        simulator.add_waiting(part.operation());
    }
    let source = settings(&folder, &simulator, &parts)?;
    let settings = source.load()?.settings;
    let screen = Screen::new();
    let log = log::init_to(&settings.log.filter, screen.clone())?;
    let insight = Insight::default();
    introduce(&screen, &parts);

    let mut show = Show::new(screen.clone(), insight.clone(), &simulator, &folder);
    let daemon = app::run_in_memory(source, settings, log, Until::Done, insight);
    tokio::pin!(daemon);
    let mut frames = interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let ending = loop {
        tokio::select! {
            ending = &mut daemon => break ending?,
            _ = frames.tick() => show.go_on().await?,
        }
        if screen.is_gone() {
            return Ok(ExitCode::SUCCESS);
        }
    };
    show.go_on().await?;
    let watches = show.watches();
    let took = clock::instant() - show.start;
    show.end();
    let requests = simulator.requests();
    simulator.stop().await;
    Ok(match ending {
        Ending::Stopped(signal) | Ending::Forced(signal) => ExitCode::from(signal.exit_code()),
        Ending::AllSucceeded | Ending::NotAllSucceeded => {
            conclude(&screen, &parts, &watches, &requests, took)
        }
    })
}

/// Writes what users write, settings and a watch list, and says where they are.
fn settings(folder: &Folder, simulator: &Simulator, parts: &[Part]) -> anyhow::Result<SettingsSource> {
    let list: String = parts
        .iter()
        .filter(|part| part.customer != LATECOMER)
        .map(Part::line)
        .collect();
    let file = folder.path().join("config.toml");
    let watch_list = folder.path().join("watch.list");
    fs::write(&file, SETTINGS)
        .and_then(|()| fs::write(&watch_list, list))
        .context("cannot write to the temporary folder")?;
    // Nothing of the environment's own: settings that are meant for a daemon here must not reach this one.
    let environment = Environment::from_iter([
        ("BACKFILL_WATCH_AMPERSAND__BASE_URL", simulator.base_url()),
        ("BACKFILL_WATCH_AMPERSAND__PROJECT", "my-project".to_owned()),
        ("AMPERSAND_API_KEY", "simulated-key".to_owned()),
    ]);
    Ok(SettingsSource {
        path: Some(file),
        environment,
        overrides: Overrides {
            watch_list: Some(watch_list),
            state_dir: Some(folder.path().to_owned()),
            listen: None,
            ..Overrides::default()
        },
    })
}

/// The demo while it runs.
struct Show<'a> {
    screen: Screen,
    bars: Option<Bars>,
    insight: Insight,
    simulator: &'a Simulator,
    folder: &'a Folder,
    start: Instant,
    turns: VecDeque<(Duration, Turn)>,
    /// How far the event log was told.
    told: Option<Cursor>,
}

impl<'a> Show<'a> {
    fn new(screen: Screen, insight: Insight, simulator: &'a Simulator, folder: &'a Folder) -> Self {
        let bars = screen.multi.clone().map(|multi| Bars::new(multi, screen.colour));
        Self {
            screen,
            bars,
            insight,
            simulator,
            folder,
            start: clock::instant(),
            turns: cast::turns().into(),
            told: None,
        }
    }

    /// Does what is due, and brings the screen up to date.
    async fn go_on(&mut self) -> anyhow::Result<()> {
        let elapsed = clock::instant() - self.start;
        while self.turns.front().is_some_and(|(at, _)| *at <= elapsed) {
            if let Some((_, turn)) = self.turns.pop_front() {
                self.take(turn)?;
            }
        }
        self.tell_events().await?;
        let watches = self.watches();
        if let Some(bars) = &mut self.bars {
            bars.draw(&watches, clock::wall());
        }
        Ok(())
    }

    fn take(&self, turn: Turn) -> anyhow::Result<()> {
        match turn {
            Turn::Mishap(replies, words) => {
                self.simulator.faults().script_all(replies);
                self.say(&format!(
                    "{} {words}",
                    self.screen.paint(35, &format!("{:<19}", "the API answers"))
                ));
            }
            Turn::Add => {
                let line: String = cast::parts()
                    .iter()
                    .filter(|part| part.customer == LATECOMER)
                    .map(Part::line)
                    .collect();
                let path = self.folder.path().join("watch.list");
                OpenOptions::new()
                    .append(true)
                    .open(path)
                    .and_then(|mut file| file.write_all(line.as_bytes()))
                    .context("cannot write to the temporary folder")?;
                self.say(&format!("{:<19} + {}", "watch.list", line.trim_end()));
            }
        }
        Ok(())
    }

    async fn tell_events(&mut self) -> anyhow::Result<()> {
        loop {
            let page = self
                .insight
                .store
                .events_after(self.told.clone(), PAGE, EventFilter::default())
                .await?;
            for event in page.events {
                // On a terminal the bars show the progress.
                if event.event_type == EventType::Progress && self.bars.is_some() {
                    continue;
                }
                let body = serde_json::from_str(&event.body)?;
                self.say(&lines::line(&self.screen, "", event.event_type, &body));
            }
            self.told = Some(page.next);
            if !page.more {
                return Ok(());
            }
        }
    }

    /// The listed watches in the order of their IDs.
    fn watches(&self) -> Vec<Arc<Watched>> {
        let mut watches = self.insight.board.all();
        watches.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        watches
    }

    fn end(self) {
        if let Some(bars) = self.bars {
            bars.leave();
            self.screen.end();
        }
    }

    fn say(&self, line: &str) {
        let seconds = (clock::instant() - self.start).as_secs();
        let time = format!("{}:{:02}", seconds / 60, seconds % 60);
        self.screen
            .say(&format!("{} {line}", self.screen.paint(2, &time)));
    }
}

fn introduce(screen: &Screen, parts: &[Part]) {
    screen.say(
        "The daemon that `backfill-watch run` runs, here with a simulated Ampersand API.\nIt watches:\n",
    );
    for part in parts {
        screen.say(&format!("  {:<16} {}", part.id().replace('-', " "), part.role));
    }
    screen.say("\nTakes about 35 seconds; Ctrl-C ends it.\n");
}

/// Says what was shown and what to do next.
fn conclude(
    screen: &Screen,
    parts: &[Part],
    watches: &[Arc<Watched>],
    requests: &Requests,
    took: Duration,
) -> ExitCode {
    let phase = |part: &Part| {
        watches
            .iter()
            .find(|watched| *watched.key.operation == *part.id())
            .map_or(Phase::Pending, |watched| watched.look(Watch::phase))
    };
    let wrong: Vec<String> = parts
        .iter()
        .filter(|part| phase(part) != part.end())
        .map(|part| format!("{} ended as {}, not {}", part.id(), phase(part), part.end()))
        .collect();
    let ended_in = |wanted| parts.iter().filter(|part| phase(part) == wanted).count();
    screen.say(&format!(
        "
What you saw in {:.0} seconds:
  - {} backfills watched to their end: {} succeeded, {} failed, each told in time
  - a line added to the watch list, and picked up without a restart
  - {} polls: {} were answered 5xx and {} throttled; none of that is a failure
Nothing is left behind.

Next, with your own operations, one ID a line in watch.list:
  export AMPERSAND_API_KEY=...  BACKFILL_WATCH_AMPERSAND__PROJECT=my-project
  backfill-watch check --live --watch-list watch.list
  backfill-watch run --until-done --watch-list watch.list --state-dir ./state
Or try it against an API in a bad mood, without an account:
  backfill-watch simulate --help",
        took.as_secs_f64(),
        parts.len(),
        ended_in(Phase::Succeeded),
        ended_in(Phase::Failed),
        requests.total,
        requests.server_errors,
        requests.throttled,
    ));
    if wrong.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "error: not as it should be; please report this: {}",
        wrong.join("; ")
    );
    ExitCode::from(exit::FAILED)
}
