//! Turns a [`SimulatedReply`] into what the client gets.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use hyper::body::Bytes;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::{StatusCode, Uri};

use super::chunked_body::{BodyEnd, ChunkedBody};
use super::fault::{Faults, SimulatedReply};
use super::problem::Problem;
use super::server::Line;
use super::statistics::{InFlight, Statistics};
use crate::clock;

/// What an HTTP server that can be told to fail shares between its requests.
#[derive(Debug, Default)]
pub(super) struct FaultInjector {
    pub(super) faults: Faults,
    pub(super) statistics: Arc<Statistics>,
}

impl FaultInjector {
    /// A name for the request at hand, as problem details give it.
    pub(super) fn request_id(&self) -> String {
        format!("simulated#{}", self.statistics.total())
    }

    /// Answers the request `name` of `uri` with what the faults say, or with `normal`.
    pub(super) async fn answer(
        &self,
        name: &str,
        uri: &Uri,
        line: &Line,
        normal: impl FnOnce() -> Response,
    ) -> Response {
        let in_flight = self.statistics.enter();
        let latency = self.faults.plan().latency;
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let reply = self.faults.next(name, clock::instant());
        self.statistics.count_reply(&reply);
        let response = self.play(reply, uri, line, normal, in_flight).await;
        self.statistics.count_status(response.status());
        response
    }

    async fn play(
        &self,
        reply: SimulatedReply,
        uri: &Uri,
        line: &Line,
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
                Problem::new(status, self.request_id(), clock::wall())
                    .retry_after(retry_after)
                    .into_response()
            }
            SimulatedReply::NotFound => {
                Problem::operation_not_found(self.request_id(), clock::wall()).into_response()
            }
            SimulatedReply::Reset => match line.reset().await {},
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

/// The same response, announced with its true length, and sent as `make` says.
async fn pieces(response: Response, make: impl FnOnce(Bytes) -> ChunkedBody) -> Response {
    let (mut head, body) = response.into_parts();
    let whole = collect(body).await;
    head.headers
        .insert(CONTENT_LENGTH, HeaderValue::from(whole.len()));
    Response::from_parts(head, Body::new(make(whole)))
}

async fn collect(body: Body) -> Bytes {
    // Bodies made in here are in memory already and cannot fail.
    axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default()
}

fn json(body: Body) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}
