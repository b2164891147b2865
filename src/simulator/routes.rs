//! All routes of the simulated API.

use std::sync::Arc;

use axum::Router;

use super::api::{self, Api};
use super::installations_api;

/// The routes, at `/` and at `/v1`.
pub(super) fn router(api: Arc<Api>) -> Router {
    let mut router = Router::new();
    // Not nested: nesting would hide `/v1` from the handlers, which redirect to the requested address.
    for base in ["", "/v1"] {
        let project = format!("{base}/projects/{{project}}");
        router = router
            .merge(api::routes(&project))
            .merge(installations_api::routes(&project));
    }
    router.fallback(api::unknown).with_state(api)
}
