//! The cost of the daemon: memory, processor time and delay of the built binary while it polls the simulator, which has
//! one core. Measurements of processor time use the other core, all others may use both.
//!
//! `cargo bench --bench daemon -- memory|million|sidecar|cpu|saturated|lag|queries|frozen|readers|start|line|size|all`. For `cpu`,
//! `GO_POLLER` names a program to measure beside ours: `GO_POLLER BASE LIST INITIAL_MS MAX_MS CONNECTIONS`. `saturated` needs `wrk`.
//! For `cpu` and `memory`, `BEFORE` names another version of the binary to measure in the same run.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use backfill_watch::clock;

#[path = "daemon/frozen.rs"]
mod frozen;
#[path = "daemon/minimal_poller.rs"]
mod minimal_poller;
#[path = "daemon/processes.rs"]
mod processes;
#[path = "daemon/readers.rs"]
mod readers;

use processes::{Api, Daemon, Folder, MeasuredProcess, binary, binary_before, ids};

const MEBIBYTE: f64 = 1024.0 * 1024.0;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["memory"] => memory(),
        ["million"] => million(),
        ["sidecar"] => sidecar(),
        ["cpu"] => cpu(),
        ["saturated"] => saturated(),
        ["lag"] => lag(),
        ["queries"] => queries(),
        ["frozen"] => frozen::frozen(),
        ["readers"] => readers::readers(),
        ["start"] => start(),
        ["line"] => line(),
        ["size"] => size(),
        [] | ["all"] => [
            size,
            sidecar,
            start,
            line,
            frozen::frozen,
            readers::readers,
            cpu,
            saturated,
            lag,
            memory,
            million,
        ]
        .iter()
        .try_for_each(|bench| bench()),
        // What this program runs itself as.
        ["api"] => processes::serve(),
        ["bare", base, list, interval] => minimal_poller::poll(base, list, interval.parse()?),
        _ => anyhow::bail!(
            "there are: memory million sidecar cpu saturated lag queries frozen readers start line size all"
        ),
    }
}

fn report(what: &str, measured: impl Display, goal: &str, met: bool) {
    println!(
        "{what}: {measured} (goal: {goal}; {})",
        if met { "met" } else { "missed" }
    );
}

/// What so many watches cost, state store and HTTP on.
struct Cost {
    /// Until each had a poller.
    start: Duration,
    /// In bytes, after each was polled twice, and at most ever.
    resident: f64,
    most_resident: f64,
    /// Of processor time, in microseconds, at an even pace.
    a_poll: f64,
    polls_per_second: f64,
}

impl Cost {
    /// Of watches that are polled every `interval`. Their first polls are spread over most of it, so that the pace is even.
    fn of(binary: &Path, count: usize, interval: Duration) -> anyhow::Result<Self> {
        const MEASURED: Duration = Duration::from_secs(20);
        let api = Api::start()?;
        let seconds = format!("{}s", interval.as_secs());
        let rate = 1.25 * count as f64 / interval.as_secs_f64();
        let begin = clock::instant();
        let daemon = Daemon::start_of(
            binary,
            &api,
            &ids(count, ""),
            &[
                ("poll__initial_interval", &seconds),
                ("poll__max_interval", &seconds),
                ("ampersand__max_requests_per_second", &rate.to_string()),
            ],
        )?;
        daemon.wait_for_pollers(count)?;
        let start = begin.elapsed();
        daemon.wait_for_polls(count + count / 4)?;
        let (cpu, polls, begin) = (daemon.cpu()?, api.requests()?, clock::instant());
        std::thread::sleep(MEASURED);
        let (cpu, polls) = (daemon.cpu()? - cpu, api.requests()? - polls);
        let polls_per_second = polls / begin.elapsed().as_secs_f64();
        daemon.wait_for_polls(2 * count)?;
        Ok(Self {
            start,
            resident: daemon.resident()? as f64,
            most_resident: daemon.most_resident()? as f64,
            a_poll: cpu.as_secs_f64() * 1e6 / polls,
            polls_per_second,
        })
    }
}

/// Prints a table of what so many watches cost that are polled so often, and returns the last row.
fn costs(binary: &Path, rows: &[(usize, Duration)]) -> anyhow::Result<Cost> {
    println!("| watches | every | polls/s | start | CPU a poll | resident | at most | a watch |");
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut last = None;
    for (count, interval) in rows {
        let cost = Cost::of(binary, *count, *interval)?;
        println!(
            "| {count} | {} min | {:.0} | {:.2} s | {:.0} µs | {:.1} MiB | {:.1} MiB | {:.2} KiB |",
            interval.as_secs() / 60,
            cost.polls_per_second,
            cost.start.as_secs_f64(),
            cost.a_poll,
            cost.resident / MEBIBYTE,
            cost.most_resident / MEBIBYTE,
            cost.resident / *count as f64 / 1024.0,
        );
        last = Some(cost);
    }
    last.context("no rows")
}

fn memory() -> anyhow::Result<()> {
    let rows = [1_000, 10_000, 100_000].map(|count| (count, Duration::from_mins(1)));
    if let Some(before) = binary_before() {
        println!("{}:", before.display());
        costs(&before, &rows)?;
    }
    let of_most = costs(&binary(), &rows)?;
    let a_watch = of_most.resident / 100_000.0 / 1024.0;
    report(
        "resident memory a watch, of 100,000",
        format_args!("{a_watch:.2} KiB"),
        "at most 1.2 KiB",
        a_watch <= 1.2,
    );
    Ok(())
}

/// A million watches, every ten minutes; takes twenty.
fn million() -> anyhow::Result<()> {
    let million = costs(&binary(), &[(1_000_000, Duration::from_mins(10))])?;
    let most = million.most_resident / MEBIBYTE;
    report(
        "resident memory of a million watches, at most",
        format_args!("{most:.0} MiB"),
        "at most 1.2 GiB",
        most <= 1.2 * 1024.0,
    );
    Ok(())
}

fn sidecar() -> anyhow::Result<()> {
    let api = Api::start()?;
    let daemon = Daemon::start(&api, &ids(10, ""), &[])?;
    daemon.wait_for_polls(30)?;
    let resident = daemon.resident()? as f64 / MEBIBYTE;
    report(
        "resident memory, 10 watches",
        format_args!("{resident:.1} MiB"),
        "at most 12 MiB",
        resident <= 12.0,
    );
    Ok(())
}

/// A thousand watches every 100 ms, on one core, beside what else could poll them: each in turn, several times, as the speed of
/// the machine comes and goes.
fn cpu() -> anyhow::Result<()> {
    const WATCHES: usize = 1_000;
    const ROUNDS: usize = 5;
    let api = Api::start()?;
    let list = Folder::new()?.with_list(&ids(WATCHES, ""))?;
    let a_poll = |measured: &MeasuredProcess| -> anyhow::Result<f64> {
        std::thread::sleep(Duration::from_secs(2));
        let (cpu, requests) = (measured.cpu()?, api.requests()?);
        std::thread::sleep(Duration::from_secs(5));
        Ok((measured.cpu()? - cpu).as_secs_f64() * 1e6 / (api.requests()? - requests))
    };
    let bare = {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bare", &api.base_url]).arg(list.list()).arg("100");
        command
    };
    let go = std::env::var_os("GO_POLLER").map(|program| {
        let mut command = Command::new(program);
        command
            .env("GOMAXPROCS", "1")
            .arg(&api.base_url)
            .arg(list.list())
            .args(["100", "100", "64"]);
        command
    });
    let of_daemon = |binary: &Path| {
        let settings = [
            ("poll__initial_interval", "100ms"),
            ("poll__min_interval", "100ms"),
            ("poll__max_interval", "100ms"),
            ("poll__adaptive", "false"),
            ("ampersand__max_requests_per_second", "100000"),
            ("ampersand__max_concurrent_requests", "64"),
        ];
        a_poll(&*Daemon::pinned(binary, &api, &ids(WATCHES, ""), &settings)?)
    };
    let (mut ours, mut before_polls, mut bare_polls, mut go_polls) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(of_daemon(&binary())?);
        if let Some(before) = binary_before() {
            before_polls.push(of_daemon(&before)?);
        }
        bare_polls.push(a_poll(&MeasuredProcess::start(&bare)?)?);
        if let Some(go) = &go {
            go_polls.push(a_poll(&MeasuredProcess::start(go)?)?);
        }
    }
    beside("a bare reqwest loop", &ours, &bare_polls, 1.05);
    if before_polls.is_empty() {
        println!("skipped: the version before, since BEFORE names none");
    } else {
        beside("the version before", &ours, &before_polls, 1.0);
    }
    if go.is_some() {
        beside("the Go loop", &ours, &go_polls, 0.45);
    } else {
        println!("skipped: the Go loop, since GO_POLLER names none");
    }
    Ok(())
}

/// Prints the median of the ratios of consecutive measurements.
fn beside(other: &str, ours: &[f64], theirs: &[f64], goal: f64) {
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let mut ratios: Vec<f64> = ours
        .iter()
        .zip(theirs)
        .map(|(ours, theirs)| ours / theirs)
        .collect();
    let ratio = median(&mut ratios);
    let (ours, theirs) = (median(&mut ours.to_vec()), median(&mut theirs.to_vec()));
    report(
        &format!("CPU a poll beside {other}"),
        format_args!("{ratio:.2} ({ours:.1} and {theirs:.1} µs)"),
        &format!("at most {goal}"),
        ratio <= goal,
    );
}

/// As many polls as one core can make, beside `wrk` on that core.
fn saturated() -> anyhow::Result<()> {
    let api = Api::start()?;
    let daemon = Daemon::pinned(
        &binary(),
        &api,
        &ids(1_000, ""),
        &[
            ("poll__initial_interval", "1ms"),
            ("poll__min_interval", "1ms"),
            ("poll__max_interval", "1ms"),
            ("poll__adaptive", "false"),
            ("ampersand__max_requests_per_second", "100000"),
            ("ampersand__max_concurrent_requests", "64"),
        ],
    )?;
    std::thread::sleep(Duration::from_secs(3));
    let (requests, begin) = (api.requests()?, clock::instant());
    std::thread::sleep(Duration::from_secs(10));
    let ours = (api.requests()? - requests) / begin.elapsed().as_secs_f64();
    drop(daemon);
    let url = format!(
        "{}/projects/my-project/operations/op-86400000-1000000-s-0",
        api.base_url
    );
    let mut wrk = Command::new("taskset");
    wrk.args([
        "-c",
        "0",
        "wrk",
        "-t1",
        "-c64",
        "-d10s",
        "-H",
        "X-Api-Key: simulated-key",
        &url,
    ]);
    let output = wrk.output().context("wrk cannot be run")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    let wrk: f64 = rate
        .with_context(|| format!("wrk says: {text}"))?
        .trim()
        .parse()?;
    report(
        "polls per second of one core beside wrk's",
        format_args!("{:.2} ({ours:.0} and {wrk:.0})", ours / wrk),
        "at least 0.6",
        ours >= 0.6 * wrk,
    );
    Ok(())
}

/// 2,000 polls a second from 100,000 watches: how late polls start.
fn lag() -> anyhow::Result<()> {
    const COUNT: usize = 100_000;
    let api = Api::start()?;
    let daemon = Daemon::start(
        &api,
        &ids(COUNT, ""),
        &[
            // Chance makes it 49 s in the mean.
            ("poll__initial_interval", "52s"),
            ("poll__max_interval", "52s"),
            ("poll__adaptive", "false"),
            ("ampersand__max_requests_per_second", "4000"),
        ],
    )?;
    // The first polls come as fast as the gate lets them; chance has evened that out after some rounds.
    daemon.wait_for_polls(6 * COUNT)?;
    let before = daemon.lags()?;
    std::thread::sleep(Duration::from_secs(30));
    let after = daemon.lags()?;
    let (all, within) = lags_between(&before, &after)?;
    println!("{:.0} polls/s; half started within {} s", all / 30.0, within(0.5));
    let p99 = within(0.99);
    report(
        "poll lag p99",
        format_args!("within {p99} s"),
        "at most 0.02 s",
        p99 <= 0.02,
    );
    Ok(())
}

/// How many polls started between two looks, and within how many seconds this part of them did.
fn lags_between(
    before: &[(f64, f64)],
    after: &[(f64, f64)],
) -> anyhow::Result<(f64, impl Fn(f64) -> f64 + use<>)> {
    let counts: Vec<(f64, f64)> = before
        .iter()
        .zip(after)
        .map(|((bound, a), (_, b))| (*bound, b - a))
        .collect();
    let all = counts.last().context("no polls")?.1;
    let within = move |part: f64| {
        counts
            .iter()
            .find(|(_, count)| *count >= part * all)
            .map_or(f64::NAN, |(bound, _)| *bound)
    };
    Ok((all, within))
}

/// A million watches: how much later polls start while readers ask for pages, counts and single watches.
fn queries() -> anyhow::Result<()> {
    const COUNT: usize = 1_000_000;
    const A_SECOND: u32 = 50;
    const MEASURED: Duration = Duration::from_secs(30);
    let api = Api::start()?;
    let daemon = Daemon::start(
        &api,
        &ids(COUNT, ""),
        &[
            ("poll__initial_interval", "600s"),
            ("poll__max_interval", "600s"),
            ("ampersand__max_requests_per_second", "2500"),
        ],
    )?;
    daemon.wait_for_pollers(COUNT)?;
    // Some polls later, so that first polls are not all that is measured.
    daemon.wait_for_polls(COUNT / 10)?;
    let mean_lag = |readers: bool| {
        let before = daemon.lag()?;
        let begin = clock::instant();
        let mut asked = 0;
        while begin.elapsed() < MEASURED {
            if readers {
                let path = match asked % 4 {
                    0 => "/api/operations?phase=pending".to_owned(),
                    1 => format!(
                        "/api/operations?limit=1000&after={}",
                        after(asked * 7_919 % COUNT)
                    ),
                    2 => format!(
                        "/api/operations/op-86400000-1000000-s-{:07}",
                        asked * 104_729 % COUNT
                    ),
                    _ => "/metrics".to_owned(),
                };
                daemon.get(&path)?;
                asked += 1;
            }
            let next = begin + MEASURED.min(Duration::from_secs(1) / A_SECOND * u32::try_from(asked)?);
            std::thread::sleep(
                next.saturating_duration_since(clock::instant())
                    .max(Duration::from_millis(1)),
            );
        }
        let after = daemon.lag()?;
        println!(
            "{} polls, {asked} answers in {:.0} s",
            after.1 - before.1,
            begin.elapsed().as_secs_f64()
        );
        Ok::<_, anyhow::Error>(1e3 * (after.0 - before.0) / (after.1 - before.1))
    };
    let (without, with) = (mean_lag(false)?, mean_lag(true)?);
    println!(
        "mean poll lag: {without:.2} ms without readers, {with:.2} ms with {A_SECOND} questions a second"
    );
    report(
        "polls start later by",
        format_args!("{:.2} ms", with - without),
        "at most 5 ms",
        with - without <= 5.0,
    );
    Ok(())
}

/// The cursor of the operation before that one.
fn after(number: usize) -> String {
    use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
    BASE64_URL_SAFE_NO_PAD.encode(format!("my-project\nop-86400000-1000000-s-{number:07}"))
}

/// From the start of the process to a poller for each of 100,000 lines.
fn start() -> anyhow::Result<()> {
    const COUNT: usize = 100_000;
    let api = Api::start()?;
    let begin = clock::instant();
    let daemon = Daemon::start(&api, &ids(COUNT, ""), &[])?;
    daemon.wait_for_pollers(COUNT)?;
    let took = begin.elapsed();
    report(
        "start with 100,000 lines",
        format_args!("{:.2} s", took.as_secs_f64()),
        "every poller within 1 s",
        took <= Duration::from_secs(1),
    );
    Ok(())
}

/// One line appended to 100,000: until its operation is asked for, and the CPU that takes.
fn line() -> anyhow::Result<()> {
    const TIMES: usize = 5;
    let api = Api::start()?;
    let daemon = Daemon::start(
        &api,
        &ids(100_000, ""),
        &[
            ("poll__initial_interval", "10m"),
            ("poll__max_interval", "10m"),
            ("ampersand__max_requests_per_second", "20000"),
        ],
    )?;
    // That all of them run is on record by then.
    daemon.wait_for("the first polls", Duration::from_secs(1), |daemon| {
        Ok(daemon.figure("backfill_watch_operations{phase=\"running\"}")? >= 100_000.0)
    })?;
    std::thread::sleep(Duration::from_secs(2));
    let (mut slowest, mut most) = (Duration::ZERO, Duration::ZERO);
    for time in 0..TIMES {
        let (cpu, requests, begin) = (daemon.cpu()?, api.requests()?, clock::instant());
        let mut list = OpenOptions::new().append(true).open(daemon.folder().list())?;
        list.write_all(ids(1, &format!("more-{time}-")).as_bytes())?;
        while api.requests()? <= requests {
            std::thread::sleep(Duration::from_millis(2));
            anyhow::ensure!(
                begin.elapsed() < Duration::from_secs(10),
                "the line is not polled"
            );
        }
        slowest = slowest.max(begin.elapsed());
        std::thread::sleep(Duration::from_secs(1));
        most = most.max(daemon.cpu()? - cpu);
    }
    report(
        "one line added to 100,000, the slowest of five",
        format_args!("{slowest:.0?}"),
        "within 300 ms",
        slowest <= Duration::from_millis(300),
    );
    report(
        "CPU of that, at most (and of a second beside it)",
        format_args!("{most:.0?}"),
        "at most 100 ms",
        most <= Duration::from_millis(100),
    );
    Ok(())
}

fn size() -> anyhow::Result<()> {
    let megabytes = std::fs::metadata(processes::binary())?.len() as f64 / 1e6;
    report(
        "the binary",
        format_args!("{megabytes:.2} MB"),
        "at most 12 MB",
        megabytes <= 12.0,
    );
    Ok(())
}
