//! Listens to the answers that pollers get, to tell what no event tells: that nothing was heard yet, that an outage
//! has begun, that an ID may be mistyped.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::ampersand::Fetch;
use crate::cli::words;
use crate::clock;
use crate::core::answer::{Answer, LogAnswer, ProjectAnswer};
use crate::core::watch_list::WatchKey;

/// So many failed polls in a row are an outage, not a mishap; the very first one counts at once.
const OUTAGE: u32 = 3;

/// Hands on what `inner` answers, and notes it.
#[derive(Debug)]
pub(super) struct Listener<F> {
    inner: F,
    heard: Arc<Heard>,
}

impl<F> Listener<F> {
    pub(super) fn new(inner: F, heard: Arc<Heard>) -> Self {
        Self { inner, heard }
    }
}

impl<F: Fetch> Fetch for Listener<F> {
    async fn fetch(&self, key: &WatchKey) -> Answer {
        let answer = self.inner.fetch(key).await;
        self.heard.note(key, &answer, clock::instant());
        answer
    }

    fn refresh_key(&self, project: &str) -> impl Future<Output = bool> + Send {
        self.inner.refresh_key(project)
    }

    fn last_warnings(&self, key: &WatchKey) -> impl Future<Output = LogAnswer> + Send {
        self.inner.last_warnings(key)
    }

    fn project_exists(&self, project: &str) -> impl Future<Output = ProjectAnswer> + Send {
        self.inner.project_exists(project)
    }
}

/// What was heard.
#[derive(Debug, Default)]
pub(super) struct Heard {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    projects: HashMap<Arc<str>, Mood>,
    /// Operations that were not found when they were first asked for.
    missing: HashSet<WatchKey>,
    /// What was not told yet.
    hints: Vec<String>,
}

/// How the API treats a project.
#[derive(Debug, Default)]
struct Mood {
    /// Whether anything was answered at all, if only that an operation is not found.
    answered: bool,
    /// Failed polls since the last answer.
    failures: u32,
    failing_since: Option<Instant>,
    reason: String,
    /// The API asked to be left alone until then.
    paused_until: Option<Instant>,
    /// Whether an outage was hinted at.
    told: bool,
}

impl Mood {
    fn is_outage(&self) -> bool {
        self.failures >= if self.answered { OUTAGE } else { 1 }
    }
}

impl Heard {
    fn note(&self, key: &WatchKey, answer: &Answer, now: Instant) {
        let mut state = self.lock();
        let state = &mut *state;
        let mood = state.projects.entry(Arc::clone(&key.project)).or_default();
        match answer {
            Answer::Failed(failure) => {
                mood.failures = mood.failures.saturating_add(1);
                mood.failing_since.get_or_insert(now);
                mood.reason.clone_from(&failure.reason);
                if mood.is_outage() && !mood.told {
                    mood.told = true;
                    state.hints.push(format!(
                        "the API does not answer, trying again: {}",
                        failure.reason
                    ));
                }
                return;
            }
            Answer::Throttled { wait, reason } => {
                mood.paused_until = Some(now + wait.unwrap_or_default().min(Duration::from_hours(24)));
                mood.reason.clone_from(reason);
            }
            Answer::NotFound(reason) => {
                mood.paused_until = None;
                if state.missing.insert(key.clone()) {
                    state.hints.push(format!(
                        "operation {} is not found so far, trying again; is the ID right, and is it one of project \
                         {}? {reason}",
                        key.operation, key.project
                    ));
                }
            }
            // It is asked again at once, and that answer counts.
            Answer::Unprocessed(_) => return,
            _ => mood.paused_until = None,
        }
        mood.answered = true;
        mood.failures = 0;
        mood.failing_since = None;
        if std::mem::take(&mut mood.told) {
            state.hints.push("the API answers again".to_owned());
        }
    }

    /// Whether the API ever answered.
    pub(super) fn anything(&self) -> bool {
        self.lock().projects.values().any(|mood| mood.answered)
    }

    /// The last failure of a poll.
    pub(super) fn last_failure(&self) -> Option<String> {
        let state = self.lock();
        let reasons = state.projects.values().map(|mood| &mood.reason);
        reasons.filter(|reason| !reason.is_empty()).max().cloned()
    }

    /// What to tell once, where nothing is drawn.
    pub(super) fn take_hints(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().hints)
    }

    /// What concerns all operations of these projects now, each with its project.
    pub(super) fn notices(&self, now: Instant) -> Vec<(Arc<str>, String)> {
        let state = self.lock();
        let several = state.projects.len() > 1;
        let mut notices: Vec<_> = state
            .projects
            .iter()
            .filter_map(|(project, mood)| {
                let whose = if several {
                    format!("project {project}: ")
                } else {
                    String::new()
                };
                let since = mood.failing_since.filter(|_| mood.is_outage());
                let until = mood.paused_until.filter(|until| *until > now);
                let text = match (since, until) {
                    (Some(since), _) => format!(
                        "{whose}no answer for {}, trying again: {}",
                        words::time(now - since),
                        mood.reason
                    ),
                    (None, Some(until)) => format!(
                        "{whose}the API asks to wait, going on in {}: {}",
                        words::time(until - now),
                        mood.reason
                    ),
                    (None, None) => return None,
                };
                Some((Arc::clone(project), text))
            })
            .collect();
        notices.sort();
        notices
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::answer::{Failure, FailureClass};

    fn key(operation: &str) -> WatchKey {
        WatchKey {
            project: "p".into(),
            operation: operation.into(),
        }
    }

    fn failed() -> Answer {
        Answer::Failed(Failure {
            class: FailureClass::Connect,
            reason: "connection refused".into(),
        })
    }

    fn missing() -> Answer {
        Answer::NotFound("404 Not Found".into())
    }

    #[test]
    fn before_any_answer_the_first_failure_is_told_and_later_only_a_row_of_them() {
        let heard = Heard::default();
        let start = clock::instant();
        let later = start + Duration::from_secs(12);
        heard.note(&key("a"), &failed(), start);
        heard.note(&key("b"), &failed(), later);
        assert!(!heard.anything());
        assert_eq!(
            heard.take_hints(),
            ["the API does not answer, trying again: connection refused"]
        );
        assert_eq!(
            heard.notices(later)[0].1,
            "no answer for 12s, trying again: connection refused"
        );
        heard.note(&key("a"), &Answer::Refused("400".into()), later);
        assert!(heard.anything());
        assert_eq!(heard.take_hints(), ["the API answers again"]);
        for _ in 1..OUTAGE {
            heard.note(&key("a"), &failed(), later);
        }
        assert!(heard.take_hints().is_empty() && heard.notices(later).is_empty());
        heard.note(&key("a"), &failed(), later);
        assert_eq!((heard.take_hints().len(), heard.notices(later).len()), (1, 1));
    }

    #[test]
    fn a_missing_operation_is_told_once() {
        let heard = Heard::default();
        let now = clock::instant();
        for operation in ["a", "b", "a"] {
            heard.note(&key(operation), &missing(), now);
        }
        let hints = heard.take_hints();
        assert_eq!(hints.len(), 2);
        assert!(hints[0].starts_with("operation a is not found"), "{hints:?}");
        assert!(heard.take_hints().is_empty() && heard.anything());
    }

    #[test]
    fn a_pause_is_a_notice_until_it_is_over() {
        let heard = Heard::default();
        let now = clock::instant();
        let throttled = Answer::Throttled {
            wait: Some(Duration::from_secs(30)),
            reason: "429 Too Many Requests".into(),
        };
        heard.note(&key("a"), &throttled, now);
        assert_eq!(
            heard.notices(now + Duration::from_secs(2))[0].1,
            "the API asks to wait, going on in 28s: 429 Too Many Requests"
        );
        assert!(heard.notices(now + Duration::from_secs(30)).is_empty());
    }
}
