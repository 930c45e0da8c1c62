//! A group's state as the journal keeps it, so that a restart is not a rebalance.
//!
//! Version 1: the version byte, generation, protocol type, protocol, leader, then each member
//! with its protocols and its share; strings and byte strings in Kafka's compact forms. It is read
//! by this code's later versions, so a change of the layout takes a new version byte.

use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;

use super::Join;
use super::member::Member;
use super::state::{Group, State};
use crate::codec::CodecError;
use crate::codec::read::Reader;

const VERSION: i8 = 1;

/// Why a kept state cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum SnapshotError {
    #[error("version {0} is not known")]
    Version(i8),
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// The group's durable part.
pub(super) fn save<T>(group: &Group<T>) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i8(VERSION);
    out.put_i32(group.generation);
    put_string(&mut out, group.protocol_type.as_ref());
    put_string(&mut out, group.protocol.as_ref());
    put_string(&mut out, group.leader.as_ref());
    put_length(&mut out, Some(group.members.len()));
    let mut members: Vec<_> = group.members.iter().collect();
    members.sort_by_key(|(_, member)| member.seniority);
    for (id, member) in members {
        put_string(&mut out, Some(id));
        put_string(&mut out, member.instance.as_ref());
        put_string(&mut out, Some(&member.client_id));
        put_string(&mut out, Some(&member.client_host));
        out.put_i32(i32::try_from(member.session_timeout.as_millis()).unwrap_or(i32::MAX));
        out.put_i32(i32::try_from(member.rebalance_timeout.as_millis()).unwrap_or(i32::MAX));
        put_length(&mut out, Some(member.protocols.len()));
        for (name, metadata) in &member.protocols {
            put_string(&mut out, Some(name));
            put_bytes(&mut out, metadata);
        }
        put_bytes(&mut out, &member.assignment);
    }
    out.freeze()
}

/// Fills an empty group with what was kept; its members' sessions begin anew.
pub(super) fn restore<T>(
    group: &mut Group<T>,
    state: &Bytes,
    now: Instant,
) -> Result<(), SnapshotError> {
    let mut reader = Reader::new(state);
    let version = reader.int8()?;
    if version != VERSION {
        return Err(SnapshotError::Version(version));
    }
    group.generation = reader.int32()?;
    group.protocol_type = string(&mut reader)?;
    group.protocol = string(&mut reader)?;
    group.leader = string(&mut reader)?;
    for _ in 0..reader.array_count(true)?.unwrap_or(0) {
        let id = string(&mut reader)?.unwrap_or_default();
        let instance = string(&mut reader)?;
        let mut join = Join {
            member: id.clone(),
            instance: instance.clone(),
            client_id: string(&mut reader)?.unwrap_or_default(),
            client_host: string(&mut reader)?.unwrap_or_default(),
            session_timeout_ms: reader.int32()?,
            rebalance_timeout_ms: reader.int32()?,
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            protocols: Vec::new(),
            known_member_required: false,
            can_skip_assignment: false,
        };
        for _ in 0..reader.array_count(true)?.unwrap_or(0) {
            let name = string(&mut reader)?.unwrap_or_default();
            join.protocols
                .push((name, reader.nullable_bytes(true)?.unwrap_or_default()));
        }
        group.members_seen += 1;
        let mut member = Member::new(&join, group.members_seen, now);
        member.is_new = false;
        member.synced = true;
        member.keep_alive(now);
        member.assignment = reader.nullable_bytes(true)?.unwrap_or_default();
        if let Some(instance) = instance {
            group.instances.insert(instance, id.clone());
        }
        group.members.insert(id, member);
    }
    group.state = if group.members.is_empty() {
        State::Empty
    } else {
        State::Stable
    };
    Ok(())
}

fn string(reader: &mut Reader<'_>) -> Result<Option<StrBytes>, CodecError> {
    reader.nullable_string(true)
}

fn put_string(out: &mut BytesMut, value: Option<&StrBytes>) {
    put_length(out, value.map(|text| text.len()));
    if let Some(text) = value {
        out.put_slice(text.as_bytes());
    }
}

fn put_bytes(out: &mut BytesMut, value: &Bytes) {
    put_length(out, Some(value.len()));
    out.put_slice(value);
}

fn put_length(out: &mut BytesMut, length: Option<usize>) {
    let mut value = length.map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX - 1) + 1);
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}
