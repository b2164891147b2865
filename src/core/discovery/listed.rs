//! The API's lists of installations and integrations, and the backfill of an object.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::core::json::{self, Json};
use crate::core::start_time;
use crate::core::watch_list::accepts_id;

/// The most bytes of an ID or a name that is used in a URL.
const MAX_NAME_BYTES: usize = 1024;

/// An installation of the list. Its connection, which carries the customer's tokens, is never read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedInstallation {
    /// Its ID.
    pub id: String,
    /// The ID of its integration.
    pub integration: String,
    /// The customer, as the owner of the project names it.
    pub group: Option<String>,
    /// The objects that have a backfill.
    pub objects: Vec<ListedObject>,
}

impl ListedInstallation {
    /// The customer; without a name, the ID of the installation.
    #[must_use]
    pub fn group(&self) -> &str {
        self.group.as_deref().unwrap_or(&self.id)
    }
}

/// An object that has a backfill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// Its name.
    pub name: String,
    /// A hash of its configuration.
    pub fingerprint: u64,
}

/// A list of installations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstallationList {
    /// Each once, in the order of the list.
    pub installations: Vec<ListedInstallation>,
    /// Installations and objects whose ID or name cannot be used.
    pub unusable: usize,
    /// The size of the answer, in bytes.
    pub bytes: usize,
}

/// The newest backfill of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedOperation {
    /// The operation ID, as a watch list accepts it.
    pub id: String,
    /// When it was created, by the answer or by the ID.
    pub create_time: Option<Timestamp>,
}

/// Why an answer cannot be used. Its text is left out, since it may contain tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unusable {
    /// A list was requested.
    #[error("the body is not a JSON array")]
    NotArray,
    /// An object was requested.
    #[error("the body is not a JSON object")]
    NotObject,
    /// No installation of a list has a usable ID.
    #[error("no element of the list has a usable `id`")]
    NoId,
    /// It is about another installation or object.
    #[error("the member `{0}` is not the one that was requested")]
    Other(&'static str),
    /// The backfill has no ID that can be watched.
    #[error("the member `operationId` is missing or is not an operation ID")]
    OperationId,
}

impl InstallationList {
    /// Reads the list. What cannot be used is counted and left out.
    ///
    /// # Errors
    /// When the body is not a list of installations.
    pub fn parse(body: &str) -> Result<Self, Unusable> {
        let mut list = Self {
            bytes: body.len(),
            ..Self::default()
        };
        let mut ids = BTreeSet::new();
        let mut elements = 0_usize;
        json::elements(body, |element| {
            elements += 1;
            match installation(element, &mut list.unusable) {
                Some(found) if ids.insert(found.id.clone()) => list.installations.push(found),
                _ => list.unusable += 1,
            }
        })
        .map_err(|_| Unusable::NotArray)?;
        if elements > 0 && list.installations.is_empty() {
            return Err(Unusable::NoId);
        }
        Ok(list)
    }

    /// Calls `each` with every text from the API.
    pub fn for_each_text(&mut self, each: &mut dyn FnMut(&mut String)) {
        for installation in &mut self.installations {
            let ListedInstallation {
                id,
                integration,
                group,
                objects,
            } = installation;
            each(id);
            each(integration);
            group.iter_mut().for_each(&mut *each);
            objects.iter_mut().for_each(|object| each(&mut object.name));
        }
    }
}

fn installation(element: Json<'_>, unusable: &mut usize) -> Option<ListedInstallation> {
    let (mut id, mut integration, mut group, mut objects) = (None, None, None, Vec::new());
    element.members(|name, value| match name {
        "id" => id = usable_name(value),
        "integrationId" => integration = usable_name(value),
        "group" => {
            group = None;
            value.members(|name, value| {
                if name == "groupRef" {
                    group = value.string().filter(|group| !group.is_empty());
                }
            });
        }
        "config" => {
            objects.clear();
            objects_of(value, &mut objects, unusable);
        }
        _ => {}
    });
    Some(ListedInstallation {
        id: id?,
        integration: integration?,
        group,
        objects,
    })
}

/// Reads `config.content.read.objects`.
fn objects_of(config: Json<'_>, objects: &mut Vec<ListedObject>, unusable: &mut usize) {
    member(config, "content", |content| {
        member(content, "read", |read| {
            member(read, "objects", |all| {
                all.members(|name, value| {
                    if !has_backfill(value) {
                        return;
                    }
                    if is_usable_name(name) {
                        objects.push(ListedObject {
                            name: name.to_owned(),
                            fingerprint: fingerprint(value.text()),
                        });
                    } else {
                        *unusable += 1;
                    }
                });
            });
        });
    });
}

/// Whether the settings of an object ask for a backfill.
fn has_backfill(object: Json<'_>) -> bool {
    let (mut is_disabled, mut has_period, mut days, mut is_full) = (false, false, None, false);
    object.members(|name, value| match name {
        "disabled" => is_disabled = value.boolean().unwrap_or(false),
        "backfill" => member(value, "defaultPeriod", |period| {
            has_period = period.members(|name, value| match name {
                "days" => days = value.count(),
                "fullHistory" => is_full = value.boolean().unwrap_or(false),
                _ => {}
            });
        }),
        _ => {}
    });
    !is_disabled && has_period && (is_full || days != Some(0))
}

fn member<'a>(object: Json<'a>, wanted: &str, mut each: impl FnMut(Json<'a>)) {
    object.members(|name, value| {
        if name == wanted {
            each(value);
        }
    });
}

/// The same for the same text in every version of this program.
fn fingerprint(text: &str) -> u64 {
    let hash = Sha256::digest(text.as_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash[..8]);
    u64::from_be_bytes(bytes)
}

/// Reads the list of integrations: the ID and the name of each.
///
/// # Errors
/// When the body is not a list.
pub fn integrations(body: &str) -> Result<Vec<(String, String)>, Unusable> {
    let mut found = Vec::new();
    json::elements(body, |element| {
        let (mut id, mut name) = (None, None);
        element.members(|member, value| match member {
            "id" => id = usable_name(value),
            "name" => name = value.string().filter(|name| name.len() <= MAX_NAME_BYTES),
            _ => {}
        });
        found.extend(id.zip(name));
    })
    .map_err(|_| Unusable::NotArray)?;
    Ok(found)
}

impl NamedOperation {
    /// Reads the backfill of an object.
    ///
    /// # Errors
    /// When the body is not about this object, or names no operation.
    pub fn parse(body: &str, installation: &str, object: &str, now: Timestamp) -> Result<Self, Unusable> {
        let (mut id, mut create_time, mut other) = (None, None, None);
        json::members(body, |name, value| match name {
            "installationId" if is_other(value, installation) => other = Some("installationId"),
            "objectName" if is_other(value, object) => other = Some("objectName"),
            "operationId" => id = value.string().filter(|id| accepts_id(id)),
            "createTime" => create_time = value.time().and_then(|time| start_time::plausible(time, now)),
            _ => {}
        })
        .map_err(|_| Unusable::NotObject)?;
        if let Some(member) = other {
            return Err(Unusable::Other(member));
        }
        let id = id.ok_or(Unusable::OperationId)?;
        let create_time = create_time.or_else(|| start_time::of_id(&id, now));
        Ok(Self { id, create_time })
    }
}

fn is_other(value: Json<'_>, wanted: &str) -> bool {
    value.string().is_some_and(|found| found != wanted)
}

fn usable_name(value: Json<'_>) -> Option<String> {
    value.string().filter(|name| is_usable_name(name))
}

/// Whether it can be a segment of a URL's path. `.` and `..` would be read as folders.
fn is_usable_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && !matches!(name, "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> InstallationList {
        InstallationList::parse(body).unwrap()
    }

    fn listed(object: &str) -> Vec<String> {
        let body = format!(
            r#"[{{"id":"i","integrationId":"g","config":{{"content":{{"read":{{"objects":{{"contact":{object}}}}}}}}}}}]"#
        );
        let list = parse(&body);
        list.installations[0]
            .objects
            .iter()
            .map(|object| object.name.clone())
            .collect()
    }

    #[test]
    fn an_object_is_listed_when_its_settings_ask_for_a_backfill() {
        for (object, is_listed) in [
            (r#"{"backfill":{"defaultPeriod":{"days":30}}}"#, true),
            (r#"{"backfill":{"defaultPeriod":{"days":"30"}}}"#, true),
            (r#"{"backfill":{"defaultPeriod":{"fullHistory":true}}}"#, true),
            (
                r#"{"backfill":{"defaultPeriod":{"fullHistory":true,"days":0}}}"#,
                true,
            ),
            (r#"{"backfill":{"defaultPeriod":{"days":0}}}"#, false),
            (
                r#"{"backfill":{"defaultPeriod":{"days":30}},"disabled":true}"#,
                false,
            ),
            (r#"{"backfill":{}}"#, false),
            (r#"{"backfill":null}"#, false),
            ("{}", false),
            ("null", false),
        ] {
            assert_eq!(
                listed(object),
                if is_listed { vec!["contact"] } else { vec![] },
                "{object}"
            );
        }
    }

    #[test]
    fn tokens_of_connections_are_not_read() {
        let body = r#"[{"id":"i","integrationId":"g","group":{"groupRef":"acme","apiKey":"token-1"},
            "connection":{"apiKey":"token-2"},"config":{"content":{"read":{"objects":
            {"contact":{"backfill":{"defaultPeriod":{"days":1}},"apiKey":"token-3"}}}}}}]"#;
        let list = parse(body);
        assert_eq!(list.installations[0].group.as_deref(), Some("acme"));
        assert!(!format!("{list:?}").contains("token-"));
    }

    #[test]
    fn what_cannot_be_used_is_counted_and_left_out() {
        let long = "x".repeat(10_000);
        let body = format!(
            r#"[{{"id":"i","integrationId":"g"}},{{"id":"i","integrationId":"other"}},{{"id":".."}},7,
            {{"integrationId":"g"}},{{"id":"{long}","integrationId":"g"}},{{"id":"k","integrationId":"g","config":{{"content":
            {{"read":{{"objects":{{"{long}":{{"backfill":{{"defaultPeriod":{{"days":1}}}}}},
            "a/b":{{"backfill":{{"defaultPeriod":{{"days":1}}}}}}}}}}}}}}}}]"#
        );
        let list = parse(&body);
        let ids: Vec<&str> = list.installations.iter().map(|found| found.id.as_str()).collect();
        assert_eq!(ids, ["i", "k"]);
        assert_eq!(list.installations[1].objects[0].name, "a/b");
        assert_eq!(list.unusable, 6);
        assert_eq!(parse("[]").installations, []);
        assert_eq!(InstallationList::parse("{}"), Err(Unusable::NotArray));
        assert_eq!(InstallationList::parse("[{}]"), Err(Unusable::NoId));
    }

    #[test]
    fn a_changed_configuration_has_another_fingerprint() {
        let one = fingerprint(r#"{"a":1}"#);
        assert_eq!(one, fingerprint(r#"{"a":1}"#));
        assert_ne!(one, fingerprint(r#"{"a":2}"#));
    }

    #[test]
    fn the_backfill_of_the_requested_object_is_read() {
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        let parse = |body: &str| NamedOperation::parse(body, "i", "contact", now);
        let full = r#"{"installationId":"i","objectName":"contact","operationId":"op","createTime":"2026-11-24T11:00:00Z"}"#;
        let found = parse(full).unwrap();
        assert_eq!(
            (found.id.as_str(), found.create_time),
            ("op", "2026-11-24T11:00:00Z".parse().ok())
        );
        let by_id = parse(
            r#"{"operationId":"019ab5bc-2e00-7a2b-8c3d-0123456789ab","createTime":"0001-01-01T00:00:00Z"}"#,
        );
        assert_eq!(by_id.unwrap().create_time, "2025-11-24T12:00:00Z".parse().ok());
        for (body, problem) in [
            (
                r#"{"operationId":"op","installationId":"j"}"#,
                Unusable::Other("installationId"),
            ),
            (
                r#"{"operationId":"op","objectName":"lead"}"#,
                Unusable::Other("objectName"),
            ),
            (r#"{"operationId":"a/b"}"#, Unusable::OperationId),
            (r#"{"operationId":7}"#, Unusable::OperationId),
            ("{}", Unusable::OperationId),
            ("[]", Unusable::NotObject),
        ] {
            assert_eq!(parse(body), Err(problem), "{body}");
        }
    }

    #[test]
    fn integrations_have_names() {
        let body = r#"[{"id":"g","name":"read-contacts"},{"id":"h"},{"name":"x"},7]"#;
        assert_eq!(
            integrations(body).unwrap(),
            [("g".to_owned(), "read-contacts".to_owned())]
        );
        assert_eq!(integrations("{}"), Err(Unusable::NotArray));
    }
}
