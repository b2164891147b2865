//! The endpoints of the simulated API, and who may ask them.

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
use super::problem::Problem;
use super::server::Line;
use crate::clock;
use crate::core::operation::Operation;

/// A project and the API keys it accepts.
#[derive(Debug)]
pub(super) struct ServedProject {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) api_keys: Mutex<HashSet<String>>,
}

/// All that the handlers share.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) projects: Vec<ServedProject>,
    pub(super) operations: Operations,
    pub(super) stage: FaultInjector,
    pub(super) on_demand: bool,
}

const DEFAULT_PAGE: usize = 200;
const LARGEST_PAGE: usize = 1_000;

/// The routes, at `/` and at `/v1`.
pub(super) fn router(api: Arc<Api>) -> Router {
    let mut router = Router::new();
    // Not nested: nesting would hide the `/v1` from the handlers, which redirect to the address that was asked.
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
    Extension(line): Extension<Line>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let run = api.ask(&project, &id, &headers);
    let normal = || match run {
        Ok(run) => Json(run.now()).into_response(),
        Err(problem) => (*problem).into_response(),
    };
    api.stage.answer(&id, &uri, &line, normal).await
}

async fn logs(
    State(api): State<Arc<Api>>,
    Path((project, id)): Path<(String, String)>,
    Extension(line): Extension<Line>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let normal = || match api.find(&project, &id, &headers) {
        Ok(run) => Json(run.logs()).into_response(),
        Err(problem) => (*problem).into_response(),
    };
    api.stage.answer(&format!("{id}/logs"), &uri, &line, normal).await
}

async fn list(
    State(api): State<Arc<Api>>,
    Path((project, integration, installation)): Path<(String, String, String)>,
    Extension(line): Extension<Line>,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let normal = || match api.page(&project, &integration, &installation, query.as_deref(), &headers) {
        Ok(page) => Json(page).into_response(),
        Err(problem) => (*problem).into_response(),
    };
    api.stage.answer("list", &uri, &line, normal).await
}

async fn installation(
    State(api): State<Arc<Api>>,
    Path((project, integration, installation)): Path<(String, String, String)>,
    Extension(line): Extension<Line>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let normal = || match api.installation(&project, &integration, &installation, &headers) {
        Ok(installation) => Json(installation).into_response(),
        Err(problem) => (*problem).into_response(),
    };
    api.stage
        .answer(&format!("{installation}/installation"), &uri, &line, normal)
        .await
}

/// No integrations: who asks wants to know whether the project is there.
async fn integrations(
    State(api): State<Arc<Api>>,
    Path(project): Path<String>,
    Extension(line): Extension<Line>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let normal = || match api.admit(&project, &headers) {
        Ok(_) => Json(serde_json::json!([])).into_response(),
        Err(problem) => (*problem).into_response(),
    };
    api.stage.answer("integrations", &uri, &line, normal).await
}

async fn unknown(State(api): State<Arc<Api>>, Extension(line): Extension<Line>, uri: Uri) -> Response {
    let normal =
        || Problem::new(StatusCode::NOT_FOUND, api.stage.request_id(), clock::wall()).into_response();
    api.stage.answer("unknown", &uri, &line, normal).await
}

/// A problem on its way through results, which it would make large.
type Refusal = Box<Problem>;

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
    /// The project of this ID or name, if the request's key may see it.
    fn admit(&self, project: &str, headers: &HeaderMap) -> Result<&ServedProject, Refusal> {
        let refuse = |status| Box::new(Problem::new(status, self.stage.request_id(), clock::wall()));
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
            let problem = Problem::project_not_found(self.stage.request_id(), clock::wall());
            return Err(Box::new(problem));
        };
        if accepts(found) {
            Ok(found)
        } else {
            Err(refuse(StatusCode::FORBIDDEN))
        }
    }

    /// The operation, with the request noted and its clock started.
    fn ask(&self, project: &str, id: &str, headers: &HeaderMap) -> Result<Arc<RunningOperation>, Refusal> {
        let admitted = self.admit(project, headers);
        let make = || {
            let project = admitted.as_ref().ok().filter(|_| self.on_demand)?;
            Some(SimulatedOperation {
                project_id: project.id.clone(),
                ..SimulatedOperation::from_id(id)?
            })
        };
        // A request that will be refused is noted, too: tests of schedules look at every request.
        let run = self.operations.ask(id, clock::instant(), make);
        self.of_project(run, admitted?)
    }

    /// The operation as it stands.
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
                Box::new(Problem::operation_not_found(
                    self.stage.request_id(),
                    clock::wall(),
                ))
            })
    }

    /// There is an installation where an operation belongs to it.
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
            Box::new(Problem::new(
                StatusCode::NOT_FOUND,
                self.stage.request_id(),
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
        let (size, from) = page_query(query.unwrap_or_default()).map_err(|(name, value, wanted)| {
            let problem = Problem::bad_query(name, value, wanted, self.stage.request_id(), clock::wall());
            Box::new(problem)
        })?;
        // One more than asked tells whether there is another page.
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

/// The page size, and the number of the operation that the page begins with; or the name and value of the
/// parameter that is wrong, and what is wanted instead. Neither has values that need percent-encoding.
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

/// What stands in `nextPageToken`: opaque, so that no client makes its own.
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
