//! `backfill-watch demo`: the product in a minute. The real daemon watches simulated backfills; no account is needed,
//! and nothing is left behind.

mod event_text;
mod folder;
mod playback;
mod progress_view;
mod screen;
mod script;

use std::fs;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use self::folder::Folder;
use self::playback::{CallbackCounts, Playback, marks};
use self::screen::Screen;
use self::script::{Backfill, LATECOMER};
use super::progress_bars::FRAME;
use super::{exit, output};
use crate::app::{self, RunOutcome, RunUntil, SettingsSource};
use crate::board::{Board, WatchView};
use crate::clock;
use crate::config::{Environment, Overrides};
use crate::core::phase::Phase;
use crate::report::log;
use crate::simulator::{Callback, Receiver, ReceiverConfig, RequestCounts, Simulator, SimulatorConfig};

const AFTER_HELP: &str = "\
Examples:
  backfill-watch demo
  NO_COLOR=1 backfill-watch demo

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

[webhook]
events = ["*"]

[http]
listen = "off"

[log]
# What happens to operations is on the screen already.
filter = "warn,backfill_watch::event=off"
"#;

/// How many callbacks may wait for the next frame; there are about fifty in all.
const CALLBACKS: usize = 1_000;
/// What callbacks are signed with. Anybody may know it: it protects nothing.
const SECRET: &str = "whsec_ZGVtbyBzZWNyZXQsIHByb3RlY3RzIG5vdGhpbmc=";

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
    let simulator = Simulator::start(SimulatorConfig::default())
        .await
        .context("cannot listen on a loopback address")?;
    let parts = script::parts();
    for part in &parts {
        simulator.add_waiting(part.operation());
    }
    let (callback_sender, callbacks) = mpsc::channel(CALLBACKS);
    let receiver = Receiver::start(ReceiverConfig {
        secrets: vec![SECRET.parse()?],
        keep: 0,
        on_callback: Some(Arc::new(move |callback: &Callback| {
            // One that finds no room is delivered all the same; it is missing on the screen alone.
            let _ = callback_sender.try_send(callback.clone());
        })),
        ..ReceiverConfig::default()
    })
    .await
    .context("cannot listen on a loopback address")?;
    let source = settings(&folder, &simulator, &receiver, &parts)?;
    let loaded = source.load()?;
    let screen = Screen::new()?;
    let log = log::init_to(&loaded.settings.log.filter, screen.clone())?;
    let board = Arc::new(Board::default());
    introduce(&screen, &parts);

    let mut show = Playback::new(screen.clone(), Arc::clone(&board), callbacks, &simulator, &folder);
    let (end, asked) = oneshot::channel();
    let mut end = Some(end);
    let daemon = app::run_in_memory(source, loaded, log, RunUntil::Asked(asked), board);
    tokio::pin!(daemon);
    let mut frames = interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let ending = loop {
        tokio::select! {
            ending = &mut daemon => break ending?,
            _ = frames.tick() => show.go_on().await?,
        }
        if show.is_finished(parts.len())
            && let Some(end) = end.take()
        {
            // It fails only when the daemon has stopped already.
            let _ = end.send(());
        }
        if screen.is_gone() {
            return Ok(ExitCode::SUCCESS);
        }
    };
    show.go_on().await?;
    let watches = show.watches().to_vec();
    let took = clock::instant() - show.start;
    let seen = show.end();
    let requests = simulator.requests();
    simulator.stop().await;
    receiver.stop().await;
    let code = match ending {
        RunOutcome::Stopped(signal) | RunOutcome::Forced(signal) => ExitCode::from(signal.exit_code()),
        RunOutcome::AllSucceeded | RunOutcome::NotAllSucceeded | RunOutcome::LinesRejected => {
            conclude(&screen, &parts, &watches, &requests, seen, took)
        }
    };
    screen.finish();
    Ok(code)
}

/// Writes what users write, settings and a watch list, and says where they are.
fn settings(
    folder: &Folder,
    simulator: &Simulator,
    receiver: &Receiver,
    parts: &[Backfill],
) -> anyhow::Result<SettingsSource> {
    let list: String = parts
        .iter()
        .filter(|part| part.customer != LATECOMER)
        .map(Backfill::line)
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
        ("BACKFILL_WATCH_WEBHOOK__URL", receiver.url()),
        ("BACKFILL_WATCH_WEBHOOK_SECRET", SECRET.to_owned()),
    ]);
    Ok(SettingsSource {
        path: Some(file),
        environment,
        overrides: Overrides {
            watch_list: Some(watch_list),
            state_dir: Some(folder.path().to_owned()),
            ..Overrides::default()
        },
    })
}

fn introduce(screen: &Screen, parts: &[Backfill]) {
    screen.say(
        "The daemon that `backfill-watch run` runs, here with a simulated Ampersand API.\nIt watches:\n",
    );
    for part in parts {
        screen.say(&format!("  {:<16} {}", part.id().replace('-', " "), part.role));
    }
    screen.say(&format!(
        "
Lines marked {} are webhook callbacks that arrived, their signatures verified.
Takes half a minute; Ctrl-C ends it.
",
        marks(screen).0
    ));
}

/// Says what was shown and what to do next.
fn conclude(
    screen: &Screen,
    parts: &[Backfill],
    watches: &[WatchView],
    requests: &RequestCounts,
    seen: CallbackCounts,
    took: Duration,
) -> ExitCode {
    let phase = |part: &Backfill| {
        watches
            .iter()
            .find(|view| *view.key.operation == *part.id())
            .map_or(Phase::Pending, |view| view.watch.phase())
    };
    let mut wrong: Vec<String> = parts
        .iter()
        .filter(|part| phase(part) != part.end())
        .map(|part| format!("{} ended as {}, not {}", part.id(), phase(part), part.end()))
        .collect();
    if seen.refused > 0 {
        wrong.push(format!("{} callbacks had no good signature", seen.refused));
    }
    let ended_in = |wanted| parts.iter().filter(|part| phase(part) == wanted).count();
    screen.say(&format!(
        "
What you saw in {:.0} seconds:
  - {} backfills watched to their end: {} succeeded, {} failed, each told in time
  - {} signed webhook callbacks: {} verified, {} not
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
        seen.verified + seen.refused,
        seen.verified,
        seen.refused,
        requests.total,
        requests.server_errors,
        requests.throttled,
    ));
    if wrong.is_empty() {
        return ExitCode::SUCCESS;
    }
    screen.finish();
    output::error(&format!(
        "not as it should be; please report this: {}",
        wrong.join("; ")
    ));
    ExitCode::from(exit::FAILED)
}
