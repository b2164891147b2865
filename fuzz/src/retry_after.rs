//! `Retry-After`, and how long a project and an endpoint wait because of it.

use std::time::Duration;

use backfill_watch::core::answer::Answer;
use backfill_watch::core::delivery::{
    AttemptKind, AttemptOutcome, AttemptedEvent, DeliveryDecision, EndpointHealth, SendPermit,
};
use backfill_watch::core::gate::Pass;
use backfill_watch::core::project_health::{AnsweredPoll, Moment, ProjectContext, ProjectHealth};
use backfill_watch::core::retry_after;
use backfill_watch::core::schedule::ScheduleSettings;
use jiff::Timestamp;

use super::wall;

/// The longest pause of a project (`poll.max_retry_after`).
const CAP: Duration = Duration::from_mins(15);
/// The longest wait that a webhook receiver can request.
const DAY: Duration = Duration::from_hours(24);

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for now in [Timestamp::MIN, wall(), Timestamp::MAX] {
        let in_header = retry_after::from_header(&text, now);
        if let Some(wait) = in_header {
            assert!(!wait.is_zero() && wait <= retry_after::FAR);
        }
        let in_body = retry_after::from_body(&text, now);
        if let Ok(time) = text.parse::<Timestamp>() {
            assert_eq!(in_body.is_some(), time > now);
        }
        assert!(in_body.is_none_or(|wait| !wait.is_zero() && wait <= retry_after::FAR));
        let _ = retry_after::date(&text);
        for wait in [in_header, in_body, None] {
            pause_a_project(wait, now);
            pause_an_endpoint(wait, now);
        }
    }
}

fn pause_a_project(wait: Option<Duration>, now: Timestamp) {
    let steady = Duration::from_secs(7);
    let context = ProjectContext {
        name: "project",
        schedule: &ScheduleSettings::DEFAULT,
        unreachable_after: Duration::from_mins(5),
        max_retry_after: CAP,
        watches: 2,
        now: Moment { wall: now, steady },
    };
    let mut project = ProjectHealth::default();
    let answer = Answer::Throttled {
        wait,
        reason: String::new(),
    };
    let (_, events) = project.observe(
        AnsweredPoll {
            operation: "operation",
            pass: Pass::Turn,
            is_forbidden: false,
        },
        &answer,
        &context,
    );
    assert!(events.is_empty());
    let until = project.restriction().paused_until.expect("a pause");
    assert!(
        (steady + ScheduleSettings::DEFAULT.min_interval..=steady + CAP).contains(&until),
        "{wait:?}: {until:?}"
    );
}

fn pause_an_endpoint(retry_after: Option<Duration>, now: Timestamp) {
    for status in [429, 500, 503] {
        let mut health = EndpointHealth::default();
        let tried = AttemptedEvent {
            subject: "project/operation",
            attempts: 0,
            first_attempt: now,
            kind: AttemptKind::Ordinary,
        };
        let (verdict, _) =
            health.record_attempt(tried, AttemptOutcome::Answered { status, retry_after }, now, 1.0);
        let floor = retry_after.unwrap_or_default().min(DAY);
        match verdict {
            DeliveryDecision::Retry { after, .. } => assert!((floor..=DAY).contains(&after), "{after:?}"),
            other => panic!("{other:?}"),
        }
        if let SendPermit::Paused(left) = health.permit(now) {
            assert!(left <= DAY, "{left:?}");
        }
    }
}
