//! What members ask of a group, and what it answers.

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;
use omnilog_broker::{GroupOffset, Refusal, Transactor};

/// A request to the coordinator of a group.
#[derive(Debug, Clone, PartialEq)]
pub enum GroupRequest {
    /// Enter the group or its next rebalance. Answered by [`GroupReply::Join`].
    Join(Join),
    /// Give (leader) and get the assignment. Answered by [`GroupReply::Sync`].
    Sync(Sync),
    /// Keep the session alive. Answered by [`GroupReply::Heartbeat`].
    Heartbeat(Caller),
    /// Leave at once. Answered by [`GroupReply::Leave`].
    Leave(Vec<Leaver>),
    /// Store positions. Answered by [`GroupReply::Commit`].
    Commit(Caller, Vec<GroupOffset>),
    /// Store positions when a transaction is committed (KIP-447). Answered by
    /// [`GroupReply::Commit`].
    CommitInTransaction(Caller, Transactor, Vec<GroupOffset>),
    /// Tell state and members. Answered by [`GroupReply::Description`].
    Describe,
    /// Forget an empty group and its positions. Answered by [`GroupReply::Deleted`].
    Delete,
}

/// A member as it names itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The generation it belongs to; negative outside of any.
    pub generation: i32,
    /// Its member id; empty outside of a group.
    pub member: StrBytes,
    /// Its static identity (KIP-345).
    pub instance: Option<StrBytes>,
}

/// JoinGroup.
#[derive(Debug, Clone, PartialEq)]
pub struct Join {
    /// The member id; empty for a new member.
    pub member: StrBytes,
    /// The static identity (KIP-345).
    pub instance: Option<StrBytes>,
    /// The client id of the connection.
    pub client_id: StrBytes,
    /// The client's address.
    pub client_host: StrBytes,
    /// Without a heartbeat for so long, the member is out; in milliseconds.
    pub session_timeout_ms: i32,
    /// How long a rebalance waits for this member, in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// The class of protocols, `consumer` or `connect`.
    pub protocol_type: StrBytes,
    /// What the member supports, most preferred first, with its metadata for each.
    pub protocols: Vec<(StrBytes, Bytes)>,
    /// Must a new member come back with the id it is given (KIP-394)?
    pub known_member_required: bool,
    /// Does the member understand that it leads but need not assign (KIP-814)?
    pub can_skip_assignment: bool,
}

/// SyncGroup.
#[derive(Debug, Clone, PartialEq)]
pub struct Sync {
    /// Who asks.
    pub caller: Caller,
    /// The class of protocols, if told.
    pub protocol_type: Option<StrBytes>,
    /// The protocol that was chosen, if told.
    pub protocol: Option<StrBytes>,
    /// The leader's assignment for each member.
    pub assignments: Vec<(StrBytes, Bytes)>,
}

/// One member of LeaveGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaver {
    /// Its member id; may be empty with a static identity.
    pub member: StrBytes,
    /// Its static identity.
    pub instance: Option<StrBytes>,
}

/// The answer to a [`GroupRequest`].
#[derive(Debug, Clone, PartialEq)]
pub enum GroupReply {
    /// To [`GroupRequest::Join`].
    Join(Result<Joined, JoinRefused>),
    /// To [`GroupRequest::Sync`].
    Sync(Result<Synced, GroupError>),
    /// To [`GroupRequest::Heartbeat`].
    Heartbeat(Result<(), GroupError>),
    /// To [`GroupRequest::Leave`]: one for each leaver, in order.
    Leave(Vec<(Leaver, Result<(), GroupError>)>),
    /// To [`GroupRequest::Commit`]: refused as a whole, or one for each offset, in order.
    Commit(Result<Vec<Result<(), Refusal>>, GroupError>),
    /// To [`GroupRequest::Describe`]; `None`: there is no such group.
    Description(Option<Description>),
    /// To [`GroupRequest::Delete`].
    Deleted(Result<(), GroupError>),
    /// To the question for all groups.
    Groups(Vec<Listed>),
}

/// A member's place in a new generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Joined {
    /// The generation.
    pub generation: i32,
    /// The class of protocols.
    pub protocol_type: StrBytes,
    /// The protocol that was chosen.
    pub protocol: StrBytes,
    /// The leader's member id.
    pub leader: StrBytes,
    /// The member leads, but the assignment stands (KIP-814).
    pub skip_assignment: bool,
    /// The member's own id.
    pub member: StrBytes,
    /// For the leader: every member with its static identity and metadata.
    pub members: Vec<(StrBytes, Option<StrBytes>, Bytes)>,
}

/// Why a member did not join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRefused {
    /// The reason.
    pub error: GroupError,
    /// The member id to come back with; empty if there is none.
    pub member: StrBytes,
}

/// A member's share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// The class of protocols.
    pub protocol_type: StrBytes,
    /// The protocol.
    pub protocol: StrBytes,
    /// What the leader assigned, opaque.
    pub assignment: Bytes,
}

/// A group, described.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// Its state.
    pub state: super::State,
    /// The class of protocols; empty for a group that only stores positions.
    pub protocol_type: StrBytes,
    /// The protocol, while stable.
    pub protocol: StrBytes,
    /// The members.
    pub members: Vec<DescribedMember>,
}

/// A member, described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its member id.
    pub member: StrBytes,
    /// Its static identity.
    pub instance: Option<StrBytes>,
    /// Its client id.
    pub client_id: StrBytes,
    /// Its address.
    pub client_host: StrBytes,
    /// Its metadata for the protocol, while stable.
    pub metadata: Bytes,
    /// Its share, while stable.
    pub assignment: Bytes,
}

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The group's name.
    pub group: Bytes,
    /// Its state.
    pub state: super::State,
    /// The class of protocols; empty for a group that only stores positions.
    pub protocol_type: StrBytes,
}

/// A group's no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The group's name is empty.
    #[error("invalid group id")]
    InvalidGroup,
    /// The session timeout is outside the allowed range.
    #[error("session timeout is not in the allowed range")]
    InvalidSessionTimeout,
    /// No such member.
    #[error("unknown member")]
    UnknownMember,
    /// A new member must come back with the id it is given (KIP-394).
    #[error("member id required")]
    MemberIdRequired,
    /// Another process took over the static identity (KIP-345).
    #[error("fenced by another member with the same instance id")]
    FencedInstance,
    /// Not the group's present generation.
    #[error("illegal generation")]
    IllegalGeneration,
    /// The members have no protocol in common.
    #[error("inconsistent group protocol")]
    InconsistentProtocol,
    /// Join again.
    #[error("rebalance in progress")]
    RebalanceInProgress,
    /// The group has as many members as it may.
    #[error("group is full")]
    GroupFull,
    /// The group has members.
    #[error("group is not empty")]
    NotEmpty,
    /// There is no such group.
    #[error("no such group")]
    NotFound,
    /// The journal did not take the group's state.
    #[error("group state could not be stored")]
    NotStored,
}
