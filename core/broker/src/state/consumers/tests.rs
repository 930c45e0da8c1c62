use super::*;

fn who(number: u64) -> Who {
    (ClientId(1), ConsumerKey(number))
}

fn add(consumers: &mut Consumers, number: u64, priority: i32, failover: bool) {
    let mut consumer = Consumer::new(ClientId(1), ConsumerKey(number), 0);
    consumer.priority = priority;
    consumer.active = true;
    consumers.add(consumer, failover);
    consumers.offer(who(number));
}

fn turn(consumers: &mut Consumers) -> Option<u64> {
    let front = consumers.front();
    consumers.rotate();
    front.map(|(_, key)| key.0)
}

#[test]
fn equals_take_turns_and_the_higher_priority_comes_first() {
    let mut consumers = Consumers::default();
    for number in 1..4 {
        add(&mut consumers, number, 0, false);
    }
    let turns: Vec<_> = (0..4).map(|_| turn(&mut consumers)).collect();
    assert_eq!(turns, [Some(1), Some(2), Some(3), Some(1)]);
    add(&mut consumers, 9, 5, false);
    assert_eq!(turn(&mut consumers), Some(9));
    assert_eq!(turn(&mut consumers), Some(9));
    // It is blocked: the lower ones have it.
    consumers.front();
    consumers.skip();
    assert_eq!(turn(&mut consumers), Some(2));
    consumers.offer(who(9));
    assert_eq!(turn(&mut consumers), Some(9));
}

#[test]
fn one_that_has_left_has_no_turn() {
    let mut consumers = Consumers::default();
    for number in 1..40 {
        add(&mut consumers, number, 0, false);
    }
    for number in 1..38 {
        assert!(consumers.remove(who(number)).is_some());
    }
    assert_eq!(turn(&mut consumers), Some(38));
    let Consumers::Several(rings) = &consumers else {
        panic!("{consumers:?}")
    };
    assert!(rings.turns() < 20, "turns of the gone go");
    consumers.remove(who(38));
    assert!(matches!(consumers, Consumers::One(_)));
    assert_eq!(turn(&mut consumers), Some(39));
    // Another consumer of a key that was used before has its own turn.
    add(&mut consumers, 1, 0, false);
    assert_eq!(turn(&mut consumers), Some(39));
    assert_eq!(turn(&mut consumers), Some(1));
    consumers.remove(who(1));
    consumers.remove(who(39));
    assert_eq!(turn(&mut consumers), None);
}

#[test]
fn the_sole_one_stays_until_it_leaves_and_the_highest_then_the_oldest_follows() {
    let mut consumers = Consumers::default();
    add(&mut consumers, 1, 0, true);
    add(&mut consumers, 2, 0, true);
    add(&mut consumers, 3, 7, true);
    add(&mut consumers, 4, 7, true);
    assert_eq!(turn(&mut consumers), Some(1));
    assert_eq!(turn(&mut consumers), Some(1));
    for (leaves, follows) in [(1, Some(3)), (4, Some(3)), (3, Some(2)), (2, None)] {
        consumers.remove(who(leaves));
        assert_eq!(turn(&mut consumers), follows, "after {leaves} left");
    }
}

#[test]
fn one_that_gets_company_or_is_left_alone_keeps_its_turn_or_goes_on_waiting() {
    let mut consumers = Consumers::default();
    add(&mut consumers, 1, 0, false);
    assert_eq!(turn(&mut consumers), Some(1));
    consumers.skip();
    assert_eq!(turn(&mut consumers), None);
    // The first waits for something.
    add(&mut consumers, 2, 0, false);
    assert_eq!(turn(&mut consumers), Some(2));
    assert_eq!(turn(&mut consumers), Some(2));
    assert!(consumers.remove(who(2)).is_some());
    assert_eq!(turn(&mut consumers), None);
    consumers.offer(who(1));
    add(&mut consumers, 3, 0, false);
    assert_eq!(turn(&mut consumers), Some(1));
    assert!(consumers.remove(who(1)).is_some());
    assert_eq!(turn(&mut consumers), Some(3));
    assert!(consumers.remove(who(1)).is_none());
    assert!(consumers.remove(who(3)).is_some());
    assert!(consumers.is_empty());
}
