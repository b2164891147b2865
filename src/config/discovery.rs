//! `[[discover]]` and `[groups]`: which backfills are found, and which watches belong together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::ampersand::{MAX_NAME, PROJECTS, ProjectSettings};
use super::reader::{Purpose, Reader};
use super::value::Value;
use crate::core::deadline::Deadline;
use crate::core::discovery::{DiscoveryRule, OWN_LABELS};
use crate::core::glob::Globs;
use crate::core::text::one_line;
use crate::core::watch_list::{Labels, MAX_LABELS, check_label_key};

const TABLES: &str = "discover";
/// The most rules.
const MAX_RULES: usize = 1_000;
/// The most labels of a rule. Discovery adds its own.
const MAX_RULE_LABELS: usize = MAX_LABELS - OWN_LABELS.len();
/// The most bytes of a rule's labels. Discovery's own may fill the rest of what a watch may have.
const MAX_RULE_LABEL_BYTES: usize = 2_000;

/// The rules of each project that has some, in order.
pub type DiscoveryRules = BTreeMap<Arc<str>, Arc<[DiscoveryRule]>>;

/// `[groups]`: which watches form a group, and when it is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupSettings {
    /// The label whose value is the group.
    pub by: Arc<str>,
    /// How long no watch may have joined before a group is complete; may be zero.
    pub settle: Duration,
}

impl GroupSettings {
    /// Groups by the label `by`, complete after `settle`.
    #[must_use]
    pub fn new(by: &str, settle: Duration) -> Self {
        Self {
            by: Arc::from(by),
            settle,
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        const BY: &str = "groups.by";
        let by = reader.text_or_default(BY, "the key of a label");
        if let Err(problem) = check_label_key(by) {
            reader.fail(
                BY,
                problem.to_string(),
                "use the key of a label, such as group or customer",
            );
        }
        Self::new(by, reader.duration("groups.settle"))
    }
}

/// Whether there is a `[[discover]]` table, also for a project that is not used now.
pub(super) fn is_configured(reader: &Reader<'_>) -> bool {
    !reader.raw.indexes(TABLES).is_empty()
}

/// Reads all rules.
pub(super) fn rules(reader: &mut Reader<'_>, projects: &[ProjectSettings]) -> DiscoveryRules {
    let indexes = reader.raw.indexes(TABLES);
    if indexes.len() > MAX_RULES {
        let help = format!("use at most {MAX_RULES}; globs and lists reduce their number");
        reader.fail(TABLES, format!("there are {} tables", indexes.len()), help);
    }
    let mut found: BTreeMap<Arc<str>, Vec<DiscoveryRule>> = BTreeMap::new();
    for index in indexes.into_iter().take(MAX_RULES) {
        let table = format!("{TABLES}[{index}]");
        let project = project(reader, &format!("{table}.project"), projects);
        let rule = rule(reader, &table);
        if let Some(project) = project {
            found.entry(project).or_default().push(rule);
        }
    }
    found
        .into_iter()
        .map(|(project, rules)| (project, rules.into()))
        .collect()
}

fn rule(reader: &mut Reader<'_>, table: &str) -> DiscoveryRule {
    let key = |name: &str| format!("{table}.{name}");
    DiscoveryRule {
        integrations: globs(reader, &key("integrations")),
        groups: globs(reader, &key("groups")),
        objects: globs(reader, &key("objects")),
        every: reader.duration(&key("every")),
        lookback: reader.duration(&key("lookback")),
        deadline: deadline(reader, &key("deadline")),
        labels: labels(reader, &key("labels")),
    }
}

/// The project of a rule; `None` if it is not used now, or wrong.
fn project(reader: &mut Reader<'_>, key: &str, projects: &[ProjectSettings]) -> Option<Arc<str>> {
    let is_set = reader.place_set(key).is_some();
    let name = if is_set {
        reader.name(key, MAX_NAME)?
    } else {
        default_project(reader, projects)?
    };
    if let Some(project) = projects.iter().find(|project| project.name == name) {
        if !is_set {
            reader.note_text(key, &name);
        }
        return Some(Arc::clone(&project.name));
    }
    // With --project, or with errors in the projects, only some of the configured ones are known here.
    if is_set && !projects.is_empty() && reader.purpose != Purpose::Inspect && !names(reader).contains(&name)
    {
        let known: Vec<&str> = projects.iter().map(|project| &*project.name).collect();
        reader.fail(
            key,
            format!("project {:?} is not configured", one_line(&name, MAX_NAME)),
            format!("use one of: {}", known.join(", ")),
        );
    }
    None
}

/// The first project, whether it is used now or not.
fn default_project(reader: &Reader<'_>, projects: &[ProjectSettings]) -> Option<Arc<str>> {
    let first = names(reader).into_iter().next();
    first.or_else(|| projects.first().map(|project| Arc::clone(&project.name)))
}

/// The names in `[[ampersand.projects]]`, in order.
fn names(reader: &Reader<'_>) -> Vec<Arc<str>> {
    let indexes = reader.raw.indexes(PROJECTS).into_iter();
    let name = |index| reader.raw.get(&format!("{PROJECTS}[{index}].name"))?.as_text();
    indexes.filter_map(name).map(Arc::from).collect()
}

fn globs(reader: &mut Reader<'_>, key: &str) -> Globs {
    let Some(patterns) = reader.list(key) else {
        let all = Globs::all();
        let shown = Value::list(all.patterns().iter().map(String::as_str));
        reader.effective.note(key, shown);
        return all;
    };
    match Globs::parse(patterns) {
        Ok(globs) => globs,
        Err(error) => {
            reader.fail(
                key,
                error.to_string(),
                "use names, with * for any characters; write [*] for a star, [[] for a bracket",
            );
            Globs::all()
        }
    }
}

fn deadline(reader: &mut Reader<'_>, key: &str) -> Option<Deadline> {
    let text = reader.text(key, "a duration or a time")?;
    let deadline = Deadline::parse(text);
    if let Err(problem) = deadline {
        let problem = format!("{:?} {problem}", one_line(text, 80));
        let help = "write a duration after the operation's start, such as \"24h\", or an RFC 3339 time such as \
                    \"2026-12-01T06:00:00Z\"";
        reader.fail(key, problem, help);
    }
    deadline.ok()
}

fn labels(reader: &mut Reader<'_>, key: &str) -> Labels {
    let labels = reader.labels(key).unwrap_or_default();
    let mut bytes = 0;
    for (label, value) in &labels {
        bytes += label.len() + value.len() + 2;
        if let Err(problem) = check_label_key(label) {
            reader.fail(
                key,
                format!("{:?}: {problem}", one_line(label, 80)),
                "use another key",
            );
        }
        if OWN_LABELS.contains(&label.as_str()) {
            let help = format!("discovery sets {}; use another key", OWN_LABELS.join(", "));
            reader.fail(key, format!("{label:?} is a label of discovery"), help);
        }
        if value.contains(char::is_control) {
            let problem = format!("the value of {:?} has a control character", one_line(label, 80));
            reader.fail(key, problem, "write it in one line");
        }
    }
    if labels.len() > MAX_RULE_LABELS || bytes > MAX_RULE_LABEL_BYTES {
        reader.fail(
            key,
            format!("has {} labels of {bytes} bytes", labels.len()),
            format!("use at most {MAX_RULE_LABELS} labels, of {MAX_RULE_LABEL_BYTES} bytes together"),
        );
    }
    labels
}
