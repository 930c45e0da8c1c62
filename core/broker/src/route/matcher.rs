//! The trie: patterns of both languages, matched at once.

use crate::route::{Pattern, Token};
use bytes::Bytes;
use std::collections::{BTreeMap, HashSet};

/// Nodes that one match may visit, at the most: hostile patterns (`#.a.#.b.#`, `+/+/+`...) cost no more.
const STEPS_MAX: usize = 100_000;

/// Targets by pattern.
#[derive(Debug)]
pub struct Matcher<T> {
    nodes: Vec<Node<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Node<T> {
    literals: BTreeMap<Bytes, u32>,
    one: Option<u32>,
    any: Option<u32>,
    /// This node is a `#`: it may stay at itself for further levels.
    is_any: bool,
    /// Targets, with whether their pattern hides `$`.
    targets: Vec<(T, bool)>,
}

impl<T> Node<T> {
    fn new(is_any: bool) -> Self {
        Self {
            literals: BTreeMap::new(),
            one: None,
            any: None,
            is_any,
            targets: Vec::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.literals.is_empty()
            && self.one.is_none()
            && self.any.is_none()
            && self.targets.is_empty()
    }

    fn child(&self, token: &Token) -> Option<u32> {
        match token {
            Token::Literal(level) => self.literals.get(level).copied(),
            Token::One => self.one,
            Token::Any => self.any,
        }
    }
}

impl<T> Default for Matcher<T> {
    fn default() -> Self {
        Self {
            nodes: vec![Node::new(false)],
            free: Vec::new(),
        }
    }
}

/// The root's number.
const ROOT: u32 = 0;

impl<T: PartialEq> Matcher<T> {
    /// Adds a target under a pattern. Equal ones are kept as often as they are added.
    pub fn insert(&mut self, pattern: &Pattern, target: T) {
        let mut at = ROOT;
        for token in &pattern.tokens {
            let known = self.node(at).and_then(|node| node.child(token));
            at = match known {
                Some(child) => child,
                None => {
                    let child = self.add(*token == Token::Any);
                    if let Some(node) = self.nodes.get_mut(at as usize) {
                        match token {
                            Token::Literal(level) => {
                                node.literals.insert(level.clone(), child);
                            }
                            Token::One => node.one = Some(child),
                            Token::Any => node.any = Some(child),
                        }
                    }
                    child
                }
            };
        }
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.targets.push((target, pattern.hides_dollar));
        }
    }

    /// Takes one target away; `false` if it was not there. Nodes that nothing needs any more are freed.
    pub fn remove(&mut self, pattern: &Pattern, target: &T) -> bool {
        let mut path = vec![ROOT];
        for token in &pattern.tokens {
            let last = path.last().copied().unwrap_or(ROOT);
            let Some(child) = self.node(last).and_then(|node| node.child(token)) else {
                return false;
            };
            path.push(child);
        }
        let Some(leaf) = path.last().and_then(|at| self.nodes.get_mut(*at as usize)) else {
            return false;
        };
        let wanted = |(known, hides): &(T, bool)| known == target && *hides == pattern.hides_dollar;
        let Some(position) = leaf.targets.iter().position(wanted) else {
            return false;
        };
        leaf.targets.swap_remove(position);
        for depth in (1..path.len()).rev() {
            let (Some(at), Some(parent), Some(token)) = (
                path.get(depth),
                path.get(depth - 1),
                pattern.tokens.get(depth - 1),
            ) else {
                break;
            };
            if !self.node(*at).is_some_and(Node::is_empty) {
                break;
            }
            if let Some(parent) = self.nodes.get_mut(*parent as usize) {
                match token {
                    Token::Literal(level) => {
                        parent.literals.remove(level);
                    }
                    Token::One => parent.one = None,
                    Token::Any => parent.any = None,
                }
            }
            self.free.push(*at);
        }
        true
    }

    /// Every target whose pattern matches these levels. With `literal_root`, only patterns whose first level is
    /// literally the first of these. Returns `false` if the match was cut short by its bound.
    pub fn matches(&self, levels: &[&[u8]], literal_root: bool, found: &mut dyn FnMut(&T)) -> bool {
        let dollar = levels.first().is_some_and(|level| level.starts_with(b"$"));
        // Each (node, depth) at most once, and whether a wildcard stood for the first level on the way there.
        let mut seen: HashSet<(u32, u32, bool), foldhash::fast::FixedState> = HashSet::default();
        let mut open: Vec<(u32, u32, bool)> = vec![(ROOT, 0, false)];
        let mut targets_seen: HashSet<u32, foldhash::fast::FixedState> = HashSet::default();
        let mut steps = 0;
        while let Some((at, depth, wild)) = open.pop() {
            steps += 1;
            if steps > STEPS_MAX {
                return false;
            }
            let Some(node) = self.node(at) else { continue };
            let wild_at_first = |depth: u32| wild || depth == 0;
            if let Some(any) = node.any
                && !(literal_root && depth == 0)
            {
                // `#` may stand for nothing: MQTT's `a/#` matches `a`. At the root it then matches the empty path.
                visit(&mut seen, &mut open, (any, depth, wild_at_first(depth)));
            }
            let Some(level) = levels.get(depth as usize) else {
                if targets_seen.insert(at) {
                    for (target, hides) in &node.targets {
                        if !(dollar && wild && *hides) {
                            found(target);
                        }
                    }
                }
                continue;
            };
            if node.is_any {
                visit(&mut seen, &mut open, (at, depth + 1, wild));
            }
            if let Some(child) = node.literals.get(*level) {
                visit(&mut seen, &mut open, (*child, depth + 1, wild));
            }
            if let Some(one) = node.one
                && !(literal_root && depth == 0)
            {
                visit(&mut seen, &mut open, (one, depth + 1, wild_at_first(depth)));
            }
        }
        true
    }

    fn node(&self, at: u32) -> Option<&Node<T>> {
        self.nodes.get(at as usize)
    }

    fn add(&mut self, is_any: bool) -> u32 {
        if let Some(at) = self.free.pop() {
            if let Some(node) = self.nodes.get_mut(at as usize) {
                *node = Node::new(is_any);
            }
            return at;
        }
        self.nodes.push(Node::new(is_any));
        u32::try_from(self.nodes.len() - 1).unwrap_or(ROOT)
    }
}

/// Goes there, unless it has been there.
fn visit(
    seen: &mut HashSet<(u32, u32, bool), foldhash::fast::FixedState>,
    open: &mut Vec<(u32, u32, bool)>,
    next: (u32, u32, bool),
) {
    if seen.insert(next) {
        open.push(next);
    }
}

#[cfg(test)]
mod tests;
