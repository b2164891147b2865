//! Misuse of the control socket.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use backfill_watch::simulator::{Simulator, SimulatorConfig};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use crate::support::{Daemon, Setup};

fn socket_of(setup: &Setup) -> PathBuf {
    setup.folder().join("state/control.sock")
}

async fn start(setup: Setup) -> Daemon {
    let daemon = setup.list(&["op-3600000-100-s-a"]).start();
    daemon.event("operation.started").await;
    daemon
}

#[tokio::test]
async fn clients_that_send_nothing() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let daemon = start(Setup::new(&simulator)).await;
    let mut clients = Vec::new();
    for half in ["", "POST /api/rel"] {
        for _ in 0..40 {
            let mut client = UnixStream::connect(socket_of(daemon.setup())).await.unwrap();
            // It may have lost its place by now.
            let _ = client.write_all(half.as_bytes()).await;
            clients.push(client);
        }
    }
    for command in ["status", "reload"] {
        let answered = daemon.setup().run(command).await;
        assert_eq!(answered.status.code(), Some(0), "{command}: {answered:?}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn something_else_in_its_place() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let setup = Setup::new(&simulator);
    let path = socket_of(&setup);
    fs::create_dir(path.parent().unwrap()).unwrap();
    fs::write(&path, "not a socket").unwrap();
    let daemon = start(setup).await;
    let warned = daemon.message("cannot create the control socket").await;
    assert!(
        warned["error"].as_str().unwrap().contains("is not a socket"),
        "{warned:?}"
    );
    let _setup = daemon.stop().await;
    assert_eq!(fs::read(&path).unwrap(), b"not a socket");
}

#[tokio::test]
async fn a_file_that_took_its_place() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let daemon = start(Setup::new(&simulator)).await;
    let path = socket_of(daemon.setup());
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    let _setup = daemon.stop().await;
    assert!(path.exists());
}
