//! First bytes, whole and one at a time, from honest and other clients.

use super::*;
use crate::{BoxFuture, Connection, ConnectionError};
use omnilog_broker::Broker;
use tokio::io::AsyncWriteExt;

/// A protocol that opens with a signature.
struct Opening(&'static str, &'static [u8]);

impl Protocol for Opening {
    fn name(&self) -> &'static str {
        self.0
    }

    fn sniff(&self, prefix: &[u8]) -> Sniff {
        opens(prefix, self.1)
    }

    fn serve(
        self: Arc<Self>,
        _: Connection,
        _: Broker,
    ) -> BoxFuture<'static, Result<(), ConnectionError>> {
        Box::pin(async { Ok(()) })
    }
}

fn protocols() -> Vec<Arc<dyn Protocol>> {
    vec![
        Arc::new(Opening("amqp", b"AMQP")),
        Arc::new(Opening("zero", b"\0\0")),
    ]
}

/// What is decided once all of `bytes` has come, one byte at a time.
fn decided(bytes: &[u8]) -> Result<String, String> {
    for end in 0..=bytes.len() {
        match decide(&bytes[..end], &protocols()) {
            None => {}
            Some(Ok(Found::Protocol(protocol))) => return Ok(protocol.name().to_owned()),
            Some(Ok(Found::Foreign(foreign))) => return Ok(format!("{foreign:?}")),
            Some(Err(error)) => return Err(error.to_string()),
        }
    }
    Err("undecided".to_owned())
}

#[test]
fn signatures_are_told_apart() {
    let expected = [
        (&b"AMQP\0\0\x09\x01"[..], "amqp"),
        (b"\0\0\0\x20\0\x12", "zero"),
        (b"\x16\x03\x01\x02\0\x01\0", "Tls"),
        (b"PROXY TCP4 1.2.3.4 ", "Proxy"),
        (b"\r\n\r\n\0\r\nQUIT\n!", "Proxy"),
        (b"GET / HTTP/1.1\r\n", "Http"),
        (b"PRI * HTTP/2.0\r\n", "Http"),
        (b"OPTIONS / ", "Http"),
    ];
    for (bytes, what) in expected {
        assert_eq!(decided(bytes), Ok(what.to_owned()), "{bytes:?}");
    }
}

#[test]
fn what_nobody_speaks_is_refused_at_once() {
    for bytes in [&b"\xff"[..], b"AMQX", b"hello", b"\x16\x03\x01\x02\0\x02"] {
        assert_eq!(
            decided(bytes),
            Err("unknown protocol".to_owned()),
            "{bytes:?}"
        );
    }
    assert_eq!(decided(b"AM"), Err("undecided".to_owned()));
    assert_eq!(decided(b""), Err("undecided".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn what_was_read_is_kept_and_silence_has_an_end() {
    let (mut peer, mut ours) = tokio::io::duplex(64);
    let mut prefix = BytesMut::new();
    peer.write_all(b"AM").await.unwrap();
    let patience = Duration::from_secs(10);
    let silent = sniff(&mut ours, &mut prefix, &protocols(), patience).await;
    assert!(matches!(silent, Err(SniffError::Silent)));
    peer.write_all(b"QP\0").await.unwrap();
    let found = sniff(&mut ours, &mut prefix, &protocols(), patience).await;
    assert!(matches!(found, Ok(Found::Protocol(protocol)) if protocol.name() == "amqp"));
    assert_eq!(&prefix[..], b"AMQP\0");

    let mut prefix = BytesMut::new();
    drop(peer);
    let closed = sniff(&mut ours, &mut prefix, &protocols(), patience).await;
    assert!(matches!(closed, Err(SniffError::Closed)));
}
