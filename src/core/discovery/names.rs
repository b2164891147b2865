//! The names of integrations.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::listed::InstallationList;

/// The names are requested again after this time.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(24);

/// The names of integrations by ID.
#[derive(Debug, Default)]
pub(super) struct IntegrationNames {
    /// `None` when the API lists no such integration.
    names: BTreeMap<String, Option<String>>,
    /// When the API listed them last.
    listed: Option<SignedDuration>,
}

impl IntegrationNames {
    /// Whether the API listed them.
    pub fn are_known(&self) -> bool {
        self.listed.is_some()
    }

    pub fn get(&self, integration: &str) -> Option<&str> {
        self.names.get(integration)?.as_deref()
    }

    /// Whether the names for this list need not be requested.
    pub fn cover(&self, list: &InstallationList, now: SignedDuration) -> bool {
        let mut installations = list.installations.iter();
        self.listed
            .is_none_or(|listed| now.saturating_sub(listed) < KEPT_FOR)
            && installations.all(|installation| self.names.contains_key(&installation.integration))
    }

    /// Takes in the names that the API lists now, for the integrations of this list.
    pub fn replace(&mut self, list: &InstallationList, names: Vec<(String, String)>, now: SignedDuration) {
        let unnamed = list.installations.iter();
        self.names = unnamed
            .map(|installation| (installation.integration.clone(), None))
            .chain(names.into_iter().map(|(id, name)| (id, Some(name))))
            .collect();
        self.listed = Some(now);
    }
}
