//! Each peer against frames written and read by hand, whole and in pieces.

use super::{amqp, kafka, mqtt, payload};
use crate::bench::book::Book;
use crate::bench::engine::Peer;
use crate::raw::amqp::{BASIC_ACK, BASIC_DELIVER, FRAME_BODY, FRAME_HEADER, put_frame, put_method};
use crate::raw::kafka::{batch, put_string};
use crate::raw::mqtt::{put_puback, put_publish};

fn stamped(due_ns: u64) -> Vec<u8> {
    let mut body = payload(128);
    body[..8].copy_from_slice(&due_ns.to_be_bytes());
    body
}

/// A book whose clock stands at 10 us.
fn book() -> Book {
    let mut book = Book::new().unwrap();
    book.now_ns = 10_000;
    book
}

/// Gives a peer input byte by byte, as the engine would: what is not taken comes again with more.
fn trickle(peer: &mut dyn Peer, input: &[u8], book: &mut Book) -> Vec<u8> {
    let (mut out, mut held) = (Vec::new(), Vec::new());
    for &byte in input {
        held.push(byte);
        let taken = peer.take(&held, &mut out, book).unwrap();
        held.drain(..taken);
    }
    assert!(held.is_empty(), "{} bytes left", held.len());
    peer.flush(&mut out, false);
    out
}

fn confirm(number: u64, is_multiple: bool) -> Vec<u8> {
    let mut args = number.to_be_bytes().to_vec();
    args.push(u8::from(is_multiple));
    let mut frame = Vec::new();
    put_method(&mut frame, 1, BASIC_ACK, &args);
    frame
}

#[test]
fn mqtt_publishes_with_ids_and_times_and_frees_them() {
    let mut peer = mqtt::Publisher::new(&["a/b".to_owned()], 128, 1, 2);
    let mut out = Vec::new();
    peer.publish(1_000, &mut out);
    peer.publish(2_000, &mut out);
    assert!(!peer.has_room());
    let mut wanted = Vec::new();
    put_publish(&mut wanted, "a/b", 1, 1, &stamped(1_000));
    put_publish(&mut wanted, "a/b", 1, 2, &stamped(2_000));
    assert_eq!(out, wanted);

    let (mut acks, mut book) = (Vec::new(), book());
    put_puback(&mut acks, 2);
    trickle(&mut peer, &acks, &mut book);
    assert_eq!(book.acked, 1);
    assert!(peer.has_room());
    assert_eq!(book.turn().0.max_us, 8.0);
    // Once more for an id that is free.
    assert!(peer.take(&acks, &mut Vec::new(), &mut book).is_err());
}

#[test]
fn mqtt_subscribers_acknowledge_what_wants_it() {
    let (mut input, mut book) = (Vec::new(), book());
    put_publish(&mut input, "a", 0, 0, &stamped(4_000));
    put_publish(&mut input, "a/long/topic", 1, 300, &stamped(9_000));
    let mut acks = Vec::new();
    put_puback(&mut acks, 300);
    let out = trickle(&mut mqtt::Subscriber::default(), &input, &mut book);
    assert_eq!((out, book.delivered, book.background), (acks, 2, 0));
    assert_eq!(book.turn().1.max_us, 6.0);
}

#[test]
fn mqtt_sessions_that_come_back_must_be_there_and_count_apart() {
    let (mut input, mut book) = (vec![0x20, 2, 1, 0], book());
    put_publish(&mut input, "a", 1, 300, &stamped(4_000));
    let mut acks = Vec::new();
    put_puback(&mut acks, 300);
    let out = trickle(&mut mqtt::Subscriber::come_back(), &input, &mut book);
    assert_eq!((out, book.delivered, book.background), (acks, 0, 1));
    for refusal in [[0x20, 2, 0, 0], [0x20, 2, 0, 5]] {
        let mut peer = mqtt::Subscriber::come_back();
        assert!(peer.take(&refusal, &mut Vec::new(), &mut book).is_err());
    }
}

#[test]
fn mqtt_lengths_have_up_to_four_bytes() {
    for length in [127, 128, 16_384, 2_097_152] {
        let mut packet = Vec::new();
        put_publish(&mut packet, "", 0, 0, &vec![7; length - 2]);
        let whole = mqtt::next_packet(&packet).unwrap().unwrap();
        assert_eq!((whole.kind, whole.flags), (3, 0));
        assert_eq!((whole.body.len(), whole.size), (length, packet.len()));
        assert!(
            mqtt::next_packet(&packet[..packet.len() - 1])
                .unwrap()
                .is_none()
        );
    }
    assert!(mqtt::next_packet(&[0x30, 0x80]).unwrap().is_none());
    assert!(mqtt::next_packet(&[0x30, 0x80, 0x80, 0x80, 0x80, 1]).is_err());
}

#[test]
fn amqp_publishes_whole_messages() {
    let address = ("an-exchange".to_owned(), "a.key".to_owned());
    let mut peer = amqp::Publisher::new(&[address], 128, true, 3);
    let mut out = Vec::new();
    peer.publish(7_000, &mut out);
    let mut wanted = Vec::new();
    crate::raw::amqp::put_publish(&mut wanted, "an-exchange", "a.key", &stamped(7_000));
    assert_eq!(out, wanted);
}

#[test]
fn amqp_confirms_come_one_by_one_or_many_at_once() {
    let address = (String::new(), "q".to_owned());
    let mut peer = amqp::Publisher::new(&[address], 128, true, 3);
    let (mut out, mut book) = (Vec::new(), book());
    for due_ns in [1_000, 2_000, 3_000] {
        assert!(peer.has_room());
        peer.publish(due_ns, &mut out);
    }
    assert!(!peer.has_room());
    // Out of order: the second, then all up to the third.
    trickle(&mut peer, &confirm(2, false), &mut book);
    assert_eq!(book.acked, 1);
    trickle(&mut peer, &confirm(3, true), &mut book);
    assert_eq!(book.acked, 3);
    let acks = book.turn().0;
    assert_eq!((acks.count, acks.max_us), (3, 9.0));
    assert!(peer.take(&confirm(9, false), &mut out, &mut book).is_err());
    let mut nack = Vec::new();
    put_method(&mut nack, 1, (60, 120), &[0; 9]);
    assert!(peer.take(&nack, &mut out, &mut book).is_err());
}

fn delivery(tag: u64, body: &[u8], parts: usize) -> Vec<u8> {
    let mut args = b"\x03tag".to_vec();
    args.extend(tag.to_be_bytes());
    args.extend([0, 0, 1, b'q']);
    let mut out = Vec::new();
    put_method(&mut out, 1, BASIC_DELIVER, &args);
    let mut header = vec![0, 60, 0, 0];
    header.extend((body.len() as u64).to_be_bytes());
    header.extend([0x10, 0, 2]);
    put_frame(&mut out, FRAME_HEADER, 1, &header);
    for part in body.chunks(body.len().div_ceil(parts)) {
        put_frame(&mut out, FRAME_BODY, 1, part);
    }
    out
}

#[test]
fn amqp_consumers_acknowledge_each_message_once_it_is_whole() {
    let input = [
        delivery(1, &stamped(4_000), 1),
        delivery(2, &stamped(5_000), 3),
    ]
    .concat();
    let mut book = book();
    let out = trickle(&mut amqp::Consumer::new(1), &input, &mut book);
    assert_eq!(out, [confirm(1, false), confirm(2, false)].concat());
    assert_eq!((book.delivered, book.turn().1.max_us), (2, 6.0));
    let out = trickle(&mut amqp::Consumer::new(2), &input, &mut book);
    assert_eq!(out, confirm(2, true));
    let out = trickle(&mut amqp::Consumer::new(0), &input, &mut book);
    assert!(out.is_empty());
    let mut broken = delivery(1, &stamped(1), 1);
    *broken.last_mut().unwrap() = 0;
    assert!(
        amqp::Consumer::new(1)
            .take(&broken, &mut Vec::new(), &mut book)
            .is_err()
    );
}

/// An answer with the header that every one has.
fn answer(body: &[u8]) -> Vec<u8> {
    let mut frame = ((body.len() + 4) as u32).to_be_bytes().to_vec();
    frame.extend([0; 4]);
    frame.extend(body);
    frame
}

fn produce_answer(error: i16) -> Vec<u8> {
    let mut body = 1i32.to_be_bytes().to_vec();
    put_string(&mut body, "t");
    body.extend(1i32.to_be_bytes());
    body.extend(0i32.to_be_bytes());
    body.extend(error.to_be_bytes());
    body.extend([0; 28]);
    answer(&body)
}

fn fetch_answer(topic: &str, records: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(1i32.to_be_bytes());
    put_string(&mut body, topic);
    body.extend(1i32.to_be_bytes());
    body.extend([0; 4 + 2 + 16]);
    body.extend((-1i32).to_be_bytes());
    body.extend((records.len() as i32).to_be_bytes());
    body.extend(records);
    answer(&body)
}

/// The batch in a Produce request that a producer wrote.
fn batch_in(request: &[u8], records: usize) -> Vec<u8> {
    let body = payload(128);
    let size = batch(&vec![&body[..]; records]).len();
    request[request.len() - size..].to_vec()
}

#[test]
fn kafka_batches_carry_each_record_s_time_and_a_right_checksum() {
    let mut peer = kafka::Producer::new(&["t".to_owned()], 128, 3, -1, 1, true);
    let mut out = Vec::new();
    for due_ns in [1_000, 2_000] {
        peer.publish(due_ns, &mut out);
    }
    peer.flush(&mut out, false);
    assert!(out.is_empty(), "waits for a whole batch");
    peer.publish(3_000, &mut out);
    assert!(!peer.has_room());
    let written = batch_in(&out, 3);
    let checksum = u32::from_be_bytes(written[17..21].try_into().unwrap());
    assert_eq!(checksum, crc32c::crc32c(&written[21..]));

    // What a fetcher makes of it.
    let mut book = book();
    assert_eq!(
        kafka::take_batches(&written, 0, false, &mut book).unwrap(),
        3
    );
    let times = book.turn().1;
    assert_eq!((times.count, times.max_us), (3, 9.0));
    // From the middle on, and cut off.
    kafka::take_batches(&written, 2, false, &mut book).unwrap();
    assert_eq!(book.delivered, 1);
    assert_eq!(
        kafka::take_batches(&written[..written.len() - 1], 0, false, &mut book).unwrap(),
        0
    );
    kafka::take_batches(&written, 1, true, &mut book).unwrap();
    assert_eq!((book.delivered, book.background), (1, 2));
    let mut compressed = written.clone();
    compressed[22] |= 1;
    assert!(kafka::take_batches(&compressed, 0, false, &mut book).is_err());
}

#[test]
fn kafka_producers_send_what_is_there_when_they_may_not_linger_or_it_is_the_last() {
    let mut out = Vec::new();
    let mut peer = kafka::Producer::new(&["t".to_owned()], 128, 16, -1, 1, false);
    peer.publish(1_000, &mut out);
    peer.flush(&mut out, false);
    let first = out.len();
    assert!(
        first > 0 && !peer.has_room(),
        "one request in flight is all"
    );
    let mut book = book();
    trickle(&mut peer, &produce_answer(0), &mut book);
    assert!(peer.has_room());
    assert_eq!((book.acked, book.turn().0.max_us), (1, 9.0));
    assert!(peer.take(&produce_answer(0), &mut out, &mut book).is_err());

    let mut peer = kafka::Producer::new(&["t".to_owned()], 128, 16, -1, 1, true);
    peer.publish(1_000, &mut out);
    peer.flush(&mut out, true);
    assert!(out.len() > first);
    assert!(peer.take(&produce_answer(7), &mut out, &mut book).is_err());
}

#[test]
fn kafka_fetchers_ask_on_from_where_they_are() {
    let mut peer = kafka::Fetcher::new(["t".to_owned(), "u".to_owned()], false);
    let (mut out, mut book) = (Vec::new(), book());
    peer.take(&[], &mut out, &mut book).unwrap();
    let first = std::mem::take(&mut out);
    peer.take(&[], &mut out, &mut book).unwrap();
    assert!(out.is_empty(), "one request at a time");
    let body = stamped(1_000);
    let out = trickle(
        &mut peer,
        &fetch_answer("u", &batch(&[&body, &body])),
        &mut book,
    );
    assert_eq!(book.delivered, 2);
    // The same question, but for the offset of the second topic.
    assert_eq!(out.len(), first.len());
    let differ: Vec<usize> = (0..out.len()).filter(|&at| out[at] != first[at]).collect();
    assert_eq!(differ, [out.len() - 5]);
    assert_eq!(out[differ[0]], 2);
    let unasked = fetch_answer("x", &[]);
    assert!(peer.take(&unasked, &mut Vec::new(), &mut book).is_err());
}
