//! Splitting many small pieces over few objects, so that a changed piece changes one object.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use crate::Digest;

/// Pieces in shards of at most `limit` bytes, split by a trie on the digests of their keys: a shard that is too large is
/// split sixteen ways, and no other shard notices. Which shards there are depends on the pieces alone, not on how they
/// came. A single piece over the limit has a shard of its own; whether that is acceptable the caller decides.
///
/// Digests and not the keys themselves: hosts share long endings, and a trie on them would be lopsided.
#[derive(Clone, Debug)]
pub struct Shards<T> {
    limit: usize,
    /// By prefix: the hexadecimal digits that the digests of all keys in it begin with; empty when one shard holds
    /// everything. No prefix begins with another one, and no shard is empty.
    shards: BTreeMap<String, Shard<T>>,
    /// The prefixes of shards that changed, came or went.
    touched: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct Shard<T> {
    size: usize,
    pieces: BTreeMap<String, (usize, T)>,
}

impl<T> Default for Shard<T> {
    fn default() -> Self {
        Self { size: 0, pieces: BTreeMap::new() }
    }
}

impl<T> Shard<T> {
    fn insert(&mut self, key: String, size: usize, piece: T) {
        self.size += size;
        if let Some((before, _)) = self.pieces.insert(key, (size, piece)) {
            self.size -= before;
        }
    }
}

impl<T> Shards<T> {
    /// No pieces yet.
    pub fn new(limit: usize) -> Self {
        Self { limit, shards: BTreeMap::new(), touched: BTreeSet::new() }
    }

    /// Puts in a piece of `size` bytes, in the place of the one with this key if there is one.
    pub fn insert(&mut self, key: &str, size: usize, piece: T) {
        let prefix = self.prefix_of(key);
        self.shards.entry(prefix.clone()).or_default().insert(key.to_owned(), size, piece);
        self.settle(prefix);
    }

    /// Takes out the piece with this key, if it is there.
    pub fn remove(&mut self, key: &str) {
        let prefix = self.prefix_of(key);
        let Some(shard) = self.shards.get_mut(&prefix) else { return };
        if let Some((size, _)) = shard.pieces.remove(key) {
            shard.size -= size;
            self.settle(prefix);
        }
    }

    /// The shards that changed since the last call, by prefix: their pieces in the order of the keys, or `None` of one
    /// that is gone.
    pub fn changes(&mut self) -> BTreeMap<String, Option<Vec<&T>>> {
        let pieces = |prefix: &String| {
            self.shards.get(prefix).map(|shard| shard.pieces.values().map(|(_, piece)| piece).collect())
        };
        mem::take(&mut self.touched).into_iter().map(|prefix| (prefix.clone(), pieces(&prefix))).collect()
    }

    /// The prefix of the shard that a key belongs to, whether there is one yet or not.
    fn prefix_of(&self, key: &str) -> String {
        let mut digits = Digest::of(key.as_bytes()).to_string();
        let before = self.shards.range(..=digits.clone()).next_back().map(|(prefix, _)| prefix);
        if let Some(prefix) = before.filter(|prefix| digits.starts_with(prefix.as_str())) {
            return prefix.clone();
        }
        // What its neighbours have in common with it is split, and one digit more is not.
        let after = self.shards.range(digits.clone()..).next().map(|(prefix, _)| prefix);
        let in_common =
            |other: &String| digits.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count();
        let split = before.into_iter().chain(after).map(|other| in_common(other) + 1).max();
        digits.truncate(split.unwrap_or(0));
        digits
    }

    /// Brings everything back into its only form after a change in one shard.
    fn settle(&mut self, prefix: String) {
        if self.shards.get(&prefix).is_some_and(|shard| shard.pieces.is_empty()) {
            self.shards.remove(&prefix);
        }
        self.touched.insert(prefix.clone());
        match self.shards.get(&prefix) {
            Some(shard) if !self.fits(shard.size, shard.pieces.len()) => self.split(prefix),
            Some(_) | None => self.join(prefix),
        }
    }

    fn fits(&self, size: usize, pieces: usize) -> bool {
        size <= self.limit || pieces <= 1
    }

    fn split(&mut self, prefix: String) {
        let Some(shard) = self.shards.remove(&prefix) else { return };
        let mut below = BTreeSet::new();
        for (key, (size, piece)) in shard.pieces {
            let mut digits = Digest::of(key.as_bytes()).to_string();
            digits.truncate(prefix.len() + 1);
            self.shards.entry(digits.clone()).or_default().insert(key, size, piece);
            below.insert(digits);
        }
        for prefix in below {
            self.touched.insert(prefix.clone());
            if self.shards.get(&prefix).is_some_and(|shard| !self.fits(shard.size, shard.pieces.len())) {
                self.split(prefix);
            }
        }
    }

    /// Joins what was split for something that is not there any more.
    fn join(&mut self, mut prefix: String) {
        while prefix.pop().is_some() {
            let split = || self.shards.range(prefix.clone()..).take_while(|(below, _)| below.starts_with(&prefix));
            let sizes = split().map(|(_, shard)| (shard.size, shard.pieces.len()));
            let (size, pieces) = sizes.fold((0, 0), |sum, shard| (sum.0 + shard.0, sum.1 + shard.1));
            if !self.fits(size, pieces) {
                return;
            }
            let mut joined = Shard::default();
            for below in split().map(|(below, _)| below.clone()).collect::<Vec<_>>() {
                if let Some(shard) = self.shards.remove(&below) {
                    joined.size += shard.size;
                    joined.pieces.extend(shard.pieces);
                }
                self.touched.insert(below);
            }
            self.touched.insert(prefix.clone());
            if !joined.pieces.is_empty() {
                self.shards.insert(prefix.clone(), joined);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shards<'a>(pieces: impl IntoIterator<Item = &'a (String, usize)>, limit: usize) -> Shards<(String, usize)> {
        let mut shards = Shards::new(limit);
        for (key, size) in pieces {
            shards.insert(key, *size, (key.clone(), *size));
        }
        shards
    }

    fn pieces(count: usize) -> Vec<(String, usize)> {
        (0..count).map(|n| (format!("host-{n}"), 100)).collect()
    }

    /// Everything that is there.
    fn all(mut shards: Shards<(String, usize)>) -> BTreeMap<String, Vec<(String, usize)>> {
        let changes = shards.changes().into_iter();
        changes.filter_map(|(prefix, pieces)| Some((prefix, pieces?.into_iter().cloned().collect()))).collect()
    }

    #[test]
    fn few_pieces_share_one_shard() {
        let shards = all(shards(&pieces(10), 1000));
        assert_eq!(shards.len(), 1);
        assert_eq!(shards[""].len(), 10);
    }

    #[test]
    fn every_piece_is_in_exactly_one_shard_within_the_limit() {
        let shards = all(shards(&pieces(5000), 4000));
        assert_eq!(shards.values().map(Vec::len).sum::<usize>(), 5000);
        assert!(shards.values().all(|pieces| pieces.len() * 100 <= 4000));
    }

    #[test]
    fn one_more_piece_changes_one_shard() {
        let mut shards = shards(&pieces(5000), 40_000);
        shards.changes();
        shards.insert("host-5000", 100, ("host-5000".into(), 100));
        assert_eq!(shards.changes().len(), 1);
        assert_eq!(shards.changes().len(), 0);
    }

    #[test]
    fn a_piece_over_the_limit_stands_alone() {
        assert_eq!(all(shards(&[("a".into(), 10), ("b".into(), 1)], 5)).len(), 2);
        assert_eq!(all(shards(&[("a".into(), 10)], 5)).into_keys().collect::<Vec<_>>(), [""]);
    }

    proptest! {
        /// And whoever follows the changes has what is there.
        #[test]
        fn how_the_pieces_came_is_irrelevant(
            steps in prop::collection::vec((0..60_usize, prop::option::of(0..60_usize)), 0..200),
            limit in 1..200_usize,
        ) {
            let (mut now, mut followed) = (BTreeMap::new(), BTreeMap::new());
            let mut kept = Shards::new(limit);
            for (n, (key, size)) in steps.into_iter().enumerate() {
                let key = format!("host-{key}");
                match size {
                    Some(size) => {
                        kept.insert(&key, size, (key.clone(), size));
                        now.insert(key, size);
                    }
                    None => {
                        kept.remove(&key);
                        now.remove(&key);
                    }
                }
                if n % 3 == 0 {
                    for (prefix, pieces) in kept.changes() {
                        match pieces {
                            Some(pieces) => drop(followed.insert(prefix, pieces.into_iter().cloned().collect::<Vec<_>>())),
                            None => drop(followed.remove(&prefix)),
                        }
                    }
                    let pieces: Vec<(String, usize)> = now.clone().into_iter().collect();
                    prop_assert_eq!(&followed, &all(shards(&pieces, limit)));
                }
            }
        }
    }
}
