//! A session played by hand: whole requests in, commands and whole responses out, no sockets.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages as m;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use omnilog_auth::{Authority, Credentials, User};
use omnilog_broker::{
    Appended, Command, Fetched, OffsetFound, Refusal, Reply, TopicId, TopicInfo, TopicRef,
};
use omnilog_wire::{Action, SignalReceiver, signals};
use tokio::sync::mpsc;

use super::*;
use crate::codec::maker::{Maker, every_version};
use crate::group::task::Message;
use crate::group::{GroupError, GroupRequest, JoinRefused, Joined, Listed, State, Synced};

/// The client's end of a session, its broker's and its coordinator's.
pub(crate) struct Peer {
    session: KafkaSession,
    out: Outbox,
    input: BytesMut,
    now: Instant,
    signals: SignalReceiver<Signal>,
    groups: mpsc::UnboundedReceiver<Message>,
}

impl Peer {
    pub(crate) fn new() -> Self {
        Self::with(
            Authority::new(Credentials::guest()),
            Origin {
                loopback: true,
                ..Origin::default()
            },
        )
    }

    fn with(authority: Authority, origin: Origin) -> Self {
        let (sender, signals) = signals();
        let (handle, groups) = GroupHandle::detached();
        let now = Instant::now();
        let context = Context {
            config: Arc::new(KafkaConfig::default()),
            advertised: Address {
                host: "::1".to_owned(),
                port: 9092,
            },
            leader_epoch: 7,
            namespace: NamespaceId(0),
            namespace_name: Name::from_static(b"/"),
            groups: handle,
            signals: sender,
            authenticator: Authenticator::new(authority, 1),
            origin,
            client_host: StrBytes::from_static_str("/127.0.0.1"),
            peer: "127.0.0.1:50000".to_owned(),
            principal: None,
        };
        Self {
            session: KafkaSession::new(context, now),
            out: Outbox::new(),
            input: BytesMut::new(),
            now,
            signals,
            groups,
        }
    }

    fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        self.input.extend_from_slice(bytes);
        self.session
            .on_bytes(self.now, &mut self.input, &mut self.out)
    }

    fn send_body(
        &mut self,
        api: Api,
        version: i16,
        correlation_id: i32,
        body: &[u8],
    ) -> Result<(), ConnectionError> {
        let frame = frame(
            api.key(),
            version,
            correlation_id,
            api.is_flexible(version),
            body,
        );
        self.send_bytes(&frame)
    }

    pub(crate) fn send<M: Encodable>(
        &mut self,
        api: Api,
        version: i16,
        correlation_id: i32,
        message: &M,
    ) -> Result<(), ConnectionError> {
        let mut body = BytesMut::new();
        message.encode(&mut body, version).unwrap();
        self.send_body(api, version, correlation_id, &body)
    }

    /// The commands since the last look, with their correlation numbers.
    pub(crate) fn commands(&mut self) -> Vec<(u64, Command)> {
        let actions = self.out.drain_actions();
        let commands = actions.filter_map(|action| match action {
            Action::Command(correlation, command) => Some((correlation, command)),
            Action::Connect(..) => None,
        });
        commands.collect()
    }

    pub(crate) fn reply(
        &mut self,
        correlation: u64,
        result: Result<Reply, Refusal>,
    ) -> Result<(), ConnectionError> {
        let event = Event::Reply {
            correlation,
            result,
        };
        self.session.on_event(self.now, event, &mut self.out)
    }

    /// The responses since the last look: correlation ids and what follows them.
    pub(crate) fn responses(&mut self) -> Vec<(i32, Bytes)> {
        let mut bytes = BytesMut::from(&self.out.take_bytes()[..]);
        let mut responses = Vec::new();
        while let Some(mut frame) = codec::next_frame(&mut bytes, 100 << 20).unwrap() {
            let correlation_id = i32::from_be_bytes(frame[..4].try_into().unwrap());
            responses.push((correlation_id, frame.split_off(4)));
        }
        assert!(bytes.is_empty(), "a response is cut short");
        responses
    }

    /// The one response, decoded.
    pub(crate) fn response<M: Decodable>(&mut self, api: Api, version: i16) -> M {
        let mut responses = self.responses();
        assert_eq!(responses.len(), 1);
        let (_, mut body) = responses.pop().unwrap();
        if codec::header::response_header_is_flexible(api, version) {
            let _tags = body.split_to(1);
        }
        let message = M::decode(&mut body, version).unwrap();
        assert!(body.is_empty(), "{api:?} v{version}: bytes are left over");
        message
    }

    /// Hands the signals that are there to the session.
    fn deliver_signals(&mut self) -> Result<(), ConnectionError> {
        while let Some(signal) = self.signals.try_recv() {
            self.session.on_signal(self.now, signal, &mut self.out)?;
        }
        Ok(())
    }

    /// Plays broker and coordinator until nothing is asked any more.
    fn play(&mut self, kindly: &mut impl FnMut() -> bool) -> Result<(), ConnectionError> {
        loop {
            let commands = self.commands();
            let mut idle = commands.is_empty();
            for (correlation, command) in commands {
                let result = broker_reply(&command, kindly());
                self.reply(correlation, result)?;
            }
            while let Ok(message) = self.groups.try_recv() {
                idle = false;
                coordinator_reply(message, kindly());
            }
            self.deliver_signals()?;
            if idle {
                return Ok(());
            }
        }
    }
}

fn frame(key: i16, version: i16, correlation_id: i32, flexible: bool, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(correlation_id);
    frame.put_i16(6);
    frame.put_slice(b"client");
    if flexible {
        frame.put_u8(0);
    }
    frame.put_slice(body);
    let length = frame.len() as i32 - 4;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame.freeze()
}

pub(crate) fn info(name: &[u8], partitions: u32) -> TopicInfo {
    TopicInfo {
        topic: TopicId(1),
        uuid: 0xABCD,
        name: Name::copy_from_slice(name),
        partitions,
        settings: Default::default(),
        provisional: false,
        leader_epoch: 7,
    }
}

fn not_found() -> Refusal {
    Refusal::NotFound(omnilog_broker::Noun::Topic, Name::from_static(b"x"))
}

fn broker_reply(command: &Command, kindly: bool) -> Result<Reply, Refusal> {
    if !kindly {
        return Err(not_found());
    }
    let offset = OffsetFound {
        offset: 5,
        timestamp_ms: 9,
        leader_epoch: 7,
    };
    Ok(match command {
        Command::DescribeTopics(None) => Reply::Topics(vec![Ok(info(b"orders", 3))]),
        Command::DescribeTopics(Some(refs)) => {
            let known = |topic: &TopicRef| match topic {
                TopicRef::Name(name) => Ok(info(name, 1)),
                TopicRef::Uuid(_) => Err(not_found()),
            };
            Reply::Topics(refs.iter().map(known).collect())
        }
        Command::CreateTopic(create) => Reply::Topic(info(&create.name, 1)),
        Command::AddPartitions(..) | Command::AlterTopic(..) => Reply::Topic(info(b"orders", 3)),
        Command::DeleteTopic(_) => Reply::Done,
        Command::Append(_) => Reply::Appended(Appended {
            base_offset: 10,
            log_append_time_ms: -1,
            log_start_offset: 0,
        }),
        Command::Fetch(fetch) => {
            let fetched = Fetched {
                batches: vec![Bytes::from_static(b"batch")],
                high_watermark: 10,
                last_stable_offset: 10,
                log_start_offset: 0,
            };
            Reply::Fetched(
                fetch
                    .partitions
                    .iter()
                    .map(|_| Ok(fetched.clone()))
                    .collect(),
            )
        }
        Command::FindOffset(..) | Command::EpochEnd(..) | Command::DeleteRecords(..) => {
            Reply::Offset(offset)
        }
        Command::InitProducer => Reply::Producer(4, 0),
        Command::FetchOffsets(..) => Reply::GroupOffsets(vec![omnilog_broker::GroupOffset {
            topic: Name::from_static(b"orders"),
            partition: 1,
            offset: 77,
            leader_epoch: 7,
            metadata: Bytes::from_static(b"note"),
        }]),
        other => panic!("no such command is expected: {other:?}"),
    })
}

fn coordinator_reply(message: Message, kindly: bool) {
    let error = GroupError::RebalanceInProgress;
    let (ticket, request) = match message {
        Message::List(ticket) => {
            let listed = Listed {
                group: Bytes::from_static(b"g"),
                state: State::Stable,
                protocol_type: StrBytes::from_static_str("consumer"),
            };
            return ticket.answer(GroupReply::Groups(vec![listed]));
        }
        Message::Request(ticket, _, request) => (ticket, *request),
    };
    let no = |kindly: bool| if kindly { Ok(()) } else { Err(error) };
    ticket.answer(match request {
        GroupRequest::Join(join) => GroupReply::Join(if kindly {
            Ok(Joined {
                generation: 3,
                protocol_type: join.protocol_type,
                protocol: StrBytes::from_static_str("range"),
                leader: StrBytes::from_static_str("m"),
                skip_assignment: join.can_skip_assignment,
                member: StrBytes::from_static_str("m"),
                members: vec![(StrBytes::from_static_str("m"), join.instance, Bytes::new())],
            })
        } else {
            Err(JoinRefused {
                error,
                member: join.member,
            })
        }),
        GroupRequest::Sync(_) => GroupReply::Sync(no(kindly).map(|()| Synced {
            protocol_type: StrBytes::from_static_str("consumer"),
            protocol: StrBytes::from_static_str("range"),
            assignment: Bytes::from_static(b"share"),
        })),
        GroupRequest::Heartbeat(_) => GroupReply::Heartbeat(no(kindly)),
        GroupRequest::Leave(leavers) => GroupReply::Leave(
            leavers
                .into_iter()
                .map(|leaver| (leaver, no(kindly)))
                .collect(),
        ),
        GroupRequest::Commit(_, offsets) => {
            GroupReply::Commit(no(kindly).map(|()| offsets.iter().map(|_| Ok(())).collect()))
        }
        GroupRequest::Describe => GroupReply::Description(None),
        GroupRequest::Delete => GroupReply::Deleted(no(kindly)),
    });
}

/// Decodes a response with the oracle; how many bytes it left.
fn decode_response(api: Api, version: i16, body: &Bytes) -> Result<usize, String> {
    let mut rest = body.clone();
    macro_rules! decode {
        ($($api:ident => $message:ident,)*) => {
            match api {
                $(Api::$api => m::$message::decode(&mut rest, version).map(drop),)*
            }
        };
    }
    let result = decode! {
        Produce => ProduceResponse,
        Fetch => FetchResponse,
        ListOffsets => ListOffsetsResponse,
        Metadata => MetadataResponse,
        OffsetCommit => OffsetCommitResponse,
        OffsetFetch => OffsetFetchResponse,
        FindCoordinator => FindCoordinatorResponse,
        JoinGroup => JoinGroupResponse,
        Heartbeat => HeartbeatResponse,
        LeaveGroup => LeaveGroupResponse,
        SyncGroup => SyncGroupResponse,
        DescribeGroups => DescribeGroupsResponse,
        ListGroups => ListGroupsResponse,
        SaslHandshake => SaslHandshakeResponse,
        ApiVersions => ApiVersionsResponse,
        CreateTopics => CreateTopicsResponse,
        DeleteTopics => DeleteTopicsResponse,
        DeleteRecords => DeleteRecordsResponse,
        InitProducerId => InitProducerIdResponse,
        OffsetForLeaderEpoch => OffsetForLeaderEpochResponse,
        DescribeConfigs => DescribeConfigsResponse,
        SaslAuthenticate => SaslAuthenticateResponse,
        CreatePartitions => CreatePartitionsResponse,
        DeleteGroups => DeleteGroupsResponse,
        IncrementalAlterConfigs => IncrementalAlterConfigsResponse,
        DescribeCluster => DescribeClusterResponse,
    };
    result.map(|()| rest.len()).map_err(|e| e.to_string())
}

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
