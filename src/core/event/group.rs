//! The data of `group.completed`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use super::super::phase::Phase;
use super::super::text;
use super::super::watch_list::Labels;
use super::body::{LENGTHS, cut_labels, first_labels};
use super::{MAX_BODY, as_map, maybe_to_millis};

/// Maximum bytes of the name of an object or an installation.
const MAX_NAME: usize = 256;
/// Maximum bytes of `missing`, as JSON.
const MAX_MISSING: usize = 4 * 1024;

/// The data of a group of which one round has completed; unknown members are left out.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupData {
    /// The configured project's name.
    pub project: String,
    /// The group: the value of the label that all its watches have.
    pub group: String,
    /// That label.
    pub label: String,
    /// The number of the round, from 1.
    pub round: u32,
    /// Whether all operations succeeded.
    pub outcome: GroupOutcome,
    /// Start of the first operation.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "maybe_to_millis")]
    pub start_time: Option<Timestamp>,
    /// Seconds from there to the last observed end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<f64>,
    /// The number of operations.
    pub operation_count: u64,
    /// As many operations as fit; first those that did not succeed.
    pub operations: Vec<GroupOperation>,
    /// Objects that were awaited and never got a backfill, as many as fit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<MissingObject>,
    /// The labels that all its watches have, with the same values.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "as_map")]
    pub labels: Labels,
}

/// How a group ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupOutcome {
    /// All its operations succeeded.
    #[default]
    Succeeded,
    /// Some did not.
    Failed,
}

impl GroupOutcome {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

impl Serialize for GroupOutcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One operation of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupOperation {
    /// The operation ID.
    pub operation_id: String,
    /// What it read; several objects are separated by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Its phase.
    pub phase: &'static str,
}

impl GroupOperation {
    /// Whether it succeeded.
    #[must_use]
    pub fn is_succeeded(&self) -> bool {
        self.phase == Phase::Succeeded.as_str()
    }
}

/// An object without a backfill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingObject {
    /// The installation ID.
    pub installation: String,
    /// The object.
    pub object: String,
}

/// A round of a group that has completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompletedRound<'a> {
    /// The configured project's name.
    pub project: &'a str,
    /// The label that groups are formed by.
    pub label: &'a str,
    /// Its value.
    pub group: &'a str,
    /// The number of the round, from 1.
    pub round: u32,
}

/// One watch of a group, as far as the event needs it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupMember<'a> {
    /// The operation ID.
    pub operation: &'a str,
    /// The objects that the operation read.
    pub objects: &'a [String],
    /// The phase of the watch.
    pub phase: Phase,
    /// When the operation started, or was first seen.
    pub started: Option<Timestamp>,
    /// When its end was observed.
    pub finished: Option<Timestamp>,
    /// The labels of the watch.
    pub labels: &'a Labels,
}

impl GroupData {
    /// The data of a round with these watches. `missing` are pairs of installation and object.
    ///
    /// What certainly does not fit into a body is not kept, so the memory is bounded whatever the number of watches.
    #[must_use]
    pub fn new<'a>(
        of: CompletedRound<'_>,
        members: impl IntoIterator<Item = GroupMember<'a>>,
        missing: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut failed = Fitting::new(MAX_BODY);
        let mut succeeded = Fitting::new(MAX_BODY);
        let mut operation_count = 0;
        let mut outcome = GroupOutcome::Succeeded;
        let mut labels: Option<Labels> = None;
        let (mut start, mut end) = (None, None);
        for member in members {
            operation_count += 1;
            start = start.into_iter().chain(member.started).min();
            end = end.into_iter().chain(member.finished).max();
            match &mut labels {
                None => labels = Some(member.labels.clone()),
                Some(shared) => shared.retain(|label| member.labels.contains(label)),
            }
            if member.phase == Phase::Succeeded {
                succeeded.add(|| GroupOperation::of(&member));
            } else {
                outcome = GroupOutcome::Failed;
                failed.add(|| GroupOperation::of(&member));
            }
        }
        let mut awaited = Fitting::new(MAX_MISSING);
        for (installation, object) in missing {
            awaited.add(|| MissingObject {
                installation: text::cut(installation, MAX_NAME),
                object: text::cut(object, MAX_NAME),
            });
        }
        let mut operations = failed.elements;
        operations.append(&mut succeeded.elements);
        Self {
            project: of.project.to_owned(),
            group: of.group.to_owned(),
            label: of.label.to_owned(),
            round: of.round,
            outcome,
            start_time: start,
            duration_seconds: start.zip(end).map(|(start, end)| seconds(start, end)),
            operation_count,
            operations,
            missing: awaited.elements,
            labels: first_labels(&labels.unwrap_or_default()),
        }
    }
}

impl GroupOperation {
    fn of(member: &GroupMember<'_>) -> Self {
        let object = member.objects.join(",");
        Self {
            operation_id: member.operation.to_owned(),
            object: (!object.is_empty()).then(|| text::cut(&object, MAX_NAME)),
            phase: member.phase.as_str(),
        }
    }
}

/// Seconds with three decimals; 0 if the clock was set back.
fn seconds(start: Timestamp, end: Timestamp) -> f64 {
    let seconds = end.duration_since(start).as_secs_f64();
    (seconds.max(0.0) * 1000.0).round() / 1000.0
}

/// The first elements that fit into a number of bytes as JSON.
struct Fitting<T> {
    elements: Vec<T>,
    left: usize,
}

impl<T: Serialize> Fitting<T> {
    fn new(left: usize) -> Self {
        Self {
            elements: Vec::new(),
            left,
        }
    }

    fn add(&mut self, element: impl FnOnce() -> T) {
        if self.left == 0 {
            return;
        }
        let element = element();
        match self.left.checked_sub(size(&element)) {
            Some(left) => {
                self.left = left;
                self.elements.push(element);
            }
            None => self.left = 0,
        }
    }
}

/// Bytes of an element of an array, as JSON with its comma.
fn size<T: Serialize>(element: &T) -> usize {
    serde_json::to_string(element).map_or(usize::MAX, |json| json.len() + 1)
}

/// Renders `data` in at most [`MAX_BODY`] bytes: operations and missing objects are left out in this order, as far as needed,
/// and texts are cut last.
pub(super) fn cut(data: &GroupData, mut body: String, render: impl Fn(&GroupData) -> String) -> String {
    let mut data = data.clone();
    drop_last(&mut data.operations, body.len());
    body = render(&data);
    drop_last(&mut data.missing, body.len());
    body = render(&data);
    for length in LENGTHS {
        if body.len() > MAX_BODY {
            data.group = text::cut(&data.group, length);
            data.label = text::cut(&data.label, 4 * length);
            cut_labels(&mut data.labels, length);
            body = render(&data);
        }
    }
    body
}

/// Removes elements from the end until a body of `length` bytes fits.
fn drop_last<T: Serialize>(elements: &mut Vec<T>, length: usize) {
    let mut excess = length.saturating_sub(MAX_BODY);
    while excess > 0
        && let Some(element) = elements.pop()
    {
        excess = excess.saturating_sub(size(&element));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{Event, EventData, EventId, EventType};
    use super::*;

    const ROUND: CompletedRound<'_> = CompletedRound {
        project: "my-project",
        label: "group",
        group: "Gale Ltd",
        round: 2,
    };

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn event(data: GroupData) -> Event {
        Event::group_completed(at("2026-11-23T12:00:00Z"), data)
    }

    fn body(data: GroupData) -> Value {
        let body = event(data).body();
        assert!(body.len() <= MAX_BODY, "{} bytes", body.len());
        serde_json::from_str::<Value>(&body).unwrap()["data"].take()
    }

    fn labels(labels: &[(&str, &str)]) -> Labels {
        let owned = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        owned.collect()
    }

    #[test]
    fn a_body_has_what_a_receiver_needs() {
        let of_one = labels(&[("group", "Gale Ltd"), ("object", "contact"), ("team", "crm")]);
        let of_other = labels(&[("team", "crm"), ("group", "Gale Ltd"), ("object", "company")]);
        let members = [
            GroupMember {
                operation: "op-1",
                objects: &["contact".to_owned()],
                phase: Phase::Succeeded,
                started: Some(at("2026-11-23T11:00:00Z")),
                finished: Some(at("2026-11-23T11:10:00.5Z")),
                labels: &of_one,
            },
            GroupMember {
                operation: "op-2",
                objects: &[],
                phase: Phase::Gone,
                started: None,
                finished: Some(at("2026-11-23T11:05:00Z")),
                labels: &of_other,
            },
        ];
        let data = GroupData::new(ROUND, members, [("installation-1", "deal")]);
        assert_eq!(
            body(data),
            json!({
                "project": "my-project", "group": "Gale Ltd", "label": "group", "round": 2, "outcome": "failed",
                "startTime": "2026-11-23T11:00:00.000Z", "durationSeconds": 600.5, "operationCount": 2,
                "operations": [
                    {"operationId": "op-2", "phase": "gone"},
                    {"operationId": "op-1", "object": "contact", "phase": "succeeded"},
                ],
                "missing": [{"installation": "installation-1", "object": "deal"}],
                "labels": {"group": "Gale Ltd", "team": "crm"},
            })
        );
        let all = GroupData::new(ROUND, members.into_iter().take(1), []);
        assert_eq!(all.outcome, GroupOutcome::Succeeded);
        assert_eq!(body(all)["missing"], Value::Null);
    }

    #[test]
    fn an_id_is_the_hash_that_the_documentation_names() {
        // printf 'my-project\n\ngroup.completed\nround 2 group=Gale Ltd' | sha256sum | cut -c1-32
        let id = event(GroupData::new(ROUND, [], [])).id;
        assert_eq!(id.as_str(), "evt_a5fcdbdc7c80dd09ed133db8ffb5ba90");
    }

    #[test]
    fn groups_rounds_operations_and_projects_have_different_ids_and_subjects() {
        let with = |label: &str, group: &str, round| {
            let of = CompletedRound {
                label,
                group,
                round,
                ..ROUND
            };
            let event = event(GroupData::new(of, [], []));
            let subject = event.data.subject().unwrap().into_owned();
            (event.id, subject)
        };
        let all = [
            with("group", "acme", 1),
            with("group", "acme", 2),
            with("group", "acme\n", 1),
            with("group", "acme\noperation.started\ngeneration 0", 1),
            with("team", "acme", 1),
            with("group", "=acme", 1),
            with("group", "", 1),
        ];
        let ids: std::collections::BTreeSet<&EventId> = all.iter().map(|(id, _)| id).collect();
        assert_eq!(ids.len(), all.len());
        assert_eq!(
            (&all[0].1, &all[4].1),
            (&"/group=acme".into(), &"/team=acme".into())
        );
        assert_eq!(all[0].1, all[1].1, "rounds of a group keep their order");
        let other = EventId::derive(
            "my-project",
            Some("group=acme"),
            EventType::GroupCompleted,
            "round 1",
        );
        assert!(!ids.contains(&other));
    }

    #[test]
    fn what_does_not_fit_is_left_out_but_counted_and_failures_stay() {
        let none = Labels::new();
        let object = ["o".repeat(40)];
        let ids: Vec<String> = (0..5_000)
            .map(|number| format!("operation-{number:04}"))
            .collect();
        let members = ids.iter().enumerate().map(|(number, id)| GroupMember {
            operation: id,
            objects: &object,
            phase: if number % 1_000 == 999 {
                Phase::Failed
            } else {
                Phase::Succeeded
            },
            started: None,
            finished: None,
            labels: &none,
        });
        let missing = vec![("installation", "object"); 10_000];
        let data = GroupData::new(ROUND, members, missing);
        assert!(
            data.operations.len() < 1_000,
            "memory is bounded: {}",
            data.operations.len()
        );
        let length = event(data.clone()).body().len();
        assert!(length > MAX_BODY - 200, "{length} bytes");
        let data = body(data);
        assert_eq!(
            (&data["operationCount"], &data["outcome"]),
            (&json!(5_000), &json!("failed"))
        );
        assert_eq!(data["durationSeconds"], Value::Null);
        let operations = data["operations"].as_array().unwrap();
        assert!((100..300).contains(&operations.len()), "{}", operations.len());
        let failed: Vec<&str> = operations
            .iter()
            .filter(|operation| operation["phase"] == "failed")
            .map(|operation| operation["operationId"].as_str().unwrap())
            .collect();
        assert_eq!(failed.len(), 5, "{failed:?}");
        let missing = data["missing"].as_array().unwrap().len();
        assert!((50..100).contains(&missing), "{missing}");
    }

    #[test]
    fn hostile_names_and_labels_fit_too() {
        let nasty = "\u{1}".repeat(1_000);
        let own: Labels = (0..4)
            .map(|number| (format!("{number}{nasty}"), nasty.clone()))
            .collect();
        let objects = [nasty.clone(), nasty.clone()];
        let member = GroupMember {
            operation: "op",
            objects: &objects,
            phase: Phase::Succeeded,
            started: None,
            finished: None,
            labels: &own,
        };
        let long = "\u{1}".repeat(4_000);
        let of = CompletedRound {
            label: &nasty,
            group: &long,
            ..ROUND
        };
        let data = GroupData::new(of, [member; 3], [(&*nasty, &*nasty); 3]);
        assert!(
            data.missing
                .iter()
                .all(|missing| missing.object.len() <= MAX_NAME)
        );
        let cut = body(data.clone());
        assert_eq!(cut["operationCount"], 3);
        assert!(cut["group"].as_str().unwrap().ends_with('…'));
        // The ID and the order depend on the whole text.
        let EventData::Group(kept) = &event(data).data else {
            panic!("another kind of data");
        };
        assert_eq!(kept.group, long);
    }
}
