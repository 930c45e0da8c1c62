//! TLS, and one port for every protocol.

use super::configurations::write_certificates;
use super::process::Server;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// An MQTT 3.1.1 CONNECT without a client id, and what accepts it.
const MQTT_CONNECT: &[u8] = b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0";
const MQTT_CONNACK: &[u8] = b"\x20\x02\0\0";

/// What an AMQP client opens with; the answer is a Connection.Start.
const AMQP_HEADER: &[u8] = b"AMQP\0\0\x09\x01";

/// ApiVersions, version 0, correlation 7, no client id.
const KAFKA_API_VERSIONS: &[u8] = b"\0\0\0\x0a\0\x12\0\0\0\0\0\x07\xff\xff";

fn answer(stream: &mut (impl Read + Write), request: &[u8], bytes: usize) -> Vec<u8> {
    stream.write_all(request).unwrap();
    let mut answer = vec![0; bytes];
    stream.read_exact(&mut answer).unwrap();
    answer
}

fn speak_all(mut connect: impl FnMut() -> Box<dyn ReadWrite>) {
    assert_eq!(answer(&mut connect(), MQTT_CONNECT, 4), MQTT_CONNACK);
    let start = answer(&mut connect(), AMQP_HEADER, 11);
    assert_eq!(start[..3], [1, 0, 0]);
    assert_eq!(start[7..], [0, 10, 0, 10]);
    let versions = answer(&mut connect(), KAFKA_API_VERSIONS, 10);
    assert_eq!(versions[4..], [0, 0, 0, 7, 0, 0]);
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

#[test]
fn one_port_serves_every_protocol() {
    let server = Server::start(&[
        "--set=listeners.any.protocol=auto",
        "--set=listeners.any.bind=127.0.0.1:0",
    ]);
    speak_all(|| Box::new(server.connect("any")));
    // Others are turned away without a word.
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\xff\xff\xff\xff\xff\xff",
        b"PROXY TCP4 ",
    ] {
        let mut stream = server.connect("any");
        stream.write_all(bytes).unwrap();
        let mut rest = Vec::new();
        _ = stream.read_to_end(&mut rest);
        assert_eq!(rest, b"");
    }
}

#[test]
fn each_port_serves_its_protocol() {
    let server = Server::start(&[]);
    assert_eq!(
        answer(&mut server.connect("mqtt"), MQTT_CONNECT, 4),
        MQTT_CONNACK
    );
    answer(&mut server.connect("amqp"), AMQP_HEADER, 11);
    answer(&mut server.connect("kafka"), KAFKA_API_VERSIONS, 10);
    let (_, metrics) = server.get("/metrics");
    let line = "omnilog_connections_accepted_total{listener=\"mqtt\",protocol=\"mqtt\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

fn tls_client(dir: &Path, with_certificate: bool) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(dir.join("ca.pem")).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(if with_certificate {
        let chain = vec![CertificateDer::from_pem_file(dir.join("client.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(dir.join("client-key.pem")).unwrap();
        builder.with_client_auth_cert(chain, key).unwrap()
    } else {
        builder.with_no_client_auth()
    })
}

fn tls_connect(
    server: &Server,
    listener: &str,
    config: &Arc<rustls::ClientConfig>,
) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    let name = ServerName::try_from("localhost").unwrap();
    let session = rustls::ClientConnection::new(config.clone(), name).unwrap();
    rustls::StreamOwned::new(session, server.connect(listener))
}

fn start_with_tls(more: &[&str]) -> Server {
    let dir = TempDir::new().unwrap();
    write_certificates(dir.path());
    let mut args = vec![
        "--set=listeners.any.protocol=auto",
        "--set=listeners.any.bind=127.0.0.1:0",
        "--set=listeners.any.tls={cert=\"cert.pem\",key=\"key.pem\"}",
    ];
    args.extend(more);
    Server::start_in(dir, &args)
}

#[test]
fn tls_and_plain_clients_share_the_port_for_everything() {
    let server = start_with_tls(&[]);
    let config = tls_client(server.dir.path(), false);
    speak_all(|| Box::new(tls_connect(&server, "any", &config)));
    speak_all(|| Box::new(server.connect("any")));
}

#[test]
fn where_client_certificates_are_asked_for_nobody_comes_without() {
    let server = start_with_tls(&[
        "--set=listeners.strict.protocol=mqtt",
        "--set=listeners.strict.bind=127.0.0.1:0",
        "--set=listeners.strict.tls={cert=\"cert.pem\",key=\"key.pem\",client_ca=\"ca.pem\"}",
    ]);
    let mut certified = tls_connect(&server, "strict", &tls_client(server.dir.path(), true));
    assert_eq!(answer(&mut certified, MQTT_CONNECT, 4), MQTT_CONNACK);
    let mut nobody = tls_connect(&server, "strict", &tls_client(server.dir.path(), false));
    let mut reply = [0; 4];
    let spoken = nobody
        .write_all(MQTT_CONNECT)
        .and_then(|()| nobody.read_exact(&mut reply));
    assert!(spoken.is_err());
    // Nor without TLS.
    let mut plain = server.connect("strict");
    plain.write_all(MQTT_CONNECT).unwrap();
    let mut rest = Vec::new();
    _ = plain.read_to_end(&mut rest);
    assert!(!rest.starts_with(MQTT_CONNACK));
}

#[test]
fn certificates_are_read_again_on_sighup_and_bad_ones_change_nothing() {
    let server = start_with_tls(&[]);
    let old = tls_client(server.dir.path(), false);
    // A broken file first.
    let good = std::fs::read(server.dir.path().join("cert.pem")).unwrap();
    std::fs::write(server.dir.path().join("cert.pem"), "nothing").unwrap();
    server.signal(rustix::process::Signal::HUP);
    std::thread::sleep(std::time::Duration::from_millis(200));
    let mut stream = tls_connect(&server, "any", &old);
    assert_eq!(answer(&mut stream, MQTT_CONNECT, 4), MQTT_CONNACK);
    std::fs::write(server.dir.path().join("cert.pem"), good).unwrap();

    write_certificates(server.dir.path());
    let new = tls_client(server.dir.path(), false);
    server.signal(rustix::process::Signal::HUP);
    let begun = std::time::Instant::now();
    loop {
        let mut stream = tls_connect(&server, "any", &new);
        let mut reply = [0; 4];
        if stream
            .write_all(MQTT_CONNECT)
            .and_then(|()| stream.read_exact(&mut reply))
            .is_ok()
        {
            break;
        }
        assert!(
            begun.elapsed() < std::time::Duration::from_secs(20),
            "still the old one"
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
