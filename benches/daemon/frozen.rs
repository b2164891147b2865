//! A log that nobody reads.

use std::io::{BufRead as _, BufReader};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use anyhow::Context as _;

use super::processes::{Api, Daemon};
use super::{lags_between, report};

const WATCHES: usize = 1_000;
const MEASURED_FOR: Duration = Duration::from_secs(30);
/// No report about dropped lines takes longer.
const PATIENCE: Duration = Duration::from_mins(1);

/// 200 polls a second of 1,000 watches, each an event whose line has five kilobytes, into a pipe that nobody reads.
pub fn frozen() -> anyhow::Result<()> {
    let api = Api::start()?;
    let labels: String = (0..15)
        .map(|number| format!(" label{number}={}", "x".repeat(240)))
        .collect();
    let lines: String = (0..WATCHES)
        .map(|number| format!("op-600000-1000000-s-{number:07}{labels}\n"))
        .collect();
    let (pipe, stderr) = std::io::pipe()?;
    let daemon = Daemon::with_stderr(
        &api,
        &lines,
        &[
            ("poll__initial_interval", "5s"),
            ("poll__max_interval", "5s"),
            ("poll__adaptive", "false"),
            ("poll__progress_step", "0.5"),
            ("ampersand__max_requests_per_second", "400"),
            ("log__filter", "info"),
            ("log__format", "json"),
        ],
        stderr,
    )?;
    daemon.wait_for_polls(2 * WATCHES)?;
    let before = daemon.lags()?;
    std::thread::sleep(MEASURED_FOR);
    let (all, within) = lags_between(&before, &daemon.lags()?)?;
    let p99 = within(0.99);
    report(
        &format!(
            "poll lag p99 of {:.0} polls/s with a log that nobody reads",
            all / MEASURED_FOR.as_secs_f64()
        ),
        format_args!("within {p99} s"),
        "at most 0.1 s",
        p99 <= 0.1,
    );
    let dropped = |daemon: &Daemon| daemon.figure("backfill_watch_log_lines_dropped_total");
    let every = Duration::from_millis(200);
    daemon.wait_for("lines that are dropped", every, |daemon| {
        Ok(dropped(daemon)? > 0.0)
    })?;
    let before = dropped(&daemon)?;

    let (stop, reports) = read(pipe);
    let reported = reports
        .recv_timeout(PATIENCE)
        .context("the number of dropped lines is not logged")?;
    report(
        "dropped lines that are logged when the pipe is read",
        format_args!("{reported:.0} of at least {before:.0}"),
        "all",
        reported >= before,
    );

    // Frozen again.
    drop(reports);
    let _pipe = stop.recv()?;
    std::thread::sleep(Duration::from_secs(2));
    let (took, status) = daemon.terminate()?;
    report(
        "from SIGTERM to the end with a full pipe",
        format_args!("{:.2} s, {status}", took.as_secs_f64()),
        "within 3 s, status 0",
        took <= Duration::from_secs(3) && status.success(),
    );
    Ok(())
}

/// Reads the log until the receiver of the counts is dropped, then returns the pipe.
fn read(pipe: std::io::PipeReader) -> (Receiver<std::io::PipeReader>, Receiver<f64>) {
    let (back, stopped) = mpsc::channel();
    let (report, reports) = mpsc::channel();
    std::thread::spawn(move || {
        let mut log = BufReader::new(pipe);
        let mut line = String::new();
        while log.read_line(&mut line).is_ok_and(|length| length > 0) {
            if line.contains("lines_in_total") {
                let parsed: Option<serde_json::Value> = serde_json::from_str(&line).ok();
                let total = parsed.and_then(|line| line["lines_in_total"].as_f64());
                if total.is_some_and(|total| report.send(total).is_err()) || total.is_some() {
                    break;
                }
            }
            line.clear();
        }
        let _ = back.send(log.into_inner());
    });
    (stopped, reports)
}
