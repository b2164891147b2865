//! The API, the projects and their keys.

use secrecy::ExposeSecret;

use super::{Case, PROJECT, first_lines};

#[track_caller]
fn key(case: &Case) -> String {
    let projects = case.settings().ampersand.projects;
    assert_eq!(projects.len(), 1);
    projects[0]
        .api_key
        .read_line()
        .unwrap()
        .expose_secret()
        .to_owned()
}

#[test]
fn the_key_of_a_single_project() {
    for toml in [
        "[ampersand]\nproject = 'p'\n",
        "[[ampersand.projects]]\nname = 'p'\n",
    ] {
        let variable = &PROJECT[1..];
        let case = Case::bare(toml)
            .with(variable)
            .file("ampersand-api-key", "of-systemd")
            .file("k", "of-file\n");
        assert_eq!(key(&case), "hunter2");
        let folder = case.folder.path().to_str().unwrap().to_owned();
        let case = case.with(&[("CREDENTIALS_DIRECTORY", &folder)]);
        assert_eq!(key(&case), "of-systemd");
        let case = case.with(&[("BACKFILL_WATCH_AMPERSAND__API_KEY_FILE", "k")]);
        assert_eq!(key(&case), "of-file");
    }
}

#[test]
fn relative_files_are_searched_in_the_credentials_then_beside_the_settings() {
    let toml = "[ampersand]\nproject = 'p'\napi_key_file = 'k'\n";
    let case = Case::bare(toml).file("k", "beside");
    assert_eq!(key(&case), "beside");
    let credentials = tempfile::tempdir().unwrap();
    let folder = credentials.path().to_str().unwrap().to_owned();
    let case = case.with(&[("CREDENTIALS_DIRECTORY", &folder)]);
    assert!(
        case.errors()
            .contains(&format!("cannot read {folder}/k: there is no such file")),
        "{}",
        case.errors()
    );
    std::fs::write(credentials.path().join("k"), "credential").unwrap();
    assert_eq!(key(&case), "credential");
}

#[test]
fn keys_that_cannot_be_used() {
    let of_file = |content: &str| {
        Case::bare("[ampersand]\nproject = 'p'\napi_key_file = 'k'\n")
            .file("k", content)
            .errors()
    };
    assert_eq!(
        of_file("\n"),
        "config.toml:3:16: ampersand.api_key_file: k is empty\n    help: write the secret there"
    );
    assert!(of_file("a\nb\n").contains("k has more than one line"));
    assert!(of_file("sché\n").contains("character at column 4"));
    let text = Case::bare("").with(&PROJECT[..1]).errors();
    assert_eq!(
        text,
        "ampersand.api_key_file: project \"p\" has no API key\n    help: set AMPERSAND_API_KEY, or api_key_file to \
         a file with the key, or the systemd credential ampersand-api-key"
    );
    let text = Case::bare("")
        .with(&PROJECT[..1])
        .with(&[("AMPERSAND_API_KEY", " ")])
        .errors();
    assert!(
        text.contains("environment variable AMPERSAND_API_KEY is empty"),
        "{text}"
    );
}

#[test]
fn which_projects() {
    let text = Case::bare("").errors();
    assert!(
        text.starts_with("ampersand.project: no project is configured\n    help: set ampersand.project"),
        "{text}"
    );
    let text = Case::new("[[ampersand.projects]]\nname = 'p'\n").errors();
    assert!(
        text.contains("AMPERSAND__PROJECT: ampersand.project: is set together with ampersand.projects"),
        "{text}"
    );
    for wrong in ["a/b", "..", ".", "é", "a b"] {
        let text = Case::new("")
            .with(&[("BACKFILL_WATCH_AMPERSAND__PROJECT", wrong)])
            .errors();
        assert!(
            text.contains(&format!("ampersand.project: {wrong:?} is not a valid name")),
            "{text}"
        );
    }
    let longest = "x".repeat(128);
    Case::new("")
        .with(&[("BACKFILL_WATCH_AMPERSAND__PROJECT", &longest)])
        .settings();
    let longer = "x".repeat(129);
    assert!(
        Case::new("")
            .with(&[("BACKFILL_WATCH_AMPERSAND__PROJECT", &longer)])
            .errors()
            .contains("is not a valid name")
    );
}

#[test]
fn several_projects() {
    let case = Case::bare(
        r#"
[ampersand]
api_key_file = "k"
[[ampersand.projects]]
name = "a"
api_key_file = "k"
[[ampersand.projects]]
name = "a"
api_key_file = "missing"
[[ampersand.projects]]
name = "b"
[[ampersand.projects]]
api_key_file = "k"
"#,
    )
    .file("k", "key")
    .with(&PROJECT[1..]);
    assert_eq!(
        first_lines(&case.errors()),
        [
            "config.toml:3:16: ampersand.api_key_file: is ambiguous with several projects",
            "config.toml:8:8: ampersand.projects[1].name: project \"a\" is configured twice",
            "config.toml:9:16: ampersand.projects[1].api_key_file: cannot read missing: there is no such file",
            "config.toml:10:1: ampersand.projects[2].api_key_file: project \"b\" has no API key",
            "config.toml:12:1: ampersand.projects[3].name: is missing",
        ]
    );
}

#[test]
fn base_urls() {
    let load = |url: &str| Case::new(&format!("[ampersand]\nbase_url = '{url}'"));
    let base_url = |url: &str| load(url).settings().ampersand.base_url.to_string();
    assert_eq!(
        base_url("https://api.example.com/v1//"),
        "https://api.example.com/v1"
    );
    assert_eq!(base_url("http://127.0.0.1:8080"), "http://127.0.0.1:8080/");
    for (wrong, problem) in [
        ("api.example.com", "is not a valid URL"),
        ("ftp://example.com", "has the unsupported scheme \"ftp\""),
        ("https://example.com/?a=b", "has a query or a fragment"),
        ("https://example.com/#a", "has a query or a fragment"),
        ("https://u@example.com/", "contains a user name or password"),
        ("", "is empty"),
    ] {
        let text = load(wrong).errors();
        assert!(
            text.contains(&format!("config.toml:2:12: ampersand.base_url: {problem}")),
            "{text}"
        );
    }
    let text = load("http://api.example.com/v1").warnings();
    assert!(
        text.contains("ampersand.base_url: sends the API key in clear text"),
        "{text}"
    );
}

#[test]
fn certificates() {
    let case = Case::new("[ampersand]\nca_file = 'ca.pem'\n");
    assert!(
        case.errors()
            .contains("ampersand.ca_file: cannot read ca.pem: there is no such file")
    );
    let case = case.file("ca.pem", "nothing");
    assert!(
        case.errors()
            .contains("ampersand.ca_file: ca.pem contains no PEM certificate")
    );
    let case = case.file(
        "ca.pem",
        "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
    );
    assert_eq!(case.settings().ampersand.ca_file, Some(case.path("ca.pem")));
}
