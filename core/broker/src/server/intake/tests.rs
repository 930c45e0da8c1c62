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
