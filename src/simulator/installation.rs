//! The installation of simulated operations, as `GET …/installations/{id}` answers it.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::operation::SimulatedOperation;

/// The customer's token, which the API returns with each connection.
pub const CUSTOMER_TOKEN: &str = "simulated-customer-token";

/// The state of an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InstallationState {
    /// Its connection works.
    Working,
    /// The provider refuses the credentials of its connection.
    CredentialsLost,
}

/// One installation.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Installation {
    id: String,
    project_id: String,
    integration_id: String,
    health_status: &'static str,
    connection: Connection,
    create_time: Timestamp,
    created_by: &'static str,
    config: Value,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Connection {
    id: &'static str,
    project_id: String,
    provider: &'static str,
    create_time: Timestamp,
    auth_scheme: &'static str,
    status: &'static str,
    api_key: &'static str,
}

impl Installation {
    /// The installation that `operation` belongs to.
    pub(super) fn new(operation: &SimulatedOperation, state: InstallationState, created: Timestamp) -> Self {
        let (health_status, status) = match state {
            InstallationState::Working => ("healthy", "working"),
            InstallationState::CredentialsLost => ("unhealthy", "bad_credentials"),
        };
        Self {
            id: operation.installation_id.clone(),
            project_id: operation.project_id.clone(),
            integration_id: operation.integration_id.clone(),
            health_status,
            connection: Connection {
                id: "connection-1",
                project_id: operation.project_id.clone(),
                provider: "salesforce",
                create_time: created,
                auth_scheme: "apiKey",
                status,
                api_key: CUSTOMER_TOKEN,
            },
            create_time: created,
            created_by: "consumer:1",
            config: json!({"provider": "salesforce", "content": {}}),
        }
    }
}
