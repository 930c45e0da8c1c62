//! A session's surroundings in a test: the client's end, a broker and a coordinator that answer
//! kindly or not, and the oracle for responses.

use bytes::BufMut;
use kafka_protocol::messages as m;
use kafka_protocol::protocol::{Decodable, Encodable};
use omnilog_auth::{Authority, Credentials};
use omnilog_broker::{
    AbortedTransaction, Appended, Command, Enlist, Fetched, OffsetFound, Refusal, Reply, TopicId,
    TopicInfo, TopicRef, TransactionInfo, TransactionPhase, Transactor,
};
use omnilog_wire::{Action, SignalReceiver, signals};
use tokio::sync::mpsc;

use super::super::*;
use crate::group::task::Message;
use crate::group::{GroupError, GroupRequest, JoinRefused, Joined, Listed, State, Synced};

/// The client's end of a session, its broker's and its coordinator's.
pub(super) struct Peer {
    pub(super) session: KafkaSession,
    pub(super) out: Outbox,
    input: BytesMut,
    pub(super) now: Instant,
    signals: SignalReceiver<Signal>,
    groups: mpsc::UnboundedReceiver<Message>,
}

impl Peer {
    pub(super) fn new() -> Self {
        Self::with(
            Authority::new(Credentials::guest()),
            Origin {
                loopback: true,
                ..Origin::default()
            },
        )
    }

    pub(super) fn with(authority: Authority, origin: Origin) -> Self {
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
            topic_ids: Arc::default(),
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

    pub(super) fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        self.input.extend_from_slice(bytes);
        self.session
            .on_bytes(self.now, &mut self.input, &mut self.out)
    }

    pub(super) fn send_body(
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

    pub(super) fn send<M: Encodable>(
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
    pub(super) fn commands(&mut self) -> Vec<(u64, Command)> {
        let actions = self.out.drain_actions();
        let commands = actions.filter_map(|action| match action {
            Action::Command(correlation, command) => Some((correlation, command)),
            Action::Connect(..) => None,
        });
        commands.collect()
    }

    pub(super) fn reply(
        &mut self,
        correlation: u64,
        result: Result<Reply, Refusal>,
    ) -> Result<(), ConnectionError> {
        let event = Event::reply(correlation, result);
        self.session.on_event(self.now, event, &mut self.out)
    }

    /// The responses since the last look: correlation ids and what follows them.
    pub(super) fn responses(&mut self) -> Vec<(i32, Bytes)> {
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
    pub(super) fn response<M: Decodable>(&mut self, api: Api, version: i16) -> M {
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
    pub(super) fn deliver_signals(&mut self) -> Result<(), ConnectionError> {
        while let Some(signal) = self.signals.try_recv() {
            self.session.on_signal(self.now, signal, &mut self.out)?;
        }
        Ok(())
    }

    /// Plays broker and coordinator until nothing is asked any more.
    pub(super) fn play(
        &mut self,
        kindly: &mut impl FnMut() -> bool,
    ) -> Result<(), ConnectionError> {
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

pub(super) fn frame(
    key: i16,
    version: i16,
    correlation_id: i32,
    flexible: bool,
    body: &[u8],
) -> Bytes {
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

pub(super) fn info(name: &[u8], partitions: u32) -> TopicInfo {
    TopicInfo {
        topic: TopicId(1),
        uuid: 0xABCD,
        name: Name::copy_from_slice(name),
        partitions,
        settings: Default::default(),
        provisional: false,
        path_template: None,
        raw_of: None,
        leader_epoch: 7,
    }
}

pub(super) fn not_found() -> Refusal {
    Refusal::NotFound(omnilog_broker::Noun::Topic, Name::from_static(b"x"))
}

pub(super) fn broker_reply(command: &Command, kindly: bool) -> Result<Reply, Refusal> {
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
                TopicRef::Uuid(uuid) if uuid % 2 == 0 => Ok(TopicInfo {
                    uuid: *uuid,
                    ..info(b"orders", 1)
                }),
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
                aborted: vec![AbortedTransaction {
                    producer: 3,
                    first_offset: 2,
                    last_offset: 4,
                }],
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
        Command::InitProducer | Command::InitTransactions(_) => Reply::Producer(4, 0),
        Command::Enlist(_, Enlist::Partitions(partitions)) => {
            Reply::Committed(partitions.iter().map(|_| Ok(())).collect())
        }
        Command::Enlist(_, Enlist::Group(_)) => Reply::Committed(vec![Ok(())]),
        Command::EndTransaction(..) => Reply::Done,
        Command::DescribeTransactions(ids) => {
            let ids = ids.clone().unwrap_or_else(|| vec![Name::from_static(b"t")]);
            let described = ids.into_iter().map(|id| {
                Ok(TransactionInfo {
                    transactor: Transactor {
                        id,
                        producer: 4,
                        epoch: 1,
                    },
                    phase: TransactionPhase::Ongoing,
                    timeout_ms: 60_000,
                    started_ms: 9,
                    open_ms: 100,
                    partitions: vec![(Name::from_static(b"orders"), 1)],
                })
            });
            Reply::Transactions(described.collect())
        }
        Command::UnstableOffsets(_) => Reply::Unstable(vec![(Name::from_static(b"orders"), 1)]),
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

pub(super) fn coordinator_reply(message: Message, kindly: bool) {
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
        GroupRequest::Commit(_, offsets) | GroupRequest::CommitInTransaction(_, _, offsets) => {
            GroupReply::Commit(no(kindly).map(|()| offsets.iter().map(|_| Ok(())).collect()))
        }
        GroupRequest::Describe => GroupReply::Description(None),
        GroupRequest::Delete => GroupReply::Deleted(no(kindly)),
    });
}

/// Decodes a response with the oracle; how many bytes it left.
pub(super) fn decode_response(api: Api, version: i16, body: &Bytes) -> Result<usize, String> {
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
        AddPartitionsToTxn => AddPartitionsToTxnResponse,
        AddOffsetsToTxn => AddOffsetsToTxnResponse,
        EndTxn => EndTxnResponse,
        TxnOffsetCommit => TxnOffsetCommitResponse,
        DescribeConfigs => DescribeConfigsResponse,
        SaslAuthenticate => SaslAuthenticateResponse,
        CreatePartitions => CreatePartitionsResponse,
        DeleteGroups => DeleteGroupsResponse,
        IncrementalAlterConfigs => IncrementalAlterConfigsResponse,
        DescribeCluster => DescribeClusterResponse,
        DescribeTransactions => DescribeTransactionsResponse,
        ListTransactions => ListTransactionsResponse,
    };
    result.map(|()| rest.len()).map_err(|e| e.to_string())
}
