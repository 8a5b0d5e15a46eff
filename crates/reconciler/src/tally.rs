//! Sets of which members come and go one by one, by as many as need them.

use std::collections::BTreeMap;

/// How often each thing is there. Only what is there at all is in it.
#[derive(Clone, Debug)]
pub(crate) struct Tally<T>(BTreeMap<T, usize>);

impl<T> Default for Tally<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord> Tally<T> {
    /// Whether it was not there before.
    pub fn add(&mut self, thing: T) -> bool {
        let count = self.0.entry(thing).or_default();
        *count += 1;
        *count == 1
    }

    /// Whether it is not there any more.
    pub fn remove(&mut self, thing: &T) -> bool {
        match self.0.get_mut(thing) {
            Some(count) if *count > 1 => {
                *count -= 1;
                false
            }
            Some(_) => self.0.remove(thing).is_some(),
            None => false,
        }
    }

    pub fn contains(&self, thing: &T) -> bool {
        self.0.contains_key(thing)
    }

    pub fn largest(&self) -> Option<&T> {
        self.0.keys().next_back()
    }

    /// Each thing once.
    pub fn things(&self) -> impl ExactSizeIterator<Item = &T> {
        self.0.keys()
    }
}
