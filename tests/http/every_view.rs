//! Each kind of attention is made real. Every view shows it, and none does after recovery.
//!
//! Kinds that need an hour, a panic or a race are tested with paused time (`src/core/attention/`, `src/polling/tests/`) and by
//! `deploy/monitoring/alerts.test.yml`.

mod views;

use std::fs;
use std::time::Duration;

use backfill_watch::core::attention::AttentionKind;
use backfill_watch::simulator::{FaultPlan, Receiver, ReceiverConfig, RetryAfter, SimulatedReply};

use crate::fixture::{Fixture, damage_a_watch, in_file, limit_file_size, reload};
use crate::support::{Setup, lines_of, replace_file};
use views::Views;

const RUNS: &str = "op-600000-500000-s-runs";

fn polling_fast(setup: Setup) -> Setup {
    setup
        .set("poll.unreachable_after", "1s")
        .set("poll.stalled_after", "1s")
        .set("poll.not_found_grace", "1s")
}

fn list(fixture: &Fixture, lines: &[&str]) {
    replace_file(&fixture.daemon.list_path(), &lines_of(lines));
}

#[tokio::test]
async fn problems_of_the_api_and_of_operations() {
    let fixture = Fixture::start_with(&[RUNS], polling_fast).await;
    let Some(mut views) = Views::start(&fixture).await else {
        return;
    };
    let faults = fixture.simulator.faults();

    let down = FaultPlan {
        server_error: 1.0,
        ..FaultPlan::default()
    };
    faults.set(down, 1);
    let entry = views.show(&fixture, AttentionKind::ApiUnreachable).await;
    faults.set(FaultPlan::default(), 1);
    views.clear(&fixture, AttentionKind::ApiUnreachable, &entry).await;

    let keys = |key: &str| fixture.simulator.set_api_keys("my-project", [key.to_owned()]);
    keys("another");
    let entry = views.show(&fixture, AttentionKind::CredentialsRejected).await;
    keys("simulated-key");
    views
        .clear(&fixture, AttentionKind::CredentialsRejected, &entry)
        .await;

    let ill = "op-600000-500000-s-ill";
    faults.always(ill, SimulatedReply::Status(500, RetryAfter::Absent));
    list(&fixture, &[RUNS, ill]);
    let entry = views.show(&fixture, AttentionKind::OperationUnreachable).await;
    assert_eq!(entry["subject"], ill);
    faults.restore(ill);
    views
        .clear(&fixture, AttentionKind::OperationUnreachable, &entry)
        .await;

    // Its count rises once in minutes.
    let stalled = "op-600000-5-s-stalls";
    list(&fixture, &[RUNS, stalled]);
    let entry = views.show(&fixture, AttentionKind::OperationStalled).await;
    assert_eq!(entry["subject"], stalled);
    list(&fixture, &[RUNS]);
    views
        .clear(&fixture, AttentionKind::OperationStalled, &entry)
        .await;

    list(&fixture, &[&format!("{RUNS} deadline=2020-01-01T00:00:00Z")]);
    let entry = views.show(&fixture, AttentionKind::OperationOverdue).await;
    list(&fixture, &[&format!("{RUNS} deadline=10h")]);
    views
        .clear(&fixture, AttentionKind::OperationOverdue, &entry)
        .await;

    let failing = "op-100-100-f-fails";
    list(&fixture, &[RUNS, failing]);
    let entry = views.show(&fixture, AttentionKind::OperationFailed).await;
    assert_eq!(entry["subject"], failing);
    // The retry succeeds.
    list(&fixture, &[RUNS, failing, "op-100-100-s-succeeds"]);
    views
        .clear(&fixture, AttentionKind::OperationFailed, &entry)
        .await;
    views.close().await;
}

fn webhook(receiver: &Receiver, more: &str) -> String {
    format!(
        "[[webhooks]]\nname = \"crm\"\nurl = \"{}\"\nsecret_file = \"secret\"\nevents = [\"operation.started\"]\n{more}",
        receiver.url()
    )
}

#[tokio::test]
async fn problems_of_webhooks() {
    let receiver = Receiver::start(ReceiverConfig::default()).await.unwrap();
    let settings = webhook(&receiver, "");
    let fixture = Fixture::start_with(&[RUNS], |setup| in_file(setup, &settings)).await;
    let Some(mut views) = Views::start(&fixture).await else {
        return;
    };

    let path = "/hook";
    let fails = || SimulatedReply::Status(500, RetryAfter::Absent);
    receiver.faults().always(path, fails());
    let waiting: Vec<String> = (0..8).map(|n| format!("op-600000-500000-s-{n}")).collect();
    let waiting: Vec<&str> = std::iter::once(RUNS)
        .chain(waiting.iter().map(String::as_str))
        .collect();
    list(&fixture, &waiting);
    let entry = views.show(&fixture, AttentionKind::EndpointFailing).await;
    assert_eq!(entry["subject"], "crm");
    receiver.faults().restore(path);
    views
        .clear(&fixture, AttentionKind::EndpointFailing, &entry)
        .await;

    receiver
        .faults()
        .script(path, [SimulatedReply::Status(410, RetryAfter::Absent)]);
    list(&fixture, &[RUNS, "op-600000-500000-s-of-410"]);
    let entry = views.show(&fixture, AttentionKind::EndpointDisabled).await;
    fixture.daemon.signal(&["HUP"]);
    views
        .clear(&fixture, AttentionKind::EndpointDisabled, &entry)
        .await;

    let secret = fixture.daemon.setup().folder().join("secret");
    let text = fs::read_to_string(&secret).unwrap();
    fs::write(&secret, "").unwrap();
    fixture.daemon.signal(&["HUP"]);
    let entry = views.show(&fixture, AttentionKind::EndpointWithoutSecret).await;
    let message = entry["message"].as_str().unwrap();
    assert!(message.contains("secret is empty"), "{message}");
    replace_file(&secret, &text);
    reload(&fixture.daemon, &settings);
    views
        .clear(&fixture, AttentionKind::EndpointWithoutSecret, &entry)
        .await;

    // Of two events that wait, one is too many.
    receiver.faults().always(path, fails());
    reload(&fixture.daemon, &webhook(&receiver, "max_backlog = 1\n"));
    list(
        &fixture,
        &[RUNS, "op-600000-500000-s-first", "op-600000-500000-s-second"],
    );
    let entry = views.show(&fixture, AttentionKind::DeadLetters).await;
    receiver.faults().restore(path);
    let config = fixture
        .daemon
        .setup()
        .folder()
        .join("config.toml")
        .display()
        .to_string();
    // As many dead letters return as the backlog takes.
    reload(&fixture.daemon, &webhook(&receiver, ""));
    let replay = ["--config", &config, "--dead-letters"];
    let replayed = fixture.daemon.setup().run_with("replay", &replay).await;
    assert!(replayed.status.success(), "{replayed:?}");
    views.clear(&fixture, AttentionKind::DeadLetters, &entry).await;
    views.close().await;
}

#[tokio::test]
async fn problems_of_files() {
    let mut fixture = Fixture::start_with(&[RUNS], |setup| {
        // Every view is read before the removal is applied.
        in_file(setup.set("watch_list_shrink_delay", "10m"), "")
    })
    .await;
    let Some(mut views) = Views::start(&fixture).await else {
        return;
    };

    list(&fixture, &[RUNS, "not an = operation"]);
    let entry = views.show(&fixture, AttentionKind::WatchListRejectedLines).await;
    list(&fixture, &[RUNS]);
    views
        .clear(&fixture, AttentionKind::WatchListRejectedLines, &entry)
        .await;

    fs::remove_file(fixture.daemon.list_path()).unwrap();
    let entry = views.show(&fixture, AttentionKind::WatchListUnreadable).await;
    list(&fixture, &[RUNS]);
    views
        .clear(&fixture, AttentionKind::WatchListUnreadable, &entry)
        .await;

    let many: Vec<String> = (0..20).map(|n| format!("op-600000-500000-s-{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    list(&fixture, &many);
    fixture.phase(many[19], "running").await;
    list(&fixture, &[]);
    let entry = views.show(&fixture, AttentionKind::WatchListShrunk).await;
    list(&fixture, &many);
    views
        .clear(&fixture, AttentionKind::WatchListShrunk, &entry)
        .await;

    reload(&fixture.daemon, "nonsense = 1\n");
    let entry = views.show(&fixture, AttentionKind::SettingsRejected).await;
    reload(&fixture.daemon, "");
    views
        .clear(&fixture, AttentionKind::SettingsRejected, &entry)
        .await;

    limit_file_size(&fixture.daemon, "16384");
    list(&fixture, &[&many[..], &["op-100-100-s-unrecorded"]].concat());
    let entry = views.show(&fixture, AttentionKind::StateNotWritable).await;
    limit_file_size(&fixture.daemon, "unlimited");
    views
        .clear(&fixture, AttentionKind::StateNotWritable, &entry)
        .await;

    let listen = fixture.address.to_string();
    let setup = fixture.daemon.stop().await;
    let state = setup.folder().join("state/state.db");
    damage_a_watch(&state);
    fixture.daemon = setup.set("http.listen", &listen).start();
    fixture.ready().await;
    let entry = views.show(&fixture, AttentionKind::StateDamaged).await;
    fixture.daemon = fixture.daemon.stop().await.start();
    fixture.ready().await;
    views.clear(&fixture, AttentionKind::StateDamaged, &entry).await;

    fs::remove_file(&state).unwrap();
    let entry = views.show(&fixture, AttentionKind::StateRemoved).await;
    fixture.daemon = fixture.daemon.kill().await.start();
    fixture.ready().await;
    views.clear(&fixture, AttentionKind::StateRemoved, &entry).await;
    views.close().await;
}

#[tokio::test]
async fn problems_of_discovery() {
    let discovering = "[[discover]]\nevery = \"1s\"\n";
    let fixture = Fixture::start_with(&[RUNS], |setup| in_file(setup, discovering)).await;
    let Some(mut views) = Views::start(&fixture).await else {
        return;
    };
    let faults = fixture.simulator.faults();

    faults.always("installations", SimulatedReply::Status(500, RetryAfter::Absent));
    let entry = views.show(&fixture, AttentionKind::DiscoveryFailing).await;
    faults.restore("installations");
    views
        .clear(&fixture, AttentionKind::DiscoveryFailing, &entry)
        .await;

    let of_nobody = format!("{discovering}groups = [\"nobody\"]\n");
    reload(&fixture.daemon, &of_nobody);
    let entry = views.show(&fixture, AttentionKind::DiscoveryMatchesNothing).await;
    reload(&fixture.daemon, discovering);
    views
        .clear(&fixture, AttentionKind::DiscoveryMatchesNothing, &entry)
        .await;
    views.close().await;
}

#[tokio::test]
async fn problems_that_are_listed_after_a_minute() {
    let slow = "[ampersand]\nmax_requests_per_second = 0.5\n";
    let lines: Vec<String> = (0..20).map(|n| format!("op-600000-500000-s-{n}")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let saturated = Fixture::start_with(&lines, |setup| {
        in_file(setup.unset("ampersand.max_requests_per_second"), slow)
    })
    .await;
    let paused = Fixture::start(&[RUNS]).await;
    paused.phase(RUNS, "running").await;
    let wait = SimulatedReply::Status(429, RetryAfter::Seconds(Duration::from_secs(80)));
    paused.simulator.faults().script_all(std::iter::repeat_n(wait, 1));
    let Some(mut views) = Views::start(&saturated).await else {
        return;
    };
    let entry = views.show(&saturated, AttentionKind::GateSaturated).await;
    reload(
        &saturated.daemon,
        "[ampersand]\nmax_requests_per_second = 1000.0\n",
    );
    views
        .clear(&saturated, AttentionKind::GateSaturated, &entry)
        .await;

    views.turn_to(&paused).await;
    let entry = views.show(&paused, AttentionKind::PausedByApi).await;
    views.clear(&paused, AttentionKind::PausedByApi, &entry).await;
    views.close().await;
}
