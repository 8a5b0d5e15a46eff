//! What of the cluster cannot be read, told once.

use std::collections::BTreeSet;

use crate::reading::Scope;

/// What failed since everything was last read without an error.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gaps(BTreeSet<String>);

/// What is to be said after a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// This fails, and did not before.
    Fails(String),
    /// Nothing fails any more.
    Over,
}

impl Gaps {
    /// Takes in what failed in a pass that read `scope`. A pass that did not ask for everything knows nothing of what it
    /// did not ask for: it adds, and only one over everything says what is over.
    pub(crate) fn update(&mut self, scope: &Scope, failing: BTreeSet<String>) -> Vec<News> {
        let mut news: Vec<News> = failing.difference(&self.0).cloned().map(News::Fails).collect();
        match scope {
            Scope::Everything => {
                if failing.is_empty() && !self.0.is_empty() {
                    news.push(News::Over);
                }
                self.0 = failing;
            }
            Scope::Services(_) | Scope::Tasks(_) => self.0.extend(failing),
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_that_did_not_ask_for_what_fails_does_not_call_it_over() {
        let mut gaps = Gaps::default();
        let mut update = |scope: &Scope, failing: &[&str]| {
            let news = gaps.update(scope, failing.iter().map(|error| (*error).to_owned()).collect());
            let told = news.into_iter().map(|news| match news {
                News::Fails(error) => error,
                News::Over => "over".into(),
            });
            told.collect::<Vec<String>>()
        };
        let some = Scope::Services(BTreeSet::new());
        let few = Scope::Tasks(BTreeSet::new());
        for (scope, failing, told) in [
            (&Scope::Everything, &[][..], &[][..]),
            (&Scope::Everything, &["tasks"], &["tasks"]),
            (&some, &[], &[]),
            (&few, &[], &[]),
            (&Scope::Everything, &["tasks"], &[]),
            (&some, &["network"], &["network"]),
            (&few, &["network"], &[]),
            // One of two is over: the other still fails.
            (&Scope::Everything, &["network"], &[]),
            (&some, &[], &[]),
            (&Scope::Everything, &[], &["over"]),
            (&Scope::Everything, &[], &[]),
            (&few, &["tasks"], &["tasks"]),
        ] {
            assert_eq!(update(scope, failing), told, "{scope:?}, {failing:?}");
        }
    }
}
