//! Splitting many small pieces over few objects, so that a changed piece changes one object.

use std::collections::BTreeMap;

use crate::Digest;

/// One object: the pieces whose keys' digests start with `prefix`, in the order of their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard<T> {
    /// Hexadecimal digits; empty when one object holds everything.
    pub prefix: String,
    /// The pieces with their keys.
    pub pieces: Vec<(String, T)>,
}

/// Splits pieces into shards of at most `limit` bytes by a trie on the digests of their keys: where a
/// shard is too large it is split sixteen ways, and no other shard notices. A single piece over the limit
/// gets a shard of its own; whether that is acceptable the caller decides.
///
/// Digests and not the keys themselves: hosts share long endings, and a trie on them would be lopsided.
pub fn split<T>(pieces: BTreeMap<String, T>, limit: usize, size: impl Fn(&T) -> usize + Copy) -> Vec<Shard<T>> {
    let hashed = pieces.into_iter().map(|(key, piece)| (Digest::of(key.as_bytes()).to_string(), key, piece)).collect();
    let mut shards = Vec::new();
    split_below(String::new(), hashed, limit, size, &mut shards);
    shards
}

fn split_below<T>(
    prefix: String,
    pieces: Vec<(String, String, T)>,
    limit: usize,
    size: impl Fn(&T) -> usize + Copy,
    shards: &mut Vec<Shard<T>>,
) {
    let total: usize = pieces.iter().map(|(_, _, piece)| size(piece)).sum();
    if total <= limit || pieces.len() <= 1 {
        if !pieces.is_empty() {
            shards.push(Shard { prefix, pieces: pieces.into_iter().map(|(_, key, piece)| (key, piece)).collect() });
        }
        return;
    }
    let mut children: BTreeMap<u8, Vec<(String, String, T)>> = BTreeMap::new();
    for piece in pieces {
        children.entry(piece.0.as_bytes()[prefix.len()]).or_default().push(piece);
    }
    for (digit, below) in children {
        split_below(format!("{prefix}{}", char::from(digit)), below, limit, size, shards);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(count: usize) -> BTreeMap<String, String> {
        (0..count).map(|n| (format!("host-{n}"), "x".repeat(100))).collect()
    }

    #[test]
    fn few_pieces_share_one_shard() {
        let shards = split(pieces(10), 1000, |piece| piece.len());
        assert_eq!(shards.len(), 1);
        assert_eq!(shards[0].prefix, "");
        assert_eq!(shards[0].pieces.len(), 10);
    }

    #[test]
    fn every_piece_is_in_exactly_one_shard_within_the_limit() {
        let shards = split(pieces(5000), 4000, |piece| piece.len());
        assert_eq!(shards.iter().map(|shard| shard.pieces.len()).sum::<usize>(), 5000);
        assert!(shards.iter().all(|shard| shard.pieces.len() * 100 <= 4000));
    }

    #[test]
    fn one_more_piece_changes_one_shard() {
        let before = split(pieces(5000), 40_000, |piece| piece.len());
        let after = split(pieces(5001), 40_000, |piece| piece.len());
        let changed = after.iter().filter(|shard| !before.contains(shard)).count();
        assert_eq!(changed, 1);
    }

    #[test]
    fn a_piece_over_the_limit_stands_alone() {
        let shards = split(BTreeMap::from([("a".to_owned(), 10), ("b".to_owned(), 1)]), 5, |size| *size);
        assert_eq!(shards.len(), 2);
    }
}
