use axum::http;
use secrecy::SecretString;

use super::*;

async fn reply(status: u16, header: (&str, &str), body: &str) -> Result<Operation, ApiError> {
    let response = http::Response::builder()
        .status(status)
        .header(header.0, header.1);
    let response = Response::from(response.body(body.to_owned()).unwrap());
    let peer = Peer {
        host: "api.example.com".to_owned(),
        proxy: None,
    };
    let context = ResponseContext {
        peer: &peer,
        limit: Duration::from_secs(1),
        max_body: 1024,
        now: "2026-11-24T12:00:00Z".parse().unwrap(),
    };
    let key = ApiKey::new(SecretString::from("hunter2-hunter2"));
    ApiResponse::read(response, context, &key).await?.operation("op")
}

#[tokio::test]
async fn an_answer_that_quotes_the_key_does_not_bring_it_into_events() {
    let body = r#"{"id":"op","status":"failure","result":"the key hunter2\u002dhunter2 was refused"}"#;
    let operation = reply(200, ("content-type", "application/json"), body)
        .await
        .unwrap();
    assert_eq!(operation.result.as_deref(), Some("the key [API key] was refused"));
    for (status, header, body, words) in [
        (
            200,
            ("content-type", "text/HUNTER2-hunter2"),
            "",
            "text/[api key]",
        ),
        (
            302,
            ("location", "https://hunter2-hunter2.example.com/"),
            "",
            "[API key].example.com",
        ),
        (
            200,
            ("content-encoding", "hunter2%2Dhunter2"),
            "",
            "no content type",
        ),
        (
            200,
            ("content-type", "application/json"),
            r#""hunter2-hunter2""#,
            "[API key]",
        ),
        (
            200,
            ("content-type", "application/json"),
            r#"{"id":"hunter2\u002dhunter2","status":"x"}"#,
            "[API key]",
        ),
        (
            400,
            ("content-type", "application/json"),
            r#"{"title":"hunter2%2dhunter2"}"#,
            "[API key]",
        ),
    ] {
        let error = reply(status, header, body).await.unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains("hunter2"), "{error}");
    }
}

/// The key is longer than what is quoted of a detail.
#[tokio::test]
async fn a_key_is_removed_before_a_text_is_cut() {
    let detail = format!("{}hunter2-hunter2", "x".repeat(125));
    let body = format!(r#"{{"detail":"{detail}"}}"#);
    let error = reply(500, ("content-type", "application/json"), &body)
        .await
        .unwrap_err();
    assert!(!error.to_string().contains("hunter"), "{error}");
}
