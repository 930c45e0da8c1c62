//! The correction for coordinated omission, against a server that stands still for a while.

use super::*;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

/// Sends the time a message was due, and takes it back.
struct Echo {
    in_flight: u64,
    window: u64,
}

impl Peer for Echo {
    fn has_room(&self) -> bool {
        self.in_flight < self.window
    }

    fn publish(&mut self, due_ns: u64, out: &mut Vec<u8>) {
        self.in_flight += 1;
        out.extend(due_ns.to_be_bytes());
    }

    fn take(&mut self, input: &[u8], _: &mut Vec<u8>, book: &mut Book) -> anyhow::Result<usize> {
        let whole = input.chunks_exact(8);
        let left = whole.remainder().len();
        for stamp in whole {
            self.in_flight -= 1;
            let due_ns = u64::from_be_bytes(stamp.try_into()?);
            book.ack(due_ns);
            book.deliver(due_ns);
        }
        Ok(input.len() - left)
    }
}

/// Runs an echo over a server that stands still once, after 200 messages.
fn run(pace: &Pace<'_>, window: u64, stall: Duration) -> Stretch {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 4096];
        let (mut bytes, mut has_stalled) = (0, false);
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            bytes += count;
            if bytes > 200 * 8 && !has_stalled {
                has_stalled = true;
                thread::sleep(stall);
            }
            stream.write_all(&buffer[..count]).unwrap();
        }
    });
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut engine = Engine::new().unwrap();
    let peer = Echo {
        in_flight: 0,
        window,
    };
    engine.add(stream, &[], Box::new(peer), true).unwrap();
    let stretch = engine.run(pace).unwrap();
    drop(engine);
    server.join().unwrap();
    stretch
}

fn pace(rate: Option<u64>) -> Pace<'static> {
    Pace {
        rate,
        messages: Some(1000),
        undelivered_max: 10_000,
        copies: 1,
        has_acks: true,
        ..Pace::default()
    }
}

#[test]
fn messages_that_a_stall_holds_up_count_from_when_they_were_due() {
    // With a window of one, only a single message is in flight during the stall: a client that counted from sending
    // would see one slow message of a thousand. 400 of the thousand were due meanwhile.
    let stretch = run(&pace(Some(1000)), 1, Duration::from_millis(400));
    assert_eq!(stretch.delivered, 1000);
    assert!(stretch.delivery.p90_us > 150_000.0, "{stretch:?}");
    assert!(stretch.ack.p90_us > 150_000.0, "{stretch:?}");
    assert!(stretch.delivery.max_us >= 399_000.0, "{stretch:?}");
}

#[test]
fn a_closed_loop_counts_from_sending() {
    let stretch = run(&pace(None), 1, Duration::from_millis(400));
    assert_eq!((stretch.published, stretch.missing), (1000, 0));
    assert!(stretch.delivery.p90_us < 150_000.0, "{stretch:?}");
    assert!(stretch.delivery.max_us >= 399_000.0, "{stretch:?}");
}

#[test]
fn an_open_loop_keeps_its_rate() {
    assert_eq!(due_ns(0, 1000), 0);
    assert_eq!(due_ns(1, 3), 333_333_333);
    assert_eq!(due_ns(3_000_000_000, 3), 1_000_000_000_000_000_000);
    let stretch = run(&pace(Some(4000)), 1000, Duration::ZERO);
    assert!((0.2..2.0).contains(&stretch.seconds), "{stretch:?}");
}

#[test]
fn a_time_limit_ends_a_load() {
    let stretch = run(
        &Pace {
            messages: None,
            seconds: Some(0.2),
            ..pace(Some(1000))
        },
        1000,
        Duration::ZERO,
    );
    assert!((100..=210).contains(&stretch.published), "{stretch:?}");
    assert_eq!(stretch.missing, 0);
}
