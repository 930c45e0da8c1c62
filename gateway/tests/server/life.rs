//! Starting, being healthy, stopping, and starting again.

use super::process::{Server, run};
use std::io::Read;
use tempfile::TempDir;

#[test]
fn it_tells_its_addresses_and_is_healthy() {
    let server = Server::start(&[]);
    let names: Vec<_> = server.addresses.keys().map(String::as_str).collect();
    assert_eq!(names, ["admin", "amqp", "kafka", "mqtt"]);
    assert!(server.addresses.values().all(|address| address.port() != 0));
    assert_eq!(server.get("/healthz").0, "HTTP/1.1 200 OK");
    assert_eq!(server.get("/readyz").0, "HTTP/1.1 200 OK");
    let (status, metrics) = server.get("/metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    for line in [
        "omnilog_received_bytes_total{listener=\"kafka\"} ",
        "omnilog_broker_clients ",
        "omnilog_uptime_seconds ",
        "# EOF",
    ] {
        assert!(metrics.contains(line), "'{line}' is not in:\n{metrics}");
    }
}

#[test]
fn a_stop_closes_clients_ends_well_and_can_be_followed_by_a_start() {
    let server = Server::start(&[]);
    let mut clients: Vec<_> = ["kafka", "amqp", "mqtt"]
        .iter()
        .map(|listener| server.connect(listener))
        .collect();
    let addresses_file = server.dir.path().join("addresses.json");
    let (status, dir) = server.stop();
    assert_eq!(status.code(), Some(0));
    assert!(!dir.path().join("addresses.json").exists());
    for client in &mut clients {
        let mut rest = Vec::new();
        // A reset is as good: the connection is gone.
        _ = client.read_to_end(&mut rest);
    }
    assert!(!addresses_file.exists());
    let server = Server::start_in(dir, &[]);
    assert_eq!(server.get("/readyz").0, "HTTP/1.1 200 OK");
}

#[test]
fn a_kill_needs_no_help_afterwards() {
    let dir = Server::start(&[]).kill();
    // The addresses of the killed one are still there; a failing start takes them away, too.
    let file = dir.path().join("addresses.json");
    assert!(file.exists());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let set = format!("--set=admin.bind={}", taken.local_addr().unwrap());
    let mut args = vec![
        "serve".to_owned(),
        "--addresses-file=addresses.json".to_owned(),
    ];
    args.extend(super::process::free_ports());
    args.push(set);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (status, ..) = run(dir.path(), &args);
    assert_eq!(status.code(), Some(1));
    assert!(!file.exists());

    let server = Server::start_in(dir, &[]);
    assert_eq!(server.get("/readyz").0, "HTTP/1.1 200 OK");
}

#[test]
fn a_second_process_on_the_same_data_is_refused() {
    let server = Server::start(&[]);
    let mut args = vec!["serve".to_owned()];
    args.extend(super::process::free_ports());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (status, _, stderr) = run(server.dir.path(), &args);
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("in use by another process"), "{stderr}");
    // And the journal command does not touch it either.
    let (status, _, stderr) = run(server.dir.path(), &["journal", "verify", "data"]);
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("in use by another process"), "{stderr}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let set = format!("--set=listeners.mqtt.bind={address}");
    let dir = TempDir::new().unwrap();
    let mut args = vec!["serve".to_owned()];
    args.extend(super::process::free_ports());
    args.push(set);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (status, _, stderr) = run(dir.path(), &args);
    assert_eq!(status.code(), Some(1));
    let expected = format!("cannot listen on {address} (listeners.mqtt.bind)");
    assert!(stderr.contains(&expected), "{stderr}");
}

#[test]
fn the_journal_of_a_stopped_server_verifies() {
    let (_, dir) = Server::start(&[]).stop();
    let (status, stdout, stderr) = run(dir.path(), &["journal", "verify", "data"]);
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(stdout.contains("frames"), "{stdout}");
    let (status, _, stderr) = run(dir.path(), &["journal", "dump", "data"]);
    assert_eq!(status.code(), Some(0), "{stderr}");
    let (status, _, _) = run(dir.path(), &["journal", "verify", "nowhere"]);
    assert_eq!(status.code(), Some(1));
    assert!(!dir.path().join("nowhere").exists());
}
