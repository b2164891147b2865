//! What the worlds of the second generator add: groups, deadlines, discovery and changes over HTTP.
//!
//! The numbers come from a sequence of their own, so that the rest of a world stays as the first generator made it.

use std::time::Duration;

use backfill_watch::core::deadline::Deadline;
use backfill_watch::core::source::Terms;
use jiff::Timestamp;

use crate::random::Random;
use crate::scenario::{Action, Ending, Knobs, OperationScript, PROJECTS, Scenario, seconds};

/// Seeds from here on have extras. Those below give the worlds of the first generator.
pub const EXTENDED: u64 = 1_000_000_000_000_000;

/// The time on the wall when a world begins, in seconds.
pub const BEGIN: i64 = 1_800_000_000;

/// The time on the wall so long after the begin of a world, unless the clock is set.
pub fn wall_at(time: Duration) -> Timestamp {
    let since = jiff::SignedDuration::try_from(time).unwrap();
    Timestamp::from_second(BEGIN).unwrap() + since
}

/// What the second generator decides.
#[derive(Debug, Default)]
pub struct Extras {
    /// Labels and deadlines, by operation.
    pub terms: Vec<TermsScript>,
    pub installations: Vec<InstallationScript>,
    /// The rule of discovery of each project that has one.
    pub rules: [Option<RuleScript>; 2],
}

/// What is asked for with an operation. Each version of a list or a request takes the next of them.
#[derive(Debug, Clone, Default)]
pub struct TermsScript {
    pub groups: Vec<Option<String>>,
    pub deadlines: Vec<Option<Deadline>>,
}

impl TermsScript {
    pub fn group(&self, version: u64) -> Option<&str> {
        self.groups
            .get(version as usize % self.groups.len().max(1))?
            .as_deref()
    }

    pub fn deadline(&self, version: u64) -> Option<Deadline> {
        *self
            .deadlines
            .get(version as usize % self.deadlines.len().max(1))?
    }
}

/// A rule of discovery.
#[derive(Debug, Clone)]
pub struct RuleScript {
    pub every: Duration,
    pub lookback: Duration,
    pub deadline: Option<Deadline>,
}

/// A customer's use of an integration.
#[derive(Debug, Clone)]
pub struct InstallationScript {
    pub project: usize,
    pub id: String,
    pub group: Option<String>,
    pub from: Duration,
    /// When it is deleted.
    pub to: Option<Duration>,
    pub objects: Vec<ObjectScript>,
}

impl InstallationScript {
    pub fn lives(&self, now: Duration) -> bool {
        self.from <= now && self.to.is_none_or(|to| now < to)
    }
}

/// An object with its backfills, the oldest first.
#[derive(Debug, Clone)]
pub struct ObjectScript {
    pub name: String,
    pub operations: Vec<usize>,
    /// When its configuration changes.
    pub changes: Option<Duration>,
}

impl Extras {
    /// Adds to a scenario what its seed decides.
    pub fn generate(seed: u64, scenario: &mut Scenario) {
        if seed < EXTENDED {
            return;
        }
        let random = &mut Random::new(seed ^ 0x00e0_57a5);
        let (deadlines, groups) = (random.percent(35), random.percent(35));
        let (discovery, api) = (random.percent(30), random.percent(35));
        let listed = scenario.operations.len();
        if api {
            changes_over_http(random, scenario, listed);
        }
        if discovery {
            installations(random, scenario);
        }
        let length = scenario.calm;
        for _ in 0..scenario.operations.len() {
            let mut terms = TermsScript::default();
            if groups && random.percent(85) {
                let versions = if random.percent(85) { 1 } else { 2 };
                terms.groups = (0..versions)
                    .map(|_| {
                        random
                            .percent(90)
                            .then(|| format!("group-{}", random.between(1, 3)))
                    })
                    .collect();
            }
            if deadlines && random.percent(70) {
                let versions = random.one_of(&[1, 1, 2, 3]);
                terms.deadlines = (0..versions)
                    .map(|_| random.percent(85).then(|| deadline(random, length)))
                    .collect();
            }
            scenario.extras.terms.push(terms);
        }
        if deadlines {
            for rule in scenario.extras.rules.iter_mut().flatten() {
                rule.deadline = random.percent(60).then(|| deadline(random, length));
            }
        }
        if groups || discovery {
            group_settings(random, scenario, discovery);
        }
        scenario.actions.sort_by_key(|(when, _)| *when);
    }
}

fn at(random: &mut Random, length: Duration) -> Duration {
    Duration::from_millis(random.between(1, length.as_millis() as u64 - 1))
}

fn deadline(random: &mut Random, length: Duration) -> Deadline {
    let length = length.as_secs();
    if random.percent(50) {
        Deadline::After(seconds(random.between(1, length)))
    } else {
        let time = BEGIN - 600 + random.between(0, 600 + length * 5 / 4) as i64;
        Deadline::At(Timestamp::from_second(time).unwrap())
    }
}

fn group_settings(random: &mut Random, scenario: &mut Scenario, discovery: bool) {
    let settle = seconds(random.one_of(&[0, 5, 30, 30, 120]));
    let change = random.percent(15);
    let reloads = scenario
        .actions
        .iter_mut()
        .filter_map(|(_, action)| match action {
            Action::Reload(knobs) => Some(&mut **knobs),
            _ => None,
        });
    let mut all: Vec<&mut Knobs> = std::iter::once(&mut scenario.knobs).chain(reloads).collect();
    let last = all.len() - 1;
    for (index, knobs) in all.iter_mut().enumerate() {
        knobs.settle = settle;
        if index > 0 && random.percent(20) {
            knobs.settle = seconds(random.between(0, 60));
        }
        if index > 0 && change && random.percent(50) {
            knobs.group_by = "team";
        }
        if discovery && index > 0 && index < last && random.percent(10) {
            knobs.discovers = false;
        }
    }
}

/// An operation that no list has.
fn operation(
    random: &mut Random,
    project: usize,
    id: String,
    begin: Duration,
    length: Duration,
) -> OperationScript {
    let records = random.between(0, 20_000);
    let lasts = if random.percent(15) {
        Duration::ZERO
    } else {
        at(random, length) / 2
    };
    OperationScript {
        project,
        id,
        begin,
        end: begin + lasts,
        ending: random.one_of(&[
            Ending::Succeeds,
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
        still: (at(random, length), seconds(random.between(0, 2000))),
        retried: random.percent(10).then(|| at(random, length)),
        shows_count: random.percent(85),
        queued_until: begin,
        created: None,
    }
}

/// Watches that a client adds and removes over HTTP: some of the list, and some that it does not have.
fn changes_over_http(random: &mut Random, scenario: &mut Scenario, listed: usize) {
    let length = scenario.calm;
    let projects = scenario
        .operations
        .iter()
        .map(|operation| operation.project)
        .max()
        .unwrap_or(0) as u64;
    for index in 0..random.between(1, 4) {
        let project = random.between(0, projects) as usize;
        let begin = if random.percent(70) {
            Duration::ZERO
        } else {
            at(random, length) / 2
        };
        let added = operation(random, project, format!("added-{index}"), begin, length);
        scenario.operations.push(added);
    }
    let count = scenario.operations.len();
    let one = |random: &mut Random| {
        if random.percent(70) {
            random.between(listed as u64, count as u64 - 1) as usize
        } else {
            random.between(0, count as u64 - 1) as usize
        }
    };
    for version in 1..=random.between(1, 6) {
        let operations = (0..random.one_of(&[1, 1, 1, 2, 4]))
            .map(|_| one(random))
            .collect();
        scenario
            .actions
            .push((at(random, length), Action::Put { operations, version }));
    }
    for _ in 0..random.between(0, 4) {
        let (when, operation) = (at(random, length), one(random));
        scenario.actions.push((when, Action::Withdraw(operation)));
        if random.percent(40) {
            let back = when + Duration::from_millis(random.one_of(&[1, 20, 3000, 90_000]));
            let put = Action::Put {
                operations: vec![operation],
                version: random.between(1, 6),
            };
            scenario.actions.push((back.min(length), put));
        }
    }
    let operations = (listed..count).collect();
    scenario.actions.push((
        length,
        Action::Put {
            operations,
            version: 9,
        },
    ));
}

/// Installations whose backfills are found.
fn installations(random: &mut Random, scenario: &mut Scenario) {
    let length = scenario.calm;
    let is_stepped = scenario
        .actions
        .iter()
        .any(|(_, action)| matches!(action, Action::Step(_)));
    let project = random.between(0, PROJECTS.len() as u64 - 1) as usize;
    scenario.extras.rules[project] = Some(RuleScript {
        every: seconds(random.one_of(&[10, 60, 60, 120])),
        // Longer than the clock is set by.
        lookback: seconds(3600 * if is_stepped { 24 * 7 } else { random.between(2, 24) }),
        deadline: None,
    });
    let mut found = 0;
    for index in 0..random.between(1, 4) {
        let from = if random.percent(60) {
            Duration::ZERO
        } else {
            at(random, length) / 2
        };
        let to = random
            .percent(15)
            .then(|| from + at(random, length.saturating_sub(from) + seconds(1)));
        let mut objects = Vec::new();
        for object in 0..random.one_of(&[1, 1, 2, 3]) {
            let mut operations = Vec::new();
            let mut begin = if random.percent(60) {
                from
            } else {
                from + at(random, length) / 4
            };
            for _ in 0..random.one_of(&[0, 1, 1, 1, 2, 3]) {
                let mut script = operation(random, project, format!("found-{found}"), begin, length);
                script.created = match random.between(0, 9) {
                    // Without a known time.
                    0 => None,
                    // Before any lookback.
                    1 if operations.is_empty() => Some(BEGIN - 30 * 86_400),
                    _ => Some(BEGIN + begin.as_secs() as i64),
                };
                found += 1;
                begin = script.end + at(random, length) / 4;
                operations.push(scenario.operations.len());
                scenario.operations.push(script);
            }
            objects.push(ObjectScript {
                name: format!("object-{object}"),
                operations,
                changes: random.percent(15).then(|| at(random, length)),
            });
        }
        scenario.extras.installations.push(InstallationScript {
            project,
            id: format!("installation-{index}"),
            group: random
                .percent(70)
                .then(|| format!("group-{}", random.between(1, 3))),
            from,
            to,
            objects,
        });
    }
}

/// What a list or a request of this version asks for with an operation.
pub fn terms(scenario: &Scenario, operation: usize, version: u64) -> Terms {
    let mut labels = vec![("version".to_owned(), version.to_string())];
    let script = scenario.extras.terms.get(operation);
    if let Some(group) = script.and_then(|script| script.group(version)) {
        labels.push(("group".to_owned(), group.to_owned()));
        labels.push(("team".to_owned(), format!("team-{}", group.len() + operation % 2)));
    }
    Terms {
        labels,
        deadline: script.and_then(|script| script.deadline(version)),
    }
}

/// What discovery asks for with an operation, and the installation and the object that name it.
pub fn terms_of_discovery(scenario: &Scenario, operation: usize) -> Option<(usize, Terms)> {
    let installations = scenario.extras.installations.iter().enumerate();
    let (index, installation, object) = installations
        .flat_map(|(index, installation)| {
            let objects = installation.objects.iter();
            objects.map(move |object| (index, installation, object))
        })
        .find(|(_, _, object)| object.operations.contains(&operation))?;
    let rule = scenario.extras.rules[installation.project].as_ref()?;
    let group = installation.group.as_ref().unwrap_or(&installation.id);
    let labels = [
        ("group", group.as_str()),
        ("object", &object.name),
        ("installation", &installation.id),
        ("integration", "crm"),
    ];
    let labels = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let terms = Terms {
        labels: labels.collect(),
        deadline: rule.deadline,
    };
    Some((index, terms))
}
