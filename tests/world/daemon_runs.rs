//! Runs the daemon through a world. Each start of it, up to a stop or a crash, is one run.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use backfill_watch::app::{Daemon, DaemonParts, WebhookSecrets};
use backfill_watch::board::Board;
use backfill_watch::clock;
use backfill_watch::config::{DiscoveryRules, Environment, GroupSettings, Overrides, Settings};
use backfill_watch::core::discovery::DiscoveryRule;
use backfill_watch::core::watch_list::parse;
use backfill_watch::health::Health;
use backfill_watch::random::RandomSource;
use backfill_watch::report::metrics::Metrics;
use backfill_watch::sources::watch_list::WatchListSnapshot;
use backfill_watch::store::{MemoryEngine, Store};
use secrecy::SecretSlice;
use tokio::sync::{mpsc, watch};

use crate::api::Api;
use crate::clients::{Client, on_disk};
use crate::disk::Disk;
use crate::extras;
use crate::random::Random;
use crate::receivers::Receivers;
use crate::scenario::{Action, ENDPOINTS, EventsOf, Knobs, PROJECTS, seconds};
use crate::world::{Armed, REQUEST_TIMEOUT, World, key_of};

const STOP: Duration = Duration::from_secs(8);
/// The deadline for reporting everything that ended, after the last fault; delivery has the longer one.
const PATIENCE: Duration = Duration::from_hours(3);
const PATIENCE_OF_RECEIVERS: Duration = Duration::from_hours(100);

/// The result of one world.
pub struct Outcome {
    pub broken: Option<String>,
    pub journal: Vec<String>,
    pub events: usize,
    pub polls: usize,
}

enum End {
    Stopped(Duration),
    Crashed(Duration),
    Finished,
}

static SETTINGS: LazyLock<[Settings; 3]> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("key", "an-api-key");
    write("secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr\n");
    [EventsOf::All, EventsOf::Default, EventsOf::Endings].map(|third| {
        let mut text = String::from("[http]\nlisten = \"off\"\n");
        for project in PROJECTS {
            writeln!(text, "[[ampersand.projects]]\nname = \"{project}\"\napi_key_file = \"key\"").unwrap();
        }
        for (name, events) in ENDPOINTS.iter().zip([EventsOf::All, EventsOf::Default, third]) {
            writeln!(text, "[[webhooks]]\nname = \"{name}\"\nurl = \"https://{name}.example/0\"\nsecret_file = \"secret\"")
                .unwrap();
            match events {
                EventsOf::All => text.push_str("events = [\"*\"]\n"),
                EventsOf::Default => {}
                EventsOf::Endings => text.push_str(
                    "events = [\"operation.succeeded\", \"operation.failed\", \"operation.ended\", \"operation.gone\", \
                     \"operation.expired\"]\n",
                ),
            }
        }
        let file = folder.path().join("config.toml");
        std::fs::write(&file, text).unwrap();
        Settings::load(Some(&file), &Environment::default(), &Overrides::default()).unwrap().settings
    })
});

fn settings(world: &World, knobs: &Knobs) -> Settings {
    let [all, default, endings] = &*SETTINGS;
    let mut settings = match world.scenario.events[2] {
        EventsOf::All => all,
        EventsOf::Default => default,
        EventsOf::Endings => endings,
    }
    .clone();
    let count = |count| NonZeroUsize::new(count).unwrap();
    settings.ampersand.request_timeout = REQUEST_TIMEOUT;
    settings.ampersand.max_concurrent_requests = count(knobs.concurrent);
    settings.ampersand.max_requests_per_second = knobs.per_second;
    settings.shutdown_timeout = STOP;
    let schedule = &mut settings.poll.schedule;
    (
        schedule.min_interval,
        schedule.initial_interval,
        schedule.max_interval,
    ) = (knobs.min, knobs.initial, knobs.max);
    schedule.adaptive = knobs.adaptive;
    let rules = &mut settings.poll.watch;
    rules.stalled_after = knobs.stalled_after;
    rules.unreachable_after = knobs.unreachable_after;
    rules.not_found_grace = knobs.grace;
    rules.give_up_after = knobs.give_up_after;
    if knobs.queued_is_active {
        rules.active_statuses.push("queued".to_owned());
    }
    settings.poll.max_retry_after = knobs.max_retry_after;
    settings.discovery = discovery_rules(world, knobs);
    settings.groups = GroupSettings::new(knobs.group_by, knobs.settle);
    let mut configured = knobs.endpoints.iter();
    settings.webhooks.retain(|_| *configured.next().unwrap());
    for webhook in &mut settings.webhooks {
        webhook.url.set_path(&knobs.url.to_string());
        webhook.max_in_flight = count(knobs.in_flight);
        webhook.max_backlog = count(knobs.max_backlog);
    }
    settings
}

fn discovery_rules(world: &World, knobs: &Knobs) -> DiscoveryRules {
    let rules = PROJECTS.iter().zip(&world.scenario.extras.rules);
    let rules = rules.filter_map(|(project, rule)| {
        let rule = rule.as_ref().filter(|_| knobs.discovers)?;
        let rule = DiscoveryRule {
            every: rule.every,
            lookback: rule.lookback,
            deadline: rule.deadline,
            ..DiscoveryRule::everything()
        };
        Some((Arc::from(*project), Arc::from([rule])))
    });
    rules.collect()
}

fn secrets() -> WebhookSecrets {
    let secret = || vec![SecretSlice::from(vec![7; 32])];
    ENDPOINTS
        .iter()
        .map(|name| (Arc::from(*name), secret()))
        .collect()
}

/// The file as it would be written, with wrong lines among the right ones.
fn list_file(world: &World, listed: &[usize], labels: u64, noise: u64) -> String {
    let random = &mut Random::new(noise);
    let mut text = String::new();
    for index in listed {
        let course = &world.scenario.operations[*index];
        let end = if random.percent(10) { "\r\n" } else { "\n" };
        match random.between(0, 20) {
            0 => text.push_str("customer=nobody\n"),
            1 => text.push_str("not an/id\n# a comment\n\n"),
            2 => text.push_str("x project=nowhere\n"),
            _ => {}
        }
        let project = PROJECTS[course.project];
        write!(text, "{} project={project}", course.id).unwrap();
        let terms = extras::terms(&world.scenario, *index, labels);
        for (name, value) in &terms.labels {
            write!(text, " {name}={value}").unwrap();
        }
        if let Some(deadline) = terms.deadline {
            write!(text, " deadline=\"{deadline}\"").unwrap();
        }
        text.push_str(end);
        if random.percent(5) {
            writeln!(text, "{} project={project} again=1", course.id).unwrap();
        }
    }
    text
}

thread_local! {
    /// What panicked on this thread; the scripted panics come past the hook.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

static HOOK: LazyLock<()> = LazyLock::new(|| {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANIC.set(Some(panic.to_string()));
        before(panic);
    }));
});

pub fn run(seed: u64) -> Outcome {
    LazyLock::force(&HOOK);
    PANIC.take();
    let world = World::new(seed);
    let memory = Arc::new(MemoryEngine::default());
    let mut left = Persistent {
        actions: world.scenario.actions.iter().cloned().collect(),
        snapshot: WatchListSnapshot {
            is_checked: true,
            ..WatchListSnapshot::default()
        },
        away: Duration::ZERO,
        is_calm: false,
    };
    loop {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let (end, now) = runtime.block_on(async {
            let end = run_daemon(&world, &memory, &mut left).await;
            (end, world.now())
        });
        drop(runtime);
        let away = match end {
            _ if world.violation().is_some() => break,
            End::Finished => break,
            End::Stopped(away) | End::Crashed(away) => away,
        };
        world.end_run(now, away);
        world.note(|| format!("a new run after {away:?}"));
    }
    if let Some(panic) = PANIC.take() {
        world.violate(panic);
    }
    let (events, polls) = world.counts();
    Outcome {
        broken: world.violation(),
        journal: world.journal(),
        events,
        polls,
    }
}

/// What survives a crash of the daemon.
struct Persistent {
    actions: VecDeque<(Duration, Action)>,
    snapshot: WatchListSnapshot,
    /// For how long the process is gone after the crash that was armed.
    away: Duration,
    is_calm: bool,
}

async fn run_daemon(world: &Arc<World>, memory: &Arc<MemoryEngine>, left: &mut Persistent) -> End {
    let chance = world.begin_run();
    let knobs = world.knobs();
    let store = Store::new(
        Arc::new(Disk::new(Arc::clone(world), Arc::clone(memory))),
        world.wall(),
    );
    let board = Arc::<Board>::default();
    let health = Health::new(Arc::clone(&board), REQUEST_TIMEOUT);
    let (list, list_receiver) = watch::channel(Arc::new(left.snapshot.clone()));
    let (changes, api_changes) = mpsc::channel(4);
    world.adopt(&on_disk(world, memory).await);
    let reporter = Arc::clone(world);
    let parts = DaemonParts {
        fetch: Api(Arc::clone(world)),
        polling: tokio::runtime::Handle::current(),
        sender: Arc::new(Receivers(Arc::clone(world))),
        store: store.clone(),
        list: list_receiver,
        api: api_changes,
        board,
        metrics: Metrics::new(),
        reporters: vec![Box::new(move |event| reporter.reported(event.id.as_str()))],
        random: RandomSource::seeded(chance),
    };
    world.maybe_configured(knobs.endpoints);
    let settings_now = settings(world, &knobs);
    let booted = tokio::select! {
        biased;
        () = world.interrupted() => return End::Crashed(left.away),
        booted = Daemon::new(parts, &settings_now, secrets()) => booted,
    };
    let Ok(mut daemon) = booted else {
        // It ends with an error, and is started again, until the disk works.
        while left.actions.front().is_some_and(|(when, _)| *when <= world.now()) {
            let (_, action) = left.actions.pop_front().unwrap();
            let is_last = matches!(action, Action::Calm);
            apply_action(world, left, action);
            if is_last {
                break;
            }
        }
        return End::Crashed(seconds(5));
    };
    world.configured(knobs.endpoints);
    daemon.start();
    let mut client = world
        .scenario
        .has_client()
        .then(|| Client::start(world, memory, store.clone(), changes));
    let began = clock::instant();
    let base = world.now();
    loop {
        let now = world.now();
        let next = left
            .actions
            .front()
            .map_or(now + seconds(60), |(when, _)| (*when).min(now + seconds(60)));
        tokio::select! {
            biased;
            () = world.interrupted() => return End::Crashed(left.away),
            () = tokio::time::sleep_until(began + next.saturating_sub(base)) => {}
        }
        check_health_and_limits(world, &health, &store).await;
        if world.violation().is_some() {
            return End::Finished;
        }
        while left.actions.front().is_some_and(|(when, _)| *when <= world.now()) {
            let (_, action) = left.actions.pop_front().unwrap();
            world.note(|| format!("action {action:?}"));
            match action {
                Action::Reload(knobs) => {
                    world.maybe_configured(knobs.endpoints);
                    world.begin_reload((*knobs).clone());
                    let settings = settings(world, &knobs);
                    let applied = tokio::select! {
                        biased;
                        () = world.interrupted() => {
                            // The file has them, whatever became of the reload.
                            world.end_reload(true);
                            return End::Crashed(left.away);
                        }
                        applied = daemon.apply(&settings, secrets()) => applied,
                    };
                    world.end_reload(applied.is_ok());
                    if applied.is_ok() {
                        world.configured(knobs.endpoints);
                    }
                }
                Action::Key(project) => {
                    world.replace_key(project);
                    daemon.keys_replaced(&[PROJECTS[project].into()]);
                }
                Action::Stop { away } => {
                    return match stop(world, &mut daemon, client.take()).await {
                        Some(()) => End::Stopped(away),
                        None => End::Crashed(left.away),
                    };
                }
                Action::Crash { away } => return End::Crashed(away),
                Action::CrashAtCommit { before, away } => {
                    left.away = away;
                    world.arm(if before {
                        Armed::BeforeCommit
                    } else {
                        Armed::AfterCommit
                    });
                }
                Action::CrashAtReceipt { away } => {
                    left.away = away;
                    world.arm(Armed::AfterReceipt);
                }
                Action::Put { operations, version } => {
                    if let Some(client) = &client {
                        client.put(world, &operations, version);
                    }
                }
                Action::Withdraw(operation) => {
                    if let Some(client) = &client {
                        client.withdraw(world, operation);
                    }
                }
                other => {
                    apply_action(world, left, other);
                    list.send_replace(Arc::new(left.snapshot.clone()));
                }
            }
        }
        if left.is_calm && left.actions.is_empty() {
            let calm_for = world.now().saturating_sub(world.scenario.calm);
            let (unreported, undelivered) = (world.unreported(), world.undelivered());
            let stats = store.endpoint_stats().await.unwrap();
            let waits = stats.iter().any(|stats| stats.backlog > 0);
            if unreported.is_empty() && undelivered.is_empty() && !waits && !world.has_open_group() {
                let _ = stop(world, &mut daemon, client.take()).await;
                world.adopt(&on_disk(world, memory).await);
                return End::Finished;
            }
            if calm_for > PATIENCE && !unreported.is_empty() {
                world.violate(format!(
                    "ended, and not reported for {PATIENCE:?}: {unreported:?}"
                ));
            } else if calm_for > PATIENCE_OF_RECEIVERS {
                world.violate(format!("recorded, and not delivered: {undelivered:?}, {stats:?}"));
            }
        }
    }
}

/// Applies an action that needs no running daemon.
fn apply_action(world: &World, left: &mut Persistent, action: Action) {
    match action {
        Action::List {
            listed,
            labels,
            noise,
        } => {
            let text = list_file(world, &listed, labels, noise);
            let projects: Vec<Arc<str>> = PROJECTS.iter().map(|name| Arc::from(*name)).collect();
            let list = parse(text.as_bytes(), &projects);
            let wanted = listed.iter().map(|index| {
                let operation = &world.scenario.operations[*index];
                (key_of(operation), extras::terms(&world.scenario, *index, labels))
            });
            let wanted: BTreeMap<_, _> = wanted.collect();
            if list.entries.len() != wanted.len() {
                world.violate(format!("{} lines apply of {}", list.entries.len(), wanted.len()));
            }
            world.list(&wanted);
            left.snapshot.list = Some(Arc::new(list));
            left.snapshot.generation += 1;
        }
        Action::Step(seconds) => world.step(seconds),
        Action::Reload(knobs) => {
            world.maybe_configured(knobs.endpoints);
            world.set_knobs(*knobs);
        }
        Action::Key(project) => world.replace_key(project),
        Action::DiskFull => world.disk_full(true),
        Action::DiskWorks => world.disk_full(false),
        Action::Calm => left.is_calm = true,
        Action::Stop { .. }
        | Action::Crash { .. }
        | Action::CrashAtCommit { .. }
        | Action::CrashAtReceipt { .. }
        | Action::Put { .. }
        | Action::Withdraw(_) => {}
    }
}

/// Checks the health of the daemon and its limits.
async fn check_health_and_limits(world: &World, health: &Health, store: &Store) {
    if let Err(unhealthy) = health.check() {
        world.violate(format!("the daemon is unhealthy: {unhealthy:?}"));
    }
    world.check_progress();
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let most = 3 * world.scenario.operations.len() + 3 * (6 + 4) + 10;
    if tasks > most {
        world.violate(format!("{tasks} tasks, more than {most}"));
    }
    let most = world.knobs().max_backlog as u64;
    if let Ok(stats) = store.endpoint_stats().await {
        for stats in stats.iter().filter(|stats| stats.backlog > most) {
            world.note(|| format!("backlog {} above {most}", stats.backlog));
        }
    }
}

/// `None` if the process was gone before it had stopped.
async fn stop(world: &Arc<World>, daemon: &mut Daemon<Api>, client: Option<Client>) -> Option<()> {
    let limit = STOP + seconds(60);
    if let Some(client) = &client {
        client.stop();
    }
    let stopped = tokio::select! {
        biased;
        () = world.interrupted() => return None,
        stopped = tokio::time::timeout(limit, daemon.stop(None)) => stopped,
    };
    if stopped.is_err() {
        world.violate(format!("the stop did not end within {limit:?}"));
        return Some(());
    }
    if let Some(client) = client {
        tokio::select! {
            biased;
            () = world.interrupted() => return None,
            () = client.ended() => {}
        }
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    if tasks > 0 {
        world.violate(format!("{tasks} tasks outlived the stop"));
    }
    Some(())
}
