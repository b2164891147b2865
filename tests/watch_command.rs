//! `watch` and `list`, with the built binary and the simulated API.
#![expect(
    clippy::unwrap_used,
    reason = "a panic is how the helpers of a test report that it failed"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use backfill_watch::simulator::{
    CountCurve, FaultPlan, INSTALLATION_ID, INTEGRATION_ID, RetryAfter, SimulatedEstimate,
    SimulatedOperation, SimulatedOutcome, SimulatedReply, Simulator, SimulatorConfig,
};
use serde_json::Value;
use tempfile::TempDir;

/// By when everything that is waited for must have happened, on the slowest machine.
const DEADLINE: Duration = Duration::from_secs(120);
const LONG: Duration = Duration::from_hours(1);
const PROGRAM: &str = env!("CARGO_BIN_EXE_backfill-watch");

/// The simulated API, and an empty folder that the program runs in.
struct Fixture {
    simulator: Simulator,
    folder: TempDir,
    variables: Vec<(String, String)>,
}

impl Fixture {
    async fn start() -> Self {
        let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
        let base_url = simulator.base_url();
        let fixture = Self {
            simulator,
            folder: tempfile::tempdir().unwrap(),
            variables: Vec::new(),
        };
        fixture
            .variable("AMPERSAND_API_KEY", "simulated-key")
            .variable("BACKFILL_WATCH_AMPERSAND__PROJECT", "my-project")
            .variable("BACKFILL_WATCH_AMPERSAND__BASE_URL", &base_url)
            .variable("BACKFILL_WATCH_AMPERSAND__MAX_REQUESTS_PER_SECOND", "1000")
    }

    /// Sets a variable; an empty value unsets it.
    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// An operation that ends at once, so.
    fn add_finished(&self, id: &str, outcome: SimulatedOutcome) {
        self.simulator.add(SimulatedOperation {
            outcome,
            ..SimulatedOperation::new(id, Duration::ZERO, 1_000)
        });
    }

    fn add_running(&self, id: &str) {
        self.simulator.add(SimulatedOperation::new(id, LONG, 1_000));
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOME", self.folder.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn spawn(&self, arguments: &str) -> Child {
        self.command(PROGRAM).args(arguments.split(' ')).spawn().unwrap()
    }

    /// Runs `backfill-watch` to its end.
    fn run(&self, arguments: &str) -> Ended {
        Ended::of(output(self.spawn(arguments)))
    }

    /// Runs `backfill-watch watch`, polling often.
    fn watch(&self, arguments: &str) -> Ended {
        self.run(&format!("watch --interval 50ms {arguments}"))
    }
}

/// How a run of the program ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ended {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The types of the printed events, in their order.
    fn types(&self) -> Vec<&str> {
        self.out
            .lines()
            .filter(|line| !line.starts_with(' '))
            .map(|line| line.split_whitespace().nth(1).unwrap())
            .collect()
    }

    #[track_caller]
    fn assert(&self, code: i32, printed: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for printed in printed {
            assert!(self.err.contains(printed), "{printed:?} in {self:?}");
        }
    }
}

/// What a child wrote until its end, which comes before the deadline.
fn output(child: Child) -> Output {
    let id = child.id();
    let (done, waiting) = mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output().unwrap()));
    waiting.recv_timeout(DEADLINE).unwrap_or_else(|_| {
        kill("KILL", id);
        panic!("the program did not end");
    })
}

fn wait(mut child: Child) -> (ExitStatus, String) {
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (child.wait().unwrap(), err)
}

fn kill(signal: &str, process: u32) {
    let killed = Command::new("kill")
        .args([format!("-{signal}"), process.to_string()])
        .status();
    assert!(killed.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn success_is_0_and_each_event_is_one_line() {
    let fixture = Fixture::start().await;
    fixture
        .simulator
        .add(SimulatedOperation::new("op", Duration::from_secs(2), 1_000));
    let ended = fixture.watch("op");
    ended.assert(0, &[]);
    assert_eq!(ended.err, "");
    let types = ended.types();
    assert_eq!(types.first(), Some(&"operation.started"));
    assert_eq!(types.last(), Some(&"operation.succeeded"));
    let times: Vec<&str> = ended.out.lines().map(|line| &line[..24]).collect();
    assert_ne!(
        times[0], times[1],
        "the progress at the start is not printed again"
    );
    assert!(
        types[1..types.len() - 1]
            .iter()
            .all(|name| *name == "operation.progress")
    );
    let last = ended.out.lines().last().unwrap();
    assert!(
        last.contains("100.0%") && last.ends_with("[contact] 1000 records read"),
        "{last}"
    );
    let left_behind = std::fs::read_dir(fixture.folder.path()).unwrap().count();
    assert_eq!(left_behind, 0, "nothing is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_no_success_is_1_and_gives_its_reason() {
    let fixture = Fixture::start().await;
    fixture.add_finished("good", SimulatedOutcome::Success);
    fixture.add_finished("bad", SimulatedOutcome::Failure);
    let ended = fixture.watch("good bad");
    ended.assert(
        1,
        &["2 operations: 1 succeeded, 1 failed\n  bad  failed  contact: [contact] Read failed"],
    );
    let failed = ended
        .out
        .lines()
        .find(|line| line.contains("operation.failed"))
        .unwrap();
    assert!(failed.contains("[contact] Read failed"), "{failed}");
    let log = ended.out.lines().filter(|line| line.starts_with("    ")).count();
    assert!(log > 0 && ended.out.contains(" ERROR "), "{}", ended.out);

    fixture.add_finished("odd", SimulatedOutcome::Other("cancelled".into()));
    let ended = fixture.watch("odd");
    ended.assert(1, &[]);
    assert_eq!(ended.types(), ["operation.ended"]);

    let fixture = fixture.variable("BACKFILL_WATCH_POLL__NOT_FOUND_GRACE", "0s");
    let ended = fixture.watch("nowhere");
    ended.assert(1, &["operation nowhere is not found in project", "check the ID"]);
    assert_eq!(ended.types(), ["operation.gone"]);

    fixture.add_running("long");
    let fixture = fixture.variable("BACKFILL_WATCH_POLL__GIVE_UP_AFTER", "300ms");
    let ended = fixture.watch("long");
    ended.assert(1, &[]);
    assert_eq!(ended.types(), ["operation.started", "operation.expired"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_and_settings_are_2_with_what_to_do() {
    let fixture = Fixture::start().await;
    fixture.run("watch").assert(2, &["<ID>", "--help"]);
    fixture.run("watch op --tiemout 5s").assert(2, &["--timeout"]);
    fixture.run("watch op --timeout 5").assert(2, &["30s, 5m"]);
    fixture
        .run("watch a/b op!")
        .assert(2, &["\"a/b\"", "\"op!\"", "A-Z a-z 0-9"]);
    fixture
        .run("watch -")
        .assert(2, &["standard input has no operation ID"]);
    let fixture = fixture.variable("AMPERSAND_API_KEY", "");
    fixture
        .run("watch op")
        .assert(2, &["\"my-project\" has no API key", "AMPERSAND_API_KEY"]);
    let fixture = fixture.variable("BACKFILL_WATCH_AMPERSAND__PROJECT", "");
    fixture
        .run("watch op")
        .assert(2, &["no project is configured", "--project NAME"]);
    fixture
        .run("list --integration i --installation n")
        .assert(2, &["--project NAME"]);
    assert_eq!(fixture.simulator.requests().total, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_out_of_reach_is_3() {
    let fixture = Fixture::start().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let fixture = fixture
        .variable(
            "BACKFILL_WATCH_AMPERSAND__BASE_URL",
            &format!("http://{nobody}/v1"),
        )
        .variable("BACKFILL_WATCH_POLL__UNREACHABLE_AFTER", "200ms");
    let ended = fixture.watch("op");
    ended.assert(
        3,
        &[
            "the API does not answer",
            "the API of project my-project is unreachable",
            "connection refused",
        ],
    );
    assert_eq!(ended.types(), ["api.unreachable"]);

    let fixture = fixture.variable("BACKFILL_WATCH_POLL__UNREACHABLE_AFTER", "1h");
    let ended = fixture.watch("op --timeout 300ms");
    ended.assert(3, &["without an answer", "connection refused"]);
    let fixture = fixture.variable("BACKFILL_WATCH_AMPERSAND__BASE_URL", "http://name.invalid/v1");
    fixture.watch("op --timeout 2s").assert(3, &["without an answer"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_does_not_answer_within_the_first_minute_is_3() {
    let fixture = Fixture::start()
        .await
        .variable("BACKFILL_WATCH_AMPERSAND__BASE_URL", "http://127.0.0.1:9/v1");
    fixture
        .watch("op")
        .assert(3, &["within the first minute", "connection refused"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_of_which_nothing_is_found_is_3_with_words() {
    let fixture = Fixture::start().await;
    fixture.add_running("a");
    fixture.add_running("b");
    let fixture = fixture.variable("BACKFILL_WATCH_POLL__NOT_FOUND_GRACE", "0s");
    let ended = fixture.watch("--project mistyped a b");
    ended.assert(3, &["project mistyped", "the API does not know the project"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_key_is_4_at_once_and_names_its_source() {
    let fixture = Fixture::start().await;
    fixture.add_running("op");
    let fixture = fixture.variable("AMPERSAND_API_KEY", "hunter2");
    let ended = fixture.run("watch op");
    ended.assert(
        4,
        &[
            "rejected the key of project my-project",
            "environment variable AMPERSAND_API_KEY",
            "rejected",
        ],
    );
    assert!(!format!("{ended:?}").contains("hunter2"));
    assert_eq!(fixture.simulator.requests_of("op"), 1);
    let list = format!("list --integration {INTEGRATION_ID} --installation {INSTALLATION_ID}");
    fixture
        .run(&list)
        .assert(4, &["environment variable AMPERSAND_API_KEY", "rejected"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_is_8_even_if_something_failed() {
    let fixture = Fixture::start().await;
    fixture.add_running("long");
    fixture.add_finished("bad", SimulatedOutcome::Failure);
    let ended = fixture.watch("long bad --timeout 500ms");
    ended.assert(
        8,
        &["--timeout 500ms passed", "1 of 2 operations", "long  running"],
    );
    // An API that answers 429 is reachable.
    fixture.simulator.faults().set(
        FaultPlan {
            throttle: 1.0,
            retry_after: RetryAfter::Seconds(LONG),
            ..FaultPlan::default()
        },
        1,
    );
    fixture.watch("long --timeout 500ms").assert(8, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_it_with_a_summary() {
    let fixture = Fixture::start().await;
    fixture.add_running("long");
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut child = fixture.spawn("watch long");
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut String::new()).unwrap();
        kill(signal, child.id());
        let (status, err) = wait(child);
        assert_eq!(status.code(), Some(code), "{err}");
        assert!(err.contains("stopped") && err.contains("\n  long  "), "{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_one_event_a_line_and_quiet_is_nothing() {
    let fixture = Fixture::start().await;
    fixture
        .simulator
        .add(SimulatedOperation::new("op", Duration::from_millis(300), 1_000));
    fixture.add_finished("bad", SimulatedOutcome::Failure);
    let ended = fixture.watch("op bad --json");
    ended.assert(1, &[]);
    assert_eq!(ended.err, "");
    let events: Vec<Value> = ended
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of_op: Vec<&Value> = events
        .iter()
        .filter(|event| event["data"]["operationId"] == "op")
        .collect();
    for (event, sequence) in of_op.iter().zip(1..) {
        assert!(event["id"].as_str().unwrap().starts_with("evt_"));
        assert_eq!(event["data"]["sequence"], sequence);
        assert!(event["timestamp"].is_string());
    }
    assert_eq!(of_op.last().unwrap()["type"], "operation.succeeded");
    let failed = events
        .iter()
        .find(|event| event["type"] == "operation.failed")
        .unwrap();
    assert!(!failed["data"]["logs"].as_array().unwrap().is_empty());

    let ended = fixture.watch("op bad --quiet");
    assert_eq!(
        (ended.code, ended.out.as_str(), ended.err.as_str()),
        (Some(1), "", "")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_output_ends_it_quietly() {
    let fixture = Fixture::start().await;
    fixture
        .simulator
        .add(SimulatedOperation::new("op", Duration::from_secs(5), 1_000));
    for flags in ["", " --json"] {
        let mut child = fixture.spawn(&format!("watch op --interval 50ms{flags}"));
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut String::new()).unwrap();
        drop(out);
        let (status, err) = wait(child);
        assert_eq!(
            (status.code(), err.as_str()),
            (Some(141), ""),
            "as SIGPIPE would end it"
        );
        fixture
            .simulator
            .add(SimulatedOperation::new("op", Duration::from_secs(5), 1_000));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_reader_does_not_prevent_the_stop() {
    let fixture = Fixture::start().await;
    for number in 0..400 {
        fixture.add_finished(&format!("op-{number}"), SimulatedOutcome::Failure);
    }
    let ids: String = (0..400).map(|number| format!(" op-{number}")).collect();
    // Nobody reads its output, which is larger than the buffer of a pipe.
    let mut child = fixture.spawn(&format!("watch --json{ids}"));
    let unread = child.stdout.take().unwrap();
    let deadline = backfill_watch::clock::instant() + DEADLINE;
    while fixture.simulator.requests().total < 100 {
        assert!(backfill_watch::clock::instant() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    kill("INT", child.id());
    let (status, err) = wait(child);
    assert_eq!(status.code(), Some(130), "{err}");
    drop(unread);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_and_its_end_are_reported() {
    let fixture = Fixture::start().await;
    fixture
        .simulator
        .add(SimulatedOperation::new("op", Duration::from_secs(3), 1_000));
    fixture.simulator.faults().script(
        "op",
        [
            SimulatedReply::Normal,
            SimulatedReply::Html,
            SimulatedReply::Garbage,
            SimulatedReply::Html,
            SimulatedReply::Garbage,
            SimulatedReply::Normal,
        ],
    );
    let ended = fixture.watch("op");
    ended.assert(0, &["the API does not answer", "the API answers again"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_can_be_piped_into_watch() {
    let fixture = Fixture::start().await;
    for number in 1..=3 {
        fixture.simulator.add(SimulatedOperation {
            curve: CountCurve::FastFirst,
            estimate: SimulatedEstimate::Missing,
            ..SimulatedOperation::new(format!("op-{number}"), Duration::from_millis(1_500), 1_000)
        });
    }
    fixture.add_finished("old", SimulatedOutcome::Failure);
    let list = format!("list --integration {INTEGRATION_ID} --installation {INSTALLATION_ID}");
    let ids = fixture.run(&format!("{list} --status in_progress --output ids"));
    ids.assert(0, &[]);
    assert_eq!(ids.out, "op-1\nop-2\nop-3\n");
    let mut child = fixture
        .command(PROGRAM)
        .args(["watch", "--interval", "50ms", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(ids.out.as_bytes()).unwrap();
    let ended = Ended::of(output(child));
    ended.assert(0, &["3 operations: 3 succeeded"]);
    let ends = ended
        .types()
        .iter()
        .filter(|name| **name == "operation.succeeded")
        .count();
    assert_eq!(ends, 3);

    let table = fixture.run(&list);
    table.assert(0, &[]);
    let header: Vec<&str> = table.out.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(
        header,
        ["ID", "OBJECTS", "STATUS", "RECORDS", "CREATED", "RESULT"]
    );
    assert_eq!(table.out.lines().count(), 5);
    let json = fixture.run(&format!("{list} --output json --status failure"));
    let operations: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(operations[0]["id"], "old");
    assert_eq!(operations.as_array().unwrap().len(), 1);
    let none = fixture.run(&format!("{list} --status sucess"));
    none.assert(0, &["did you mean success?"]);
    assert_eq!(none.out, "");
    fixture
        .run("list --integration i --installation n --output json")
        .assert(0, &["check --integration and --installation"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_several_pages_is_listed_whole_through_mishaps() {
    let fixture = Fixture::start().await;
    for number in 0..1_203 {
        fixture.add_finished(&format!("op-{number:04}"), SimulatedOutcome::Success);
    }
    fixture.simulator.faults().script(
        "list",
        [
            SimulatedReply::Normal,
            SimulatedReply::Reset,
            SimulatedReply::Garbage,
            SimulatedReply::Normal,
            SimulatedReply::Normal,
        ],
    );
    let list = format!("list --integration {INTEGRATION_ID} --installation {INSTALLATION_ID} -o ids");
    let ids = fixture.run(&list);
    ids.assert(0, &["retrying"]);
    let listed: Vec<&str> = ids.out.lines().collect();
    assert_eq!(
        (listed.len(), listed[0], listed[1_202]),
        (1_203, "op-0000", "op-1202")
    );
}

/// The program on a terminal of 80 columns: what it wrote, with its exit code in the last line.
fn on_a_terminal(fixture: &Fixture, arguments: &str, typed: &str) -> String {
    on_a_terminal_of(fixture, 80, "TERM=xterm-256color LANG=C.UTF-8", arguments, typed)
}

/// As [`on_a_terminal`], with these columns and variables. util-linux's `script` lends the terminal.
fn on_a_terminal_of(
    fixture: &Fixture,
    columns: usize,
    variables: &str,
    arguments: &str,
    typed: &str,
) -> String {
    let line = format!(
        "trap : INT; stty cols {columns} rows 24; env {variables} {PROGRAM} {arguments}; echo code=$?"
    );
    let mut child = fixture
        .command("script")
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let typed = typed.to_owned();
    let reading = thread::spawn(move || {
        let (mut all, mut chunk, mut to_type) = (Vec::new(), [0; 4_096], Some(typed));
        while let Ok(count @ 1..) = stdout.read(&mut chunk) {
            all.extend_from_slice(&chunk[..count]);
            // Typed once there is a bar.
            if String::from_utf8_lossy(&all).contains('%')
                && let Some(keys) = to_type.take()
            {
                stdin.write_all(keys.as_bytes()).unwrap();
            }
        }
        String::from_utf8_lossy(&all).into_owned()
    });
    output(child);
    reading.join().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_there_are_bars_and_the_cursor_is_there_after_them() {
    let fixture = Fixture::start().await;
    for id in ["op-a", "op-b"] {
        fixture
            .simulator
            .add(SimulatedOperation::new(id, Duration::from_secs(1), 1_000));
    }
    let screen = on_a_terminal(&fixture, "watch --interval 100ms op-a op-b", "");
    assert!(
        screen.contains("contact op-a") && screen.contains('━'),
        "{screen}"
    );
    assert!(screen.contains("\x1b[36m"), "colours: {screen}");
    assert!(screen.contains("succeeded in 1s"), "{screen}");
    assert!(screen.contains("2 operations: 2 succeeded"), "{screen}");
    assert_ends_in_order(&screen, 0);

    fixture.add_running("long");
    let screen = on_a_terminal(&fixture, "watch --interval 100ms long", "\x03");
    assert!(
        screen.contains("stopped: the operation is not finished"),
        "{screen}"
    );
    assert_ends_in_order(&screen, 130);

    let fixture = fixture.variable("NO_COLOR", "1");
    let screen = on_a_terminal(&fixture, "watch --interval 100ms op-a long --timeout 1s", "");
    assert!(!screen.contains("\x1b[36m"), "{screen}");
    assert!(screen.contains("1 of 2 operations are not finished"), "{screen}");
    assert_ends_in_order(&screen, 8);
}

#[track_caller]
fn assert_ends_in_order(screen: &str, code: u8) {
    assert!(screen.trim_end().ends_with(&format!("code={code}")), "{screen}");
    assert!(
        screen.rfind("\x1b[?25h") > screen.rfind("\x1b[?25l"),
        "the cursor is shown: {screen}"
    );
}

/// The lines without colours and movements of the cursor.
fn lines_on_terminal(printed: &str) -> Vec<String> {
    let lines = printed.split(['\r', '\n']);
    lines
        .map(|line| console::strip_ansi_codes(line).trim_end().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_labels_are_shown_and_every_line_fits() {
    let fixture = Fixture::start().await;
    fixture.simulator.add(SimulatedOperation::new(
        "3efc0f0f-4bb9-498f-996c-9893d98ca4b5",
        Duration::from_millis(1_500),
        1_000,
    ));
    fixture.add_finished("bad", SimulatedOutcome::Failure);
    let list = "3efc0f0f-4bb9-498f-996c-9893d98ca4b5 customer=\"Zoë\u{202e} Ltd\"\nbad customer=連絡先\n";
    std::fs::write(fixture.folder.path().join("list"), list).unwrap();
    for columns in [40, 60, 80, 200] {
        let variables = "TERM=xterm LANG=C.UTF-8";
        let printed = on_a_terminal_of(&fixture, columns, variables, "watch --interval 50ms - < list", "");
        assert_ends_in_order(&printed, 1);
        let lines = lines_on_terminal(&printed);
        for line in &lines {
            let width = console::measure_text_width(line);
            assert!(width < columns, "{columns}: {width} in {line:?}");
        }
        let text = lines.join("\n");
        assert!(!text.contains("operation.started"), "{text}");
        assert!(text.contains("連絡先 contact bad failed"), "{text}");
        assert!(text.contains("2 operations: 1 succeeded, 1 failed"), "{text}");
        assert!(
            columns < 60 || text.contains("Zoë\\u{202e} Ltd 3efc0f0f "),
            "{text}"
        );
        assert!(
            !printed.contains('\u{202e}') && printed.contains("\x1b[31m"),
            "{printed}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_locale_colour_or_terminal_the_output_is_plainer() {
    let fixture = Fixture::start().await;
    fixture.add_finished("bad", SimulatedOutcome::Failure);
    let list = "bad customer=Zoë\n";
    std::fs::write(fixture.folder.path().join("list"), list).unwrap();
    for locale in ["LANG=C", "LC_ALL=POSIX LANG=C.UTF-8", ""] {
        let variables = format!("TERM=xterm NO_COLOR=1 {locale}");
        let printed = on_a_terminal_of(&fixture, 80, &variables, "watch - < list", "");
        assert!(printed.is_ascii(), "{locale}: {printed:?}");
        assert!(printed.contains("x Zo? contact bad failed"), "{printed:?}");
        assert!(
            !printed.contains("\x1b[3") && printed.contains("\x1b[?25h"),
            "{printed:?}"
        );
    }
    let printed = on_a_terminal_of(&fixture, 80, "TERM=dumb", "watch - < list", "");
    assert!(printed.trim_end().ends_with("code=1"), "{printed}");
    assert!(
        printed.contains("  operation.failed  ") && !printed.contains('\x1b'),
        "{printed:?}"
    );
}
