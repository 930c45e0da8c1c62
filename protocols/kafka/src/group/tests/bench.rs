//! A coordinator on the bench: a test moves its clock and its journal.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::super::*;

pub(super) const GROUP: Bytes = Bytes::from_static(b"g");
pub(super) const SESSION: Duration = Duration::from_secs(10);
pub(super) const REBALANCE: Duration = Duration::from_secs(60);

/// A coordinator with a clock and a journal that a test moves.
pub(super) struct Bench {
    pub(super) coordinator: Coordinator<u32>,
    pub(super) now: Instant,
    pub(super) replies: BTreeMap<u32, GroupReply>,
    /// The journal's latest state of the group.
    pub(super) stored: Option<Option<Bytes>>,
    /// Assignments wait until the test says that they are kept.
    pub(super) holding: bool,
    pub(super) held: Vec<(Bytes, Purpose<u32>)>,
    commits: usize,
    pub(super) ticket: u32,
}

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(super) fn join(member: &StrBytes) -> Join {
    Join {
        member: member.clone(),
        instance: None,
        client_id: text("client"),
        client_host: text("/127.0.0.1"),
        session_timeout_ms: SESSION.as_millis() as i32,
        rebalance_timeout_ms: REBALANCE.as_millis() as i32,
        protocol_type: text("consumer"),
        protocols: vec![(text("range"), Bytes::from_static(b"topics"))],
        known_member_required: true,
        can_skip_assignment: true,
    }
}

pub(super) fn caller(generation: i32, member: &StrBytes) -> Caller {
    Caller {
        generation,
        member: member.clone(),
        instance: None,
    }
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(GroupConfig::default())
    }

    pub(super) fn with(config: GroupConfig) -> Self {
        let mut next = 0;
        let new_uuid = move || {
            next += 1;
            Uuid::from_u128(next)
        };
        Self {
            coordinator: Coordinator::new(config, Box::new(new_uuid)),
            now: Instant::now(),
            replies: BTreeMap::new(),
            stored: None,
            holding: false,
            held: Vec::new(),
            commits: 0,
            ticket: 0,
        }
    }

    pub(super) fn settle(&mut self) {
        loop {
            let effects = self.coordinator.take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::Reply(ticket, reply) => {
                        let earlier = self.replies.insert(ticket, reply);
                        assert!(earlier.is_none(), "answered twice: {ticket}");
                    }
                    Effect::Store {
                        purpose,
                        group,
                        state,
                    } => {
                        self.stored = Some(state);
                        if self.holding {
                            self.held.push((group, purpose));
                        } else {
                            self.coordinator.stored(self.now, &group, purpose, true);
                        }
                    }
                    Effect::Commit {
                        ticket, offsets, ..
                    } => {
                        self.commits += offsets.len();
                        let each = offsets.iter().map(|_| Ok(())).collect();
                        self.replies.insert(ticket, GroupReply::Commit(Ok(each)));
                    }
                }
            }
        }
    }

    pub(super) fn ask(&mut self, request: GroupRequest) -> u32 {
        self.ticket += 1;
        self.coordinator
            .request(self.now, self.ticket, &GROUP, request);
        self.settle();
        self.ticket
    }

    pub(super) fn reply(&mut self, ticket: u32) -> GroupReply {
        self.replies.remove(&ticket).expect("an answer")
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.coordinator.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.coordinator.on_time(self.now);
            self.settle();
        }
        self.now = end;
    }

    pub(super) fn joined(&mut self, ticket: u32) -> Joined {
        match self.reply(ticket) {
            GroupReply::Join(Ok(joined)) => joined,
            other => panic!("not joined: {other:?}"),
        }
    }

    pub(super) fn join_refused(&mut self, ticket: u32) -> JoinRefused {
        match self.reply(ticket) {
            GroupReply::Join(Err(refused)) => refused,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// A dynamic member's two steps: it is given an id and comes back with it.
    pub(super) fn enter(&mut self) -> (StrBytes, u32) {
        let first = self.ask(GroupRequest::Join(join(&StrBytes::new())));
        let refused = self.join_refused(first);
        assert_eq!(refused.error, GroupError::MemberIdRequired);
        let ticket = self.ask(GroupRequest::Join(join(&refused.member)));
        (refused.member, ticket)
    }

    pub(super) fn sync(
        &mut self,
        generation: i32,
        member: &StrBytes,
        shares: &[(&StrBytes, &str)],
    ) -> u32 {
        let assignments = shares
            .iter()
            .map(|(member, share)| ((*member).clone(), Bytes::from(share.to_string())))
            .collect();
        self.ask(GroupRequest::Sync(Sync {
            caller: caller(generation, member),
            protocol_type: Some(text("consumer")),
            protocol: Some(text("range")),
            assignments,
        }))
    }

    pub(super) fn share(&mut self, ticket: u32) -> Bytes {
        match self.reply(ticket) {
            GroupReply::Sync(Ok(synced)) => synced.assignment,
            other => panic!("no share: {other:?}"),
        }
    }

    pub(super) fn heartbeat(
        &mut self,
        generation: i32,
        member: &StrBytes,
    ) -> Result<(), GroupError> {
        let ticket = self.ask(GroupRequest::Heartbeat(caller(generation, member)));
        match self.reply(ticket) {
            GroupReply::Heartbeat(result) => result,
            other => panic!("no heartbeat: {other:?}"),
        }
    }

    pub(super) fn commit(&mut self, caller: Caller) -> Result<(), GroupError> {
        let offset = omnilog_broker::GroupOffset {
            topic: Bytes::from_static(b"orders"),
            partition: 0,
            offset: 1,
            leader_epoch: -1,
            metadata: Bytes::new(),
        };
        let ticket = self.ask(GroupRequest::Commit(caller, vec![offset]));
        match self.reply(ticket) {
            GroupReply::Commit(result) => result.map(drop),
            other => panic!("no commit: {other:?}"),
        }
    }

    pub(super) fn describe(&mut self) -> Option<Description> {
        let ticket = self.ask(GroupRequest::Describe);
        match self.reply(ticket) {
            GroupReply::Description(description) => description,
            other => panic!("no description: {other:?}"),
        }
    }

    /// A stable group of two: leader and follower, in generation 1.
    pub(super) fn stable_pair(&mut self) -> (StrBytes, StrBytes) {
        let (a, join_a) = self.enter();
        let (b, join_b) = self.enter();
        self.pass(Duration::from_secs(6));
        let leader = self.joined(join_a).leader;
        self.joined(join_b);
        let follower = if leader == a { b } else { a };
        let sync_f = self.sync(1, &follower, &[]);
        let sync_l = self.sync(1, &leader, &[(&leader, "L"), (&follower, "F")]);
        assert_eq!(self.share(sync_l), "L");
        assert_eq!(self.share(sync_f), "F");
        (leader, follower)
    }
}
