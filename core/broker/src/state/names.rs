//! Names: which object of a kind has one, and all of them in order.
//!
//! Only numbers are kept, as each object has its name. Looking one up takes a look at a table and at the object, however
//! many there are.

use crate::state::index::Index;
use crate::state::objects::{Number, Objects};

/// A run of names is divided when it has more than this.
const RUN_MAX: usize = 512;
/// Two neighbours that have less than this in all become one.
const RUNS_MIN: usize = RUN_MAX / 2;

/// What has a name.
pub(crate) trait Called {
    fn called(&self) -> &[u8];
}

/// The names of objects of a kind. An object is named while it is there: from after it has been made until before it is
/// gone.
#[derive(Debug)]
pub(crate) struct Names<K> {
    index: Index<K>,
    /// In the order of their names, in runs; none is empty.
    runs: Vec<Vec<K>>,
}

impl<K> Default for Names<K> {
    fn default() -> Self {
        Self {
            index: Index::default(),
            runs: Vec::new(),
        }
    }
}

fn called<K: Number, V: Called>(objects: &Objects<K, V>, key: K) -> &[u8] {
    objects.get(&key).map(Called::called).unwrap_or_default()
}

impl<K: Number> Names<K> {
    /// The object of this name.
    pub(crate) fn get<V: Called>(&self, objects: &Objects<K, V>, name: &[u8]) -> Option<K> {
        let hash = self.index.hash(name);
        let is = |key: &K| objects.get(key).is_some_and(|it| it.called() == name);
        self.index.find(hash, is)
    }

    /// The object that is most likely of this name: no object has been looked at.
    pub(crate) fn likely(&self, name: &[u8]) -> Option<K> {
        self.index.likely(self.index.hash(name))
    }

    pub(crate) fn contains<V: Called>(&self, objects: &Objects<K, V>, name: &[u8]) -> bool {
        self.get(objects, name).is_some()
    }

    /// An object has its name from now on, whichever had it before.
    pub(crate) fn insert<V: Called>(&mut self, objects: &Objects<K, V>, key: K) {
        let name = called(objects, key);
        if let Some(before) = self.get(objects, name) {
            self.remove(objects, before);
        }
        self.put(objects, key);
        let (run, at) = self.place(objects, name);
        let last = run + 1 >= self.runs.len();
        let Some(into) = self.runs.get_mut(run) else {
            self.runs.push(vec![key]);
            return;
        };
        if into.len() < RUN_MAX {
            into.insert(at, key);
        } else if last && at == into.len() {
            // Names that grow leave full runs behind.
            self.runs.push(vec![key]);
        } else {
            into.insert(at, key);
            let rest = into.split_off(RUN_MAX / 2);
            self.runs.insert(run + 1, rest);
        }
    }

    /// As [`Names::insert`] does, but for the order, which [`Names::sort`] makes when all are there.
    pub(crate) fn load<V: Called>(&mut self, objects: &Objects<K, V>, key: K) {
        let name = called(objects, key);
        if let Some(before) = self.get(objects, name) {
            self.index.remove(self.index.hash(name), before);
        }
        self.put(objects, key);
    }

    fn put<V: Called>(&mut self, objects: &Objects<K, V>, key: K) {
        let hash = self.index.hash(called(objects, key));
        self.index.insert(hash, key, |key| called(objects, *key));
    }

    /// Makes room for so many that will be loaded.
    pub(crate) fn expect(&mut self, count: usize) {
        self.index = Index::of_capacity(count);
    }

    /// Puts what was loaded in order.
    pub(crate) fn sort<V: Called>(&mut self, objects: &Objects<K, V>) {
        let mut keys: Vec<K> = self.index.iter().copied().collect();
        // By number first: neighbours lie side by side, and names are often given in order.
        keys.sort_unstable_by_key(|key| key.get());
        let named = keys.iter().map(|key| (called(objects, *key), *key));
        let mut named: Vec<(&[u8], K)> = named.collect();
        named.sort_by_key(|(name, _)| *name);
        let runs = named.chunks(RUN_MAX);
        self.runs = runs
            .map(|run| run.iter().map(|(_, key)| *key).collect())
            .collect();
    }

    /// An object loses its name, if it has it.
    pub(crate) fn remove<V: Called>(&mut self, objects: &Objects<K, V>, key: K) {
        let name = called(objects, key);
        if !self.index.remove(self.index.hash(name), key) {
            return;
        }
        let (run, at) = self.place(objects, name);
        let Some(from) = self.runs.get_mut(run) else {
            return;
        };
        if from.get(at).is_some_and(|known| known.get() == key.get()) {
            from.remove(at);
        }
        let left = from.len();
        if left == 0 {
            self.runs.remove(run);
        } else if let Some(next) = self.runs.get(run + 1)
            && left + next.len() < RUNS_MIN
        {
            let next = self.runs.remove(run + 1);
            if let Some(into) = self.runs.get_mut(run) {
                into.extend(next);
            }
        }
    }

    /// Which run a name belongs to, and where it is, or would be, there.
    fn place<V: Called>(&self, objects: &Objects<K, V>, name: &[u8]) -> (usize, usize) {
        let below = |key: &K| called(objects, *key) < name;
        let ends_below = |run: &Vec<K>| run.last().is_some_and(below);
        // Names often grow: the end is looked at first.
        if let Some(last) = self.runs.last().filter(|last| ends_below(last)) {
            return (self.runs.len() - 1, last.len());
        }
        let run = self.runs.partition_point(ends_below);
        let at = self.runs.get(run).map(|run| run.partition_point(below));
        (run, at.unwrap_or_default())
    }

    /// All, in the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = K> {
        self.runs.iter().flatten().copied()
    }

    /// Those from this name on, in order.
    pub(crate) fn from<V: Called>(
        &self,
        objects: &Objects<K, V>,
        name: &[u8],
    ) -> impl Iterator<Item = K> {
        let (run, at) = self.place(objects, name);
        let first = self.runs.get(run).and_then(|run| run.get(at..));
        let rest = self.runs.get(run + 1..).unwrap_or_default();
        first
            .unwrap_or_default()
            .iter()
            .chain(rest.iter().flatten())
            .copied()
    }
}

#[cfg(test)]
mod tests {
    use super::{Called, Names};
    use crate::state::objects::Objects;
    use std::collections::BTreeMap;

    impl Called for Vec<u8> {
        fn called(&self) -> &[u8] {
            self
        }
    }

    fn same(names: &Names<u64>, objects: &Objects<u64, Vec<u8>>, model: &BTreeMap<Vec<u8>, u64>) {
        assert!(names.iter().eq(model.values().copied()));
        for (name, key) in model {
            assert_eq!(names.get(objects, name), Some(*key));
        }
        let guessed = model.iter();
        let right = guessed.filter(|(name, key)| names.likely(name) == Some(**key));
        assert!(right.count() * 2 >= model.len());
        let (some, _) = (model.keys().nth(model.len() / 3).cloned(), ());
        for from in some.into_iter().chain([b"5".to_vec(), b"x".to_vec()]) {
            let rest = model.range(from.clone()..).map(|(_, key)| *key);
            assert!(names.from(objects, &from).eq(rest));
        }
    }

    #[test]
    fn they_are_found_and_in_order_whatever_comes_and_goes() {
        let mut objects = Objects::<u64, Vec<u8>>::default();
        let mut names = Names::default();
        let mut model = BTreeMap::new();
        let name = |step: u64| (step * 7919 % 5003).to_string().into_bytes();
        for step in 0..12_000u64 {
            objects.insert(step, name(step));
            names.insert(&objects, step);
            // One that has the name of another takes its place.
            model.insert(name(step), step);
            if step % 3 == 0 {
                let gone = name(step / 2);
                if let Some(key) = model.remove(&gone) {
                    names.remove(&objects, key);
                    objects.remove(&key);
                }
                assert_eq!(names.get(&objects, &gone), None);
            }
            if step % 1000 == 0 {
                same(&names, &objects, &model);
            }
        }
        let mut loaded = Names::default();
        for key in model.values() {
            loaded.load(&objects, *key);
        }
        loaded.sort(&objects);
        same(&loaded, &objects, &model);
        for key in model.values() {
            names.remove(&objects, *key);
        }
        assert!(names.runs.is_empty() && names.iter().next().is_none());
    }
}
