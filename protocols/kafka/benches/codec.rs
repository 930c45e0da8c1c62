//! The codec's share of a request: the walk, Produce in, Fetch out.

use bytes::{BufMut, Bytes, BytesMut};
use divan::{Bencher, black_box};
use kafka_protocol::protocol::StrBytes;
use omnilog_kafka::codec::{
    Api, FetchReply, FetchReplyPartition, FetchReplyTopic, ProduceRequest, check,
};

fn main() {
    divan::main();
}

/// A Produce v9 body: one topic, this many partitions, 16 KiB each.
fn produce_body(partitions: u8) -> Bytes {
    let mut body = BytesMut::new();
    body.put_slice(&[0, 0xff, 0xff, 0, 0, 0x75, 0x30, 2, 7]);
    body.put_slice(b"orders");
    body.put_u8(partitions + 1);
    for index in 0..partitions {
        body.put_i32(i32::from(index));
        body.put_slice(&[0x81, 0x80, 0x01]); // 16 385: 16 KiB and one
        body.put_bytes(0xab, 16 << 10);
        body.put_u8(0);
    }
    body.put_slice(&[0, 0]);
    body.freeze()
}

#[divan::bench(args = [1, 20])]
fn walk_produce(bencher: Bencher<'_, '_>, partitions: u8) {
    let body = produce_body(partitions);
    bencher.bench(|| check(Api::Produce, 9, black_box(&body)));
}

#[divan::bench(args = [1, 20])]
fn decode_produce(bencher: Bencher<'_, '_>, partitions: u8) {
    let body = produce_body(partitions);
    assert!(ProduceRequest::decode(&body, 9).is_ok());
    bencher.bench(|| ProduceRequest::decode(black_box(&body), 9));
}

#[divan::bench(args = [1, 20])]
fn encode_fetch(bencher: Bencher<'_, '_>, partitions: i32) {
    let batch = Bytes::from(vec![0xab; 16 << 10]);
    let partitions = (0..partitions).map(|index| FetchReplyPartition {
        index,
        error_code: 0,
        high_watermark: 1000,
        last_stable_offset: 1000,
        log_start_offset: 0,
        aborted: None,
        batches: vec![batch.clone(); 4],
    });
    let topic = FetchReplyTopic {
        name: StrBytes::from_static_str("orders"),
        topic_id: uuid::Uuid::nil(),
        partitions: partitions.collect(),
    };
    let reply = FetchReply {
        topics: vec![topic],
        ..FetchReply::default()
    };
    bencher.bench(|| black_box(&reply).encode(12, 1));
}
