//! Kinds and names of the requests that the simulator answers.

/// The kind of a request. Faults and statistics of single requests go by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestKind {
    /// One operation; named by its ID.
    Operation,
    /// The log of an operation; named by its ID and `/logs`.
    Logs,
    /// The operations of an installation; named `list`.
    Operations,
    /// One installation; named by its ID and `/installation`.
    Installation,
    /// The installations of a project; named `installations`.
    Installations,
    /// The integrations of a project; named `integrations`.
    Integrations,
    /// The newest backfill of an object; named as [`RequestKind::backfill_progress`] returns.
    BackfillProgress,
    /// Any other request to the API; named `unknown`.
    Unknown,
    /// A request to a receiver; named by its path.
    Callback,
}

/// A request, as faults and statistics name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestName {
    pub(super) kind: RequestKind,
    pub(super) name: String,
}

impl RequestKind {
    /// The number of kinds.
    pub(super) const COUNT: usize = 9;

    /// The name of a request for the newest backfill of an object.
    #[must_use]
    pub fn backfill_progress(installation: &str, object: &str) -> String {
        format!("{installation}/{object}/backfill-progress")
    }

    /// A request of this kind.
    pub(super) fn named(self, name: impl Into<String>) -> RequestName {
        RequestName {
            kind: self,
            name: name.into(),
        }
    }
}
