use clap::{Args as _, FromArgMatches as _};

use super::*;

fn parse(arguments: &str) -> Result<WatchArgs, clap::Error> {
    let command = WatchArgs::augment_args(clap::Command::new("watch").no_binary_name(true));
    command.clone().debug_assert();
    WatchArgs::from_arg_matches(&command.try_get_matches_from(arguments.split(' '))?)
}

#[test]
fn durations_are_more_than_nothing() {
    let args = parse("op-1 - --timeout 1h30m --interval 5s").unwrap();
    assert_eq!(args.ids, ["op-1", "-"]);
    assert_eq!(args.timeout, Some(Duration::from_mins(90)));
    assert_eq!(args.interval, Some(Duration::from_secs(5)));
    for wrong in [
        "op-1 --timeout 0s",
        "op-1 --timeout 5",
        "op-1 --interval 100years",
        "--json",
        "op-1 --json -q",
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn an_interval_bounds_the_others() {
    let settings = crate::config::Settings::load(
        None,
        &crate::config::Environment::from_iter([
            ("BACKFILL_WATCH_AMPERSAND__PROJECT", "p"),
            ("AMPERSAND_API_KEY", "k"),
        ]),
        &crate::config::Overrides::default(),
    );
    let mut poll = settings.unwrap().settings.poll;
    set_interval(&mut poll, Duration::from_secs(10));
    let seconds = |poll: &PollSettings| {
        [
            poll.schedule.min_interval,
            poll.schedule.initial_interval,
            poll.schedule.max_interval,
        ]
        .map(|time| time.as_secs_f64())
    };
    assert_eq!(seconds(&poll), [2.0, 2.0, 10.0]);
    set_interval(&mut poll, Duration::from_millis(500));
    assert_eq!(seconds(&poll), [0.5, 0.5, 0.5]);
}
