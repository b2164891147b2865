//! The rules that choose what is found.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::listed::ListedInstallation;
use crate::core::deadline::Deadline;
use crate::core::glob::Globs;
use crate::core::watch_list::Labels;

/// A `[[discover]]` table.
#[derive(Debug, Clone, PartialEq)]
pub struct DiscoveryRule {
    /// Names or IDs of integrations.
    pub integrations: Globs,
    /// Groups, by `groupRef`.
    pub groups: Globs,
    /// Names of objects.
    pub objects: Globs,
    /// The time between the starts of two rounds.
    pub every: Duration,
    /// Finished operations that are older than this when their installation is first seen are not reported.
    pub lookback: Duration,
    /// By when what is found should be finished.
    pub deadline: Option<Deadline>,
    /// Labels of what is found, in addition to discovery's own.
    pub labels: Labels,
}

impl DiscoveryRule {
    /// The default of `every`.
    pub const EVERY: Duration = Duration::from_mins(1);
    /// The default of `lookback`.
    pub const LOOKBACK: Duration = Duration::from_hours(24);

    /// An empty table: everything is found.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            integrations: Globs::all(),
            groups: Globs::all(),
            objects: Globs::all(),
            every: Self::EVERY,
            lookback: Self::LOOKBACK,
            deadline: None,
            labels: Labels::new(),
        }
    }
}

/// An object that a rule matches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Selected {
    /// The position of the first rule that matches it.
    pub rule: u16,
    /// The hash of its configuration.
    pub fingerprint: u64,
}

/// The rules of a project.
#[derive(Debug)]
pub(super) struct Rules {
    all: Arc<[DiscoveryRule]>,
    /// Which of them matched an installation of the last list.
    matched: Vec<bool>,
    /// Which of them matched an installation of the list that is being taken in.
    matching: Vec<bool>,
}

impl Rules {
    pub fn new(all: Arc<[DiscoveryRule]>) -> Self {
        Self {
            matched: vec![true; all.len()],
            matching: vec![false; all.len()],
            all,
        }
    }

    pub fn all(&self) -> &[DiscoveryRule] {
        &self.all
    }

    pub fn get(&self, position: u16) -> Option<&DiscoveryRule> {
        self.all.get(usize::from(position))
    }

    /// The time between two rounds.
    pub fn every(&self) -> Duration {
        let every = self.all.iter().map(|rule| rule.every);
        every.min().unwrap_or(DiscoveryRule::EVERY)
    }

    /// A list was taken in. `is_whole`: whether it has all installations that are known.
    pub fn finish_list(&mut self, is_whole: bool) {
        if is_whole {
            self.matched.copy_from_slice(&self.matching);
        }
        self.matching.fill(false);
    }

    /// The objects of an installation that are asked for. `name` is that of its integration.
    pub fn select(
        &mut self,
        listed: &ListedInstallation,
        name: Option<&str>,
    ) -> BTreeMap<Arc<str>, Selected> {
        let mut matching = Vec::new();
        for (position, (rule, is_matched)) in (0..=u16::MAX).zip(self.all.iter().zip(&mut self.matching)) {
            if rule.groups.matches(listed.group())
                && (rule.integrations.matches(&listed.integration)
                    || name.is_some_and(|name| rule.integrations.matches(name)))
            {
                *is_matched = true;
                matching.push((position, &rule.objects));
            }
        }
        let objects = listed.objects.iter().filter_map(|object| {
            let first = matching.iter().find(|(_, objects)| objects.matches(&object.name));
            first.map(|(rule, _)| {
                let selected = Selected {
                    rule: *rule,
                    fingerprint: object.fingerprint,
                };
                (object.name.as_str().into(), selected)
            })
        });
        objects.collect()
    }

    /// Rules that matched no installation of the last list, by position.
    pub fn unmatched(&self) -> impl Iterator<Item = usize> {
        let rules = self.matched.iter().enumerate();
        rules.filter_map(|(position, is_matched)| (!is_matched).then_some(position))
    }
}
