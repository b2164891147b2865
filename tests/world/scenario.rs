//! What happens in a world, generated from the seed.

use std::time::Duration;

use crate::extras::Extras;
use crate::random::Random;

pub const PROJECTS: [&str; 2] = ["p", "q"];
pub const ENDPOINTS: [&str; 3] = ["alpha", "beta", "gamma"];

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Everything that is decided before the world starts.
#[derive(Debug)]
pub struct Scenario {
    pub operations: Vec<OperationScript>,
    pub api: Vec<FaultPeriod<ApiFault>>,
    pub receivers: Vec<FaultPeriod<ReceiverFault>>,
    pub actions: Vec<(Duration, Action)>,
    /// When the last fault ends.
    pub calm: Duration,
    pub knobs: Knobs,
    /// How long the disk takes at most, in milliseconds.
    pub disk: u64,
    /// An operation whose events one endpoint refuses, until the calm: else the last one would be probed for ever.
    pub poison: Option<(usize, usize)>,
    pub events: [EventsOf; 3],
    pub extras: Extras,
}

/// Which events an endpoint subscribes to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum EventsOf {
    All,
    Default,
    Endings,
}

/// Settings that a reload may change.
#[derive(Debug, Clone, PartialEq)]
pub struct Knobs {
    pub min: Duration,
    pub initial: Duration,
    pub max: Duration,
    pub adaptive: bool,
    pub stalled_after: Duration,
    pub unreachable_after: Duration,
    pub grace: Duration,
    pub max_retry_after: Duration,
    pub give_up_after: Option<Duration>,
    pub queued_is_active: bool,
    pub concurrent: usize,
    pub per_second: f64,
    pub in_flight: usize,
    pub max_backlog: usize,
    pub endpoints: [bool; 3],
    pub url: u64,
    /// The label whose value is the group.
    pub group_by: &'static str,
    pub settle: Duration,
    /// Whether the rules of discovery are configured.
    pub discovers: bool,
}

impl Knobs {
    fn roll(random: &mut Random) -> Self {
        let min = seconds(random.between(1, 5));
        let initial = min + seconds(random.between(0, 3));
        Self {
            min,
            initial,
            max: initial + seconds(random.between(5, 60)),
            adaptive: random.percent(70),
            stalled_after: seconds(random.between(60, 900)),
            unreachable_after: seconds(random.between(30, 300)),
            grace: seconds(random.between(10, 180)),
            max_retry_after: seconds(random.between(20, 300)),
            give_up_after: random.percent(15).then(|| seconds(random.between(600, 7200))),
            queued_is_active: random.percent(50),
            concurrent: random.between(1, 8) as usize,
            per_second: random.one_of(&[0.5, 1.0, 3.0, 7.0, 20.0]),
            in_flight: random.between(1, 6) as usize,
            max_backlog: if random.percent(15) {
                random.between(3, 30) as usize
            } else {
                100_000
            },
            endpoints: [true; 3],
            url: 0,
            group_by: "group",
            settle: seconds(30),
            discovers: true,
        }
    }
}

/// What happens to one operation at the API.
#[derive(Debug, Clone)]
pub struct OperationScript {
    pub project: usize,
    pub id: String,
    pub begin: Duration,
    pub end: Duration,
    pub ending: Ending,
    pub total: Option<u64>,
    /// Records in all.
    pub records: u64,
    /// From when and for how long the count does not change.
    pub still: (Duration, Duration),
    /// When the platform restarts it.
    pub retried: Option<Duration>,
    pub shows_count: bool,
    pub queued_until: Duration,
    /// The time of creation in the API, in seconds on the wall.
    pub created: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ending {
    Succeeds,
    Fails,
    /// Another status, and success some time after it.
    Pauses,
    Vanishes,
    NeverEnds,
}

/// A fault for some time.
#[derive(Debug, Clone)]
pub struct FaultPeriod<T> {
    /// The project or endpoint.
    pub of: usize,
    pub from: Duration,
    pub to: Duration,
    /// The percentage of requests that get it.
    pub percent: u64,
    pub what: T,
}

impl<T> FaultPeriod<T> {
    /// A fault of one of `count` projects or endpoints. Recorded seeds depend on the order of the random numbers.
    fn generate(
        random: &mut Random,
        length: Duration,
        count: u64,
        what: impl FnOnce(&mut Random) -> T,
    ) -> Self {
        let from = Duration::from_millis(random.between(0, length.as_millis() as u64));
        let longest = random.one_of(&[20, 120, 900]);
        let to = (from + seconds(random.between(1, longest))).min(length);
        let percent = random.one_of(&[10, 50, 100, 100]);
        let what = what(random);
        Self {
            of: random.between(0, count - 1) as usize,
            from,
            to,
            percent,
            what,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ApiFault {
    ServerError,
    Connect,
    Tls,
    Timeout,
    Interrupted,
    Malformed,
    TooLarge,
    Redirect,
    NotFound,
    NotFoundOne(usize),
    RefusedOne(usize),
    ForbiddenOne(usize),
    Unauthorized,
    Forbidden,
    Throttled,
    ThrottledFor(u64),
    Slow,
    Panic,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ReceiverFault {
    Status(u16),
    Busy(u64),
    TimesOut,
    NoAnswer,
    /// The receiver has it, and its answer is lost.
    LostAnswer,
    Slow,
}

#[derive(Debug, Clone)]
pub enum Action {
    /// These operations are listed, with labels of this version.
    List {
        listed: Vec<usize>,
        labels: u64,
        noise: u64,
    },
    /// The clock on the wall is set ahead (or back) by so many seconds.
    Step(i64),
    Reload(Box<Knobs>),
    Key(usize),
    DiskFull,
    DiskWorks,
    Stop {
        away: Duration,
    },
    Crash {
        away: Duration,
    },
    /// The process is gone with the next commit: just before it, or just after it.
    CrashAtCommit {
        before: bool,
        away: Duration,
    },
    /// The process is gone when a receiver has taken its next event.
    CrashAtReceipt {
        away: Duration,
    },
    /// A client adds watches over HTTP, with terms of this version.
    Put {
        operations: Vec<usize>,
        version: u64,
    },
    /// A client removes a watch over HTTP.
    Withdraw(usize),
    Calm,
}

impl Scenario {
    pub fn new(seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let length = seconds(60 * random.between(5, 60));
        let at = |random: &mut Random| Duration::from_millis(random.between(0, length.as_millis() as u64));
        let knobs = Knobs::roll(random);
        let count = if random.percent(10) {
            random.between(10, 40)
        } else {
            random.between(1, 9)
        } as usize;
        let projects = if random.percent(40) { 2 } else { 1 };
        let operations: Vec<OperationScript> = (0..count)
            .map(|index| {
                let begin = if random.percent(80) {
                    Duration::ZERO
                } else {
                    at(random) / 2
                };
                let records = random.between(0, 20_000);
                OperationScript {
                    project: random.between(0, projects - 1) as usize,
                    id: format!("op-{index}"),
                    begin,
                    end: begin
                        + if random.percent(10) {
                            Duration::ZERO
                        } else {
                            at(random)
                        },
                    ending: random.one_of(&[
                        Ending::Succeeds,
                        Ending::Succeeds,
                        Ending::Succeeds,
                        Ending::Fails,
                        Ending::Pauses,
                        Ending::Vanishes,
                        Ending::NeverEnds,
                    ]),
                    total: random
                        .percent(60)
                        .then(|| records / 2 + random.between(1, 20_000)),
                    records,
                    still: (at(random), seconds(random.between(0, 2000))),
                    retried: random.percent(20).then(|| at(random)),
                    shows_count: random.percent(85),
                    queued_until: if random.percent(20) {
                        begin + seconds(random.between(1, 300))
                    } else {
                        begin
                    },
                    created: None,
                }
            })
            .collect();
        let api = (0..random.between(0, 8))
            .map(|_| {
                FaultPeriod::generate(random, length, projects, |random| {
                    let one = random.between(0, count as u64 - 1) as usize;
                    let wait = random.one_of(&[1, 3, 30, 120, 1000]);
                    random.one_of(&[
                        ApiFault::ServerError,
                        ApiFault::Connect,
                        ApiFault::Tls,
                        ApiFault::Timeout,
                        ApiFault::Interrupted,
                        ApiFault::Malformed,
                        ApiFault::TooLarge,
                        ApiFault::Redirect,
                        ApiFault::NotFound,
                        ApiFault::NotFoundOne(one),
                        ApiFault::RefusedOne(one),
                        ApiFault::ForbiddenOne(one),
                        ApiFault::Unauthorized,
                        ApiFault::Unauthorized,
                        ApiFault::Forbidden,
                        ApiFault::Throttled,
                        ApiFault::ThrottledFor(wait),
                        ApiFault::Slow,
                        ApiFault::Panic,
                    ])
                })
            })
            .collect();
        let receivers = (0..random.between(0, 7))
            .map(|_| {
                FaultPeriod::generate(random, length, 3, |random| {
                    let status = random.one_of(&[
                        302, 400, 401, 403, 404, 405, 410, 413, 422, 429, 500, 502, 503, 504,
                    ]);
                    let wait = random.one_of(&[1, 20, 300]);
                    random.one_of(&[
                        ReceiverFault::Status(status),
                        ReceiverFault::Status(status),
                        ReceiverFault::Busy(wait),
                        ReceiverFault::TimesOut,
                        ReceiverFault::NoAnswer,
                        ReceiverFault::LostAnswer,
                        ReceiverFault::LostAnswer,
                        ReceiverFault::Slow,
                    ])
                })
            })
            .collect();
        let poison = random.percent(15).then(|| {
            (
                random.between(0, 2) as usize,
                random.between(0, count as u64 - 1) as usize,
            )
        });
        let actions = actions(random, length, count, projects, &knobs);
        let mut scenario = Self {
            operations,
            api,
            receivers,
            actions,
            calm: length,
            knobs,
            disk: random.one_of(&[0, 0, 5, 50, 1000]),
            poison,
            events: [
                EventsOf::All,
                EventsOf::Default,
                random.one_of(&[EventsOf::All, EventsOf::Endings]),
            ],
            extras: Extras::default(),
        };
        Extras::generate(seed, &mut scenario);
        scenario
    }

    /// Whether a client adds or removes watches over HTTP.
    pub fn has_client(&self) -> bool {
        let mut actions = self.actions.iter();
        actions.any(|(_, action)| matches!(action, Action::Put { .. } | Action::Withdraw(_)))
    }
}

fn actions(
    random: &mut Random,
    length: Duration,
    count: usize,
    projects: u64,
    knobs: &Knobs,
) -> Vec<(Duration, Action)> {
    let at = |random: &mut Random| Duration::from_millis(random.between(1, length.as_millis() as u64 - 1));
    let away = |random: &mut Random| Duration::from_millis(random.one_of(&[1, 1000, 30_000, 400_000]));
    let everything: Vec<usize> = (0..count).collect();
    let mut actions = Vec::new();
    // In a quarter of the worlds not everything is listed from the start.
    let first: Vec<usize> = if random.percent(75) {
        everything.clone()
    } else {
        everything
            .iter()
            .copied()
            .filter(|_| random.percent(50))
            .collect()
    };
    actions.push((
        Duration::ZERO,
        Action::List {
            listed: first,
            labels: 0,
            noise: random.next(),
        },
    ));
    for labels in 1..=random.between(0, 5) {
        let when = at(random);
        let listed: Vec<usize> = everything
            .iter()
            .copied()
            .filter(|_| random.percent(70))
            .collect();
        actions.push((
            when,
            Action::List {
                listed,
                labels,
                noise: random.next(),
            },
        ));
        if random.percent(60) {
            // Put back, at times before its poller has joined.
            let back = when + Duration::from_millis(random.one_of(&[1, 20, 3000, 90_000]));
            actions.push((
                back,
                Action::List {
                    listed: everything.clone(),
                    labels,
                    noise: random.next(),
                },
            ));
        }
    }
    if random.percent(25) {
        for _ in 0..random.between(1, 3) {
            let step = random.one_of(&[-86_400, -3600, -30, 30, 3600, 86_400]);
            actions.push((at(random), Action::Step(step)));
        }
    }
    for _ in 0..random.between(0, 3) {
        let mut other = if random.percent(60) {
            Knobs::roll(random)
        } else {
            knobs.clone()
        };
        other.endpoints[random.between(0, 2) as usize] = random.percent(60);
        other.url = random.between(0, 1);
        actions.push((at(random), Action::Reload(Box::new(other))));
    }
    for _ in 0..random.between(0, 2) {
        actions.push((at(random), Action::Key(random.between(0, projects - 1) as usize)));
    }
    if random.percent(25) {
        let from = at(random);
        let lasts = seconds(random.between(1, 600));
        actions.push((from, Action::DiskFull));
        actions.push((
            (from + lasts).min(length - Duration::from_millis(1)),
            Action::DiskWorks,
        ));
    }
    for _ in 0..random.between(0, 4) {
        let away = away(random);
        let before = random.percent(50);
        let action = match random.between(0, 5) {
            0 => Action::Stop { away },
            1 => Action::Crash { away },
            2 | 3 => Action::CrashAtCommit { before, away },
            _ => Action::CrashAtReceipt { away },
        };
        actions.push((at(random), action));
    }
    let mut last = knobs.clone();
    last.give_up_after = None;
    last.url = random.between(0, 1);
    actions.push((length, Action::Calm));
    actions.push((
        length,
        Action::List {
            listed: everything,
            labels: 9,
            noise: random.next(),
        },
    ));
    actions.push((length + Duration::from_millis(1), Action::Reload(Box::new(last))));
    actions.sort_by_key(|(when, _)| *when);
    actions
}
