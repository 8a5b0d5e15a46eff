//! The tables in which nginx finds the server of a host: by hashes of names, and names can be made to have the same hash.
//! Those stand in one bucket, however large the table is. If they need more than the bucket's size, nginx takes the largest
//! table that it may have, where names come together that have only the last bits of their hashes in common; and with more
//! than 64 KiB in a bucket it does not start.

use std::collections::{BTreeMap, BTreeSet};

use model::Host;

use crate::tally::Tally;

/// The most that names with one hash may take: what a bucket of the smallest size that we write holds.
pub(crate) const BUCKET_LIMIT: usize = BUCKET_SIZE as usize - 8;

/// The smallest size of buckets that we write.
pub(super) const BUCKET_SIZE: u64 = 1024;

/// The bucket of a table in which names with one hash are. Names without a star are in one table; the others are looked
/// up part by part from their end, so that there is a table for each beginning of what follows a star.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bucket {
    table: Option<String>,
    hash: u64,
}

/// What is in the buckets.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// Many names with a star have a part in common.
    words: Tally<(Option<String>, String)>,
    taken: BTreeMap<Bucket, usize>,
    overfull: BTreeSet<Bucket>,
}

impl Tables {
    /// Puts a host in that was not there.
    pub fn insert(&mut self, host: &Host) {
        for (table, word) in words(host) {
            if self.words.add((table.clone(), word.to_owned())) {
                self.change(table, word, |taken| taken + size(word));
            }
        }
    }

    /// Takes one out that was.
    pub fn remove(&mut self, host: &Host) {
        for (table, word) in words(host) {
            if self.words.remove(&(table.clone(), word.to_owned())) {
                self.change(table, word, |taken| taken - size(word));
            }
        }
    }

    fn change(&mut self, table: Option<String>, word: &str, change: impl Fn(usize) -> usize) {
        let bucket = Bucket { table, hash: hash(word) };
        let taken = change(self.taken(&bucket));
        match taken > BUCKET_LIMIT {
            true => drop(self.overfull.insert(bucket.clone())),
            false => drop(self.overfull.remove(&bucket)),
        }
        match taken {
            0 => drop(self.taken.remove(&bucket)),
            taken => drop(self.taken.insert(bucket, taken)),
        }
    }

    fn taken(&self, bucket: &Bucket) -> usize {
        self.taken.get(bucket).copied().unwrap_or_default()
    }

    /// The buckets with more in them than they may have.
    pub fn overfull(&self) -> &BTreeSet<Bucket> {
        &self.overfull
    }

    /// Whether a host is found by way of one of those.
    pub fn is_overfull_at(&self, host: &Host) -> bool {
        words(host).any(|(table, word)| self.overfull.contains(&Bucket { table, hash: hash(word) }))
    }
}

impl Bucket {
    /// Whether a host is found by way of it.
    pub fn leads_to(&self, host: &Host) -> bool {
        words(host).any(|(table, word)| self.table == table && self.hash == hash(word))
    }

    /// The bytes in it if these are all hosts that there are.
    pub fn taken_by<'a>(&self, hosts: impl Iterator<Item = &'a Host>) -> usize {
        let mut tables = Tables::default();
        hosts.filter(|host| self.leads_to(host)).for_each(|host| tables.insert(host));
        tables.taken(self)
    }
}

/// The words by which a host is found, each with its table.
fn words(host: &Host) -> impl Iterator<Item = (Option<String>, &str)> {
    let star = host.as_str().strip_prefix("*.");
    let exact = star.is_none().then_some((None, host.as_str()));
    let parts = star.into_iter().flat_map(|rest| {
        let starts = rest.match_indices('.').map(|(dot, _)| dot + 1).chain([0]);
        starts.map(move |start| {
            let (word, table) = rest[start..].split_once('.').unwrap_or((&rest[start..], ""));
            (Some(table.to_owned()), word)
        })
    });
    exact.into_iter().chain(parts)
}

/// nginx's own `ngx_hash_key`.
fn hash(word: &str) -> u64 {
    word.bytes().fold(0_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()))
}

/// What a word takes in a bucket: a pointer, a length and the word, padded to pointers.
fn size(word: &str) -> usize {
    8 + (2 + word.len()).next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of eleven parts, each `an` or `c0`: the hash is the same for all of them.
    fn alike(count: u32) -> impl Iterator<Item = String> {
        (0..count).map(|n| (0..11).map(|bit| if n >> bit & 1 == 0 { "an" } else { "c0" }).collect())
    }

    fn host(name: &str) -> Host {
        Host::parse(name).unwrap()
    }

    #[test]
    fn names_with_one_hash_are_counted_in_the_table_that_they_are_in_and_once() {
        for (before, after) in [("", ""), ("*.", ""), ("*.", ".local"), ("*.a.", ".b.local"), ("", ".local")] {
            let mut tables = Tables::default();
            let name = |word: String| host(&format!("{before}{word}{after}"));
            alike(60).map(name).for_each(|host| tables.insert(&host));
            let [bucket] = tables.overfull().iter().collect::<Vec<_>>()[..] else { panic!("{:?}", tables.overfull()) };
            let bucket = bucket.clone();
            let word = if before.is_empty() { 22 + after.len() } else { 22 };
            assert_eq!(tables.taken(&bucket), 60 * (8 + (2 + word).div_ceil(8) * 8), "{before}{after}");
            assert!(bucket.leads_to(&alike(1).map(name).next().unwrap()) && !bucket.leads_to(&host("an.local")));
            alike(60).map(name).for_each(|host| tables.remove(&host));
            assert_eq!((tables.overfull().len(), tables.taken.len(), tables.words.things().len()), (0, 0, 0));
        }
    }

    #[test]
    fn what_stars_have_in_common_is_there_once() {
        let mut tables = Tables::default();
        (0..10_000).for_each(|n| tables.insert(&host(&format!("*.{n}.example.org"))));
        assert_eq!(tables.overfull().len(), 0);
        assert_eq!(tables.taken(&Bucket { table: Some(String::new()), hash: hash("org") }), size("org"));
    }
}
