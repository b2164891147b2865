//! Answers whose body is not what the API's contract describes.

use serde_json::Value;

/// The members that name something.
const ID_MEMBERS: [&str; 2] = ["id", "operationId"];

/// A change of a JSON body. A path is a JSON pointer in which `*` is every element or member, such as `/*/config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyAlteration {
    /// The body ends after its first half; the answer itself is complete.
    Cut,
    /// The object, or each element of the list, has no ID.
    WithoutIds,
    /// The object, or each element of the list, has this ID.
    Ids(Value),
    /// Each element of the list has the ID of the next one, and the last that of the first.
    RotatedIds,
    /// What the path leads to has this value. A last member that is missing is added.
    Set(String, Value),
    /// What the path leads to is missing.
    Without(String),
}

impl BodyAlteration {
    /// One of the alterations after which nothing can be read wrongly. `roll` is in [0, 1).
    pub(super) fn malformed(roll: f64) -> Self {
        match roll {
            roll if roll < 1.0 / 3.0 => Self::Cut,
            roll if roll < 2.0 / 3.0 => Self::WithoutIds,
            _ => Self::Ids(Value::from(17)),
        }
    }

    /// The altered body. A body that is not JSON can only be cut.
    pub(super) fn apply(&self, body: &[u8]) -> Vec<u8> {
        if *self == Self::Cut {
            return body[..body.len() / 2].to_vec();
        }
        let Ok(mut value) = serde_json::from_slice::<Value>(body) else {
            return body.to_vec();
        };
        match self {
            Self::Cut => {}
            Self::WithoutIds => each_named(&mut value, |object, member| {
                object.remove(member);
            }),
            Self::Ids(id) => each_named(&mut value, |object, member| {
                object.insert(member.to_owned(), id.clone());
            }),
            Self::RotatedIds => rotate_ids(&mut value),
            Self::Set(path, new) => at_path(&mut value, &steps(path), &mut |parent, last| match parent {
                Value::Object(members) => {
                    members.insert(last.to_owned(), new.clone());
                }
                Value::Array(elements) => {
                    if let Some(element) = index(last).and_then(|at| elements.get_mut(at)) {
                        *element = new.clone();
                    }
                }
                _ => {}
            }),
            Self::Without(path) => at_path(&mut value, &steps(path), &mut |parent, last| match parent {
                Value::Object(members) => {
                    members.remove(last);
                }
                Value::Array(elements) => {
                    if let Some(at) = index(last).filter(|at| *at < elements.len()) {
                        elements.remove(at);
                    }
                }
                _ => {}
            }),
        }
        serde_json::to_vec(&value).unwrap_or_default()
    }
}

/// Calls `change` for each ID of the object or of the list's elements.
fn each_named(value: &mut Value, mut change: impl FnMut(&mut serde_json::Map<String, Value>, &str)) {
    let objects = match value {
        Value::Array(elements) => elements.iter_mut().collect(),
        other => vec![other],
    };
    for object in objects.into_iter().filter_map(Value::as_object_mut) {
        for member in ID_MEMBERS {
            if object.contains_key(member) {
                change(object, member);
            }
        }
    }
}

fn rotate_ids(value: &mut Value) {
    let Some(elements) = value.as_array_mut() else {
        return;
    };
    let mut ids: Vec<Value> = elements.iter().map(|element| element["id"].clone()).collect();
    if !ids.is_empty() {
        ids.rotate_left(1);
    }
    for (element, id) in elements.iter_mut().zip(ids) {
        if let Some(members) = element.as_object_mut() {
            members.insert("id".to_owned(), id);
        }
    }
}

/// The steps of a JSON pointer.
fn steps(path: &str) -> Vec<String> {
    let steps = path.split('/').skip(1);
    steps
        .map(|step| step.replace("~1", "/").replace("~0", "~"))
        .collect()
}

fn index(step: &str) -> Option<usize> {
    step.parse().ok()
}

/// Calls `change` with the parent and the last step of each place that the steps lead to.
fn at_path(value: &mut Value, steps: &[String], change: &mut dyn FnMut(&mut Value, &str)) {
    let Some((first, rest)) = steps.split_first() else {
        return;
    };
    let names: Vec<String> = match (first.as_str(), &*value) {
        ("*", Value::Array(elements)) => (0..elements.len()).rev().map(|at| at.to_string()).collect(),
        ("*", Value::Object(members)) => members.keys().cloned().collect(),
        _ => vec![first.clone()],
    };
    for name in names {
        if rest.is_empty() {
            change(value, &name);
            continue;
        }
        let child = match &mut *value {
            Value::Array(elements) => index(&name).and_then(|at| elements.get_mut(at)),
            Value::Object(members) => members.get_mut(&name),
            _ => None,
        };
        if let Some(child) = child {
            at_path(child, rest, change);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn altered(alteration: &BodyAlteration, body: &Value) -> Value {
        serde_json::from_slice(&alteration.apply(body.to_string().as_bytes())).unwrap()
    }

    #[test]
    fn a_cut_body_is_no_json_and_other_text_stays() {
        let cut = BodyAlteration::Cut.apply(br#"[{"id":"a"},{"id":"b"}]"#);
        assert!(serde_json::from_slice::<Value>(&cut).is_err());
        assert!(BodyAlteration::Cut.apply(b"").is_empty());
        assert_eq!(BodyAlteration::WithoutIds.apply(b"<html>"), b"<html>");
    }

    #[test]
    fn ids_are_removed_replaced_and_rotated() {
        let list = json!([{"id": "a", "n": 1}, {"id": "b"}, 3, {"id": "c"}]);
        assert_eq!(
            altered(&BodyAlteration::WithoutIds, &list),
            json!([{"n": 1}, {}, 3, {}])
        );
        assert_eq!(
            altered(
                &BodyAlteration::Ids(json!("../x")),
                &json!({"operationId": "a", "status": 1})
            ),
            json!({"operationId": "../x", "status": 1})
        );
        let list = json!([{"id": "a", "n": 1}, {"id": "b"}, {"id": "c"}]);
        assert_eq!(
            altered(&BodyAlteration::RotatedIds, &list),
            json!([{"id": "b", "n": 1}, {"id": "c"}, {"id": "a"}])
        );
        assert_eq!(altered(&BodyAlteration::RotatedIds, &json!([])), json!([]));
    }

    #[test]
    fn paths_reach_single_members_and_all() {
        let list = json!([{"a": {"b/c": 1}}, {"a": {"b/c": 2}}, {"a": 7}]);
        let set = |path: &str| altered(&BodyAlteration::Set(path.to_owned(), json!("x")), &list);
        assert_eq!(
            set("/0/a/b~1c"),
            json!([{"a": {"b/c": "x"}}, {"a": {"b/c": 2}}, {"a": 7}])
        );
        assert_eq!(
            set("/*/a/*"),
            json!([{"a": {"b/c": "x"}}, {"a": {"b/c": "x"}}, {"a": 7}])
        );
        assert_eq!(set("/1"), json!([{"a": {"b/c": 1}}, "x", {"a": 7}]));
        assert_eq!(set("/9/a"), list);
        let without = |path: &str| altered(&BodyAlteration::Without(path.to_owned()), &list);
        assert_eq!(without("/*/a"), json!([{}, {}, {}]));
        assert_eq!(without("/1"), json!([{"a": {"b/c": 1}}, {"a": 7}]));
        assert_eq!(without("/*"), json!([]));
    }

    #[test]
    fn random_alterations_leave_nothing_that_can_be_read_wrongly() {
        let body = json!([{"id": "a", "group": {"groupRef": "g"}}]).to_string();
        for roll in [0.0, 0.34, 0.99] {
            let malformed = BodyAlteration::malformed(roll).apply(body.as_bytes());
            let parsed = serde_json::from_slice::<Value>(&malformed);
            assert!(parsed.is_err() || parsed.unwrap()[0]["id"].as_str().is_none());
        }
    }
}
