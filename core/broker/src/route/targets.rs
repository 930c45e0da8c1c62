//! Who is behind one pattern: a few in a list, many in a tree.

use smallvec::SmallVec;
use std::collections::BTreeMap;

/// More than so many are kept in a tree.
const FEW: usize = 8;

/// Targets, each as often as it was added, with whether its pattern hides `$`.
#[derive(Debug)]
pub(crate) enum Targets<T> {
    Few(SmallVec<[(T, bool); 1]>),
    Many(BTreeMap<(T, bool), u32>),
}

impl<T> Default for Targets<T> {
    fn default() -> Self {
        Self::Few(SmallVec::new())
    }
}

impl<T: Ord> Targets<T> {
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Few(few) => few.is_empty(),
            Self::Many(many) => many.is_empty(),
        }
    }

    pub(crate) fn add(&mut self, target: T, hides_dollar: bool) {
        match self {
            Self::Few(few) if few.len() < FEW => few.push((target, hides_dollar)),
            Self::Few(few) => {
                let mut many = BTreeMap::new();
                for known in few.drain(..).chain([(target, hides_dollar)]) {
                    *many.entry(known).or_insert(0) += 1;
                }
                *self = Self::Many(many);
            }
            Self::Many(many) => *many.entry((target, hides_dollar)).or_insert(0) += 1,
        }
    }

    /// Takes one away; `false` if it was not there.
    pub(crate) fn remove(&mut self, target: T, hides_dollar: bool) -> bool {
        let wanted = (target, hides_dollar);
        match self {
            Self::Few(few) => {
                let Some(position) = few.iter().position(|known| *known == wanted) else {
                    return false;
                };
                few.swap_remove(position);
                if few.len() == 1 {
                    few.shrink_to_fit();
                }
                true
            }
            Self::Many(many) => {
                let Some(count) = many.get_mut(&wanted) else {
                    return false;
                };
                *count -= 1;
                if *count == 0 {
                    many.remove(&wanted);
                }
                if many.len() == 1 && many.values().all(|count| *count == 1) {
                    let few = std::mem::take(many).into_keys().collect();
                    *self = Self::Few(few);
                }
                true
            }
        }
    }

    /// Each as often as it was added.
    pub(crate) fn each(&self, found: &mut dyn FnMut(&T, bool)) {
        match self {
            Self::Few(few) => few.iter().for_each(|(target, hides)| found(target, *hides)),
            Self::Many(many) => {
                for ((target, hides), count) in many.iter() {
                    (0..*count).for_each(|_| found(target, *hides));
                }
            }
        }
    }

    /// Bytes beside its own.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Few(few) if few.spilled() => few.capacity() * size_of::<(T, bool)>(),
            Self::Few(_) => 0,
            // A tree's nodes are about three quarters full.
            Self::Many(many) => many.len() * size_of::<((T, bool), u32)>() * 4 / 3,
        }
    }
}
