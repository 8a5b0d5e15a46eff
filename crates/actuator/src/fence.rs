//! Which of two operators may write. Each that writes the proxy service leaves its fence on it; one that finds a
//! later fence than its own idles.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::labels;
use serde_json::Value;

/// An operator process, ordered by its start. A chance number tells two apart that start at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence {
    /// In milliseconds since 1970; later than that of every operator whose fence was found at the first look.
    started: u64,
    chance: u32,
}

impl Fence {
    /// The fence of an operator that starts at this time.
    pub fn new(since_1970: Duration, chance: u32) -> Self {
        Self { started: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX), chance }
    }

    /// The fence of an operator that starts now.
    pub fn now() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let chance = RandomState::new().build_hasher().finish();
        Self::new(now, chance as u32)
    }

    /// The fence on a service; none if nobody left one that reads.
    pub fn read(spec: &Value) -> Option<Self> {
        let (started, chance) = spec["Labels"][labels::OPERATOR].as_str()?.split_once('-')?;
        Some(Self { started: started.parse().ok()?, chance: u32::from_str_radix(chance, 16).ok()? })
    }

    /// The same operator's, after one that it found when it started: clocks of two machines differ, and whoever
    /// finds the other's trace was started later, whatever they say.
    pub fn after(self, found: Option<Self>) -> Self {
        match found {
            Some(found) if found >= self => Self { started: found.started.saturating_add(1), ..self },
            Some(_) | None => self,
        }
    }

    /// Leaves it on a spec that is going to be written.
    pub fn leave_on(self, spec: &mut Value) {
        spec["Labels"][labels::OPERATOR] = Value::from(self.to_string());
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:08x}", self.started, self.chance)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fence(milliseconds: u64, chance: u32) -> Fence {
        Fence::new(Duration::from_millis(milliseconds), chance)
    }

    #[test]
    fn it_reads_back_and_is_ordered_by_the_start() {
        let mut spec = json!({"Labels": {"other": "kept"}});
        assert_eq!(Fence::read(&spec), None);
        fence(1_700_000_000_000, 0xab).leave_on(&mut spec);
        assert_eq!(spec["Labels"], json!({"other": "kept", labels::OPERATOR: "1700000000000-000000ab"}));
        assert_eq!(Fence::read(&spec), Some(fence(1_700_000_000_000, 0xab)));
        assert!(fence(9, 9) < fence(10, 0) && fence(10, 0) < fence(10, 1));
        for text in ["", "1", "1-", "-1", "x-1", "1-xyz"] {
            assert_eq!(Fence::read(&json!({"Labels": {labels::OPERATOR: text}})), None, "{text:?}");
        }
    }

    #[test]
    fn whoever_finds_a_fence_comes_after_it() {
        assert_eq!(fence(10, 1).after(None), fence(10, 1));
        assert_eq!(fence(10, 1).after(Some(fence(9, 7))), fence(10, 1));
        for found in [fence(10, 1), fence(10, 2), fence(99, 0)] {
            assert!(fence(10, 1).after(Some(found)) > found);
        }
    }
}
