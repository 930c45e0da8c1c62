//! What a client may not take: too many connections, all the time in the world.

use super::process::Server;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

#[test]
fn a_connection_too_many_is_closed_and_room_is_given_back() {
    let server = Server::start(&["--set=listeners.mqtt.connections_max=2"]);
    let (one, two) = (server.connect("mqtt"), server.connect("mqtt"));
    let mut rest = Vec::new();
    let mut three = server.connect("mqtt");
    _ = three.read_to_end(&mut rest);
    assert_eq!(rest, b"");
    let (_, metrics) = server.get("/metrics");
    let line = "omnilog_connections_refused_total{listener=\"mqtt\"} 1";
    assert!(metrics.contains(line), "{metrics}");
    drop((one, two));
    let begun = Instant::now();
    loop {
        // Kept open: nothing to read and no end.
        let mut again = server.connect("mqtt");
        again
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let closed = matches!(again.read(&mut [0]), Ok(0));
        if !closed {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "no room");
    }
}

#[test]
fn who_does_not_say_what_they_speak_is_let_go() {
    let server = Server::start(&[
        "--set=listeners.any.protocol=auto",
        "--set=listeners.any.bind=127.0.0.1:0",
        "--set=limits.handshake_ms_max=300",
    ]);
    for beginning in [&b""[..], b"AM", b"\0\0\0"] {
        let mut silent = server.connect("any");
        silent.write_all(beginning).unwrap();
        let begun = Instant::now();
        let mut rest = Vec::new();
        _ = silent.read_to_end(&mut rest);
        assert_eq!(rest, b"");
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
