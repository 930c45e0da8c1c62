//! A group's life with injected time; requests are numbered, and replies found by number.

mod bench;

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;

use super::*;
use bench::{Bench, GROUP, REBALANCE, SESSION, caller, join, text};

#[test]
fn the_first_rebalance_waits_for_more_members_but_not_for_ever() {
    let mut bench = Bench::new();
    let (_, first) = bench.enter();
    bench.pass(Duration::from_secs(2));
    let (_, second) = bench.enter();
    bench.pass(Duration::from_millis(1500));
    assert!(
        bench.replies.is_empty(),
        "the second member put it off once more"
    );
    bench.pass(Duration::from_secs(3));
    let (one, two) = (bench.joined(first), bench.joined(second));
    assert_eq!((one.generation, two.generation), (1, 1));
    assert_eq!(one.leader, two.leader);
    let told: Vec<usize> = [&one, &two].map(|joined| joined.members.len()).to_vec();
    assert!(
        told == [2, 0] || told == [0, 2],
        "only the leader hears of the others: {told:?}"
    );
}

#[test]
fn followers_get_their_share_when_the_journal_has_the_assignment() {
    let mut bench = Bench::new();
    let (a, join_a) = bench.enter();
    let (b, _) = bench.enter();
    bench.pass(Duration::from_secs(6));
    let leader = bench.joined(join_a).leader;
    let follower = if leader == a { b } else { a };
    bench.holding = true;
    let sync_f = bench.sync(1, &follower, &[]);
    let sync_l = bench.sync(1, &leader, &[(&follower, "F")]);
    assert!(!bench.replies.contains_key(&sync_f) && !bench.replies.contains_key(&sync_l));
    let (group, purpose) = bench.held.pop().unwrap();
    bench.coordinator.stored(bench.now, &group, purpose, true);
    bench.settle();
    assert_eq!(bench.share(sync_f), "F");
    assert_eq!(
        bench.share(sync_l),
        "",
        "one that the leader leaves out gets nothing"
    );
}

#[test]
fn an_assignment_that_is_not_kept_is_nobodys_and_members_join_again() {
    let mut bench = Bench::new();
    let (a, join_a) = bench.enter();
    bench.pass(Duration::from_secs(6));
    bench.joined(join_a);
    bench.holding = true;
    let sync = bench.sync(1, &a, &[(&a, "all")]);
    let (group, purpose) = bench.held.pop().unwrap();
    bench.coordinator.stored(bench.now, &group, purpose, false);
    bench.settle();
    assert_eq!(
        bench.reply(sync),
        GroupReply::Sync(Err(GroupError::NotStored))
    );
    assert_eq!(bench.heartbeat(1, &a), Err(GroupError::RebalanceInProgress));
}

#[test]
fn a_third_member_makes_the_others_join_again() {
    let mut bench = Bench::new();
    let (leader, follower) = bench.stable_pair();
    assert_eq!(bench.heartbeat(1, &leader), Ok(()));
    let (third, join_3) = bench.enter();
    assert_eq!(
        bench.heartbeat(1, &leader),
        Err(GroupError::RebalanceInProgress)
    );
    assert_eq!(
        bench.commit(caller(1, &follower)),
        Ok(()),
        "the old shares may be committed"
    );
    let join_1 = bench.ask(GroupRequest::Join(join(&leader)));
    assert!(bench.replies.is_empty());
    let join_2 = bench.ask(GroupRequest::Join(join(&follower)));
    let generation = [join_1, join_2, join_3].map(|ticket| bench.joined(ticket).generation);
    assert_eq!(generation, [2, 2, 2], "complete as soon as all are there");
    assert_eq!(
        bench.commit(caller(2, &third)),
        Err(GroupError::RebalanceInProgress)
    );
    assert_eq!(
        bench.commit(caller(1, &leader)),
        Err(GroupError::IllegalGeneration)
    );
}

#[test]
fn who_does_not_join_again_in_time_is_out() {
    let mut bench = Bench::new();
    let (leader, follower) = bench.stable_pair();
    let (_, join_3) = bench.enter();
    let join_1 = bench.ask(GroupRequest::Join(join(&leader)));
    // The follower lives, and says so, but does not join.
    for _ in 0..30 {
        bench.pass(Duration::from_secs(2));
        let _ = bench.heartbeat(1, &follower);
    }
    assert_eq!(bench.joined(join_1).generation, 2);
    assert_eq!(bench.joined(join_3).generation, 2);
    assert_eq!(
        bench.heartbeat(2, &follower),
        Err(GroupError::UnknownMember)
    );
}

#[test]
fn a_silent_member_is_out_after_its_session() {
    let mut bench = Bench::new();
    let (leader, follower) = bench.stable_pair();
    bench.pass(SESSION - Duration::from_secs(1));
    assert_eq!(bench.heartbeat(1, &leader), Ok(()));
    bench.pass(Duration::from_secs(2));
    assert_eq!(
        bench.heartbeat(1, &leader),
        Err(GroupError::RebalanceInProgress)
    );
    assert_eq!(
        bench.heartbeat(1, &follower),
        Err(GroupError::UnknownMember)
    );
    let again = bench.ask(GroupRequest::Join(join(&leader)));
    assert_eq!(bench.joined(again).generation, 2);
}

#[test]
fn a_leaving_member_rebalances_the_others_at_once() {
    let mut bench = Bench::new();
    let (leader, follower) = bench.stable_pair();
    let leaver = Leaver {
        member: leader.clone(),
        instance: None,
    };
    let unknown = Leaver {
        member: text("nobody"),
        instance: None,
    };
    let ticket = bench.ask(GroupRequest::Leave(vec![leaver.clone(), unknown.clone()]));
    let expected = vec![(leaver, Ok(())), (unknown, Err(GroupError::UnknownMember))];
    assert_eq!(bench.reply(ticket), GroupReply::Leave(expected));
    let again = bench.ask(GroupRequest::Join(join(&follower)));
    let joined = bench.joined(again);
    assert_eq!((joined.leader, joined.generation), (follower, 2));
}

#[test]
fn the_last_member_leaves_an_empty_group_that_keeps_its_positions() {
    let mut bench = Bench::new();
    let (leader, follower) = bench.stable_pair();
    assert_eq!(bench.commit(caller(1, &leader)), Ok(()));
    let outside = Caller {
        generation: -1,
        member: StrBytes::new(),
        instance: None,
    };
    assert_eq!(
        bench.commit(outside.clone()),
        Err(GroupError::UnknownMember)
    );
    for member in [leader, follower] {
        bench.ask(GroupRequest::Leave(vec![Leaver {
            member,
            instance: None,
        }]));
    }
    bench.pass(REBALANCE);
    assert_eq!(bench.describe().unwrap().state, State::Empty);
    assert_eq!(
        bench.commit(outside),
        Ok(()),
        "an empty group is a store of positions"
    );
    bench.pass(Duration::from_secs(8 * 24 * 3600));
    assert_eq!(bench.describe(), None);
    assert_eq!(
        bench.stored,
        Some(None),
        "its positions are forgotten with it"
    );
}

#[test]
fn a_leader_that_joins_again_asks_for_a_rebalance_and_a_follower_does_not() {
    let mut bench = Bench::new();
    let (leader, follower) = bench.stable_pair();
    let ticket = bench.ask(GroupRequest::Join(join(&follower)));
    assert_eq!(bench.joined(ticket).generation, 1);
    let ticket = bench.ask(GroupRequest::Join(join(&leader)));
    assert!(!bench.replies.contains_key(&ticket));
    assert_eq!(
        bench.heartbeat(1, &follower),
        Err(GroupError::RebalanceInProgress)
    );
}

#[test]
fn members_without_a_common_protocol_stay_out() {
    let mut bench = Bench::new();
    bench.stable_pair();
    let mut other = join(&StrBytes::new());
    other.protocols = vec![(text("sticky"), Bytes::new())];
    let ticket = bench.ask(GroupRequest::Join(other));
    assert_eq!(
        bench.join_refused(ticket).error,
        GroupError::InconsistentProtocol
    );
    let mut connect = join(&StrBytes::new());
    connect.protocol_type = text("connect");
    let ticket = bench.ask(GroupRequest::Join(connect));
    assert_eq!(
        bench.join_refused(ticket).error,
        GroupError::InconsistentProtocol
    );
}

#[test]
fn the_protocol_that_most_prefer_is_chosen() {
    let mut bench = Bench::new();
    let mut tickets = Vec::new();
    for preferences in [["a", "b"], ["b", "a"], ["b", "a"]] {
        let mut request = join(&StrBytes::new());
        request.known_member_required = false;
        request.protocols = preferences.map(|name| (text(name), Bytes::new())).to_vec();
        tickets.push(bench.ask(GroupRequest::Join(request)));
    }
    bench.pass(Duration::from_secs(10));
    let chosen = tickets
        .into_iter()
        .map(|ticket| bench.joined(ticket).protocol);
    assert_eq!(
        chosen.collect::<Vec<_>>(),
        [text("b"), text("b"), text("b")]
    );
}

fn static_join(member: &StrBytes) -> Join {
    Join {
        instance: Some(text("pod-1")),
        ..join(member)
    }
}

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_its_old_self_is_fenced() {
    let mut bench = Bench::new();
    let ticket = bench.ask(GroupRequest::Join(static_join(&StrBytes::new())));
    let (dynamic, other) = bench.enter();
    bench.pass(Duration::from_secs(10));
    let first = bench.joined(ticket);
    bench.joined(other);
    let old = first.member;
    let leader = first.leader;
    let shares = [(&old, "S"), (&dynamic, "D")];
    bench.sync(1, &leader, &shares);

    let ticket = bench.ask(GroupRequest::Join(static_join(&StrBytes::new())));
    let again = bench.joined(ticket);
    assert_eq!(again.generation, 1, "no rebalance");
    assert_ne!(again.member, old);
    let heartbeat = Caller {
        generation: 1,
        member: old,
        instance: Some(text("pod-1")),
    };
    let ticket = bench.ask(GroupRequest::Heartbeat(heartbeat));
    assert_eq!(
        bench.reply(ticket),
        GroupReply::Heartbeat(Err(GroupError::FencedInstance))
    );
    let sync = bench.sync(1, &again.member, &[]);
    assert_eq!(bench.share(sync), "S", "its share is still there");
    assert_eq!(bench.heartbeat(1, &dynamic), Ok(()));
}

#[test]
fn a_member_id_that_was_given_out_lapses() {
    let mut bench = Bench::new();
    let ticket = bench.ask(GroupRequest::Join(join(&StrBytes::new())));
    let member = bench.join_refused(ticket).member;
    bench.pass(SESSION + Duration::from_secs(1));
    let ticket = bench.ask(GroupRequest::Join(join(&member)));
    assert_eq!(bench.join_refused(ticket).error, GroupError::UnknownMember);
}

#[test]
fn a_restart_is_no_rebalance() {
    let mut bench = Bench::new();
    let (leader, follower) = bench.stable_pair();
    let state = bench.stored.clone().flatten();

    let mut restarted = Bench::new();
    restarted
        .coordinator
        .restore(restarted.now, &GROUP, state.as_ref());
    assert_eq!(restarted.heartbeat(1, &leader), Ok(()));
    assert_eq!(restarted.commit(caller(1, &follower)), Ok(()));
    let sync = restarted.sync(1, &follower, &[]);
    assert_eq!(restarted.share(sync), "F");
    let description = restarted.describe().unwrap();
    assert_eq!(
        (description.state, description.members.len()),
        (State::Stable, 2)
    );
    restarted.pass(SESSION * 2);
    assert_eq!(
        restarted.heartbeat(1, &leader),
        Err(GroupError::UnknownMember)
    );
}

#[test]
fn a_state_that_cannot_be_read_leaves_the_group_with_its_positions() {
    for state in [&b""[..], b"\x09", b"\x01\0\0\0\x01\x7f"] {
        let mut bench = Bench::new();
        let state = Bytes::copy_from_slice(state);
        bench.coordinator.restore(bench.now, &GROUP, Some(&state));
        assert_eq!(bench.describe().unwrap().state, State::Empty);
    }
}

#[test]
fn session_timeouts_have_bounds() {
    for session_timeout_ms in [-1, 0, 5999, 1_800_001] {
        let mut bench = Bench::new();
        let ticket = bench.ask(GroupRequest::Join(Join {
            session_timeout_ms,
            ..join(&StrBytes::new())
        }));
        assert_eq!(
            bench.join_refused(ticket).error,
            GroupError::InvalidSessionTimeout
        );
    }
}

#[test]
fn only_empty_groups_are_deleted() {
    let mut bench = Bench::new();
    let ticket = bench.ask(GroupRequest::Delete);
    assert_eq!(
        bench.reply(ticket),
        GroupReply::Deleted(Err(GroupError::NotFound))
    );
    let (leader, follower) = bench.stable_pair();
    let ticket = bench.ask(GroupRequest::Delete);
    assert_eq!(
        bench.reply(ticket),
        GroupReply::Deleted(Err(GroupError::NotEmpty))
    );
    for member in [leader, follower] {
        bench.ask(GroupRequest::Leave(vec![Leaver {
            member,
            instance: None,
        }]));
    }
    let ticket = bench.ask(GroupRequest::Delete);
    assert_eq!(bench.reply(ticket), GroupReply::Deleted(Ok(())));
    assert_eq!(bench.describe(), None);
}

#[test]
fn a_full_group_takes_nobody_but_a_static_member_that_comes_back() {
    let config = GroupConfig {
        members_max: 1,
        ..GroupConfig::default()
    };
    let mut bench = Bench::with(config);
    let first = bench.ask(GroupRequest::Join(static_join(&StrBytes::new())));
    let ticket = bench.ask(GroupRequest::Join(join(&StrBytes::new())));
    assert_eq!(bench.join_refused(ticket).error, GroupError::GroupFull);
    let second = bench.ask(GroupRequest::Join(static_join(&StrBytes::new())));
    assert_eq!(bench.join_refused(first).error, GroupError::FencedInstance);
    bench.pass(Duration::from_secs(10));
    assert_eq!(bench.joined(second).generation, 1);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]

    /// Whatever members do, every join and sync is answered within the timeouts, once, and the
    /// coordinator never spins.
    #[test]
    fn every_request_is_answered_in_the_end(
        steps in proptest::collection::vec((0..9u8, 0..4usize, 0..12u64), 1..60),
    ) {
        let mut bench = Bench::new();
        let mut members: Vec<(StrBytes, i32)> = vec![(StrBytes::new(), 0); 4];
        let mut asked: Vec<(u32, usize)> = Vec::new();
        for (step, who, seconds) in steps {
            let (member, generation) = members[who].clone();
            let ticket = match step {
                0..=2 => bench.ask(GroupRequest::Join(join(&member))),
                3 => bench.ask(GroupRequest::Join(Join {
                    instance: Some(text(&format!("pod-{who}"))),
                    ..join(&member)
                })),
                4 => bench.sync(generation, &member, &[(&member, "share")]),
                5 => bench.ask(GroupRequest::Heartbeat(caller(generation, &member))),
                6 => bench.ask(GroupRequest::Leave(vec![Leaver { member, instance: None }])),
                _ => {
                    bench.pass(Duration::from_secs(seconds));
                    continue;
                }
            };
            asked.push((ticket, who));
            for (ticket, who) in &asked {
                match bench.replies.get(ticket) {
                    Some(GroupReply::Join(Ok(joined))) => {
                        members[*who] = (joined.member.clone(), joined.generation);
                    }
                    Some(GroupReply::Join(Err(refused))) if *ticket == bench.ticket => {
                        let known = refused.error == GroupError::MemberIdRequired;
                        let member = if known { refused.member.clone() } else { StrBytes::new() };
                        members[*who] = (member, 0);
                    }
                    _ => {}
                }
            }
        }
        bench.pass(Duration::from_secs(3600));
        for (ticket, _) in asked {
            proptest::prop_assert!(bench.replies.contains_key(&ticket), "{} is open", ticket);
        }
    }
}
