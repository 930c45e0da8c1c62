//! The bits of "authorized operations" in Metadata, DescribeCluster and DescribeGroups (KIP-430).

use omnilog_auth::{Operation, Resource};
use omnilog_broker::TopicInfo;

use super::Call;

/// What is told when nobody asked.
pub(super) const NOT_ASKED: i32 = i32::MIN;

const READ: i32 = 1 << 3;
const WRITE: i32 = 1 << 4;
const CREATE: i32 = 1 << 5;
const DELETE: i32 = 1 << 6;
const ALTER: i32 = 1 << 7;
const DESCRIBE: i32 = 1 << 8;
const DESCRIBE_CONFIGS: i32 = 1 << 10;
const ALTER_CONFIGS: i32 = 1 << 11;
const IDEMPOTENT_WRITE: i32 = 1 << 12;

/// What the client may do to a topic.
pub(super) fn of_topic(call: &Call<'_>, topic: &TopicInfo) -> i32 {
    let name = &topic.name;
    let mut bits = 0;
    if call.may(Operation::Read, name) {
        bits |= READ | DESCRIBE;
    }
    let configures = call.may(Operation::Configure, name);
    if topic.raw_of.is_some() {
        // It is only read.
        return match configures {
            true => bits | DESCRIBE | DESCRIBE_CONFIGS,
            false => bits,
        };
    }
    if call.may(Operation::Write, name) {
        bits |= WRITE | DESCRIBE;
    }
    if configures {
        bits |= CREATE | DELETE | ALTER | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;
    }
    bits
}

/// What the client may do to a group.
pub(super) fn of_group(call: &Call<'_>, group: &[u8]) -> i32 {
    let mut bits = 0;
    if call.may_know_group(group) {
        bits |= DESCRIBE;
    }
    if call.may_use_group(group) {
        bits |= READ;
    }
    if call.may_group(Operation::Configure, group) {
        bits |= DELETE;
    }
    bits
}

/// May the client change the cluster, and see its settings?
pub(super) fn may_configure_cluster(call: &Call<'_>) -> bool {
    let namespace = Resource::Namespace(&call.context.namespace_name);
    call.context.allows(Operation::Configure, namespace)
}

/// What the client may do to the cluster.
pub(super) fn of_cluster(call: &Call<'_>) -> i32 {
    let namespace = Resource::Namespace(&call.context.namespace_name);
    let mut bits = DESCRIBE;
    if may_configure_cluster(call) {
        bits |= CREATE | ALTER | DESCRIBE_CONFIGS | ALTER_CONFIGS;
    }
    if call.context.allows(Operation::Write, namespace) {
        bits |= IDEMPOTENT_WRITE;
    }
    bits
}
