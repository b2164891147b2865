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
use jiff::Timestamp;
use serde::Serialize;

use super::customers::Customers;
use super::fault_injector::FaultInjector;
use super::lock;
use super::operation::SimulatedOperation;
use super::operations::{Operations, RunningOperation};
use super::problem::ApiProblem;
use super::request::RequestKind;
use super::request_log::RequestLog;
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
    pub(super) customers: Customers,
    pub(super) request_log: RequestLog,
    pub(super) injector: FaultInjector,
    pub(super) on_demand: bool,
}

const DEFAULT_PAGE: usize = 200;
const LARGEST_PAGE: usize = 1_000;

/// The routes below a project.
pub(super) fn routes(project: &str) -> Router<Arc<Api>> {
    let operation = format!("{project}/operations/{{operation}}");
    let installation = format!("{project}/integrations/{{integration}}/installations/{{installation}}");
    Router::new()
        .route(&operation, get(self::operation))
        .route(&format!("{operation}/logs"), get(logs))
        .route(&format!("{installation}/operations"), get(list))
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
    let request = RequestKind::Operation.named(id);
    api.injector.answer(&request, &uri, &connection, normal).await
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
    let request = RequestKind::Logs.named(format!("{id}/logs"));
    api.injector.answer(&request, &uri, &connection, normal).await
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
    let request = RequestKind::Operations.named("list");
    api.injector.answer(&request, &uri, &connection, normal).await
}

/// Answers any other request.
pub(super) async fn unknown(
    State(api): State<Arc<Api>>,
    Extension(connection): Extension<ClientConnection>,
    uri: Uri,
) -> Response {
    let normal =
        || ApiProblem::new(StatusCode::NOT_FOUND, api.injector.request_id(), clock::wall()).into_response();
    let request = RequestKind::Unknown.named("unknown");
    api.injector.answer(&request, &uri, &connection, normal).await
}

/// A boxed problem, to keep results small.
pub(super) type Refusal = Box<ApiProblem>;

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
    /// The project with this ID or name.
    pub(super) fn project(&self, project: &str) -> Option<&ServedProject> {
        self.projects
            .iter()
            .find(|served| served.id == project || served.name == project)
    }

    /// The project with this ID or name, if the request's key has access. First makes the changes that are due.
    pub(super) fn admit(&self, project: &str, headers: &HeaderMap) -> Result<&ServedProject, Refusal> {
        self.customers.advance(&self.operations);
        let refuse = |status| Box::new(ApiProblem::new(status, self.injector.request_id(), clock::wall()));
        let key = headers.get("x-api-key").and_then(|value| value.to_str().ok());
        let accepts = |served: &ServedProject| key.is_some_and(|key| lock(&served.api_keys).contains(key));
        if !self.projects.iter().any(accepts) {
            return Err(refuse(StatusCode::UNAUTHORIZED));
        }
        let Some(found) = self.project(project) else {
            return Err(self.refusal(ApiProblem::project_not_found));
        };
        if accepts(found) {
            Ok(found)
        } else {
            Err(refuse(StatusCode::FORBIDDEN))
        }
    }

    /// A refusal for this request, now.
    pub(super) fn refusal(&self, problem: fn(String, Timestamp) -> ApiProblem) -> Refusal {
        Box::new(problem(self.injector.request_id(), clock::wall()))
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
            .ok_or_else(|| self.refusal(ApiProblem::operation_not_found))
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
        let mut runs = self.operations.page(from, size + 1, |run| {
            let operation = &run.operation;
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
