//! What is going to happen in a world, all of it made from the seed.

use std::time::Duration;

use crate::dice::Dice;

pub const PROJECTS: [&str; 2] = ["p", "q"];
pub const ENDPOINTS: [&str; 3] = ["alpha", "beta", "gamma"];

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What chance decides before anything happens.
#[derive(Debug)]
pub struct Plan {
    pub operations: Vec<Course>,
    pub api: Vec<Spell<Fault>>,
    pub receivers: Vec<Spell<Manner>>,
    pub actions: Vec<(Duration, Action)>,
    /// When all trouble is over.
    pub calm: Duration,
    pub knobs: Knobs,
    /// How long the disk takes at most, in milliseconds.
    pub disk: u64,
    /// An operation whose events one endpoint refuses, until the calm: else the last one would be probed for ever.
    pub poison: Option<(usize, usize)>,
    pub events: [EventsOf; 3],
}

/// Which events an endpoint wants.
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
}

impl Knobs {
    fn roll(dice: &mut Dice) -> Self {
        let min = seconds(dice.between(1, 5));
        let initial = min + seconds(dice.between(0, 3));
        Self {
            min,
            initial,
            max: initial + seconds(dice.between(5, 60)),
            adaptive: dice.percent(70),
            stalled_after: seconds(dice.between(60, 900)),
            unreachable_after: seconds(dice.between(30, 300)),
            grace: seconds(dice.between(10, 180)),
            max_retry_after: seconds(dice.between(20, 300)),
            give_up_after: dice.percent(15).then(|| seconds(dice.between(600, 7200))),
            queued_is_active: dice.percent(50),
            concurrent: dice.between(1, 8) as usize,
            per_second: dice.one_of(&[0.5, 1.0, 3.0, 7.0, 20.0]),
            in_flight: dice.between(1, 6) as usize,
            max_backlog: if dice.percent(15) {
                dice.between(3, 30) as usize
            } else {
                100_000
            },
            endpoints: [true; 3],
            url: 0,
        }
    }
}

/// How one operation goes on at the API.
#[derive(Debug, Clone)]
pub struct Course {
    pub project: usize,
    pub id: String,
    pub begin: Duration,
    pub end: Duration,
    pub fate: Fate,
    pub total: Option<u64>,
    /// Records in all.
    pub records: u64,
    /// The count stands still from then on for so long.
    pub still: (Duration, Duration),
    /// The platform starts it afresh then.
    pub retried: Option<Duration>,
    pub shows_count: bool,
    pub queued_until: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fate {
    Succeeds,
    Fails,
    /// Another status, and success some time after it.
    Pauses,
    Vanishes,
    NeverEnds,
}

/// Trouble for a while.
#[derive(Debug, Clone)]
pub struct Spell<T> {
    /// Of which project or endpoint.
    pub of: usize,
    pub from: Duration,
    pub to: Duration,
    /// How many out of a hundred requests meet it.
    pub percent: u64,
    pub what: T,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
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
pub enum Manner {
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
    Calm,
}

impl Plan {
    pub fn new(seed: u64) -> Self {
        let dice = &mut Dice::new(seed);
        let length = seconds(60 * dice.between(5, 60));
        let at = |dice: &mut Dice| Duration::from_millis(dice.between(0, length.as_millis() as u64));
        let knobs = Knobs::roll(dice);
        let count = if dice.percent(10) {
            dice.between(10, 40)
        } else {
            dice.between(1, 9)
        } as usize;
        let projects = if dice.percent(40) { 2 } else { 1 };
        let operations: Vec<Course> = (0..count)
            .map(|index| {
                let begin = if dice.percent(80) {
                    Duration::ZERO
                } else {
                    at(dice) / 2
                };
                let records = dice.between(0, 20_000);
                Course {
                    project: dice.between(0, projects - 1) as usize,
                    id: format!("op-{index}"),
                    begin,
                    end: begin
                        + if dice.percent(10) {
                            Duration::ZERO
                        } else {
                            at(dice)
                        },
                    fate: dice.one_of(&[
                        Fate::Succeeds,
                        Fate::Succeeds,
                        Fate::Succeeds,
                        Fate::Fails,
                        Fate::Pauses,
                        Fate::Vanishes,
                        Fate::NeverEnds,
                    ]),
                    total: dice.percent(60).then(|| records / 2 + dice.between(1, 20_000)),
                    records,
                    still: (at(dice), seconds(dice.between(0, 2000))),
                    retried: dice.percent(20).then(|| at(dice)),
                    shows_count: dice.percent(85),
                    queued_until: if dice.percent(20) {
                        begin + seconds(dice.between(1, 300))
                    } else {
                        begin
                    },
                }
            })
            .collect();
        let spell = |dice: &mut Dice| {
            let from = at(dice);
            let longest = dice.one_of(&[20, 120, 900]);
            let to = (from + seconds(dice.between(1, longest))).min(length);
            (from, to, dice.one_of(&[10, 50, 100, 100]))
        };
        let api = (0..dice.between(0, 8))
            .map(|_| {
                let (from, to, percent) = spell(dice);
                let one = dice.between(0, count as u64 - 1) as usize;
                let wait = dice.one_of(&[1, 3, 30, 120, 1000]);
                let what = dice.one_of(&[
                    Fault::ServerError,
                    Fault::Connect,
                    Fault::Tls,
                    Fault::Timeout,
                    Fault::Interrupted,
                    Fault::Malformed,
                    Fault::TooLarge,
                    Fault::Redirect,
                    Fault::NotFound,
                    Fault::NotFoundOne(one),
                    Fault::RefusedOne(one),
                    Fault::ForbiddenOne(one),
                    Fault::Unauthorized,
                    Fault::Unauthorized,
                    Fault::Forbidden,
                    Fault::Throttled,
                    Fault::ThrottledFor(wait),
                    Fault::Slow,
                    Fault::Panic,
                ]);
                let of = dice.between(0, projects - 1) as usize;
                Spell {
                    of,
                    from,
                    to,
                    percent,
                    what,
                }
            })
            .collect();
        let receivers = (0..dice.between(0, 7))
            .map(|_| {
                let (from, to, percent) = spell(dice);
                let status = dice.one_of(&[
                    302, 400, 401, 403, 404, 405, 410, 413, 422, 429, 500, 502, 503, 504,
                ]);
                let wait = dice.one_of(&[1, 20, 300]);
                let what = dice.one_of(&[
                    Manner::Status(status),
                    Manner::Status(status),
                    Manner::Busy(wait),
                    Manner::TimesOut,
                    Manner::NoAnswer,
                    Manner::LostAnswer,
                    Manner::LostAnswer,
                    Manner::Slow,
                ]);
                let of = dice.between(0, 2) as usize;
                Spell {
                    of,
                    from,
                    to,
                    percent,
                    what,
                }
            })
            .collect();
        let poison = dice.percent(15).then(|| {
            (
                dice.between(0, 2) as usize,
                dice.between(0, count as u64 - 1) as usize,
            )
        });
        let actions = actions(dice, length, count, projects, &knobs);
        Self {
            operations,
            api,
            receivers,
            actions,
            calm: length,
            knobs,
            disk: dice.one_of(&[0, 0, 5, 50, 1000]),
            poison,
            events: [
                EventsOf::All,
                EventsOf::Default,
                dice.one_of(&[EventsOf::All, EventsOf::Endings]),
            ],
        }
    }
}

fn actions(
    dice: &mut Dice,
    length: Duration,
    count: usize,
    projects: u64,
    knobs: &Knobs,
) -> Vec<(Duration, Action)> {
    let at = |dice: &mut Dice| Duration::from_millis(dice.between(1, length.as_millis() as u64 - 1));
    let away = |dice: &mut Dice| Duration::from_millis(dice.one_of(&[1, 1000, 30_000, 400_000]));
    let everything: Vec<usize> = (0..count).collect();
    let mut actions = Vec::new();
    // In a quarter of the worlds not everything is listed from the start.
    let first: Vec<usize> = if dice.percent(75) {
        everything.clone()
    } else {
        everything.iter().copied().filter(|_| dice.percent(50)).collect()
    };
    actions.push((
        Duration::ZERO,
        Action::List {
            listed: first,
            labels: 0,
            noise: dice.next(),
        },
    ));
    for labels in 1..=dice.between(0, 5) {
        let when = at(dice);
        let listed: Vec<usize> = everything.iter().copied().filter(|_| dice.percent(70)).collect();
        actions.push((
            when,
            Action::List {
                listed,
                labels,
                noise: dice.next(),
            },
        ));
        if dice.percent(60) {
            // Put back, at times before its poller has joined.
            let back = when + Duration::from_millis(dice.one_of(&[1, 20, 3000, 90_000]));
            actions.push((
                back,
                Action::List {
                    listed: everything.clone(),
                    labels,
                    noise: dice.next(),
                },
            ));
        }
    }
    if dice.percent(25) {
        for _ in 0..dice.between(1, 3) {
            let step = dice.one_of(&[-86_400, -3600, -30, 30, 3600, 86_400]);
            actions.push((at(dice), Action::Step(step)));
        }
    }
    for _ in 0..dice.between(0, 3) {
        let mut other = if dice.percent(60) {
            Knobs::roll(dice)
        } else {
            knobs.clone()
        };
        other.endpoints[dice.between(0, 2) as usize] = dice.percent(60);
        other.url = dice.between(0, 1);
        actions.push((at(dice), Action::Reload(Box::new(other))));
    }
    for _ in 0..dice.between(0, 2) {
        actions.push((at(dice), Action::Key(dice.between(0, projects - 1) as usize)));
    }
    if dice.percent(25) {
        let from = at(dice);
        let lasts = seconds(dice.between(1, 600));
        actions.push((from, Action::DiskFull));
        actions.push((
            (from + lasts).min(length - Duration::from_millis(1)),
            Action::DiskWorks,
        ));
    }
    for _ in 0..dice.between(0, 4) {
        let away = away(dice);
        let before = dice.percent(50);
        let action = match dice.between(0, 5) {
            0 => Action::Stop { away },
            1 => Action::Crash { away },
            2 | 3 => Action::CrashAtCommit { before, away },
            _ => Action::CrashAtReceipt { away },
        };
        actions.push((at(dice), action));
    }
    let mut last = knobs.clone();
    last.give_up_after = None;
    last.url = dice.between(0, 1);
    actions.push((length, Action::Calm));
    actions.push((
        length,
        Action::List {
            listed: everything,
            labels: 9,
            noise: dice.next(),
        },
    ));
    actions.push((length + Duration::from_millis(1), Action::Reload(Box::new(last))));
    actions.sort_by_key(|(when, _)| *when);
    actions
}
