//! The trie: patterns of both languages, matched at once.
//!
//! Nodes are numbered slots of 28 bytes, branches are entries of one hash map from a node and a level's number, and a
//! level is kept once however many patterns name it. Nothing is copied as the trie grows, and what is removed gives
//! its memory back.

mod arena;
mod levels;
mod sharded;

use crate::route::targets::Targets;
use crate::route::{Pattern, Token};
use arena::Arena;
use levels::Levels;
use sharded::Sharded;
use smallvec::SmallVec;
use std::collections::HashSet;

/// Nodes that one match may visit in vain, at the most: hostile patterns (`#.a.#.b.#`, `+/+/+`...) cost no more. It is
/// what fourteen levels take of which each may be any or this one.
const STEPS_MAX: usize = 1 << 15;

/// No node, no targets.
const NONE: u32 = u32::MAX;

/// Targets by pattern.
#[derive(Debug)]
pub struct Matcher<T> {
    root: u32,
    nodes: Arena<Node>,
    /// The child behind a literal level: by node and level.
    branches: Sharded<(u32, u32), u32>,
    levels: Levels,
    targets: Arena<Targets<T>>,
}

#[derive(Debug)]
struct Node {
    one: u32,
    any: u32,
    targets: u32,
    /// Its children behind literal levels: the first, and their neighbours.
    first: u32,
    next: u32,
    previous: u32,
    kind: Kind,
}

/// What a node's place in the patterns says of it.
#[derive(Debug, Clone, Copy, Default)]
struct Kind {
    /// It is a `#`: it may stay at itself for further levels.
    is_any: bool,
    /// It is a `#`, or below one.
    below_any: bool,
    /// It is a `#` below another: several ways lead there, at the same depth, too.
    nested: bool,
    /// A wildcard stands for the first level.
    wild: bool,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            one: NONE,
            any: NONE,
            targets: NONE,
            first: NONE,
            next: NONE,
            previous: NONE,
            kind: Kind::default(),
        }
    }
}

impl Node {
    fn is_leaf(&self) -> bool {
        self.first == NONE && self.one == NONE && self.any == NONE
    }
}

impl<T> Default for Matcher<T> {
    fn default() -> Self {
        Self {
            root: NONE,
            nodes: Arena::default(),
            branches: Sharded::default(),
            levels: Levels::default(),
            targets: Arena::default(),
        }
    }
}

impl<T: Ord> Matcher<T> {
    /// Adds a target under a pattern. Equal ones are kept as often as they are added.
    pub fn insert<L: AsRef<[u8]>>(&mut self, pattern: &Pattern<L>, target: T) {
        if self.root == NONE {
            self.root = self.nodes.add(Node::default());
        }
        let mut at = self.root;
        let mut tokens = pattern.tokens.iter();
        while let Some(token) = tokens.as_slice().first()
            && let Some((child, _)) = self.child(at, token)
        {
            at = child;
            tokens.next();
        }
        // There is nothing below a new node.
        for token in tokens {
            at = self.grow(at, token);
        }
        let Some(node) = self.nodes.get_mut(at) else {
            return;
        };
        if node.targets == NONE {
            node.targets = self.targets.add(Targets::default());
        }
        if let Some(targets) = self.targets.get_mut(node.targets) {
            targets.add(target, pattern.hides_dollar);
        }
    }

    /// Takes one target away; `false` if it was not there. Nodes that nothing needs any more are freed.
    pub fn remove<L: AsRef<[u8]>>(&mut self, pattern: &Pattern<L>, target: T) -> bool {
        if self.root == NONE {
            return false;
        }
        // Each node above, and the number of the level by which it is left.
        let mut path: SmallVec<[(u32, u32); 8]> = SmallVec::new();
        let mut at = self.root;
        for token in &pattern.tokens {
            let Some((child, level)) = self.child(at, token) else {
                return false;
            };
            path.push((at, level));
            at = child;
        }
        let Some(leaf) = self.nodes.get_mut(at) else {
            return false;
        };
        let Some(targets) = self.targets.get_mut(leaf.targets) else {
            return false;
        };
        if !targets.remove(target, pattern.hides_dollar) {
            return false;
        }
        if targets.is_empty() {
            self.targets.take(leaf.targets);
            leaf.targets = NONE;
        }
        for ((parent, level), token) in path.into_iter().zip(&pattern.tokens).rev() {
            if !self.is_useless(at) {
                return true;
            }
            self.cut(parent, token, level, at);
            at = parent;
        }
        if self.is_useless(at) {
            self.nodes.take(at);
            self.root = NONE;
        }
        true
    }

    /// Every target whose pattern matches these levels. With `literal_root`, only patterns whose first level is
    /// literally the first of these. Returns `false` if the match was cut short by its bound.
    pub fn matches(&self, levels: &[&[u8]], literal_root: bool, found: &mut dyn FnMut(&T)) -> bool {
        if self.root == NONE {
            return true;
        }
        let dollar = levels.first().is_some_and(|level| level.starts_with(b"$"));
        let numbers: SmallVec<[Option<u32>; 16]> = levels
            .iter()
            .map(|level| self.levels.number(level))
            .collect();
        let mut open: SmallVec<[(u32, u32); 32]> = SmallVec::new();
        open.push((self.root, 0));
        // Where several ways lead, each node and depth once.
        let mut seen: HashSet<(u32, u32), foldhash::fast::FixedState> = HashSet::default();
        let mut steps = 0;
        while let Some((at, depth)) = open.pop() {
            let Some(node) = self.nodes.get(at) else {
                continue;
            };
            // A `#` that ends its pattern takes all that is left, wherever it is entered.
            let is_end = node.kind.is_any && node.is_leaf();
            if node.kind.nested && !seen.insert((at, if is_end { 0 } else { depth })) {
                continue;
            }
            steps += 1;
            if steps > STEPS_MAX {
                return false;
            }
            let wildcards = !(literal_root && depth == 0);
            if wildcards && node.any != NONE {
                // `#` may stand for nothing: MQTT's `a/#` matches `a`. At the root it then matches the empty path.
                open.push((node.any, depth));
            }
            let Some(level) = numbers.get(depth as usize) else {
                steps -= self.report(node, dollar, found);
                continue;
            };
            if is_end {
                steps -= self.report(node, dollar, found);
                continue;
            }
            if node.kind.is_any {
                open.push((at, depth + 1));
            }
            if let Some(level) = level
                && node.first != NONE
                && let Some(child) = self.branches.get(&(at, *level))
            {
                open.push((*child, depth + 1));
            }
            if wildcards && node.one != NONE {
                open.push((node.one, depth + 1));
            }
        }
        true
    }

    /// Every target whose pattern begins literally with this level, and with `wild` also those that begin with a
    /// wildcard; one may come several times.
    pub fn beginning_with(&self, level: &[u8], wild: bool, found: &mut dyn FnMut(&T)) {
        let Some(root) = self.nodes.get(self.root) else {
            return;
        };
        let mut open = Vec::new();
        if let Some(level) = self.levels.number(level) {
            open.extend(self.branches.get(&(self.root, level)));
        }
        if wild {
            open.extend([root.one, root.any]);
        }
        self.below(open, found);
    }

    /// Every target there is; one may come several times.
    pub fn every(&self, found: &mut dyn FnMut(&T)) {
        self.below(vec![self.root], found);
    }

    /// Every target at these nodes and below them.
    fn below(&self, mut open: Vec<u32>, found: &mut dyn FnMut(&T)) {
        while let Some(at) = open.pop() {
            let Some(node) = self.nodes.get(at) else {
                continue;
            };
            if let Some(targets) = self.targets.get(node.targets) {
                targets.each(&mut |target, _| found(target));
            }
            open.extend([node.one, node.any]);
            let mut child = node.first;
            while let Some(node) = self.nodes.get(child) {
                open.push(child);
                child = node.next;
            }
        }
    }

    /// Bytes that it has taken, as near as can be said.
    pub fn bytes(&self) -> usize {
        self.nodes.bytes()
            + self.branches.bytes()
            + self.levels.taken_bytes()
            + self.targets.bytes()
            + self.targets.each().map(Targets::bytes).sum::<usize>()
    }

    /// Tells of a node's targets; says whether there were any.
    fn report(&self, node: &Node, dollar: bool, found: &mut dyn FnMut(&T)) -> usize {
        let Some(targets) = self.targets.get(node.targets) else {
            return 0;
        };
        let hidden = dollar && node.kind.wild;
        targets.each(&mut |target, hides| {
            if !(hidden && hides) {
                found(target);
            }
        });
        1
    }

    /// The child behind a token, and the level's number if it is a literal one.
    fn child<L: AsRef<[u8]>>(&self, at: u32, token: &Token<L>) -> Option<(u32, u32)> {
        let node = self.nodes.get(at)?;
        let (child, level) = match token {
            Token::Literal(_) if node.first == NONE => return None,
            Token::Literal(level) => {
                let level = self.levels.number(level.as_ref())?;
                (*self.branches.get(&(at, level))?, level)
            }
            Token::One => (node.one, NONE),
            Token::Any => (node.any, NONE),
        };
        (child != NONE).then_some((child, level))
    }

    /// Adds a child that isn't there.
    fn grow<L: AsRef<[u8]>>(&mut self, at: u32, token: &Token<L>) -> u32 {
        let Some(parent) = self.nodes.get(at) else {
            return NONE;
        };
        let (above, first) = (parent.kind, parent.first);
        let is_any = matches!(token, Token::Any);
        let kind = Kind {
            is_any,
            below_any: above.below_any || is_any,
            nested: above.below_any && is_any,
            wild: above.wild || at == self.root && !matches!(token, Token::Literal(_)),
        };
        let mut node = Node {
            kind,
            ..Node::default()
        };
        let child = match token {
            Token::Literal(level) => {
                node.next = first;
                let child = self.nodes.add(node);
                if let Some(neighbour) = self.nodes.get_mut(first) {
                    neighbour.previous = child;
                }
                let level = self.levels.take(level.as_ref());
                self.branches.insert((at, level), child);
                child
            }
            _ => self.nodes.add(node),
        };
        if let Some(parent) = self.nodes.get_mut(at) {
            match token {
                Token::Literal(_) => parent.first = child,
                Token::One => parent.one = child,
                Token::Any => parent.any = child,
            }
        }
        child
    }

    fn is_useless(&self, at: u32) -> bool {
        self.nodes
            .get(at)
            .is_some_and(|node| node.is_leaf() && node.targets == NONE)
    }

    /// Takes a child away that nothing needs, behind a literal level of this number or a wildcard.
    fn cut<L: AsRef<[u8]>>(&mut self, parent: u32, token: &Token<L>, number: u32, child: u32) {
        let gone = self.nodes.take(child);
        if let Token::Literal(level) = token {
            self.branches.remove(&(parent, number));
            self.levels.release(level.as_ref());
            if let Some(next) = self.nodes.get_mut(gone.next) {
                next.previous = gone.previous;
            }
            if let Some(previous) = self.nodes.get_mut(gone.previous) {
                previous.next = gone.next;
                return;
            }
        }
        let Some(parent) = self.nodes.get_mut(parent) else {
            return;
        };
        match token {
            Token::Literal(_) => parent.first = gone.next,
            Token::One => parent.one = NONE,
            Token::Any => parent.any = NONE,
        }
    }
}

#[cfg(test)]
mod tests;
