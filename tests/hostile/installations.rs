//! Installations and backfills that cannot be used, read by the command `discover`.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse as _;
use backfill_watch::simulator::CUSTOMER_TOKEN;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{Setup, text};

/// Serves what `answer` makes of each path, percent-encoded as it is. Returns the base URL and the requested paths.
async fn serve(answer: fn(&str) -> Option<Value>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let paths = Arc::<Mutex<Vec<String>>>::default();
    let noted = Arc::clone(&paths);
    let app = Router::new().fallback(move |uri: Uri| {
        noted.lock().unwrap().push(uri.path().to_owned());
        let answered = answer(uri.path());
        async move {
            match answered {
                Some(body) => axum::Json(body).into_response(),
                None => (StatusCode::NOT_FOUND, axum::Json(json!({"title": "Not Found"}))).into_response(),
            }
        }
    });
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, paths)
}

fn installation(id: &str, group: &str, objects: &[&str]) -> Value {
    let settings = json!({"backfill": {"defaultPeriod": {"fullHistory": true}}, "apiKey": CUSTOMER_TOKEN});
    let objects: serde_json::Map<_, _> = objects
        .iter()
        .map(|name| ((*name).to_owned(), settings.clone()))
        .collect();
    json!({
        "id": id, "integrationId": "g", "group": {"groupRef": group},
        "connection": {"apiKey": CUSTOMER_TOKEN, "status": "working"},
        "config": {"content": {"read": {"objects": objects}}},
    })
}

fn answer(path: &str) -> Option<Value> {
    let long = "x".repeat(10_000);
    if path.ends_with("/installations") {
        return Some(json!([
            installation("a", "one\u{202e}\u{1b}[2J", &["a/b", "..", "c\n.", &long]),
            installation("b", "two", &["d"]),
            installation("..", "three", &["e"]),
            installation(&long, "four", &["e"]),
            {"id": CUSTOMER_TOKEN},
            CUSTOMER_TOKEN,
        ]));
    }
    if path.ends_with("/integrations") {
        return Some(json!([{"id": "g", "name": "read"}]));
    }
    // Both installations name the same operation, the second one that of the first.
    let now = backfill_watch::clock::wall().to_string();
    path.ends_with("/backfill-progress")
        .then(|| json!({"operationId": "op-1", "createTime": now, "apiKey": CUSTOMER_TOKEN}))
}

#[tokio::test]
async fn names_that_are_no_part_of_a_url_and_an_operation_that_all_name() {
    let (url, paths) = serve(answer).await;
    let setup = Setup::polling(&url).set("discover.0.project", "my-project");
    let output = setup.run_with("discover", &["--output", "json"]).await;
    let printed = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{printed}");
    assert!(
        printed.contains("6 installations or objects cannot be used"),
        "{printed}"
    );
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let verdicts: Vec<&str> = rows.iter().map(|row| row["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == "new").count(), 1);
    assert_eq!(
        verdicts.iter().filter(|verdict| **verdict == "duplicate").count(),
        2
    );
    let mut paths = paths.lock().unwrap().clone();
    paths.retain(|path| path.contains("/objects/"));
    paths.sort_unstable();
    let of = |installation: &str, object: &str| {
        format!(
            "/v1/projects/my-project/integrations/g/installations/{installation}/objects/{object}/backfill-progress"
        )
    };
    assert_eq!(paths, [of("a", "a%2Fb"), of("a", "c%0A."), of("b", "d")]);

    let output = setup.run("discover").await;
    let table = text(&output.stdout);
    assert!(
        !table.contains('\u{1b}') && !table.contains('\u{202e}'),
        "{table:?}"
    );
    for printed in [&table, &printed, &text(&output.stderr)] {
        assert!(!printed.contains(CUSTOMER_TOKEN), "{printed}");
    }
}
