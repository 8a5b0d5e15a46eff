//! Finding out who is to blame: what failed together is tried again by halves.
//!
//! # Laws
//! - What is known to fail is never tried again: no set that failed is among what is tried, whole.
//! - Something is tried as long as anybody is kept out who may be innocent, so it comes to an end.
//! - With one culprit among n, it is found and every other is let through within log2(n) + 1 rollouts.

use std::collections::BTreeSet;

/// Who is kept out of the next try. Each of `failed` is a set whose members failed together on top of what works;
/// members that work by now are left out of it, and those that nobody asks for any more are not. `present` is who
/// asks.
///
/// A set of one is a culprit. A set with a culprit in it says nothing about its other members: they are tried. Of the
/// other sets the smallest is halved, and its first half is tried. Whatever comes of it, the next call knows more:
/// the half works and leaves the set, or is a smaller set that failed.
pub(crate) fn kept_out<U: Ord + Clone>(failed: &[BTreeSet<U>], present: &BTreeSet<U>) -> BTreeSet<U> {
    let alone = failed.iter().filter(|set| set.len() == 1).flatten();
    let culprits: BTreeSet<U> = alone.filter(|unit| present.contains(*unit)).cloned().collect();
    let open: Vec<BTreeSet<&U>> = failed
        .iter()
        .filter(|set| set.is_disjoint(&culprits))
        .map(|set| set.intersection(present).collect())
        .filter(|set: &BTreeSet<&U>| !set.is_empty())
        .collect();
    let mut out = culprits;
    out.extend(open.iter().flatten().map(|unit| (*unit).clone()));
    if let Some(smallest) = open.iter().min_by_key(|set| (set.len(), (*set).clone())) {
        // One that is alone here had company that is gone: together they failed, alone it is not proven.
        let half = (smallest.len() / 2).max(1);
        for unit in smallest.iter().take(half) {
            out.remove(*unit);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(text: &str) -> BTreeSet<char> {
        text.chars().collect()
    }

    #[test]
    fn halves_are_tried_until_the_culprit_stands_alone() {
        for (failed, present, expected) in [
            (&[][..], "abc", ""),
            (&["a"], "abc", "a"),
            (&["a"], "bc", ""),
            (&["abcd"], "abcdx", "cd"),
            // The half worked.
            (&["cd"], "abcdx", "d"),
            // The half failed too.
            (&["abcd", "ab"], "abcdx", "bcd"),
            // The first of it as well: it is the culprit, and its company goes free.
            (&["abcd", "ab", "a"], "abcdx", "a"),
            // One of three went away or changed: the others are heard by halves.
            (&["abc"], "ab", "b"),
            (&["abc"], "b", ""),
            // Two that failed apart.
            (&["ab", "cd"], "abcd", "bcd"),
            (&["abc", "bc"], "abc", "ac"),
        ] {
            let failed: Vec<BTreeSet<char>> = failed.iter().map(|text| set(text)).collect();
            assert_eq!(kept_out(&failed, &set(present)), set(expected), "{failed:?} {present}");
        }
    }

    /// Rolls out what is let through until everybody innocent works, and answers how many rollouts it took.
    fn rollouts(count: u32, guilty: &BTreeSet<u32>) -> usize {
        let present: BTreeSet<u32> = (0..count).collect();
        let mut good: BTreeSet<u32> = BTreeSet::new();
        // They came together, and that failed.
        let mut failed = vec![present.clone()];
        for rollout in 0..1000 {
            let known: Vec<BTreeSet<u32>> =
                failed.iter().map(|set| set - &good).filter(|set| !set.is_empty()).collect();
            let out = kept_out(&known, &present);
            let tried: BTreeSet<u32> = &(&present - &out) - &good;
            assert!(known.iter().all(|set| !set.is_subset(&tried)), "known to fail");
            if tried.is_empty() {
                assert_eq!(good, &present - guilty, "every innocent one works");
                assert_eq!(&out, guilty);
                return rollout;
            }
            if tried.is_disjoint(guilty) {
                good.extend(tried);
            } else {
                failed.push(tried);
            }
        }
        panic!("it does not end");
    }

    #[test]
    fn one_culprit_is_found_in_log2_rollouts_and_one_more() {
        for count in 1..=70_u32 {
            for culprit in 0..count {
                let limit = count.next_power_of_two().trailing_zeros() as usize + 1;
                let took = rollouts(count, &BTreeSet::from([culprit]));
                assert!(took <= limit, "{culprit} of {count} took {took} rollouts");
            }
        }
    }

    proptest! {
        #[test]
        fn it_ends_with_any_culprits(count in 1..40_u32, guilty in prop::collection::btree_set(0..40_u32, 1..6)) {
            let guilty: BTreeSet<u32> = guilty.into_iter().filter(|unit| *unit < count).collect();
            prop_assume!(!guilty.is_empty());
            let limit = guilty.len() * (count.next_power_of_two().trailing_zeros() as usize + 2);
            let took = rollouts(count, &guilty);
            prop_assert!(took <= limit, "{guilty:?} of {count} took {took}");
        }
    }
}
