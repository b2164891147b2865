//! Answers requests with the configured faults.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use hyper::body::Bytes;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::{StatusCode, Uri};

use super::chunked_body::{BodyEnd, ChunkedBody};
use super::fault::Faults;
use super::problem::ApiProblem;
use super::reply::SimulatedReply;
use super::request::RequestName;
use super::server::ClientConnection;
use super::statistics::{InFlight, RequestStatistics};
use crate::clock;

/// The faults and statistics of a simulated server.
#[derive(Debug, Default)]
pub(super) struct FaultInjector {
    pub(super) faults: Faults,
    pub(super) statistics: RequestStatistics,
}

impl FaultInjector {
    /// The request ID for problem details.
    pub(super) fn request_id(&self) -> String {
        format!("simulated#{}", self.statistics.total())
    }

    /// Answers the request for `uri` with the next fault, or with `normal`.
    pub(super) async fn answer(
        &self,
        request: &RequestName,
        uri: &Uri,
        connection: &ClientConnection,
        normal: impl FnOnce() -> Response,
    ) -> Response {
        let counters = self.statistics.counters(request.kind);
        let in_flight = counters.enter();
        let latency = self.faults.plan_of(request.kind).latency;
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let reply = self.faults.next(request, clock::instant());
        counters.count_reply(&reply);
        let response = self.play(reply, uri, connection, normal, in_flight).await;
        counters.count_status(response.status());
        response
    }

    async fn play(
        &self,
        reply: SimulatedReply,
        uri: &Uri,
        connection: &ClientConnection,
        normal: impl FnOnce() -> Response,
        in_flight: InFlight,
    ) -> Response {
        match reply {
            SimulatedReply::Normal => normal(),
            SimulatedReply::Late(wait) => {
                tokio::time::sleep(wait).await;
                normal()
            }
            SimulatedReply::Status(status, retry_after) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                ApiProblem::new(status, self.request_id(), clock::wall())
                    .retry_after(retry_after)
                    .into_response()
            }
            SimulatedReply::NotFound => {
                ApiProblem::operation_not_found(self.request_id(), clock::wall()).into_response()
            }
            SimulatedReply::Reset => match connection.reset().await {},
            SimulatedReply::Hang => std::future::pending().await,
            SimulatedReply::Slow(pause) => {
                pieces(normal(), |whole| {
                    ChunkedBody::new(whole, 1, pause, BodyEnd::Complete, in_flight)
                })
                .await
            }
            SimulatedReply::Truncated => {
                pieces(normal(), |whole| {
                    let half = whole.slice(..whole.len() / 2);
                    let piece = half.len();
                    ChunkedBody::new(half, piece, Duration::ZERO, BodyEnd::BreaksOff, in_flight)
                })
                .await
            }
            SimulatedReply::Garbage => json(Body::from(&b"\x00\x01<<< not JSON >>>\xff"[..])),
            SimulatedReply::Html => {
                axum::response::Html("<html><body>Please sign in</body></html>").into_response()
            }
            SimulatedReply::Huge(bytes) => {
                let (mut head, body) = normal().into_parts();
                let mut body = collect(body).await.to_vec();
                body.resize(body.len().saturating_add(bytes), b' ');
                head.headers.remove(CONTENT_LENGTH);
                Response::from_parts(head, Body::from(body))
            }
            SimulatedReply::Body(body) => json(Body::from(body)),
            SimulatedReply::Altered(alteration) => {
                let (mut head, body) = normal().into_parts();
                let body = alteration.apply(&collect(body).await);
                head.headers.remove(CONTENT_LENGTH);
                Response::from_parts(head, Body::from(body))
            }
            SimulatedReply::Endless => {
                let page = Bytes::from(vec![b' '; 16 << 10]);
                let length = page.len();
                json(Body::new(ChunkedBody::new(
                    page,
                    length,
                    Duration::ZERO,
                    BodyEnd::Repeats,
                    in_flight,
                )))
            }
            SimulatedReply::Redirect(location) => {
                let location = location.unwrap_or_else(|| uri.to_string());
                match HeaderValue::from_str(&location) {
                    Ok(value) => (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, value)]).into_response(),
                    Err(_) => StatusCode::TEMPORARY_REDIRECT.into_response(),
                }
            }
        }
    }
}

/// Replaces the body with the one that `make` returns, and keeps the original `Content-Length`.
async fn pieces(response: Response, make: impl FnOnce(Bytes) -> ChunkedBody) -> Response {
    let (mut head, body) = response.into_parts();
    let whole = collect(body).await;
    head.headers
        .insert(CONTENT_LENGTH, HeaderValue::from(whole.len()));
    Response::from_parts(head, Body::new(make(whole)))
}

async fn collect(body: Body) -> Bytes {
    // These bodies are in memory and cannot fail.
    axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default()
}

fn json(body: Body) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}
