//! The control socket and the commands that use it, with the built binary.
#![expect(clippy::unwrap_used, reason = "a panic is how the helpers of a test fail it")]

#[path = "support/mod.rs"]
#[expect(
    dead_code,
    reason = "shared by several test programs, each of which uses a part"
)]
mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Output;

use backfill_watch::simulator::{Simulator, SimulatorConfig};
use reqwest::Client;
use serde_json::Value;
use support::{Daemon, Setup, lines_of, skip, text, until, until_answered};

/// What every daemon here watches.
const OPERATION: &str = "op-3600000-100-s-a";

fn socket_in(folder: &Path) -> PathBuf {
    folder.join("control.sock")
}

/// The control socket of a daemon without `RUNTIME_DIRECTORY`.
fn socket_of(setup: &Setup) -> PathBuf {
    socket_in(&setup.folder().join("state"))
}

/// Settings in a file, so that they can change.
fn with_file(setup: Setup, text: &str) -> Setup {
    let setup = setup.unset("poll.max_interval");
    let file = setup.folder().join("config.toml");
    fs::write(&file, text).unwrap();
    setup.arguments(&["--config", &file.display().to_string()])
}

fn change_file(daemon: &Daemon, text: &str) {
    fs::write(daemon.setup().folder().join("config.toml"), text).unwrap();
}

/// A daemon that is ready.
async fn start(setup: Setup) -> Daemon {
    let daemon = setup.list(&[OPERATION]).start();
    daemon.event("operation.started").await;
    daemon
}

async fn reload(daemon: &Daemon) -> Output {
    daemon.setup().run("reload").await
}

#[tokio::test]
async fn it_answers_without_http_and_is_gone_after_a_stop() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    for umask in ["0", "0777"] {
        let unmasked = format!(r#"umask {umask}; exec "$0" "$@""#);
        let setup = Setup::new(&simulator).wrapped_in(&["sh", "-c", &unmasked]);
        // The folder would be of no use to its owner.
        fs::create_dir(setup.folder().join("state")).unwrap();
        let daemon = start(setup).await;
        let socket = socket_of(daemon.setup());
        let metadata = socket.symlink_metadata().unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o600);

        let status = daemon.setup().run("status").await;
        assert_eq!(status.status.code(), Some(0), "{status:?}");
        assert!(text(&status.stdout).contains(OPERATION), "{status:?}");
        let check = daemon.setup().run_with("status", &["--check"]).await;
        assert_eq!(check.status.code(), Some(0));
        assert!(check.stdout.is_empty() && check.stderr.is_empty(), "{check:?}");
        daemon.stop().await;
        assert!(!socket.exists());
    }
}

#[tokio::test]
async fn event_streams_leave_connections_for_commands() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let setup = Setup::new(&simulator).set("http.listen", "127.0.0.1:0");
    let daemon = start(setup).await;
    let control = Client::builder()
        .unix_socket(socket_of(daemon.setup()))
        .build()
        .unwrap();
    let mut streams = Vec::new();
    for _ in 0..64 {
        let stream = control.get("http://localhost/api/events/stream").send();
        streams.push(stream.await.unwrap());
    }
    let refused = streams.iter().filter(|stream| stream.status() == 503).count();
    assert_eq!(refused, 32);
    let status = daemon.setup().run("status").await;
    assert_eq!(status.status.code(), Some(0), "{status:?}");
    let reloaded = reload(&daemon).await;
    assert_eq!(reloaded.status.code(), Some(0), "{reloaded:?}");
    drop(streams);
    daemon.stop().await;
}

#[tokio::test]
async fn tokens_do_not_apply_to_it_and_its_own_routes_are_nowhere_else() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let setup = Setup::new(&simulator).set("http.listen", "127.0.0.1:0");
    let token = setup.folder().join("token");
    fs::write(&token, "s3cret-token\n").unwrap();
    let daemon = start(setup.set("http.token_file", &token.display().to_string())).await;
    let state = daemon.setup().folder().join("state").display().to_string();
    // Another environment, which has neither the token nor the address.
    let status = Setup::empty().run_with("status", &["--state-dir", &state]).await;
    assert_eq!(status.status.code(), Some(0), "{status:?}");

    let address = daemon.address().await;
    let network = Client::builder().no_proxy().build().unwrap();
    let control = Client::builder()
        .unix_socket(socket_of(daemon.setup()))
        .build()
        .unwrap();
    for path in ["/api/reload", "/api/check"] {
        let asked = network
            .post(format!("http://{address}{path}"))
            .bearer_auth("s3cret-token");
        assert_eq!(asked.send().await.unwrap().status(), 404, "{path}");
        let url = format!("http://localhost{path}");
        assert_eq!(control.post(&url).send().await.unwrap().status(), 200, "{path}");
        let problem = control.get(&url).send().await.unwrap();
        assert_eq!(problem.status(), 405, "{path}");
        assert_eq!(problem.headers()["content-type"], "application/problem+json");
    }
    for path in [
        "/",
        "/metrics",
        "/livez",
        "/readyz",
        "/api/operations",
        "/api/attention",
        "/api/projects",
    ] {
        let answer = control
            .get(format!("http://localhost{path}"))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff", "{path}");
    }
    // An address that is named wins over the socket.
    let named = Setup::empty()
        .run_with(
            "status",
            &["--state-dir", &state, "--listen", &address.to_string()],
        )
        .await;
    assert_eq!(named.status.code(), Some(1), "{named:?}");
    assert!(text(&named.stderr).contains("token"), "{named:?}");
    // One that is configured and cannot be read is named.
    let unread = Setup::empty()
        .set("http.token_file", "/nonexistent/token")
        .run_with("status", &["--listen", &address.to_string()])
        .await;
    assert_eq!(unread.status.code(), Some(1), "{unread:?}");
    let printed = text(&unread.stderr);
    assert!(
        printed.contains("/nonexistent/token") && printed.contains("sudo"),
        "{printed}"
    );
    daemon.stop().await;
}

#[tokio::test]
async fn a_stale_file_is_replaced() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let daemon = start(Setup::new(&simulator)).await;
    let setup = daemon.kill().await;
    let socket = socket_of(&setup);
    assert!(UnixStream::connect(&socket).is_err() && socket.exists());
    let status = setup.run("status").await;
    assert_eq!(status.status.code(), Some(3), "{status:?}");
    let daemon = setup.start();
    until("it is served", || UnixStream::connect(&socket).is_ok()).await;
    daemon.stop().await;
}

#[tokio::test]
async fn the_socket_of_a_living_daemon_stays_its_own() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let first = Setup::new(&simulator);
    let runtime = first.folder().join("runtime").display().to_string();
    let folders = format!("{runtime}:/nonexistent");
    let first = start(first.variable("RUNTIME_DIRECTORY", &folders)).await;
    let socket = socket_in(Path::new(&runtime));
    let inode = socket.symlink_metadata().unwrap().ino();
    assert!(!socket_of(first.setup()).exists());

    let second = start(Setup::new(&simulator).variable("RUNTIME_DIRECTORY", &runtime)).await;
    let warned = second.message("cannot create the control socket").await;
    assert!(
        warned["error"]
            .as_str()
            .unwrap()
            .contains("another process is using"),
        "{warned:?}"
    );
    second.stop().await;
    assert_eq!(socket.symlink_metadata().unwrap().ino(), inode);
    let status = first.setup().run("status").await;
    assert_eq!(status.status.code(), Some(0), "{status:?}");
    first.stop().await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_deleted_file_is_created_again() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let daemon = start(Setup::new(&simulator)).await;
    let socket = socket_of(daemon.setup());
    fs::remove_file(&socket).unwrap();
    daemon
        .message("the file of the control socket was deleted; it is created again")
        .await;
    let mode = socket.symlink_metadata().unwrap().mode() & 0o7777;
    assert_eq!(mode, 0o600);
    let status = daemon.setup().run("status").await;
    assert_eq!(status.status.code(), Some(0), "{status:?}");
    daemon.stop().await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_second_daemon_on_the_same_state_reports_only_the_lock() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let first = start(Setup::new(&simulator)).await;
    let state = first.setup().folder().join("state").display().to_string();
    let setup = Setup::new(&simulator).set("state_dir", &state);
    let mut second = setup.list(&[OPERATION]).start();
    assert_eq!(second.exit_code().await, Some(2), "{}", second.log);
    let log = second.log.text();
    assert!(
        log.contains("is in use") && !log.contains("control socket"),
        "{log}"
    );
    first.stop().await;
}

#[tokio::test]
async fn where_its_path_is_too_long_the_daemon_runs_without_it() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let setup = Setup::new(&simulator);
    let folder = setup.folder().join("x".repeat(100)).display().to_string();
    let daemon = start(setup.set("state_dir", &folder)).await;
    let warned = daemon.message("cannot create the control socket").await;
    assert!(
        warned["error"].as_str().unwrap().contains("at most 107"),
        "{warned:?}"
    );
    let none = reload(&daemon).await;
    assert_eq!(none.status.code(), Some(3), "{none:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_reload_reports_what_it_applied() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let setup = Setup::new(&simulator).unset("http.listen").unset("log.format");
    let base = "[http]\nlisten = \"off\"\n[log]\nformat = \"json\"\n";
    let daemon = start(with_file(setup, base)).await;

    let same = reload(&daemon).await;
    assert_eq!(same.status.code(), Some(0), "{same:?}");
    assert!(text(&same.stdout).contains("settings: no changes"), "{same:?}");
    assert!(
        text(&same.stdout).contains("watch list applied: 1 operation in"),
        "{same:?}"
    );

    let changed = "watch_list_refresh = \"1h\"\n[poll]\nmax_interval = \"7s\"\n[http]\nlisten = \"127.0.0.1:1\"\n\
                   [log]\nformat = \"pretty\"\n";
    change_file(&daemon, changed);
    fs::write(daemon.list_path(), lines_of(&[OPERATION, "b", "=c"])).unwrap();
    let reloaded = reload(&daemon).await;
    assert_eq!(reloaded.status.code(), Some(0), "{reloaded:?}");
    let printed = text(&reloaded.stdout);
    assert!(
        printed.contains("settings applied: poll.max_interval\n"),
        "{printed}"
    );
    assert!(
        printed.contains("settings kept until a restart: http.listen, log.format\n"),
        "{printed}"
    );
    assert!(
        printed.contains("watch list applied: 2 operations in"),
        "{printed}"
    );
    let warned = text(&reloaded.stderr);
    let place = format!("warning: {}:3:1: ", daemon.list_path().display());
    assert!(
        warned.contains(&place) && !warned.contains("more rejected lines"),
        "{warned}"
    );
    // What was kept is kept until a restart, and named each time.
    let again = reload(&daemon).await;
    let printed = text(&again.stdout);
    assert!(printed.contains("settings: no changes"), "{printed}");
    assert!(
        printed.contains("until a restart: http.listen, log.format\n"),
        "{printed}"
    );

    // An unusable list refuses no reload.
    fs::write(daemon.list_path(), "=c\n").unwrap();
    let unusable = reload(&daemon).await;
    assert_eq!(unusable.status.code(), Some(0), "{unusable:?}");
    assert!(text(&unusable.stderr).contains("stays active"), "{unusable:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn broken_settings_are_refused_with_every_problem_and_the_running_ones_stay() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let daemon = start(with_file(Setup::new(&simulator), "")).await;
    change_file(
        &daemon,
        "nonsense = 1\n[poll]\nmax_interval = \"never\"\n[metrics]\nper_operation = true\n",
    );
    let refused = reload(&daemon).await;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(refused.stdout.is_empty(), "{refused:?}");
    let printed = text(&refused.stderr);
    for part in [
        "config.toml:1:1: nonsense: unknown setting",
        "config.toml:3:16: poll.max_interval: ",
        "2 errors",
        "the previous settings stay active",
    ] {
        assert!(printed.contains(part), "{part} in\n{printed}");
    }
    // Status works with settings that are broken, and shows what is wrong.
    let status = daemon.setup().run("status").await;
    assert_eq!(status.status.code(), Some(1), "{status:?}");
    assert!(
        text(&status.stdout).contains("settings not applied"),
        "{status:?}"
    );
    let alive = daemon.setup().folder().join("config.toml").display().to_string();
    let alive = daemon
        .setup()
        .run_with("status", &["--check", "--config", &alive])
        .await;
    assert_eq!(alive.status.code(), Some(0));

    // Settings that are right and cannot be applied are refused, too.
    change_file(
        &daemon,
        "[ampersand]\nca_file = \"config.toml\"\n[metrics]\nper_operation = true\n",
    );
    let refused = reload(&daemon).await;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let control = Client::builder()
        .unix_socket(socket_of(daemon.setup()))
        .build()
        .unwrap();
    let metrics = control.get("http://localhost/metrics").send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(
        metrics.contains("backfill_watch_config_last_reload_successful 0"),
        "{metrics}"
    );
    assert!(
        !metrics.contains("backfill_watch_operation_records_processed"),
        "{metrics}"
    );

    change_file(&daemon, "[metrics]\nper_operation = true\n");
    let good = reload(&daemon).await;
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    assert!(
        text(&good.stdout).contains("settings applied: metrics.per_operation"),
        "{good:?}"
    );
    daemon.stop().await;
}

#[tokio::test]
async fn reloads_at_the_same_time_are_all_answered_truly() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let daemon = start(with_file(Setup::new(&simulator), "")).await;
    let control = Client::builder()
        .unix_socket(socket_of(daemon.setup()))
        .build()
        .unwrap();
    let url = "http://localhost/api/reload";
    change_file(&daemon, "nonsense = 1\n");
    daemon.signal(&["HUP"]);
    let answers = tokio::join!(
        control.post(url).send(),
        control.post(url).send(),
        reload(&daemon)
    );
    for answer in [answers.0.unwrap(), answers.1.unwrap()] {
        assert_eq!(answer.status(), 422);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let problem: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!(problem["errors"][0]["key"], "nonsense", "{problem}");
    }
    assert_eq!(answers.2.status.code(), Some(2));
    change_file(&daemon, "");
    let answers = tokio::join!(
        control.post(url).send(),
        control.post(url).send(),
        reload(&daemon)
    );
    for answer in [answers.0.unwrap(), answers.1.unwrap()] {
        assert_eq!(answer.status(), 200);
        let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!(body["watchList"]["entries"], 1, "{body}");
    }
    assert_eq!(answers.2.status.code(), Some(0));
    daemon.stop().await;
}

#[tokio::test]
async fn a_replaced_key_is_named() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let setup = Setup::new(&simulator).without("AMPERSAND_API_KEY");
    let key = setup.folder().join("key");
    fs::write(&key, "simulated-key\n").unwrap();
    let daemon = start(setup.set("ampersand.api_key_file", &key.display().to_string())).await;
    fs::write(&key, "\"simulated-key-2\"\n").unwrap();
    let printed = reload(&daemon).await;
    assert!(
        text(&printed.stdout).contains("new API key for project: my-project"),
        "{printed:?}"
    );
    daemon.stop().await;
}

#[tokio::test]
async fn operations_are_added_and_removed_by_commands() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let daemon = start(Setup::new(&simulator)).await;
    let setup = daemon.setup();
    let id = "op-3600000-100-s-b";
    let run = async |command: &str, arguments: &[&str], code: i32| {
        let output = setup.run_with(command, arguments).await;
        assert_eq!(
            output.status.code(),
            Some(code),
            "{command} {arguments:?}: {output:?}"
        );
        match code {
            0 => text(&output.stdout),
            _ => text(&output.stderr),
        }
    };
    assert_eq!(
        run("add", &[id, "customer=Gale Ltd", "deadline=2h"], 0).await,
        format!("added {id}\n")
    );
    daemon.event_of(id, "operation.started").await;
    let status = run("status", &[], 0).await;
    assert!(
        status.contains("SOURCE") && status.contains("customer=\"Gale Ltd\""),
        "{status}"
    );
    let again = run("add", &[id, "project=my-project"], 0).await;
    assert_eq!(again, format!("updated {id} in project my-project\n"));
    assert_eq!(
        run("remove", &[id], 0).await,
        format!("removed {id} from project my-project\n")
    );
    let missing = run("remove", &[id], 2).await;
    assert!(missing.contains("no such operation is watched"), "{missing}");

    // What is in the watch list, too, stays.
    let listed = run("remove", &[OPERATION], 2).await;
    assert!(listed.contains("its source is: file"), "{listed}");
    run("add", &[OPERATION], 0).await;
    let removed = run("remove", &[OPERATION, "--project", "my-project"], 0).await;
    assert!(
        removed.contains("still watched, because of its source file"),
        "{removed}"
    );

    // Errors name their place.
    for (arguments, reason) in [
        (&["a b"][..], "a b: ' ' cannot be part of an operation ID"),
        (&[id, "acme"], "\"acme\" is not a label"),
        (&[id, "a=\"b"], "the quoted value has no end"),
        (&[id, "deadline=soon"], "deadline: is neither"),
        (
            &[id, "project=other"],
            "project: project \"other\" is not configured",
        ),
    ] {
        let refused = run("add", arguments, 2).await;
        assert!(refused.contains(reason), "{refused}");
    }
    let refused = run("remove", &[id, "--project", "other"], 2).await;
    assert!(refused.contains("\"other\" is not configured"), "{refused}");
    let writes = daemon.log.lines(|line| line["address"] == "control socket");
    assert_eq!(writes.len(), 5, "{writes:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn commands_write_over_http_with_a_token() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let setup = Setup::new(&simulator).set("http.listen", "127.0.0.1:0");
    let file = |name: &str, text: &str| {
        let path = setup.folder().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (read, write, wrong) = (
        file("read", "the-read-token\n"),
        file("write", "the-write-token\n"),
        file("wrong", "another-token\n"),
    );
    let setup = setup
        .set("http.token_file", &read)
        .set("http.write_token_file", &write);
    let daemon = start(setup).await;
    let url = format!("http://{}/", daemon.address().await);
    let id = "op-3600000-100-s-c";
    // Another environment, which has no control socket.
    let elsewhere = Setup::empty();
    let run = async |command: &str, token: &str| {
        let arguments = [id, "--url", &url, "--token-file", token];
        elsewhere.run_with(command, &arguments).await
    };
    let added = run("add", &write).await;
    assert_eq!(added.status.code(), Some(0), "{added:?}");
    for (token, reason) in [(&read, "may only read"), (&wrong, "http.write_token_file")] {
        let refused = run("add", token).await;
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(text(&refused.stderr).contains(reason), "{refused:?}");
    }
    let missing = run("add", "/nonexistent/token").await;
    assert_eq!(missing.status.code(), Some(2), "{missing:?}");
    assert!(
        text(&missing.stderr).contains("/nonexistent/token"),
        "{missing:?}"
    );
    let removed = run("remove", &write).await;
    assert_eq!(removed.status.code(), Some(0), "{removed:?}");
    let _stopped = daemon.stop().await;
    let none = run("add", &write).await;
    assert_eq!(none.status.code(), Some(3), "{none:?}");
    // A URL needs a token, and is a URL.
    for arguments in [
        &[id, "--url", &url][..],
        &[id, "--token-file", &write],
        &[id, "--url", "x", "--token-file", &write],
    ] {
        let usage = elsewhere.run_with("add", arguments).await;
        assert_eq!(usage.status.code(), Some(2), "{usage:?}");
    }
}

#[tokio::test]
async fn only_an_answer_of_the_daemon_changes_something() {
    let setup = Setup::empty();
    let token = setup.folder().join("token");
    fs::write(&token, "a-token\n").unwrap();
    let token = token.display().to_string();
    let refused = r#"{"title":"Service Unavailable","status":503,"detail":"the disk is full"}"#;
    for (status, body, code, reason) in [
        (200, r#"{"ok":1}"#, 3, "is not from backfill-watch"),
        (502, "<html>Bad Gateway</html>", 3, "is not from backfill-watch"),
        (503, refused, 2, "the disk is full"),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let status = axum::http::StatusCode::from_u16(status).unwrap();
        let app = axum::Router::new().fallback(async move || (status, body));
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        for command in [&["add", "a"][..], &["remove", "a", "--project", "p"]] {
            let target = ["--url", &url, "--token-file", &token];
            let arguments = [&command[1..], &target].concat();
            let output = setup.run_with(command[0], &arguments).await;
            assert_eq!(output.status.code(), Some(code), "{output:?}");
            assert!(text(&output.stderr).contains(reason), "{output:?}");
            assert!(output.stdout.is_empty(), "{output:?}");
        }
        server.abort();
    }
}

#[tokio::test]
async fn without_a_daemon_the_exit_code_is_3() {
    let setup = Setup::empty();
    for (command, arguments) in [
        ("reload", &[][..]),
        ("status", &[]),
        ("add", &["a"]),
        ("remove", &["a"]),
    ] {
        let none = setup.run_with(command, arguments).await;
        assert_eq!(none.status.code(), Some(3), "{none:?}");
        let printed = text(&none.stderr);
        let state = setup.folder().join("state").display().to_string();
        assert!(
            printed.contains("no daemon answers") && printed.contains(&state),
            "{printed}"
        );
    }
    let check = setup.run_with("status", &["--check"]).await;
    assert_eq!(check.status.code(), Some(1));
}

/// A command as a user who may not open what the daemon has.
fn as_another_user(setup: &Setup) -> Option<Setup> {
    let id = std::process::Command::new("id").arg("-u").output().unwrap();
    if text(&id.stdout).trim() != "0" {
        // Without root, taking the rights away does the same.
        fs::set_permissions(setup.folder().join("state"), fs::Permissions::from_mode(0o000)).unwrap();
        return Some(Setup::empty());
    }
    let setpriv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    match std::process::Command::new(setpriv[0]).arg("--version").output() {
        Ok(_) => Some(Setup::empty().wrapped_in(&setpriv)),
        Err(error) => skip(&format!("setpriv: {error}")),
    }
}

#[tokio::test]
async fn an_error_names_the_user_to_run_as_where_the_rights_are_missing() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let daemon = start(Setup::new(&simulator)).await;
    let state = daemon.setup().folder().join("state").display().to_string();
    let Some(other) = as_another_user(daemon.setup()) else {
        return;
    };
    for (command, more) in [
        ("status", &[][..]),
        ("reload", &[]),
        ("events", &[]),
        ("replay", &["--dead-letters"]),
    ] {
        let arguments: Vec<&str> = ["--state-dir", &state]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        let refused = other.run_with(command, &arguments).await;
        assert_eq!(refused.status.code(), Some(2), "{command}: {refused:?}");
        let printed = text(&refused.stderr);
        assert!(
            printed.contains("Permission denied")
                && printed.contains("sudo")
                && printed.contains("--state-dir"),
            "{command}: {printed}"
        );
        assert!(!printed.contains("no daemon"), "{command}: {printed}");
    }
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    daemon.stop().await;
}

#[tokio::test]
async fn check_asks_the_daemon_for_secrets_that_only_it_can_read() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let setup = with_file(Setup::new(&simulator).without("AMPERSAND_API_KEY"), "");
    let credentials = setup.folder().join("credentials");
    fs::create_dir(&credentials).unwrap();
    let key = credentials.join("ampersand-api-key");
    fs::write(&key, "simulated-key\n").unwrap();
    let unit = credentials.display().to_string();
    let daemon = start(setup.variable("CREDENTIALS_DIRECTORY", &unit)).await;
    // A login shell has the same settings, without the credentials.
    let config = daemon.setup().folder().join("config.toml").display().to_string();
    let mut shell = Setup::empty().arguments(&["--config", &config]);
    for (name, value) in daemon.setup().environment() {
        if name != "CREDENTIALS_DIRECTORY" {
            shell = shell.variable(name, value);
        }
    }
    let checked = shell.run("check").await;
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    assert!(
        text(&checked.stdout).contains("secrets checked by the daemon"),
        "{checked:?}"
    );
    for line in ["daemon: running (", "state: writable ("] {
        assert!(text(&checked.stdout).contains(line), "{checked:?}");
    }
    let live = shell.run_with("check", &["--config", &config, "--live"]).await;
    assert_eq!(live.status.code(), Some(0), "{live:?}");
    assert!(
        text(&live.stdout).contains("API key of project my-project: good"),
        "{live:?}"
    );

    // The daemon's word counts: what it cannot use is an error, with the place.
    change_file(
        &daemon,
        "[webhook]\nurl = \"https://hooks.example.com\"\nsecret_file = \"nowhere\"\n",
    );
    let wrong = shell.run("check").await;
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    let printed = text(&wrong.stderr);
    assert!(
        printed.contains("webhook.secret_file") && printed.contains("config.toml:3:"),
        "{printed}"
    );
    assert!(!printed.contains("has no API key"), "{printed}");
    change_file(&daemon, "");

    // A key that the API rejects.
    fs::write(&key, "another-key\n").unwrap();
    let reloaded = reload(&daemon).await;
    assert_eq!(reloaded.status.code(), Some(0), "{reloaded:?}");
    until_answered("the key is rejected", async || {
        let live = shell.run_with("check", &["--config", &config, "--live"]).await;
        match live.status.code() {
            Some(4) => Ok(()),
            _ => Err(format!("{live:?}")),
        }
    })
    .await;

    // The daemon reports no other settings.
    let other = Setup::empty();
    let file = other.folder().join("config.toml");
    fs::write(&file, "[ampersand]\nproject = \"p\"\n").unwrap();
    let state = daemon.setup().folder().join("state").display().to_string();
    let unknown = other
        .run_with(
            "check",
            &["--config", &file.display().to_string(), "--state-dir", &state],
        )
        .await;
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
    assert!(text(&unknown.stderr).contains("other settings"), "{unknown:?}");

    let setup = daemon.stop().await;
    let alone = shell.run("check").await;
    assert_eq!(alone.status.code(), Some(2), "{alone:?}");
    let printed = text(&alone.stderr);
    assert!(
        printed.contains("has no API key") && printed.contains("no daemon answers"),
        "{printed}"
    );
    drop(setup);
}

#[tokio::test]
async fn an_operation_that_has_no_event_is_reported() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let daemon = start(Setup::new(&simulator)).await;
    let events = async |arguments: &[&str]| {
        let output = daemon.setup().run_with("events", arguments).await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        (text(&output.stdout), text(&output.stderr))
    };
    let (shown, printed) = events(&["--operation", "op-nobody-knows"]).await;
    assert!(
        shown.is_empty() && printed.contains("op-nobody-knows"),
        "{shown}{printed}"
    );
    let (shown, printed) = events(&["--operation", OPERATION]).await;
    assert!(
        shown.contains("operation.started") && printed.is_empty(),
        "{shown}{printed}"
    );
    // It has events, though none of this type.
    let (shown, printed) = events(&["--operation", OPERATION, "--type", "operation.failed"]).await;
    assert!(shown.is_empty() && printed.is_empty(), "{shown}{printed}");
    daemon.stop().await;
}
