//! Notices of `watch` that no event reports: an API that does not answer yet, a beginning outage, a possibly wrong ID.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::board::{ApiPause, ApiView, FailedPolls, ProjectView, WatchView};
use crate::cli::format;
use crate::core::watch_list::WatchKey;

/// This many failed polls in a row are an outage. Before any answer, one is enough.
const OUTAGE: u32 = 3;
/// A pause of at least this long is printed.
const LONG_PAUSE: Duration = Duration::from_secs(5);

/// What began or ended, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hint {
    pub(super) text: String,
    /// Whether a [`Notice`] shows it next to the bars.
    pub(super) is_in_notices: bool,
}

impl Hint {
    fn of_project(text: String) -> Self {
        Self {
            text,
            is_in_notices: true,
        }
    }
}

/// What applies now to a whole project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) project: Arc<str>,
    pub(super) text: String,
    /// Whether no poll of the project succeeds.
    pub(super) is_outage: bool,
}

/// The notices that are printed already.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// The projects whose outage was printed.
    outages: HashSet<Arc<str>>,
    /// The projects whose pause was printed.
    pauses: HashSet<Arc<str>>,
    /// The operations that were reported as not found.
    missing: HashSet<WatchKey>,
}

/// The outage of a project's API, if there is one.
fn outage(api: &ApiView) -> Option<&FailedPolls> {
    let enough = if api.was_answered() { OUTAGE } else { 1 };
    api.failing.as_ref().filter(|failing| failing.polls >= enough)
}

fn last_failure(api: &ApiView) -> &str {
    api.last_failure.as_deref().unwrap_or_default()
}

impl Notices {
    /// What began or ended since the last call.
    pub(super) fn new_hints(
        &mut self,
        projects: &[ProjectView],
        watches: &[WatchView],
        now: Instant,
    ) -> Vec<Hint> {
        let mut hints = Vec::new();
        for ProjectView { name, api, .. } in projects {
            if outage(api).is_some() {
                if self.outages.insert(Arc::clone(name)) {
                    hints.push(Hint::of_project(format!(
                        "the API does not answer, retrying: {}",
                        last_failure(api)
                    )));
                }
            } else if api.failing.is_none() && self.outages.remove(name) {
                hints.push(Hint::of_project("the API answers again".to_owned()));
            }
            match &api.pause {
                Some(pause) if pause.until > now + LONG_PAUSE => {
                    if self.pauses.insert(Arc::clone(name)) {
                        hints.push(Hint::of_project(pause_text(pause, now)));
                    }
                }
                Some(pause) if pause.until > now => {}
                _ => {
                    self.pauses.remove(name);
                }
            }
        }
        for view in watches.iter().filter(|view| view.watch.is_missing()) {
            if self.missing.insert(view.key.clone()) {
                let WatchKey { project, operation } = &view.key;
                let reason = view.watch.last_error().unwrap_or_default();
                hints.push(Hint {
                    text: format!(
                        "operation {operation} is not found in project {project}, retrying; check the ID and the \
                         project: {reason}"
                    ),
                    is_in_notices: false,
                });
            }
        }
        hints
    }
}

fn pause_text(pause: &ApiPause, now: Instant) -> String {
    format!(
        "the API asks for a pause, polling again in {}: {}",
        format::time(pause.until - now),
        pause.reason
    )
}

/// Current notices about whole projects.
pub(super) fn current(projects: &[ProjectView], now: Instant) -> Vec<Notice> {
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
            (None, Some(pause)) if pause.until > now => format!("{prefix}{}", pause_text(pause, now)),
            (None, _) => return None,
        };
        Some(Notice {
            project: Arc::clone(name),
            text,
            is_outage: outage(api).is_some(),
        })
    });
    notices.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
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
            last_answer: was_answered.then(clock::wall),
            ..ApiView::default()
        })
    }

    #[test]
    fn before_any_answer_the_first_failure_is_an_outage_and_later_only_a_row_of_them() {
        let mut notices = Notices::default();
        let start = clock::instant();
        let later = start + Duration::from_secs(12);
        let mut hints = |projects: &[ProjectView]| -> Vec<String> {
            let hints = notices.new_hints(projects, &[], later).into_iter();
            hints.map(|hint| hint.text).collect()
        };
        assert_eq!(
            hints(&failing(1, start, false)),
            ["the API does not answer, retrying: connection refused"]
        );
        assert!(hints(&failing(2, start, false)).is_empty());
        let notice = current(&failing(2, start, false), later).remove(0);
        assert_eq!(
            (&*notice.text, notice.is_outage),
            ("no answer for 12s, retrying: connection refused", true)
        );
        let answered = project(ApiView {
            last_answer: Some(clock::wall()),
            ..ApiView::default()
        });
        assert_eq!(hints(&answered), ["the API answers again"]);
        let few = failing(OUTAGE - 1, start, true);
        assert!(hints(&few).is_empty() && current(&few, later).is_empty());
        let row = failing(OUTAGE, start, true);
        assert_eq!((hints(&row).len(), current(&row, later).len()), (1, 1));
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
        let notice = current(&paused, now + Duration::from_secs(2)).remove(0);
        assert_eq!(
            (&*notice.text, notice.is_outage),
            (
                "the API asks for a pause, polling again in 28s: 429 Too Many Requests",
                false
            )
        );
        let mut notices = Notices::default();
        let mut hints = |seconds| {
            let at = now + Duration::from_secs(seconds);
            notices.new_hints(&paused, &[], at).len()
        };
        assert_eq!([26, 0, 3, 27, 31, 1].map(&mut hints), [0, 1, 0, 0, 0, 1]);
        assert!(current(&paused, now + Duration::from_secs(30)).is_empty());
    }
}
