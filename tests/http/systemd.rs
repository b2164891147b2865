//! Notifications to systemd, read from the socket that it would listen on.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use backfill_watch::simulator::{Simulator, SimulatorConfig};

use crate::support::{DEADLINE, Setup};

struct Systemd(UnixDatagram);

impl Systemd {
    /// The next expected message, and those before it.
    async fn until(&self, wanted: &str) -> Vec<String> {
        let socket = self.0.try_clone().unwrap();
        let wanted = wanted.to_owned();
        tokio::task::spawn_blocking(move || {
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
            let mut messages = Vec::new();
            let mut buffer = [0; 4096];
            loop {
                let length = socket
                    .recv(&mut buffer)
                    .unwrap_or_else(|error| panic!("{wanted} never came: {error}: {messages:?}"));
                let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
                let is_wanted = message.lines().any(|line| line.starts_with(&wanted));
                messages.push(message);
                if is_wanted {
                    return messages;
                }
            }
        })
        .await
        .unwrap()
    }
}

#[tokio::test]
async fn systemd_is_notified_of_start_status_reload_liveness_and_stop() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let setup = Setup::new(&simulator).list(&["op-600000-5000-s-1", "op-200-100-s-2"]);
    let path = setup.folder().join("notify");
    let systemd = Systemd(UnixDatagram::bind(&path).unwrap());
    let daemon = setup
        .variable("NOTIFY_SOCKET", &path.display().to_string())
        .variable("WATCHDOG_USEC", "300000")
        .start();

    systemd.until("READY=1").await;
    systemd.until("WATCHDOG=1").await;
    let messages = systemd
        .until("STATUS=2 operations listed: 1 running, 1 succeeded")
        .await;
    assert!(messages.iter().all(|message| !message.contains("STOPPING")));

    daemon.signal(&["HUP"]);
    let reload = systemd.until("RELOADING=1").await;
    assert!(reload.last().unwrap().contains("\nMONOTONIC_USEC="), "{reload:?}");
    systemd.until("READY=1").await;

    // A daemon that hangs sends nothing, so systemd restarts it.
    systemd.until("WATCHDOG=1").await;
    daemon.signal(&["STOP"]);
    systemd.0.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    while systemd.0.recv(&mut [0; 4096]).is_ok() {}
    daemon.signal(&["CONT"]);
    systemd.until("WATCHDOG=1").await;

    let (setup, stopping) = tokio::join!(daemon.stop(), systemd.until("STOPPING=1"));
    assert!(!stopping.is_empty());
    drop(setup);
}

#[tokio::test]
async fn a_service_manager_may_listen_on_an_abstract_socket() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let setup = Setup::new(&simulator).list(&["op-600000-5000-s-1"]);
    let name = format!("backfill-watch-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let systemd = Systemd(UnixDatagram::bind_addr(&address).unwrap());
    let daemon = setup.variable("NOTIFY_SOCKET", &format!("@{name}")).start();
    systemd.until("READY=1").await;
    systemd.until("STATUS=1 operation listed: 1 running").await;
    let (setup, _) = tokio::join!(daemon.stop(), systemd.until("STOPPING=1"));

    // An address of no known kind is reported once, and harms nobody.
    let daemon = setup.variable("NOTIFY_SOCKET", "vsock:2:1").start();
    let refused = |line: &crate::support::LogLine| line["socket"] == "vsock:2:1";
    let line = daemon.wait_for("that the address cannot be used", refused).await;
    assert_eq!(line["level"], "WARN");
    daemon.event("operation.progress").await;
    assert_eq!(daemon.log.lines(refused).len(), 1);
    daemon.stop().await;
}
