//! Wrong settings: `check` and `run` report all of them at once, in the same words.

use std::fs;
use std::process::Output;

use backfill_watch::simulator::{Simulator, SimulatorConfig};

use crate::support::{Setup, text};

/// Nothing that only a programmer can read.
fn assert_plain(output: &Output) {
    let reported = text(&output.stderr) + &text(&output.stdout);
    for technical in [
        "panicked",
        "RUST_BACKTRACE",
        "stack backtrace",
        "Err(",
        "Some(",
        "src/",
    ] {
        assert!(!reported.contains(technical), "{technical} in:\n{reported}");
    }
}

#[tokio::test]
async fn check_and_run_report_everything_that_is_wrong_at_once() {
    let setup = Setup::empty();
    let folder = setup.folder().to_owned();
    let file = folder.join("config.toml");
    fs::write(folder.join("empty-key"), "\n").unwrap();
    let lines = [
        "watch_lists = \"/tmp/watch.list\"", // unknown key
        "shutdown_timeout = true",           // wrong type
        "retention = \"3 fortnights\"",      // bad duration
        "[ampersand]",
        "project = \"my-project\"",
        "api_key_file = \"empty-key\"",      // empty key
        "ca_file = \"/nonexistent/ca.pem\"", // missing file
        "[poll]",
        "initial_interval = \"0s\"", // interval of zero
        "min_interval = \"10s\"",
        "max_interval = \"5s\"", // max below min
    ];
    fs::write(&file, lines.join("\n")).unwrap();
    let setup = setup.arguments(&["--config", &file.display().to_string()]);
    let check = setup.run("check").await;
    let reported = text(&check.stderr);
    for (line, key) in [
        (1, "watch_lists"),
        (2, "shutdown_timeout"),
        (3, "retention"),
        (6, "ampersand.api_key_file"),
        (7, "ampersand.ca_file"),
        (9, "poll.initial_interval"),
        (11, "poll.max_interval"),
    ] {
        let place = format!("{}:{line}:", file.display());
        let reported = reported.lines().find(|reported| reported.contains(&place));
        assert!(
            reported.is_some_and(|reported| reported.contains(key)),
            "{place} {key}:\n{}",
            text(&check.stderr)
        );
    }
    assert!(reported.contains("did you mean watch_list?"), "{reported}");
    assert_eq!(reported.matches("help: ").count(), 7, "{reported}");
    assert_eq!(check.status.code(), Some(2));
    assert_plain(&check);

    let run = setup.run("run").await;
    assert_eq!(text(&run.stderr), reported);
    assert_eq!(run.status.code(), Some(2));
}

#[tokio::test]
async fn wrong_environment_variables_are_named() {
    let setup = Setup::empty()
        .set("ampersand.project", "my-project")
        .set("poll.max_interval", "often")
        .set("log.format", "xml")
        .variable("AMPERSAND_API_KEY", "two\nlines");
    for command in ["check", "run"] {
        let output = setup.run(command).await;
        let reported = text(&output.stderr);
        for name in [
            "BACKFILL_WATCH_POLL__MAX_INTERVAL",
            "BACKFILL_WATCH_LOG__FORMAT",
            "AMPERSAND_API_KEY",
        ] {
            assert!(reported.contains(name), "{name}:\n{reported}");
        }
        assert!(!reported.contains("lines\n"), "the key is a secret:\n{reported}");
        assert_eq!(output.status.code(), Some(2));
        assert_plain(&output);
    }
}

#[tokio::test]
async fn without_settings_the_error_names_the_required_ones() {
    let output = Setup::empty().run("run").await;
    let reported = text(&output.stderr);
    assert!(
        reported.contains("BACKFILL_WATCH_AMPERSAND__PROJECT"),
        "{reported}"
    );
    assert_eq!(output.status.code(), Some(2));
    assert_plain(&output);

    let missing = Setup::empty().arguments(&["--config", "/nonexistent/config.toml"]);
    let output = missing.run("run").await;
    let reported = text(&output.stderr);
    assert!(reported.contains("/nonexistent/config.toml"), "{reported}");
    assert_eq!(output.status.code(), Some(2));
    assert_plain(&output);
}

#[tokio::test]
async fn missing_ca_certificates_of_this_host_are_a_warning_of_check() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let empty = tempfile::NamedTempFile::new().unwrap();
    let setup = Setup::new(&simulator)
        .variable("SSL_CERT_FILE", empty.path().to_str().unwrap())
        .variable("BACKFILL_WATCH_AMPERSAND__BASE_URL", "https://localhost/v1")
        .list(&["a"]);
    let output = setup.run("check").await;
    let warning = text(&output.stderr);
    assert!(
        warning.contains("warning: no CA certificates were found"),
        "{warning}"
    );
    assert_eq!(output.status.code(), Some(0));
}

#[tokio::test]
async fn check_reports_what_is_right_and_each_wrong_line_of_the_list() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let setup = Setup::new(&simulator);
    let list = setup.list_path().display().to_string();
    let good = setup.list(&["a customer=acme", "b"]);
    let output = good.run("check").await;
    let reported = text(&output.stdout);
    assert!(
        reported.contains("settings: good") && reported.contains("watch list: good (2 operations in "),
        "{reported}"
    );
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
    // No daemon is no problem of the settings.
    assert!(
        reported.contains("daemon: not running (no daemon answers: no control.sock in ")
            && reported.contains("state: none yet ("),
        "{reported}"
    );

    let noted = good.list(&["a", "b deadline=soon", "a"]);
    let output = noted.run("check").await;
    let reported = text(&output.stderr);
    for place in ["2:12: warning", "3:1: note"] {
        assert!(
            reported.contains(&format!("{list}:{place}: ")),
            "{place}:\n{reported}"
        );
    }
    assert_eq!(output.status.code(), Some(0), "no line is rejected");

    let wrong = noted.list(&["a", "b?", "c project=nowhere", "a"]);
    let output = wrong.run("check").await;
    let reported = text(&output.stderr);
    for place in ["2:2", "3:11", "4:1"] {
        assert!(
            reported.contains(&format!("{list}:{place}: ")),
            "{place}:\n{reported}"
        );
    }
    assert!(
        reported.contains("error: 2 lines") && reported.contains("the other lines apply (1 operation)"),
        "{reported}"
    );
    assert_eq!(output.status.code(), Some(2));
    assert_plain(&output);

    let unusable = wrong.list(&["a/b", "customer=acme"]);
    let output = unusable.run("check").await;
    let reported = text(&output.stderr);
    assert!(reported.contains("the list would not be used"), "{reported}");
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test]
async fn check_live_asks_whether_the_key_is_good() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let setup = Setup::new(&simulator).list(&["a"]).arguments(&["--live"]);
    let output = setup.run("check").await;
    assert!(text(&output.stdout).contains("API key of project my-project: good"));
    assert_eq!(output.status.code(), Some(0));

    let setup = setup.variable("AMPERSAND_API_KEY", "no-such-key");
    let output = setup.run("check").await;
    let reported = text(&output.stderr);
    assert!(
        reported.contains("rejected") && !reported.contains("no-such-key"),
        "{reported}"
    );
    assert_eq!(output.status.code(), Some(4));

    simulator.stop().await;
    let output = setup.run("check").await;
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert_plain(&output);
}

#[tokio::test]
async fn a_placeholder_is_refused_as_a_key_by_check_and_at_the_start() {
    let setup = Setup::empty()
        .set("ampersand.project", "my-project")
        .variable("AMPERSAND_API_KEY", "replace-me");
    for command in ["check", "run"] {
        let output = setup.run(command).await;
        let printed = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command}: {printed}");
        assert!(
            printed.contains("environment variable AMPERSAND_API_KEY contains a placeholder"),
            "{command}: {printed}"
        );
        assert_plain(&output);
    }
}

#[tokio::test]
async fn the_settings_that_apply_are_shown_with_their_sources_and_load_again() {
    let setup = Setup::empty()
        .set("ampersand.project", "my-project")
        .variable("AMPERSAND_API_KEY", "hunter2");
    let file = setup.folder().join("config.toml");
    fs::write(&file, "[poll]\nmax_interval = \"90s\"\n").unwrap();
    let file = file.display().to_string();
    let shown = setup.run_with("config", &["show", "--config", &file]).await;
    assert!(shown.status.success(), "{shown:?}");
    let first = text(&shown.stdout);
    for line in [
        format!("max_interval = \"1m 30s\"  # {file}:2:16"),
        "project = \"my-project\"  # environment variable BACKFILL_WATCH_AMPERSAND__PROJECT".to_owned(),
        "# api_key = \"[REDACTED]\"  # environment variable AMPERSAND_API_KEY".to_owned(),
        "retention = \"30days\"  # default".to_owned(),
    ] {
        assert!(first.lines().any(|of_text| of_text == line), "{line} in\n{first}");
    }
    // What is printed is a settings file.
    fs::write(&file, &first).unwrap();
    let again = setup.run_with("config", &["show", "--config", &file]).await;
    assert!(again.status.success(), "{again:?}");
    let values = |text: &str| {
        let lines = text
            .lines()
            .map(|line| line.split("  # ").next().unwrap().to_owned());
        lines.collect::<Vec<_>>()
    };
    assert_eq!(values(&text(&again.stdout)), values(&first));
}

#[tokio::test]
async fn an_address_in_use_is_a_wrong_setting() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let setup = Setup::new(&simulator).set("http.listen", &address);
    let refused = setup.list(&["op-60000-1000-s-a"]).run("run").await;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let reported = text(&refused.stderr);
    for part in [&*format!("cannot listen on {address}"), "http.listen", "in use"] {
        assert!(reported.contains(part), "{part} in\n{reported}");
    }
    assert_plain(&refused);
}
