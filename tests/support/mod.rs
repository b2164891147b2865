//! The built binary as a child process, with settings from the environment, and its log.
//!
//! Every wait is for a condition, with a deadline that only a hang reaches.

mod log;
pub mod scripted_api;
mod secrets;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use backfill_watch::clock;
use backfill_watch::simulator::{SeededRandom, SimulatedOperation, SimulatedOutcome, Simulator};
use tempfile::TempDir;

pub use log::{Log, LogLine};

/// The deadline of every wait, for the slowest machine.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// Between two checks of a condition that sends no notification.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);
/// Between two requests to another process.
const REQUEST_INTERVAL: Duration = Duration::from_millis(20);

/// The settings, files and arguments of a daemon, in a temporary folder.
pub struct Setup {
    folder: TempDir,
    environment: BTreeMap<String, String>,
    arguments: Vec<String>,
    wrapper: Vec<String>,
}

impl Setup {
    /// Settings that poll this simulator often, log JSON and listen nowhere. There is no watch list yet.
    pub fn new(simulator: &Simulator) -> Self {
        Self::polling(&simulator.base_url())
    }

    /// As [`Setup::new`], for any base URL.
    pub fn polling(base_url: &str) -> Self {
        let setup = Self::empty();
        let list = setup.list_path().display().to_string();
        setup
            .set("ampersand.base_url", base_url)
            .set("ampersand.project", "my-project")
            .set("ampersand.max_requests_per_second", "1000")
            .set("poll.initial_interval", "50ms")
            .set("poll.min_interval", "50ms")
            .set("poll.max_interval", "250ms")
            .set("watch_list", &list)
            .set("watch_list_refresh", "50ms")
            .set("log.format", "json")
            .variable("AMPERSAND_API_KEY", "simulated-key")
    }

    /// A state directory, and listening nowhere; no other settings.
    pub fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state").display().to_string();
        let setup = Self {
            folder,
            environment: BTreeMap::new(),
            arguments: Vec::new(),
            wrapper: Vec::new(),
        };
        setup.set("state_dir", &state).set("http.listen", "off")
    }

    /// Sets the setting of this path, by its environment variable.
    pub fn set(self, path: &str, value: &str) -> Self {
        self.variable(&variable(path), value)
    }

    /// Removes the setting of this path from the environment.
    pub fn unset(self, path: &str) -> Self {
        self.without(&variable(path))
    }

    /// Sets an environment variable.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Removes an environment variable.
    pub fn without(mut self, name: &str) -> Self {
        self.environment.remove(name);
        self
    }

    /// Passes these arguments to `run` and to every command of [`Setup::run`].
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(ToString::to_string).collect();
        self
    }

    /// Starts every command through this one, which replaces itself with it, as `unshare` and `prlimit` do.
    pub fn wrapped_in(mut self, command: &[&str]) -> Self {
        self.wrapper = command.iter().map(ToString::to_string).collect();
        self
    }

    /// Writes the watch list.
    pub fn list<S: AsRef<str>>(self, lines: &[S]) -> Self {
        fs::write(self.list_path(), lines_of(lines)).unwrap();
        self
    }

    /// The environment of every command.
    pub fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }

    /// The folder of state and files. Dropping the daemon removes it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the watch list is.
    pub fn list_path(&self) -> PathBuf {
        self.folder.path().join("watch.list")
    }

    /// Starts `backfill-watch run`.
    pub fn start(self) -> Daemon {
        let mut child = self
            .command("run", &self.arguments)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let log = Log::read(child.stderr.take().unwrap());
        Daemon {
            setup: Some(self),
            child,
            log,
        }
    }

    /// Runs a command to its end, which must come within [`DEADLINE`].
    pub async fn run(&self, command: &str) -> Output {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        self.run_with(command, &arguments).await
    }

    /// As [`Setup::run`], with these arguments and no others.
    pub async fn run_with(&self, command: &str, arguments: &[&str]) -> Output {
        let mut command = self.command(command, arguments);
        let child = command.spawn().unwrap();
        let id = child.id();
        let running = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
        let Ok(output) = tokio::time::timeout(DEADLINE, running).await else {
            // Otherwise the test would wait for it at its end.
            let _ = Command::new("kill").args(["-KILL", &id.to_string()]).status();
            panic!("the command does not end: {command:?}");
        };
        let output = output.unwrap();
        self.assert_no_secret_in("what a command printed", &output.stdout);
        self.assert_no_secret_in("what a command printed", &output.stderr);
        output
    }

    fn command<S: AsRef<OsStr>>(&self, command: &str, arguments: &[S]) -> Command {
        // Raises the limit of open files as far as possible: a thousand requests in flight need it.
        let raised = ["sh", "-c", r#"ulimit -n "$(ulimit -Hn)"; exec "$0" "$@""#];
        let line: Vec<&str> = self.wrapper.iter().map(String::as_str).chain(raised).collect();
        let mut process = Command::new(line[0]);
        process
            .args(&line[1..])
            .args([env!("CARGO_BIN_EXE_backfill-watch"), command])
            .args(arguments)
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "HOME"))
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        process
    }
}

/// A running daemon; dropping it kills it.
pub struct Daemon {
    /// `None` after [`Daemon::into_setup`].
    setup: Option<Setup>,
    child: Child,
    /// What it logs.
    pub log: Log,
}

impl Daemon {
    /// Its setup.
    pub fn setup(&self) -> &Setup {
        self.setup.as_ref().expect("it has not been stopped")
    }

    /// Where the watch list is.
    pub fn list_path(&self) -> PathBuf {
        self.setup().list_path()
    }

    /// Its process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The address of its pages, once they are served.
    pub async fn address(&self) -> SocketAddr {
        let line = self.message("served at http:").await;
        line["address"].as_str().unwrap().parse().unwrap()
    }

    /// Sends signals, one right after the other.
    pub fn signal(&self, names: &[&str]) {
        let id = self.child.id();
        let kills: Vec<String> = names.iter().map(|name| format!("kill -{name} {id}")).collect();
        let status = Command::new("sh").args(["-c", &kills.join(" && ")]).status();
        assert!(status.unwrap().success(), "{names:?}");
    }

    /// Waits for a line of the log, as [`Log::wait_for`].
    pub async fn wait_for(&self, what: &str, wanted: impl Fn(&LogLine) -> bool) -> LogLine {
        self.log.wait_for(what, wanted).await
    }

    /// Waits for a line whose message contains this text.
    pub async fn message(&self, part: &str) -> LogLine {
        let has_part = |line: &LogLine| {
            let message = line["message"].as_str();
            message.is_some_and(|message| message.contains(part))
        };
        self.wait_for(part, has_part).await
    }

    /// Waits for the event of an operation.
    pub async fn event_of(&self, operation: &str, event: &str) -> LogLine {
        let what = format!("{event} of {operation}");
        self.wait_for(&what, |line| {
            line["event"] == event && line["operation_id"] == operation
        })
        .await
    }

    /// Waits for an event.
    pub async fn event(&self, event: &str) -> LogLine {
        self.wait_for(event, |line| line["event"] == event).await
    }

    /// Waits until the process has ended and its last line is read.
    pub async fn exit(&mut self) -> ExitStatus {
        self.exit_within(DEADLINE).await
    }

    /// As [`Daemon::exit`], with another deadline.
    pub async fn exit_within(&mut self, deadline: Duration) -> ExitStatus {
        let mut ended = None;
        let child = &mut self.child;
        until_within(deadline, "the process ends", || {
            ended = child.try_wait().unwrap();
            ended.is_some()
        })
        .await;
        self.log.end().await;
        ended.unwrap()
    }

    /// Waits until the process has ended, and returns its exit code.
    pub async fn exit_code(&mut self) -> Option<i32> {
        self.exit().await.code()
    }

    /// Stops it in order, and returns its setup, to start it again.
    pub async fn stop(mut self) -> Setup {
        self.signal(&["TERM"]);
        assert_eq!(self.exit_code().await, Some(0), "{}", self.log);
        self.into_setup()
    }

    /// Kills it, and returns its setup.
    pub async fn kill(mut self) -> Setup {
        self.child.kill().unwrap();
        self.exit().await;
        self.into_setup()
    }

    /// Its setup, once it has ended.
    pub fn into_setup(mut self) -> Setup {
        let setup = self.setup.take().expect("only this takes it");
        setup.assert_no_secret_in("the log", self.log.text().as_bytes());
        setup
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the log of the daemon:\n{}", self.log);
        }
        // Fails where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let (Some(setup), false) = (&self.setup, std::thread::panicking()) {
            setup.assert_no_secret_in("the log", self.log.text().as_bytes());
            setup.assert_no_secret_in_state();
        }
    }
}

/// Waits until a condition is true, by checking it repeatedly.
pub async fn until(what: &str, condition: impl FnMut() -> bool) {
    until_within(DEADLINE, what, condition).await;
}

/// As [`until`], with another deadline.
pub async fn until_within(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = clock::instant() + deadline;
    while !condition() {
        assert!(clock::instant() < deadline, "timed out waiting for: {what}");
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

/// Repeats a request until it returns `Ok`. The last error is in the panic message.
pub async fn until_answered<T>(what: &str, ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    until_answered_within(DEADLINE, what, ask).await
}

/// As [`until_answered`], with another deadline.
pub async fn until_answered_within<T>(
    deadline: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let deadline = clock::instant() + deadline;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(instead) => assert!(
                clock::instant() < deadline,
                "timed out waiting for: {what}: {instead}"
            ),
        }
        tokio::time::sleep(REQUEST_INTERVAL).await;
    }
}

/// Prints a line past the test harness, which hides the output of passing tests.
pub fn report(line: &str) {
    let line = format!("{line}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Reports why a test is skipped. In CI that is a failure, since all tools are installed there.
pub fn skip<T>(why: &str) -> Option<T> {
    assert!(std::env::var_os("CI").is_none(), "cannot be tested here: {why}");
    report(&format!("skipped: {}", why.trim()));
    None
}

/// One number of `/proc/PID/status`, in bytes where it has a unit.
pub fn process_status(process: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let value = line.trim_start_matches(':').trim();
    match value.strip_suffix(" kB") {
        Some(kilobytes) => kilobytes.parse::<u64>().unwrap() * 1024,
        None => value.parse().unwrap(),
    }
}

/// A simulated operation that runs for up to two seconds. Some fail.
pub fn short_operation(random: &SeededRandom) -> SimulatedOperation {
    let duration = Duration::from_secs(2).mul_f64(random.next_f64());
    let outcome = if random.next_f64() < 0.2 {
        SimulatedOutcome::Failure
    } else {
        SimulatedOutcome::Success
    };
    SimulatedOperation {
        outcome,
        ..SimulatedOperation::new("", duration, 1_000)
    }
}

/// Output as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A file of these lines.
pub fn lines_of<S: AsRef<str>>(lines: &[S]) -> String {
    lines.iter().map(|line| format!("{}\n", line.as_ref())).collect()
}

/// Replaces a file atomically.
pub fn replace_file(path: &Path, content: &str) {
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(&new, path).unwrap();
}

fn variable(path: &str) -> String {
    format!("BACKFILL_WATCH_{}", path.replace('.', "__").to_uppercase())
}
