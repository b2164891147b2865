//! Where a watch comes from, and what its sources together ask for.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::deadline::Deadline;
use super::labels::Labels;

/// Where a watch comes from. The first takes precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The watch list.
    File,
    /// The HTTP API.
    Api,
    /// Discovery.
    Discovery,
}

impl Source {
    /// All of them, in the order of precedence.
    pub const ALL: [Self; 3] = [Self::File, Self::Api, Self::Discovery];

    /// Its name, as in the member `source`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Api => "api",
            Self::Discovery => "discovery",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one source asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Labels of the watch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Labels,
    /// By when it should be finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Deadline>,
}

/// What the sources of one watch ask for: at least one does.
///
/// Most watches have one source. The type is small, because each watch has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand(Sources);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Sources {
    One(Source, Arc<Terms>),
    Several(Box<Several>),
}

/// What at least two sources ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Several {
    /// The terms of all sources together.
    merged: Arc<Terms>,
    /// The terms of each source, in the order of [`Source::ALL`].
    parts: [Option<Arc<Terms>>; 3],
}

impl Demand {
    /// What one source asks for.
    #[must_use]
    pub fn new(source: Source, terms: Arc<Terms>) -> Self {
        Self(Sources::One(source, terms))
    }

    /// The terms of the watch: of all sources, the first has precedence.
    #[must_use]
    pub fn terms(&self) -> &Arc<Terms> {
        match &self.0 {
            Sources::One(_, terms) => terms,
            Sources::Several(several) => &several.merged,
        }
    }

    /// The source with the highest precedence.
    #[must_use]
    pub fn source(&self) -> Source {
        // At least one source asks for the watch.
        self.sources().next().unwrap_or(Source::File)
    }

    /// Its sources, in the order of precedence.
    pub fn sources(&self) -> impl Iterator<Item = Source> {
        Source::ALL.into_iter().filter(|source| self.asks(*source))
    }

    /// What this source asks for.
    #[must_use]
    pub fn terms_of(&self, source: Source) -> Option<&Arc<Terms>> {
        match &self.0 {
            Sources::One(one, terms) => (*one == source).then_some(terms),
            Sources::Several(several) => several.parts[source as usize].as_ref(),
        }
    }

    /// Whether this source asks for the watch.
    #[must_use]
    pub fn asks(&self, source: Source) -> bool {
        self.terms_of(source).is_some()
    }

    /// The source asks for the watch on these terms from now on.
    pub fn set(&mut self, source: Source, terms: Arc<Terms>) {
        let mut all = self.all();
        all[source as usize] = Some(terms);
        self.replace(all);
    }

    /// The source does not ask for the watch any more. Returns false when no other does; then nothing changes.
    #[must_use]
    pub fn withdraw(&mut self, source: Source) -> bool {
        let mut all = self.all();
        all[source as usize] = None;
        let is_left = all.iter().any(Option::is_some);
        if is_left {
            self.replace(all);
        }
        is_left
    }

    fn all(&self) -> [Option<Arc<Terms>>; 3] {
        match &self.0 {
            Sources::One(source, terms) => {
                let mut all = [None, None, None];
                all[*source as usize] = Some(Arc::clone(terms));
                all
            }
            Sources::Several(several) => several.parts.clone(),
        }
    }

    fn replace(&mut self, all: [Option<Arc<Terms>>; 3]) {
        let mut asking = Source::ALL
            .into_iter()
            .filter(|source| all[*source as usize].is_some());
        *self = match (asking.next(), asking.next()) {
            (Some(source), None) => {
                let terms = all.into_iter().flatten().next().unwrap_or_default();
                Self::new(source, terms)
            }
            _ => Self(Sources::Several(Box::new(Several {
                merged: Arc::new(merge(all.iter().flatten())),
                parts: all,
            }))),
        };
    }
}

/// The first terms win.
fn merge<'a>(all: impl Iterator<Item = &'a Arc<Terms>>) -> Terms {
    let mut merged = Terms::default();
    for terms in all {
        for (key, value) in &terms.labels {
            if !merged.labels.iter().any(|(known, _)| known == key) {
                merged.labels.push((key.clone(), value.clone()));
            }
        }
        merged.deadline = merged.deadline.or(terms.deadline);
    }
    merged
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn terms(labels: &[(&str, &str)], hours: u64) -> Arc<Terms> {
        Arc::new(Terms {
            labels: labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            deadline: (hours > 0).then(|| Deadline::After(Duration::from_hours(hours))),
        })
    }

    #[test]
    fn the_file_wins_over_the_api_and_the_api_over_discovery() {
        let mut demand = Demand::new(Source::Discovery, terms(&[("group", "d"), ("object", "d")], 3));
        demand.set(Source::Api, terms(&[("group", "a"), ("team", "a")], 2));
        demand.set(Source::File, terms(&[("team", "f")], 0));
        assert_eq!(
            **demand.terms(),
            *terms(&[("team", "f"), ("group", "a"), ("object", "d")], 2)
        );
        assert_eq!(
            demand.sources().map(Source::as_str).collect::<Vec<_>>(),
            ["file", "api", "discovery"]
        );
        assert!(demand.withdraw(Source::Api) && demand.withdraw(Source::File));
        assert_eq!(
            demand,
            Demand::new(Source::Discovery, terms(&[("group", "d"), ("object", "d")], 3))
        );
        assert!(!demand.withdraw(Source::Discovery) && demand.asks(Source::Discovery));
        assert!(demand.withdraw(Source::File));
    }

    proptest! {
        #[test]
        fn the_order_of_changes_does_not_matter(changes in prop::collection::vec((0_usize..3, 0_u64..4), 1..20)) {
            let mut demand: Option<Demand> = None;
            let mut last = [None, None, None];
            for (source, hours) in changes {
                let source = Source::ALL[source];
                let terms = (hours > 0).then(|| terms(&[("by", source.as_str())], hours));
                last[source as usize].clone_from(&terms);
                demand = match (demand, terms) {
                    (Some(mut demand), Some(terms)) => { demand.set(source, terms); Some(demand) }
                    (None, Some(terms)) => Some(Demand::new(source, terms)),
                    (Some(mut demand), None) => demand.withdraw(source).then_some(demand),
                    (None, None) => None,
                };
                let asking: Vec<usize> = (0..3).filter(|index| last[*index].is_some()).collect();
                let found: Vec<usize> = demand.iter().flat_map(Demand::sources).map(|source| source as usize).collect();
                prop_assert_eq!(&asking, &found);
                if let Some(demand) = &demand {
                    prop_assert_eq!(&**demand.terms(), &merge(last.iter().flatten()));
                }
            }
        }
    }
}
