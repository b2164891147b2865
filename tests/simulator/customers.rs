//! Installations, their backfills over time, and faults of these paths.

use std::time::Duration;

use backfill_watch::clock;
use backfill_watch::core::start_time;
use backfill_watch::simulator::{
    BackfillPeriod, BodyAlteration, CUSTOMER_TOKEN, CustomerChange, CustomerPlan, FaultPlan, INSTALLATION_ID,
    INTEGRATION_ID, InstallationStatus, OperationsAfterDelete, RequestKind, RetryAfter, SeededRandom,
    SimulatedAuthentication, SimulatedBackfill, SimulatedGroup, SimulatedInstallation, SimulatedIntegration,
    SimulatedObject, SimulatedOperation, SimulatedOutcome, SimulatedProject, SimulatedReply,
};
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};

use super::{Fixture, LONG, json, problem};

const LIST: &str = "/projects/my-project/installations";
const DAY: Duration = Duration::from_secs(86_400);

fn read(duration: Duration) -> SimulatedOperation {
    SimulatedOperation::new("", duration, 1_000)
}

fn backfill(duration: Duration) -> SimulatedBackfill {
    SimulatedBackfill::new(read(duration))
}

fn acme() -> SimulatedInstallation {
    SimulatedInstallation::new("acme", [SimulatedObject::reading("contact", backfill(LONG))])
}

fn installation_path(installation: &str) -> String {
    format!("/projects/my-project/integrations/{INTEGRATION_ID}/installations/{installation}")
}

/// The path of an object, percent-encoded as a client does it.
fn progress_path(installation: &str, object: &str) -> String {
    let mut url = Url::parse("http://127.0.0.1").unwrap();
    let base = installation_path(installation);
    let mut segments = url.path_segments_mut().unwrap();
    segments.extend(base.split('/').skip(1));
    segments.extend(["objects", object, "backfill-progress"]);
    drop(segments);
    url.path().to_owned()
}

impl Fixture {
    async fn list(&self) -> Vec<Value> {
        json(self.get(LIST).await).await.as_array().unwrap().clone()
    }

    async fn progress(&self, installation: &str, object: &str) -> Value {
        let response = self.get(&progress_path(installation, object)).await;
        assert_eq!(response.status(), StatusCode::OK, "{object}");
        json(response).await
    }

    async fn no_progress(&self, installation: &str, object: &str) {
        let response = self.get(&progress_path(installation, object)).await;
        problem(response, 404).await;
    }

    /// Repeats until the answer is as expected.
    async fn until<T>(&self, what: &str, mut ask: impl AsyncFnMut(&Self) -> Option<T>) -> T {
        let deadline = clock::instant() + Duration::from_secs(60);
        loop {
            if let Some(found) = ask(self).await {
                return found;
            }
            assert!(clock::instant() < deadline, "timed out waiting for: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Fails unless every member is there and has a value.
fn assert_members(value: &Value, members: &[&str]) {
    for member in members {
        assert!(!value[member].is_null(), "{member} in {value}");
    }
}

#[tokio::test]
async fn an_installation_has_all_members_of_the_contract() {
    let fixture = Fixture::start().await;
    let id = fixture.simulator.install(SimulatedInstallation {
        group: Some(SimulatedGroup {
            reference: "acme".into(),
            name: "Acme Corp".into(),
        }),
        objects: vec![
            SimulatedObject::reading("contact", backfill(LONG)),
            SimulatedObject {
                period: BackfillPeriod::Days(0),
                ..SimulatedObject::new("lead")
            },
            SimulatedObject {
                period: BackfillPeriod::Days(30),
                is_disabled: true,
                ..SimulatedObject::new("task")
            },
            SimulatedObject {
                period: BackfillPeriod::Absent,
                ..SimulatedObject::new("case")
            },
        ],
        ..acme()
    });
    let listed = fixture.list().await;
    let one = &listed[0];
    let members = [
        "config",
        "connection",
        "createTime",
        "createdBy",
        "healthStatus",
        "id",
        "integrationId",
        "projectId",
    ];
    assert_members(one, &members);
    assert_members(
        &one["connection"],
        &[
            "id",
            "createTime",
            "group",
            "consumer",
            "projectId",
            "provider",
            "authScheme",
            "status",
        ],
    );
    assert_members(
        &one["group"],
        &["createTime", "groupName", "groupRef", "projectId"],
    );
    assert_members(
        &one["connection"]["consumer"],
        &["consumerName", "consumerRef", "createTime", "projectId"],
    );
    assert_members(
        &one["config"],
        &["content", "createTime", "createdBy", "id", "revisionId"],
    );
    assert_eq!((&one["id"], listed.len()), (&json!(id), 1));
    assert_eq!(one["projectId"], SimulatedProject::default().id);
    assert_eq!(one["group"]["groupRef"], "acme");
    assert_eq!(one["group"]["groupName"], "Acme Corp");
    let content = &one["config"]["content"];
    assert_eq!(content["provider"], "salesforce");
    let objects = &content["read"]["objects"];
    for object in objects.as_object().unwrap().values() {
        assert_members(object, &["objectName", "selectedFields", "selectedFieldMappings"]);
    }
    let period = |name: &str| objects[name]["backfill"]["defaultPeriod"].clone();
    assert_eq!(period("contact"), json!({"fullHistory": true}));
    assert_eq!(period("lead"), json!({"days": 0}));
    assert_eq!(
        (period("task"), &objects["task"]["disabled"]),
        (json!({"days": 30}), &json!(true))
    );
    assert_eq!(objects["case"].get("backfill"), None);
    // About 1.3 kB an installation with one or two objects.
    assert!((800..3_000).contains(&one.to_string().len()), "{one}");
    assert_eq!(json(fixture.get(&installation_path(&id)).await).await, *one);
}

#[tokio::test]
async fn every_secret_of_a_connection_contains_the_one_token() {
    let fixture = Fixture::start().await;
    fixture.simulator.install(acme());
    fixture.simulator.install(SimulatedInstallation {
        authentication: SimulatedAuthentication::ApiKey,
        group: None,
        ..acme()
    });
    let listed = fixture.list().await;
    let (oauth, key) = (&listed[0]["connection"], &listed[1]["connection"]);
    assert_eq!(oauth["authScheme"], "oauth2/authorizationCode");
    for token in ["accessToken", "refreshToken"] {
        let token = &oauth["oauth2AuthorizationCode"][token];
        assert!(
            token["token"].as_str().unwrap().contains(CUSTOMER_TOKEN),
            "{token}"
        );
        assert!(token["issuedAt"].is_string());
    }
    assert_eq!(
        (&key["authScheme"], &key["apiKey"]),
        (&json!("apiKey"), &json!(CUSTOMER_TOKEN))
    );
    for connection in [oauth, key] {
        let metadata = &connection["providerMetadata"]["sessionToken"];
        assert_eq!(metadata["value"], CUSTOMER_TOKEN);
        assert_members(&connection["group"], &["groupRef", "groupName"]);
    }
    assert_eq!(listed[1].get("group"), None);
}

#[tokio::test]
async fn integrations_have_names() {
    let fixture = Fixture::start().await;
    let other = SimulatedIntegration {
        id: "9b1d6e0a-0000-4000-8000-000000000001".into(),
        name: "read-tickets".into(),
        provider: "zendesk".into(),
    };
    fixture.simulator.add_integration("my-project", other.clone());
    fixture.simulator.add_integration("my-project", other);
    let listed = json(fixture.get("/projects/my-project/integrations").await).await;
    let names: Vec<&Value> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, ["crm-sync", "read-tickets"]);
    for one in listed.as_array().unwrap() {
        let members = [
            "createTime",
            "id",
            "latestRevision",
            "name",
            "projectId",
            "provider",
        ];
        assert_members(one, &members);
        assert_members(
            &one["latestRevision"],
            &["content", "createTime", "id", "specVersion"],
        );
    }
    assert_eq!(listed[0]["id"], INTEGRATION_ID);
}

#[tokio::test]
async fn a_backfill_is_unknown_until_it_starts_and_then_runs_to_its_end() {
    let fixture = Fixture::start().await;
    let ends = Duration::from_millis(300);
    let failing = SimulatedOperation {
        outcome: SimulatedOutcome::Failure,
        ..read(ends)
    };
    let wait = Duration::from_millis(400);
    let objects = [
        SimulatedObject::reading("contact", SimulatedBackfill::after(wait, failing)),
        SimulatedObject::new("lead"),
    ];
    let before = clock::wall();
    let id = fixture
        .simulator
        .install(SimulatedInstallation::new("acme", objects));
    fixture.no_progress(&id, "contact").await;
    assert!(fixture.simulator.backfills().is_empty());
    let found = fixture.until("the backfill starts", async |fixture| {
        let response = fixture.get(&progress_path(&id, "contact")).await;
        (response.status() == StatusCode::OK).then_some(response)
    });
    let progress = json(found.await).await;
    fixture.no_progress(&id, "lead").await;
    fixture.no_progress(&id, "unknown").await;
    let started = &fixture.simulator.backfills()[0];
    let operation = progress["operationId"].as_str().unwrap().to_owned();
    assert_eq!(
        (&started.operation.id, started.group.as_deref()),
        (&operation, Some("acme"))
    );
    assert_eq!(progress["installationId"], *id);
    assert_eq!(progress["objectName"], "contact");
    assert_eq!(progress["recordsEstimatedTotal"], 1_000);
    assert!(progress["recordsProcessed"].is_u64() && progress["updateTime"].is_string());
    assert_eq!(progress["createTime"], started.create_time.to_string());
    let in_id = start_time::of_id(&operation, clock::wall()).unwrap();
    assert_eq!(in_id.as_millisecond(), started.create_time.as_millisecond());
    assert!(in_id.duration_since(before) >= jiff::SignedDuration::from_millis(399));

    let ended = fixture.until("it ends", async |fixture| {
        let shown = json(fixture.operation(&operation).await).await;
        (shown["status"] != "in_progress").then_some(shown)
    });
    let ended = ended.await;
    assert_eq!(ended["status"], "failure");
    assert_eq!(
        (&ended["installationId"], &ended["integrationId"]),
        (&json!(id), &json!(INTEGRATION_ID))
    );
    assert_eq!(ended["metadata"]["objects"], json!(["contact"]));
    assert_eq!(ended["createTime"], progress["createTime"]);
    assert_eq!(fixture.progress(&id, "contact").await["recordsProcessed"], 700);
    let logs = format!("/projects/my-project/operations/{operation}/logs");
    assert!(json(fixture.get(&logs).await).await.as_array().unwrap().len() > 3);
    let page = json(
        fixture
            .get(&format!("{}/operations", installation_path(&id)))
            .await,
    )
    .await;
    assert_eq!(page["results"][0]["id"], *operation);
    assert!(fixture.simulator.requests_of_object(&id, "contact") >= 3);
    assert_eq!(fixture.simulator.requests_of_object(&id, "lead"), 1);
}

#[tokio::test]
async fn a_backfill_that_is_triggered_again_has_a_new_operation() {
    let fixture = Fixture::start().await;
    let id = fixture.simulator.install(acme());
    let first = fixture.progress(&id, "contact").await["operationId"].clone();
    let again = fixture
        .simulator
        .backfill(&id, "contact", backfill(LONG))
        .unwrap();
    assert_ne!(first, *again);
    assert_eq!(fixture.progress(&id, "contact").await["operationId"], *again);
    // The first one continues.
    assert_eq!(
        json(fixture.operation(first.as_str().unwrap()).await).await["status"],
        "in_progress"
    );
    // An older one is not the newest.
    let old = SimulatedBackfill::ago(DAY, read(Duration::ZERO));
    let old = fixture.simulator.backfill(&id, "contact", old).unwrap();
    assert_eq!(fixture.progress(&id, "contact").await["operationId"], *again);
    assert_eq!(json(fixture.operation(&old).await).await["status"], "success");
    let unknown = fixture.simulator.backfill("nobody", "contact", backfill(LONG));
    assert_eq!(unknown.unwrap_err().0, "nobody");
}

#[tokio::test]
async fn objects_can_be_added_changed_and_removed() {
    let fixture = Fixture::start().await;
    let id = fixture.simulator.install(acme());
    assert_eq!(fixture.list().await[0].get("updateTime"), None);
    let lead = SimulatedObject::reading("lead", backfill(LONG));
    let operation = fixture.simulator.add_object(&id, lead).unwrap();
    assert_eq!(
        fixture.progress(&id, "lead").await["operationId"],
        json!(operation)
    );
    let disabled = SimulatedObject {
        is_disabled: true,
        ..SimulatedObject::new("lead")
    };
    assert_eq!(fixture.simulator.add_object(&id, disabled), Ok(None));
    let change = CustomerChange::RemoveObject {
        installation: id.clone(),
        object: "contact".into(),
    };
    fixture.simulator.change(change).unwrap();
    let status = CustomerChange::SetStatus {
        installation: id.clone(),
        status: InstallationStatus::Created,
    };
    fixture.simulator.change(status).unwrap();
    let one = &fixture.list().await[0];
    let objects = one["config"]["content"]["read"]["objects"].as_object().unwrap();
    assert_eq!(objects.keys().collect::<Vec<_>>(), ["lead"]);
    assert_eq!(objects["lead"]["disabled"], true);
    assert!(one["updateTime"].is_string());
    assert_eq!(
        (&one["healthStatus"], &one["connection"]["status"]),
        (&json!("healthy"), &json!("created"))
    );
    fixture.progress(&id, "contact").await;
}

#[tokio::test]
async fn a_deleted_installation_is_gone_and_its_operations_stay_or_go() {
    for (after, status) in [
        (OperationsAfterDelete::Continue, StatusCode::OK),
        (OperationsAfterDelete::Removed, StatusCode::NOT_FOUND),
    ] {
        let fixture = Fixture::start().await;
        let id = fixture.simulator.install(acme());
        let operation = fixture.simulator.backfills()[0].operation.id.clone();
        // What was to happen later is dropped.
        let later = SimulatedBackfill::after(Duration::from_millis(1), read(LONG));
        fixture.simulator.backfill(&id, "lead", later).unwrap();
        fixture.simulator.delete_installation(&id, after).unwrap();
        assert!(fixture.simulator.delete_installation(&id, after).is_err());
        assert_eq!(fixture.list().await, [] as [Value; 0]);
        problem(fixture.get(&installation_path(&id)).await, 404).await;
        fixture.no_progress(&id, "contact").await;
        assert_eq!(fixture.operation(&operation).await.status(), status);
        assert!(fixture.simulator.installations().is_empty());
        fixture.simulator.install(SimulatedInstallation {
            id: id.clone(),
            ..acme()
        });
        assert_eq!(fixture.simulator.installations(), std::slice::from_ref(&id));
        assert_ne!(fixture.progress(&id, "contact").await["operationId"], *operation);
    }
}

#[tokio::test]
async fn the_list_is_filtered_by_group_and_project() {
    let fixture = Fixture::start().await;
    for group in ["acme", "R&D + co/é", "acme"] {
        fixture.simulator.install(SimulatedInstallation::new(group, []));
    }
    let groups = async |query: &str| {
        let listed = json(fixture.get(&format!("{LIST}{query}")).await).await;
        let groups = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["group"]["groupRef"].clone());
        groups.collect::<Vec<_>>()
    };
    assert_eq!(groups("").await, ["acme", "R&D + co/é", "acme"]);
    assert_eq!(groups("?groupRef=acme").await, ["acme", "acme"]);
    assert_eq!(
        groups("?groupRef=R%26D%20%2B+co%2F%C3%A9&x=1").await,
        ["R&D + co/é"]
    );
    assert_eq!(groups("?groupRef=nobody").await, [] as [Value; 0]);
    problem(fixture.get("/projects/other/installations").await, 404).await;
    problem(fixture.send(LIST, None).await.unwrap(), 401).await;
}

#[tokio::test]
async fn object_names_are_decoded_from_the_path() {
    let fixture = Fixture::start().await;
    let long = "o".repeat(10_000);
    let names = ["a/b", "x y%2Fz", "été?#", "..%", long.as_str(), "/"];
    let objects = names.map(|name| SimulatedObject::reading(name, backfill(LONG)));
    let id = fixture
        .simulator
        .install(SimulatedInstallation::new("acme", objects));
    for name in names {
        assert_eq!(fixture.progress(&id, name).await["objectName"], name);
        assert_eq!(fixture.simulator.requests_of_object(&id, name), 1);
    }
    let object = fixture.list().await[0]["config"]["content"]["read"]["objects"]["a/b"].clone();
    assert_eq!(object["objectName"], "a/b");
}

#[tokio::test]
async fn old_backfills_ended_long_ago() {
    let fixture = Fixture::start().await;
    let plan = CustomerPlan {
        customers: 0,
        old_backfills: 1_000,
        ..CustomerPlan::default()
    };
    let changes = plan.generate(&SeededRandom::new(3), |_| read(Duration::from_secs(600)));
    fixture.simulator.schedule(changes);
    let listed = fixture.list().await;
    let backfills = fixture.simulator.backfills();
    assert_eq!((listed.len(), backfills.len()), (200, 1_000));
    let now = clock::wall();
    let day = jiff::SignedDuration::from_hours(24);
    let ids: std::collections::HashSet<&str> =
        backfills.iter().map(|one| one.operation.id.as_str()).collect();
    assert_eq!(ids.len(), 1_000);
    for one in &backfills {
        assert!(now.duration_since(one.create_time) > day * 2, "{one:?}");
        assert!(start_time::of_id(&one.operation.id, now).is_some());
    }
    let first = &backfills[0];
    let object = &first.operation.objects[0];
    let progress = fixture.progress(&first.operation.installation_id, object).await;
    assert_eq!(progress["operationId"], *first.operation.id);
    assert_eq!(progress["recordsProcessed"], 1_000);
    let updated: jiff::Timestamp = progress["updateTime"].as_str().unwrap().parse().unwrap();
    assert_eq!(
        updated.duration_since(first.create_time),
        jiff::SignedDuration::from_secs(600)
    );
    assert_eq!(
        json(fixture.operation(&first.operation.id).await).await["status"],
        "success"
    );
    let installed: jiff::Timestamp = listed[0]["createTime"].as_str().unwrap().parse().unwrap();
    assert!(now.duration_since(installed) > day * 80);
}

#[tokio::test]
async fn customers_install_over_time_and_change_later() {
    let fixture = Fixture::start().await;
    let plan = CustomerPlan {
        customers: 20,
        install_over: Duration::from_millis(400),
        backfill_delay: Duration::from_millis(100),
        changes: 1.0,
        ..CustomerPlan::default()
    };
    let changes = plan.generate(&SeededRandom::new(7), |_| read(Duration::from_millis(50)));
    let deletions = |change: &CustomerChange| matches!(change, CustomerChange::Delete { .. });
    let deleted = changes.iter().filter(|(_, change)| deletions(change)).count();
    fixture.simulator.schedule(changes);
    let mut counts = vec![fixture.list().await.len()];
    fixture
        .until("all customers came, and some left", async |fixture| {
            counts.push(fixture.list().await.len());
            (*counts.last().unwrap() == 20 - deleted
                && clock::instant() - fixture.simulator.instants_of_lists()[0] > 2 * plan.install_over)
                .then_some(())
        })
        .await;
    assert!(
        counts[0] < 20 && counts.iter().any(|count| (1..20).contains(count)),
        "{counts:?}"
    );
    assert!(deleted > 0);
    for one in fixture.simulator.backfills() {
        let shown = json(fixture.operation(&one.operation.id).await).await;
        assert!(["in_progress", "success"].contains(&shown["status"].as_str().unwrap()));
        assert_eq!(shown["installationId"], *one.operation.installation_id);
    }
}

#[tokio::test]
async fn operations_without_a_customer_are_backfills_of_their_installation() {
    let fixture = Fixture::start().await;
    fixture.simulator.add(SimulatedOperation::new("a", LONG, 100));
    fixture.simulator.add_waiting(SimulatedOperation {
        objects: vec!["lead".into()],
        ..SimulatedOperation::new("b", LONG, 100)
    });
    let listed = fixture.list().await;
    assert_eq!((listed.len(), &listed[0]["id"]), (1, &json!(INSTALLATION_ID)));
    assert_eq!(
        json(fixture.get(&installation_path(INSTALLATION_ID)).await).await,
        listed[0]
    );
    assert_eq!(
        fixture.progress(INSTALLATION_ID, "contact").await["operationId"],
        "a"
    );
    fixture.no_progress(INSTALLATION_ID, "lead").await;
    fixture.operation("b").await;
    assert_eq!(
        fixture.progress(INSTALLATION_ID, "lead").await["operationId"],
        "b"
    );
    fixture.no_progress("unknown", "lead").await;
    // They are not added to the installation of a customer, nor do they bring it back.
    let id = fixture.simulator.install(SimulatedInstallation::new("acme", []));
    fixture.simulator.add(SimulatedOperation {
        installation_id: id.clone(),
        ..SimulatedOperation::new("c", LONG, 100)
    });
    fixture.no_progress(&id, "contact").await;
    assert_eq!(fixture.list().await.len(), 2);
    let after = OperationsAfterDelete::Continue;
    fixture.simulator.delete_installation(&id, after).unwrap();
    assert_eq!(fixture.list().await.len(), 1);
}

#[tokio::test]
async fn faults_apply_to_these_paths_and_are_counted_by_kind() {
    let fixture = Fixture::start().await;
    let id = fixture.simulator.install(acme());
    let faults = fixture.simulator.faults();
    let wait = RetryAfter::Seconds(Duration::from_secs(7));
    faults.script(
        "installations",
        [
            SimulatedReply::Status(429, wait),
            SimulatedReply::Status(502, RetryAfter::Absent),
            SimulatedReply::Body(b"[1, 2".to_vec()),
        ],
    );
    let throttled = fixture.get(LIST).await;
    assert_eq!(throttled.headers()["retry-after"], "7");
    problem(throttled, 429).await;
    problem(fixture.get(LIST).await, 502).await;
    let body = fixture.get(LIST).await;
    assert_eq!(body.headers()["content-type"], "application/json");
    assert_eq!(&body.bytes().await.unwrap()[..], b"[1, 2");
    assert_eq!(fixture.list().await.len(), 1);

    let progress = RequestKind::backfill_progress(&id, "contact");
    faults.script(&progress, [SimulatedReply::Truncated]);
    let path = progress_path(&id, "contact");
    assert!(fixture.get(&path).await.bytes().await.is_err());
    let resets = FaultPlan {
        reset: 1.0,
        ..FaultPlan::default()
    };
    faults.set_for(RequestKind::BackfillProgress, Some(resets));
    assert!(fixture.send(&path, Some("simulated-key")).await.is_err());
    assert_eq!(fixture.list().await.len(), 1);
    faults.set_for(RequestKind::BackfillProgress, None);
    faults.forbid(&progress);
    problem(fixture.get(&path).await, 403).await;
    faults.restore(&progress);
    fixture.progress(&id, "contact").await;

    let lists = fixture.simulator.requests_of_kind(RequestKind::Installations);
    assert_eq!(
        (lists.total, lists.succeeded, lists.throttled, lists.server_errors),
        (5, 3, 1, 1)
    );
    let progress = fixture.simulator.requests_of_kind(RequestKind::BackfillProgress);
    assert_eq!(
        (
            progress.total,
            progress.truncated,
            progress.resets,
            progress.forbidden
        ),
        (4, 1, 1, 1)
    );
    assert_eq!(fixture.simulator.requests().total, 9);
    assert_eq!(fixture.simulator.instants_of_lists().len(), 5);
    assert_eq!(fixture.simulator.instants_of_object(&id, "contact").len(), 4);
}

#[tokio::test]
async fn lists_can_be_wrong_in_every_way() {
    let fixture = Fixture::start().await;
    let ids: Vec<String> = (0..3).map(|_| fixture.simulator.install(acme())).collect();
    let altered = async |alteration: BodyAlteration| {
        let faults = fixture.simulator.faults();
        faults.script("installations", [SimulatedReply::Altered(alteration)]);
        fixture.get(LIST).await.bytes().await.unwrap()
    };
    let parsed = async |alteration| serde_json::from_slice::<Value>(&altered(alteration).await).unwrap();
    let cut = altered(BodyAlteration::Cut).await;
    assert!(serde_json::from_slice::<Value>(&cut).is_err());
    let without = parsed(BodyAlteration::WithoutIds).await;
    assert!(
        without
            .as_array()
            .unwrap()
            .iter()
            .all(|one| one.get("id").is_none())
    );
    let wrong = parsed(BodyAlteration::Ids(json!("../no id\n"))).await;
    assert_eq!(wrong[2]["id"], "../no id\n");
    let rotated = parsed(BodyAlteration::RotatedIds).await;
    assert_eq!(
        (&rotated[0]["id"], &rotated[2]["id"]),
        (&json!(ids[1]), &json!(ids[0]))
    );
    let typed = parsed(BodyAlteration::Set(
        "/1/config/content/read/objects".into(),
        json!(7),
    ))
    .await;
    assert_eq!(typed[1]["config"]["content"]["read"]["objects"], 7);
    assert!(typed[0]["config"]["content"]["read"]["objects"].is_object());
    // It applies until it is withdrawn.
    let faults = fixture.simulator.faults();
    faults.always("installations", SimulatedReply::Huge(64 << 20));
    let huge = fixture.get(LIST).await.bytes().await.unwrap();
    assert!(huge.len() > 64 << 20);
    let shown = fixture.get(LIST).await;
    assert_eq!(shown.content_length(), Some(huge.len() as u64));
    drop(shown);
    faults.restore("installations");
    let plan = FaultPlan {
        malformed: 1.0,
        ..FaultPlan::default()
    };
    faults.set(plan, 4);
    for _ in 0..10 {
        let body = fixture.get(LIST).await.bytes().await.unwrap();
        let parsed = serde_json::from_slice::<Value>(&body);
        assert!(parsed.is_err() || parsed.unwrap()[0]["id"].as_str().is_none());
    }
}
