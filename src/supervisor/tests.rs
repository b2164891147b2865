//! The supervisor over a scripted API, with time that stands still unless somebody sleeps.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;

use super::*;
use crate::ampersand::gate::Limits;
use crate::chance::Chance;
use crate::config::Poll;
use crate::core::answer::Answer;
use crate::core::event::EventType;
use crate::core::kind::{Kinds, Traits};
use crate::core::log_line::LogLine;
use crate::core::operation::Operation;
use crate::core::schedule::Pace;
use crate::core::watch::Rules;
use crate::core::watch_list::parse;
use crate::record::Recorder;
use crate::report::metrics::Metrics;
use crate::report::tell::tell;
use crate::store::EventFilter;

const SECOND: Duration = Duration::from_secs(1);
/// The intervals of an undisturbed schedule, in seconds.
const INTERVALS: [u64; 7] = [1, 2, 4, 8, 16, 20, 20];

/// What a poll meets instead of a running operation.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Act {
    Panic,
    Hang,
    Succeed,
    Count(u64),
}

/// An API that follows a script.
#[derive(Debug, Default)]
struct Script {
    acts: Mutex<HashMap<String, Vec<Act>>>,
    polls: Mutex<HashMap<String, Vec<Instant>>>,
    in_flight: Mutex<HashMap<String, usize>>,
    most_in_flight: AtomicUsize,
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
            Some(Act::Panic) => panic!("as the script of {operation} wants it"),
            Some(Act::Hang) => std::future::pending().await,
            Some(Act::Succeed) => ("success", 100),
            Some(Act::Count(count)) => ("in_progress", count),
            None => ("in_progress", 0),
        };
        let operation: Operation = serde_json::from_value(serde_json::json!({
            "id": operation, "projectId": "1", "integrationId": "2", "configId": "3", "installationId": "4",
            "actionType": "read", "status": status,
            "metadata": {"progress": {"recordsProcessed": count, "recordsEstimatedTotal": 100}},
        }))
        .unwrap();
        Answer::Operation(Box::new(operation))
    }

    async fn refresh_key(&self, _project: &str) -> bool {
        false
    }

    async fn last_warnings(&self, _key: &WatchKey) -> Vec<LogLine> {
        Vec::new()
    }
}

fn poll() -> Poll {
    Poll {
        pace: Pace {
            initial_interval: SECOND,
            min_interval: SECOND,
            max_interval: Duration::from_secs(20),
            multiplier: 2.0,
            randomization: 0.0,
            adaptive: false,
        },
        rules: Rules {
            stalled_after: Duration::from_hours(1),
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

/// A supervisor that is not running yet, and what surrounds it.
struct Bench {
    supervisor: Supervisor<Script>,
    outside: Outside,
}

/// What a test holds of a running supervisor.
struct Outside {
    shared: Arc<Shared<Script>>,
    store: Store,
    board: Arc<Board>,
    list: watch::Sender<Arc<Snapshot>>,
    standing: watch::Receiver<Standing>,
    cancel: CancellationToken,
}

impl Bench {
    fn new() -> Self {
        Self::with(Store::in_memory())
    }

    /// One that goes on from what is stored.
    fn with(store: Store) -> Self {
        let recorder = Recorder::new(store.clone(), vec![Box::new(tell)]);
        // Never sent again; what stands in it stays readable without its sender.
        let (_, poll) = watch::channel(Arc::new(poll()));
        let shared = Arc::new(Shared {
            fetch: Script::default(),
            recorder: recorder.clone(),
            poll: poll.clone(),
            metrics: Metrics::new(),
            chance: Chance::seeded(1),
            kinds: Kinds::default(),
        });
        let limits = Limits {
            concurrent: 100,
            per_second: 1e6,
        };
        let projects = Arc::<Projects>::default();
        let bell = projects.bell();
        let project = Project::new(Arc::from("p"), limits, Default::default(), poll, recorder, bell);
        projects.insert(Arc::new(project));
        let board = Arc::new(Board::default());
        let (list, snapshots) = watch::channel(Arc::default());
        let (supervisor, standing) = Supervisor::new(
            Arc::clone(&shared),
            store.clone(),
            projects,
            Arc::clone(&board),
            snapshots,
            &tokio::runtime::Handle::current(),
        );
        let outside = Outside {
            shared,
            store,
            board,
            list,
            standing,
            cancel: CancellationToken::new(),
        };
        Self { supervisor, outside }
    }

    /// A running supervisor of these lines.
    async fn running(lines: &str) -> (Outside, tokio::task::JoinHandle<()>) {
        let mut bench = Self::new();
        let cancel = bench.outside.cancel.clone();
        let task = tokio::spawn(bench.supervisor.run(cancel));
        bench.outside.list(lines).await;
        (bench.outside, task)
    }

    async fn apply(&mut self, lines: &str, generation: u64) {
        let list = parse(lines.as_bytes(), &[Arc::from("p")]);
        self.supervisor.apply(&list, generation).await.unwrap();
        self.supervisor.tell_standing().await;
    }

    async fn join_one(&mut self) {
        let ended = self.supervisor.scheduler.ended().await;
        self.supervisor.ended(ended).await;
        self.supervisor.tell_standing().await;
    }

    /// Those that have yet to end included.
    fn pollers(&self) -> usize {
        self.supervisor.polled.values().sum()
    }

    fn counts(&self) -> (usize, usize) {
        let standing = self.outside.standing.borrow();
        (standing.listed, standing.over)
    }
}

impl Outside {
    fn script(&self) -> &Script {
        &self.shared.fetch
    }

    /// Puts another list in force, and waits until it is applied.
    async fn list(&mut self, lines: &str) {
        let generation = self.list.borrow().generation + 1;
        let snapshot = Snapshot {
            list: Some(Arc::new(parse(lines.as_bytes(), &[Arc::from("p")]))),
            generation,
            ..Snapshot::default()
        };
        self.list.send_replace(Arc::new(snapshot));
        let applied = |standing: &Standing| standing.generation == Some(generation);
        let _ = self.standing.wait_for(applied).await.unwrap();
    }

    fn standing(&self) -> Standing {
        *self.standing.borrow()
    }

    fn watched(&self, operation: &str) -> Option<Arc<Watched>> {
        self.board.get(&key(operation))
    }

    /// The types of the events that were recorded of an operation, with their numbers.
    async fn events(&self, operation: &str) -> Vec<(EventType, u64)> {
        let page = self
            .store
            .events_after(None, 1_000, EventFilter::default())
            .await
            .unwrap();
        let told = page.events.iter().filter_map(|event| {
            let data: serde_json::Value = serde_json::from_str(event.data()).unwrap();
            let number = data["sequence"].as_u64()?;
            (data["operationId"] == operation).then_some((event.event_type, number))
        });
        told.collect()
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
async fn each_listed_watch_has_one_poller_until_it_is_over() {
    let (mut bench, _task) = Bench::running("a\nb\nc\n").await;
    bench
        .script()
        .play("b", &[Act::Count(0), Act::Count(0), Act::Succeed]);
    assert!(!bench.standing().is_done());
    pass(60).await;
    assert_eq!(bench.script().gaps("a"), INTERVALS[..6]);
    assert_eq!(bench.script().gaps("b"), INTERVALS[..2]);
    assert_eq!((bench.standing().listed, bench.standing().over), (3, 1));

    bench.list("b\n").await;
    pass(60).await;
    assert!(bench.standing().is_done(), "what is left on the list is over");
    assert_eq!(
        bench.script().gaps("a").len(),
        6,
        "whoever left the list is left alone"
    );
    assert_eq!(bench.script().in_flight(), 0);
    assert!(bench.watched("a").is_none() && bench.watched("b").is_some());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_done_before_the_first_list_and_an_empty_one_is() {
    let mut bench = Bench::new();
    let task = tokio::spawn(bench.supervisor.run(bench.outside.cancel.clone()));
    pass(60).await;
    assert!(!bench.outside.standing().is_done());
    bench.outside.list("").await;
    assert!(bench.outside.standing().is_done());
    bench.outside.cancel.cancel();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_stays_on_the_list_is_not_disturbed() {
    let (mut bench, _task) = Bench::running("stays\nleaves\n").await;
    for (seconds, lines) in [
        (3, "stays\ncomes\n"),
        (5, "comes\nstays\nleaves\n"),
        (1, "stays customer=acme\n"),
        (20, "x\ny\nz\nstays\n"),
        (9, "x\nstays\n"),
        (30, "stays\n"),
    ] {
        pass(seconds).await;
        bench.list(lines).await;
    }
    pass(2).await;
    let polls = bench.script().polls("stays");
    let exact: Vec<Duration> = polls.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let undisturbed: Vec<Duration> = INTERVALS.map(Duration::from_secs)[..6].to_vec();
    assert_eq!(exact.len(), 6);
    for (gap, interval) in exact.iter().zip(undisturbed) {
        assert!(gap.abs_diff(interval) <= Duration::from_millis(2), "{exact:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn labels_change_in_place() {
    let (mut bench, _task) = Bench::running("a customer=acme\n").await;
    pass(4).await;
    let watched = bench.watched("a").unwrap();
    bench.list("a customer=initech\n").await;
    assert!(Arc::ptr_eq(&watched, &bench.watched("a").unwrap()));
    assert_eq!(*watched.labels(), [("customer".to_owned(), "initech".to_owned())]);
    pass(4).await;
    assert_eq!(bench.script().gaps("a"), INTERVALS[..3]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_one_watches_own_trouble_and_its_poller_starts_again_with_backoff() {
    let mut bench = Bench::new();
    bench
        .outside
        .script()
        .play("a", &[Act::Panic, Act::Panic, Act::Panic, Act::Count(50)]);
    let _task = tokio::spawn(bench.supervisor.run(bench.outside.cancel.clone()));
    bench.outside.list("a\nb\n").await;
    pass(60).await;
    assert_eq!(bench.outside.script().gaps("a")[..5], [1, 2, 4, 1, 2]);
    assert_eq!(bench.outside.script().gaps("b"), INTERVALS[..6]);
    assert_eq!(bench.outside.standing().restarts, 3);
    assert_eq!(bench.outside.standing().over, 0);
    assert_eq!(bench.outside.events("a").await[0], (EventType::Started, 1));
}

#[tokio::test(start_paused = true)]
async fn whoever_returns_goes_on_where_it_stood() {
    let (mut bench, _task) = Bench::running("a\nb\n").await;
    bench
        .script()
        .play("a", &[5, 50, 70, 70, 70, 70, 70, 70].map(Act::Count));
    bench.script().play("b", &[Act::Succeed]);
    pass(2).await;
    bench.list("").await;
    pass(60).await;
    bench.list("a\nb\n").await;
    pass(60).await;
    let told = bench.events("a").await;
    let expected = [
        (EventType::Started, 1),
        (EventType::Progress, 2),
        (EventType::Progress, 3),
    ];
    assert_eq!(told, expected);
    assert_eq!(bench.script().polls("b").len(), 1, "what is over stays over");
    assert_eq!(bench.standing().over, 1);
}

#[tokio::test(start_paused = true)]
async fn a_replacement_starts_only_after_the_one_before_has_joined() {
    let mut bench = Bench::new();
    bench.outside.script().play("a", &[Act::Hang, Act::Hang]);
    bench.apply("a\nb\n", 1).await;
    pass(1).await;
    assert_eq!(bench.outside.script().polls("a").len(), 1);
    assert_eq!(bench.counts(), (2, 0));

    // Gone and back, again and again, before the poller had a chance to end.
    for (lines, listed) in [
        ("b\n", 1),
        ("a x=1\nb\n", 2),
        ("b\n", 1),
        ("a x=2\nb\n", 2),
        ("a x=3\nb\n", 2),
    ] {
        bench.apply(lines, 2).await;
        assert_eq!(bench.counts(), (listed, 0), "{lines:?}");
        assert_eq!(bench.pollers(), 2, "{lines:?}");
    }
    bench.join_one().await;
    assert_eq!(bench.pollers(), 2);
    assert_eq!(bench.counts(), (2, 0));
    assert_eq!(
        *bench.outside.watched("a").unwrap().labels(),
        [("x".to_owned(), "3".to_owned())]
    );
    pass(1).await;
    assert_eq!(bench.outside.script().polls("a").len(), 2);
    assert_eq!(bench.outside.script().most_in_flight.load(Ordering::Relaxed), 1);

    // Gone for good.
    bench.apply("b\n", 3).await;
    bench.join_one().await;
    assert_eq!(bench.pollers(), 1);
    assert_eq!(bench.counts(), (1, 0));
    assert!(bench.outside.watched("a").is_none());
}

#[tokio::test(start_paused = true)]
async fn whoever_is_back_before_its_poller_has_joined_is_listed() {
    let mut bench = Bench::new();
    bench.outside.script().play("a", &[Act::Count(5), Act::Hang]);
    bench.apply("a\n", 1).await;
    pass(60).await;
    bench.apply("", 2).await;
    let unlisted = async |bench: &Bench| {
        let records = bench.outside.store.load(vec![key("a")]).await.unwrap();
        records[&key("a")].unlisted
    };
    assert!(unlisted(&bench).await.is_some());
    bench.apply("a\n", 3).await;
    assert_eq!(
        unlisted(&bench).await,
        None,
        "retention would forget it, and a restart start it again"
    );
    bench.join_one().await;
    assert_eq!(bench.counts(), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stop_drops_the_polls_in_flight_and_joins_every_poller() {
    let mut bench = Bench::new();
    bench.outside.script().play("a", &[Act::Hang]);
    bench.outside.script().play("b", &[Act::Hang]);
    let task = tokio::spawn(bench.supervisor.run(bench.outside.cancel.clone()));
    bench.outside.list("a\nb\nc\n").await;
    pass(1).await;
    assert_eq!(bench.outside.script().in_flight(), 2);
    bench.outside.cancel.cancel();
    task.await.unwrap();
    assert_eq!(bench.outside.script().in_flight(), 0);
    // Nobody is left who holds what pollers share.
    assert_eq!(Arc::strong_count(&bench.outside.shared), 1);
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_teaches_others_of_its_kind_after_a_restart_too() {
    let durations = |bench: &Bench| {
        let traits = Traits {
            project_id: "1".to_owned(),
            integration_id: "2".to_owned(),
            objects: Vec::new(),
        };
        bench
            .outside
            .shared
            .kinds
            .with(&traits)
            .experience()
            .durations
            .map(|durations| durations.middle())
    };
    let mut bench = Bench::new();
    for operation in ["a", "b", "c", "d"] {
        let acts = [Act::Count(1), Act::Count(2), Act::Succeed];
        bench.outside.script().play(operation, &acts);
    }
    // Polled at once, after a second, and after two more: then it is over, and ended in between.
    bench.apply("a\nb\nc\nd", 1).await;
    assert_eq!(durations(&bench), None);
    for _ in 0..4 {
        bench.join_one().await;
    }
    assert!((1.0..3.0).contains(&durations(&bench).unwrap()));
    bench.apply("a\nb", 2).await;

    // Two are listed and two have left the list, which makes four to learn from.
    let mut again = Bench::with(bench.outside.store.clone());
    assert_eq!(durations(&again), None);
    again.apply("a\nb", 1).await;
    assert_eq!(durations(&again), durations(&bench));
}
