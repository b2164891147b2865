//! The supervisor and its project tasks over a scripted API, with paused time.

mod attention;
mod deadlines;
mod discovery;
mod groups;
mod key_checks;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::ampersand::Fetch;
use crate::board::{WatchFilter, WatchView};
use crate::clock::{self, WallClock};
use crate::core::answer::{Answer, InstallationAnswer, LogAnswer, ProjectAnswer};
use crate::core::discovery::{DiscoveryReply, DiscoveryRequest};
use crate::core::event::{Event, EventType};
use crate::core::installation::{Installation, InstallationPath};
use crate::core::operation::Operation;
use crate::core::operation_log::{LogSelection, OperationLogLine, OperationLogMessage};
use crate::core::phase::Phase;
use crate::core::schedule::ScheduleSettings;
use crate::core::search_text::SearchText;
use crate::core::source::{Source, Terms};
use crate::core::watch::WatchSettings;
use crate::core::watch_list::{WatchKey, parse};
use crate::health::Health;
use crate::sources::api::ApiChange;
use crate::sources::watch_list::WatchListSnapshot;
use crate::store::{
    Accepted, CommitError, Engine, EventLogFilter, MemoryEngine, ReadRequest, Store, StoreReadError,
    WriteRequest,
};

const SECOND: Duration = Duration::from_secs(1);
/// The intervals of an undisturbed schedule, in seconds.
const INTERVALS: [u64; 7] = [1, 2, 4, 8, 16, 20, 20];

/// What a poll meets instead of a running operation.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Act {
    Panic,
    Hang,
    Succeed,
    /// It succeeded long ago.
    SucceedBefore,
    Fail,
    Count(u64),
    Unauthorized,
    Forbidden,
    NotFound,
    Throttle(Duration),
    Unprocessed,
}

/// An API that follows a script.
#[derive(Debug, Default)]
struct Script {
    acts: Mutex<HashMap<String, Vec<Act>>>,
    polls: Mutex<HashMap<String, Vec<Instant>>>,
    in_flight: Mutex<HashMap<String, usize>>,
    most_in_flight: AtomicUsize,
    customers: Mutex<discovery::Customers>,
}

/// Counts a poll in flight of one operation, until it is dropped.
struct InFlight<'a>(&'a Script, String);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        *self
            .0
            .in_flight
            .lock()
            .unwrap()
            .entry(self.1.clone())
            .or_default() -= 1;
    }
}

impl Script {
    fn play(&self, operation: &str, acts: &[Act]) {
        let acts = acts.iter().rev().copied().collect();
        self.acts.lock().unwrap().insert(operation.to_owned(), acts);
    }

    fn note(&self, operation: &str) {
        let mut polls = self.polls.lock().unwrap();
        polls
            .entry(operation.to_owned())
            .or_default()
            .push(clock::instant());
    }

    fn enter(&self, operation: &str) -> InFlight<'_> {
        let mut in_flight = self.in_flight.lock().unwrap();
        let now = in_flight.entry(operation.to_owned()).or_default();
        *now += 1;
        self.most_in_flight.fetch_max(*now, Ordering::Relaxed);
        InFlight(self, operation.to_owned())
    }

    /// What meets the request for an addition of any event.
    async fn ask_for_addition(&self, name: &str) -> Option<Act> {
        let _in_flight = self.enter(name);
        self.note(name);
        let act = self.acts.lock().unwrap().get_mut(name).and_then(Vec::pop);
        if act == Some(Act::Hang) {
            std::future::pending::<()>().await;
        }
        act
    }

    fn in_flight(&self) -> usize {
        self.in_flight.lock().unwrap().values().sum()
    }

    fn polls(&self, operation: &str) -> Vec<Instant> {
        let polls = self.polls.lock().unwrap();
        polls.get(operation).cloned().unwrap_or_default()
    }

    /// The times between the polls of an operation, in seconds.
    fn gaps(&self, operation: &str) -> Vec<u64> {
        let polls = self.polls(operation);
        polls
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).as_secs_f64().round() as u64)
            .collect()
    }
}

impl Fetch for Script {
    async fn fetch(&self, key: &WatchKey) -> Answer {
        let operation = &*key.operation;
        let _in_flight = self.enter(operation);
        self.note(operation);
        let act = self.acts.lock().unwrap().get_mut(operation).and_then(Vec::pop);
        let (status, count) = match act {
            Some(Act::Panic) => panic!("scripted for {operation}"),
            Some(Act::Hang) => std::future::pending().await,
            Some(Act::Unauthorized) => return Answer::Unauthorized("401".to_owned()),
            Some(Act::Forbidden) => return Answer::Forbidden("403".to_owned()),
            Some(Act::NotFound) => return Answer::NotFound("404".to_owned()),
            Some(Act::Succeed | Act::SucceedBefore) => ("success", 100),
            Some(Act::Fail) => ("failure", 10),
            Some(Act::Throttle(wait)) => {
                return Answer::Throttled {
                    wait: Some(wait),
                    reason: "429".to_owned(),
                };
            }
            Some(Act::Unprocessed) => panic!("this is for additions"),
            Some(Act::Count(count)) => ("in_progress", count),
            None => ("in_progress", 0),
        };
        let created = (act == Some(Act::SucceedBefore)).then_some("2026-01-01T00:00:00Z");
        let operation: Operation = serde_json::from_value(serde_json::json!({
            "id": operation, "projectId": "1", "integrationId": "2", "configId": "3", "installationId": "4",
            "actionType": "read", "status": status, "createTime": created,
            "metadata": {"objects": ["contact"], "progress": {"recordsProcessed": count, "recordsEstimatedTotal": 100}},
        }))
        .unwrap();
        Answer::Operation(Box::new(operation))
    }

    async fn refresh_key(&self, _project: &str) -> bool {
        false
    }

    async fn project_exists(&self, _project: &str) -> ProjectAnswer {
        ProjectAnswer::Exists
    }

    async fn discover(&self, _project: &str, request: &DiscoveryRequest) -> DiscoveryReply {
        self.customers.lock().unwrap().answer(request)
    }

    async fn last_lines(&self, _key: &WatchKey, _wanted: LogSelection) -> LogAnswer {
        self.ask_for_addition("logs").await;
        LogAnswer::Found(vec![OperationLogLine {
            message: OperationLogMessage {
                msg: "rate limit reached".to_owned(),
                ..OperationLogMessage::default()
            },
            ..OperationLogLine::default()
        }])
    }

    async fn installation(&self, project: &str, path: &InstallationPath) -> InstallationAnswer {
        assert_eq!(
            (project, &*path.integration, &*path.installation),
            ("p", "2", "4")
        );
        match self.ask_for_addition("installation").await {
            Some(Act::Throttle(wait)) => InstallationAnswer::Throttled(Some(wait)),
            Some(Act::Unprocessed) => InstallationAnswer::Unprocessed,
            _ => InstallationAnswer::Found(Installation {
                health_status: Some("unhealthy".to_owned()),
                connection_status: Some("bad_credentials".to_owned()),
            }),
        }
    }
}

fn poll() -> PollSettings {
    PollSettings {
        schedule: ScheduleSettings {
            initial_interval: SECOND,
            min_interval: SECOND,
            max_interval: Duration::from_secs(20),
            multiplier: 2.0,
            randomization: 0.0,
            adaptive: false,
        },
        watch: WatchSettings {
            stalled_after: Duration::from_hours(1),
            silent_after: Some(Duration::from_hours(6)),
            unreachable_after: Duration::from_mins(5),
            not_found_grace: Duration::from_mins(2),
            give_up_after: None,
            active_statuses: vec!["in_progress".to_owned()],
            progress_step: 10.0,
            progress_interval: Duration::from_mins(1),
        },
        max_retry_after: Duration::from_mins(15),
    }
}

/// A disk that refuses the writes of one operation, while it is switched on.
#[derive(Debug, Default)]
struct Disk {
    memory: MemoryEngine,
    refuses: Mutex<Option<&'static str>>,
    /// How much later than the start of the tests the next daemon starts.
    away: Mutex<Duration>,
}

impl Engine for Disk {
    fn write(&self, request: WriteRequest) -> Accepted<'_, CommitError> {
        let refused = *self.refuses.lock().unwrap();
        if refused.is_some_and(|operation| format!("{request:?}").contains(&format!("{operation:?}"))) {
            let error = CommitError::Unwritable("the disk is full".to_owned());
            return Box::pin(std::future::ready(Err(error)));
        }
        self.memory.write(request)
    }

    fn read(&self, request: ReadRequest) -> Accepted<'_, StoreReadError> {
        self.memory.read(request)
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.memory.changed()
    }

    fn is_writable(&self) -> bool {
        self.memory.is_writable()
    }
}

/// A running supervisor, and what surrounds it.
struct Fixture {
    services: Arc<PollingServices<Script>>,
    disk: Arc<Disk>,
    /// How many seconds the clock on the wall was set forward.
    ahead: Arc<AtomicU64>,
    store: Store,
    board: Arc<Board>,
    list: watch::Sender<Arc<WatchListSnapshot>>,
    api: mpsc::Sender<ApiChange>,
    settings: watch::Sender<Arc<PollingSettings>>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

fn names() -> [Arc<str>; 2] {
    ["p", "q"].map(Arc::from)
}

impl Fixture {
    /// Whether the key of a project is shown as rejected.
    fn has_rejected_key(&self) -> bool {
        let projects = self.board.projects();
        projects.iter().any(|view| view.api.rejected.is_some())
    }

    fn start() -> Self {
        Self::start_with(Arc::default(), |_| {})
    }

    /// Continues from what is on `disk`.
    fn start_with(disk: Arc<Disk>, report: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        // The clock on the wall follows the paused one.
        let (start, epoch) = (
            clock::instant(),
            "2026-11-23T12:00:00Z".parse::<Timestamp>().unwrap() + *disk.away.lock().unwrap(),
        );
        let ahead = Arc::<AtomicU64>::default();
        let set = Arc::clone(&ahead);
        let wall = WallClock::new(move || {
            epoch + (clock::instant() - start) + Duration::from_secs(set.load(Ordering::Relaxed))
        });
        let store = Store::new(Arc::clone(&disk) as Arc<dyn Engine>, wall);
        let board = Arc::<Board>::default();
        let runtime = Handle::current();
        let services = Arc::new(PollingServices {
            fetch: Script::default(),
            recorder: Recorder::new(store.clone(), vec![Box::new(report)]),
            board: Arc::clone(&board),
            metrics: Metrics::new(),
            random: RandomSource::seeded(1),
            polling: runtime.clone(),
            background: runtime,
        });
        let settings = PollingSettings {
            poll: poll(),
            limits: RequestLimits {
                concurrent: 100_000,
                per_second: 1e6,
            },
            projects: names().map(|name| (name, 0)).into(),
            discovery: BTreeMap::new(),
            groups: GroupSettings::new("group", Duration::from_secs(30)),
            retention: Duration::from_hours(24),
        };
        let settings = watch::Sender::new(Arc::new(settings));
        let list = watch::Sender::new(Arc::default());
        let (api, changes) = mpsc::channel(1);
        let cancel = CancellationToken::new();
        let supervisor = Supervisor::new(
            Arc::clone(&services),
            list.subscribe(),
            changes,
            settings.subscribe(),
        );
        let task = tokio::spawn(supervisor.run(cancel.clone()));
        Self {
            services,
            disk,
            ahead,
            store,
            board,
            list,
            api,
            settings,
            cancel,
            task,
        }
    }

    /// A running supervisor of these lines.
    async fn of(lines: &str) -> Self {
        let fixture = Self::start();
        fixture.list(lines).await;
        fixture
    }

    fn script(&self) -> &Script {
        &self.services.fetch
    }

    /// Asks for another list.
    fn ask(&self, lines: &str) -> u64 {
        let generation = self.list.borrow().generation + 1;
        let snapshot = WatchListSnapshot {
            list: Some(Arc::new(parse(lines.as_bytes(), &names()))),
            generation,
            ..WatchListSnapshot::default()
        };
        self.list.send_replace(Arc::new(snapshot));
        generation
    }

    /// Asks for another list, and waits until it is applied.
    async fn list(&self, lines: &str) {
        let generation = self.ask(lines);
        self.until(|board| {
            let views = board.projects();
            views.len() == names().len() && views.iter().all(|view| view.generation == Some(generation))
        })
        .await;
    }

    /// Adds and withdraws operations of project `p` over HTTP, and waits until that is applied.
    async fn over_http(&self, set: &[(&str, &str)], withdrawn: &[&str]) {
        let applied = CancellationToken::new();
        let terms = |label: &str| Terms {
            labels: vec![("from".to_owned(), label.to_owned())],
            deadline: None,
        };
        let change = ApiChange {
            set: set
                .iter()
                .map(|(id, label)| (key(id), Arc::new(terms(label))))
                .collect(),
            withdrawn: withdrawn.iter().map(|id| key(id)).collect(),
            applied: Arc::new(applied.clone().drop_guard()),
        };
        self.api.send(change).await.unwrap();
        applied.cancelled().await;
    }

    /// The sources of a watch, and its label `from`.
    async fn sources(&self, operation: &str) -> Option<(Vec<Source>, String)> {
        let view = self.view(operation).await?;
        let from = view.labels().iter().find(|(key, _)| key == "from");
        let from = from.map(|(_, value)| value.clone()).unwrap_or_default();
        Some((view.demand.sources().collect(), from))
    }

    async fn until(&self, condition: impl Fn(&Board) -> bool) {
        let mut changed = self.board.changed();
        while !condition(&self.board) {
            tokio::time::timeout(Duration::from_hours(1), changed.changed())
                .await
                .expect("it never comes true")
                .unwrap();
        }
    }

    fn is_finished(&self) -> bool {
        self.board.is_finished(self.list.borrow().generation, &names())
    }

    /// How many watches there are, and how many of them are finished.
    fn counts(&self) -> (usize, usize) {
        let phases = self.board.phases();
        (phases.total(), phases.finished())
    }

    async fn view(&self, operation: &str) -> Option<WatchView> {
        self.board.find(operation, None).await.unwrap().pop()
    }

    fn restarts(&self) -> u64 {
        let views = self.board.projects();
        views.iter().map(|view| view.attention.restarts.total()).sum()
    }

    /// The types of the events that were recorded of an operation, with their numbers.
    async fn events(&self, operation: &str) -> Vec<(EventType, u64)> {
        let recorded = self.recorded(operation).await;
        let numbers = recorded.iter().filter_map(|(event_type, data)| {
            let number = data["sequence"].as_u64()?;
            Some((*event_type, number))
        });
        numbers.collect()
    }

    /// The `data` of the first event of this type that was recorded of an operation, if there is one.
    async fn data(&self, operation: &str, event_type: EventType) -> Option<serde_json::Value> {
        let mut recorded = self.recorded(operation).await.into_iter();
        recorded.find_map(|(recorded, data)| (recorded == event_type).then_some(data))
    }

    /// The types and `data` of the events of an operation.
    async fn recorded(&self, operation: &str) -> Vec<(EventType, serde_json::Value)> {
        let filter = EventLogFilter {
            operation: Some(operation.to_owned()),
            ..EventLogFilter::default()
        };
        let page = self.store.events_after(None, 1_000, filter).await.unwrap();
        let events = page.events.iter();
        events
            .map(|event| (event.event_type, serde_json::from_str(event.data()).unwrap()))
            .collect()
    }

    async fn stop(self) -> Arc<PollingServices<Script>> {
        self.cancel.cancel();
        self.task.await.unwrap();
        self.services
    }
}

fn key(operation: &str) -> WatchKey {
    WatchKey {
        project: Arc::from("p"),
        operation: Arc::from(operation),
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(SECOND * u32::try_from(seconds).unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn each_listed_watch_has_one_poller_until_it_is_finished() {
    let fixture = Fixture::of("a\nb\nc\n").await;
    fixture
        .script()
        .play("b", &[Act::Count(0), Act::Count(0), Act::Succeed]);
    assert!(!fixture.is_finished());
    pass(60).await;
    assert_eq!(fixture.script().gaps("a"), INTERVALS[..6]);
    assert_eq!(fixture.script().gaps("b"), INTERVALS[..2]);
    assert_eq!(fixture.counts(), (3, 1));

    fixture.list("b\n").await;
    pass(60).await;
    assert!(fixture.is_finished(), "what is left on the list is finished");
    assert_eq!(
        fixture.script().gaps("a").len(),
        6,
        "what left the list is not polled"
    );
    assert_eq!(fixture.script().in_flight(), 0);
    assert!(fixture.view("a").await.is_none() && fixture.view("b").await.is_some());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_finished_before_the_first_list_and_an_empty_one_is() {
    let fixture = Fixture::start();
    pass(60).await;
    assert!(!fixture.is_finished());
    fixture.list("").await;
    assert!(fixture.is_finished());
    let _ = fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_stays_on_the_list_is_not_disturbed() {
    let fixture = Fixture::of("stays\nleaves\n").await;
    for (seconds, lines) in [
        (3, "stays\ncomes\n"),
        (5, "comes\nstays\nleaves\n"),
        (1, "stays customer=acme\n"),
        (20, "x\ny\nz\nstays\n"),
        (9, "x\nstays\n"),
        (30, "stays\n"),
    ] {
        pass(seconds).await;
        fixture.list(lines).await;
    }
    pass(2).await;
    let polls = fixture.script().polls("stays");
    let exact: Vec<Duration> = polls.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let undisturbed: Vec<Duration> = INTERVALS.map(Duration::from_secs)[..6].to_vec();
    assert_eq!(exact.len(), 6);
    for (gap, interval) in exact.iter().zip(undisturbed) {
        assert!(gap.abs_diff(interval) <= Duration::from_millis(2), "{exact:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn labels_change_in_place() {
    let fixture = Fixture::of("a customer=acme\n").await;
    pass(4).await;
    fixture.list("a customer=initech\n").await;
    let view = fixture.view("a").await.unwrap();
    assert_eq!(*view.labels(), [("customer".to_owned(), "initech".to_owned())]);
    pass(4).await;
    assert_eq!(fixture.script().gaps("a"), INTERVALS[..3]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_leaves_with_its_last_source() {
    let fixture = Fixture::of("a from=file\n").await;
    pass(4).await;
    fixture.over_http(&[("a", "api"), ("b", "api")], &[]).await;
    let both = vec![Source::File, Source::Api];
    assert_eq!(fixture.sources("a").await, Some((both, "file".to_owned())));
    let api = Some((vec![Source::Api], "api".to_owned()));
    assert_eq!(fixture.sources("b").await, api);
    fixture.list("").await;
    assert_eq!(fixture.sources("a").await, api);
    pass(4).await;
    assert_eq!(fixture.script().gaps("a"), INTERVALS[..3], "it is not disturbed");
    fixture.over_http(&[("b", "other")], &["a"]).await;
    assert_eq!(fixture.sources("a").await, None);
    assert_eq!(
        fixture.sources("b").await,
        Some((vec![Source::Api], "other".to_owned()))
    );
    fixture.over_http(&[], &["b", "unknown"]).await;
    assert_eq!(fixture.counts(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn sources_change_while_a_watch_leaves() {
    let fixture = Fixture::start();
    fixture.script().play("a", &[Act::Hang]);
    fixture.list("a from=file\n").await;
    pass(1).await;
    fixture.ask("");
    tokio::task::yield_now().await;
    fixture.over_http(&[("a", "api")], &[]).await;
    assert_eq!(
        fixture.sources("a").await,
        Some((vec![Source::Api], "api".to_owned()))
    );
    fixture.over_http(&[], &["a"]).await;
    assert_eq!(fixture.counts(), (0, 0));
    assert_eq!(fixture.script().most_in_flight.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_poller_that_panics_starts_again_with_backoff_and_disturbs_no_other() {
    let fixture = Fixture::start();
    fixture
        .script()
        .play("a", &[Act::Panic, Act::Panic, Act::Panic, Act::Count(50)]);
    fixture.list("a\nb\n").await;
    pass(60).await;
    assert_eq!(fixture.script().gaps("a")[..5], [1, 2, 4, 1, 2]);
    assert_eq!(fixture.script().gaps("b"), INTERVALS[..6]);
    assert_eq!(fixture.restarts(), 3);
    assert_eq!(fixture.counts(), (2, 0));
    assert_eq!(fixture.events("a").await[0], (EventType::Started, 1));
}

#[tokio::test(start_paused = true)]
async fn a_project_task_that_panics_continues_from_what_is_recorded_and_disturbs_no_other() {
    let has_panicked = AtomicBool::new(false);
    let fixture = Fixture::start_with(Arc::default(), move |event| {
        if event
            .data
            .operation()
            .is_some_and(|data| data.operation_id == "a")
            && event.event_type == EventType::Progress
            && !has_panicked.swap(true, Ordering::Relaxed)
        {
            panic!("scripted for the project");
        }
    });
    fixture.script().play("a", &[1, 15, 25, 35, 45].map(Act::Count));
    fixture.script().play("b", &[Act::Count(1), Act::Succeed]);
    fixture.list("a\nb\nother project=q\n").await;
    pass(30).await;
    assert_eq!(fixture.restarts(), 1);
    // The poll after the restart finds what follows; nothing is recorded twice, and no number is left out.
    let numbers: Vec<u64> = fixture
        .events("a")
        .await
        .iter()
        .map(|(_, number)| *number)
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    assert_eq!(
        fixture.events("b").await,
        [(EventType::Started, 1), (EventType::Succeeded, 2)]
    );
    assert_eq!(fixture.script().gaps("other"), INTERVALS[..4]);
    assert_eq!(fixture.counts(), (3, 1));
    assert_eq!(fixture.script().most_in_flight.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_ends_delays_its_own_watch_alone_and_is_noticed() {
    let fixture = Fixture::start();
    let health = Health::new(Arc::clone(&fixture.board), 10 * SECOND);
    fixture.script().play("a", &[Act::Hang]);
    fixture.list("a\nb\n").await;
    pass(25).await;
    assert!(health.check().is_ok());
    pass(35).await;
    assert_eq!(fixture.script().polls("a").len(), 1);
    assert_eq!(fixture.script().gaps("b"), INTERVALS[..6]);
    assert!(health.check().is_err());
    fixture.list("b\n").await;
    assert!(health.check().is_ok());
    assert_eq!(fixture.script().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_fails_for_a_minute_delays_its_own_watch_alone() {
    let fixture = Fixture::start();
    *fixture.disk.refuses.lock().unwrap() = Some("a");
    fixture
        .script()
        .play("b", &[Act::Count(1), Act::Count(2), Act::Succeed]);
    fixture.list("a\nb\nc\n").await;
    pass(60).await;
    assert!(fixture.events("a").await.is_empty());
    assert_eq!(fixture.view("a").await.unwrap().watch.phase(), Phase::Pending);
    assert_eq!(
        fixture.script().gaps("a")[..4],
        [1, 2, 4, 8],
        "it is tried again with backoff"
    );
    assert_eq!(fixture.script().gaps("c"), INTERVALS[..6]);
    assert_eq!(fixture.counts(), (3, 1));
    *fixture.disk.refuses.lock().unwrap() = None;
    pass(30).await;
    assert_eq!(fixture.events("a").await, [(EventType::Started, 1)]);
}

#[tokio::test(start_paused = true)]
async fn what_returns_continues_where_it_was() {
    let fixture = Fixture::start();
    fixture
        .script()
        .play("a", &[5, 50, 70, 70, 70, 70, 70, 70].map(Act::Count));
    fixture.script().play("b", &[Act::Succeed]);
    fixture.list("a\nb\n").await;
    pass(2).await;
    fixture.list("").await;
    pass(60).await;
    fixture.list("a\nb\n").await;
    pass(60).await;
    let expected = [
        (EventType::Started, 1),
        (EventType::Progress, 2),
        (EventType::Progress, 3),
    ];
    assert_eq!(fixture.events("a").await, expected);
    assert_eq!(
        fixture.script().polls("b").len(),
        1,
        "what is finished stays finished"
    );
    assert_eq!(fixture.counts(), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_put_back_while_it_leaves_starts_again_and_has_one_request_at_most() {
    let fixture = Fixture::start();
    fixture.script().play("a", &[Act::Hang, Act::Hang]);
    fixture.list("a\nb\n").await;
    pass(1).await;
    assert_eq!(fixture.script().polls("a").len(), 1);
    for lines in ["b\n", "a x=1\nb\n", "b\n", "a x=2\nb\n", "a x=3\nb\n"] {
        fixture.ask(lines);
        tokio::task::yield_now().await;
    }
    fixture.list("a x=3\nb\nc\n").await;
    assert_eq!(fixture.counts(), (3, 0));
    let view = fixture.view("a").await.unwrap();
    assert_eq!(*view.labels(), [("x".to_owned(), "3".to_owned())]);
    pass(1).await;
    assert!(fixture.script().polls("a").len() >= 2);
    assert_eq!(fixture.script().most_in_flight.load(Ordering::Relaxed), 1);

    fixture.list("b\n").await;
    assert_eq!(fixture.counts(), (1, 0));
    assert!(fixture.view("a").await.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_put_back_counts_as_listed() {
    let fixture = Fixture::start();
    fixture.script().play("a", &[Act::Count(5), Act::Hang]);
    fixture.list("a\n").await;
    pass(60).await;
    let unlisted = async || fixture.store.load(vec![key("a")]).await.unwrap().watches[&key("a")].unlisted;
    fixture.list("").await;
    pass(1).await;
    assert!(unlisted().await.is_some());
    fixture.list("a\n").await;
    assert_eq!(
        unlisted().await,
        None,
        "retention would remove it, and a restart start it again"
    );
    fixture.ask("");
    tokio::task::yield_now().await;
    fixture.list("a\nb\n").await;
    assert_eq!(unlisted().await, None);
    assert_eq!(fixture.counts(), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stop_drops_the_polls_in_flight_and_joins_every_task() {
    let fixture = Fixture::start();
    fixture.script().play("a", &[Act::Hang]);
    fixture.script().play("b", &[Act::Hang]);
    fixture.list("a\nb\nc\n").await;
    pass(1).await;
    assert_eq!(fixture.script().in_flight(), 2);
    let services = fixture.stop().await;
    assert_eq!(services.fetch.in_flight(), 0);
    assert_eq!(Arc::strong_count(&services), 1, "no task is left that could poll");
}

#[tokio::test(start_paused = true)]
async fn a_project_stops_and_starts_by_itself() {
    let fixture = Fixture::of("a\nother project=q\n").await;
    pass(4).await;
    let configured = |projects: &[&str]| {
        let projects: Vec<Arc<str>> = projects.iter().map(|name| Arc::from(*name)).collect();
        fixture.settings.send_modify(|settings| {
            Arc::make_mut(settings).projects = projects.into_iter().map(|name| (name, 0)).collect();
        });
    };
    configured(&["p"]);
    pass(60).await;
    assert_eq!(fixture.script().polls("other").len(), 3);
    assert_eq!(fixture.script().gaps("a"), INTERVALS[..6]);
    configured(&["p", "q"]);
    pass(30).await;
    // It continues from what is recorded, when it was due.
    assert!(fixture.script().polls("other").len() > 3);
    assert_eq!(fixture.events("other").await, [(EventType::Started, 1)]);
}

#[tokio::test(start_paused = true)]
async fn while_credentials_are_rejected_the_watch_that_was_polled_the_longest_ago_is_the_probe() {
    let fixture = Fixture::start();
    for operation in ["a", "b", "c"] {
        fixture.script().play(operation, &[Act::Count(1)]);
    }
    fixture.list("a\nb\nc\n").await;
    pass(10).await;
    for operation in ["a", "b", "c"] {
        fixture.script().play(operation, &[Act::Unauthorized; 20]);
    }
    let before: usize = ["a", "b", "c"]
        .map(|id| fixture.script().polls(id).len())
        .iter()
        .sum();
    pass(65).await;
    let mut probes: Vec<(Instant, &str)> = ["a", "b", "c"]
        .into_iter()
        .flat_map(|id| fixture.script().polls(id).into_iter().map(move |at| (at, id)))
        .collect();
    probes.sort();
    let probes: Vec<&str> = probes[before..].iter().map(|(_, id)| *id).collect();
    assert!((4..10).contains(&probes.len()), "{probes:?}");
    // What is left of the poll that found it out: each in its turn.
    for turn in probes[3..].windows(3) {
        assert!(
            turn[0] != turn[1] && turn[1] != turn[2] && turn[0] != turn[2],
            "{probes:?}"
        );
    }
    assert!(fixture.has_rejected_key());
}

#[tokio::test(start_paused = true)]
async fn a_403_is_the_operations_own_when_another_watch_is_answered() {
    let fixture = Fixture::start();
    fixture.script().play(
        "a",
        &[Act::Count(1), Act::Forbidden, Act::Forbidden, Act::Forbidden],
    );
    fixture.list("a\nb\n").await;
    pass(60).await;
    let events = fixture.events("a").await;
    let expected = [
        (EventType::Started, 1),
        (EventType::Unreachable, 2),
        (EventType::Reachable, 3),
    ];
    assert_eq!(events, expected);
    assert!(!fixture.has_rejected_key());
}

#[tokio::test(start_paused = true)]
async fn a_403_is_the_operations_own_when_the_others_decide_nothing_and_no_watch_starves() {
    for act in [Act::NotFound, Act::Panic] {
        let fixture = Fixture::start();
        fixture.script().play("a", &[Act::Forbidden; 100]);
        fixture.script().play("b", &[act; 100]);
        fixture.list("a\nb\n").await;
        pass(100).await;
        for operation in ["a", "b"] {
            let gaps = fixture.script().gaps(operation);
            assert!(gaps.len() > 5, "{operation} {act:?}: {gaps:?}");
            assert!(gaps.iter().all(|gap| *gap <= 25), "{operation} {act:?}: {gaps:?}");
        }
        assert!(!fixture.has_rejected_key());
        fixture.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_is_not_found_is_gone_although_another_one_is_forbidden() {
    let fixture = Fixture::start();
    fixture.script().play("a", &[Act::Forbidden; 100]);
    fixture.script().play("b", &[Act::NotFound; 100]);
    fixture.list("a\nb\n").await;
    pass(300).await;
    let types: Vec<EventType> = fixture
        .events("b")
        .await
        .into_iter()
        .map(|(event, _)| event)
        .collect();
    assert_eq!(types, [EventType::Gone]);
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn probes_that_panic_are_sent_with_backoff() {
    let fixture = Fixture::start();
    fixture.script().play(
        "a",
        &[
            Act::Count(1),
            Act::Unauthorized,
            Act::Panic,
            Act::Panic,
            Act::Panic,
        ],
    );
    fixture.list("a\n").await;
    pass(60).await;
    assert_eq!(fixture.script().gaps("a")[..5], [1, 1, 2, 4, 8]);
    assert!(!fixture.has_rejected_key());
    fixture.stop().await;
}

/// Watches an operation whose count does not change until its stall is found, and gives the seconds until that is reported, with
/// its `data`, and its log lines and statuses of the installation.
async fn stall(acts: &[(&str, &[Act])]) -> (u64, Fixture, [serde_json::Value; 3]) {
    let fixture = Fixture::start();
    for (name, acts) in acts {
        fixture.script().play(name, acts);
    }
    fixture.list("a\nb\n").await;
    let found = fixture.services.recorder.now() + Duration::from_hours(1);
    let data = loop {
        pass(1).await;
        if let Some(data) = fixture.data("a", EventType::Stalled).await {
            break data;
        }
    };
    let polled: Timestamp = data["observedTime"].as_str().unwrap().parse().unwrap();
    let waited = fixture.services.recorder.now().duration_since(polled).as_secs();
    assert!(polled >= found, "{data}");
    assert_eq!(data["reason"], "count unchanged");
    let facts = ["logs", "healthStatus", "connectionStatus"].map(|name| data[name].clone());
    (u64::try_from(waited).unwrap(), fixture, facts)
}

#[tokio::test(start_paused = true)]
async fn a_stall_carries_log_lines_and_the_state_of_the_installation() {
    let (waited, fixture, [logs, health, connection]) = stall(&[]).await;
    assert!(waited <= 1, "{waited}");
    assert_eq!(logs[0]["message"]["msg"], "rate limit reached");
    assert_eq!(
        (health, connection),
        ("unhealthy".into(), "bad_credentials".into())
    );
    assert_eq!(fixture.script().most_in_flight.load(Ordering::Relaxed), 1);
    pass(60).await;
    let polls = ["logs", "installation"].map(|name| fixture.script().polls(name).len());
    assert_eq!(polls, [2, 2], "each of two watches asks once");
}

#[tokio::test(start_paused = true)]
async fn a_stall_waits_ten_seconds_at_most_and_keeps_what_came() {
    let (waited, fixture, [logs, health, connection]) =
        stall(&[("installation", &[Act::Hang, Act::Hang])]).await;
    assert!((9..=11).contains(&waited), "{waited}");
    assert_eq!(logs[0]["message"]["msg"], "rate limit reached");
    assert!(health.is_null() && connection.is_null());
    assert_eq!(fixture.script().in_flight(), 0);

    let (waited, fixture, facts) = stall(&[("logs", &[Act::Hang, Act::Hang])]).await;
    assert!((9..=11).contains(&waited), "{waited}");
    assert!(facts.iter().all(serde_json::Value::is_null));
    assert!(fixture.script().polls("installation").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_the_request_for_an_installation_counts_for_the_project() {
    let acts = [Act::Throttle(5 * SECOND)];
    let (waited, fixture, [_, health, _]) = stall(&[("installation", &acts)]).await;
    assert!((4..=7).contains(&waited), "{waited}");
    assert_eq!(health, "unhealthy");
    let polls = fixture.script().polls("installation");
    assert!(polls[1] - polls[0] >= 5 * SECOND);

    let acts = [Act::Throttle(60 * SECOND), Act::Throttle(60 * SECOND)];
    let (waited, _, [_, health, _]) = stall(&[("installation", &acts)]).await;
    assert!((9..=11).contains(&waited), "{waited}");
    assert!(health.is_null());
}

#[tokio::test(start_paused = true)]
async fn a_request_for_an_installation_that_is_not_processed_is_repeated_once() {
    let acts = [Act::Unprocessed; 4];
    let (waited, fixture, [logs, health, _]) = stall(&[("installation", &acts)]).await;
    assert!(waited <= 1, "{waited}");
    assert!(logs.is_array() && health.is_null());
    pass(60).await;
    assert_eq!(
        fixture.script().polls("installation").len(),
        4,
        "two for each watch"
    );
}

#[tokio::test(start_paused = true)]
async fn time_in_which_the_process_did_not_run_counts_for_nothing() {
    let fixture = Fixture::start();
    let health = Health::new(Arc::clone(&fixture.board), 10 * SECOND);
    fixture
        .script()
        .play("a", &[Act::Count(1), Act::Count(1), Act::Count(1)]);
    fixture.list("a\n").await;
    pass(4).await;
    // As long as a stall takes, twice.
    tokio::time::advance(Duration::from_hours(2)).await;
    assert!(health.check_patiently().await.is_ok());
    pass(120).await;
    assert_eq!(fixture.events("a").await, [(EventType::Started, 1)]);
    let gaps = fixture.script().gaps("a");
    assert_eq!(gaps[..2], INTERVALS[..2]);
    assert_eq!(gaps[3..6], INTERVALS[3..6], "the schedule continues: {gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn pages_and_changes_are_what_the_watches_are() {
    let lines: String = (0..2_500).map(|n| format!("op-{n:04} n={}\n", n % 2)).collect();
    let fixture = Fixture::of(&lines).await;
    let all = fixture.board.all(WatchFilter::default()).await.unwrap();
    assert_eq!(all.len(), 2_500);
    assert!(all.is_sorted_by_key(|view| view.key.clone()));
    let odd = Arc::new(WatchFilter {
        labels: vec![("n".to_owned(), Some("1".to_owned()))],
        ..WatchFilter::default()
    });
    let (page, next) = fixture.board.page(None, &[], &odd, 700).await.unwrap();
    assert_eq!((page.len(), &*page[699].key.operation), (700, "op-1399"));
    let (rest, none) = fixture.board.page(next.as_ref(), &[], &odd, 1_000).await.unwrap();
    assert_eq!((rest.len(), none), (550, None));
    let found = async |text: &str| {
        let filter = WatchFilter {
            text: SearchText::new(text),
            ..WatchFilter::default()
        };
        fixture.board.all(filter).await.unwrap().len()
    };
    assert_eq!(found("OP-249").await, 10, "over three pages");
    assert_eq!(found("N=1").await, 1_250);
    assert_eq!((found("p").await, found("nothing").await), (2_500, 0));

    fixture.board.start_changes().await;
    assert!(fixture.board.changes(1_000).await.changed.is_empty());
    pass(1).await;
    fixture.list("op-0001\n").await;
    let changes = fixture.board.changes(1_000).await;
    assert_eq!(changes.removed.len(), 2_499);
    let changed: Vec<_> = changes.changed.iter().map(|view| &*view.key.operation).collect();
    assert_eq!(changed, ["op-0001"]);
}

#[tokio::test(start_paused = true)]
async fn the_history_of_finished_operations_applies_to_their_kind_after_a_restart_too() {
    // A slow schedule, so that the history shows in the waits.
    let adaptive = |fixture: &Fixture| {
        fixture.settings.send_modify(|settings| {
            let schedule = &mut Arc::make_mut(settings).poll.schedule;
            schedule.adaptive = true;
            schedule.initial_interval = Duration::from_secs(10);
            schedule.max_interval = Duration::from_secs(60);
        });
    };
    let fixture = Fixture::start();
    let ids: Vec<String> = (0..8).map(|n| format!("old-{n}")).collect();
    for id in &ids {
        fixture
            .script()
            .play(id, &[Act::Count(1), Act::Count(2), Act::Succeed]);
    }
    fixture.list(&ids.join("\n")).await;
    pass(60).await;
    assert_eq!(fixture.counts(), (8, 8));
    // Four are listed and four have left the list.
    fixture.list(&ids[..4].join("\n")).await;
    pass(1).await;
    let disk = Arc::clone(&fixture.disk);
    let _ = fixture.stop().await;

    let gaps = async |disk: Arc<Disk>| {
        let fixture = Fixture::start_with(disk, |_| {});
        adaptive(&fixture);
        fixture.list(&format!("{}\nnew", ids[..4].join("\n"))).await;
        pass(300).await;
        fixture.script().gaps("new")
    };
    let with_history = gaps(disk).await;
    let without_history = gaps(Arc::default()).await;
    assert_ne!(with_history, without_history);
}

/// How many watches the churn removes and adds, and for how many seconds.
fn churn() -> (usize, u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    (
        number("BACKFILL_WATCH_CHURN_WATCHES").unwrap_or(500) as usize,
        number("BACKFILL_WATCH_CHURN_SECONDS").unwrap_or(6),
    )
}

fn resident_kib() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4
}

#[tokio::test(start_paused = true)]
async fn the_same_watches_removed_and_added_ten_times_a_second_are_polled_once_at_a_time() {
    let (watches, seconds) = churn();
    let mut fixture = Fixture::start();
    let snapshot = |lines: &str, generation| {
        Arc::new(WatchListSnapshot {
            list: Some(Arc::new(parse(lines.as_bytes(), &names()))),
            generation,
            ..WatchListSnapshot::default()
        })
    };
    let all: String = (0..watches).map(|n| format!("op-{n}\n")).collect();
    let mut resident = Vec::new();
    for round in 0..seconds * 10 {
        let lines = if round % 2 == 0 { all.as_str() } else { "stays\n" };
        fixture.list.send_replace(snapshot(lines, round + 1));
        tokio::time::sleep(Duration::from_millis(100)).await;
        if round % 10 == 9 {
            resident.push(resident_kib());
            // What the script noted is not the supervisor's.
            fixture.script().polls.lock().unwrap().clear();
            fixture
                .script()
                .in_flight
                .lock()
                .unwrap()
                .retain(|_, count| *count > 0);
        }
    }
    fixture.list.send_replace(snapshot(&all, seconds * 10 + 1));
    let generation = seconds * 10 + 1;
    fixture
        .until(|board| {
            board
                .projects()
                .iter()
                .all(|view| view.generation == Some(generation))
        })
        .await;
    pass(120).await;
    assert_eq!(fixture.counts(), (watches, 0), "nothing is lost");
    assert_eq!(fixture.script().most_in_flight.load(Ordering::Relaxed), 1);
    for n in [0, watches / 2, watches - 1] {
        let operation = format!("op-{n}");
        assert_eq!(
            fixture.events(&operation).await,
            [(EventType::Started, 1)],
            "{operation}"
        );
    }
    let (early, late) = (resident[resident.len() / 3], resident[resident.len() - 1]);
    println!("{watches} watches for {seconds} s: {early} KiB after a third, {late} KiB at the end");
    assert!(late < early + early / 4 + 8_192, "memory grows: {resident:?}");
    fixture.task.abort();
    let _ = (&mut fixture.task).await;
}
