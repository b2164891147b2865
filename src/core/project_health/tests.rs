use proptest::prelude::*;

use super::*;
use crate::core::answer::{Failure, FailureClass};
use crate::core::doubt::MAX_PROBES;
use crate::core::event::EventData;
use crate::core::operation::{Operation, Status};

struct Fixture {
    project: ProjectHealth,
    schedule: ScheduleSettings,
    watches: usize,
    now: Moment,
}

impl Fixture {
    fn new() -> Self {
        Self {
            project: ProjectHealth::default(),
            schedule: ScheduleSettings::DEFAULT,
            watches: 3,
            now: Moment {
                wall: "2026-11-23T12:00:00Z".parse().unwrap(),
                steady: Duration::ZERO,
            },
        }
    }

    fn context(&self) -> ProjectContext<'_> {
        ProjectContext {
            name: "p",
            schedule: &self.schedule,
            unreachable_after: Duration::from_mins(5),
            max_retry_after: Duration::from_mins(15),
            watches: self.watches,
            now: self.now,
        }
    }

    fn pass(&mut self, seconds: u64) {
        let elapsed = Duration::from_secs(seconds);
        self.now.steady += elapsed;
        self.now.wall = self.now.wall.checked_add(elapsed).unwrap();
    }

    fn meet(&mut self, operation: &str, answer: &Answer, pass: Pass) -> (AnswerScope, Vec<&'static str>) {
        let mut project = self.project.clone();
        let (scope, events) = project.observe(poll(operation, pass), answer, &self.context());
        self.project = project;
        (
            scope,
            events.iter().map(|event| event.event_type.as_str()).collect(),
        )
    }

    fn probe_in(&self) -> Option<u64> {
        let probing = self.project.restriction().probing?;
        Some(probing.not_before.saturating_sub(self.now.steady).as_secs())
    }

    fn paused_for(&self) -> Option<u64> {
        self.project
            .restriction()
            .paused_until
            .map(|until| until.saturating_sub(self.now.steady).as_secs())
    }
}

fn poll(operation: &str, pass: Pass) -> AnsweredPoll<'_> {
    AnsweredPoll {
        operation,
        pass,
        is_forbidden: false,
    }
}

fn found() -> Answer {
    Answer::Operation(Box::new(Operation::new("a", Status::InProgress)))
}

fn failed() -> Answer {
    Answer::Failed(Failure {
        class: FailureClass::ServerError,
        reason: "502".into(),
    })
}

fn unauthorized() -> Answer {
    Answer::Unauthorized("401".into())
}

fn forbidden() -> Answer {
    Answer::Forbidden("403".into())
}

fn throttled(seconds: Option<u64>) -> Answer {
    Answer::Throttled {
        wait: seconds.map(Duration::from_secs),
        reason: "429".into(),
    }
}

const NOTHING: [&str; 0] = [];

#[test]
fn an_outage_is_reported_once_and_its_end_once() {
    let mut fixture = Fixture::new();
    assert_eq!(
        fixture.meet("a", &failed(), Pass::Turn),
        (AnswerScope::Watch, NOTHING.to_vec())
    );
    fixture.pass(299);
    assert_eq!(fixture.meet("b", &failed(), Pass::Turn).1, NOTHING);
    fixture.pass(1);
    assert_eq!(fixture.meet("c", &failed(), Pass::Turn).1, ["api.unreachable"]);
    assert_eq!(fixture.meet("a", &failed(), Pass::Turn).1, NOTHING);
    assert_eq!(fixture.meet("a", &found(), Pass::Turn).1, ["api.reachable"]);
    assert_eq!(fixture.meet("a", &found(), Pass::Turn).1, NOTHING);
}

#[test]
fn pauses_last_until_the_api_answers_otherwise_after_them() {
    let mut fixture = Fixture::new();
    let begun = fixture.now;
    let pauses = |fixture: &Fixture| {
        let pauses = fixture.project.pauses()?;
        Some((pauses.since.steady, pauses.until, pauses.reason.to_string()))
    };
    let of = |until| Some((begun.steady, Duration::from_secs(until), "429".to_owned()));
    assert_eq!(pauses(&fixture), None);
    let _ = fixture.meet("a", &throttled(Some(40)), Pass::Turn);
    // It was in flight already.
    let _ = fixture.meet("b", &found(), Pass::Turn);
    assert_eq!(pauses(&fixture), of(40));
    fixture.pass(41);
    let _ = fixture.meet("a", &throttled(Some(40)), Pass::Turn);
    assert_eq!(pauses(&fixture), of(81));
    fixture.pass(40);
    for answer in [found(), failed(), unauthorized(), Answer::NotFound("404".into())] {
        let mut fixture = Fixture {
            project: fixture.project.clone(),
            now: fixture.now,
            ..Fixture::new()
        };
        let _ = fixture.meet("a", &answer, Pass::Turn);
        assert_eq!(pauses(&fixture), None, "{answer:?}");
    }
}

#[test]
fn a_success_or_a_429_in_between_is_no_outage() {
    for answer in [found(), throttled(Some(1))] {
        let mut fixture = Fixture::new();
        let _ = fixture.meet("a", &failed(), Pass::Turn);
        fixture.pass(200);
        let _ = fixture.meet("b", &answer, Pass::Turn);
        fixture.pass(200);
        assert_eq!(fixture.meet("a", &failed(), Pass::Turn).1, NOTHING);
        fixture.pass(300);
        assert_eq!(fixture.meet("a", &failed(), Pass::Turn).1, ["api.unreachable"]);
    }
}

#[test]
fn rejected_credentials_are_reported_once_and_probed_on_the_backoff_schedule() {
    let mut fixture = Fixture::new();
    assert_eq!(
        fixture.meet("a", &unauthorized(), Pass::Turn),
        (AnswerScope::Project, vec!["api.credentials_rejected"])
    );
    assert_eq!(
        fixture.meet("b", &unauthorized(), Pass::Turn),
        (AnswerScope::Project, NOTHING.to_vec())
    );
    assert_eq!(fixture.probe_in(), Some(2));
    fixture.pass(2);
    assert_eq!(fixture.meet("b", &unauthorized(), Pass::Probe).1, NOTHING);
    assert_eq!(fixture.probe_in(), Some(3));
    fixture.pass(3);
    let _ = fixture.meet("c", &failed(), Pass::Probe);
    assert_eq!(fixture.probe_in(), Some(4));
    assert_eq!(
        fixture.meet("a", &found(), Pass::Turn).1,
        NOTHING,
        "an answer from before the rejection lifts nothing"
    );
    fixture.project.replace_key(fixture.now);
    assert_eq!(fixture.probe_in(), Some(0));
    assert_eq!(
        fixture.meet("a", &Answer::NotFound("404".into()), Pass::Probe).1,
        ["api.credentials_accepted"]
    );
    assert_eq!(fixture.probe_in(), None);
}

#[test]
fn a_403_is_the_operations_own_if_another_watch_is_answered() {
    let mut fixture = Fixture::new();
    assert_eq!(
        fixture.meet("a", &forbidden(), Pass::Turn),
        (AnswerScope::Unclear, NOTHING.to_vec())
    );
    assert_eq!(fixture.project.credentials.doubt().unwrap().operation(), "a");
    assert_eq!(fixture.probe_in(), Some(0));
    assert_eq!(fixture.meet("b", &failed(), Pass::Probe).1, NOTHING);
    assert_eq!(fixture.probe_in(), Some(2), "a failed probe is no answer");
    assert_eq!(
        fixture.meet("b", &found(), Pass::Probe),
        (AnswerScope::Watch, NOTHING.to_vec())
    );
    assert_eq!(fixture.probe_in(), None);
}

#[test]
fn a_403_is_the_projects_if_another_watch_is_refused_too_or_there_is_no_other() {
    let mut fixture = Fixture::new();
    let _ = fixture.meet("a", &forbidden(), Pass::Turn);
    assert_eq!(
        fixture.meet("b", &forbidden(), Pass::Probe),
        (AnswerScope::Project, vec!["api.credentials_rejected"])
    );
    assert_eq!(
        fixture.meet("b", &found(), Pass::Probe).1,
        ["api.credentials_accepted"]
    );

    let mut fixture = Fixture::new();
    fixture.watches = 1;
    assert_eq!(
        fixture.meet("a", &forbidden(), Pass::Turn),
        (AnswerScope::Project, vec!["api.credentials_rejected"])
    );
}

#[test]
fn an_operation_known_to_be_refused_raises_no_doubt_again() {
    let mut fixture = Fixture::new();
    let mut project = fixture.project.clone();
    let (scope, _) = project.observe(
        AnsweredPoll {
            is_forbidden: true,
            ..poll("a", Pass::Turn)
        },
        &forbidden(),
        &fixture.context(),
    );
    fixture.project = project;
    assert_eq!((scope, fixture.probe_in()), (AnswerScope::Watch, None));
}

#[test]
fn a_pause_lasts_as_long_as_asked_but_not_longer_than_the_cap() {
    let mut fixture = Fixture::new();
    assert_eq!(
        fixture.meet("a", &throttled(Some(30)), Pass::Turn),
        (AnswerScope::Project, NOTHING.to_vec())
    );
    assert_eq!(fixture.paused_for(), Some(30));
    let _ = fixture.meet("b", &throttled(Some(10)), Pass::Turn);
    assert_eq!(
        fixture.paused_for(),
        Some(30),
        "a shorter wait does not cut a longer one"
    );
    let _ = fixture.meet("b", &throttled(Some(100_000)), Pass::Turn);
    assert_eq!(fixture.paused_for(), Some(900));
}

#[test]
fn a_pause_is_not_shorter_than_the_shortest_interval() {
    let mut fixture = Fixture::new();
    let _ = fixture.meet("a", &throttled(Some(1)), Pass::Turn);
    assert_eq!(fixture.paused_for(), Some(2));
}

#[test]
fn an_answer_that_could_not_be_recorded_was_an_answer_all_the_same() {
    let mut fixture = Fixture::new();
    let _ = fixture.meet("a", &failed(), Pass::Turn);
    fixture.pass(299);
    let mut unrecorded = fixture.project.clone();
    let _ = unrecorded.observe(poll("a", Pass::Turn), &found(), &fixture.context());
    fixture.project.keep_reachability(&unrecorded);
    fixture.pass(1);
    assert_eq!(fixture.meet("a", &failed(), Pass::Turn).1, NOTHING);
}

#[test]
fn a_pause_is_kept_though_the_outage_that_it_became_could_not_be_recorded() {
    let mut fixture = Fixture::new();
    let _ = fixture.meet("a", &throttled(Some(120)), Pass::Turn);
    fixture.pass(900);
    let mut unrecorded = fixture.project.clone();
    let (_, events) = unrecorded.observe(poll("a", Pass::Turn), &throttled(Some(120)), &fixture.context());
    assert_eq!(events.len(), 1);
    fixture.project.keep_reachability(&unrecorded);
    assert_eq!(fixture.paused_for(), Some(120));
    fixture.pass(120);
    assert_eq!(
        fixture.meet("a", &throttled(Some(120)), Pass::Turn).1,
        ["api.unreachable"]
    );
}

#[test]
fn a_429_without_a_time_pauses_on_the_backoff_schedule() {
    let mut fixture = Fixture::new();
    for seconds in [2, 3, 4] {
        let _ = fixture.meet("a", &throttled(None), Pass::Turn);
        let _ = fixture.meet("b", &throttled(Some(0)), Pass::Turn);
        assert_eq!(fixture.paused_for(), Some(seconds));
        fixture.pass(5);
    }
    let _ = fixture.meet("a", &found(), Pass::Turn);
    let _ = fixture.meet("a", &throttled(None), Pass::Turn);
    assert_eq!(fixture.paused_for(), Some(2));
}

#[test]
fn a_probe_that_decides_nothing_is_repeated_with_backoff_and_the_third_ends_the_doubt() {
    let undecided = [
        Answer::NotFound("404".into()),
        Answer::Refused("422".into()),
        failed(),
        throttled(Some(1)),
    ];
    for answer in undecided {
        let mut fixture = Fixture::new();
        let _ = fixture.meet("a", &forbidden(), Pass::Turn);
        for seconds in [2, 3] {
            assert_eq!(fixture.meet("b", &answer, Pass::Turn).1, NOTHING);
            assert_eq!(fixture.meet("b", &answer, Pass::Probe).1, NOTHING);
            assert!(fixture.project.is_in_doubt());
            assert_eq!(fixture.probe_in(), Some(seconds));
            fixture.pass(seconds);
        }
        assert_eq!(fixture.meet("c", &answer, Pass::Probe).1, NOTHING);
        assert_eq!(fixture.probe_in(), None);
        assert!(fixture.project.has_credentials());
    }
}

#[test]
fn a_probe_without_an_answer_is_repeated_with_backoff_too() {
    let mut fixture = Fixture::new();
    let _ = fixture.meet("a", &unauthorized(), Pass::Turn);
    let mut project = fixture.project.clone();
    project.observe_lost_probe("b", &fixture.context());
    fixture.project = project;
    assert_eq!(fixture.probe_in(), Some(3));
    assert!(!fixture.project.has_credentials());
}

#[test]
fn a_403_that_an_operation_has_of_its_own_decides_no_doubt_in_its_turn() {
    let mut fixture = Fixture::new();
    let _ = fixture.meet("a", &forbidden(), Pass::Turn);
    let of = |pass| AnsweredPoll {
        is_forbidden: true,
        ..poll("b", pass)
    };
    let mut project = fixture.project.clone();
    let (scope, _) = project.observe(of(Pass::Turn), &forbidden(), &fixture.context());
    assert_eq!(scope, AnswerScope::Watch);
    assert!(project.is_in_doubt());
    let (scope, events) = project.observe(of(Pass::Probe), &forbidden(), &fixture.context());
    assert_eq!(scope, AnswerScope::Project);
    assert_eq!(events.len(), 1);
}

/// An answer to a probe, or none.
fn probe_answer() -> impl Strategy<Value = Option<Answer>> {
    prop_oneof![
        1 => Just(Some(found())),
        4 => Just(Some(Answer::NotFound("404".into()))),
        2 => Just(Some(Answer::Refused("422".into()))),
        2 => Just(Some(unauthorized())),
        4 => Just(Some(forbidden())),
        4 => Just(Some(failed())),
        2 => Just(Some(throttled(None))),
        1 => Just(None),
    ]
}

proptest! {
    #[test]
    fn while_only_probes_pass_each_watch_has_its_turn(
        watches in 2_usize..8,
        is_doubt: bool,
        answers in prop::collection::vec(probe_answer(), 1..60),
    ) {
        let mut fixture = Fixture { watches, ..Fixture::new() };
        let names: Vec<String> = (0..watches).map(|number| number.to_string()).collect();
        let first = if is_doubt { forbidden() } else { unauthorized() };
        let _ = fixture.meet("0", &first, Pass::Turn);
        let (mut polled, mut probes, mut probes_of_doubt) = (vec![0; watches], 0, 0);
        for answer in answers {
            if fixture.project.restriction().probing.is_none() {
                break;
            }
            let doubted = fixture.project.credentials.doubt().map(|doubt| doubt.operation().to_owned());
            let candidates = (0..watches).filter(|number| doubted.as_deref() != Some(&*names[*number]));
            let probe = candidates
                .max_by_key(|number| fixture.project.probe_priority(&ProbeCandidate {
                    operation: &names[*number],
                    polled: Duration::from_secs(polled[*number]),
                    is_forbidden: false,
                    is_answered: *number % 2 == 0,
                    is_of_other_installation: *number % 3 == 0,
                    last_answer: None,
                }))
                .unwrap();
            probes += 1;
            probes_of_doubt += usize::from(doubted.is_some());
            prop_assert!(probes_of_doubt <= MAX_PROBES, "the doubt does not end");
            polled[probe] = probes;
            fixture.pass(60);
            match answer {
                Some(answer) => {
                    let (scope, _) = fixture.meet(&names[probe], &answer, Pass::Probe);
                    prop_assert!(scope != AnswerScope::Unclear, "two doubts at once");
                }
                None => {
                    let mut project = fixture.project.clone();
                    project.observe_lost_probe(&names[probe], &fixture.context());
                    fixture.project = project;
                }
            }
            // A doubt, if there was one, and one round of all watches.
            let longest = (watches + MAX_PROBES) as u64;
            prop_assert!(polled.iter().all(|last| probes - last <= longest), "{polled:?} after {probes}");
        }
    }
}

#[test]
fn pauses_without_a_success_for_as_long_as_the_longest_may_last_are_an_outage() {
    let mut fixture = Fixture::new();
    for _ in 0..3 {
        assert_eq!(fixture.meet("a", &throttled(Some(299)), Pass::Turn).1, NOTHING);
        fixture.pass(299);
    }
    fixture.pass(3);
    assert_eq!(
        fixture.meet("a", &throttled(Some(299)), Pass::Turn).1,
        ["api.unreachable"]
    );
    assert_eq!(fixture.meet("a", &throttled(Some(299)), Pass::Turn).1, NOTHING);
    assert_eq!(fixture.meet("a", &found(), Pass::Turn).1, ["api.reachable"]);
    assert_eq!(fixture.meet("a", &throttled(Some(299)), Pass::Turn).1, NOTHING);
}

#[test]
fn an_outage_ends_with_the_last_operation_that_is_polled() {
    let mut fixture = Fixture::new();
    let _ = fixture.meet("a", &failed(), Pass::Turn);
    fixture.pass(300);
    assert_eq!(fixture.meet("a", &failed(), Pass::Turn).1, ["api.unreachable"]);
    let mut project = fixture.project.clone();
    let events = project.observe_no_watches(&fixture.context());
    assert_eq!(events[0].event_type, EventType::ApiReachable);
    assert!(project.observe_no_watches(&fixture.context()).is_empty());
}

#[test]
fn a_project_that_the_api_does_not_know_is_reported_once_until_it_answers() {
    let mut fixture = Fixture::new();
    let mut project = fixture.project.clone();
    assert!(project.may_check_existence(fixture.now));
    project.record_existence_check(fixture.now);
    assert!(!project.may_check_existence(fixture.now));
    let missing = ProjectAnswer::Missing("404 Not Found".into());
    assert_eq!(project.observe_project(&missing, &fixture.context()).len(), 1);
    assert_eq!(project.observe_project(&missing, &fixture.context()).len(), 0);
    assert_eq!(project.time_since_proof(fixture.now), None);
    fixture.project = project;
    assert_eq!(fixture.meet("a", &found(), Pass::Turn).1, ["api.reachable"]);
    assert_eq!(
        fixture.project.time_since_proof(fixture.now),
        Some(Duration::ZERO)
    );
    fixture.pass(60);
    assert!(fixture.project.may_check_existence(fixture.now));
    let _ = fixture
        .project
        .clone()
        .observe_project(&ProjectAnswer::Exists, &fixture.context());
    assert_eq!(
        fixture.project.time_since_proof(fixture.now),
        Some(Duration::from_mins(1))
    );
}

#[test]
fn a_request_other_than_a_poll_that_is_throttled_pauses_the_project() {
    let mut fixture = Fixture::new();
    let mut project = fixture.project.clone();
    project.throttle(Some(Duration::from_secs(30)), None, &fixture.context());
    fixture.project = project;
    assert_eq!(fixture.paused_for(), Some(30));
}

#[test]
fn reported_states_survive_being_stored() {
    let mut fixture = Fixture::new();
    let _ = fixture.meet("a", &unauthorized(), Pass::Turn);
    fixture.project = serde_json::from_str(&serde_json::to_string(&fixture.project).unwrap()).unwrap();
    assert_eq!(fixture.meet("a", &unauthorized(), Pass::Probe).1, NOTHING);
    assert_eq!(
        fixture.meet("a", &found(), Pass::Probe).1,
        ["api.credentials_accepted"]
    );
}

#[test]
fn the_causes_of_an_outage_and_of_a_rejection_stay_over_other_failures_and_restarts() {
    let mut fixture = Fixture::new();
    let restart = |health: &ProjectHealth| -> ProjectHealth {
        serde_json::from_str(&serde_json::to_string(health).unwrap()).unwrap()
    };
    let _ = fixture.meet("a", &unauthorized(), Pass::Turn);
    let _ = fixture.meet("a", &failed(), Pass::Probe);
    fixture.project = restart(&fixture.project);
    assert_eq!(fixture.project.rejection().map(|reason| &**reason), Some("401"));
    let _ = fixture.meet("a", &Answer::Unauthorized("401 expired".into()), Pass::Probe);
    assert_eq!(
        fixture.project.rejection().map(|reason| &**reason),
        Some("401 expired")
    );
    let _ = fixture.meet("a", &found(), Pass::Probe);
    assert_eq!(fixture.project.rejection(), None);

    let missing = ProjectAnswer::Missing("404".into());
    let mut project = fixture.project.clone();
    let events = project.observe_project(&missing, &fixture.context());
    let EventData::Api(data) = &events[0].data else {
        panic!("{events:?}");
    };
    assert!(data.reason.contains("does not know the project: 404; check"));
    fixture.project = restart(&project);
    for _ in 0..3 {
        fixture.pass(600);
        let _ = fixture.meet("a", &failed(), Pass::Turn);
    }
    let outage = OutageReason::new(OutageClass::ProjectMissing, "404");
    assert_eq!(fixture.project.outage(), Some(&outage));
    let _ = fixture.meet("a", &found(), Pass::Turn);
    assert_eq!(fixture.project.outage(), None);

    // The newest failure of the same class is shown.
    let _ = fixture.meet("a", &failed(), Pass::Turn);
    fixture.pass(600);
    let _ = fixture.meet("a", &failed(), Pass::Turn);
    let refused = Failure {
        class: FailureClass::Connect,
        reason: "connection refused".into(),
    };
    let _ = fixture.meet("a", &Answer::Failed(refused), Pass::Turn);
    let outage = OutageReason::new(OutageClass::Failing, "connection refused");
    assert_eq!(fixture.project.outage(), Some(&outage));
}
