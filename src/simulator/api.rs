//! The routes of the simulated API, with their access control.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::{HeaderMap, StatusCode, Uri};
use serde::Serialize;

use super::fault_injector::FaultInjector;
use super::installation::{Installation, InstallationState};
use super::lock;
use super::operation::SimulatedOperation;
use super::operations::{Operations, RunningOperation};
use super::problem::ApiProblem;
use super::server::ClientConnection;
use crate::clock;
use crate::core::operation::Operation;

/// A project and the API keys it accepts.
#[derive(Debug)]
pub(super) struct ServedProject {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) api_keys: Mutex<HashSet<String>>,
}

/// State of the request handlers.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) projects: Vec<ServedProject>,
    pub(super) operations: Operations,
    pub(super) injector: FaultInjector,
    pub(super) on_demand: bool,
}

const DEFAULT_PAGE: usize = 200;
const LARGEST_PAGE: usize = 1_000;

/// The routes, at `/` and at `/v1`.
pub(super) fn router(api: Arc<Api>) -> Router {
    let mut router = Router::new();
    // Not nested: nesting would hide `/v1` from the handlers, which redirect to the requested address.
    for base in ["", "/v1"] {
        let one = format!("{base}/projects/{{project}}/operations/{{operation}}");
        let installation = format!(
            "{base}/projects/{{project}}/integrations/{{integration}}/installations/{{installation}}"
        );
        router = router
            .route(&one, get(operation))
            .route(&format!("{one}/logs"), get(logs))
            .route(&installation, get(self::installation))
            .route(&format!("{installation}/operations"), get(list))
            .route(
                &format!("{base}/projects/{{project}}/integrations"),
                get(integrations),
            );
    }
    router.fallback(unknown).with_state(api)
}

async fn operation(
    State(api): State<Arc<Api>>,
    Path((project, id)): Path<(String, String)>,
    Extension(connection): Extension<ClientConnection>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let run = api.ask(&project, &id, &headers);
    let normal = || match run {
        Ok(run) => Json(run.now()).into_response(),
        Err(problem) => (*problem).into_response(),
    };
    api.injector.answer(&id, &uri, &connection, normal).await
}

async fn logs(
    State(api): State<Arc<Api>>,
    Path((project, id)): Path<(String, String)>,
    Extension(connection): Extension<ClientConnection>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let normal = || match api.find(&project, &id, &headers) {
        Ok(run) => Json(run.logs()).into_response(),
        Err(problem) => (*problem).into_response(),
    };
    api.injector
        .answer(&format!("{id}/logs"), &uri, &connection, normal)
        .await
}

async fn list(
    State(api): State<Arc<Api>>,
    Path((project, integration, installation)): Path<(String, String, String)>,
    Extension(connection): Extension<ClientConnection>,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let normal = || match api.page(&project, &integration, &installation, query.as_deref(), &headers) {
        Ok(page) => Json(page).into_response(),
        Err(problem) => (*problem).into_response(),
    };
    api.injector.answer("list", &uri, &connection, normal).await
}

async fn installation(
    State(api): State<Arc<Api>>,
    Path((project, integration, installation)): Path<(String, String, String)>,
    Extension(connection): Extension<ClientConnection>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let normal = || match api.installation(&project, &integration, &installation, &headers) {
        Ok(installation) => Json(installation).into_response(),
        Err(problem) => (*problem).into_response(),
    };
    api.injector
        .answer(&format!("{installation}/installation"), &uri, &connection, normal)
        .await
}

/// An empty list: clients only check whether the project exists.
async fn integrations(
    State(api): State<Arc<Api>>,
    Path(project): Path<String>,
    Extension(connection): Extension<ClientConnection>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let normal = || match api.admit(&project, &headers) {
        Ok(_) => Json(serde_json::json!([])).into_response(),
        Err(problem) => (*problem).into_response(),
    };
    api.injector
        .answer("integrations", &uri, &connection, normal)
        .await
}

async fn unknown(
    State(api): State<Arc<Api>>,
    Extension(connection): Extension<ClientConnection>,
    uri: Uri,
) -> Response {
    let normal =
        || ApiProblem::new(StatusCode::NOT_FOUND, api.injector.request_id(), clock::wall()).into_response();
    api.injector.answer("unknown", &uri, &connection, normal).await
}

/// A boxed problem, to keep results small.
type Refusal = Box<ApiProblem>;

/// One page of a list.
#[derive(Debug, Serialize)]
struct Page {
    results: Vec<Operation>,
    pagination: Pagination,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Pagination {
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

impl Api {
    /// The project with this ID or name, if the request's key has access.
    fn admit(&self, project: &str, headers: &HeaderMap) -> Result<&ServedProject, Refusal> {
        let refuse = |status| Box::new(ApiProblem::new(status, self.injector.request_id(), clock::wall()));
        let key = headers.get("x-api-key").and_then(|value| value.to_str().ok());
        let accepts = |served: &ServedProject| key.is_some_and(|key| lock(&served.api_keys).contains(key));
        if !self.projects.iter().any(accepts) {
            return Err(refuse(StatusCode::UNAUTHORIZED));
        }
        let Some(found) = self
            .projects
            .iter()
            .find(|p| p.id == project || p.name == project)
        else {
            let problem = ApiProblem::project_not_found(self.injector.request_id(), clock::wall());
            return Err(Box::new(problem));
        };
        if accepts(found) {
            Ok(found)
        } else {
            Err(refuse(StatusCode::FORBIDDEN))
        }
    }

    /// Records the request, starts the operation's clock, and returns the operation.
    fn ask(&self, project: &str, id: &str, headers: &HeaderMap) -> Result<Arc<RunningOperation>, Refusal> {
        let admitted = self.admit(project, headers);
        let make = || {
            let project = admitted.as_ref().ok().filter(|_| self.on_demand)?;
            Some(SimulatedOperation {
                project_id: project.id.clone(),
                ..SimulatedOperation::from_id(id)?
            })
        };
        // Refused requests are recorded, too: tests of schedules count every request.
        let run = self.operations.ask(id, clock::instant(), make);
        self.of_project(run, admitted?)
    }

    /// The operation, without recording a request.
    fn find(&self, project: &str, id: &str, headers: &HeaderMap) -> Result<Arc<RunningOperation>, Refusal> {
        let admitted = self.admit(project, headers)?;
        self.of_project(self.operations.get(id), admitted)
    }

    fn of_project(
        &self,
        run: Option<Arc<RunningOperation>>,
        project: &ServedProject,
    ) -> Result<Arc<RunningOperation>, Refusal> {
        run.filter(|run| run.operation.project_id == project.id)
            .ok_or_else(|| {
                Box::new(ApiProblem::operation_not_found(
                    self.injector.request_id(),
                    clock::wall(),
                ))
            })
    }

    /// An installation exists if an operation belongs to it.
    fn installation(
        &self,
        project: &str,
        integration: &str,
        installation: &str,
        headers: &HeaderMap,
    ) -> Result<Installation, Refusal> {
        let project = self.admit(project, headers)?;
        let runs = self.operations.page(0, usize::MAX, |operation| {
            operation.project_id == project.id
                && operation.integration_id == integration
                && operation.installation_id == installation
        });
        let first = runs.first().ok_or_else(|| {
            Box::new(ApiProblem::new(
                StatusCode::NOT_FOUND,
                self.injector.request_id(),
                clock::wall(),
            ))
        })?;
        let state = if runs.iter().any(|run| run.is_stalled()) {
            InstallationState::CredentialsLost
        } else {
            InstallationState::Working
        };
        Ok(Installation::new(&first.operation, state, first.created()))
    }

    fn page(
        &self,
        project: &str,
        integration: &str,
        installation: &str,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Page, Refusal> {
        let project = self.admit(project, headers)?;
        let (size, from) = page_query(query.unwrap_or_default()).map_err(|(name, value, expected)| {
            let problem =
                ApiProblem::bad_query(name, value, expected, self.injector.request_id(), clock::wall());
            Box::new(problem)
        })?;
        // One more than requested shows whether there is another page.
        let mut runs = self.operations.page(from, size + 1, |operation| {
            operation.project_id == project.id
                && operation.integration_id == integration
                && operation.installation_id == installation
        });
        let next = runs.get(size).map(|run| token(run.number));
        runs.truncate(size);
        Ok(Page {
            results: runs.iter().map(|run| run.now()).collect(),
            pagination: Pagination {
                done: next.is_none(),
                next_page_token: next,
            },
        })
    }
}

/// The page size, and the number of the first operation; or name, value and valid values of an invalid parameter.
/// Neither parameter has values that need percent-encoding.
fn page_query(query: &str) -> Result<(usize, u64), (&'static str, &str, &'static str)> {
    let (mut size, mut from) = (DEFAULT_PAGE, 0);
    for pair in query.split('&') {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("pageSize", value) => {
                size = value
                    .parse()
                    .ok()
                    .filter(|size| (1..=LARGEST_PAGE).contains(size))
                    .ok_or(("pageSize", value, "a number from 1 to 1000"))?;
            }
            ("pageToken", value) => {
                from = number(value).ok_or(("pageToken", value, "a nextPageToken of an earlier answer"))?;
            }
            _ => {}
        }
    }
    Ok((size, from))
}

/// The `nextPageToken`. It is opaque, so that no client builds its own.
fn token(number: u64) -> String {
    URL_SAFE_NO_PAD.encode(format!("from:{number}"))
}

fn number(token: &str) -> Option<u64> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    text.strip_prefix("from:")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_are_bounded() {
        assert_eq!(page_query(""), Ok((200, 0)));
        assert_eq!(page_query("pageSize=1&other=x"), Ok((1, 0)));
        assert_eq!(page_query("pageSize=1000"), Ok((1000, 0)));
        for wrong in [
            "pageSize=0",
            "pageSize=1001",
            "pageSize=",
            "pageSize=ten",
            "pageSize",
        ] {
            assert_eq!(page_query(wrong).unwrap_err().0, "pageSize", "{wrong}");
        }
    }

    #[test]
    fn page_tokens_come_back() {
        assert_eq!(page_query(&format!("pageToken={}", token(7))), Ok((200, 7)));
        assert_eq!(page_query("pageToken=7").unwrap_err().0, "pageToken");
    }
}
