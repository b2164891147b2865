//! Several settings files: which are read, how they are merged, and how problems are reported.

use std::fs;
use std::time::Duration;

use super::super::LoadedSettings;
use super::super::error::ConfigErrors;
use super::super::files::FileChoice;
use super::super::reader::Purpose;
use super::super::settings::load;
use super::super::{Environment, Overrides};
use super::{Case, SECRET, first_lines};

impl Case {
    /// A file of the folder `conf.d`.
    fn more(self, name: &str, content: &str) -> Self {
        fs::create_dir_all(self.path("conf.d")).unwrap();
        self.file(&format!("conf.d/{name}"), content)
    }

    /// Loads as without `--config`.
    fn usual(&self, purpose: Purpose) -> Result<LoadedSettings, ConfigErrors> {
        let environment = Environment::from_iter(self.variables.iter().cloned());
        let file = self.path("config.toml");
        load(
            &FileChoice::Default(&file),
            &environment,
            &Overrides::default(),
            purpose,
        )
    }

    fn usual_errors(&self) -> String {
        let errors = self.usual(Purpose::Poll).unwrap_err().to_string();
        errors.replace(&format!("{}/", self.folder.path().display()), "")
    }
}

#[test]
fn files_are_merged_in_order_of_name() {
    let case = Case::new("retention = '1d'\n[poll]\nmax_interval = '1m'\nmin_interval = '3s'\n")
        .more("20-last.toml", "[poll]\nmax_interval = '3m'\n")
        .more("10-first.toml", "retention = '2d'\n[poll]\nmax_interval = '2m'\n")
        .more(".hidden.toml", "nonsense")
        .more("30-off.toml.dpkg-dist", "nonsense")
        .more("README", "nonsense");
    let settings = case.usual(Purpose::Poll).unwrap().settings;
    assert_eq!(settings.retention, Duration::from_hours(48));
    assert_eq!(settings.poll.schedule.max_interval, Duration::from_mins(3));
    assert_eq!(settings.poll.schedule.min_interval, Duration::from_secs(3));
    // A file that is named is the only one.
    assert_eq!(case.settings().retention, Duration::from_hours(24));
    // It may be missing.
    fs::remove_file(case.path("config.toml")).unwrap();
    let settings = case.usual(Purpose::Poll).unwrap().settings;
    assert_eq!(settings.poll.schedule.max_interval, Duration::from_mins(3));
    assert_eq!(settings.poll.schedule.min_interval, Duration::from_secs(2));
}

#[test]
fn tables_with_a_name_are_merged_by_name() {
    let first = "[[webhooks]]\nname = 'a'\nurl = 'https://a/'\nsecret_file = 'secret'\nmax_in_flight = 1\n\
                 [[webhooks]]\nname = 'b'\nurl = 'https://b/'\nsecret_file = 'secret'\n";
    let later = "[[webhooks]]\nname = 'c'\nurl = 'https://c/'\nsecret_file = '../secret'\n\
                 [[webhooks]]\nname = 'a'\nmax_in_flight = 5\nmax_backlog = 7\n";
    let case = Case::new(first)
        .file("secret", SECRET)
        .more("1.toml", later)
        .more("2.toml", "[[webhooks]]\nname = 'c'\nmax_backlog = 9\n");
    let webhooks = case.usual(Purpose::Poll).unwrap().settings.webhooks;
    let shown: Vec<_> = webhooks
        .iter()
        .map(|webhook| {
            (
                &*webhook.name,
                webhook.url.host_str().unwrap(),
                webhook.max_in_flight.get(),
                webhook.max_backlog.get(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [("a", "a", 5, 7), ("b", "b", 16, 1_000_000), ("c", "c", 16, 9)]
    );
    // Within one file a name that repeats is a mistake.
    let twice = "[[webhooks]]\nname = 'd'\nurl = 'https://d/'\nsecret_file = '../secret'\n".repeat(2);
    let case = case.more("3.toml", &twice);
    let errors = case.usual_errors();
    assert!(
        errors.starts_with("conf.d/3.toml:6:8: webhooks[4].name: the name \"d\" is used twice"),
        "{errors}"
    );
    // So is one that an earlier file has.
    let twice = "[[webhooks]]\nname = 'a'\nurl = 'https://x/'\nsecret_file = '../secret'\n".repeat(2);
    let errors = case.more("3.toml", &twice).usual_errors();
    assert!(
        errors.contains("conf.d/3.toml:6:8: webhooks[3].name: the name \"a\" is used twice"),
        "{errors}"
    );
}

#[test]
fn projects_are_merged_by_name_and_keys_are_beside_the_file_that_names_them() {
    let case = Case::bare("[[ampersand.projects]]\nname = 'one'\napi_key_file = 'key'\n")
        .more(
            "x.toml",
            "[[ampersand.projects]]\nname = 'two'\napi_key_file = 'key'\n[[ampersand.projects]]\nname = 'one'\n",
        )
        .more("key", "second")
        .file("key", "first");
    let projects = case.usual(Purpose::Poll).unwrap().settings.ampersand.projects;
    let places: Vec<_> = projects
        .iter()
        .map(|project| (&*project.name, project.api_key.to_string()))
        .collect();
    let key = |path: &str| case.path(path).display().to_string();
    assert_eq!(places, [("one", key("key")), ("two", key("conf.d/key"))]);
}

#[test]
fn each_problem_names_the_file_and_the_place() {
    let case = Case::new("colour = 'red'\n[poll]\nmax_interval = 'soon'\n")
        .more("a.toml", "[poll]\nmin_interval = 'never'\n")
        .more("b.toml", "\n[http]\nlistne = 'off'\n");
    assert_eq!(
        first_lines(&case.usual_errors()),
        [
            "conf.d/a.toml:2:16: poll.min_interval: \"never\" is not a duration",
            "conf.d/b.toml:3:1: http.listne: unknown setting",
            "config.toml:1:1: colour: unknown setting",
            "config.toml:3:16: poll.max_interval: \"soon\" is not a duration",
        ]
    );
    // Of syntax errors, those of all files are reported, and nothing else.
    let case = Case::new("a = \n")
        .more("a.toml", "b = \n")
        .more("b.toml", "colour = 'red'\n");
    let errors = first_lines(&case.usual_errors()).join("\n");
    assert!(errors.contains("conf.d/a.toml:1:5: not valid TOML"), "{errors}");
    assert!(errors.contains("config.toml:1:5: not valid TOML"), "{errors}");
}

#[test]
fn what_cannot_be_read_is_named() {
    let case = Case::new("").more("a.toml", "");
    fs::create_dir(case.path("conf.d/b.toml")).unwrap();
    std::os::unix::fs::symlink("nowhere", case.path("conf.d/c.toml")).unwrap();
    let errors = case.usual_errors();
    assert!(
        errors.contains("conf.d/b.toml: cannot read the settings: it is a directory"),
        "{errors}"
    );
    assert!(
        errors.contains("conf.d/c.toml: cannot read the settings: there is no such file"),
        "{errors}"
    );
    let case = Case::new("").file("conf.d", "");
    let errors = case.usual_errors();
    assert!(errors.contains("conf.d: cannot read the settings"), "{errors}");
    let mut case = Case::new("");
    for index in 0..=256 {
        case = case.more(&format!("{index}.toml"), "");
    }
    let errors = case.usual_errors();
    assert!(
        errors.contains("conf.d: cannot read the settings: it has more than 256 files"),
        "{errors}"
    );
}

/// The settings that apply, as `config show` prints them: key, value, place.
fn values(case: &Case) -> Vec<(String, String, String)> {
    let effective = case.usual(Purpose::Inspect).unwrap().effective;
    effective
        .values()
        .into_iter()
        .map(|value| {
            let place = value
                .place
                .map_or("default".to_owned(), |place| place.to_string());
            let folder = format!("{}/", case.folder.path().display());
            (value.key, value.value, place.replace(&folder, ""))
        })
        .collect()
}

#[test]
fn every_value_names_its_source() {
    let case = Case::new("[poll]\nmax_interval = '90s'\n[webhook]\nurl = 'https://hooks/T0P-S3CRET?key=1'\n")
        .with(&[
            ("BACKFILL_WATCH_RETENTION", "1d"),
            ("BACKFILL_WATCH_WEBHOOK_SECRET", SECRET),
        ])
        .more(
            "a.toml",
            "[poll]\nmin_interval = '3s'\nactive_statuses = ['queued']\n",
        );
    let values = values(&case);
    let find = |name: &str| {
        let found = values.iter().find(|(key, ..)| key == name);
        let (_, value, place) = found.unwrap_or_else(|| panic!("{name} in {values:?}"));
        (value.as_str(), place.as_str())
    };
    assert_eq!(find("poll.max_interval"), ("\"1m 30s\"", "config.toml:2:16"));
    assert_eq!(find("poll.min_interval"), ("\"3s\"", "conf.d/a.toml:2:16"));
    assert_eq!(
        find("poll.active_statuses"),
        ("[\"in_progress\", \"queued\"]", "conf.d/a.toml:3:19")
    );
    assert_eq!(find("poll.multiplier"), ("1.5", "default"));
    assert_eq!(
        find("retention"),
        ("\"1day\"", "environment variable BACKFILL_WATCH_RETENTION")
    );
    assert_eq!(
        find("ampersand.api_key"),
        ("\"[REDACTED]\"", "environment variable AMPERSAND_API_KEY")
    );
    assert_eq!(find("webhook.url").0, "\"https://hooks/…\"");
    // A part of a value is no setting.
    let loaded = case.usual(Purpose::Inspect).unwrap().effective.values();
    let url = loaded.iter().find(|value| value.key == "webhook.url").unwrap();
    assert!(!url.is_setting);
    let all = format!("{values:?}");
    assert!(
        !all.contains("T0P") && !all.contains("hunter2") && !all.contains("whsec_"),
        "{all}"
    );
}
