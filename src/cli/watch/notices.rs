//! Notices of `watch` that no event reports: an API that does not answer yet, a beginning outage, a possibly wrong ID.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::time::Instant;

use crate::board::{ApiView, FailedPolls, ProjectView, WatchView};
use crate::cli::format;
use crate::core::watch_list::WatchKey;

/// This many failed polls in a row are an outage. Before any answer, one is enough.
const OUTAGE: u32 = 3;

/// The notices that are printed already.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// The projects whose outage was printed.
    outages: HashSet<Arc<str>>,
    /// The operations that were reported as not found.
    missing: HashSet<WatchKey>,
}

/// The outage of a project's API, if there is one.
fn outage(api: &ApiView) -> Option<&FailedPolls> {
    let enough = if api.was_answered { OUTAGE } else { 1 };
    api.failing.as_ref().filter(|failing| failing.polls >= enough)
}

fn last_failure(api: &ApiView) -> &str {
    api.last_failure.as_deref().unwrap_or_default()
}

impl Notices {
    /// New notices, for output without bars.
    pub(super) fn new_hints(&mut self, projects: &[ProjectView], watches: &[WatchView]) -> Vec<String> {
        let mut hints = Vec::new();
        for ProjectView { name, api, .. } in projects {
            if outage(api).is_some() {
                if self.outages.insert(Arc::clone(name)) {
                    hints.push(format!(
                        "the API does not answer, retrying: {}",
                        last_failure(api)
                    ));
                }
            } else if api.failing.is_none() && self.outages.remove(name) {
                hints.push("the API answers again".to_owned());
            }
        }
        for view in watches.iter().filter(|view| view.watch.is_missing()) {
            if self.missing.insert(view.key.clone()) {
                let WatchKey { project, operation } = &view.key;
                let reason = view.watch.last_error().unwrap_or_default();
                hints.push(format!(
                    "operation {operation} is not found in project {project}, retrying; check the ID and the project: \
                     {reason}"
                ));
            }
        }
        hints
    }
}

/// Current notices about whole projects, each with its project.
pub(super) fn current(projects: &[ProjectView], now: Instant) -> Vec<(Arc<str>, String)> {
    let several = projects.len() > 1;
    let notices = projects.iter().filter_map(|ProjectView { name, api, .. }| {
        let prefix = if several {
            format!("project {name}: ")
        } else {
            String::new()
        };
        let text = match (outage(api), &api.pause) {
            (Some(failing), _) => format!(
                "{prefix}no answer for {}, retrying: {}",
                format::time(now - failing.since),
                last_failure(api)
            ),
            (None, Some(pause)) if pause.until > now => format!(
                "{prefix}the API asks for a pause, polling again in {}: {}",
                format::time(pause.until - now),
                pause.reason
            ),
            (None, _) => return None,
        };
        Some((Arc::clone(name), text))
    });
    notices.collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::board::ApiPause;
    use crate::clock;
    use crate::core::gate::RequestLimits;

    fn project(api: ApiView) -> [ProjectView; 1] {
        let limits = RequestLimits {
            concurrent: 1,
            per_second: 1.0,
        };
        let mut view = ProjectView::new("p".into(), limits);
        view.api = api;
        [view]
    }

    fn failing(polls: u32, since: Instant, was_answered: bool) -> [ProjectView; 1] {
        project(ApiView {
            failing: Some(FailedPolls { since, polls }),
            last_failure: Some("connection refused".into()),
            was_answered,
            ..ApiView::default()
        })
    }

    #[test]
    fn before_any_answer_the_first_failure_is_an_outage_and_later_only_a_row_of_them() {
        let mut notices = Notices::default();
        let start = clock::instant();
        let later = start + Duration::from_secs(12);
        let hints = notices.new_hints(&failing(1, start, false), &[]);
        assert_eq!(hints, ["the API does not answer, retrying: connection refused"]);
        assert!(notices.new_hints(&failing(2, start, false), &[]).is_empty());
        assert_eq!(
            current(&failing(2, start, false), later)[0].1,
            "no answer for 12s, retrying: connection refused"
        );
        let answered = project(ApiView {
            was_answered: true,
            ..ApiView::default()
        });
        assert_eq!(notices.new_hints(&answered, &[]), ["the API answers again"]);
        let few = failing(OUTAGE - 1, start, true);
        assert!(notices.new_hints(&few, &[]).is_empty() && current(&few, later).is_empty());
        let row = failing(OUTAGE, start, true);
        assert_eq!(
            (notices.new_hints(&row, &[]).len(), current(&row, later).len()),
            (1, 1)
        );
    }

    #[test]
    fn a_pause_is_a_notice_until_it_ends() {
        let now = clock::instant();
        let paused = project(ApiView {
            pause: Some(ApiPause {
                until: now + Duration::from_secs(30),
                reason: "429 Too Many Requests".into(),
            }),
            ..ApiView::default()
        });
        assert_eq!(
            current(&paused, now + Duration::from_secs(2))[0].1,
            "the API asks for a pause, polling again in 28s: 429 Too Many Requests"
        );
        assert!(current(&paused, now + Duration::from_secs(30)).is_empty());
    }
}
