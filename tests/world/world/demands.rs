//! What the sources ask for: the watch list, clients, and discovery.

use std::collections::BTreeMap;
use std::time::Duration;

use backfill_watch::core::source::{Source, Terms};
use backfill_watch::core::watch_list::WatchKey;

use super::{GRACE, State, World};

/// What is asked for with one operation.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// By source, with the time of the last change.
    sources: [(Duration, Option<Terms>); 3],
    /// The terms that applied from these times on.
    history: Vec<(Duration, Terms)>,
}

impl Demand {
    pub fn of(&self, source: Source) -> Option<&Terms> {
        self.sources[source as usize].1.as_ref()
    }

    /// The terms now, and since when.
    pub fn latest(&self) -> Option<&(Duration, Terms)> {
        self.history.last()
    }

    /// The terms that applied at any time since then.
    pub fn since(&self, then: Duration) -> impl Iterator<Item = &Terms> {
        let first = self.history.partition_point(|(from, _)| *from <= then);
        self.history[first.saturating_sub(1)..]
            .iter()
            .map(|(_, terms)| terms)
    }

    /// Since when the label has the value that it has now.
    pub fn label_since(&self, name: &str) -> Duration {
        let now = self.latest().and_then(|(_, terms)| label(terms, name));
        let same = self.history.iter().rev();
        let same = same.take_while(|(_, terms)| label(terms, name) == now);
        same.last().map_or(Duration::ZERO, |(from, _)| *from)
    }

    /// Since when the deadline is the one that it is now.
    pub fn deadline_since(&self) -> Duration {
        let now = self.latest().and_then(|(_, terms)| terms.deadline);
        let same = self.history.iter().rev();
        let same = same.take_while(|(_, terms)| terms.deadline == now);
        same.last().map_or(Duration::ZERO, |(from, _)| *from)
    }

    /// The first source has precedence.
    fn merged(&self) -> Terms {
        let mut merged = Terms::default();
        for terms in self.sources.iter().filter_map(|(_, terms)| terms.as_ref()) {
            for (name, value) in &terms.labels {
                if label(&merged, name).is_none() {
                    merged.labels.push((name.clone(), value.clone()));
                }
            }
            merged.deadline = merged.deadline.or(terms.deadline);
        }
        merged
    }
}

pub(super) fn label<'a>(terms: &'a Terms, name: &str) -> Option<&'a str> {
    let found = terms.labels.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str())
}

impl World {
    /// The watch list asks for these.
    pub fn list(&self, listed: &BTreeMap<WatchKey, Terms>) {
        let mut state = self.state();
        let known: Vec<WatchKey> = state.demands.keys().cloned().collect();
        for key in known.iter().chain(listed.keys()) {
            state.demand(key, Source::File, listed.get(key));
        }
    }
}

impl State {
    /// A source asks for an operation from now on, or no longer does.
    pub(super) fn demand(&mut self, key: &WatchKey, source: Source, terms: Option<&Terms>) {
        let now = self.now();
        let demand = self.demands.entry(key.clone()).or_default();
        if demand.of(source) == terms {
            return;
        }
        let was_asked = demand.sources.iter().any(|(_, terms)| terms.is_some());
        demand.sources[source as usize] = (now, terms.cloned());
        let mut others = demand.sources.iter().filter(|(_, terms)| terms.is_some());
        let is_asked = others.clone().next().is_some();
        // While one source follows the other, the daemon may see a time without any.
        let settled = self.full_last.max(self.run_began) + GRACE;
        let is_certain = others.any(|(since, _)| *since + GRACE < now) && settled < now;
        let merged = demand.merged();
        if demand.latest().is_none_or(|(_, latest)| *latest != merged) {
            demand.history.push((now, merged));
        }
        if is_asked && !was_asked {
            self.listed.insert(key.clone());
            self.put.insert(key.clone(), now);
        }
        if was_asked && !is_asked {
            self.listed.remove(key);
        }
        if was_asked && terms.is_none() && !(is_asked && is_certain) {
            self.removed.insert(key.clone(), now);
            self.reported.entry(key.clone()).or_default().was_away = true;
        }
    }

    /// The value of a label of an operation now.
    pub(super) fn label_of(&self, key: &WatchKey, name: &str) -> Option<&str> {
        let (_, terms) = self.demands.get(key)?.latest()?;
        label(terms, name)
    }
}
