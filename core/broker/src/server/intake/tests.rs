//! Who steps: the thread, or somebody in its place.

use super::*;
use std::sync::Arc;
use std::thread;

const FEW: usize = 2;
const NAMESPACE: NamespaceId = NamespaceId(0);

fn input(number: u64) -> Input {
    Input::Drained(ClientId(number))
}

fn numbers(inputs: &[Input]) -> Vec<u64> {
    let number = |input: &Input| match input {
        Input::Drained(client) => client.0,
        _ => 0,
    };
    inputs.iter().map(number).collect()
}

/// An intake beside which a thread sleeps for so long; it says so when it wakes.
fn asleep(timeout: Duration) -> (Arc<Intake>, thread::JoinHandle<Duration>) {
    let intake = Arc::new(Intake::default());
    let waited = intake.clone();
    let sleeper = thread::spawn(move || {
        let began = Instant::now();
        waited.wait(timeout);
        began.elapsed()
    });
    while !intake.lanes.lock().asleep {
        thread::yield_now();
    }
    (intake, sleeper)
}

const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_few_inputs_are_taken_in_place_and_the_thread_sleeps_on() {
    let (intake, sleeper) = asleep(LONG);
    let mut inputs = Vec::new();
    intake.add(NAMESPACE, input(1));
    intake.add(NAMESPACE, input(2));
    assert!(intake.idle() && intake.begin(FEW, &mut inputs));
    assert_eq!(numbers(&inputs), [1, 2]);
    assert!(!intake.begin(FEW, &mut inputs), "one at a time");
    intake.end(LONG);
    assert!(!sleeper.is_finished() && intake.lanes.lock().asleep);
    intake.put(NAMESPACE, input(3));
    assert!(sleeper.join().unwrap() < LONG);
}

#[test]
fn many_inputs_wake_the_thread_and_stay_for_it() {
    let (intake, sleeper) = asleep(LONG);
    let mut inputs = Vec::new();
    for number in 0..3 {
        intake.add(NAMESPACE, input(number));
    }
    assert!(!intake.begin(FEW, &mut inputs));
    assert!(sleeper.join().unwrap() < LONG);
    intake.take(10, &mut inputs);
    assert_eq!(numbers(&inputs), [0, 1, 2]);
}

#[test]
fn what_came_in_during_a_step_in_place_wakes_the_thread() {
    let (intake, sleeper) = asleep(LONG);
    let mut inputs = Vec::new();
    intake.add(NAMESPACE, input(1));
    assert!(intake.begin(FEW, &mut inputs));
    intake.put(NAMESPACE, input(2));
    assert!(!sleeper.is_finished(), "the one who steps looks after it");
    intake.end(LONG);
    assert!(sleeper.join().unwrap() < LONG);
}

#[test]
fn a_step_in_place_after_which_something_is_due_sooner_wakes_the_thread() {
    let (intake, sleeper) = asleep(LONG);
    let mut inputs = Vec::new();
    intake.poke();
    assert!(intake.begin(FEW, &mut inputs));
    intake.end(Duration::from_millis(1));
    assert!(sleeper.join().unwrap() < LONG);
}

#[test]
fn nobody_steps_in_the_place_of_a_thread_that_is_awake() {
    let intake = Intake::default();
    let mut inputs = Vec::new();
    intake.add(NAMESPACE, input(1));
    assert!(!intake.idle() && !intake.begin(FEW, &mut inputs));
    // It does not fall asleep on it either.
    intake.wait(LONG);
    intake.take(1, &mut inputs);
    assert_eq!(numbers(&inputs), [1]);
}

fn command(budget: &Arc<crate::server::budget::Budget>, client: u64, bytes: u64) -> Input {
    Input::Command {
        client: ClientId(client),
        correlation: 0,
        command: Command::Stats,
        cost: Some(budget.take(bytes)),
    }
}

#[test]
fn no_flood_delays_another_namespace_by_more_than_its_share() {
    use crate::server::budget::{Budget, TotalBudget};
    let budget = Arc::new(Budget::new(TotalBudget::new(u64::MAX)));
    let mut lanes = Lanes::default();
    // Many small commands, and requests as large as they may be: each would fill steps of its own.
    for _ in 0..400_000 {
        lanes.add(NamespaceId(0).into(), command(&budget, 100, 256));
    }
    for _ in 0..1000 {
        lanes.add(NamespaceId(1).into(), command(&budget, 101, 1 << 20));
    }
    let mut inputs = Vec::new();
    let mut worst = 0;
    for round in 0..40 {
        // What a step has begun is in the way, too.
        lanes.take(4096, &mut inputs);
        let weight = |inputs: &[Input]| inputs.iter().map(Input::weight).sum::<i64>();
        let mut before = weight(&inputs);
        inputs.clear();
        lanes.add(NamespaceId(2).into(), command(&budget, round, 256));
        loop {
            lanes.take(4096, &mut inputs);
            let at = inputs.iter().position(
                |input| matches!(input, Input::Command { client, .. } if client.0 == round),
            );
            before += weight(inputs.get(..at.unwrap_or(inputs.len())).unwrap());
            inputs.clear();
            if at.is_some() {
                break;
            }
        }
        worst = worst.max(before);
    }
    // A step of a megabyte that ends with a large request, then one turn of each of the others.
    let bound = 2 * STEP_WEIGHT_MAX + QUANTUM + (1 << 20);
    assert!(worst <= bound, "{worst} is decided before a small command");
    // The others have their shares meanwhile.
    assert!(lanes.waiting > 10_000, "{}", lanes.waiting);
}

#[test]
fn lanes_share_by_weight_and_an_idle_one_saves_nothing_up() {
    use crate::server::budget::{Budget, TotalBudget};
    let budget = Arc::new(Budget::new(TotalBudget::new(u64::MAX)));
    let mut lanes = Lanes::default();
    for number in 0..40_000 {
        lanes.add(NamespaceId(3).into(), command(&budget, 1, 256));
        if number % 100 == 0 {
            lanes.add(NamespaceId(7).into(), command(&budget, 2, 25_600));
        }
    }
    let mut shares = [0; 2];
    let mut inputs = Vec::new();
    for _ in 0..8 {
        lanes.take(4096, &mut inputs);
        for input in inputs.drain(..) {
            let heavy = matches!(&input, Input::Command { client, .. } if client.0 == 2);
            shares[usize::from(heavy)] += input.weight();
        }
    }
    let [light, heavy] = shares;
    assert!((light - heavy).abs() <= 2 * QUANTUM, "{shares:?}");
    while lanes.waiting > 0 {
        lanes.take(4096, &mut inputs);
    }
    assert!(lanes.turns.is_empty());
    assert!(lanes.lanes.iter().all(|lane| lane.deficit == 0));
}

#[test]
fn those_that_are_behind_delay_others_by_a_part_of_a_step() {
    let intake = Intake::default();
    let behind = Road {
        namespace: NAMESPACE,
        behind: true,
    };
    let most = usize::try_from(BEHIND_WEIGHT_MAX / WEIGHT_MIN).unwrap();
    let all = 3 * most + 7;
    for number in 1..=all {
        intake.add(behind, input(number as u64));
    }
    let mut taken = Vec::new();
    let mut live = 0;
    while taken.len() < all {
        live += 1;
        intake.add(NAMESPACE, input(u64::MAX));
        let mut inputs = Vec::new();
        intake.take(4096, &mut inputs);
        let (new, old): (Vec<u64>, Vec<u64>) = numbers(&inputs)
            .iter()
            .partition(|number| **number == u64::MAX);
        assert_eq!(new.len(), 1, "what is not behind is taken in each step");
        assert!(old.len() <= most, "{}", old.len());
        taken.extend(old);
    }
    assert_eq!(live, 4, "and those that are behind get their part of each");
    assert!(taken.is_sorted() && taken.len() == all, "in order");
}
