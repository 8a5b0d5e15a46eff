//! Who is suspected of having made a rollout fail. A held generation must not freeze everyone's routing:
//! only the services whose contribution it brought in are held back, each by its own digest.

use std::sync::Arc;

use model::{Contribution, Hold, Manifest, ServiceId};

/// What the holds say about one contribution.
#[derive(Debug, PartialEq)]
pub(crate) enum Standing {
    /// It is served as it is.
    Clear,
    /// It came with a generation that failed.
    Suspect {
        /// What happened to that generation.
        reason: String,
        /// What to serve meanwhile; none if the service was not in the last good generation.
        last_good: Option<Arc<Contribution>>,
    },
}

/// Judges one contribution. Not contributing is never suspect: withdrawing a service cannot be held back, or a
/// service that is gone would be served for ever. A service that changed since has another digest and is heard anew.
pub(crate) fn judge(id: &ServiceId, contribution: &Contribution, last_good: &Manifest, holds: &[Hold]) -> Standing {
    if holds.is_empty() {
        return Standing::Clear;
    }
    let digest = contribution.digest();
    let good = last_good.services.get(id);
    if good.is_some_and(|good| good.fragment == digest) {
        return Standing::Clear;
    }
    match holds.iter().find(|hold| hold.fragments.get(id) == Some(&digest)) {
        None => Standing::Clear,
        Some(hold) => Standing::Suspect {
            reason: hold.reason.clone(),
            last_good: good.map(|good| Arc::new(good.contribution.clone())),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::{BackendMode, Digest};

    use super::*;
    use crate::sample::{contribution, manifest};

    #[test]
    fn a_contribution_is_suspect_if_a_hold_brought_it_in() {
        let version = |n: u8| contribution("a", "a.local", BackendMode::Task, "n1", &format!("10.0.0.{n}:80"));
        let id = ServiceId::new("a");
        let hold = |n: Option<u8>| Hold {
            generation: Digest::of(b"held"),
            fragments: n.map(|n| (id.clone(), version(n).digest())).into_iter().collect::<BTreeMap<_, _>>(),
            reason: format!("{n:?} failed"),
        };
        let empty = manifest(&[]);
        let good = manifest(&[("a", version(1))]);
        let suspect = |reason: &str, served: Option<u8>| Standing::Suspect {
            reason: reason.to_owned(),
            last_good: served.map(|n| Arc::new(version(n))),
        };
        for (what, now, last_good, holds, expect) in [
            ("no holds", 1, &empty, vec![], Standing::Clear),
            ("it was good and did not change", 1, &good, vec![hold(Some(1))], Standing::Clear),
            ("its change failed", 2, &good, vec![hold(Some(2))], suspect("Some(2) failed", Some(1))),
            ("its first publication failed", 2, &empty, vec![hold(Some(2))], suspect("Some(2) failed", None)),
            ("it changed since", 3, &good, vec![hold(Some(2))], Standing::Clear),
            ("it went back to what was good", 1, &good, vec![hold(Some(2))], Standing::Clear),
            ("any of several holds", 2, &good, vec![hold(Some(3)), hold(Some(2))], suspect("Some(2) failed", Some(1))),
            ("the hold withdrew it, and it is back", 2, &good, vec![hold(None)], Standing::Clear),
        ] {
            assert_eq!(judge(&id, &version(now), last_good, &holds), expect, "{what}");
        }
    }
}
