//! Simulated installations, with the objects that they read.

use std::time::Duration;

use super::backfill::SimulatedBackfill;
use super::operation::INTEGRATION_ID;

/// The customer's secret. Every access token, refresh token and API key of a connection contains it.
pub const CUSTOMER_TOKEN: &str = "simulated-customer-token";

/// One customer's use of an integration.
///
/// ```
/// use std::time::Duration;
/// use backfill_watch::simulator::{SimulatedBackfill, SimulatedInstallation, SimulatedObject, SimulatedOperation};
///
/// let read = SimulatedOperation::new("", Duration::from_secs(30), 5_000);
/// let objects = [
///     SimulatedObject::reading("contact", SimulatedBackfill::after(Duration::from_secs(1), read)),
///     SimulatedObject::new("lead"),
/// ];
/// let acme = SimulatedInstallation::new("acme", objects);
/// assert_eq!(acme.group.unwrap().reference, "acme");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SimulatedInstallation {
    /// The installation ID; empty for a new UUID.
    pub id: String,
    /// The ID or name of the project; empty for the first project of the simulator.
    pub project: String,
    /// The integration ID.
    pub integration_id: String,
    /// The customer, if the application named one.
    pub group: Option<SimulatedGroup>,
    /// The provider that is read, such as `salesforce`.
    pub provider: String,
    /// How the customer gave access to the provider.
    pub authentication: SimulatedAuthentication,
    /// Health of the installation and status of its connection.
    pub status: InstallationStatus,
    /// How long before it is added it was created.
    pub age: Duration,
    /// What is read.
    pub objects: Vec<SimulatedObject>,
}

impl SimulatedInstallation {
    /// A working installation of the default integration for the customer `group`.
    #[must_use]
    pub fn new(group: impl Into<String>, objects: impl IntoIterator<Item = SimulatedObject>) -> Self {
        let reference = group.into();
        Self {
            id: String::new(),
            project: String::new(),
            integration_id: INTEGRATION_ID.to_owned(),
            group: Some(SimulatedGroup {
                name: reference.clone(),
                reference,
            }),
            provider: "salesforce".to_owned(),
            authentication: SimulatedAuthentication::OAuth2,
            status: InstallationStatus::Working,
            age: Duration::ZERO,
            objects: objects.into_iter().collect(),
        }
    }
}

/// A customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulatedGroup {
    /// The `groupRef`.
    pub reference: String,
    /// The `groupName`.
    pub name: String,
}

/// How a connection authenticates. Its secrets are in each answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SimulatedAuthentication {
    /// `oauth2/authorizationCode`, with an access token and a refresh token.
    OAuth2,
    /// `apiKey`, with an API key.
    ApiKey,
}

/// The state of an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstallationStatus {
    /// `healthy`, with a connection that was just `created`.
    Created,
    /// `healthy`, with a `working` connection.
    Working,
    /// `unhealthy`, although its connection is `working`.
    Unhealthy,
    /// `unhealthy`, because the provider refuses the credentials of its connection.
    BadCredentials,
}

/// An object that an installation reads.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulatedObject {
    /// The object's name.
    pub name: String,
    /// What the configuration reports about its backfill.
    pub period: BackfillPeriod,
    /// Whether reading is paused.
    pub is_disabled: bool,
    /// The backfill that follows when the object is added.
    pub backfill: Option<SimulatedBackfill>,
}

impl SimulatedObject {
    /// An object whose full history is to be read, but whose backfill has not started.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            period: BackfillPeriod::FullHistory,
            is_disabled: false,
            backfill: None,
        }
    }

    /// An object with a backfill.
    #[must_use]
    pub fn reading(name: impl Into<String>, backfill: SimulatedBackfill) -> Self {
        Self {
            backfill: Some(backfill),
            ..Self::new(name)
        }
    }
}

/// The member `backfill.defaultPeriod` of an object's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackfillPeriod {
    /// The full history.
    FullHistory,
    /// The last days; 0 for no backfill.
    Days(u32),
    /// There is no member `backfill`, so there is no backfill.
    Absent,
}

/// An integration of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulatedIntegration {
    /// The integration ID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The provider that it connects to.
    pub provider: String,
}

impl Default for SimulatedIntegration {
    /// The integration of operations and installations that name no other, `crm-sync`.
    fn default() -> Self {
        Self {
            id: INTEGRATION_ID.to_owned(),
            name: "crm-sync".to_owned(),
            provider: "salesforce".to_owned(),
        }
    }
}
