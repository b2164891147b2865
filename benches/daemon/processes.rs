//! The measured processes: pinned to a core, killed when dropped, read from `/proc`.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use backfill_watch::clock;
use backfill_watch::simulator::{SimulatedProject, Simulator, SimulatorConfig};
use tempfile::TempDir;

/// The binary that is measured, unless `BINARY` names another.
pub fn binary() -> PathBuf {
    std::env::var_os("BINARY").map_or_else(|| env!("CARGO_BIN_EXE_backfill-watch").into(), PathBuf::from)
}

/// Another version of the binary, which `BEFORE` names: it is measured in turns with the one above.
pub fn binary_before() -> Option<PathBuf> {
    std::env::var_os("BEFORE").map(PathBuf::from)
}

/// What is measured by its processor time has the first core, the API another.
const MEASURED_CORE: &str = "0";
const API_CORE: &str = "1";
const BOTH_CORES: &str = "0,1";
/// Nothing that is waited for takes longer.
const PATIENCE: Duration = Duration::from_mins(25);

/// Lines of operations that run for a day.
pub fn ids(count: usize, prefix: &str) -> String {
    (0..count)
        .map(|number| format!("op-86400000-1000000-s-{prefix}{number:07}\n"))
        .collect()
}

/// A folder with a watch list, which goes with this.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    pub fn with_list(self, lines: &str) -> anyhow::Result<Self> {
        fs::write(self.list(), lines)?;
        Ok(self)
    }

    pub fn list(&self) -> PathBuf {
        self.0.path().join("watch.list")
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// The command on these cores, without input and output.
fn pinned(cores: &str, command: &Command) -> Command {
    let mut pinned = Command::new("taskset");
    pinned
        .args(["-c", cores])
        .arg(command.get_program())
        .args(command.get_args())
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    pinned
}

/// A process on a core of its own.
pub struct MeasuredProcess(Child);

impl MeasuredProcess {
    /// Starts it.
    pub fn start(command: &Command) -> anyhow::Result<Self> {
        Self::spawn(&mut pinned(MEASURED_CORE, command))
    }

    fn spawn(command: &mut Command) -> anyhow::Result<Self> {
        Ok(Self(command.spawn().context("taskset cannot be run")?))
    }

    /// Processor time used up to now, by all threads.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let mut nanoseconds = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            // The thread may have ended.
            let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            nanoseconds += text
                .split(' ')
                .next()
                .and_then(|first| first.parse().ok())
                .unwrap_or(0_u64);
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    fn has_ended(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        // The state follows the name, which is in brackets. A process that was not waited for is a zombie.
        stat.rsplit_once(')')
            .is_none_or(|(_, rest)| rest.starts_with(" Z"))
    }

    fn status(&self, name: &str) -> anyhow::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes = line
            .context("the process has ended")?
            .trim_end_matches("kB")
            .trim();
        Ok(kilobytes.parse::<u64>()? * 1024)
    }
}

impl Drop for MeasuredProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The simulated API, as a process of its own.
pub struct Api {
    pub base_url: String,
    control: std::cell::RefCell<MeasuredProcess>,
}

impl Api {
    pub fn start() -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("api");
        let mut api = MeasuredProcess::spawn(
            pinned(API_CORE, &command)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped()),
        )?;
        let base_url = read_line(&mut api.0)?;
        Ok(Self {
            base_url,
            control: api.into(),
        })
    }

    /// How many requests came in.
    pub fn requests(&self) -> anyhow::Result<f64> {
        let child = &mut self.control.borrow_mut().0;
        let stdin = child.stdin.as_mut().context("the API has ended")?;
        stdin.write_all(b"?\n")?;
        Ok(read_line(child)?.parse()?)
    }
}

fn read_line(child: &mut Child) -> anyhow::Result<String> {
    let stdout = child.stdout.as_mut().context("the API has ended")?;
    let mut line = Vec::new();
    let mut byte = [0];
    while stdout.read(&mut byte)? == 1 && byte != [b'\n'] {
        line.extend(byte);
    }
    Ok(String::from_utf8(line)?)
}

/// The project and the key of the Go loop: a refused client has less to do.
fn of_go_poller() -> SimulatedProject {
    SimulatedProject {
        id: "p-1".to_owned(),
        name: "p-1".to_owned(),
        api_keys: vec!["test-key".to_owned()],
    }
}

/// Serves the API, and prints the number of requests for each line of standard input.
pub fn serve() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let simulator = runtime.block_on(Simulator::start(SimulatorConfig {
        projects: vec![SimulatedProject::default(), of_go_poller()],
        keep_instants: 0,
        ..SimulatorConfig::default()
    }))?;
    println!("{}", simulator.base_url());
    for line in BufReader::new(std::io::stdin()).lines() {
        line?;
        println!("{}", simulator.requests().total);
    }
    Ok(())
}

/// The daemon, with state and pages.
pub struct Daemon {
    process: MeasuredProcess,
    folder: Folder,
    address: SocketAddr,
}

impl std::ops::Deref for Daemon {
    type Target = MeasuredProcess;

    fn deref(&self) -> &MeasuredProcess {
        &self.process
    }
}

impl Daemon {
    /// Watches these lines; `settings` are environment names in lower case.
    pub fn start(api: &Api, lines: &str, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::of(&binary(), BOTH_CORES, api, lines, settings, Stdio::inherit())
    }

    /// As [`Daemon::start`], of this binary.
    pub fn start_of(
        binary: &Path,
        api: &Api,
        lines: &str,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        Self::of(binary, BOTH_CORES, api, lines, settings, Stdio::inherit())
    }

    /// As [`Daemon::start_of`], on one core.
    pub fn pinned(binary: &Path, api: &Api, lines: &str, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::of(binary, MEASURED_CORE, api, lines, settings, Stdio::inherit())
    }

    /// As [`Daemon::start`], with this for its standard error.
    pub fn with_stderr(
        api: &Api,
        lines: &str,
        settings: &[(&str, &str)],
        stderr: impl Into<Stdio>,
    ) -> anyhow::Result<Self> {
        Self::of(&binary(), BOTH_CORES, api, lines, settings, stderr.into())
    }

    fn of(
        binary: &Path,
        cores: &str,
        api: &Api,
        lines: &str,
        settings: &[(&str, &str)],
        stderr: Stdio,
    ) -> anyhow::Result<Self> {
        let folder = Folder::new()?.with_list(lines)?;
        // Free when this is dropped; nobody else asks for one here.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(binary);
        command
            .args(["run", "--listen", &address.to_string(), "--watch-list"])
            .arg(folder.list())
            .arg("--state-dir")
            .arg(folder.path().join("state"))
            .env("AMPERSAND_API_KEY", "simulated-key")
            .env("BACKFILL_WATCH_AMPERSAND__PROJECT", "my-project")
            .env("BACKFILL_WATCH_AMPERSAND__BASE_URL", &api.base_url)
            .env("BACKFILL_WATCH_LOG__FILTER", "warn");
        for (name, value) in settings {
            command.env(format!("BACKFILL_WATCH_{}", name.to_uppercase()), value);
        }
        let process = MeasuredProcess::spawn(pinned(cores, &command).stderr(stderr))?;
        Ok(Self {
            process,
            folder,
            address,
        })
    }

    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> anyhow::Result<u64> {
        self.process.status("VmRSS:")
    }

    /// The most that was ever resident, in bytes.
    pub fn most_resident(&self) -> anyhow::Result<u64> {
        self.process.status("VmHWM:")
    }

    /// Where its pages are.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many files it has open.
    pub fn open_files(&self) -> anyhow::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.process.0.id()))?.count())
    }

    /// Asks it to stop; how long that took, and how it ended.
    pub fn terminate(mut self) -> anyhow::Result<(Duration, ExitStatus)> {
        let begin = clock::instant();
        let id = self.process.0.id().to_string();
        let status = Command::new("kill").args(["-TERM", &id]).status()?;
        anyhow::ensure!(status.success(), "the daemon has ended already");
        loop {
            if let Some(status) = self.process.0.try_wait()? {
                return Ok((begin.elapsed(), status));
            }
            anyhow::ensure!(
                begin.elapsed() < Duration::from_mins(1),
                "the daemon does not end"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The whole answer to a request.
    pub fn get(&self, path: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        anyhow::ensure!(
            text.starts_with("HTTP/1.0 200"),
            "{path}: {}",
            text.lines().next().unwrap_or("")
        );
        Ok(text)
    }

    fn metrics(&self) -> anyhow::Result<String> {
        self.get("/metrics")
    }

    /// The sum of all poll lags in seconds, and their number.
    pub fn lag(&self) -> anyhow::Result<(f64, f64)> {
        let name = "backfill_watch_poll_lag_seconds";
        Ok((
            self.figure(&format!("{name}_sum"))?,
            self.figure(&format!("{name}_count"))?,
        ))
    }

    /// The sum of a metric's series.
    pub fn figure(&self, name: &str) -> anyhow::Result<f64> {
        Ok(series(&self.metrics()?, name).map(|(_, value)| value).sum())
    }

    /// Polls made up to now.
    pub fn polls(&self) -> anyhow::Result<f64> {
        self.figure("backfill_watch_polls_total")
    }

    /// How many polls started within how many seconds of falling due.
    pub fn lags(&self) -> anyhow::Result<Vec<(f64, f64)>> {
        let text = self.metrics()?;
        series(&text, "backfill_watch_poll_lag_seconds_bucket")
            .map(|(labels, count)| {
                let bound = labels.split('"').nth(1).context("a bucket has a bound")?;
                Ok((bound.parse()?, count))
            })
            .collect()
    }

    /// Waits until so many lines have a poller.
    pub fn wait_for_pollers(&self, count: usize) -> anyhow::Result<()> {
        let between = Duration::from_millis(20);
        self.wait_for("a poller for each line", between, |daemon| {
            Ok(daemon.figure("backfill_watch_operations")? >= count as f64)
        })
    }

    pub fn wait_for_polls(&self, count: usize) -> anyhow::Result<()> {
        // Being asked is work, too, which is not to be measured.
        let between = Duration::from_secs(1);
        self.wait_for("polls", between, |daemon| Ok(daemon.polls()? >= count as f64))
    }

    /// Waits until it is so. Pages that cannot be had yet are asked for again, unless the process has ended.
    pub fn wait_for(
        &self,
        what: &str,
        between: Duration,
        is_so: impl Fn(&Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let begin = clock::instant();
        while !is_so(self).unwrap_or(false) {
            anyhow::ensure!(!self.has_ended(), "the daemon has ended; its output is above");
            anyhow::ensure!(begin.elapsed() < PATIENCE, "waited in vain for {what}");
            std::thread::sleep(between);
        }
        Ok(())
    }
}

fn series<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        (labels.is_empty() || labels.starts_with('{')).then_some(())?;
        Some((labels, value.parse().ok()?))
    })
}
