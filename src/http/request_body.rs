//! Request bodies: JSON, bounded in size and time.

use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use futures_util::StreamExt as _;

use super::problem::Problem;
use crate::error::chain;

/// The largest body, in bytes.
const MAX: usize = 1024 * 1024;
/// The time limit for all of it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Whether a request has a body.
pub(super) fn has_body(headers: &HeaderMap) -> bool {
    let is_empty = |length: &HeaderValue| length.as_bytes() == b"0";
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers
            .get_all(header::CONTENT_LENGTH)
            .iter()
            .any(|length| !is_empty(length))
}

/// A body where there must be none.
pub(super) fn unexpected() -> Problem {
    let detail = "requests here have no body; leave it out";
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

/// Reads a body of JSON; empty without a body. What the headers show is refused before anything is read.
pub(super) async fn read_json(request: Request) -> Result<Vec<u8>, Problem> {
    if !has_body(request.headers()) {
        return Ok(Vec::new());
    }
    let length = check_headers(request.headers())?;
    let mut body = Vec::with_capacity(length);
    let mut chunks = request.into_body().into_data_stream();
    let reading = async {
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| {
                Problem::bad_request(format!("the body cannot be read: {}", chain(&error)))
            })?;
            if body.len() + chunk.len() > MAX {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(())
    };
    match tokio::time::timeout(TIMEOUT, reading).await {
        Ok(read) => read.map(|()| body),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body did not arrive within {} s", TIMEOUT.as_secs()),
        )),
    }
}

/// The length of the body as far as it is known, if the body may be read.
fn check_headers(headers: &HeaderMap) -> Result<usize, Problem> {
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let length = usize::try_from(length.unwrap_or(0)).unwrap_or(usize::MAX);
    if length > MAX {
        return Err(too_large());
    }
    if !is_json(headers) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send the body as `Content-Type: application/json`, without a content coding",
        ));
    }
    Ok(length)
}

fn too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "the body has more than 1 MiB; send fewer operations at a time",
    )
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(media_type), None) = (types.next(), types.next()) else {
        return false;
    };
    let media_type = media_type.to_str().unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let is_plain = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"identity");
    essence.eq_ignore_ascii_case("application/json")
        && headers.get_all(header::CONTENT_ENCODING).iter().all(is_plain)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::response::IntoResponse as _;

    use super::*;

    async fn read(headers: &[(&str, &str)], body: Body) -> Result<usize, u16> {
        let request = Request::put("/");
        let request = headers
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, *value));
        match read_json(request.body(body).unwrap()).await {
            Ok(body) => Ok(body.len()),
            Err(problem) => Err(problem.into_response().status().as_u16()),
        }
    }

    const JSON: (&str, &str) = ("content-type", "application/json");
    const CHUNKED: (&str, &str) = ("transfer-encoding", "chunked");

    #[tokio::test]
    async fn a_body_is_json_of_at_most_a_mebibyte() {
        assert_eq!(read(&[], Body::empty()).await, Ok(0));
        assert_eq!(read(&[("content-length", "0")], Body::empty()).await, Ok(0));
        for (name, value) in [
            JSON,
            ("content-type", "Application/JSON; charset=utf-8"),
            ("Content-Type", "application/json;"),
        ] {
            let headers = [(name, value), ("content-length", "2")];
            assert_eq!(read(&headers, Body::from("{}")).await, Ok(2), "{value}");
        }
        for wrong in [
            &[("content-length", "2")][..],
            &[("content-length", "2"), ("content-type", "text/plain")],
            &[("content-length", "2"), ("content-type", "application/jsonx")],
            &[("content-length", "2"), JSON, JSON],
            &[("content-length", "2"), JSON, ("content-encoding", "gzip")],
        ] {
            assert_eq!(read(wrong, Body::from("{}")).await, Err(415), "{wrong:?}");
        }
        for (length, result) in [(MAX, Ok(MAX)), (MAX + 1, Err(413))] {
            let text = length.to_string();
            let known = [("content-length", text.as_str()), JSON];
            assert_eq!(read(&known, Body::from(vec![b' '; length])).await, result);
            let chunked = [CHUNKED, JSON];
            assert_eq!(read(&chunked, Body::from(vec![b' '; length])).await, result);
        }
        let huge = [("content-length", "99999999999999999999"), JSON];
        assert_eq!(read(&huge, Body::empty()).await, Ok(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_arrives_in_ten_seconds() {
        let slow = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, std::io::Error>("{"), ()))
        });
        assert_eq!(read(&[CHUNKED, JSON], Body::from_stream(slow)).await, Err(408));
        let broken = futures_util::stream::iter([Ok("{"), Err(std::io::Error::other("reset"))]);
        assert_eq!(read(&[CHUNKED, JSON], Body::from_stream(broken)).await, Err(400));
    }
}
