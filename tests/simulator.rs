//! The simulated API and the simulated receiver over HTTP.
#![expect(
    clippy::unwrap_used,
    reason = "a panic is how the helpers of a test report that it failed"
)]

#[path = "simulator/command.rs"]
mod command;
#[path = "simulator/customers.rs"]
mod customers;

use std::time::Duration;

use backfill_watch::clock;
use backfill_watch::simulator::{
    CUSTOMER_TOKEN, CountCurve, FaultPlan, INSTALLATION_ID, INTEGRATION_ID, MissingFor, Receiver,
    ReceiverConfig, RequestCounts, RetryAfter, SimulatedEstimate, SimulatedOperation, SimulatedProject,
    SimulatedReply, Simulator, SimulatorConfig, VerificationError,
};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::Value;

const LONG: Duration = Duration::from_secs(3_600);

fn client() -> Client {
    Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(20))
        .build()
        .unwrap()
}

struct Fixture {
    simulator: Simulator,
    client: Client,
}

impl Fixture {
    async fn start() -> Self {
        Self::start_with(SimulatorConfig::default()).await
    }

    async fn start_with(config: SimulatorConfig) -> Self {
        Self {
            simulator: Simulator::start(config).await.unwrap(),
            client: client(),
        }
    }

    async fn send(&self, path: &str, key: Option<&str>) -> reqwest::Result<Response> {
        let request = self.client.get(format!("{}{path}", self.simulator.base_url()));
        match key {
            Some(key) => request.header("X-Api-Key", key),
            None => request,
        }
        .send()
        .await
    }

    async fn get(&self, path: &str) -> Response {
        self.send(path, Some("simulated-key")).await.unwrap()
    }

    async fn operation(&self, id: &str) -> Response {
        self.get(&format!("/projects/my-project/operations/{id}")).await
    }

    async fn fails(&self, id: &str) -> bool {
        let path = format!("/projects/my-project/operations/{id}");
        match self.send(&path, Some("simulated-key")).await {
            Ok(response) => response.bytes().await.is_err(),
            Err(_) => true,
        }
    }
}

async fn json(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

async fn problem(response: Response, status: u16) -> Value {
    assert_eq!(response.status().as_u16(), status);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let body = json(response).await;
    assert_eq!(body["status"], status);
    for member in [
        "type",
        "title",
        "detail",
        "subsystem",
        "time",
        "requestId",
        "remedy",
    ] {
        assert!(body[member].is_string(), "{member} in {body}");
    }
    assert!(body["retryable"].is_boolean());
    body
}

#[tokio::test]
async fn an_operation_is_served_from_its_start_to_its_end() {
    let fixture = Fixture::start().await;
    fixture.simulator.add(SimulatedOperation {
        estimate: SimulatedEstimate::Missing,
        ..SimulatedOperation::new("long", LONG, 1_000)
    });
    fixture
        .simulator
        .add(SimulatedOperation::new("over", Duration::ZERO, 1_000));
    let long = json(fixture.operation("long").await).await;
    assert_eq!(long["status"], "in_progress");
    assert_eq!(long["actionType"], "read");
    assert_eq!(long["metadata"]["progress"]["recordsProcessed"], 0);
    assert!(
        long["metadata"]["progress"]
            .get("recordsEstimatedTotal")
            .is_none()
    );
    assert!(long.get("result").is_none() && long["createTime"].is_string());
    let finished = json(fixture.operation("over").await).await;
    assert_eq!(finished["status"], "success");
    assert_eq!(finished["result"], "[contact] 1000 records read");
    fixture.simulator.stop().await;
}

#[tokio::test]
async fn the_project_goes_by_name_and_by_id_and_the_base_path_may_be_left_out() {
    let fixture = Fixture::start().await;
    fixture.simulator.add(SimulatedOperation::new("a", LONG, 1_000));
    let by_id = format!("/projects/{}/operations/a", SimulatedProject::default().id);
    assert_eq!(fixture.get(&by_id).await.status(), StatusCode::OK);
    let root = fixture.simulator.base_url().replace("/v1", "");
    let request = fixture
        .client
        .get(format!("{root}/projects/my-project/operations/a"));
    let response = request.header("x-api-key", "simulated-key").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn ids_that_describe_an_operation_start_when_polled() {
    let fixture = Fixture::start().await;
    assert_eq!(
        json(fixture.operation("op-0-70-f-1").await).await["status"],
        "failure"
    );
    let path = "/projects/my-project/operations/op-0-70-f-1/logs";
    let lines = json(fixture.get(path).await).await;
    let severities: Vec<&str> = lines
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["severity"].as_str().unwrap())
        .collect();
    assert!(severities.contains(&"WARNING") && severities.contains(&"ERROR"));

    let config = SimulatorConfig {
        on_demand: false,
        ..SimulatorConfig::default()
    };
    let fixture = Fixture::start_with(config).await;
    problem(fixture.operation("op-0-70-f-1").await, 404).await;
}

#[tokio::test]
async fn an_installation_has_lost_its_credentials_while_its_operation_stalls() {
    let fixture = Fixture::start().await;
    let path = format!("/projects/my-project/integrations/{INTEGRATION_ID}/installations/{INSTALLATION_ID}");
    problem(fixture.get(&path).await, 404).await;
    fixture.simulator.add(SimulatedOperation::new("a", LONG, 100));
    let shown = json(fixture.get(&path).await).await;
    assert_eq!(
        (&shown["id"], &shown["healthStatus"]),
        (&INSTALLATION_ID.into(), &"healthy".into())
    );
    assert_eq!(shown["connection"]["status"], "working");
    assert_eq!(shown["connection"]["apiKey"], CUSTOMER_TOKEN);
    fixture.simulator.add(SimulatedOperation {
        curve: CountCurve::Stall,
        ..SimulatedOperation::new("b", Duration::from_secs(5), 100)
    });
    let lost = async {
        loop {
            let shown = json(fixture.get(&path).await).await;
            if shown["healthStatus"] == "unhealthy" {
                return shown["connection"]["status"].clone();
            }
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(60), lost).await.unwrap();
    assert_eq!(status, "bad_credentials");
}

#[tokio::test]
async fn unknown_resources_are_answered_as_in_the_contract() {
    let fixture = Fixture::start().await;
    let body = problem(fixture.operation("nobody").await, 404).await;
    assert_eq!(body["detail"], "Operation not found for the given operation ID.");
    assert_eq!(body["title"], "Not Found");
    let body = problem(fixture.get("/projects/other/operations/nobody").await, 404).await;
    assert!(body["detail"].as_str().unwrap().contains("Project not found"));
    problem(
        fixture.get("/projects/my-project/operations/nobody/logs").await,
        404,
    )
    .await;
    problem(fixture.get("/elsewhere").await, 404).await;
}

#[tokio::test]
async fn api_keys_are_checked_and_can_be_changed_while_it_runs() {
    let other = SimulatedProject {
        id: "other-id".into(),
        name: "other".into(),
        api_keys: vec!["other-key".into()],
    };
    let config = SimulatorConfig {
        projects: vec![SimulatedProject::default(), other],
        ..SimulatorConfig::default()
    };
    let fixture = Fixture::start_with(config).await;
    fixture.simulator.add(SimulatedOperation::new("a", LONG, 1_000));
    let path = "/projects/my-project/operations/a";
    problem(fixture.send(path, None).await.unwrap(), 401).await;
    problem(fixture.send(path, Some("wrong")).await.unwrap(), 401).await;
    problem(fixture.send(path, Some("other-key")).await.unwrap(), 403).await;
    let elsewhere = "/projects/other/operations/a";
    problem(fixture.send(elsewhere, Some("other-key")).await.unwrap(), 404).await;
    fixture
        .simulator
        .set_api_keys("my-project", ["rotated".to_owned()]);
    problem(fixture.operation("a").await, 401).await;
    assert_eq!(
        fixture.send(path, Some("rotated")).await.unwrap().status(),
        StatusCode::OK
    );
    let requests = fixture.simulator.requests();
    assert_eq!(
        (requests.total, requests.succeeded, requests.unauthorized),
        (6, 1, 3)
    );
    assert_eq!((requests.forbidden, requests.not_found), (1, 1));
}

#[tokio::test]
async fn lists_come_in_pages() {
    let fixture = Fixture::start().await;
    for i in 0..205 {
        fixture
            .simulator
            .add(SimulatedOperation::new(format!("op{i}"), LONG, 1));
    }
    fixture.simulator.add(SimulatedOperation {
        installation_id: "another".into(),
        ..SimulatedOperation::new("elsewhere", LONG, 1)
    });
    let base = format!(
        "/projects/my-project/integrations/{INTEGRATION_ID}/installations/{INSTALLATION_ID}/operations"
    );
    let first = json(fixture.get(&base).await).await;
    assert_eq!(first["results"].as_array().unwrap().len(), 200);
    assert_eq!(first["pagination"]["done"], false);

    let (mut ids, mut token) = (Vec::new(), String::new());
    loop {
        let page = json(fixture.get(&format!("{base}?pageSize=50{token}")).await).await;
        let results = page["results"].as_array().unwrap();
        ids.extend(
            results
                .iter()
                .map(|operation| operation["id"].as_str().unwrap().to_owned()),
        );
        if page["pagination"]["done"] == true {
            assert!(page["pagination"].get("nextPageToken").is_none());
            break;
        }
        token = format!(
            "&pageToken={}",
            page["pagination"]["nextPageToken"].as_str().unwrap()
        );
    }
    let expected: Vec<String> = (0..205).map(|i| format!("op{i}")).collect();
    assert_eq!(ids, expected);

    for wrong in ["pageSize=0", "pageSize=1001", "pageSize=x", "pageToken=x"] {
        let body = problem(fixture.get(&format!("{base}?{wrong}")).await, 400).await;
        assert_eq!(body["issues"][0]["in"], "query");
    }
}

#[tokio::test]
async fn errors_carry_retry_after_in_each_form() {
    let fixture = Fixture::start().await;
    fixture.simulator.add(SimulatedOperation::new("a", LONG, 1));
    let wait = Duration::from_secs(7);
    let replies = [
        SimulatedReply::Status(503, RetryAfter::Absent),
        SimulatedReply::Status(429, RetryAfter::Seconds(wait)),
        SimulatedReply::Status(503, RetryAfter::Date(wait)),
        SimulatedReply::Status(429, RetryAfter::Body(wait)),
    ];
    fixture.simulator.faults().script("a", replies);
    let absent = fixture.operation("a").await;
    assert!(absent.headers().get("retry-after").is_none());
    assert!(problem(absent, 503).await.get("retryAfter").is_none());
    let seconds = fixture.operation("a").await;
    assert_eq!(seconds.headers()["retry-after"], "7");
    problem(seconds, 429).await;
    let date = fixture.operation("a").await;
    assert!(date.headers()["retry-after"].to_str().unwrap().ends_with(" GMT"));
    let body = fixture.operation("a").await;
    assert!(body.headers().get("retry-after").is_none());
    assert!(problem(body, 429).await["retryAfter"].is_string());
    assert_eq!(fixture.operation("a").await.status(), StatusCode::OK);
    assert_eq!(fixture.simulator.requests().throttled, 2);
    assert_eq!(fixture.simulator.requests_of("a"), 5);
    assert!(fixture.simulator.instants_of("a").is_sorted());
}

/// The message of an error and of all that caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[tokio::test]
async fn a_reset_is_a_true_reset() {
    let fixture = Fixture::start().await;
    fixture.simulator.faults().script_all([SimulatedReply::Reset]);
    let error = fixture
        .send("/projects/my-project/operations/a", None)
        .await
        .unwrap_err();
    let reported = chain(&error);
    assert!(reported.to_lowercase().contains("reset"), "{reported}");
    assert_eq!(fixture.simulator.requests().resets, 1);
}

#[tokio::test]
async fn a_truncated_body_breaks_off_after_its_first_half_was_sent() {
    let fixture = Fixture::start().await;
    fixture.simulator.add(SimulatedOperation::new("a", LONG, 1));
    fixture
        .simulator
        .faults()
        .script("a", [SimulatedReply::Truncated]);
    let mut response = fixture.operation("a").await;
    let announced = response.content_length().unwrap();
    let mut got = 0;
    let end = loop {
        match response.chunk().await {
            Ok(Some(bytes)) => got += bytes.len() as u64,
            end => break end,
        }
    };
    assert!(end.is_err());
    assert_eq!(got, announced / 2);
}

#[tokio::test]
async fn bodies_can_be_wrong_in_every_way() {
    let fixture = Fixture::start().await;
    fixture.simulator.add(SimulatedOperation::new("a", LONG, 1));
    let replies = [
        SimulatedReply::Garbage,
        SimulatedReply::Html,
        SimulatedReply::Huge(2 << 20),
        SimulatedReply::Redirect(None),
        SimulatedReply::Redirect(Some("http://127.0.0.1:1/".into())),
        SimulatedReply::Slow(Duration::from_micros(100)),
        SimulatedReply::Late(Duration::from_millis(1)),
    ];
    fixture.simulator.faults().script("a", replies);
    let garbage = fixture.operation("a").await;
    assert_eq!(garbage.headers()["content-type"], "application/json");
    assert!(serde_json::from_slice::<Value>(&garbage.bytes().await.unwrap()).is_err());
    let html = fixture.operation("a").await;
    assert!(
        html.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/html")
    );
    let huge = fixture.operation("a").await.bytes().await.unwrap();
    assert!(huge.len() > 2 << 20);
    assert_eq!(serde_json::from_slice::<Value>(&huge).unwrap()["id"], "a");
    let redirect = fixture.operation("a").await;
    assert_eq!(redirect.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(
        redirect.headers()["location"],
        "/v1/projects/my-project/operations/a"
    );
    assert_eq!(
        fixture.operation("a").await.headers()["location"],
        "http://127.0.0.1:1/"
    );
    for _ in 0..2 {
        assert_eq!(json(fixture.operation("a").await).await["id"], "a");
    }
}

#[tokio::test]
async fn an_endless_body_continues_as_long_as_it_is_read() {
    let fixture = Fixture::start().await;
    fixture.simulator.faults().script_all([SimulatedReply::Endless]);
    let mut response = fixture.operation("a").await;
    let mut got = 0;
    while got < 1 << 20 {
        got += response.chunk().await.unwrap().unwrap().len();
    }
}

/// Waits until the counts are as expected, and fails when that takes too long.
async fn until(simulator: &Simulator, what: &str, wanted: impl Fn(RequestCounts) -> bool) {
    let deadline = clock::instant() + Duration::from_secs(20);
    while !wanted(simulator.requests()) {
        assert!(clock::instant() < deadline, "{what}: {:?}", simulator.requests());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn hanging_requests_are_in_flight_until_their_clients_leave() {
    let fixture = Fixture::start().await;
    fixture
        .simulator
        .faults()
        .script_all([SimulatedReply::Hang, SimulatedReply::Hang]);
    let url = format!("{}/projects/p/operations/a", fixture.simulator.base_url());
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..2 {
        clients.spawn(fixture.client.get(&url).send());
    }
    until(&fixture.simulator, "two arrive", |requests| {
        requests.in_flight == 2
    })
    .await;
    clients.shutdown().await;
    until(&fixture.simulator, "both leave", |requests| {
        requests.in_flight == 0
    })
    .await;
    let requests = fixture.simulator.requests();
    assert_eq!((requests.hangs, requests.max_in_flight), (2, 2));
}

#[tokio::test]
async fn operations_can_be_missing_or_forbidden_for_a_while() {
    let fixture = Fixture::start().await;
    fixture.simulator.add(SimulatedOperation::new("a", LONG, 1));
    fixture.simulator.faults().miss("a", MissingFor::Requests(1));
    problem(fixture.operation("a").await, 404).await;
    assert_eq!(fixture.operation("a").await.status(), StatusCode::OK);
    fixture.simulator.faults().forbid("a");
    problem(fixture.operation("a").await, 403).await;
    fixture.simulator.faults().restore("a");
    assert_eq!(fixture.operation("a").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn faults_come_by_chance_while_it_runs() {
    let fixture = Fixture::start().await;
    fixture.simulator.add(SimulatedOperation::new("a", LONG, 1));
    let plan = FaultPlan {
        server_error: 0.2,
        reset: 0.1,
        truncate: 0.1,
        ..FaultPlan::default()
    };
    fixture.simulator.faults().set(plan, 11);
    let mut failed = 0;
    for _ in 0..300 {
        failed += u64::from(fixture.fails("a").await);
    }
    let requests = fixture.simulator.requests();
    assert_eq!(failed, requests.resets + requests.truncated);
    assert!((30..=90).contains(&failed), "{failed} of 300");
    assert!(
        (30..=90).contains(&requests.server_errors),
        "{} of 300",
        requests.server_errors
    );
    fixture.simulator.faults().set(FaultPlan::default(), 0);
    assert!(!fixture.fails("a").await);
}

#[tokio::test]
async fn stopping_ends_what_is_under_way_and_frees_the_port() {
    let fixture = Fixture::start().await;
    fixture.simulator.faults().script_all([SimulatedReply::Hang]);
    let url = fixture.simulator.base_url();
    let address = url
        .trim_start_matches("http://")
        .trim_end_matches("/v1")
        .to_owned();
    let (client, simulator) = (fixture.client, fixture.simulator);
    let hanging = tokio::spawn(client.get(format!("{url}/projects/p/operations/a")).send());
    until(&simulator, "the request arrives", |requests| {
        requests.in_flight == 1
    })
    .await;
    simulator.stop().await;
    assert!(hanging.await.unwrap().is_err());
    assert!(tokio::net::TcpStream::connect(&address).await.is_err());
}

#[tokio::test]
async fn it_listens_on_loopback_alone() {
    let config = SimulatorConfig {
        listen: "0.0.0.0:0".parse().unwrap(),
        ..SimulatorConfig::default()
    };
    let error = Simulator::start(config).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Signs with the reference library.
async fn post(client: &Client, url: &str, id: &str, secret: &str, body: &str) -> reqwest::Result<Response> {
    let now = clock::wall().as_second();
    let signature = standardwebhooks::Webhook::new(secret)
        .unwrap()
        .sign(id, now, body.as_bytes())
        .unwrap();
    client
        .request(Method::POST, url)
        .header("content-type", "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", now)
        .header("webhook-signature", signature)
        .body(body.to_owned())
        .send()
        .await
}

#[tokio::test]
async fn a_receiver_keeps_and_verifies_what_it_gets() {
    let config = ReceiverConfig {
        secrets: vec![SECRET.parse().unwrap()],
        ..ReceiverConfig::default()
    };
    let (receiver, client) = (Receiver::start(config).await.unwrap(), client());
    let body = r#"{"type":"operation.started"}"#;
    let good = post(&client, &receiver.url(), "evt_1", SECRET, body)
        .await
        .unwrap();
    assert_eq!(good.status(), StatusCode::OK);
    let other = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    post(&client, &receiver.url(), "evt_2", other, body)
        .await
        .unwrap();
    assert_eq!(
        client.get(receiver.url()).send().await.unwrap().status(),
        StatusCode::METHOD_NOT_ALLOWED
    );
    receiver.received(2).await;
    let callbacks = receiver.callbacks();
    assert_eq!(callbacks.len(), 2);
    assert_eq!((callbacks[0].id(), &callbacks[0].verified), ("evt_1", &Ok(())));
    assert_eq!(callbacks[0].json()["type"], "operation.started");
    assert_eq!(
        (&callbacks[0].body[..], callbacks[0].path.as_str()),
        (body.as_bytes(), "/hook")
    );
    assert!(callbacks[0].signature().starts_with("v1,") && !callbacks[0].timestamp().is_empty());
    assert_eq!(callbacks[1].verified, Err(VerificationError::WrongSignature));
    receiver.stop().await;
}

#[tokio::test]
async fn a_receiver_answers_as_configured() {
    let (receiver, client) = (
        Receiver::start(ReceiverConfig::default()).await.unwrap(),
        client(),
    );
    let wait = RetryAfter::Seconds(Duration::from_secs(3));
    receiver.faults().script(
        "/hook",
        [
            SimulatedReply::Status(503, wait),
            SimulatedReply::Reset,
            SimulatedReply::Status(410, RetryAfter::Absent),
        ],
    );
    let other = receiver.url().replace("/hook", "/other");
    let send = |url: String| {
        let client = client.clone();
        async move { post(&client, &url, "evt_1", SECRET, "{}").await }
    };
    assert_eq!(send(receiver.url()).await.unwrap().headers()["retry-after"], "3");
    assert_eq!(send(other).await.unwrap().status(), StatusCode::OK);
    assert!(send(receiver.url()).await.is_err());
    assert_eq!(send(receiver.url()).await.unwrap().status(), StatusCode::GONE);
    assert_eq!(receiver.callbacks().len(), 4);
    assert_eq!(receiver.requests().succeeded, 1);
}
