use super::*;
use bytes::Bytes;

fn declared(arguments: &[(&'static str, Value)]) -> DeclareQueue {
    let name = |name: &'static str| Bytes::from_static(name.as_bytes());
    DeclareQueue {
        name: name("q"),
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: arguments
            .iter()
            .map(|(key, value)| (name(key), value.clone()))
            .collect(),
    }
}

fn schedule(kind: &'static str, others: &[(&'static str, i64)]) -> Option<Schedule> {
    let mut arguments = vec![(
        "x-delayed-retry-type",
        Value::Bytes(Bytes::from_static(kind.as_bytes())),
    )];
    arguments.extend(others.iter().map(|(key, value)| (*key, Value::Int(*value))));
    Schedule::of(&declared(&arguments))
}

#[test]
fn delays_grow_with_failures_up_to_the_longest() {
    let linear = schedule(
        "all",
        &[("x-delayed-retry-min", 1000), ("x-delayed-retry-max", 2500)],
    )
    .unwrap();
    let delays: Vec<i64> = (1..5).map(|count| linear.delay_ms(true, count)).collect();
    assert_eq!(delays, [1000, 2000, 2500, 2500]);
    // What nobody failed at yet waits the shortest time.
    assert_eq!(linear.delay_ms(false, 0), 1000);
    assert_eq!(linear.delay_ms(false, 2), 2000);
    let exponential = schedule(
        "all",
        &[
            ("x-delayed-retry-min", 100),
            ("x-delayed-retry-multiplier", 3),
        ],
    )
    .unwrap();
    let delays: Vec<i64> = (1..5)
        .map(|count| exponential.delay_ms(true, count))
        .collect();
    assert_eq!(delays, [100, 300, 900, 2700]);
    assert_eq!(exponential.delay_ms(true, u32::MAX), DELAY_MS_MAX);
}

#[test]
fn the_type_says_what_waits() {
    let min = [("x-delayed-retry-min", 10)];
    let failed = schedule("failed", &min).unwrap();
    assert_eq!(
        (failed.delay_ms(true, 1), failed.delay_ms(false, 1)),
        (10, 0)
    );
    let returned = schedule("returned", &min).unwrap();
    assert_eq!(
        (returned.delay_ms(true, 1), returned.delay_ms(false, 1)),
        (0, 10)
    );
    assert_eq!(schedule("disabled", &min), None);
    assert_eq!(schedule("all", &[]), None);
}

#[test]
fn what_waits_keeps_its_place_and_is_held() {
    let mut queue = Queue::new(
        QueueId(1),
        NamespaceId(0),
        QueueKind::Classic,
        declared(&[]),
    );
    queue.ready.insert_run(1, 4);
    let untouched = queue.entries_bytes();
    queue.came_back(2, 1, 50);
    queue.came_back(1, 3, 90);
    let known = queue.entries_bytes();
    assert!(known > untouched);
    queue.defer_all(60);
    assert!(queue.entries_bytes() > known);
    assert_eq!(queue.ready.iter().collect::<Vec<_>>(), [2, 3, 4]);
    queue.defer(2);
    assert_eq!((queue.deferred_count(), queue.ready_count()), (2, 2));
    assert_eq!(queue.retry_due_ms(), Some(50));
    assert!(queue.holds(1) && queue.defers(1) && !queue.defers(3));
    assert_eq!(queue.first_held_from(0), Some(1));
    assert_eq!(queue.held().len(), 4);
    queue.recall_due(50, 9);
    assert_eq!(queue.next_entry(9), Some(2));
    assert_eq!(queue.first_deferred(), Some(1));
    assert_eq!((queue.failures(1), queue.failures(9)), (3, 0));
    queue.forget(1, 2);
    queue.ready.remove_run(1, 2);
    assert!(queue.retries.is_none());
    assert_eq!(queue.held().iter().collect::<Vec<_>>(), [3, 4]);
}
