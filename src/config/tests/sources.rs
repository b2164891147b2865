//! Where settings come from, and which one applies.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::files::FileChoice;
use super::super::reader::Purpose;
use super::super::settings::load;
use super::super::{Environment, Overrides, Settings};
use super::{Case, PROJECT, first_lines};

#[test]
fn no_file_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    let environment = Environment::from_iter(PROJECT.iter().copied());
    let loaded = load(
        &FileChoice::Default(&file),
        &environment,
        &Overrides::default(),
        Purpose::Poll,
    )
    .unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(&*loaded.settings.ampersand.projects[0].name, "p");
    assert_eq!(loaded.settings.state_dir, Path::new("/var/lib/backfill-watch"));
    assert_eq!(
        loaded.settings.http.listen,
        Some("127.0.0.1:8464".parse().unwrap())
    );
}

#[test]
fn later_sources_win() {
    let toml = "watch_list = 'file'\nstate_dir = 'file'\nretention = '1d'\n[http]\nlisten = '127.0.0.1:1'";
    let mut case = Case::new(toml);
    let settings = case.settings();
    assert_eq!(
        (settings.watch_list, settings.retention),
        (PathBuf::from("file"), Duration::from_secs(86_400))
    );

    case = case.with(&[
        ("BACKFILL_WATCH_WATCH_LIST", "environment"),
        ("BACKFILL_WATCH_http__LISTEN", "127.0.0.1:2"),
        ("BACKFILL_WATCH_RETENTION", ""),
    ]);
    let settings = case.settings();
    assert_eq!(settings.watch_list, Path::new("environment"));
    assert_eq!(settings.http.listen, Some("127.0.0.1:2".parse().unwrap()));
    assert_eq!(
        settings.retention,
        Duration::from_secs(86_400),
        "an empty variable is not set"
    );

    case.overrides = Overrides {
        watch_list: Some("flag".into()),
        state_dir: Some(PathBuf::from(std::ffi::OsString::from_vec(vec![b'f', 0xff]))),
        listen: Some("off".into()),
        ..Overrides::default()
    };
    let settings = case.settings();
    assert_eq!(settings.watch_list, Path::new("flag"));
    assert_eq!(settings.state_dir.as_os_str().len(), 2);
    assert_eq!(settings.http.listen, None);

    case.overrides = Overrides {
        watch_list: Some("".into()),
        listen: Some("nowhere".into()),
        ..Overrides::default()
    };
    assert_eq!(
        first_lines(&case.errors()),
        [
            "flag --listen: http.listen: \"nowhere\" is not an address with a port",
            "flag --watch-list: watch_list: is empty",
        ]
    );
}

#[test]
fn a_file_that_cannot_be_used() {
    let case = Case::new("");
    let error = |path: &Path| {
        let errors = Settings::load(Some(path), &case.environment(), &Overrides::default()).unwrap_err();
        case.short(&errors.to_string())
    };
    assert_eq!(
        error(&case.path("nowhere.toml")),
        "nowhere.toml: cannot read the settings: there is no such file\n    help: create the file, or correct the path"
    );
    assert!(error(case.folder.path()).contains("cannot read the settings: it is a directory, not a file"));
    let case = Case::new("").file("config.toml", [b'a', 0xff]);
    assert!(
        case.errors()
            .starts_with("config.toml: cannot read the settings: it is not UTF-8 text")
    );
    let large = format!("#{}", "x".repeat(1024 * 1024 - 1));
    Case::new(&large).settings();
    assert!(
        Case::new(&format!("{large}x"))
            .errors()
            .contains("it is larger than 1048576 bytes")
    );
}

#[test]
fn a_syntax_error_is_reported_alone_with_its_place() {
    let text = Case::bare("watch_list = \"w\"\n[poll]\n  max_interval = 1m\nunknown = 1\n").errors();
    assert!(text.starts_with("config.toml:3:18: not valid TOML: "), "{text}");
    assert!(!text.contains("unknown") && !text.contains("project"), "{text}");
    let text = Case::bare("retention = '1d'\nretention = '2d'\n").errors();
    assert!(
        text.starts_with("config.toml:2:1: not valid TOML: duplicate key"),
        "{text}"
    );
}

#[test]
fn a_byte_order_mark_and_crlf_are_accepted() {
    let settings = Case::new("\u{feff}watch_list = \"w\"\r\n[poll]\r\nmultiplier = 2\r\n").settings();
    assert_eq!(
        (settings.watch_list.as_path(), settings.poll.schedule.multiplier),
        (Path::new("w"), 2.0)
    );
}

#[test]
fn unknown_keys_of_the_file_are_errors_with_suggestions() {
    let case = Case::new(
        r#"
watch_lst = "w"
"poll.max_interval" = "5s"
[poll]
max_intervall = "1m"
state_dir = "s"
[polls]
x = 1
[metrics.nested]
per_operation = true
"#,
    );
    assert_eq!(
        case.errors(),
        "\
config.toml:2:1: watch_lst: unknown setting
    help: did you mean watch_list? It belongs at the top of the file, before the first [table]
config.toml:3:1: poll.max_interval: unknown setting
    help: write the key without quotation marks
config.toml:5:1: poll.max_intervall: unknown setting
    help: did you mean poll.max_interval?
config.toml:6:1: poll.state_dir: unknown setting
    help: did you mean state_dir? It belongs at the top of the file, before the first [table]
config.toml:7:2: polls: unknown setting
    help: remove it; `backfill-watch config reference` lists all settings
config.toml:9:10: metrics.nested: unknown setting
    help: remove it; `backfill-watch config reference` lists all settings"
    );
}

#[test]
fn unknown_environment_names_are_warnings() {
    let case = Case::new("").with(&[
        ("BACKFILL_WATCH_AMPERSAND_PROJECT", "q"),
        ("BACKFILL_WATCH_AMPERSAND__API_KEY", "hunter2"),
        ("BACKFILL_WATCH_LOG__FORMAT__X", "json"),
        ("BACKFILL_WATCH_PORT_8464_TCP", "tcp://10.0.0.7:8464"),
        ("BACKFILL_WATCH_WEBHOOKS", "[]"),
        ("BACKFILL_WATCH_WEBHOOK_SECRET", "whsec_"),
        ("OTHER_NAME", "x"),
    ]);
    insta::assert_snapshot!(case.warnings(), @"
    environment variable BACKFILL_WATCH_AMPERSAND_PROJECT: unknown setting, ignored
        help: did you mean BACKFILL_WATCH_AMPERSAND__PROJECT?
    environment variable BACKFILL_WATCH_AMPERSAND__API_KEY: unknown setting, ignored
        help: put the API key into a file and name it with api_key_file, or into the environment as AMPERSAND_API_KEY
    environment variable BACKFILL_WATCH_LOG__FORMAT__X: unknown setting, ignored
        help: did you mean BACKFILL_WATCH_LOG__FORMAT?
    environment variable BACKFILL_WATCH_PORT_8464_TCP: unknown setting, ignored
        help: ignore this if Kubernetes sets it for a Service of this name (prevent it with enableServiceLinks: false), otherwise correct the name
    environment variable BACKFILL_WATCH_WEBHOOKS: unknown setting, ignored
        help: set each table by index, as in BACKFILL_WATCH_WEBHOOKS__0__NAME
    ");
}

#[test]
fn wrong_values_for_tables_and_settings() {
    let case = Case::new("poll = 5\nwebhooks = ['x']\nlog = [1]\n[watch_list]\nx = 1\n");
    assert_eq!(
        first_lines(&case.errors()),
        [
            "config.toml:1:8: poll: expected a table, found the whole number 5",
            "config.toml:2:13: webhooks[0]: expected a table, found the text \"x\"",
            "config.toml:3:7: log: expected a table, found a list",
            "config.toml:4:1: watch_list: expected a path, found a table",
        ]
    );
}

#[test]
fn tables_are_set_by_index_in_the_environment_too() {
    let case = Case::bare("[[ampersand.projects]]\nname = 'a'\napi_key_file = 'key'\n")
        .file("key", "k")
        .with(&[
            ("BACKFILL_WATCH_AMPERSAND__PROJECTS__0__NAME", "b"),
            ("BACKFILL_WATCH_AMPERSAND__PROJECTS__10__NAME", "d"),
            ("BACKFILL_WATCH_AMPERSAND__PROJECTS__10__API_KEY_FILE", "key"),
            ("BACKFILL_WATCH_AMPERSAND__PROJECTS__2__NAME", "c"),
            ("BACKFILL_WATCH_AMPERSAND__PROJECTS__2__API_KEY_FILE", "key"),
        ]);
    let names: Vec<_> = case
        .settings()
        .ampersand
        .projects
        .iter()
        .map(|project| project.name.to_string())
        .collect();
    assert_eq!(names, ["b", "c", "d"]);
}

#[test]
fn the_state_directory_comes_from_the_environment_by_default() {
    let state_dir = |variables: &[(&str, &str)]| Case::new("").with(variables).settings().state_dir;
    let home = ("HOME", "/home/u");
    let xdg = ("XDG_STATE_HOME", "/x");
    assert_eq!(
        state_dir(&[("STATE_DIRECTORY", "/a:/b"), xdg, home]),
        Path::new("/a")
    );
    assert_eq!(
        state_dir(&[("STATE_DIRECTORY", ""), xdg, home]),
        Path::new("/x/backfill-watch")
    );
    assert_eq!(
        state_dir(&[("XDG_STATE_HOME", "relative"), home]),
        Path::new("/home/u/.local/state/backfill-watch")
    );
    assert_eq!(state_dir(&[]), Path::new("/var/lib/backfill-watch"));
}

#[test]
fn errors_are_bounded() {
    let toml: String = (0..40_000).map(|n| format!("key_number_{n} = 1\n")).collect();
    let errors = Case::new(&toml).load().unwrap_err();
    assert_eq!(errors.problems().len(), 100);
    assert!(errors.to_string().ends_with("and 39900 more problems"));
}

#[test]
fn deep_nesting_is_a_syntax_error() {
    let deep = "[".repeat(500_000);
    let text = Case::new(&format!("retention = {deep}")).errors();
    assert!(
        text.starts_with("config.toml:1:") && text.contains("not valid TOML"),
        "{text}"
    );
    let text = Case::new("")
        .with(&[("BACKFILL_WATCH_POLL__ACTIVE_STATUSES", &deep)])
        .errors();
    assert!(text.contains("is not a valid TOML list"), "{text}");
}

const TWO: &str = "[[ampersand.projects]]\nname = 'a'\napi_key_file = 'key'\n[[ampersand.projects]]\nname = 'b'\napi_key_file = 'absent'";

/// The project of `--project`: its name and where its key is, or the errors.
fn named(case: Case, project: &str, purpose: Purpose) -> Result<(String, String), Vec<String>> {
    let overrides = Overrides {
        project: Some(project.to_owned()),
        ..Overrides::default()
    };
    let file = case.path("config.toml");
    let environment: Environment = case.variables.iter().cloned().collect();
    match load(&FileChoice::Default(&file), &environment, &overrides, purpose) {
        Ok(loaded) => {
            let [project] = loaded.settings.ampersand.projects.as_slice() else {
                panic!("expected one project");
            };
            Ok((project.name.to_string(), project.api_key.to_string()))
        }
        Err(errors) => Err(first_lines(&errors.to_string())
            .into_iter()
            .map(str::to_owned)
            .collect()),
    }
}

#[test]
fn a_project_flag_names_the_only_project_and_other_keys_are_not_read() {
    let case = || Case::bare(TWO).file("key", "k");
    let (name, key) = named(case(), "a", Purpose::Request).unwrap();
    assert!(name == "a" && key.ends_with("/key"), "{name} {key}");
    assert_eq!(named(case(), "b", Purpose::Request).unwrap_err().len(), 1);
    let (name, key) = named(case().with(&[("AMPERSAND_API_KEY", "k")]), "c", Purpose::Request).unwrap();
    assert_eq!(
        (name.as_str(), key.as_str()),
        ("c", "environment variable AMPERSAND_API_KEY")
    );
    assert_eq!(
        named(case(), "c", Purpose::Request).unwrap_err(),
        ["flag --project: ampersand.project: \"c\" is not one of the configured projects: a, b"]
    );
    assert_eq!(
        named(case(), "no name", Purpose::Request).unwrap_err(),
        ["flag --project: ampersand.project: \"no name\" is not a valid name"]
    );
}

#[test]
fn requests_need_no_secret_but_the_api_key() {
    let toml =
        "[http]\ntoken_file = 'absent'\n[webhook]\nurl = 'https://example.com'\nsecret_file = 'absent'";
    assert!(named(Case::new(toml), "p", Purpose::Request).is_ok());
    assert_eq!(named(Case::new(toml), "p", Purpose::Poll).unwrap_err().len(), 2);
}
