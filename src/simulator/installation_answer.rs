//! Installations and integrations as the API answers them, with the customer's secrets.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::installation::{
    BackfillPeriod, CUSTOMER_TOKEN, InstallationStatus, SimulatedAuthentication, SimulatedGroup,
    SimulatedInstallation, SimulatedIntegration, SimulatedObject,
};
use super::operation::{CONFIG_ID, later};

const REVISION_ID: &str = "0f4d2a6c-5b1e-4c3d-9e8f-7a6b5c4d3e2f";
const CREATED_BY: &str = "consumer:user-1";
/// How long an access token is valid.
const TOKEN_LIFE: Duration = Duration::from_secs(7_200);

/// One installation.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InstallationAnswer<'a> {
    id: &'a str,
    project_id: &'a str,
    integration_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<GroupAnswer<'a>>,
    health_status: &'static str,
    connection: ConnectionAnswer<'a>,
    create_time: Timestamp,
    created_by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    update_time: Option<Timestamp>,
    config: ConfigAnswer<'a>,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupAnswer<'a> {
    group_ref: &'a str,
    group_name: &'a str,
    project_id: &'a str,
    create_time: Timestamp,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ConnectionAnswer<'a> {
    id: &'static str,
    project_id: &'a str,
    provider: &'a str,
    group: GroupAnswer<'a>,
    consumer: ConsumerAnswer<'a>,
    create_time: Timestamp,
    auth_scheme: &'static str,
    status: &'static str,
    #[serde(flatten)]
    secrets: ConnectionSecrets,
    provider_metadata: Value,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ConsumerAnswer<'a> {
    consumer_ref: &'static str,
    consumer_name: &'static str,
    project_id: &'a str,
    create_time: Timestamp,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum ConnectionSecrets {
    Oauth2AuthorizationCode(OAuth2Tokens),
    ApiKey(&'static str),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OAuth2Tokens {
    access_token: Token,
    refresh_token: Token,
    scopes: [&'static str; 2],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    token: String,
    issued_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfigAnswer<'a> {
    id: &'static str,
    revision_id: &'static str,
    create_time: Timestamp,
    created_by: &'static str,
    content: ContentAnswer<'a>,
}

#[derive(Debug, Serialize)]
struct ContentAnswer<'a> {
    provider: &'a str,
    read: ReadAnswer<'a>,
}

#[derive(Debug, Serialize)]
struct ReadAnswer<'a> {
    objects: BTreeMap<&'a str, ObjectAnswer<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectAnswer<'a> {
    object_name: &'a str,
    schedule: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    disabled: bool,
    destination: &'static str,
    selected_fields: BTreeMap<&'static str, bool>,
    selected_field_mappings: BTreeMap<&'static str, &'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backfill: Option<BackfillAnswer>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BackfillAnswer {
    default_period: PeriodAnswer,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum PeriodAnswer {
    Days(u32),
    FullHistory(bool),
}

impl<'a> InstallationAnswer<'a> {
    /// The installation, whose `project` is the ID of its project.
    pub(super) fn new(
        plan: &'a SimulatedInstallation,
        status: InstallationStatus,
        created: Timestamp,
        updated: Option<Timestamp>,
    ) -> Self {
        let group = plan
            .group
            .as_ref()
            .map(|group| GroupAnswer::new(group, &plan.project, created));
        let health_status = match status {
            InstallationStatus::Created | InstallationStatus::Working => "healthy",
            InstallationStatus::Unhealthy | InstallationStatus::BadCredentials => "unhealthy",
        };
        Self {
            id: &plan.id,
            project_id: &plan.project,
            integration_id: &plan.integration_id,
            group,
            health_status,
            connection: ConnectionAnswer::new(plan, group, status, created),
            create_time: created,
            created_by: CREATED_BY,
            update_time: updated,
            config: ConfigAnswer {
                id: CONFIG_ID,
                revision_id: REVISION_ID,
                create_time: created,
                created_by: CREATED_BY,
                content: ContentAnswer {
                    provider: &plan.provider,
                    read: ReadAnswer {
                        objects: plan
                            .objects
                            .iter()
                            .map(|object| (object.name.as_str(), ObjectAnswer::new(object)))
                            .collect(),
                    },
                },
            },
        }
    }
}

impl<'a> GroupAnswer<'a> {
    fn new(group: &'a SimulatedGroup, project_id: &'a str, create_time: Timestamp) -> Self {
        Self {
            group_ref: &group.reference,
            group_name: &group.name,
            project_id,
            create_time,
        }
    }
}

impl<'a> ConnectionAnswer<'a> {
    fn new(
        plan: &'a SimulatedInstallation,
        group: Option<GroupAnswer<'a>>,
        status: InstallationStatus,
        created: Timestamp,
    ) -> Self {
        // A connection always has a group.
        let group = group.unwrap_or(GroupAnswer {
            group_ref: &plan.id,
            group_name: &plan.id,
            project_id: &plan.project,
            create_time: created,
        });
        let (auth_scheme, secrets) = match plan.authentication {
            SimulatedAuthentication::OAuth2 => (
                "oauth2/authorizationCode",
                ConnectionSecrets::Oauth2AuthorizationCode(OAuth2Tokens {
                    access_token: Token {
                        token: format!("{CUSTOMER_TOKEN}.access"),
                        issued_at: created,
                        expires_at: Some(later(created, TOKEN_LIFE)),
                    },
                    refresh_token: Token {
                        token: format!("{CUSTOMER_TOKEN}.refresh"),
                        issued_at: created,
                        expires_at: None,
                    },
                    scopes: ["api", "offline_access"],
                }),
            ),
            SimulatedAuthentication::ApiKey => ("apiKey", ConnectionSecrets::ApiKey(CUSTOMER_TOKEN)),
        };
        Self {
            id: "5d1c8a3e-9b7f-4e2d-8c6a-1f0e9d8c7b6a",
            project_id: &plan.project,
            provider: &plan.provider,
            group,
            consumer: ConsumerAnswer {
                consumer_ref: "user-1",
                consumer_name: "A user of the customer",
                project_id: &plan.project,
                create_time: created,
            },
            create_time: created,
            auth_scheme,
            status: match status {
                InstallationStatus::Created => "created",
                InstallationStatus::Working | InstallationStatus::Unhealthy => "working",
                InstallationStatus::BadCredentials => "bad_credentials",
            },
            secrets,
            provider_metadata: json!({
                "sessionToken": {"value": CUSTOMER_TOKEN, "source": "token", "displayName": "Session"}
            }),
        }
    }
}

impl<'a> ObjectAnswer<'a> {
    fn new(object: &'a SimulatedObject) -> Self {
        let period = match object.period {
            BackfillPeriod::FullHistory => Some(PeriodAnswer::FullHistory(true)),
            BackfillPeriod::Days(days) => Some(PeriodAnswer::Days(days)),
            BackfillPeriod::Absent => None,
        };
        Self {
            object_name: &object.name,
            schedule: "*/15 * * * *",
            disabled: object.is_disabled,
            destination: "records",
            selected_fields: BTreeMap::from([("id", true), ("name", true)]),
            selected_field_mappings: BTreeMap::from([("displayName", "name")]),
            backfill: period.map(|default_period| BackfillAnswer { default_period }),
        }
    }
}

/// An integration, with its required members.
pub(super) fn integration_answer(integration: &SimulatedIntegration, project_id: &str) -> Value {
    let SimulatedIntegration { id, name, provider } = integration;
    let created = "2026-01-15T10:30:00Z";
    json!({
        "id": id, "projectId": project_id, "name": name, "provider": provider, "createTime": created,
        "latestRevision": {
            "id": REVISION_ID, "specVersion": "1.0.0", "createTime": created,
            "content": {"name": name, "provider": provider},
        },
    })
}
