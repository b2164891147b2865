//! `/api/groups`, and the filter `group` of `/api/operations`.

use serde_json::{Value, json};

use crate::fixture::{Fixture, problem};
use crate::support::until_answered;

fn names(page: &Value) -> Vec<&str> {
    let groups = page["groups"].as_array().unwrap();
    groups
        .iter()
        .map(|group| group["group"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn groups_have_pages_filters_and_progress() {
    let fixture = Fixture::start_with(
        &[
            "op-200-100-s-1 customer=Acme",
            "op-200-100-f-2 customer=Bolt",
            "op-600000-5000-s-3 customer=Acme2",
            "op-200-100-s-4 customer=Acme2",
            "op-200-100-s-5",
        ],
        |setup| setup.set("groups.by", "customer").set("groups.settle", "100ms"),
    )
    .await;
    let outcomes = json!(["succeeded", "running", "failed"]);
    let page = until_answered("two groups are complete", async || {
        let page = fixture.json("/api/groups").await;
        let groups = page["groups"].as_array().unwrap();
        let found: Value = groups.iter().map(|group| group["outcome"].clone()).collect();
        let phases = groups
            .iter()
            .map(|group| group["phases"].clone())
            .collect::<Value>();
        if found == outcomes && phases[1]["running"] == 1 && phases[1]["succeeded"] == 1 {
            Ok(page)
        } else {
            Err(page.to_string())
        }
    })
    .await;
    assert_eq!(names(&page), ["Acme", "Acme2", "Bolt"]);
    assert_eq!(page["next"], Value::Null);
    let groups = &page["groups"];
    assert_eq!(groups[0]["label"], "customer");
    assert_eq!(
        (&groups[0]["round"], &groups[0]["operationCount"]),
        (&json!(1), &json!(1))
    );
    let progress = &groups[1]["progress"];
    assert_eq!(progress["operationCount"], 2);
    assert!(progress["percent"].as_f64().unwrap() < 50.0, "{progress}");
    assert!(progress["startTime"].is_string());

    let first = fixture.json("/api/groups?limit=2").await;
    assert_eq!(names(&first), ["Acme", "Acme2"]);
    let next = first["next"].as_str().unwrap();
    let second = fixture.json(&format!("/api/groups?limit=2&after={next}")).await;
    assert_eq!((names(&second), &second["next"]), (vec!["Bolt"], &Value::Null));
    for (query, expected) in [
        ("q=acme", vec!["Acme", "Acme2"]),
        ("outcome=failed,running", vec!["Acme2", "Bolt"]),
        ("project=another", vec![]),
        ("project=my-project&q=OLT", vec!["Bolt"]),
    ] {
        let page = fixture.json(&format!("/api/groups?{query}")).await;
        assert_eq!(names(&page), expected, "{query}");
    }
    for wrong in ["outcome=complete", "limit=0", "after=%21%21", "group=acme"] {
        problem(fixture.get(&format!("/api/groups?{wrong}")).await, 400).await;
    }

    for (query, count) in [
        ("group=Acme2", 2),
        ("group=Acme&group=Bolt", 2),
        ("group=nobody", 0),
        ("group=", 5),
    ] {
        let page = fixture.json(&format!("/api/operations?{query}")).await;
        assert_eq!(page["operations"].as_array().unwrap().len(), count, "{query}");
    }
    let metrics = fixture.text("/metrics").await;
    for outcome in ["running", "succeeded", "failed"] {
        let line = format!("backfill_watch_groups{{outcome=\"{outcome}\"}} 1");
        assert!(metrics.contains(&line), "{line}");
    }
}
