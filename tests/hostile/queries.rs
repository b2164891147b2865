//! Requests whose query parameters are too long, too many, unknown or no text.

use backfill_watch::simulator::{Simulator, SimulatorConfig};

use crate::daemon_checks::{assert_memory_is_bounded, page, until_grown_by, with_pages};
use crate::support::{DEADLINE, Daemon, Setup};

const ID: &str = "op-3600000-5000-s-1";
/// The longest body of an error. It quotes at most a part of what was sent.
const MAX_BODY: usize = 2_000;

async fn start(simulator: &Simulator) -> Daemon {
    let setup = with_pages(Setup::new(simulator)).set("poll.max_interval", "1s");
    let setup = setup
        .set("poll.initial_interval", "1s")
        .set("poll.min_interval", "1s");
    let daemon = setup.list(&[format!("{ID} group=acme")]).start();
    daemon.event("operation.started").await;
    daemon
}

/// The status and the body of an answer.
async fn answer(daemon: &Daemon, path: &str) -> (u16, String) {
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .timeout(DEADLINE);
    let url = format!("http://{}{path}", daemon.address().await);
    let answer = client.build().unwrap().get(url).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Each request gets its status with a short problem, or a list without items.
async fn assert_answers(daemon: &Daemon, cases: &[(String, u16)]) {
    for (path, expected) in cases {
        let (status, body) = answer(daemon, path).await;
        let shown: String = path.chars().take(80).collect();
        assert_eq!(status, *expected, "{shown}: {body}");
        assert!(body.len() < MAX_BODY, "{shown}: {} bytes", body.len());
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        match status {
            200 => {
                let mut lists = body
                    .as_object()
                    .unwrap()
                    .values()
                    .filter_map(|value| value.as_array());
                assert_eq!(lists.next().map(Vec::len), Some(0), "{shown}: {body}");
            }
            _ => assert_eq!(body["status"], status, "{shown}: {body}"),
        }
    }
}

#[tokio::test]
async fn parameters_that_are_wrong_or_too_many() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let daemon = start(&simulator).await;
    let mut cases = Vec::new();
    let mut add = |path: String, status| cases.push((path, status));
    for list in ["/api/operations", "/api/groups"] {
        add(format!("{list}?q={}", "a".repeat(200)), 200);
        add(format!("{list}?q={}", "a".repeat(201)), 400);
        add(format!("{list}?q={}", "a".repeat(20_000)), 400);
        // 200 characters of four bytes each, and one more.
        add(format!("{list}?q={}", "%F0%9F%98%80".repeat(200)), 200);
        add(format!("{list}?q={}", "%F0%9F%98%80".repeat(201)), 400);
        for bytes in ["%ff%fe", "%C3", "%ed%a0%80", "%00", "%1b%5b2J", "%E2%80%AE"] {
            add(format!("{list}?q={bytes}"), 200);
        }
        add(format!("{list}?project={}", "%ff".repeat(1_000)), 200);
        add(format!("{list}?{}=1", "%1b".repeat(5_000)), 400);
    }
    for list in ["/api/operations", "/api/groups", "/api/events"] {
        add(format!("{list}?{}", "limit=1&".repeat(101)), 400);
        add(format!("{list}?{}", "limit=1&".repeat(4_000)), 400);
        add(format!("{list}?{}", "&=".repeat(10_000)), 400);
        for limit in ["0", "-1", "1e3", "0x10", "%ff", "99999999999999999999", "NaN"] {
            add(format!("{list}?limit={limit}"), 400);
        }
    }
    for types in [
        "operation.unknown".to_owned(),
        "%ff".to_owned(),
        "%00".to_owned(),
        "a".repeat(20_000),
        format!("{}z", "*".repeat(10_000)),
        format!("{}z", "*a".repeat(10_000)),
        "nothing,".repeat(3_000),
    ] {
        add(format!("/api/events?type={types}"), 400);
    }
    for operation in ["x", "/x", "p/", "%ff", "%2F"] {
        add(format!("/api/events?operation={operation}"), 400);
    }
    add(
        format!("/api/events?operation=my-project/{}", "x".repeat(20_000)),
        200,
    );
    add(format!("/api/events?operation={}/{ID}", "%ff".repeat(5_000)), 200);
    for phase in ["asleep", "%ff", &"running,asleep,".repeat(1_500)] {
        add(format!("/api/operations?phase={phase}"), 400);
    }
    assert_answers(&daemon, &cases).await;
    // A head that is too large is refused before it is parsed.
    let (status, _) = answer(&daemon, &format!("/api/operations?q={}", "a".repeat(40_000))).await;
    assert_eq!(status, 431);
    // The most parameters, each with the most work.
    let labels = "label=group%3Dacme&".repeat(99);
    let found = page(&daemon, &format!("/api/operations?{labels}")).await;
    assert_eq!(found["operations"].as_array().unwrap().len(), 1);
    assert_memory_is_bounded(&daemon);
    until_grown_by("polls to continue", 2, || simulator.requests_of(ID)).await;
    daemon.stop().await;
}

#[tokio::test]
async fn cursors_that_were_not_given() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let daemon = start(&simulator).await;
    let events = page(&daemon, "/api/events").await;
    let cursor = events["next"].as_str().unwrap();
    let (start, row) = cursor.rsplit_once('-').unwrap();
    assert!(row.parse::<u64>().is_ok(), "{cursor}");
    let mut cases = Vec::new();
    for wrong in ["-1", "1.5", "99999999999999999999", "0x1", "%ff", "", "%2B1"] {
        cases.push((format!("/api/events?after={start}-{wrong}"), 400));
    }
    for wrong in [
        start,
        "-",
        &"-".repeat(20_000),
        &"%ff".repeat(5_000),
        &"9".repeat(20_000),
    ] {
        cases.push((format!("/api/events?after={wrong}"), 400));
    }
    // Of another state.
    cases.push((format!("/api/events?after={}", &cursor[1..]), 410));
    // Beyond the end of the log: of a history that this state does not have.
    for row in [row.parse::<u64>().unwrap() + 1_000, i64::MAX as u64] {
        cases.push((format!("/api/events?after={start}-{row}"), 410));
    }
    for list in ["/api/operations", "/api/groups"] {
        for wrong in [
            "%21%21",
            "YWJj",
            "%ff",
            &"A".repeat(20_000),
            "%00",
            "9223372036854775808",
        ] {
            cases.push((format!("{list}?after={wrong}"), 400));
        }
    }
    assert_answers(&daemon, &cases).await;
    let (status, _) = answer(&daemon, &format!("/api/events?after={cursor}")).await;
    assert_eq!(status, 200, "the one that was given");
    assert_memory_is_bounded(&daemon);
    daemon.stop().await;
}
