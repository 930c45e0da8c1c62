//! What is there, asked for over HTTP and with `omnilog inspect`, of a running server and of its data afterwards.

use super::process::{Server, run};
use serde_json::Value;
use std::io::{Read, Write};

/// A persistent session that publishes to `orders/eu` at QoS 1, twice.
fn publish(server: &Server) {
    let mut stream = server.connect("mqtt");
    let mut bytes = vec![0x10, 18, 0, 4];
    bytes.extend(b"MQTT\x04\x00\x00\x3c\x00\x06device");
    for (packet_id, payload) in [(1, b'a'), (2, b'b')] {
        bytes.extend([0x32, 14, 0, 9]);
        bytes.extend(b"orders/eu");
        bytes.extend([0, packet_id, payload]);
    }
    stream.write_all(&bytes).unwrap();
    // CONNACK and two PUBACKs.
    stream.read_exact(&mut [0; 12]).unwrap();
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn names_and_records_are_found_over_http_and_in_the_data_of_a_stopped_server() {
    let server = Server::start(&[]);
    publish(&server);
    let (status, topics) = server.get("/api/topics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    let topics = json(&topics);
    assert_eq!(topics["topics"][0]["name"], "orders");
    assert_eq!(topics["topics"][0]["partitions"][0]["high_watermark"], 2);
    let sessions = json(&server.get("/api/sessions?name=device").1);
    assert_eq!(sessions["sessions"][0]["durable"], true);
    assert_eq!(
        server.get("/api/queues?name=none").0,
        "HTTP/1.1 404 Not Found"
    );
    let records = json(
        &server
            .get("/api/records?topic=orders&key=eu&value_bytes=9")
            .1,
    );
    assert_eq!(records["records"][0]["value"], "a");
    assert_eq!(records["records"][1]["offset"], 1);
    let records = json(&server.get("/api/records?topic=orders&message_id=nobody").1);
    assert_eq!(records["records"], json("[]"));
    let one = json(&server.get("/api/records?topic=orders&limit=1").1);
    assert_eq!(one["next_offset"], 1);
    let future = json(
        &server
            .get("/api/records?topic=orders&time_ms=99999999999999")
            .1,
    );
    assert_eq!(future["records"], json("[]"));
    assert_eq!(
        server.get("/api/records?topic=none").0,
        "HTTP/1.1 404 Not Found"
    );

    let admin = format!("--admin={}", server.addresses["admin"]);
    let dir = server.dir.path();
    let (status, stdout, stderr) = run(dir, &["inspect", &admin, "topics"]);
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert_eq!(json(&stdout)["topics"], topics["topics"]);

    // After a kill nothing is tidy: the view is, the data stays as it is.
    let dir = server.kill();
    let listing = || -> Vec<_> {
        let entries = std::fs::read_dir(dir.path().join("data/journal")).unwrap();
        let mut found: Vec<_> = entries
            .map(|entry| {
                let entry = entry.unwrap();
                let meta = entry.metadata().unwrap();
                (entry.file_name(), meta.len(), meta.modified().unwrap())
            })
            .collect();
        found.sort();
        found
    };
    let before = listing();
    let args = [
        "inspect",
        "--data-dir=data",
        "--offline",
        "records",
        "--topic=orders",
    ];
    let (status, stdout, stderr) = run(dir.path(), &args);
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert_eq!(json(&stdout)["records"][1]["key"], "eu");
    assert_eq!(listing(), before);
}
