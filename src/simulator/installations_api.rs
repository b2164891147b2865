//! The routes for installations, integrations and the progress of backfills.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use hyper::header::CONTENT_TYPE;
use hyper::{HeaderMap, Uri};
use serde::Deserialize;

use super::api::{Api, Refusal};
use super::backfill::BackfillProgress;
use super::customer_state::{InstallationPlace, NewestBackfill};
use super::installation_answer::{InstallationAnswer, integration_answer};
use super::lone_installation;
use super::problem::ApiProblem;
use super::request::RequestKind;
use super::server::ClientConnection;

/// The name of requests for the list of installations.
pub(super) const LIST: &str = "installations";

/// The routes below a project.
pub(super) fn routes(project: &str) -> Router<Arc<Api>> {
    let installation = format!("{project}/integrations/{{integration}}/installations/{{installation}}");
    Router::new()
        .route(&format!("{project}/installations"), get(installations))
        .route(&format!("{project}/integrations"), get(integrations))
        .route(&installation, get(self::installation))
        .route(
            &format!("{installation}/objects/{{object}}/backfill-progress"),
            get(backfill_progress),
        )
}

/// The query of a list of installations.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct InstallationQuery {
    group_ref: Option<String>,
}

async fn installations(
    State(api): State<Arc<Api>>,
    Path(project): Path<String>,
    Query(query): Query<InstallationQuery>,
    Extension(connection): Extension<ClientConnection>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    api.request_log.record(LIST);
    let request = RequestKind::Installations.named(LIST);
    let normal = || answer(api.installations(&project, query.group_ref.as_deref(), &headers));
    api.injector.answer(&request, &uri, &connection, normal).await
}

async fn integrations(
    State(api): State<Arc<Api>>,
    Path(project): Path<String>,
    Extension(connection): Extension<ClientConnection>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let request = RequestKind::Integrations.named("integrations");
    let normal = || match api.admit(&project, &headers) {
        Ok(project) => {
            let integrations = api.customers.integrations(&project.id);
            let answers = integrations
                .iter()
                .map(|one| integration_answer(one, &project.id));
            Json(answers.collect::<Vec<_>>()).into_response()
        }
        Err(problem) => (*problem).into_response(),
    };
    api.injector.answer(&request, &uri, &connection, normal).await
}

async fn installation(
    State(api): State<Arc<Api>>,
    Path((project, integration, installation)): Path<(String, String, String)>,
    Extension(connection): Extension<ClientConnection>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let request = RequestKind::Installation.named(format!("{installation}/installation"));
    let normal = || answer(api.installation(&project, &integration, &installation, &headers));
    api.injector.answer(&request, &uri, &connection, normal).await
}

async fn backfill_progress(
    State(api): State<Arc<Api>>,
    Path((project, integration, installation, object)): Path<(String, String, String, String)>,
    Extension(connection): Extension<ClientConnection>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let name = RequestKind::backfill_progress(&installation, &object);
    let request = RequestKind::BackfillProgress.named(name);
    if api.customers.has_known(&installation) {
        api.request_log.record(&request.name);
    }
    let normal = || match api.progress(&project, &integration, &installation, &object, &headers) {
        Ok(progress) => Json(progress).into_response(),
        Err(problem) => (*problem).into_response(),
    };
    api.injector.answer(&request, &uri, &connection, normal).await
}

/// An answer of this JSON, or the refusal.
fn answer(body: Result<Vec<u8>, Refusal>) -> Response {
    match body {
        Ok(body) => ([(CONTENT_TYPE, "application/json")], body).into_response(),
        Err(problem) => (*problem).into_response(),
    }
}

impl Api {
    /// The installations of a project and group, as JSON.
    fn installations(
        &self,
        project: &str,
        group: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Vec<u8>, Refusal> {
        let project = self.admit(project, headers)?;
        let mut list = JsonList::default();
        self.customers.for_each(&project.id, group, |one| list.push(&one));
        if group.is_none() {
            for lone in lone_installation::of_project(&self.operations, &self.customers, &project.id) {
                list.push(&lone.answer());
            }
        }
        Ok(list.end())
    }

    fn installation(
        &self,
        project: &str,
        integration: &str,
        installation: &str,
        headers: &HeaderMap,
    ) -> Result<Vec<u8>, Refusal> {
        let place = InstallationPlace {
            project_id: &self.admit(project, headers)?.id,
            integration,
            installation,
        };
        let found = self.customers.installation(place).or_else(|| {
            let lone = lone_installation::at(&self.operations, &self.customers, place)?;
            serde_json::to_vec(&lone.answer()).ok()
        });
        found.ok_or_else(|| self.refusal(ApiProblem::installation_not_found))
    }

    fn progress(
        &self,
        project: &str,
        integration: &str,
        installation: &str,
        object: &str,
        headers: &HeaderMap,
    ) -> Result<BackfillProgress, Refusal> {
        let place = InstallationPlace {
            project_id: &self.admit(project, headers)?.id,
            integration,
            installation,
        };
        let newest = match self.customers.newest(place, object) {
            NewestBackfill::Found(run) => Some(run),
            NewestBackfill::None => None,
            NewestBackfill::UnknownInstallation => {
                let lone = lone_installation::at(&self.operations, &self.customers, place);
                let lone = lone.ok_or_else(|| self.refusal(ApiProblem::installation_not_found))?;
                lone.newest(object)
            }
        };
        newest
            .map(|run| BackfillProgress::of(&run))
            .ok_or_else(|| self.refusal(ApiProblem::backfill_not_found))
    }
}

/// A JSON array that is written element by element, since a list can have many.
#[derive(Debug, Default)]
struct JsonList(Vec<u8>);

impl JsonList {
    fn push(&mut self, element: &InstallationAnswer<'_>) {
        let length = self.0.len();
        self.0.push(if length == 0 { b'[' } else { b',' });
        if serde_json::to_writer(&mut self.0, element).is_err() {
            self.0.truncate(length);
        }
    }

    fn end(mut self) -> Vec<u8> {
        if self.0.is_empty() {
            self.0.push(b'[');
        }
        self.0.push(b']');
        self.0
    }
}
