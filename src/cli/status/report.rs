//! What the daemon answers, as far as the filters ask for it.

use std::time::Duration;

use serde_json::Value;

use super::groups::Groups;
use super::lookup::{concerns, is_outage};
use super::operations::Operations;
use super::screen::Screen;
use super::{attention, endpoints, projects};
use crate::cli::daemon::Daemon;
use crate::cli::output::Output;
use crate::cli::terminal::TextStyle;
use crate::clock;
use crate::core::phase::Phase;
use crate::core::search_text::SearchText;
use crate::core::text::one_line;

/// Operations that finished earlier are only counted.
const SHOWN_FINISHED: Duration = Duration::from_hours(24);
/// The longest name that is quoted, in bytes.
const MAX_NAME: usize = 200;
/// The longest path that is quoted, in bytes.
const MAX_PATH: usize = 4_096;

/// Which operations are shown.
#[derive(Debug, Clone, Default)]
pub(super) struct Filters {
    pub(super) phases: Vec<Phase>,
    pub(super) labels: Vec<String>,
    pub(super) groups: Vec<String>,
    pub(super) projects: Vec<String>,
    /// Whether nothing is only counted.
    pub(super) is_all: bool,
}

impl Filters {
    /// Whether operations are left out.
    fn is_empty(&self) -> bool {
        self.pairs().is_empty()
    }

    /// As parameters of a query and as options.
    fn pairs(&self) -> Vec<(&'static str, &str)> {
        let phases = self.phases.iter().map(|phase| ("phase", phase.as_str()));
        let labels = self.labels.iter().map(|label| ("label", &**label));
        let groups = self.groups.iter().map(|group| ("group", &**group));
        let projects = self.projects.iter().map(|project| ("project", &**project));
        phases.chain(labels).chain(groups).chain(projects).collect()
    }

    /// `--phase failed --group acme`.
    fn options(&self) -> String {
        let option = |(name, value): &(&str, &str)| format!("--{name} {}", one_line(value, MAX_NAME));
        self.pairs().iter().map(option).collect::<Vec<_>>().join(" ")
    }
}

/// What `status` shows.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) attention: Vec<Value>,
    projects: Vec<Value>,
    awaited_watch_list: Value,
    endpoints: Vec<Value>,
    groups: Groups,
    operations: Operations,
}

impl Report {
    /// Reads it.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub(super) async fn read(daemon: &Daemon, filters: &Filters) -> anyhow::Result<Self> {
        let attention = daemon.list("/api/attention", "attention").await?.0;
        let (projects, awaited_watch_list) = read_projects(daemon).await?;
        let endpoints = daemon.list("/api/webhooks", "endpoints").await?.0;
        let mut groups = Groups::new(filters.is_all || !filters.groups.is_empty());
        let outages: Vec<&Value> = attention.iter().filter(|entry| is_outage(entry)).collect();
        let is_answered = |item: &Value| !outages.iter().any(|outage| concerns(outage, item));
        each_group(daemon, filters, |group| {
            let is_answered = is_answered(&group);
            groups.add(group, is_answered);
            Ok(())
        })
        .await?;
        // A phase that was asked for is shown whole.
        let is_whole = filters.is_all || !filters.phases.is_empty();
        let shown_from = (!is_whole).then(|| clock::wall() - SHOWN_FINISHED);
        let mut operations = Operations::new(shown_from);
        each(daemon, "operations", &filters.pairs(), |operation| {
            operations.add(&operation, is_answered(&operation));
            Ok(())
        })
        .await?;
        operations.sort();
        Ok(Self {
            attention,
            projects,
            awaited_watch_list,
            endpoints,
            groups,
            operations,
        })
    }

    /// All of it as lines. With `height`, the parts are cut so that no more lines follow.
    pub(super) fn lines(&self, filters: &Filters, screen: &Screen, height: Option<usize>) -> Vec<String> {
        let is_of_project = |project: &&Value| {
            filters.projects.is_empty() || filters.projects.iter().any(|name| project["name"] == **name)
        };
        let projects: Vec<Value> = self.projects.iter().filter(is_of_project).cloned().collect();
        let mut lines = attention::lines(&self.attention, filters.is_all, screen);
        lines.extend(self.watch_list_lines(screen));
        lines.extend(projects::lines(&projects, screen));
        if filters.is_empty() {
            lines.extend(endpoints::lines(&self.endpoints, screen));
        }
        if filters.phases.is_empty() && filters.labels.is_empty() {
            lines.extend(self.groups.lines(screen));
        }
        let left = height.map(|height| {
            // The operations get at least a third.
            let most = (height - height / 3).max(2);
            if lines.len() > most {
                let hidden = lines.len() + 2 - most;
                lines.truncate(most - 2);
                lines.push(format!("{} {hidden} more lines", screen.style.ellipsis()));
                lines.push(String::new());
            }
            height.saturating_sub(lines.len())
        });
        match self.operations.total() {
            0 => lines.extend(self.explain_empty(filters, screen)),
            _ => lines.extend(self.operations.lines(screen, left)),
        }
        lines
    }

    /// A watch list that does not exist is no problem before a program writes it, but its path may be mistyped.
    fn watch_list_lines(&self, screen: &Screen) -> Vec<String> {
        let Some(file) = self.awaited_watch_list.as_str() else {
            return Vec::new();
        };
        let file = one_line(file, MAX_PATH);
        let text = format!(
            "the watch list {file} does not exist. It is read as soon as it exists. If the path is wrong, correct \
             `watch_list` in the settings and reload."
        );
        let start = screen.style.paint(TextStyle::Yellow, "WAITING  ");
        let mut lines = screen.paragraph(&start, &text);
        lines.push(String::new());
        lines
    }

    fn explain_empty(&self, filters: &Filters, screen: &Screen) -> Vec<String> {
        if filters.is_empty() {
            return screen.paragraph("", how_to_get_operations(&self.projects));
        }
        let mut lines = screen.paragraph("", &format!("No operation matches {}.", filters.options()));
        for group in filters.groups.iter().filter(|group| !self.groups.has(group)) {
            let text = format!("There is no group {}.", one_line(group, MAX_NAME));
            lines.extend(screen.paragraph("", &text));
        }
        let names: Vec<&str> = self
            .projects
            .iter()
            .filter_map(|project| project["name"].as_str())
            .collect();
        for project in filters
            .projects
            .iter()
            .filter(|project| !names.contains(&&***project))
        {
            let (project, names) = (one_line(project, MAX_NAME), one_line(&names.join(", "), MAX_PATH));
            let text = format!("There is no project {project}; the projects are: {names}.");
            lines.extend(screen.paragraph("", &text));
        }
        lines
    }
}

/// What adds operations to a daemon without any.
fn how_to_get_operations(projects: &[Value]) -> &'static str {
    let mut discoveries = projects
        .iter()
        .map(|project| &project["discovery"])
        .filter(|discovery| !discovery.is_null())
        .peekable();
    if discoveries.peek().is_none() {
        return "The daemon watches no operation. Add one to its watch list, or with `backfill-watch add`.";
    }
    let is_listed =
        |discovery: &Value| discovery["failingSince"].is_null() && discovery["lastSuccessTime"].is_string();
    match discoveries.all(is_listed) {
        true => {
            "The daemon watches no operation, and discovery has found none to watch. `backfill-watch discover` shows what there \
             is. `backfill-watch add` adds others."
        }
        false => {
            "The daemon watches no operation. Discovery adds operations as soon as the API returns the list of installations. \
             `backfill-watch add` adds others."
        }
    }
}

/// Prints the whole report as one JSON object, page by page. Returns the attention list.
///
/// # Errors
/// When the daemon does not answer, or standard output cannot be written.
pub(super) async fn print_json(
    daemon: &Daemon,
    filters: &Filters,
    out: &mut Output,
) -> anyhow::Result<Vec<Value>> {
    let attention = daemon.list("/api/attention", "attention").await?.0;
    let (projects, awaited_watch_list) = read_projects(daemon).await?;
    let endpoints = daemon.list("/api/webhooks", "endpoints").await?.0;
    let mut head =
        serde_json::json!({ "attention": attention, "projects": projects, "endpoints": endpoints });
    if !awaited_watch_list.is_null() {
        head["awaitedWatchList"] = awaited_watch_list;
    }
    let head = head.to_string();
    out.json(head.trim_end_matches('}'))?;
    out.json(",\"groups\":[")?;
    let mut separator = "";
    each_group(daemon, filters, |group| {
        out.json(&format!("{separator}{group}"))?;
        separator = ",";
        Ok(())
    })
    .await?;
    out.json("],\"operations\":[")?;
    let mut separator = "";
    each(daemon, "operations", &filters.pairs(), |operation| {
        out.json(&format!("{separator}{operation}"))?;
        separator = ",";
        Ok(())
    })
    .await?;
    out.json("],\"next\":null}\n")?;
    Ok(attention)
}

/// The projects, and the watch list that is awaited, if there is one.
async fn read_projects(daemon: &Daemon) -> anyhow::Result<(Vec<Value>, Value)> {
    let mut answer = daemon.read_json("/api/projects").await?;
    // A daemon that was not restarted after an upgrade does not have it.
    if answer.status == 404 {
        return Ok((Vec::new(), Value::Null));
    }
    if !answer.is_ok() {
        return Err(daemon.refusal(&answer));
    }
    let mut member = |name| answer.body.get_mut(name).map(Value::take);
    let awaited_watch_list = member("awaitedWatchList").unwrap_or_default();
    match member("projects") {
        Some(Value::Array(projects)) => Ok((projects, awaited_watch_list)),
        _ => Ok((Vec::new(), awaited_watch_list)),
    }
}

/// Every group of the filter.
async fn each_group(
    daemon: &Daemon,
    filters: &Filters,
    mut found: impl FnMut(Value) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let projects: Vec<(&str, &str)> = filters.projects.iter().map(|name| ("project", &**name)).collect();
    if filters.groups.is_empty() {
        return each(daemon, "groups", &projects, found).await;
    }
    for name in &filters.groups {
        // A name may be longer than what can be searched for.
        let text: String = name.chars().take(SearchText::MAX).collect();
        let mut query = projects.clone();
        query.push(("q", &text));
        each(daemon, "groups", &query, |group| match group["group"] == **name {
            true => found(group),
            false => Ok(()),
        })
        .await?;
    }
    Ok(())
}

/// Every element of a list with these parameters, page by page.
async fn each(
    daemon: &Daemon,
    name: &str,
    parameters: &[(&str, &str)],
    mut found: impl FnMut(Value) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut after: Option<String> = None;
    loop {
        let (listed, next) = daemon.page(name, parameters, after.as_deref()).await?;
        listed.into_iter().try_for_each(&mut found)?;
        if next.is_none() {
            return Ok(());
        }
        after = next;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_empty_status_names_what_adds_operations() {
        let listed = json!({"discovery": {"installations": 2, "lastSuccessTime": "2026-11-23T11:59:20Z"}});
        let silent = json!({"discovery": {"installations": 0}});
        let failing = json!({"discovery": {"lastSuccessTime": "2026-11-23T11:59:20Z", "failingSince": "2026-11-23T11:59:40Z"}});
        for (projects, shown) in [
            (vec![json!({"name": "p"})], "Add one to its watch list"),
            (
                vec![json!({"name": "p"}), listed.clone()],
                "discovery has found none",
            ),
            (vec![silent], "as soon as the API returns"),
            (vec![listed, failing], "as soon as the API returns"),
        ] {
            let text = how_to_get_operations(&projects);
            assert!(text.contains(shown), "{projects:?}: {text}");
        }
    }
}
