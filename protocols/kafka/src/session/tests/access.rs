//! Access to topics that requests name, and to those that they name by their ids: the same questions, and Kafka's codes.

use super::*;
use kafka_protocol::ResponseError;
use omnilog_auth::AccessRules;
use omnilog_broker::{TopicInfo, TopicRef};
use uuid::Uuid;

/// Everything may be done to `orders`; `prices` may be read, `wishes` be written; of others nobody may know.
#[derive(Debug)]
struct Rules;

impl AccessRules for Rules {
    fn allows(&self, _: &Principal, operation: Operation, resource: Resource<'_>) -> bool {
        match resource {
            Resource::Name(_, b"orders") => true,
            Resource::Name(_, b"prices") => operation == Operation::Read,
            Resource::Name(_, b"wishes") => operation == Operation::Write,
            Resource::Name(..) => false,
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
