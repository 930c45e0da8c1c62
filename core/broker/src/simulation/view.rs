//! The durable part of a shard's state in a form that can be compared: a live one's with a replayed one's.

use crate::api::QueueKind;
use crate::state::State;
use omnilog_ledger::Pair;

/// The entries of a view, in order.
pub(super) type View = Vec<Pair>;

/// Sees the durable state. Acknowledgements that are gathered and not journaled yet count as not made; what is only
/// known to a running shard is left out. Without files where frames may be held for want of space: where their batches
/// will lie isn't known yet.
pub(super) fn view(state: &State, files: bool) -> View {
    let mut saved = state.save();
    saved.settle().expect("a state that can be saved");
    let changes = saved.changes();
    let mut view: View = changes
        .filter_map(|change| Some((change.key, change.value?)))
        .collect();
    // The counters run ahead by what is not journaled; queues and their entries are looked at below.
    view.retain(|(key, _)| match key.first() {
        Some(b'a') => false,
        Some(b'e') => !matches!(key.get(9), None | Some(b'f' | b'p' | b'r')),
        _ => true,
    });
    if !files {
        view.retain(|(key, _)| {
            key.first() != Some(&b'd') || key.len() > 9 && key.get(9) != Some(&b'C')
        });
        for partition in state.partitions.values() {
            let mut nowhere = partition.clone();
            nowhere.spans.clear();
            let mut raw = nowhere.compacted.raw.clone();
            if let Some(raw) = &mut raw {
                raw.spans.clear();
            }
            let mut value = postcard::to_stdvec(&raw).expect("a raw view that can be encoded");
            let whole = postcard::to_stdvec(&nowhere).expect("a partition that can be encoded");
            value.extend(whole);
            view.push((format!("D{:020}", partition.key).into_bytes(), value));
        }
    }
    let counters = format!("{:?} {}", state.epochs, state.next_producer);
    view.push((b"A".to_vec(), counters.into_bytes()));
    for queue in state.queues.values().filter(|queue| queue.durable()) {
        let mut held = queue.held();
        for (first, last) in queue.acked.iter_runs() {
            held.insert_run(first, last);
        }
        let mut deadlines = queue.deadlines.as_deref().cloned().unwrap_or_default();
        state.sets.add_to(queue, &mut held, &mut deadlines);
        // Of which entries a run is made depends on when they were taken over.
        let each = |(first, last, at)| (first..=last).map(move |entry: u64| (entry, at));
        let deadlines: Vec<(u64, i64)> = deadlines.runs().flat_map(each).collect();
        let mut returned: Vec<_> = queue
            .returned
            .iter()
            .filter(|(sequence, _)| held.contains(*sequence))
            .collect();
        returned.sort_unstable();
        let runs: Vec<_> = held.iter_runs().collect();
        let name = if queue.kind == QueueKind::Classic {
            "classic"
        } else {
            "subscribed"
        };
        let ranked = queue.ranked(&held);
        let retried = queue.retried();
        let retried: Vec<_> = retried
            .filter(|(entry, ..)| held.contains(*entry))
            .collect();
        let text = format!(
            "{name} {:?} {runs:?} {returned:?} {ranked:?} {deadlines:?} {retried:?}",
            queue.declared
        );
        view.push((
            format!("E{:020}", queue.id.0).into_bytes(),
            text.into_bytes(),
        ));
    }
    unsaved(state, &mut view);
    view.sort_unstable();
    view
}

/// The same objects as they are in memory: what is left out when they are saved would be missed on both sides.
fn unsaved(state: &State, view: &mut View) {
    let mut push = |kind: &str, key: &dyn std::fmt::Debug, value: String| {
        view.push((format!("{kind} {key:?}").into_bytes(), value.into_bytes()));
    };
    for session in state.sessions.values().filter(|session| session.durable()) {
        let durable = postcard::to_stdvec(session).expect("a session that can be encoded");
        push("S", &session.id, durable.escape_ascii().to_string());
    }
    for partition in state.partitions.values() {
        let producers: Vec<_> = partition.producers.iter().collect();
        let producers = format!("{producers:?}");
        let known = partition.transactions.as_ref();
        let known = known.filter(|known| !known.open.is_empty() || !known.aborted.is_empty());
        let known = known.map(|known| format!("{:?} {:?}", known.open, known.aborted));
        push("P", &partition.key, format!("{producers} {known:?}"));
    }
    for sequence in state.delayed.held_from(0) {
        let part = state.delayed.part(crate::state::delayed::part_of(sequence));
        let one: Vec<_> = part.filter(|(held, ..)| *held == sequence).collect();
        push("L", &sequence, format!("{one:?}"));
    }
    for names in &state.namespaces {
        for (name, group) in &names.groups {
            push("G", &(names.id, name), format!("{group:?}"));
        }
        for (name, transactional) in &names.transactions {
            push("T", &(names.id, name), format!("{transactional:?}"));
        }
        for (topic, kept) in names.retained.all() {
            push("R", &(names.id, topic), format!("{kept:?}"));
        }
        let made: Vec<_> = names.made.iter().collect();
        push("M", &names.id, format!("{} {made:?}", names.auto_names));
    }
}

/// What differs, for people.
pub(super) fn difference(live: &View, replayed: &View) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let mut found = String::new();
    for (key, value) in live.iter().filter(|pair| !replayed.contains(pair)) {
        found += &format!("\n  live     {}: {}", text(key), text(value));
    }
    for (key, value) in replayed.iter().filter(|pair| !live.contains(pair)) {
        found += &format!("\n  replayed {}: {}", text(key), text(value));
    }
    found
}
