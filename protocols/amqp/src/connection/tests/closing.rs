//! Ends of channels and connections.

use super::*;
use omnilog_broker::BlockReason;
use std::time::Duration;

fn close_channel() -> AMQPClass {
    AMQPClass::Channel(channel::AMQPMethod::Close(channel::Close {
        reply_code: 200,
        reply_text: "bye".into(),
        class_id: 0,
        method_id: 0,
    }))
}

fn close_connection() -> AMQPClass {
    AMQPClass::Connection(connection::AMQPMethod::Close(connection::Close {
        reply_code: 200,
        reply_text: "bye".into(),
        class_id: 0,
        method_id: 0,
    }))
}

#[test]
fn a_closed_channel_gives_back_first() {
    let mut pair = Pair::open();
    pair.method(1, close_channel());
    assert!(pair.frames().is_empty());
    pair.answer(Ok(Reply::Done));
    assert!(matches!(
        pair.methods()[..],
        [AMQPClass::Channel(channel::AMQPMethod::CloseOk(_))]
    ));
}

#[test]
fn a_closed_connection_deletes_its_exclusive_queues_first() {
    let mut pair = Pair::open();
    pair.method(
        1,
        queue(queue::AMQPMethod::Declare(queue::Declare {
            exclusive: true,
            ..queue::Declare::default()
        })),
    );
    pair.answer(Ok(queue_info("amq.gen-1", 0, 0)));
    pair.frames();
    pair.method(0, close_connection());
    assert!(matches!(pair.command(), Command::DeleteQueue { name, .. } if name == "amq.gen-1"));
    assert!(pair.frames().is_empty());
    pair.answer(Ok(Reply::Done));
    assert!(matches!(
        pair.methods()[..],
        [AMQPClass::Connection(connection::AMQPMethod::CloseOk(_))]
    ));
    assert_eq!(pair.out.closing(), None, "the client may close first");
    pair.pass(Duration::from_millis(200));
    assert_eq!(pair.out.closing(), Some(Close::Linger));
}

#[test]
fn an_unopened_channel_is_a_channel_error() {
    let mut pair = Pair::open();
    pair.method(2, declare_queue("q"));
    let text = "CHANNEL_ERROR - expected 'channel.open'".to_owned();
    assert_eq!(pair.connection_closed(), (504, text, (50, 10)));
}

#[test]
fn a_second_open_is_a_channel_error() {
    let mut pair = Pair::open();
    let open = AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}));
    pair.method(1, open);
    let text = "CHANNEL_ERROR - second 'channel.open' seen".to_owned();
    assert_eq!(pair.connection_closed(), (504, text, (20, 10)));
}

#[test]
fn broken_frames_are_frame_errors() {
    for bytes in [
        &[7, 0, 1, 0, 0, 0, 0, 0xCE][..],
        &[1, 0, 1, 0, 0, 0, 0, 0xCD],
        &[1, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0],
        &[1, 0, 1, 0, 0, 0, 3, 0, 50, 0, 0xCE],
    ] {
        let mut pair = Pair::open();
        pair.send(bytes);
        assert_eq!(pair.connection_closed().0, 501, "{bytes:?}");
    }
}

#[test]
fn an_unknown_method_is_an_invalid_command() {
    let mut pair = Pair::open();
    pair.send(&[1, 0, 1, 0, 0, 0, 4, 0, 60, 0, 99, 0xCE]);
    let (code, _, method) = pair.connection_closed();
    assert_eq!((code, method), (503, (60, 99)));
}

#[test]
fn a_heartbeat_belongs_to_channel_0() {
    let mut pair = Pair::open();
    pair.send(&[8, 0, 1, 0, 0, 0, 0, 0xCE]);
    assert_eq!(pair.connection_closed().0, 505);
}

#[test]
fn after_our_close_only_close_ok_counts() {
    let mut pair = Pair::open();
    pair.send(&[8, 0, 1, 0, 0, 0, 0, 0xCE]);
    pair.frames();
    pair.method(1, declare_queue("q"));
    assert!(pair.commands.is_empty());
    let ok = AMQPClass::Connection(connection::AMQPMethod::CloseOk(connection::CloseOk {}));
    pair.method(0, ok);
    assert_eq!(pair.out.closing(), Some(Close::Flushed));
}

#[test]
fn a_peer_that_does_not_answer_a_close_is_left() {
    let mut pair = Pair::open();
    pair.send(&[8, 0, 1, 0, 0, 0, 0, 0xCE]);
    pair.pass(Duration::from_secs(11));
    assert!(pair.out.closing().is_some());
}

#[test]
fn a_stop_is_a_forced_close() {
    let mut pair = Pair::open();
    pair.session.on_shutdown(pair.now, &mut pair.out);
    let (code, text, _) = pair.connection_closed();
    assert_eq!(code, 320);
    assert!(text.starts_with("CONNECTION_FORCED - "));
}

#[test]
fn blocked_publishers_are_told_and_not_read() {
    let mut pair = Pair::open();
    pair.event(Event::Blocked(BlockReason::Disk));
    assert!(pair.frames().is_empty(), "who does not publish is not told");
    pair.send_frames(&publish("", "q", false, b"body"));
    assert!(pair.out.reading_paused());
    let methods = pair.methods();
    assert!(matches!(
        &methods[..],
        [AMQPClass::Connection(connection::AMQPMethod::Blocked(blocked))]
            if blocked.reason.as_str() == "low on disk"
    ));
    assert!(pair.commands.is_empty());
    pair.event(Event::Unblocked);
    assert!(!pair.out.reading_paused());
    assert!(matches!(
        pair.methods()[..],
        [AMQPClass::Connection(connection::AMQPMethod::Unblocked(_))]
    ));
    assert!(matches!(pair.command(), Command::Publish(_)));
}

#[test]
fn a_lost_shard_is_a_forced_close() {
    let mut pair = Pair::open();
    pair.event(Event::ShardLost);
    assert_eq!(pair.connection_closed().0, 320);
}
