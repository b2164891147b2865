//! `backfill-watch demo`: the real daemon watches simulated backfills for about a minute. No account is needed, and no files
//! remain.

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
use self::playback::{DeliveryCounts, Playback, marks};
use self::screen::Screen;
use self::script::{Backfill, CUSTOMERS};
use super::progress_bars::{FRAME, HANG};
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

The daemon of `run` finds the seven backfills of four simulated customers, and watches them until they are finished.
Exit code 0 if all ended as expected, one of them as failed.";

/// Typical settings, with intervals that fit into a minute.
const SETTINGS: &str = r#"
[poll]
initial_interval = "500ms"
min_interval = "400ms"
max_interval = "2s"
stalled_after = "3s"
progress_step = 25
progress_interval = "5s"

[[discover]]
every = "1s"

[groups]
settle = "1s"

[webhook]
events = ["*"]
# A customer is complete after its last backfill, also on the screen.
max_in_flight = 1

[http]
listen = "off"

[log]
# Events are on the screen already.
filter = "warn,backfill_watch::event=off"
"#;

/// The most deliveries that wait for the next frame. There are about fifty in all.
const DELIVERIES: usize = 1_000;
/// The width of customer and object.
const NAME: usize = 16;
/// The signing secret. It protects nothing.
const SECRET: &str = "whsec_ZGVtbyBzZWNyZXQsIHByb3RlY3RzIG5vdGhpbmc=";

/// Watch simulated backfills for half a minute, without an account
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct DemoArgs {}

/// Runs the demo.
///
/// # Errors
/// When temporary files cannot be written, or no loopback address is free.
pub async fn run(_: DemoArgs) -> anyhow::Result<ExitCode> {
    let folder =
        Folder::create().context("cannot create a temporary folder; set TMPDIR to a writable folder")?;
    let simulator = Simulator::start(SimulatorConfig::default())
        .await
        .context("cannot listen on a loopback address")?;
    let backfills = script::backfills();
    let (delivery_sender, deliveries) = mpsc::channel(DELIVERIES);
    let receiver = Receiver::start(ReceiverConfig {
        secrets: vec![SECRET.parse()?],
        keep: 0,
        on_callback: Some(Arc::new(move |callback: &Callback| {
            // A delivery beyond the capacity is only missing on the screen.
            let _ = delivery_sender.try_send(callback.clone());
        })),
        ..ReceiverConfig::default()
    })
    .await
    .context("cannot listen on a loopback address")?;
    let source = settings(&folder, &simulator, &receiver)?;
    let loaded = source.load()?;
    let screen = Screen::new()?;
    let log = log::init_to(&loaded.settings.log.filter, screen.clone())?;
    let board = Arc::new(Board::default());
    introduce(&screen, &backfills);

    let mut playback = Playback::new(screen.clone(), Arc::clone(&board), deliveries, &simulator);
    let (end, stop) = oneshot::channel();
    let mut end = Some(end);
    let daemon = app::run_in_memory(source, loaded, log, RunUntil::Requested(stop), board);
    tokio::pin!(daemon);
    let mut frames = interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let ending = loop {
        tokio::select! {
            ending = &mut daemon => break ending?,
            _ = frames.tick() => playback.advance().await,
        }
        if playback.is_finished(CUSTOMERS.len())
            && let Some(end) = end.take()
        {
            // This fails only if the daemon has stopped already.
            let _ = end.send(());
        }
        if screen.is_closed() {
            return Ok(ExitCode::SUCCESS);
        }
    };
    playback.advance().await;
    let watches = playback.watches().to_vec();
    let took = clock::instant() - playback.start;
    let counts = playback.end();
    let requests = simulator.requests();
    simulator.stop().await;
    receiver.stop().await;
    let code = match ending {
        RunOutcome::Stopped(signal) | RunOutcome::Forced(signal) => ExitCode::from(signal.exit_code()),
        RunOutcome::AllSucceeded | RunOutcome::NotAllSucceeded | RunOutcome::LinesRejected => {
            conclude(&screen, &backfills, &watches, &requests, counts, took)
        }
    };
    screen.finish();
    Ok(code)
}

/// Writes settings as users do, and returns their paths.
fn settings(folder: &Folder, simulator: &Simulator, receiver: &Receiver) -> anyhow::Result<SettingsSource> {
    let file = folder.path().join("config.toml");
    // Without it, the watch list of a daemon on this machine would be read.
    let watch_list = folder.path().join("watch.list");
    fs::write(&file, SETTINGS)
        .and_then(|()| fs::write(&watch_list, ""))
        .context("cannot write to the temporary folder")?;
    // The environment of the process is not used: its settings are for another daemon.
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

fn introduce(screen: &Screen, backfills: &[Backfill]) {
    screen.print(
        "The daemon of `backfill-watch run`, with a simulated Ampersand API.
It has no list of operations. It finds the backfills of customers that install:
",
        0,
    );
    for backfill in backfills {
        screen.print(
            &format!("  {:<NAME$} {}", backfill.name(), backfill.role),
            NAME + 1,
        );
    }
    screen.print(
        &format!(
            "
Lines marked {} are events as your webhook receives them, with a verified signature.
Takes half a minute; Ctrl-C stops it.
",
            marks(screen).0
        ),
        0,
    );
}

/// Prints a summary and next steps.
fn conclude(
    screen: &Screen,
    backfills: &[Backfill],
    watches: &[WatchView],
    requests: &RequestCounts,
    deliveries: DeliveryCounts,
    took: Duration,
) -> ExitCode {
    let phase = |backfill: &Backfill| {
        watches
            .iter()
            .find(|view| progress_view::name(view) == backfill.name())
            .map_or(Phase::Pending, |view| view.watch.phase())
    };
    let mut unexpected: Vec<String> = backfills
        .iter()
        .filter(|backfill| phase(backfill) != backfill.end())
        .map(|backfill| {
            format!(
                "{} ended as {}, not {}",
                backfill.name(),
                phase(backfill),
                backfill.end()
            )
        })
        .collect();
    if deliveries.refused > 0 {
        unexpected.push(format!(
            "{} webhook deliveries had no valid signature",
            deliveries.refused
        ));
    }
    let ended_in = |end| backfills.iter().filter(|backfill| phase(backfill) == end).count();
    let summary = format!(
        "
What you saw in {:.0} seconds:
  - {} customers installed, {} backfills found without a watch list: {} succeeded, {} failed
  - a message for each customer when all its backfills were finished
  - {} signed webhook deliveries: {} verified, {} not
  - {} requests: {} answered with 5xx and {} throttled; all were retried
All files are removed.

Next, with your own project:
  export AMPERSAND_API_KEY=...
  export BACKFILL_WATCH_AMPERSAND__PROJECT=my-project
  export BACKFILL_WATCH_DISCOVER__0__PROJECT=my-project
  backfill-watch discover
  backfill-watch run --state-dir ./state
Or with an API that has faults, without an account:
  backfill-watch simulate --help",
        took.as_secs_f64(),
        CUSTOMERS.len(),
        watches.len(),
        ended_in(Phase::Succeeded),
        ended_in(Phase::Failed),
        deliveries.verified + deliveries.refused,
        deliveries.verified,
        deliveries.refused,
        requests.total,
        requests.server_errors,
        requests.throttled,
    );
    screen.print(&summary, HANG);
    if unexpected.is_empty() {
        return ExitCode::SUCCESS;
    }
    screen.finish();
    output::error(&format!(
        "unexpected result; please report this: {}",
        unexpected.join("; ")
    ));
    ExitCode::from(exit::FAILED)
}
