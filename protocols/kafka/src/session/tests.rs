//! A session played by hand: whole requests in, commands and whole responses out, no sockets.

mod access;
mod peer;

use std::time::Duration;

use kafka_protocol::messages as m;
use omnilog_auth::{Authority, Credentials, User};
use omnilog_broker::{Appended, Command, Refusal, Reply};

use super::*;
use crate::codec::maker::{Maker, every_version};
use peer::{Peer, decode_response, frame, info, not_found};

/// Sends a request and plays it to its end; the response must be whole in its version.
fn round_trip(api: Api, version: i16, body: &[u8], mut kindly: impl FnMut() -> bool) {
    let mut peer = Peer::new();
    let sent = peer.send_body(api, version, 42, body);
    let played = sent.and_then(|()| peer.play(&mut kindly));
    if let Err(error) = played {
        // Closing the connection is an answer only to what has none: a Produce with acks=0.
        assert!(
            api == Api::Produce && !error.is_ours(),
            "{api:?} v{version}: {error}"
        );
        return;
    }
    let mut responses = peer.responses();
    assert_eq!(responses.len(), 1, "{api:?} v{version}");
    let (correlation_id, mut response) = responses.pop().unwrap();
    assert_eq!(correlation_id, 42);
    if codec::header::response_header_is_flexible(api, version) {
        assert_eq!(response.split_to(1)[0], 0);
    }
    assert_eq!(
        decode_response(api, version, &response),
        Ok(0),
        "{api:?} v{version}"
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn every_request_in_every_version_gets_a_whole_response(
        choices in proptest::collection::vec(proptest::prelude::any::<u8>(), 1..300),
        kindness in 0..4u8,
    ) {
        for (api, version) in every_version() {
            let body = Maker::body(api, version, &choices);
            let mut turn = 0;
            round_trip(api, version, &body, || {
                turn += 1;
                match kindness {
                    0 => false,
                    1 => turn % 2 == 0,
                    _ => true,
                }
            });
        }
    }
}

fn metadata(names: &[&'static str]) -> m::MetadataRequest {
    let topics = names.iter().map(|name| {
        let name = m::TopicName(StrBytes::from_static_str(name));
        m::metadata_request::MetadataRequestTopic::default().with_name(Some(name))
    });
    m::MetadataRequest::default().with_topics(Some(topics.collect()))
}

fn batch(value: &[u8]) -> Bytes {
    use omnilog_record::{BatchBuilder, BatchOptions, Header, NewRecord, Pieces};
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let headers: [Header<'_>; 0] = [];
    let record = NewRecord {
        timestamp: 1_700_000_000_000,
        key: None,
        value: Some(Pieces::One(value)),
        headers,
    };
    builder.append(&record).unwrap();
    builder.finish().unwrap().to_bytes()
}

fn produce(acks: i16, records: Bytes) -> m::ProduceRequest {
    let partition = m::produce_request::PartitionProduceData::default().with_records(Some(records));
    let topic = m::produce_request::TopicProduceData::default()
        .with_name(m::TopicName(StrBytes::from_static_str("orders")))
        .with_partition_data(vec![partition]);
    m::ProduceRequest::default()
        .with_acks(acks)
        .with_topic_data(vec![topic])
}

fn appended(base_offset: i64) -> Result<Reply, Refusal> {
    Ok(Reply::Appended(Appended {
        base_offset,
        log_append_time_ms: -1,
        log_start_offset: 0,
    }))
}

#[test]
fn produce_requests_overlap_and_are_answered_in_their_order() {
    let mut peer = Peer::new();
    for correlation_id in 1..=3 {
        peer.send(Api::Produce, 9, correlation_id, &produce(-1, batch(b"x")))
            .unwrap();
    }
    let commands = peer.commands();
    assert_eq!(commands.len(), 3, "all are under way at once");
    peer.reply(commands[2].0, appended(12)).unwrap();
    peer.reply(commands[1].0, appended(11)).unwrap();
    assert!(peer.responses().is_empty(), "the first is not answered yet");
    peer.reply(commands[0].0, appended(10)).unwrap();
    let order: Vec<i32> = peer.responses().iter().map(|(id, _)| *id).collect();
    assert_eq!(order, [1, 2, 3]);
}

#[test]
fn other_requests_wait_for_those_before_them() {
    let mut peer = Peer::new();
    peer.send(Api::Produce, 9, 1, &produce(-1, batch(b"x")))
        .unwrap();
    peer.send(Api::Metadata, 9, 2, &metadata(&["orders"]))
        .unwrap();
    peer.send(Api::Produce, 9, 3, &produce(-1, batch(b"y")))
        .unwrap();
    let commands = peer.commands();
    assert_eq!(commands.len(), 1, "only the first has begun");
    peer.reply(commands[0].0, appended(10)).unwrap();
    assert_eq!(peer.responses().len(), 1);
    let commands = peer.commands();
    assert!(
        matches!(commands[..], [(_, Command::DescribeTopics(_))]),
        "{commands:?}"
    );
    peer.reply(
        commands[0].0,
        Ok(Reply::Topics(vec![Ok(info(b"orders", 1))])),
    )
    .unwrap();
    assert_eq!(peer.responses()[0].0, 2);
    assert!(matches!(peer.commands()[..], [(_, Command::Append(_))]));
}

#[test]
fn without_acknowledgement_there_is_no_response_and_an_error_closes() {
    let mut peer = Peer::new();
    peer.send(Api::Produce, 7, 1, &produce(0, batch(b"x")))
        .unwrap();
    let commands = peer.commands();
    let [(correlation, Command::Append(append))] = &commands[..] else {
        panic!("{commands:?}")
    };
    assert_eq!(append.wait, omnilog_broker::Wait::Decided);
    peer.reply(*correlation, appended(1)).unwrap();
    assert!(peer.responses().is_empty());

    peer.send(Api::Produce, 7, 2, &produce(0, batch(b"x")))
        .unwrap();
    let correlation = peer.commands()[0].0;
    peer.reply(correlation, Err(not_found())).unwrap_err();
}

#[test]
fn unfit_batches_are_refused_each_with_its_code() {
    let code = |acks: i16, version: i16, records: Bytes| {
        let mut peer = Peer::new();
        peer.send(Api::Produce, version, 1, &produce(acks, records))
            .unwrap();
        assert!(peer.commands().is_empty());
        let response: m::ProduceResponse = peer.response(Api::Produce, version);
        response.responses[0].partition_responses[0].error_code
    };
    let good = batch(b"hello");
    let mut torn = good.to_vec();
    *torn.last_mut().unwrap() ^= 1;
    assert_eq!(code(-1, 9, torn.into()), 2, "CORRUPT_MESSAGE");
    let two = [&good[..], &good[..]].concat();
    assert_eq!(
        code(-1, 9, two.into()),
        87,
        "INVALID_RECORD for two batches"
    );
    assert_eq!(code(-1, 9, Bytes::new()), 87, "INVALID_RECORD for none");
    assert_eq!(code(2, 9, good.clone()), 21, "INVALID_REQUIRED_ACKS");
    let mut old = good.to_vec();
    old[16] = 1;
    assert_eq!(
        code(1, 9, old.into()),
        87,
        "INVALID_RECORD for message format 1"
    );
    assert_eq!(
        code(1, 9, good.slice(..40)),
        2,
        "CORRUPT_MESSAGE for a cut batch"
    );
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let mut peer = Peer::new();
    peer.send_bytes(&frame(18, 9, 5, true, b"whatever"))
        .unwrap();
    let response: m::ApiVersionsResponse = peer.response(Api::ApiVersions, 0);
    assert_eq!(response.error_code, 35);
    let [only] = &response.api_keys[..] else {
        panic!("{response:?}")
    };
    assert_eq!(
        (only.api_key, only.min_version, only.max_version),
        (18, 0, 4)
    );
    // The connection goes on.
    let request = m::ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("librdkafka"))
        .with_client_software_version(StrBytes::from_static_str("2.12.1"));
    peer.send(Api::ApiVersions, 4, 6, &request).unwrap();
    let response: m::ApiVersionsResponse = peer.response(Api::ApiVersions, 4);
    assert_eq!(response.error_code, 0);
    assert_eq!(response.api_keys.len(), Api::ALL.len());
}

#[test]
fn unserved_apis_and_versions_close_the_connection() {
    for (key, version) in [(4, 0), (-1, 0), (0, 2), (3, 99), (3, -1)] {
        let mut peer = Peer::new();
        peer.send_bytes(&frame(key, version, 1, false, b""))
            .unwrap_err();
    }
    let mut peer = Peer::new();
    peer.send_bytes(&[0, 0, 0, 2, 1, 1]).unwrap_err();
}

#[test]
fn asking_for_a_topic_creates_it_once_and_only_if_it_may() {
    let mut peer = Peer::new();
    peer.send(Api::Metadata, 9, 1, &metadata(&["new", "bad name", "old"]))
        .unwrap();
    let commands = peer.commands();
    let [(describe, Command::DescribeTopics(Some(refs)))] = &commands[..] else {
        panic!("{commands:?}")
    };
    assert_eq!(refs.len(), 2, "the bad name is not asked for");
    let topics = vec![Err(not_found()), Ok(info(b"old", 2))];
    peer.reply(*describe, Ok(Reply::Topics(topics))).unwrap();
    let commands = peer.commands();
    let [(create, Command::CreateTopic(new))] = &commands[..] else {
        panic!("{commands:?}")
    };
    assert_eq!((&new.name[..], new.partitions), (&b"new"[..], None));
    peer.reply(*create, Ok(Reply::Topic(info(b"new", 1))))
        .unwrap();
    let response: m::MetadataResponse = peer.response(Api::Metadata, 9);
    let told: Vec<_> = response
        .topics
        .iter()
        .map(|t| {
            (
                t.name.as_ref().unwrap().to_string(),
                t.error_code,
                t.partitions.len(),
            )
        })
        .collect();
    let expected = [("new", 0, 1), ("bad name", 17, 0), ("old", 0, 2)];
    assert_eq!(
        told,
        expected.map(|(name, code, count)| (name.to_owned(), code, count))
    );
    assert_eq!(response.controller_id, 0);
    assert_eq!(response.brokers[0].host.as_str(), "::1");
    assert_eq!(response.topics[2].partitions[1].leader_epoch, 7);

    let forbidden = metadata(&["new"]).with_allow_auto_topic_creation(false);
    peer.send(Api::Metadata, 9, 2, &forbidden).unwrap();
    let describe = peer.commands()[0].0;
    peer.reply(describe, Ok(Reply::Topics(vec![Err(not_found())])))
        .unwrap();
    let response: m::MetadataResponse = peer.response(Api::Metadata, 9);
    assert_eq!(response.topics[0].error_code, 3);
}

#[test]
fn no_topics_mean_all_in_version_0_and_none_from_version_1_on() {
    let mut peer = Peer::new();
    peer.send(Api::Metadata, 0, 1, &metadata(&[])).unwrap();
    let commands = peer.commands();
    assert!(matches!(commands[..], [(_, Command::DescribeTopics(None))]));
    let foreign = vec![Ok(info(b"orders", 1)), Ok(info(b"my queue", 1))];
    peer.reply(commands[0].0, Ok(Reply::Topics(foreign)))
        .unwrap();
    let response: m::MetadataResponse = peer.response(Api::Metadata, 0);
    let names: Vec<_> = response
        .topics
        .iter()
        .map(|t| t.name.as_ref().unwrap().as_str())
        .collect();
    assert_eq!(names, ["orders", "my_x20queue"]);

    peer.send(Api::Metadata, 1, 2, &metadata(&[])).unwrap();
    assert!(peer.commands().is_empty());
    let response: m::MetadataResponse = peer.response(Api::Metadata, 1);
    assert!(response.topics.is_empty());
    let all = m::MetadataRequest::default().with_topics(None);
    peer.send(Api::Metadata, 1, 3, &all).unwrap();
    assert!(matches!(
        peer.commands()[..],
        [(_, Command::DescribeTopics(None))]
    ));
}

#[test]
fn an_offset_out_of_range_is_told_with_the_range() {
    let mut peer = Peer::new();
    let partition = m::fetch_request::FetchPartition::default()
        .with_fetch_offset(500)
        .with_partition_max_bytes(1000);
    let topic = m::fetch_request::FetchTopic::default()
        .with_topic(m::TopicName(StrBytes::from_static_str("orders")))
        .with_partitions(vec![partition]);
    let request = m::FetchRequest::default()
        .with_max_wait_ms(100)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_topics(vec![topic]);
    peer.send(Api::Fetch, 11, 1, &request).unwrap();
    let commands = peer.commands();
    let [(correlation, Command::Fetch(fetch))] = &commands[..] else {
        panic!("{commands:?}")
    };
    assert_eq!(
        (fetch.wait_ms_max, fetch.bytes_min, fetch.bytes_max),
        (100, 1, 1 << 20)
    );
    let refusal = Refusal::OffsetOutOfRange {
        log_start_offset: 3,
        high_watermark: 99,
    };
    peer.reply(*correlation, Ok(Reply::Fetched(vec![Err(refusal)])))
        .unwrap();
    let response: m::FetchResponse = peer.response(Api::Fetch, 11);
    let partition = &response.responses[0].partitions[0];
    assert_eq!(partition.error_code, 1);
    assert_eq!(
        (partition.log_start_offset, partition.high_watermark),
        (3, 99)
    );
    assert_eq!(response.session_id, 0, "sessions are declined");
}

#[test]
fn a_flood_of_requests_pauses_reading_until_some_are_answered() {
    let mut peer = Peer::new();
    let mut sent = 0;
    while !peer.out.reading_paused() {
        sent += 1;
        assert!(sent <= SLOTS_MAX);
        peer.send(Api::Produce, 9, sent as i32, &produce(-1, batch(b"x")))
            .unwrap();
    }
    let first = peer.commands()[0].0;
    peer.reply(first, appended(0)).unwrap();
    assert!(!peer.out.reading_paused());
}

#[test]
fn an_idle_connection_is_closed_and_a_waiting_one_is_not() {
    let mut peer = Peer::new();
    peer.send(Api::Produce, 9, 1, &produce(-1, batch(b"x")))
        .unwrap();
    peer.now += Duration::from_secs(601);
    peer.session.on_deadline(peer.now, &mut peer.out).unwrap();
    assert!(peer.out.closing().is_none());
    let correlation = peer.commands()[0].0;
    peer.reply(correlation, appended(0)).unwrap();
    peer.now = peer.session.deadline().unwrap();
    peer.session.on_deadline(peer.now, &mut peer.out).unwrap();
    assert!(peer.out.closing().is_some());
}

#[test]
fn a_stopping_server_answers_what_is_being_written_and_closes() {
    let mut peer = Peer::new();
    peer.session.on_shutdown(peer.now, &mut peer.out);
    assert!(peer.out.closing().is_some(), "nobody waits");

    let mut peer = Peer::new();
    peer.send(Api::Produce, 9, 1, &produce(-1, batch(b"x")))
        .unwrap();
    peer.send(Api::Metadata, 9, 2, &metadata(&["orders"]))
        .unwrap();
    let correlation = peer.commands()[0].0;
    peer.session.on_shutdown(peer.now, &mut peer.out);
    assert!(peer.out.closing().is_none() && peer.out.reading_paused());
    peer.reply(correlation, appended(0)).unwrap();
    assert_eq!(peer.responses().len(), 1);
    assert!(peer.out.closing().is_some());
    assert!(peer.commands().is_empty(), "nothing is begun any more");
}

fn secured() -> Peer {
    let mut credentials = Credentials::new();
    credentials.add("alice", User::plain("secret")).unwrap();
    let origin = Origin {
        anonymous: Some(false),
        ..Origin::default()
    };
    Peer::with(Authority::new(credentials), origin)
}

fn handshake(peer: &mut Peer, mechanism: &'static str) -> i16 {
    let request =
        m::SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism));
    peer.send(Api::SaslHandshake, 1, 1, &request).unwrap();
    let response: m::SaslHandshakeResponse = peer.response(Api::SaslHandshake, 1);
    response.error_code
}

fn authenticate(peer: &mut Peer, message: &'static [u8]) -> i16 {
    let request =
        m::SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from_static(message));
    peer.send(Api::SaslAuthenticate, 2, 2, &request).unwrap();
    if let Some(at) = peer.session.gate.deadline() {
        assert!(peer.responses().is_empty(), "a failure takes its time");
        peer.now = at;
        peer.session.on_deadline(at, &mut peer.out).unwrap();
    }
    let response: m::SaslAuthenticateResponse = peer.response(Api::SaslAuthenticate, 2);
    response.error_code
}

#[test]
fn a_password_opens_the_gate_and_nothing_else_does() {
    let mut peer = secured();
    peer.send(Api::Metadata, 1, 1, &metadata(&[])).unwrap_err();

    let mut peer = secured();
    assert_eq!(handshake(&mut peer, "GSSAPI"), 33);
    assert_eq!(handshake(&mut peer, "PLAIN"), 0);
    assert_eq!(authenticate(&mut peer, b"\0alice\0secret"), 0);
    peer.send(Api::Metadata, 1, 3, &metadata(&[])).unwrap();
    assert_eq!(peer.responses().len(), 1);

    let mut peer = secured();
    assert_eq!(handshake(&mut peer, "PLAIN"), 0);
    assert_eq!(authenticate(&mut peer, b"\0alice\0wrong"), 58);
    peer.send(Api::Metadata, 1, 3, &metadata(&[])).unwrap_err();
}

#[test]
fn before_authentication_requests_are_small() {
    let mut peer = secured();
    let announced = (1i32 << 20).to_be_bytes();
    peer.send_bytes(&announced).unwrap_err();
    let mut peer = Peer::new();
    peer.send_bytes(&announced).unwrap();
    let mut peer = Peer::new();
    peer.send_bytes(&(101i32 << 20).to_be_bytes()).unwrap_err();
}
