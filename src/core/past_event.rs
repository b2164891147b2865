//! Recorded events, from which a watch, a project or a group is rebuilt after its stored state was lost.

use jiff::Timestamp;
use serde::Deserialize;

use super::event::{EventType, GroupOutcome};
use super::group::GroupRecord;
use super::json;
use super::project_health::ProjectHealth;
use super::watch_list::Labels;

/// An event of the event log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastEvent {
    /// Its ID.
    pub id: String,
    /// Its type.
    pub event_type: EventType,
    /// When it was recorded.
    pub recorded: Timestamp,
    /// Its body.
    pub body: String,
}

/// The labels in the body of an operation's event.
#[must_use]
pub fn labels_of(body: &str) -> Labels {
    let mut found = Labels::new();
    // A body that is not JSON has no labels.
    let _ = json::members(body, |name, value| {
        if name == "data" {
            value.members(|name, value| {
                if name == "labels" {
                    value.members(|name, value| {
                        found.extend(value.string().map(|value| (name.to_owned(), value)))
                    });
                }
            });
        }
    });
    found
}

/// The record of a group whose last `group.completed` has this body.
#[must_use]
pub fn rebuild_group(body: &str) -> Option<GroupRecord> {
    #[derive(Deserialize)]
    struct Body {
        data: Round,
    }
    #[derive(Deserialize)]
    struct Round {
        round: u32,
        outcome: GroupOutcome,
    }
    let Body { data } = serde_json::from_str(body).ok()?;
    Some(GroupRecord {
        completed: data.round,
        last: data.outcome,
    })
}

#[derive(Deserialize)]
struct Body {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    since: Timestamp,
    #[serde(default)]
    reason: String,
}

/// Rebuilds a project from its `events` (oldest first): the outage and the rejection that still last. `None` without
/// events.
#[must_use]
pub fn rebuild_project(events: &[PastEvent]) -> Option<ProjectHealth> {
    events.last()?;
    let lasting = |begin: EventType, end: EventType| {
        let is_one = |event: &&PastEvent| event.event_type == begin || event.event_type == end;
        let event = events.iter().rfind(is_one)?;
        let body: Body = serde_json::from_str(&event.body).ok()?;
        (event.event_type == begin).then_some((body.data.since, body.data.reason))
    };
    Some(ProjectHealth::rebuilt(
        lasting(EventType::ApiUnreachable, EventType::ApiReachable),
        lasting(EventType::CredentialsRejected, EventType::CredentialsAccepted),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::{ApiData, Event};
    use crate::core::watch::Watch;
    use crate::core::watch_list::WatchKey;

    #[test]
    fn labels_are_those_of_the_event_in_their_order() {
        let key = WatchKey {
            project: "p".into(),
            operation: "op".into(),
        };
        let labels: Labels = vec![("z".into(), "1 \"x\"".into()), ("a".into(), String::new())];
        let data = Watch::default().data(&key, &labels, Timestamp::UNIX_EPOCH);
        let event = Event::operation(
            &key,
            EventType::Started,
            "generation 0",
            Timestamp::UNIX_EPOCH,
            data,
        );
        assert_eq!(labels_of(&event.body()), labels);
        for body in ["", "{", r#"{"data":{"labels":7}}"#, r#"{"labels":{"a":"b"}}"#] {
            assert_eq!(labels_of(body), Labels::new(), "{body}");
        }
    }

    #[test]
    fn lasting_outages_and_rejections_are_rebuilt() {
        let time = |second| Timestamp::from_second(second).unwrap();
        let past = |event_type, since| {
            let data = ApiData {
                project: "p".into(),
                since: time(since),
                reason: "no answer".into(),
            };
            let event = Event::api(event_type, time(since), data);
            PastEvent {
                id: event.id.to_string(),
                event_type,
                recorded: time(since),
                body: event.body(),
            }
        };
        let begin = |second| Some((time(second), "no answer".to_owned()));
        assert_eq!(rebuild_project(&[]), None);
        let mut log = vec![past(EventType::ApiUnreachable, 1)];
        assert_eq!(
            rebuild_project(&log),
            Some(ProjectHealth::rebuilt(begin(1), None))
        );
        log.push(past(EventType::CredentialsRejected, 2));
        let both = ProjectHealth::rebuilt(begin(1), begin(2));
        assert_eq!(rebuild_project(&log), Some(both));
        log.push(past(EventType::ApiReachable, 1));
        log.push(past(EventType::CredentialsAccepted, 2));
        assert_eq!(rebuild_project(&log), Some(ProjectHealth::default()));
    }
}
