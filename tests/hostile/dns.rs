//! The name of the API has another address, or none, for a while.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::daemon_checks::{assert_memory_is_bounded, last_error, with_pages};
use crate::hostile_api::{Greeting, HostileApi};
use crate::support::{Daemon, Setup, process_status, skip, until};

const NAME: &str = "api.backfill-watch.test";

/// What a name server answers.
#[derive(Clone, Copy)]
enum Answer {
    Address(Ipv4Addr),
    /// With this code for failures.
    Failure(u8),
    Silence,
}

/// A name server, which knows any name.
struct Names {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    task: JoinHandle<()>,
}

impl Names {
    /// `None` where this user may not serve names: the port is fixed.
    async fn serve(answer: Answer) -> Option<Self> {
        // All of 127/8 is this host; each test of this process has an address of its own. Process IDs have 22 bits.
        static TESTS: AtomicU8 = AtomicU8::new(0);
        let test = TESTS.fetch_add(1, Ordering::Relaxed) % 4;
        let [_, a, b, c] = std::process::id().to_be_bytes();
        let address = SocketAddr::from((Ipv4Addr::new(127, (16 | (a % 64)) + 64 * test, b, c.max(1)), 53));
        let socket = match UdpSocket::bind(address).await {
            Ok(socket) => socket,
            Err(error) => return skip(&format!("names cannot be served on {address}: {error}")),
        };
        let answer = Arc::new(Mutex::new(answer));
        let current = Arc::clone(&answer);
        let task = tokio::spawn(async move {
            let mut query = [0; 512];
            loop {
                let (length, asker) = socket.recv_from(&mut query).await.unwrap();
                let now = *current.lock().unwrap();
                if let Some(bytes) = reply(&query[..length], now) {
                    let _ = socket.send_to(&bytes, asker).await;
                }
            }
        });
        Some(Self {
            address,
            answer,
            task,
        })
    }

    fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The answer to a query of one question (RFC 1035, section 4).
fn reply(query: &[u8], answer: Answer) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    const A: u8 = 1;
    let name = query[HEADER..].iter().position(|byte| *byte == 0)? + 1;
    let question = &query[HEADER..HEADER + name + 4];
    let is_a = question[name + 1] == A;
    let (code, address) = match answer {
        Answer::Silence => return None,
        Answer::Failure(code) => (code, None),
        Answer::Address(address) => (0, Some(address).filter(|_| is_a)),
    };
    let mut bytes = query[..2].to_vec();
    bytes.extend([
        0x81,
        0x80 | code,
        0,
        1,
        0,
        u8::from(address.is_some()),
        0,
        0,
        0,
        0,
    ]);
    bytes.extend(question);
    if let Some(address) = address {
        // A pointer to the name above; type A, class IN, good for no time at all.
        bytes.extend([0xc0, HEADER as u8, 0, A, 0, 1, 0, 0, 0, 0, 0, 4]);
        bytes.extend(address.octets());
    }
    Some(bytes)
}

/// A daemon that finds names by that server alone: in a mount namespace of its own, where the files that say how
/// names are found are others.
fn start(setup: Setup, names: &Names) -> Option<Daemon> {
    let namespace = Command::new("unshare").args(["--mount", "true"]).output();
    match namespace {
        Ok(output) if output.status.success() => {}
        Ok(output) => return skip(&String::from_utf8_lossy(&output.stderr)),
        Err(error) => return skip(&format!("unshare: {error}")),
    }
    let folder = setup.folder().to_owned();
    let resolver = format!(
        "nameserver {}\noptions timeout:1 attempts:1\n",
        names.address.ip()
    );
    fs::write(folder.join("resolv.conf"), resolver).unwrap();
    fs::write(folder.join("nsswitch.conf"), "hosts: files dns\n").unwrap();
    fs::write(folder.join("hosts"), "127.0.0.1 localhost\n").unwrap();
    let script = format!(
        r#"for file in resolv.conf nsswitch.conf hosts; do
            [ -e /etc/$file ] || : > /etc/$file
            mount --bind {}/$file /etc/$file || exit 99
        done; exec "$0" "$@""#,
        folder.display()
    );
    Some(
        with_pages(setup)
            .wrapped_in(&["unshare", "--mount", "sh", "-c", &script])
            .start(),
    )
}

fn polling(api: &HostileApi) -> Setup {
    Setup::polling(&format!("http://{NAME}:{}/v1", api.address.port()))
        .set("ampersand.request_timeout", "1s")
        .list(&["one", "two"])
}

#[tokio::test]
async fn a_name_that_leads_elsewhere() {
    let first = Ipv4Addr::LOCALHOST;
    let Some(names) = Names::serve(Answer::Address(first)).await else {
        return;
    };
    let old = HostileApi::start_at((first, 0).into(), None, Greeting::Plain).await;
    let second = Ipv4Addr::new(127, 0, 0, 2);
    let port = old.address.port();
    let new = HostileApi::start_at((second, port).into(), None, Greeting::Plain).await;
    let Some(daemon) = start(polling(&old), &names) else {
        return;
    };
    until("polls", || old.polls("one") > 2 && old.polls("two") > 2).await;
    assert_eq!(new.polls("one"), 0);
    names.answer(Answer::Address(second));
    until("polls at the new address", || {
        new.polls("one") > 2 && new.polls("two") > 2
    })
    .await;
    new.end("one");
    daemon.event_of("one", "operation.succeeded").await;
    // The address of before is not asked any more; the machine behind it may be another's by now.
    let before = old.polls("two");
    let polls = new.polls("two");
    until("polls go on", || new.polls("two") > polls + 3).await;
    assert_eq!(old.polls("two"), before);
    assert_memory_is_bounded(&daemon);
    daemon.stop().await;
}

#[tokio::test]
async fn a_name_that_is_not_found() {
    let address = Ipv4Addr::LOCALHOST;
    let Some(names) = Names::serve(Answer::Address(address)).await else {
        return;
    };
    let api = HostileApi::start_at((address, 0).into(), None, Greeting::Plain).await;
    let Some(daemon) = start(polling(&api), &names) else {
        return;
    };
    daemon.event_of("one", "operation.started").await;
    let (server_failure, no_such_name) = (2, 3);
    for failure in [
        Answer::Failure(no_such_name),
        Answer::Failure(server_failure),
        Answer::Silence,
    ] {
        names.answer(failure);
        last_error(&daemon, "one", &[NAME]).await;
        last_error(&daemon, "two", &[NAME]).await;
        // Each question that is not answered yet occupies a thread.
        let threads = process_status(daemon.id(), "Threads");
        assert!(threads < 100, "{threads} threads");
        names.answer(Answer::Address(address));
        let polls = api.polls("two");
        until("polls go on", || api.polls("two") > polls + 2).await;
    }
    for id in ["one", "two"] {
        api.end(id);
        daemon.event_of(id, "operation.succeeded").await;
    }
    assert_eq!(
        daemon.log.count("operation.failed") + daemon.log.count("operation.gone"),
        0
    );
    assert_memory_is_bounded(&daemon);
    daemon.stop().await;
}
