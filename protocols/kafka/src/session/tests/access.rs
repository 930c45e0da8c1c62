//! Access to topics that requests name, and to those that they name by their ids: the same questions, and Kafka's codes.

use super::*;
use kafka_protocol::ResponseError;
use omnilog_auth::AccessRules;
use omnilog_broker::{TopicInfo, TopicRef};
use uuid::Uuid;

/// Everything may be done to `orders`; `prices` may be read, `wishes` be written; of others nobody may know. `watched`
/// groups may be deleted and transactions be known of, `shut` ones may not.
#[derive(Debug)]
struct Rules;

impl AccessRules for Rules {
    fn allows(&self, _: &Principal, operation: Operation, resource: Resource<'_>) -> bool {
        match resource {
            Resource::Name(_, b"orders") => true,
            Resource::Name(_, b"prices") => operation == Operation::Read,
            Resource::Name(_, b"wishes") => operation == Operation::Write,
            Resource::Name(_, b"orders.raw" | b"secrets.raw") => operation == Operation::Read,
            Resource::Name(..) => false,
            Resource::Group(_, b"watched") => operation == Operation::Configure,
            Resource::Transaction(_, b"watched") => operation == Operation::Read,
            Resource::Group(_, b"shut") | Resource::Transaction(_, b"shut") => false,
            _ => true,
        }
    }
}

const TOPICS: [&str; 4] = ["orders", "prices", "wishes", "secrets"];
const UNKNOWN: Uuid = Uuid::from_u128(99);

fn id(name: &str) -> Uuid {
    let at = TOPICS.iter().position(|topic| *topic == name).unwrap();
    Uuid::from_u128(at as u128 + 1)
}

fn peer() -> Peer {
    let origin = Origin {
        loopback: true,
        ..Origin::default()
    };
    Peer::with(
        Authority::with_rules(Credentials::guest(), Box::new(Rules)),
        origin,
    )
}

/// Answers questions about topics, and everything else with success; says what else was asked.
fn serve(peer: &mut Peer) -> Vec<Command> {
    let mut others = Vec::new();
    loop {
        let commands = peer.commands();
        if commands.is_empty() {
            return others;
        }
        for (correlation, command) in commands {
            let reply = match &command {
                Command::DescribeTopics(Some(refs)) => {
                    Ok(Reply::Topics(refs.iter().map(describe).collect()))
                }
                other => peer::broker_reply(other, true),
            };
            if !matches!(command, Command::DescribeTopics(_)) {
                others.push(command);
            }
            peer.reply(correlation, reply).unwrap();
        }
    }
}

fn describe(topic: &TopicRef) -> Result<TopicInfo, Refusal> {
    let known = TOPICS.iter().find(|name| match topic {
        TopicRef::Name(asked) => asked == name.as_bytes(),
        TopicRef::Uuid(asked) => id(name).as_u128() == *asked,
    });
    let name = known.ok_or_else(not_found)?;
    Ok(TopicInfo {
        uuid: id(name).as_u128(),
        ..info(name.as_bytes(), 1)
    })
}

fn produce_by_id(ids: &[Uuid]) -> m::ProduceRequest {
    let mut request = produce(-1, batch(b"x"));
    let topic = request.topic_data.pop().unwrap();
    let of = |id: &Uuid| {
        topic
            .clone()
            .with_name(Default::default())
            .with_topic_id(*id)
    };
    request.with_topic_data(ids.iter().map(of).collect())
}

fn name(name: &str) -> m::TopicName {
    m::TopicName(StrBytes::from_string(name.to_owned()))
}

const NONE: i16 = 0;
const NO: i16 = ResponseError::TopicAuthorizationFailed.code();
const NOT_THERE: i16 = ResponseError::UnknownTopicId.code();

#[test]
fn produce_is_allowed_by_the_name_of_a_topic_whichever_way_it_is_given() {
    let mut peer = peer();
    for (version, last) in [(12, None), (13, None), (13, Some(UNKNOWN))] {
        let request = if version < 13 {
            let mut request = produce(-1, batch(b"x"));
            let topic = request.topic_data.pop().unwrap();
            let of = |topic_name: &&str| topic.clone().with_name(name(topic_name));
            request.with_topic_data(TOPICS.iter().map(of).collect())
        } else {
            let ids: Vec<Uuid> = TOPICS.iter().map(|name| id(name)).chain(last).collect();
            produce_by_id(&ids)
        };
        peer.send(Api::Produce, version, 1, &request).unwrap();
        let appended = serve(&mut peer);
        assert_eq!(appended.len(), 2, "version {version}");
        let response: m::ProduceResponse = peer.response(Api::Produce, version);
        let codes: Vec<i16> = response
            .responses
            .iter()
            .map(|topic| topic.partition_responses[0].error_code)
            .collect();
        let expected = [NONE, NO, NONE, NO, NOT_THERE];
        assert_eq!(codes, expected[..codes.len()], "version {version}");
    }
}

#[test]
fn fetch_is_allowed_by_the_name_of_a_topic_whichever_way_it_is_given() {
    let mut peer = peer();
    for (version, last) in [(12, None), (13, None), (13, Some(UNKNOWN))] {
        let ids = TOPICS.iter().map(|name| id(name)).chain(last);
        let topics = ids.enumerate().map(|(at, id)| {
            let topic = m::fetch_request::FetchTopic::default()
                .with_partitions(vec![m::fetch_request::FetchPartition::default()]);
            match version {
                12 => topic.with_topic(name(TOPICS[at])),
                _ => topic.with_topic_id(id),
            }
        });
        let request = m::FetchRequest::default()
            .with_max_wait_ms(500)
            .with_topics(topics.collect());
        peer.send(Api::Fetch, version, 1, &request).unwrap();
        let fetches = serve(&mut peer);
        match &fetches[..] {
            [Command::Fetch(fetch)] => {
                assert_eq!((fetch.partitions.len(), fetch.wait_ms_max), (2, 0));
            }
            other => panic!("{other:?}"),
        }
        let response: m::FetchResponse = peer.response(Api::Fetch, version);
        let codes: Vec<i16> = response
            .responses
            .iter()
            .map(|topic| topic.partitions[0].error_code)
            .collect();
        let expected = [NONE, NONE, NO, NO, NOT_THERE];
        assert_eq!(codes, expected[..codes.len()], "version {version}");
    }
}

#[test]
fn delete_topics_is_allowed_by_name_and_tells_names_only_to_those_who_may_know() {
    let mut peer = peer();
    let state = |id: Uuid| m::delete_topics_request::DeleteTopicState::default().with_topic_id(id);
    let ids = TOPICS.iter().map(|name| id(name));
    let topics = ids.chain([UNKNOWN, Uuid::nil()]).map(state).collect();
    let request = m::DeleteTopicsRequest::default().with_topics(topics);
    peer.send(Api::DeleteTopics, 6, 1, &request).unwrap();
    let deleted = serve(&mut peer);
    assert!(
        matches!(&deleted[..], [Command::DeleteTopic(TopicRef::Uuid(1))]),
        "{deleted:?}"
    );
    let response: m::DeleteTopicsResponse = peer.response(Api::DeleteTopics, 6);
    let told: Vec<(Option<&str>, u128, i16)> = response
        .responses
        .iter()
        .map(|topic| {
            let name = topic.name.as_ref().map(|name| name.0.as_str());
            (name, topic.topic_id.as_u128(), topic.error_code)
        })
        .collect();
    let neither = ResponseError::InvalidRequest.code();
    let expected = [
        (Some("orders"), 1, NONE),
        (Some("prices"), 2, NO),
        (Some("wishes"), 3, NO),
        (None, 4, NO),
        (None, 99, NOT_THERE),
        (None, 0, neither),
    ];
    assert_eq!(told, expected);
}

#[test]
fn metadata_tells_of_topics_that_may_be_used_and_creates_those_that_may_be_configured() {
    let mut peer = peer();
    let by_id = |id: Uuid| {
        m::metadata_request::MetadataRequestTopic::default()
            .with_name(None)
            .with_topic_id(id)
    };
    let ids = TOPICS.iter().map(|name| id(name)).chain([UNKNOWN]);
    let request = m::MetadataRequest::default().with_topics(Some(ids.map(by_id).collect()));
    peer.send(Api::Metadata, 12, 1, &request).unwrap();
    serve(&mut peer);
    let response: m::MetadataResponse = peer.response(Api::Metadata, 12);
    let told: Vec<(Option<&str>, i16)> = response
        .topics
        .iter()
        .map(|topic| {
            let name = topic.name.as_ref().map(|name| name.0.as_str());
            (name, topic.error_code)
        })
        .collect();
    let expected = [
        (Some("orders"), NONE),
        (Some("prices"), NONE),
        (Some("wishes"), NONE),
        (None, NO),
        (None, NOT_THERE),
    ];
    assert_eq!(told, expected);

    // `wishes` is not there now, and who may only write to it may not make it.
    let request = metadata(&["wishes", "secrets"]).with_allow_auto_topic_creation(true);
    peer.send(Api::Metadata, 9, 2, &request).unwrap();
    let (correlation, _) = peer.commands().pop().unwrap();
    peer.reply(correlation, Ok(Reply::Topics(vec![Err(not_found())])))
        .unwrap();
    assert!(serve(&mut peer).is_empty(), "nothing is created");
    let response: m::MetadataResponse = peer.response(Api::Metadata, 9);
    let codes: Vec<i16> = response.topics.iter().map(|t| t.error_code).collect();
    assert_eq!(codes, [NO, NO]);
}

#[test]
fn an_id_is_asked_about_once_and_nothing_overtakes_a_request_that_waits_for_its_name() {
    let mut peer = peer();
    for correlation_id in 1..=2 {
        let request = produce_by_id(&[id("orders")]);
        peer.send(Api::Produce, 13, correlation_id, &request)
            .unwrap();
    }
    let mut asked = peer.commands();
    assert_eq!(asked.len(), 1, "the second waits for the first: {asked:?}");
    let (correlation, command) = asked.pop().unwrap();
    let Command::DescribeTopics(Some(refs)) = command else {
        panic!("{command:?}");
    };
    let topics = refs.iter().map(describe).collect();
    peer.reply(correlation, Ok(Reply::Topics(topics))).unwrap();
    let appends = |peer: &mut Peer| -> Vec<u64> {
        let commands = peer.commands().into_iter();
        let appends = commands.filter(|(_, command)| matches!(command, Command::Append(_)));
        appends.map(|(correlation, _)| correlation).collect()
    };
    let first = appends(&mut peer);
    assert_eq!(first.len(), 2, "both are written, in order");
    assert!(first[0] < first[1]);
    // The third finds the name known, and overlaps with them.
    peer.send(Api::Produce, 13, 3, &produce_by_id(&[id("orders")]))
        .unwrap();
    let third = appends(&mut peer);
    assert_eq!(third.len(), 1);
    // Deleted meanwhile: it is told, and asked about anew.
    peer.reply(third[0], Err(not_found())).unwrap();
    for correlation in first {
        peer.reply(correlation, appended(0)).unwrap();
    }
    assert_eq!(peer.responses().len(), 3);
    peer.send(Api::Produce, 13, 4, &produce_by_id(&[id("orders")]))
        .unwrap();
    let asked = peer.commands();
    assert!(
        matches!(&asked[..], [(_, Command::DescribeTopics(_))]),
        "{asked:?}"
    );
}

#[test]
fn a_broker_that_cannot_say_what_an_id_is_refuses_the_request() {
    let mut peer = peer();
    peer.send(Api::Produce, 13, 1, &produce_by_id(&[id("orders")]))
        .unwrap();
    let (correlation, _) = peer.commands().pop().unwrap();
    peer.reply(correlation, Err(Refusal::ShardLost)).unwrap();
    let response: m::ProduceResponse = peer.response(Api::Produce, 13);
    let code = response.responses[0].partition_responses[0].error_code;
    assert_eq!(code, rescue::refusal(&Refusal::ShardLost).code());
}

#[test]
fn where_a_topic_begins_and_ends_is_told_to_whoever_may_know_of_it() {
    let mut peer = peer();
    let topics = TOPICS.map(|topic| {
        m::list_offsets_request::ListOffsetsTopic::default()
            .with_name(name(topic))
            .with_partitions(vec![Default::default()])
    });
    let request = m::ListOffsetsRequest::default().with_topics(topics.to_vec());
    peer.send(Api::ListOffsets, 5, 1, &request).unwrap();
    serve(&mut peer);
    let response: m::ListOffsetsResponse = peer.response(Api::ListOffsets, 5);
    let topics = response.topics.iter();
    let codes: Vec<i16> = topics.map(|t| t.partitions[0].error_code).collect();
    assert_eq!(codes, [NONE, NONE, NONE, NO]);

    let topics = TOPICS.map(|topic| {
        m::offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
            .with_topic(name(topic))
            .with_partitions(vec![Default::default()])
    });
    let request = m::OffsetForLeaderEpochRequest::default().with_topics(topics.to_vec());
    peer.send(Api::OffsetForLeaderEpoch, 3, 2, &request)
        .unwrap();
    serve(&mut peer);
    let response: m::OffsetForLeaderEpochResponse = peer.response(Api::OffsetForLeaderEpoch, 3);
    let topics = response.topics.iter();
    let codes: Vec<i16> = topics.map(|t| t.partitions[0].error_code).collect();
    // Partition 0 of those that may be known has the epoch 0, which is not the server's.
    assert_eq!(codes[3], NO);
    assert!(codes[..3].iter().all(|code| *code != NO), "{codes:?}");
}

#[test]
fn positions_are_told_of_topics_that_may_be_known() {
    let mut peer = peer();
    let topics = TOPICS.map(|topic| {
        m::offset_fetch_request::OffsetFetchRequestTopics::default()
            .with_name(name(topic))
            .with_partition_indexes(vec![1])
    });
    let group = |topics| {
        m::offset_fetch_request::OffsetFetchRequestGroup::default()
            .with_group_id(m::GroupId(StrBytes::from_static_str("readers")))
            .with_topics(topics)
    };
    let groups = vec![group(Some(topics.to_vec())), group(None)];
    let request = m::OffsetFetchRequest::default().with_groups(groups);
    peer.send(Api::OffsetFetch, 8, 1, &request).unwrap();
    let asked = peer.commands();
    for (correlation, command) in asked {
        let Command::FetchOffsets(_, pairs) = command else {
            panic!("{command:?}");
        };
        let asked = pairs.map(|pairs| pairs.len());
        assert!(matches!(asked, None | Some(3)), "{asked:?}");
        let stored = ["orders", "secrets"].map(|topic| omnilog_broker::GroupOffset {
            topic: Name::from_static(topic.as_bytes()),
            partition: 1,
            offset: 77,
            leader_epoch: -1,
            metadata: Name::new(),
        });
        peer.reply(correlation, Ok(Reply::GroupOffsets(stored.to_vec())))
            .unwrap();
    }
    let response: m::OffsetFetchResponse = peer.response(Api::OffsetFetch, 8);
    let told = |group: usize| -> Vec<(String, i64, i16)> {
        let topics = response.groups[group].topics.iter();
        let of = |topic: &m::offset_fetch_response::OffsetFetchResponseTopics| {
            let partition = &topic.partitions[0];
            (
                topic.name.to_string(),
                partition.committed_offset,
                partition.error_code,
            )
        };
        topics.map(of).collect()
    };
    let row = |topic: &str, offset, code| (topic.to_owned(), offset, code);
    let each = [
        row("orders", 77, NONE),
        row("prices", -1, NONE),
        row("wishes", -1, NONE),
        row("secrets", -1, NO),
    ];
    assert_eq!(told(0), each);
    assert_eq!(told(1), [row("orders", 77, NONE)]);
}

#[test]
fn settings_are_told_to_whoever_may_change_them() {
    let mut peer = peer();
    let resources = TOPICS.map(|topic| {
        m::describe_configs_request::DescribeConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(StrBytes::from_static_str(topic))
    });
    let request = m::DescribeConfigsRequest::default().with_resources(resources.to_vec());
    peer.send(Api::DescribeConfigs, 1, 1, &request).unwrap();
    serve(&mut peer);
    let response: m::DescribeConfigsResponse = peer.response(Api::DescribeConfigs, 1);
    let codes: Vec<i16> = response.results.iter().map(|r| r.error_code).collect();
    assert_eq!(codes, [NONE, NO, NO, NO]);
}

#[test]
fn a_raw_view_is_read_by_whoever_may_read_its_topic_too() {
    let mut peer = peer();
    let topics = ["orders.raw", "secrets.raw"].map(|topic| {
        m::fetch_request::FetchTopic::default()
            .with_partitions(vec![m::fetch_request::FetchPartition::default()])
            .with_topic(name(topic))
    });
    let request = m::FetchRequest::default().with_topics(topics.to_vec());
    peer.send(Api::Fetch, 12, 1, &request).unwrap();
    assert_eq!(serve(&mut peer).len(), 1);
    let response: m::FetchResponse = peer.response(Api::Fetch, 12);
    let topics = response.responses.iter();
    let codes: Vec<i16> = topics.map(|t| t.partitions[0].error_code).collect();
    assert_eq!(codes, [NONE, NO]);
}

#[test]
fn groups_and_transactions_are_known_to_whoever_may_do_anything_with_them() {
    let mut peer = peer();
    for (key_type, key, code) in [
        (0, "watched", NONE),
        (0, "shut", ResponseError::GroupAuthorizationFailed.code()),
        (1, "watched", NONE),
        (
            1,
            "shut",
            ResponseError::TransactionalIdAuthorizationFailed.code(),
        ),
    ] {
        let request = m::FindCoordinatorRequest::default()
            .with_key_type(key_type)
            .with_key(StrBytes::from_static_str(key));
        peer.send(Api::FindCoordinator, 2, 1, &request).unwrap();
        let response: m::FindCoordinatorResponse = peer.response(Api::FindCoordinator, 2);
        assert_eq!(response.error_code, code, "{key_type} {key}");
    }
    // Whoever may delete a group takes no part in it, nor does whoever knows of a transactional id write under it.
    let request = m::HeartbeatRequest::default()
        .with_group_id(m::GroupId(StrBytes::from_static_str("watched")));
    peer.send(Api::Heartbeat, 3, 1, &request).unwrap();
    let response: m::HeartbeatResponse = peer.response(Api::Heartbeat, 3);
    let no = ResponseError::GroupAuthorizationFailed.code();
    assert_eq!(response.error_code, no);
    let request = m::EndTxnRequest::default()
        .with_transactional_id(m::TransactionalId(StrBytes::from_static_str("watched")));
    peer.send(Api::EndTxn, 3, 1, &request).unwrap();
    let response: m::EndTxnResponse = peer.response(Api::EndTxn, 3);
    let no = ResponseError::TransactionalIdAuthorizationFailed.code();
    assert_eq!(response.error_code, no);
}

#[test]
fn settings_that_are_only_checked_are_checked_by_the_broker() {
    let mut peer = peer();
    let config = m::incremental_alter_configs_request::AlterableConfig::default()
        .with_name(StrBytes::from_static_str("omnilog.hold"))
        .with_value(Some(StrBytes::from_static_str("links")));
    let resource = m::incremental_alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(StrBytes::from_static_str("orders"))
        .with_configs(vec![config]);
    let request = m::IncrementalAlterConfigsRequest::default()
        .with_resources(vec![resource])
        .with_validate_only(true);
    peer.send(Api::IncrementalAlterConfigs, 1, 1, &request)
        .unwrap();
    let altered = serve(&mut peer);
    assert!(
        matches!(&altered[..], [Command::AlterTopic(alter)] if alter.validate_only),
        "{altered:?}"
    );
}
