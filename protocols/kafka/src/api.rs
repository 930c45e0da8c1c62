//! What each api does: one file for each, and what they share.
//!
//! An api begins with its decoded request. It answers at once, or asks the broker or a group
//! coordinator for its parts and goes on as an [`Exchange`] until the last answer is there.

mod add_offsets_to_txn;
mod add_partitions_to_txn;
mod api_versions;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_transactions;
mod end_txn;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod list_transactions;
mod metadata;
mod named;
mod offset_commit;
mod offset_fetch;
mod offset_for_leader_epoch;
mod operations;
mod positions;
mod produce;
mod settings;
mod sync_group;
mod transactions;
mod txn_offset_commit;

pub(crate) use api_versions::unsupported as unsupported_api_versions;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{BrokerId, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use omnilog_auth::{Operation, Resource};
use omnilog_broker::{Command, Name, Noun, RAW_SUFFIX, Refusal, TopicRef};
use omnilog_wire::{ConnectionError, Outbox};
use uuid::Uuid;

use crate::codec::{Api, Reply};
use crate::group::{GroupReply, GroupRequest};
use crate::session::{Context, correlation};
use crate::{mapping, rescue};

/// What an api hears while it is under way.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The broker's answer to a command.
    Broker(Result<omnilog_broker::Reply, Refusal>),
    /// A group coordinator's answer.
    Group(GroupReply),
}

/// How far a request has come.
pub(crate) enum Progress {
    /// More answers must come.
    Waiting,
    /// This is the response; `None`: the client wants none (acks=0).
    Done(Option<Reply>),
}

/// How a request begins.
pub(crate) enum Begun {
    /// It is answered already; `None`: the client wants no response (acks=0).
    Done(Option<Reply>),
    /// It goes on with the answers to what it asked.
    Waiting(Box<dyn Exchange>),
}

/// A request under way.
pub(crate) trait Exchange: Send {
    /// Takes the answer to what was asked under this number.
    fn hear(
        &mut self,
        call: &mut Call<'_>,
        part: usize,
        answer: Answer,
    ) -> Result<Progress, ConnectionError>;

    /// Must requests that could overlap with it wait nevertheless?
    fn holds_back(&self) -> bool {
        false
    }
}

/// One request's surroundings.
pub(crate) struct Call<'a> {
    pub(crate) context: &'a Context,
    pub(crate) api: Api,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: &'a StrBytes,
    /// The number of its response slot.
    pub(crate) slot: u64,
    pub(crate) out: &'a mut Outbox,
}

impl Call<'_> {
    /// Asks the broker; the answer comes under the part's number.
    pub(crate) fn command(&mut self, part: usize, command: Command) {
        self.out.command(correlation(self.slot, part), command);
    }

    /// Asks a group's coordinator; the answer comes under the part's number.
    pub(crate) fn group(&self, part: usize, group: Bytes, request: GroupRequest) {
        let number = correlation(self.slot, part);
        self.context
            .groups
            .request(&self.context.signals, number, group, request);
    }

    /// Asks for all groups.
    pub(crate) fn list_groups(&self, part: usize) {
        self.context
            .groups
            .list(&self.context.signals, correlation(self.slot, part));
    }

    /// Encodes the response.
    pub(crate) fn respond<M: Encodable>(&self, message: &M) -> Result<Reply, ConnectionError> {
        Reply::encode(self.api, self.version, self.correlation_id, message)
            .map_err(ConnectionError::failure)
    }

    /// Ends a request that was under way.
    pub(crate) fn finish<M: Encodable>(&self, message: &M) -> Result<Progress, ConnectionError> {
        Ok(Progress::Done(Some(self.respond(message)?)))
    }

    /// Answers a request at its beginning.
    pub(crate) fn answer<M: Encodable>(&self, message: &M) -> Result<Begun, ConnectionError> {
        Ok(Begun::Done(Some(self.respond(message)?)))
    }

    /// May the client do this to the topic of this name in the namespace?
    pub(crate) fn may(&self, operation: Operation, name: &[u8]) -> bool {
        let allows = |name| {
            let resource = Resource::Name(&self.context.namespace_name, name);
            self.context.allows(operation, resource)
        };
        // A raw view has what its topic had: nobody reads it who may not read the topic.
        let raw_of = name.strip_suffix(RAW_SUFFIX.as_bytes());
        let raw_of = raw_of.filter(|_| operation == Operation::Read);
        allows(name) && raw_of.is_none_or(allows)
    }

    /// May the client know of this topic (Kafka's Describe)?
    pub(crate) fn may_know(&self, name: &[u8]) -> bool {
        ANY_OF.into_iter().any(|any| self.may(any, name))
    }

    /// May the client do this to the group?
    pub(crate) fn may_group(&self, operation: Operation, group: &[u8]) -> bool {
        let resource = Resource::Group(&self.context.namespace_name, group);
        self.context.allows(operation, resource)
    }

    /// May the client take part in this group?
    pub(crate) fn may_use_group(&self, group: &[u8]) -> bool {
        self.may_group(Operation::Read, group)
    }

    /// May the client know of this group (Kafka's Describe)?
    pub(crate) fn may_know_group(&self, group: &[u8]) -> bool {
        ANY_OF.into_iter().any(|any| self.may_group(any, group))
    }

    /// The code of the broker's refusal for a topic that was given by its id.
    pub(crate) fn id_error(&self, id: Uuid, refusal: &Refusal) -> ResponseError {
        let error = topic_error(refusal, true);
        if error == ResponseError::UnknownTopicId {
            let namespace = self.context.namespace;
            self.context.topic_ids.forget(namespace, id.as_u128());
        }
        error
    }

    pub(crate) fn node(&self) -> BrokerId {
        BrokerId(self.context.config.node_id)
    }
}

/// Whoever may do any of these to something may know of it (Kafka's Describe).
const ANY_OF: [Operation; 3] = [Operation::Read, Operation::Write, Operation::Configure];

/// Begins a request that has passed the gate and the walk.
pub(crate) fn begin(call: &mut Call<'_>, body: &Bytes) -> Result<Begun, ConnectionError> {
    match call.api {
        Api::Produce => produce::begin(call, body),
        Api::Fetch => fetch::begin(call, decode(call, body)?),
        Api::ListOffsets => list_offsets::begin(call, &decode(call, body)?),
        Api::Metadata => metadata::begin(call, decode(call, body)?),
        Api::OffsetCommit => offset_commit::begin(call, &decode(call, body)?),
        Api::OffsetFetch => offset_fetch::begin(call, decode(call, body)?),
        Api::FindCoordinator => find_coordinator::begin(call, &decode(call, body)?),
        Api::JoinGroup => join_group::begin(call, &decode(call, body)?),
        Api::Heartbeat => heartbeat::begin(call, &decode(call, body)?),
        Api::LeaveGroup => leave_group::begin(call, &decode(call, body)?),
        Api::SyncGroup => sync_group::begin(call, &decode(call, body)?),
        Api::DescribeGroups => describe_groups::begin(call, &decode(call, body)?),
        Api::ListGroups => list_groups::begin(call, decode(call, body)?),
        Api::ApiVersions => api_versions::begin(call, &decode(call, body)?),
        Api::CreateTopics => create_topics::begin(call, &decode(call, body)?),
        Api::DeleteTopics => delete_topics::begin(call, decode(call, body)?),
        Api::DeleteRecords => delete_records::begin(call, &decode(call, body)?),
        Api::InitProducerId => init_producer_id::begin(call, &decode(call, body)?),
        Api::AddPartitionsToTxn => add_partitions_to_txn::begin(call, &decode(call, body)?),
        Api::AddOffsetsToTxn => add_offsets_to_txn::begin(call, &decode(call, body)?),
        Api::EndTxn => end_txn::begin(call, &decode(call, body)?),
        Api::TxnOffsetCommit => txn_offset_commit::begin(call, &decode(call, body)?),
        Api::OffsetForLeaderEpoch => offset_for_leader_epoch::begin(call, &decode(call, body)?),
        Api::DescribeConfigs => describe_configs::begin(call, decode(call, body)?),
        Api::CreatePartitions => create_partitions::begin(call, decode(call, body)?),
        Api::DeleteGroups => delete_groups::begin(call, &decode(call, body)?),
        Api::IncrementalAlterConfigs => incremental_alter_configs::begin(call, decode(call, body)?),
        Api::DescribeCluster => describe_cluster::begin(call, &decode(call, body)?),
        Api::DescribeTransactions => describe_transactions::begin(call, &decode(call, body)?),
        Api::ListTransactions => list_transactions::begin(call, &decode(call, body)?),
        // The session's gate takes these two itself.
        Api::SaslHandshake | Api::SaslAuthenticate => Err(ConnectionError::violation(
            "SASL request after authentication",
        )),
    }
}

/// Decodes a body with `kafka-protocol`. Only ever called with what [`crate::codec::check`] passed.
pub(crate) fn decode<M: Decodable>(call: &Call<'_>, body: &Bytes) -> Result<M, ConnectionError> {
    let mut body = body.clone();
    M::decode(&mut body, call.version)
        .map_err(|_| rescue::codec(crate::codec::CodecError::Malformed(call.api.key())))
}

/// The broker's name for a Kafka topic.
pub(crate) fn name_of(topic: &str) -> Name {
    Name::from(mapping::name_of(topic))
}

/// The broker's reference to a topic named in a request.
pub(crate) fn topic_ref(topic: &str) -> TopicRef {
    TopicRef::Name(name_of(topic))
}

/// The broker's reference to a topic given by its id.
pub(crate) fn topic_id_ref(id: Uuid) -> TopicRef {
    TopicRef::Uuid(id.as_u128())
}

/// The code of a refusal for a topic that was given by name or by id.
pub(crate) fn topic_error(refusal: &Refusal, by_id: bool) -> ResponseError {
    match refusal {
        Refusal::NotFound(Noun::Topic, _) if by_id => ResponseError::UnknownTopicId,
        refusal => rescue::refusal(refusal),
    }
}

/// A text for a response.
pub(crate) fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

/// The name of a group as the broker knows it: a copy of its own.
pub(crate) fn group_name(group: &StrBytes) -> Bytes {
    Bytes::copy_from_slice(group.as_bytes())
}

/// A copy that does not keep a request's buffer alive.
pub(crate) fn own(text: &StrBytes) -> StrBytes {
    StrBytes::from_string(text.as_str().to_owned())
}

/// An optional copy that does not keep a request's buffer alive.
pub(crate) fn own_option(text: Option<&StrBytes>) -> Option<StrBytes> {
    text.map(own)
}

/// A topic's Kafka name from the broker's.
pub(crate) fn topic_name(name: &[u8]) -> Option<TopicName> {
    mapping::topic_name(name).map(|name| TopicName(StrBytes::from_string(name)))
}

/// The broker answered a command with something that does not belong to it: a defect of ours.
pub(crate) fn unexpected(answer: &Answer) -> ConnectionError {
    ConnectionError::failure(format!("unexpected answer: {answer:?}"))
}
