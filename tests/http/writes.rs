//! Watches that are added and withdrawn over HTTP.

use std::fs;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::fixture::{Fixture, problem};
use crate::support::{Setup, replace_file, until_answered};

const WRITE: &str = "write-token-1";
const READ: &str = "read-token-1";
/// An operation that runs longer than any test.
const LISTED: &str = "op-3600000-5000-s-listed";
const ADDED: &str = "op-3600000-5000-s-added";

/// Two projects, a write token and, with `read`, a read token.
fn tokens(setup: Setup, has_read_token: bool) -> Setup {
    let file = |name: &str, text: &str| {
        let path = setup.folder().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (read, write) = (
        file("read-token", &format!("{READ}\n")),
        file("write-token", &format!("another\n{WRITE}\n")),
    );
    let key = file("key", "simulated-key");
    let setup = setup
        .unset("ampersand.project")
        .without("AMPERSAND_API_KEY")
        .set("ampersand.projects.0.api_key_file", &key)
        .set("ampersand.projects.1.api_key_file", &key)
        .set("ampersand.projects.0.name", "my-project")
        .set("ampersand.projects.1.name", "second-project")
        .set("http.write_token_file", &write);
    match has_read_token {
        true => setup.set("http.token_file", &read),
        false => setup,
    }
}

async fn start() -> Fixture {
    Fixture::start_with(&[LISTED], |setup| tokens(setup, false)).await
}

fn request(fixture: &Fixture, method: Method, path: &str) -> RequestBuilder {
    fixture
        .client
        .request(method, fixture.url(path))
        .bearer_auth(WRITE)
}

async fn put(fixture: &Fixture, path: &str, body: &Value) -> Response {
    let putting = request(fixture, Method::PUT, path).header("content-type", "application/json");
    putting.body(body.to_string()).send().await.unwrap()
}

async fn post(fixture: &Fixture, body: &Value) -> Response {
    let posting =
        request(fixture, Method::POST, "/api/operations").header("content-type", "application/json");
    posting.body(body.to_string()).send().await.unwrap()
}

async fn delete(fixture: &Fixture, path: &str) -> Response {
    request(fixture, Method::DELETE, path).send().await.unwrap()
}

async fn json_of(response: Response, status: u16) -> Value {
    let text = |status, body: String| format!("{status}: {body}");
    let found = response.status().as_u16();
    let body = response.text().await.unwrap();
    assert_eq!(found, status, "{}", text(found, body));
    serde_json::from_str(&body).unwrap()
}

/// The pointers of a 422.
async fn pointers(response: Response) -> Vec<String> {
    let body = json_of(response, 422).await;
    let errors = body["errors"].as_array().unwrap();
    assert!(
        errors.iter().all(|error| error["detail"].is_string()),
        "{errors:?}"
    );
    let pointers = errors
        .iter()
        .map(|error| error["pointer"].as_str().unwrap().to_owned());
    pointers.collect()
}

#[tokio::test]
async fn a_watch_is_added_replaced_and_withdrawn() {
    let fixture = start().await;
    let path = format!("/api/operations/my-project/{ADDED}");
    let added = put(
        &fixture,
        &path,
        &json!({"labels": {"customer": "Gale Ltd"}, "deadline": "2h"}),
    )
    .await;
    let added = json_of(added, 201).await;
    assert_eq!(added["operationId"], ADDED);
    assert_eq!(added["source"], "api");
    assert_eq!(added["sources"], json!(["api"]));
    assert_eq!(added["labels"], json!({"customer": "Gale Ltd"}));
    // Once it is answered, it can be found.
    let found = fixture.json(&path).await;
    assert_eq!(found["source"], "api");
    fixture.phase(ADDED, "running").await;
    let listed = fixture.json("/api/operations?label=customer=Gale%20Ltd").await;
    assert_eq!(listed["operations"][0]["source"], "api");
    assert_eq!(listed["operations"].as_array().unwrap().len(), 1);

    let again = put(&fixture, &path, &json!({"labels": {"customer": "b"}})).await;
    assert_eq!(json_of(again, 200).await["labels"], json!({"customer": "b"}));
    // Without a body, whatever the type, there are no labels.
    let bare = request(&fixture, Method::PUT, &path).send().await.unwrap();
    assert!(
        json_of(bare, 200)
            .await
            .get("labels")
            .is_none_or(|labels| labels == &json!({}))
    );

    assert_eq!(delete(&fixture, &path).await.status(), 204);
    problem(fixture.get(&path).await, 404).await;
    problem(delete(&fixture, &path).await, 404).await;
    problem(delete(&fixture, "/api/operations/my-project/never").await, 404).await;
    assert_eq!(put(&fixture, &path, &json!({})).await.status(), 201);

    let log = &fixture.daemon.log;
    let writes = log.lines(|line| line["method"].is_string() && line["address"].is_string());
    let written: Vec<String> = writes
        .iter()
        .map(|line| {
            format!(
                "{} {}",
                line["method"].as_str().unwrap(),
                line["subject"].as_str().unwrap()
            )
        })
        .collect();
    let subject = format!("my-project/{ADDED}");
    let expected = ["PUT", "PUT", "PUT", "DELETE", "PUT"].map(|method| format!("{method} {subject}"));
    assert_eq!(written, expected);
    assert!(writes[0]["address"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(!log.to_string().contains(WRITE));
}

#[tokio::test]
async fn a_watch_of_several_sources_stays_until_the_last_withdraws() {
    let fixture = start().await;
    let path = format!("/api/operations/my-project/{LISTED}");
    let refused = delete(&fixture, &path).await;
    let detail = problem(refused, 409).await;
    assert!(detail.contains("file"), "{detail}");
    let added = put(&fixture, &path, &json!({"labels": {"team": "crm"}})).await;
    let added = json_of(added, 201).await;
    assert_eq!(added["source"], "file");
    assert_eq!(added["sources"], json!(["file", "api"]));
    assert_eq!(added["labels"], json!({"team": "crm"}));
    for _ in 0..2 {
        assert_eq!(delete(&fixture, &path).await.status(), 204);
        assert_eq!(fixture.json(&path).await["sources"], json!(["file"]));
    }
    // The list withdraws it last.
    assert_eq!(put(&fixture, &path, &json!({})).await.status(), 201);
    replace_file(&fixture.daemon.list_path(), "");
    until_answered("the list has left", async || {
        let shown = fixture.json(&path).await;
        if shown["sources"] == json!(["api"]) {
            Ok(())
        } else {
            Err(shown.to_string())
        }
    })
    .await;
    assert_eq!(delete(&fixture, &path).await.status(), 204);
    problem(fixture.get(&path).await, 404).await;
}

#[tokio::test]
async fn a_batch_is_added_as_a_whole_or_not_at_all() {
    let fixture = start().await;
    let second = "op-3600000-5000-s-second";
    let batch = json!({"operations": [
        {"id": ADDED, "labels": {"customer": "acme"}},
        {"id": second, "project": "second-project"},
        {"id": ADDED, "labels": {"customer": "last"}},
    ]});
    // Of equal operations the last one applies.
    let counts = json_of(post(&fixture, &batch).await, 200).await;
    assert_eq!(counts, json!({"added": 2, "updated": 1}));
    assert_eq!(
        json_of(post(&fixture, &batch).await, 200).await,
        json!({"added": 0, "updated": 3})
    );
    assert_eq!(
        json_of(post(&fixture, &json!({"operations": []})).await, 200).await,
        json!({"added": 0, "updated": 0})
    );
    let first = fixture.json(&format!("/api/operations/my-project/{ADDED}")).await;
    assert_eq!(first["labels"], json!({"customer": "last"}));
    let path = format!("/api/operations/second%2Dproject/{second}");
    assert_eq!(fixture.json(&path).await["project"], "second-project");
    assert_eq!(delete(&fixture, &path).await.status(), 204);

    let wrong = json!({"operations": [
        {"id": "good"}, {"id": "a b"}, {"id": "c", "project": "third"}, {"id": "d", "labels": {"k": 1}},
        {"id": "e", "deadline": "soon"}, {}
    ], "more": 1});
    assert_eq!(
        pointers(post(&fixture, &wrong).await).await,
        [
            "/more",
            "/operations/1/id",
            "/operations/2/project",
            "/operations/3/labels/k",
            "/operations/4/deadline",
            "/operations/5/id"
        ]
    );
    problem(fixture.get("/api/operations/my-project/good").await, 404).await;
    let many = |count: usize| {
        let operations: Vec<Value> = (0..count)
            .map(|index| json!({"id": format!("many-{index}")}))
            .collect();
        json!({"operations": operations})
    };
    assert_eq!(
        pointers(post(&fixture, &many(1_001)).await).await,
        ["/operations"]
    );
    let counts = json_of(post(&fixture, &many(1_000)).await, 200).await;
    assert_eq!(counts, json!({"added": 1_000, "updated": 0}));
    assert_eq!(fixture.status("/api/operations/my-project/many-999").await, 200);
}

#[tokio::test]
async fn every_error_has_its_status() {
    let fixture = start().await;
    let path = format!("/api/operations/my-project/{ADDED}");
    for (path, body, expected) in [
        (
            path.as_str(),
            json!({"labels": {"a b": "x"}, "deadline": 7}),
            &["/deadline", "/labels/a b"][..],
        ),
        (
            &path,
            json!({"labels": {"k": "a\nb"}, "extra": 1}),
            &["/extra", "/labels/k"],
        ),
        ("/api/operations/my-project/a%20b", json!({}), &["/id"]),
        (
            "/api/operations/my-project/a%2Fb",
            json!({"deadline": ""}),
            &["/id", "/deadline"],
        ),
        (
            &format!("/api/operations/my-project/{}", "a".repeat(129)),
            json!({}),
            &["/id"],
        ),
    ] {
        assert_eq!(
            pointers(put(&fixture, path, &body).await).await,
            expected,
            "{path}"
        );
    }
    assert_eq!(
        pointers(delete(&fixture, "/api/operations/my-project/a%20b").await).await,
        ["/id"]
    );

    let with = |method: Method, path: &str, body: &str| {
        request(&fixture, method, path)
            .header("content-type", "application/json")
            .body(body.to_owned())
    };
    for (method, path) in [(Method::PUT, path.as_str()), (Method::POST, "/api/operations")] {
        for body in ["{", "{}{}", "\u{0}"] {
            problem(with(method.clone(), path, body).send().await.unwrap(), 400).await;
        }
        let large = format!("{{\"labels\": {{\"k\": \"{}\"}}}}", "x".repeat(1024 * 1024));
        problem(with(method.clone(), path, &large).send().await.unwrap(), 413).await;
        for content_type in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
        ] {
            let form = request(&fixture, method.clone(), path).header("content-type", content_type);
            problem(form.body("{}").send().await.unwrap(), 415).await;
        }
        let bare = request(&fixture, method.clone(), path).body("{}");
        problem(bare.send().await.unwrap(), 415).await;
    }
    // An empty batch is not JSON.
    let empty = request(&fixture, Method::POST, "/api/operations")
        .send()
        .await
        .unwrap();
    problem(empty, 400).await;
    problem(with(Method::DELETE, &path, "{}").send().await.unwrap(), 413).await;
    for method in [Method::PUT, Method::DELETE] {
        let other = format!("/api/operations/third/{ADDED}");
        let detail = problem(request(&fixture, method, &other).send().await.unwrap(), 404).await;
        assert!(detail.contains("my-project, second-project"), "{detail}");
    }
    for (method, path, allowed) in [
        (
            Method::PATCH,
            path.as_str(),
            &["GET", "HEAD", "PUT", "DELETE"][..],
        ),
        (Method::POST, &path, &["GET", "HEAD", "PUT", "DELETE"]),
        (Method::PUT, "/api/operations", &["GET", "HEAD", "POST"]),
        (Method::PUT, "/api/operations/one", &["GET", "HEAD"]),
        (Method::POST, "/livez", &["GET", "HEAD"]),
    ] {
        let refused = request(&fixture, method.clone(), path).send().await.unwrap();
        let allow = refused.headers()["allow"].to_str().unwrap().to_owned();
        let mut methods: Vec<&str> = allow.split(',').map(str::trim).collect();
        let mut allowed = allowed.to_vec();
        methods.sort_unstable();
        allowed.sort_unstable();
        assert_eq!(methods, allowed, "{method} {path}");
        problem(refused, 405).await;
    }
    // Nothing of this was added.
    assert_eq!(
        fixture.json("/api/operations").await["operations"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn access_is_checked_before_the_body_and_the_path() {
    let fixture = Fixture::start_with(&[LISTED], |setup| tokens(setup, true)).await;
    let large = "x".repeat(1024 * 1024 + 1);
    let requests = [
        (Method::PUT, format!("/api/operations/my-project/{ADDED}"), "{}"),
        (Method::PUT, "/api/operations/nowhere/a%20b".to_owned(), "{"),
        (Method::POST, "/api/operations".to_owned(), large.as_str()),
        (Method::DELETE, format!("/api/operations/my-project/{LISTED}"), ""),
    ];
    for (method, path, body) in &requests {
        let send = |authorize: &dyn Fn(RequestBuilder) -> RequestBuilder| {
            let request = fixture.client.request(method.clone(), fixture.url(path));
            authorize(request.body((*body).to_owned())).send()
        };
        for none in [
            send(&|request| request).await,
            send(&|request| request.bearer_auth("wrong")).await,
            send(&|request| request.basic_auth("anybody", Some(WRITE))).await,
            send(&|request| request.basic_auth("anybody", Some(READ))).await,
        ] {
            let none = none.unwrap();
            let challenges: Vec<_> = none.headers().get_all("www-authenticate").iter().collect();
            assert_eq!(challenges.len(), 1, "{method} {path}");
            assert!(challenges[0].to_str().unwrap().starts_with("Bearer"));
            problem(none, 401).await;
        }
        problem(send(&|request| request.bearer_auth(READ)).await.unwrap(), 403).await;
        let foreign = send(&|request| request.bearer_auth(WRITE).header("host", "example.com")).await;
        problem(foreign.unwrap(), 403).await;
    }
    // A write token reads, too.
    for token in [READ, WRITE, "another"] {
        let read = fixture
            .client
            .get(fixture.url("/api/operations"))
            .bearer_auth(token);
        assert_eq!(read.send().await.unwrap().status(), 200, "{token}");
    }
    problem(fixture.get("/api/operations").await, 401).await;
}

#[tokio::test]
async fn without_write_tokens_nothing_is_written_over_tcp() {
    for (name, value) in [("http.listen", "127.0.0.1:0"), ("http.listen", "0.0.0.0:0")] {
        let fixture = Fixture::start_with(&[LISTED], |setup| {
            let token = setup.folder().join("read-token");
            fs::write(&token, READ).unwrap();
            setup
                .set(name, value)
                .set("http.allow_unauthenticated", "true")
                .set("http.token_file", &token.display().to_string())
        })
        .await;
        for token in [None, Some(READ), Some("wrong")] {
            for (method, path) in [
                (Method::PUT, "/api/operations/my-project/a"),
                (Method::POST, "/api/operations"),
                (Method::DELETE, "/api/operations/my-project/a"),
            ] {
                let port = fixture.address.port();
                let url = format!("http://127.0.0.1:{port}{path}");
                let request = fixture.client.request(method, url);
                let request = match token {
                    Some(token) => request.bearer_auth(token),
                    None => request,
                };
                let detail = problem(request.send().await.unwrap(), 403).await;
                assert!(detail.contains("http.write_token_file"), "{detail}");
            }
        }
    }
}

#[tokio::test]
async fn tokens_are_replaced_without_a_restart_and_end_streams() {
    let fixture = Fixture::start_with(&[LISTED], |setup| tokens(setup, true)).await;
    let stream = |token: &str| {
        let url = fixture.url("/api/events/stream");
        fixture.client.get(url).bearer_auth(token).send()
    };
    let (mut removed, kept) = (stream(READ).await.unwrap(), stream(WRITE).await.unwrap());
    assert_eq!((removed.status().as_u16(), kept.status().as_u16()), (200, 200));
    let folder = fixture.daemon.setup().folder().to_owned();
    replace_file(&folder.join("read-token"), "read-token-2\n");
    replace_file(&folder.join("write-token"), &format!("{WRITE}\nwrite-token-2\n"));
    fixture.daemon.signal(&["HUP"]);
    // Snapshots come each second until the stream ends.
    while removed.chunk().await.unwrap().is_some() {}
    let path = format!("/api/operations/my-project/{ADDED}");
    let with = |token: &str| {
        fixture
            .client
            .put(fixture.url(&path))
            .bearer_auth(token.to_owned())
            .send()
    };
    assert_eq!(with("write-token-2").await.unwrap().status(), 201);
    problem(with("another").await.unwrap(), 401).await;
    problem(with(READ).await.unwrap(), 401).await;
    problem(with("read-token-2").await.unwrap(), 403).await;
    // The other stream continues.
    let mut kept = kept;
    assert!(kept.chunk().await.unwrap().is_some());
}
