//! What a client writes over HTTP: watches to add, with labels and a deadline.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Serialize;

use super::deadline::{Deadline, DeadlineProblem};
use super::json::{self, Json};
use super::source::Terms;
use super::text::one_line;
use super::watch_list::{Labels, MAX_LABELS, MAX_LINE_BYTES, WatchKey, accepts_id, check_label_key};

/// The most operations of one request.
pub const MAX_OPERATIONS: usize = 1_000;
/// The most errors that an answer names.
const MAX_ERRORS: usize = 100;
/// The most bytes of a client's text that an error quotes.
const MAX_QUOTED: usize = 80;

/// A watch that is requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchRequest {
    /// Project and operation ID.
    pub key: WatchKey,
    /// Labels and deadline.
    pub terms: Terms,
}

/// What is wrong with a member of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberError {
    /// Where it is, as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What is wrong there, and what to do.
    pub detail: String,
}

/// Why a request cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadRequest {
    /// It is not JSON, at this line and column.
    NotJson(String),
    /// Members are wrong.
    Members(Vec<MemberError>),
}

/// The errors of a request, with where the parser is.
#[derive(Debug, Default)]
struct Errors(Vec<MemberError>);

impl Errors {
    fn add(&mut self, pointer: &str, detail: impl Into<String>) {
        if self.0.len() < MAX_ERRORS {
            self.0.push(MemberError {
                pointer: pointer.to_owned(),
                detail: detail.into(),
            });
        }
    }

    fn result<T>(self, value: T) -> Result<T, BadRequest> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(BadRequest::Members(self.0))
        }
    }
}

/// Reads the body of a request that adds one watch; an empty one has no labels and no deadline.
///
/// # Errors
/// When it is not JSON, or members are wrong.
pub fn parse_terms(body: &[u8]) -> Result<Terms, BadRequest> {
    if body.is_empty() {
        return Ok(Terms::default());
    }
    let mut errors = Errors::default();
    let mut terms = Terms::default();
    let body = parse_json(body)?;
    let is_object = each_member(body, "", &mut errors, |name, value, pointer, errors| {
        if !read_term(name, value, pointer, &mut terms, errors) {
            errors.add(pointer, "unknown member; use labels and deadline");
        }
    });
    if !is_object {
        errors.add("", "must be an object with labels and deadline, both optional");
    }
    errors.result(terms)
}

/// Reads the body of a request that adds watches of these projects; the first is the default.
///
/// # Errors
/// When it is not JSON, or members are wrong.
pub fn parse_batch(body: &[u8], projects: &[Arc<str>]) -> Result<Vec<WatchRequest>, BadRequest> {
    let mut errors = Errors::default();
    let mut requests = Vec::new();
    let mut operations = None;
    let body = parse_json(body)?;
    let is_object = each_member(body, "", &mut errors, |name, value, pointer, errors| {
        if name == "operations" {
            operations = Some(value);
        } else {
            errors.add(pointer, "unknown member; use operations");
        }
    });
    if !is_object {
        errors.add("", "must be an object with a list of operations");
        return errors.result(requests);
    }
    let Some(operations) = operations else {
        errors.add("/operations", "must be a list of operations");
        return errors.result(requests);
    };
    let mut index = 0_usize;
    let is_list = json::elements(operations.text(), |element| {
        if index < MAX_OPERATIONS {
            requests.extend(read_operation(
                element,
                &format!("/operations/{index}"),
                projects,
                &mut errors,
            ));
        }
        index += 1;
    });
    if is_list.is_err() {
        errors.add("/operations", "must be a list of operations");
    } else if index > MAX_OPERATIONS {
        errors.add(
            "/operations",
            format!("has {index} operations; send at most {MAX_OPERATIONS} in one request"),
        );
    }
    errors.result(requests)
}

fn parse_json(body: &[u8]) -> Result<Json<'_>, BadRequest> {
    let text = str::from_utf8(body).map_err(|error| BadRequest::NotJson(error.to_string()))?;
    let json = Json::parse(text).map_err(|error| BadRequest::NotJson(error.to_string()))?;
    if json.is_too_deep() {
        return Err(BadRequest::NotJson("it is nested too deep".to_owned()));
    }
    Ok(json)
}

fn read_operation(
    element: Json<'_>,
    at: &str,
    projects: &[Arc<str>],
    errors: &mut Errors,
) -> Option<WatchRequest> {
    let (mut id, mut project, mut terms) = (None, projects.first().cloned(), Terms::default());
    let is_object = each_member(element, at, errors, |name, value, pointer, errors| match name {
        "id" => match value.string() {
            Some(text) if accepts_id(&text) => id = Some(Arc::from(text)),
            _ => {
                id = Some(Arc::from(""));
                errors.add(pointer, INVALID_ID);
            }
        },
        "project" => {
            let named = value.string().unwrap_or_default();
            project = projects.iter().find(|project| ***project == *named).cloned();
            if project.is_none() {
                let named = one_line(&named, MAX_QUOTED);
                errors.add(pointer, format!("project {named:?} is not configured"));
            }
        }
        _ if read_term(name, value, pointer, &mut terms, errors) => {}
        _ => errors.add(pointer, "unknown member; use project, id, labels and deadline"),
    });
    if !is_object {
        errors.add(at, "must be an object with an id");
    } else if id.is_none() {
        errors.add(&format!("{at}/id"), "is missing");
    }
    let key = WatchKey {
        project: project?,
        operation: id?,
    };
    Some(WatchRequest { key, terms })
}

/// What an operation ID consists of.
pub const INVALID_ID: &str = "is not an operation ID: use 1 to 128 characters from A-Z a-z 0-9 . _ ~ -";

/// Reads `labels` or `deadline`; false for any other member.
fn read_term(name: &str, value: Json<'_>, pointer: &str, terms: &mut Terms, errors: &mut Errors) -> bool {
    match name {
        "labels" => terms.labels = read_labels(value, pointer, errors),
        "deadline" if value.is_null() => terms.deadline = None,
        "deadline" => {
            let text = value.string().ok_or(DeadlineProblem::Unreadable);
            match text.and_then(|text| Deadline::parse(&text)) {
                Ok(deadline) => terms.deadline = Some(deadline),
                Err(problem) => errors.add(
                    pointer,
                    format!(
                        "{problem}; use a duration such as \"1h30m\", at most ten years, or an RFC 3339 time"
                    ),
                ),
            }
        }
        _ => return false,
    }
    true
}

fn read_labels(value: Json<'_>, at: &str, errors: &mut Errors) -> Labels {
    let mut labels = Labels::new();
    let mut bytes = 0;
    let is_object = each_member(value, at, errors, |key, value, pointer, errors| {
        if let Err(problem) = check_label_key(key) {
            errors.add(pointer, problem.to_string());
        }
        match value.string() {
            Some(text) if !text.contains(char::is_control) => {
                bytes += key.len() + text.len() + 2;
                labels.push((key.to_owned(), text));
            }
            Some(_) => errors.add(pointer, "contains a control character"),
            None => errors.add(pointer, "must be a string"),
        }
    });
    if !is_object && !value.is_null() {
        errors.add(at, "must be an object of strings");
    }
    if labels.len() > MAX_LABELS {
        errors.add(
            at,
            format!("has {} labels; the most is {MAX_LABELS}", labels.len()),
        );
    }
    if bytes > MAX_LINE_BYTES {
        errors.add(at, format!("has {bytes} bytes; the most is {MAX_LINE_BYTES}"));
    }
    labels
}

/// Calls `each` with name, value and pointer of each member. A repeated name is an error: parsers disagree on which one
/// applies. Returns false if this is not an object.
fn each_member<'a>(
    object: Json<'a>,
    at: &str,
    errors: &mut Errors,
    mut each: impl FnMut(&str, Json<'a>, &str, &mut Errors),
) -> bool {
    let mut names = HashSet::new();
    object.members(|name, value| {
        let pointer = pointer(at, name);
        match names.insert(name.to_owned()) {
            true => each(name, value, &pointer, errors),
            false => errors.add(&pointer, "occurs twice; keep one of them"),
        }
    })
}

/// The pointer to a member, as RFC 6901 writes it.
fn pointer(at: &str, name: &str) -> String {
    let name = one_line(name, MAX_QUOTED).replace('~', "~0").replace('/', "~1");
    format!("{at}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn projects() -> [Arc<str>; 2] {
        [Arc::from("one"), Arc::from("two")]
    }

    fn errors<T: std::fmt::Debug>(result: Result<T, BadRequest>) -> Vec<(String, String)> {
        match result.unwrap_err() {
            BadRequest::Members(errors) => errors
                .into_iter()
                .map(|error| (error.pointer, error.detail))
                .collect(),
            BadRequest::NotJson(reason) => panic!("{reason}"),
        }
    }

    #[test]
    fn labels_and_deadline_are_optional() {
        assert_eq!(parse_terms(b"").unwrap(), Terms::default());
        assert_eq!(parse_terms(b"{}").unwrap(), Terms::default());
        assert_eq!(
            parse_terms(br#"{"labels":null,"deadline":null}"#).unwrap(),
            Terms::default()
        );
        let terms = parse_terms(br#"{"labels":{"customer":"Gale \"Ltd\""},"deadline":"1h30m"}"#).unwrap();
        assert_eq!(terms.labels, [("customer".to_owned(), "Gale \"Ltd\"".to_owned())]);
        assert_eq!(terms.deadline, Deadline::parse("1h30m").ok());
    }

    #[test]
    fn each_wrong_member_is_named_by_its_pointer() {
        let body = r#"{"labels":{"a b":"x","c/d":7,"e":"\n","project":"p","":"x"},"deadline":"tomorrow","label":{}}"#;
        let found = errors(parse_terms(body.as_bytes()));
        let pointers: Vec<&str> = found.iter().map(|(pointer, _)| pointer.as_str()).collect();
        let expected = [
            "/labels/a b",
            "/labels/c~1d",
            "/labels/e",
            "/labels/project",
            "/labels/",
            "/deadline",
            "/label",
        ];
        assert_eq!(pointers, expected);
        let many: String = (0..17).map(|index| format!("\"k{index}\":\"v\",")).collect();
        let body = format!("{{\"labels\":{{{}}}}}", many.trim_end_matches(','));
        assert_eq!(errors(parse_terms(body.as_bytes()))[0].0, "/labels");
        let body = format!("{{\"labels\":{{\"k\":\"{}\"}}}}", "x".repeat(4_096));
        assert_eq!(errors(parse_terms(body.as_bytes()))[0].0, "/labels");
        assert_eq!(errors(parse_terms(b"[]"))[0].0, "");
        assert_eq!(errors(parse_terms(br#"{"labels":[]}"#))[0].0, "/labels");
    }

    #[test]
    fn what_is_not_json_is_refused() {
        let deep = format!("{{\"labels\":{}1{}}}", "[".repeat(100), "]".repeat(100));
        for body in ["{", "{}{}", "\u{0}", deep.as_str()] {
            assert!(
                matches!(parse_terms(body.as_bytes()), Err(BadRequest::NotJson(_))),
                "{body}"
            );
            assert!(matches!(
                parse_batch(body.as_bytes(), &projects()),
                Err(BadRequest::NotJson(_))
            ));
        }
        assert!(matches!(parse_terms(b"\xff"), Err(BadRequest::NotJson(_))));
    }

    #[test]
    fn a_batch_names_projects_and_ids() {
        let body = r#"{"operations":[{"id":"a"},{"project":"two","id":"b","labels":{"k":"v"}}]}"#;
        let requests = parse_batch(body.as_bytes(), &projects()).unwrap();
        let keys: Vec<String> = requests.iter().map(|request| request.key.to_string()).collect();
        assert_eq!(keys, ["one/a", "two/b"]);
        let body = r#"{"operations":[{"id":"a b"},{},7,{"project":"three","id":"b"},{"id":"c","labels":{"=":"v"}}],"x":1}"#;
        let found = errors(parse_batch(body.as_bytes(), &projects()));
        let pointers: Vec<&str> = found.iter().map(|(pointer, _)| pointer.as_str()).collect();
        let expected = [
            "/x",
            "/operations/0/id",
            "/operations/1/id",
            "/operations/2",
            "/operations/3/project",
            "/operations/4/labels/=",
        ];
        assert_eq!(pointers, expected);
        for body in ["{}", r#"{"operations":{}}"#] {
            assert_eq!(
                errors(parse_batch(body.as_bytes(), &projects()))[0].0,
                "/operations"
            );
        }
        for body in ["[]", "7", "null"] {
            let (pointer, detail) = &errors(parse_batch(body.as_bytes(), &projects()))[0];
            assert!(
                pointer.is_empty() && detail.starts_with("must be an object"),
                "{body}: {detail}"
            );
        }
    }

    #[test]
    fn a_member_that_occurs_twice_is_an_error() {
        for (body, pointer) in [
            (r#"{"operations":[{"id":"a"}],"operations":[]}"#, "/operations"),
            (r#"{"operations":[{"id":"a","id":"b"}]}"#, "/operations/0/id"),
            (r#"{"operations":[{"id":"a","\u0069d":"a"}]}"#, "/operations/0/id"),
            (
                r#"{"operations":[{"id":"a","labels":{"k":"v","k":"v"}}]}"#,
                "/operations/0/labels/k",
            ),
        ] {
            let found = errors(parse_batch(body.as_bytes(), &projects()));
            assert_eq!(
                found,
                [(pointer.to_owned(), "occurs twice; keep one of them".to_owned())],
                "{body}"
            );
        }
        let found = errors(parse_terms(br#"{"deadline":null,"deadline":"1h"}"#));
        assert_eq!(found[0].0, "/deadline");
    }

    #[test]
    fn a_deadline_without_length_is_called_too_short() {
        let found = errors(parse_terms(br#"{"deadline":"0s"}"#));
        assert!(
            found[0].1.starts_with("is a duration that is too short; use"),
            "{found:?}"
        );
    }

    #[test]
    fn a_batch_is_bounded() {
        let batch = |operations: usize| {
            let all: String = (0..operations)
                .map(|index| format!("{{\"id\":\"op-{index}\"}},"))
                .collect();
            format!("{{\"operations\":[{}]}}", all.trim_end_matches(','))
        };
        assert_eq!(
            parse_batch(batch(1_000).as_bytes(), &projects()).unwrap().len(),
            1_000
        );
        let found = errors(parse_batch(batch(1_001).as_bytes(), &projects()));
        assert_eq!(found[0].0, "/operations");
        let bad = batch(1_000).replace("op-", "o p");
        assert_eq!(errors(parse_batch(bad.as_bytes(), &projects())).len(), MAX_ERRORS);
    }
}
