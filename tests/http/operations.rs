//! `/api/operations`.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::fixture::{Fixture, problem};
use crate::status::status;

fn ids(page: &Value) -> Vec<String> {
    let operations = page["operations"].as_array().unwrap();
    operations
        .iter()
        .map(|operation| operation["operationId"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn an_operation_has_the_members_of_events_and_its_polls() {
    let fixture = Fixture::start(&["op-600000-5000-s-1 customer=acme object=contact"]).await;
    let one = fixture.phase("op-600000-5000-s-1", "running").await;
    assert_eq!(one["project"], "my-project");
    assert_eq!(one["labels"]["customer"], "acme");
    assert_eq!(one["status"], "in_progress");
    assert_eq!(one["progress"]["recordsEstimatedTotal"], 5000);
    assert!(one["progress"]["percent"].as_f64().unwrap() < 100.0);
    assert!(one["sequence"].as_u64().unwrap() >= 1);
    assert!(one["polls"].as_u64().unwrap() >= 1);
    for member in ["lastPollTime", "lastAnswerTime", "nextPollTime", "observedTime"] {
        assert!(one[member].as_str().unwrap().ends_with('Z'), "{member}: {one}");
    }
    assert!(one.get("lastError").is_none(), "{one}");
    let all = fixture.json("/api/operations").await;
    assert_eq!(ids(&all), ["op-600000-5000-s-1"]);
    assert_eq!(all["next"], Value::Null);
}

#[tokio::test]
async fn pages_and_filters() {
    let lines: Vec<String> = (0..25)
        .map(|n| {
            let customer = ["acme", "globex"][n % 2];
            let fate = if n < 3 { "200-100-s" } else { "600000-5000-s" };
            format!("op-{fate}-{n:02} customer={customer} n={n}")
        })
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let fixture = Fixture::start(&lines).await;
    for n in 0..3 {
        fixture.phase(&format!("op-200-100-s-{n:02}"), "succeeded").await;
    }
    for n in 3..25 {
        fixture
            .phase(&format!("op-600000-5000-s-{n:02}"), "running")
            .await;
    }

    let mut seen = Vec::new();
    let mut path = "/api/operations?limit=10".to_owned();
    let mut pages = 0;
    loop {
        let page = fixture.json(&path).await;
        seen.extend(ids(&page));
        pages += 1;
        match page["next"].as_str() {
            Some(next) => path = format!("/api/operations?limit=10&after={next}"),
            None => break,
        }
    }
    assert_eq!((pages, seen.len()), (3, 25));
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 25);
    // A page that ends just where the list does has nothing after it.
    assert_eq!(
        fixture.json("/api/operations?limit=25").await["next"],
        Value::Null
    );

    for (query, count) in [
        ("phase=succeeded", 3),
        ("phase=running", 22),
        ("phase=running,succeeded", 25),
        ("phase=running&phase=succeeded", 25),
        ("phase=failed", 0),
        ("label=customer%3Dacme", 13),
        ("label=customer=globex", 12),
        ("label=customer", 25),
        ("label=customer=acme&label=n=4", 1),
        ("label=nothing", 0),
        ("project=my-project", 25),
        ("project=another", 0),
        ("phase=running&label=customer=acme&limit=5", 5),
        ("q=ACME", 13),
        ("q=customer%3DGlo", 12),
        ("q=%20-S-04%20", 1),
        ("q=My-Project", 25),
        ("q=CONTACT", 25),
        ("q=acme&phase=succeeded", 2),
        ("q=nothing", 0),
        ("q=", 25),
        ("limit=100000", 25),
    ] {
        let page = fixture.json(&format!("/api/operations?{query}")).await;
        assert_eq!(ids(&page).len(), count, "{query}");
    }
    for wrong in [
        "phase=asleep",
        "limit=0",
        "limit=many",
        "after=%21%21",
        "after=YWJj",
        "lable=a",
        "x",
    ] {
        problem(fixture.get(&format!("/api/operations?{wrong}")).await, 400).await;
    }
    let long = format!("/api/operations?q={}", "a".repeat(201));
    let detail = problem(fixture.get(&long).await, 400).await;
    assert!(detail.contains("200 characters"), "{detail}");
}

#[tokio::test]
async fn an_id_of_two_projects_needs_its_project() {
    let fixture = Fixture::start_with(
        &[
            "op-600000-9-s-1",
            "op-600000-9-s-1 project=other",
            "op-600000-9-s-2",
        ],
        |setup| {
            let config = setup.folder().join("config.toml");
            let key = setup.folder().join("key");
            std::fs::write(&key, "simulated-key").unwrap();
            let projects: String = ["my-project", "other"]
                .iter()
                .map(|name| format!("[[ampersand.projects]]\nname = \"{name}\"\napi_key_file = {key:?}\n"))
                .collect();
            std::fs::write(&config, projects).unwrap();
            setup
                .unset("ampersand.project")
                .arguments(&["--config", &config.display().to_string()])
        },
    )
    .await;
    let two_listed = async {
        while ids(&fixture.json("/api/operations").await).len() < 3 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::support::DEADLINE, two_listed)
        .await
        .unwrap();
    let detail = problem(fixture.get("/api/operations/op-600000-9-s-1").await, 409).await;
    assert!(
        detail.contains("my-project") && detail.contains("other"),
        "{detail}"
    );
    let of = |project: &str| format!("/api/operations/op-600000-9-s-1?project={project}");
    assert_eq!(fixture.json(&of("other")).await["project"], "other");
    let shown = status(&fixture, &["op-600000-9-s-1"]).await;
    assert_eq!(shown.status.code(), Some(2));
    let text = String::from_utf8(shown.stderr).unwrap();
    assert!(
        text.contains("--project with one of: my-project, other"),
        "{text}"
    );
    let shown = status(&fixture, &["op-600000-9-s-1", "--project", "other"]).await;
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(text.contains("Project       other\n"), "{text}");
    problem(fixture.get(&of("third")).await, 404).await;
    assert_eq!(
        fixture.json("/api/operations/op-600000-9-s-2").await["project"],
        "my-project"
    );
    problem(fixture.get("/api/operations/unknown").await, 404).await;
    problem(fixture.get("/api/operations/%ff").await, 400).await;
}
