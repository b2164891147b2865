use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::core::deadline::Deadline;
use crate::core::glob::Globs;

const HOUR: Duration = Duration::from_hours(1);

fn rule() -> DiscoveryRule {
    DiscoveryRule {
        integrations: Globs::all(),
        groups: Globs::all(),
        objects: Globs::all(),
        every: Duration::from_mins(1),
        lookback: Duration::from_hours(24),
        deadline: None,
        labels: vec![("team".to_owned(), "crm".to_owned())],
    }
}

/// A backfill: its ID, its age when created in hours, and whether it runs.
type Backfill = (String, Option<i64>, bool);

/// An API that discovery asks, and its time.
struct World {
    rules: Arc<[DiscoveryRule]>,
    discovery: Discovery,
    recorded: BTreeMap<Arc<str>, StoredInstallation>,
    steady: Duration,
    wall: Timestamp,
    /// The objects of each installation, with the newest backfill of each.
    api: BTreeMap<String, BTreeMap<String, Option<Backfill>>>,
    created: BTreeMap<String, Option<Timestamp>>,
    requests: Vec<DiscoveryRequest>,
    /// Known operations that may have other terms.
    known: Vec<FoundOperation>,
    are_terms_compared: bool,
    fails: bool,
    /// Objects whose requests have this answer instead.
    unreadable: BTreeMap<&'static str, DiscoveryAnswer>,
    /// The answer to requests for the names of integrations, if it is another.
    names: Option<DiscoveryAnswer>,
    /// The bytes of each installation in the list.
    bytes: usize,
    /// The integration of all installations.
    integration: &'static str,
    /// The begin of all groups.
    group: &'static str,
}

impl World {
    fn new(rules: Vec<DiscoveryRule>) -> Self {
        let rules: Arc<[DiscoveryRule]> = rules.into();
        Self {
            discovery: Discovery::new(Arc::clone(&rules)),
            rules,
            recorded: BTreeMap::new(),
            steady: Duration::ZERO,
            wall: "2026-11-24T12:00:00Z".parse().unwrap(),
            api: BTreeMap::new(),
            created: BTreeMap::new(),
            requests: Vec::new(),
            known: Vec::new(),
            are_terms_compared: true,
            fails: false,
            unreadable: BTreeMap::new(),
            names: None,
            bytes: 1,
            integration: "g",
            group: "group",
        }
    }

    fn now(&self) -> Moment {
        Moment {
            wall: self.wall,
            steady: self.steady,
        }
    }

    fn advance(&mut self, time: Duration) {
        self.steady += time;
        self.wall += time;
    }

    /// Adds an object with a backfill that was created this many hours ago.
    fn backfill(&mut self, installation: &str, object: &str, id: &str, hours: Option<i64>, runs: bool) {
        let created = hours.map(|hours| self.wall - SignedDuration::from_hours(hours));
        self.created.insert(id.to_owned(), created);
        self.api
            .entry(installation.to_owned())
            .or_default()
            .insert(object.to_owned(), Some((id.to_owned(), hours, runs)));
    }

    fn object(&mut self, installation: &str, object: &str) {
        self.api
            .entry(installation.to_owned())
            .or_default()
            .insert(object.to_owned(), None);
    }

    fn answer(&self, request: &DiscoveryRequest) -> DiscoveryAnswer {
        if self.fails {
            return DiscoveryAnswer::Failed("500".into());
        }
        match request {
            DiscoveryRequest::Installations => DiscoveryAnswer::Installations(InstallationList {
                installations: self
                    .api
                    .iter()
                    .map(|(id, objects)| ListedInstallation {
                        id: id.clone(),
                        integration: self.integration.to_owned(),
                        group: Some(format!("{}-{id}", self.group)),
                        objects: objects
                            .keys()
                            .map(|name| ListedObject {
                                name: name.clone(),
                                fingerprint: 1,
                            })
                            .collect(),
                    })
                    .collect(),
                unusable: 0,
                bytes: self.bytes * self.api.len(),
            }),
            DiscoveryRequest::Integrations => self.names.clone().unwrap_or_else(|| {
                DiscoveryAnswer::Integrations(vec![("g".to_owned(), "read-contacts".to_owned())])
            }),
            DiscoveryRequest::Backfill(path) => {
                if let Some(answer) = self.unreadable.get(&*path.key.object) {
                    return answer.clone();
                }
                let objects = self.api.get(&*path.key.installation);
                let backfill = objects.and_then(|objects| objects.get(&*path.key.object).cloned().flatten());
                DiscoveryAnswer::Backfill(backfill.map(|(id, ..)| NamedOperation {
                    create_time: self.created[&id],
                    id,
                }))
            }
            DiscoveryRequest::Operation(id) => {
                let all = self.api.values().flat_map(BTreeMap::values).flatten();
                let found = all.into_iter().find(|(of, ..)| **of == **id);
                DiscoveryAnswer::Operation(match found {
                    Some((.., true)) => OperationState::Running,
                    Some(_) => OperationState::Finished,
                    None => OperationState::Missing,
                })
            }
        }
    }

    /// Answers all requests that are due, at most `limit`; the operations that are found.
    fn run(&mut self, limit: usize) -> Vec<String> {
        let mut found = Vec::new();
        for _ in 0..limit {
            while self.discovery.has_incoming() {
                let taken = self.discovery.take_in(self.now(), self.are_terms_compared);
                self.known.extend(taken.known);
            }
            let Some(request) = self.discovery.next_request(self.now(), 0.0) else {
                break;
            };
            let answer = self.answer(&request);
            self.requests.push(request.clone());
            let operation = self.discovery.answered(&request, answer, self.now());
            found.extend(operation.map(|found| found.operation.to_string()));
        }
        found
    }

    fn round(&mut self) -> Vec<String> {
        self.run(usize::MAX)
    }

    fn record(&mut self) {
        for (id, installation) in self.discovery.take_unrecorded(usize::MAX, self.now()) {
            match installation {
                Some(installation) => self.recorded.insert(id, installation),
                None => self.recorded.remove(&id),
            };
        }
    }

    fn restart(&mut self) {
        self.advance(Duration::from_secs(10));
        self.record();
        self.steady = Duration::ZERO;
        self.discovery = Discovery::new(Arc::clone(&self.rules));
        for (id, stored) in &self.recorded {
            let text = serde_json::to_string(stored).unwrap();
            let stored = serde_json::from_str(&text).unwrap();
            self.discovery.restore(Arc::clone(id), stored, self.now());
        }
        assert!(!self.discovery.has_unrecorded());
    }
}

#[test]
fn a_new_installation_is_found_in_the_next_round() {
    let mut world = World::new(vec![rule()]);
    assert_eq!(world.round(), [""; 0]);
    assert_eq!(world.requests.len(), 1);
    world.backfill("i", "contact", "op-1", Some(0), true);
    world.advance(Duration::from_secs(59));
    assert_eq!(world.round(), [""; 0]);
    world.advance(Duration::from_secs(1));
    assert_eq!(world.round(), ["op-1"]);
    // Known from now on.
    world.advance(2 * HOUR);
    assert_eq!(world.round(), [""; 0]);
    world.backfill("i", "contact", "op-2", Some(0), true);
    world.advance(2 * HOUR);
    assert_eq!(world.round(), ["op-2"]);
}

#[test]
fn names_are_requested_once_a_day_also_without_a_name_for_each_integration() {
    let mut world = World::new(vec![rule()]);
    world.integration = "unknown";
    world.backfill("i", "contact", "op", Some(0), true);
    assert_eq!(world.round(), ["op"]);
    for _ in 0..100 {
        world.advance(Duration::from_mins(1));
        let _ = world.round();
    }
    let is_names = |request: &&DiscoveryRequest| **request == DiscoveryRequest::Integrations;
    assert_eq!(world.requests.iter().filter(is_names).count(), 1);
    world.advance(24 * HOUR);
    let _ = world.round();
    assert_eq!(world.requests.iter().filter(is_names).count(), 2);
}

#[test]
fn what_is_found_has_the_labels_of_discovery_and_of_the_rule() {
    let mut world = World::new(vec![rule()]);
    world.backfill("i", "con\ntact", "op", Some(0), true);
    let mut found = None;
    while found.is_none() {
        let _ = world.discovery.take_in(world.now(), true);
        let request = world.discovery.next_request(world.now(), 0.0).unwrap();
        let answer = world.answer(&request);
        found = world.discovery.answered(&request, answer, world.now());
    }
    let labels = found.unwrap().labels;
    let labels: Vec<(&str, &str)> = labels.iter().map(|(key, value)| (&**key, &**value)).collect();
    let expected = [
        ("group", "group-i"),
        ("object", "con\u{fffd}tact"),
        ("installation", "i"),
        ("integration", "read-contacts"),
        ("team", "crm"),
    ];
    assert_eq!(labels, expected);
}

#[test]
fn old_finished_backfills_are_not_found_and_cost_two_requests_each() {
    let mut world = World::new(vec![rule()]);
    for installation in 0..1_000 {
        for object in 0..5 {
            let id = format!("op-{installation}-{object}");
            world.backfill(
                &format!("i-{installation}"),
                &format!("o-{object}"),
                &id,
                Some(25),
                false,
            );
        }
    }
    assert_eq!(world.round(), [""; 0]);
    assert_eq!(world.requests.len(), 2 + 2 * 5_000);
    assert!(world.discovery.has_completed_pass());
    // They are remembered, also by a restart.
    world.restart();
    world.requests.clear();
    assert_eq!(world.round(), [""; 0]);
    assert_eq!(world.requests.len(), 2);
}

/// A fifth of 10,000 installations at 20 requests a second, to be fast.
#[test]
fn ten_thousand_objects_take_42_minutes_at_4_requests_a_second_and_then_70_percent_of_them() {
    const TURN: Duration = Duration::from_millis(250);
    let mut world = World::new(vec![rule()]);
    world.bytes = 1_300;
    for installation in 0..2_000 {
        for object in 0..5 {
            let (name, object) = (format!("i-{installation}"), format!("o-{object}"));
            let id = format!("op-{installation}-{object}");
            world.backfill(&name, &object, &id, Some(0), true);
        }
    }
    let run_for = |world: &mut World, time: Duration| {
        world.requests.clear();
        let mut found = Vec::new();
        for _ in 0..time.as_millis() / TURN.as_millis() {
            found.extend(world.run(1));
            world.advance(TURN);
        }
        found
    };
    let is_list = |request: &&DiscoveryRequest| **request == DiscoveryRequest::Installations;
    assert_eq!(run_for(&mut world, Duration::from_mins(42)).len(), 10_000);
    assert!(world.discovery.has_completed_pass());
    // The list has 2.6 MB, so that it is requested every five minutes only.
    assert_eq!(world.requests.iter().filter(is_list).count(), 9);
    assert_eq!(world.requests.len(), 10_000 + 9 + 1);
    // Nothing is left to ask for until the first object is an hour old.
    assert_eq!(run_for(&mut world, Duration::from_mins(18)), [""; 0]);
    assert!(world.requests.len() < 10);
    // Then each object is asked for once an hour. A new installation is not delayed by that.
    world.backfill("new", "contact", "op-new", Some(0), true);
    assert_eq!(run_for(&mut world, Duration::from_mins(6)), ["op-new"]);
    let _ = run_for(&mut world, Duration::from_mins(54));
    let objects = world.requests.iter().filter(|request| !is_list(request)).count();
    assert!((8_400..=10_001).contains(&objects), "{objects}");
    assert_eq!(world.discovery.over_capacity(), None);
}

#[test]
fn an_old_operation_that_runs_is_found() {
    let mut world = World::new(vec![rule()]);
    world.backfill("i", "a", "old", Some(25), true);
    world.backfill("i", "b", "timeless-running", None, true);
    world.backfill("i", "c", "timeless-finished", None, false);
    world.backfill("i", "d", "recent-finished", Some(23), false);
    let mut found = world.round();
    found.sort_unstable();
    assert_eq!(found, ["old", "recent-finished", "timeless-running"]);
}

#[test]
fn a_later_operation_is_found_however_late() {
    let mut world = World::new(vec![rule()]);
    world.object("i", "contact");
    world.round();
    world.backfill("i", "contact", "op", Some(0), false);
    world.restart();
    world.advance(72 * HOUR);
    assert_eq!(world.round(), ["op"]);
}

#[test]
fn urgent_objects_are_asked_for_once_a_round_for_an_hour_and_others_hourly() {
    let mut world = World::new(vec![rule()]);
    world.object("i", "contact");
    let mut asked = Vec::new();
    for minute in 0..240 {
        world.requests.clear();
        world.round();
        let backfill = |request: &&DiscoveryRequest| matches!(request, DiscoveryRequest::Backfill(_));
        assert!(world.requests.iter().filter(backfill).count() <= 1);
        if world.requests.iter().any(|request| backfill(&request)) {
            asked.push(minute);
        }
        world.advance(Duration::from_mins(1));
    }
    let expected: Vec<i32> = (0..60).chain([119, 179, 239]).collect();
    assert_eq!(asked, expected);
}

#[test]
fn new_installations_come_first_and_the_newest_before_all() {
    let mut world = World::new(vec![rule()]);
    for index in 0..100 {
        world.object(&format!("old-{index}"), "contact");
    }
    world.run(52);
    world.advance(Duration::from_mins(1));
    world.object("new", "contact");
    world.requests.clear();
    world.run(2);
    let DiscoveryRequest::Backfill(path) = &world.requests[1] else {
        panic!("{:?}", world.requests);
    };
    assert_eq!(&*path.key.installation, "new");
    // The rest of the first round is not forgotten.
    world.round();
    let asked: BTreeSet<_> = world.requests.iter().collect();
    assert!(asked.len() > 50 && world.discovery.has_completed_pass());
}

#[test]
fn a_finished_operation_makes_its_object_urgent() {
    let mut world = World::new(vec![rule()]);
    world.backfill("i", "contact", "op-1", Some(0), true);
    world.round();
    world.backfill("i", "contact", "op-2", Some(0), true);
    world.advance(Duration::from_mins(1));
    assert_eq!(world.round(), [""; 0]);
    world.discovery.operation_finished("op-1", world.now());
    assert_eq!(world.round(), ["op-2"]);
}

#[test]
fn a_list_of_less_than_half_counts_when_three_rounds_agree() {
    let mut world = World::new(vec![rule()]);
    for index in 0..10 {
        world.object(&format!("i-{index}"), "contact");
    }
    world.round();
    let all = std::mem::take(&mut world.api);
    world.api = all.into_iter().take(4).collect();
    for known in [10, 10, 4] {
        world.advance(Duration::from_mins(1));
        world.round();
        assert_eq!(world.discovery.counts(), (known, known));
    }
    // A smaller change counts at once, and what was deleted is to be recorded.
    world.api.pop_first();
    world.advance(Duration::from_mins(1));
    world.round();
    assert_eq!(world.discovery.counts(), (3, 3));
    let unrecorded = world.discovery.take_unrecorded(usize::MAX, world.now());
    assert_eq!(unrecorded.len(), 10);
    assert_eq!(
        unrecorded.iter().filter(|(_, stored)| stored.is_none()).count(),
        7
    );
}

#[test]
fn three_failed_lists_are_reported_until_a_good_one() {
    let mut world = World::new(vec![rule()]);
    world.backfill("i", "contact", "op", Some(0), true);
    world.fails = true;
    let begin = world.wall;
    for is_reported in [false, false, true, true] {
        assert!(!world.discovery.knows_installations());
        world.round();
        let failure = world.discovery.failure();
        assert_eq!(failure.is_some(), is_reported);
        if let Some(failure) = failure {
            assert!(failure.is_total() && failure.since == begin, "{failure:?}");
            assert_eq!(failure.text(), "installations cannot be listed: 500");
            assert!(world.discovery.knows_installations());
            break;
        }
        world.advance(Duration::from_mins(1));
    }
    world.fails = false;
    world.advance(Duration::from_mins(1));
    assert_eq!(world.round(), ["op"]);
    assert_eq!(world.discovery.failure(), None);
}

#[test]
fn an_object_that_cannot_be_read_is_reported_until_it_is_read_or_gone() {
    let refused = || DiscoveryAnswer::Failed("403".into());
    let mut world = World::new(vec![rule()]);
    world.backfill("i", "contact", "op", Some(0), true);
    world.object("i", "lead");
    world.object("j", "deal");
    world.unreadable = BTreeMap::from([("lead", refused()), ("deal", refused())]);
    for _ in 0..2 {
        world.round();
        assert_eq!(world.discovery.failure(), None);
        world.advance(Duration::from_mins(1));
    }
    world.round();
    let failure = world.discovery.failure().unwrap();
    assert!(!failure.is_total());
    assert_eq!(
        failure.text(),
        "2 of 3 objects cannot be read, such as lead of installation i: 403"
    );
    world.unreadable.remove("lead");
    world.advance(Duration::from_mins(1));
    world.round();
    let failure = world.discovery.failure().unwrap();
    assert_eq!(
        failure.text(),
        "object deal of installation j cannot be read: 403"
    );
    world.api.get_mut("j").unwrap().clear();
    world.advance(Duration::from_mins(1));
    world.round();
    assert_eq!(world.discovery.failure(), None);
}

#[test]
fn an_object_that_is_not_urgent_is_retried_sooner_after_a_failure() {
    let mut world = World::new(vec![rule()]);
    world.backfill("i", "contact", "op-1", Some(0), true);
    assert_eq!(world.round(), ["op-1"]);
    world.backfill("i", "contact", "op-2", Some(0), true);
    let failed = DiscoveryAnswer::Failed("502".into());
    world.unreadable.insert("contact", failed);
    let asked = |world: &World| {
        let requests = world.requests.iter();
        requests
            .filter(|request| matches!(request, DiscoveryRequest::Backfill(_)))
            .count()
    };
    world.advance(HOUR);
    world.round();
    assert_eq!(asked(&world), 2);
    // After 1, 2, 4 minutes and so on, up to once an hour.
    for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
        let before = asked(&world);
        world.advance(Duration::from_secs(60 * minutes - 1));
        world.round();
        assert_eq!(asked(&world), before, "{minutes}");
        world.advance(Duration::from_secs(1));
        world.round();
        assert_eq!(asked(&world), before + 1, "{minutes}");
    }
    world.unreadable.clear();
    world.advance(HOUR);
    assert_eq!(world.round(), ["op-2"]);
}

#[test]
fn an_outage_is_not_counted_as_failures_of_objects() {
    let mut world = World::new(vec![rule()]);
    world.object("i", "contact");
    world.round();
    world.fails = true;
    for _ in 0..5 {
        world.advance(Duration::from_mins(1));
        world.round();
    }
    world.fails = false;
    world.advance(Duration::from_mins(1));
    world.run(1);
    assert_eq!(world.discovery.failure(), None);
}

#[test]
fn a_refused_key_is_judged_by_the_next_list() {
    let refused = DiscoveryAnswer::Unauthorized("401".into());
    let mut world = World::new(vec![rule()]);
    world.object("i", "contact");
    world.backfill("j", "lead", "op", Some(0), true);
    world.unreadable.insert("contact", refused);
    let lists = |world: &World| {
        let requests = world.requests.iter();
        requests
            .filter(|request| **request == DiscoveryRequest::Installations)
            .count()
    };
    // The list is answered again, and then the other objects are asked for.
    assert_eq!(world.round(), ["op"]);
    assert_eq!(lists(&world), 2);
    assert_eq!(
        world
            .requests
            .last()
            .map(|request| matches!(request, DiscoveryRequest::Backfill(_))),
        Some(true)
    );
    // At most one more list in each round.
    for rounds in 1..=10 {
        world.advance(Duration::from_mins(1));
        world.round();
        assert!(lists(&world) <= 2 + 2 * rounds, "{}", lists(&world));
    }
    let failure = world.discovery.failure().unwrap();
    assert_eq!(
        failure.text(),
        "object contact of installation i cannot be read: 401"
    );
}

#[test]
fn without_names_rules_match_ids() {
    for answer in [
        DiscoveryAnswer::Failed("403".into()),
        DiscoveryAnswer::Unauthorized("401".into()),
    ] {
        let mut world = World::new(vec![rule()]);
        world.backfill("i", "contact", "op", Some(0), true);
        world.names = Some(answer);
        assert_eq!(world.round(), ["op"]);
        assert!(world.requests.len() < 10, "{:?}", world.requests);
        assert_eq!(world.discovery.failure(), None);
    }
}

#[test]
fn known_operations_get_the_terms_of_changed_rules() {
    let mut world = World::new(vec![rule()]);
    world.backfill("i", "contact", "op", Some(0), true);
    assert_eq!(world.round(), ["op"]);
    world.advance(Duration::from_mins(1));
    world.round();
    assert_eq!(world.known, []);
    let mut rules = vec![rule()];
    rules[0].labels = vec![("team".to_owned(), "support".to_owned())];
    rules[0].deadline = Some(Deadline::After(HOUR));
    world.rules = rules.into();
    world.discovery.set_rules(&world.rules);
    world.are_terms_compared = false;
    world.round();
    assert_eq!(world.known, []);
    world.are_terms_compared = true;
    for _ in 0..2 {
        world.advance(Duration::from_mins(1));
        assert_eq!(world.round(), [""; 0]);
    }
    let [known] = &world.known[..] else {
        panic!("{:?}", world.known);
    };
    assert_eq!(&*known.operation, "op");
    assert_eq!(
        known.labels.last(),
        Some(&("team".to_owned(), "support".to_owned()))
    );
    assert_eq!(known.deadline, Some(Deadline::After(HOUR)));
    // The rules may have changed while the daemon was stopped. Without names, labels are not known.
    world.known.clear();
    world.names = Some(DiscoveryAnswer::Failed("502".into()));
    world.restart();
    world.round();
    assert_eq!(world.known, []);
    world.names = None;
    world.advance(Duration::from_mins(1));
    world.round();
    assert_eq!(world.known.len(), 1);
}

#[test]
fn known_operations_get_the_group_of_an_installation_that_moved() {
    let mut world = World::new(vec![rule()]);
    world.backfill("i", "contact", "op", Some(0), true);
    assert_eq!(world.round(), ["op"]);
    world.advance(Duration::from_mins(1));
    world.round();
    assert_eq!(world.known, []);
    world.group = "moved";
    for are_terms_compared in [false, true, true] {
        world.are_terms_compared = are_terms_compared;
        world.advance(Duration::from_mins(1));
        world.round();
    }
    let [known] = &world.known[..] else {
        panic!("{:?}", world.known);
    };
    assert_eq!(known.labels[0], ("group".to_owned(), "moved-i".to_owned()));
}

#[test]
fn a_list_that_is_not_believed_shows_nothing_about_rules() {
    let mut world = World::new(vec![rule()]);
    for installation in ["i", "j", "k"] {
        world.object(installation, "contact");
    }
    world.round();
    world.api.clear();
    for _ in 0..2 {
        world.advance(Duration::from_mins(1));
        world.round();
        assert_eq!(world.discovery.counts().0, 3);
        assert_eq!(world.discovery.unmatched_rules().count(), 0);
    }
}

#[test]
fn changed_objects_are_to_be_recorded_at_once_and_requests_are_not() {
    let mut world = World::new(vec![rule()]);
    for object in ["contact", "deal", "lead"] {
        world.object("i", object);
        world.advance(Duration::from_mins(1));
        world.round();
        assert!(world.discovery.has_unrecorded_objects(), "{object}");
        world.record();
        world.advance(Duration::from_mins(1));
        world.round();
        assert!(world.discovery.has_unrecorded() && !world.discovery.has_unrecorded_objects());
    }
    world.record();
    world.api.get_mut("i").unwrap().remove("lead");
    world.advance(Duration::from_mins(1));
    world.round();
    assert!(world.discovery.has_unrecorded_objects());
}

#[test]
fn a_failed_poll_of_an_operation_is_repeated_in_the_next_round() {
    let mut world = World::new(vec![rule()]);
    world.backfill("i", "contact", "op", Some(30), true);
    world.run(3);
    world.fails = true;
    world.run(1);
    assert!(matches!(world.requests[3], DiscoveryRequest::Operation(_)));
    assert!(!world.discovery.has_completed_pass());
    world.fails = false;
    assert_eq!(world.round(), [""; 0]);
    world.advance(Duration::from_mins(1));
    assert_eq!(world.round(), ["op"]);
}

#[test]
fn rules_choose_and_a_rule_that_matches_nothing_is_named() {
    let mut only = rule();
    only.objects = Globs::parse(vec!["contact".to_owned()]).unwrap();
    let mut unused = rule();
    unused.groups = Globs::parse(vec!["nobody".to_owned()]).unwrap();
    let mut by_name = rule();
    by_name.integrations = Globs::parse(vec!["read-*".to_owned()]).unwrap();
    by_name.objects = Globs::parse(vec!["lead".to_owned()]).unwrap();
    let mut world = World::new(vec![only, unused, by_name]);
    world.backfill("i", "contact", "op-1", Some(0), true);
    world.backfill("i", "lead", "op-2", Some(0), true);
    world.backfill("i", "account", "op-3", Some(0), true);
    assert_eq!(world.round(), ["op-1", "op-2"]);
    assert_eq!(world.discovery.unmatched_rules().collect::<Vec<_>>(), [1]);
    world.discovery.set_rules(&vec![rule()].into());
    assert_eq!(world.round(), ["op-3"]);
    assert_eq!(world.discovery.unmatched_rules().count(), 0);
}

#[test]
fn no_rule_counts_as_unmatched_while_a_long_list_is_taken_in() {
    let mut world = World::new(vec![rule()]);
    for number in 0..=CHUNK {
        world.object(&format!("i-{number}"), "contact");
    }
    world.round();
    world.advance(Duration::from_mins(1));
    assert_eq!(world.run(1), [""; 0]);
    assert_eq!(world.discovery.unmatched_rules().count(), 0);
    assert_eq!(world.discovery.take_in(world.now(), true).change, None);
    // Other rules apply to the whole list.
    let mut other = rule();
    other.groups = Globs::parse(vec!["group-i-0".to_owned()]).unwrap();
    world.discovery.set_rules(&vec![other].into());
    assert!(!world.discovery.has_incoming());
    world.round();
    assert_eq!(world.discovery.counts(), (CHUNK + 1, 1));
    assert_eq!(world.discovery.unmatched_rules().count(), 0);
}

#[test]
fn an_object_that_is_listed_again_during_its_request_is_queued_once() {
    let mut world = World::new(vec![rule()]);
    world.object("i", "contact");
    world.object("i", "lead");
    world.run(2);
    let _ = world.discovery.take_in(world.now(), true);
    let request = world.discovery.next_request(world.now(), 0.0).unwrap();
    let objects = world.api["i"].clone();
    world.api.get_mut("i").unwrap().remove("contact");
    world.advance(Duration::from_mins(1));
    world.round();
    world.api.insert("i".to_owned(), objects);
    world.advance(Duration::from_mins(1));
    world.run(1);
    let _ = world.discovery.take_in(world.now(), true);
    let answer = world.answer(&request);
    assert_eq!(world.discovery.answered(&request, answer, world.now()), None);
    for _ in 0..3 {
        world.advance(2 * HOUR);
        world.requests.clear();
        world.round();
        assert!(world.requests.iter().filter(|asked| **asked == request).count() <= 1);
    }
}

#[test]
fn a_group_awaits_its_objects_for_half_an_hour() {
    let mut world = World::new(vec![rule()]);
    world.object("i", "contact");
    world.backfill("i", "lead", "op", Some(0), true);
    world.round();
    let awaited = |world: &World| -> Vec<(String, bool)> {
        let all = world.discovery.awaited("group-i", world.now());
        all.map(|awaited| (awaited.object.to_owned(), awaited.is_missing))
            .collect()
    };
    assert_eq!(awaited(&world), [("contact".to_owned(), false)]);
    world.advance(Duration::from_mins(30));
    assert_eq!(awaited(&world), [("contact".to_owned(), true)]);
    world.backfill("i", "contact", "late", Some(0), true);
    assert_eq!(world.round(), ["late"]);
    assert_eq!(awaited(&world), []);
}

#[test]
fn an_operation_that_two_objects_name_is_found_once() {
    let mut world = World::new(vec![rule()]);
    for installation in ["a", "b"] {
        world.backfill(installation, "contact", "shared", Some(0), true);
        world.backfill(installation, "lead", "shared-old", Some(48), true);
    }
    let mut found = world.round();
    world.advance(2 * HOUR);
    found.extend(world.round());
    found.sort_unstable();
    assert_eq!(found, ["shared", "shared-old"]);
}

proptest! {
    #[test]
    fn whatever_happens_each_backfill_is_found_once(
        steps in prop::collection::vec((0_u8..8, 0_u8..4, 0_u8..3, 1_usize..20), 1..60)
    ) {
        let mut world = World::new(vec![rule()]);
        let mut expected = BTreeSet::new();
        let mut found = Vec::new();
        for (index, (action, installation, object, limit)) in steps.into_iter().enumerate() {
            let (installation, object) = (format!("i-{installation}"), format!("o-{object}"));
            match action {
                0 | 1 => {
                    let id = format!("op-{index}");
                    // A newer backfill hides one that was not found yet.
                    let hidden = world.api.get(&installation).and_then(|objects| objects.get(&object).cloned().flatten());
                    if let Some((hidden, ..)) = hidden
                        && !found.contains(&hidden)
                    {
                        expected.remove(&hidden);
                    }
                    world.backfill(&installation, &object, &id, Some(0), action == 0);
                    expected.insert(id);
                }
                2 => world.object("other", &object),
                3 => world.fails = !world.fails,
                4 => world.restart(),
                5 => world.advance(Duration::from_mins(limit as u64)),
                _ => found.extend(world.run(limit)),
            }
        }
        world.fails = false;
        for _ in 0..5 {
            found.extend(world.round());
            world.advance(HOUR);
        }
        let once: BTreeSet<String> = found.iter().cloned().collect();
        prop_assert_eq!(once.len(), found.len(), "found twice: {:?}", found);
        prop_assert!(expected.is_subset(&once), "{:?} not in {:?}", expected, once);
        prop_assert!(world.discovery.has_completed_pass());
    }
}

#[test]
fn an_old_operation_that_is_missing_once_is_found_later() {
    let mut world = World::new(vec![rule()]);
    world.backfill("i", "contact", "op", Some(30), true);
    world.run(3);
    let Some(request) = world.discovery.next_request(world.now(), 0.0) else {
        panic!("it is polled");
    };
    assert_eq!(request, DiscoveryRequest::Operation(Arc::from("op")));
    let missing = DiscoveryAnswer::Operation(OperationState::Missing);
    assert_eq!(world.discovery.answered(&request, missing, world.now()), None);
    assert_eq!(world.round(), [""; 0]);
    world.advance(HOUR);
    assert_eq!(world.round(), ["op"]);
}

#[test]
fn a_group_waits_half_an_hour_also_after_the_clock_was_set_back() {
    let mut world = World::new(vec![rule()]);
    world.object("i", "contact");
    world.round();
    world.record();
    world.wall -= HOUR;
    world.restart();
    world.round();
    let is_missing = |world: &World| {
        let mut awaited = world.discovery.awaited("group-i", world.now());
        awaited.next().unwrap().is_missing
    };
    assert!(!is_missing(&world));
    world.advance(Duration::from_mins(30));
    assert!(is_missing(&world));
    // It is asked for again within an hour.
    world.backfill("i", "contact", "op", Some(0), true);
    world.advance(Duration::from_mins(30));
    assert_eq!(world.round(), ["op"]);
}
