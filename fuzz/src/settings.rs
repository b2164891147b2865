//! Settings: a file, and under a parting line variables of the environment.

use std::cell::RefCell;
use std::fs;
use std::time::Duration;

use backfill_watch::config::{ConfigProblem, Environment, Overrides, Place, Settings};
use tempfile::TempDir;

use super::PARTING;

/// The API key in the environment. No message may contain it.
const KEY: &str = "Vq7mX2pLw9Zt4RkY";
/// The longest time that a setting takes: ten years of 365.25 days.
const LONGEST: Duration = Duration::from_secs(315_576_000);

thread_local! {
    static FOLDER: RefCell<TempDir> = RefCell::new(tempfile::tempdir().expect("a folder"));
}

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (file, variables) = text.split_once(PARTING).unwrap_or((&text, ""));
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    let variables = variables
        // These lead out of the folder, to files that are what they are.
        .filter(|(name, _)| name.starts_with("BACKFILL_WATCH_"))
        .chain([("AMPERSAND_API_KEY", KEY)]);
    let environment: Environment = variables.collect();
    FOLDER.with_borrow(|folder| {
        let path = folder.path().join("config.toml");
        fs::write(&path, file).expect("a file");
        let load = || Settings::load_without_secrets(Some(&path), &environment, &Overrides::default());
        match load() {
            Ok(loaded) => {
                assert!(!format!("{loaded:?}").contains(KEY));
                check(&loaded.settings);
                assert!(loaded.warnings.len() <= 100);
                for warning in &loaded.warnings {
                    check_problem(warning, file);
                }
            }
            Err(errors) => {
                assert!((1..=100).contains(&errors.problems().len()));
                for problem in errors.problems() {
                    check_problem(problem, file);
                }
                assert_eq!(
                    load().expect_err("as before"),
                    errors,
                    "reported another way each time"
                );
            }
        }
    });
}

fn check(settings: &Settings) {
    let pace = &settings.poll.schedule;
    assert!(pace.min_interval <= pace.max_interval && pace.initial_interval <= pace.max_interval);
    assert!(pace.multiplier.is_finite() && (0.0..=1.0).contains(&pace.randomization));
    let rules = &settings.poll.watch;
    assert!(rules.progress_step > 0.0 && rules.progress_step <= 100.0);
    assert!(rules.active_statuses.iter().any(|status| status == "in_progress"));
    for time in [
        settings.retention,
        settings.watch_list_refresh,
        settings.shutdown_timeout,
        pace.max_interval,
        rules.stalled_after,
        rules.silent_after.unwrap_or_default(),
        rules.unreachable_after,
        rules.give_up_after.unwrap_or_default(),
    ] {
        assert!(time <= LONGEST, "{time:?}");
    }
}

fn check_problem(problem: &ConfigProblem, file: &str) {
    let reported = problem.to_string();
    assert!(reported.len() < 4_000, "{} bytes: {reported}", reported.len());
    assert!(!reported.contains(KEY));
    assert!(
        !problem.problem.is_empty() && !problem.help.is_empty(),
        "{reported}"
    );
    let is_plain = |text: &str| !text.chars().any(|c| c.is_control() && c != '\n');
    assert!(is_plain(&reported), "{reported:?}");
    if let Some(Place::Spot { line, column, .. }) = &problem.place {
        let text = file.strip_prefix('\u{feff}').unwrap_or(file);
        let found = text.split('\n').nth(line - 1);
        let columns = found.map(|line| line.chars().count() + 2);
        assert!(
            columns.is_some_and(|columns| (1..=columns).contains(column)),
            "not in the file: {reported}"
        );
    }
}
