//! One service's routing labels while they are read: values are handed out, and complaints collected.

use std::collections::BTreeMap;
use std::str::FromStr;

use model::values::ValueError;
use model::{Code, Problem};

/// The longest excerpt of a stranger's value in a problem, in characters: it goes into logs.
const EXCERPT: usize = 200;

/// So many bad items of one list are named one by one; the rest is counted.
pub(super) const NAMED: usize = 20;

/// What booleans may be.
pub(super) const BOOLEAN: &str = "true or false";

pub(super) struct Written<'a> {
    labels: &'a BTreeMap<String, String>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

/// A label that holds a list.
#[derive(Clone, Copy)]
pub(super) struct List<'a> {
    pub label: &'a str,
    pub separator: char,
    pub code: Code,
    /// What several bad items are, as in "3 more of its names are no host names".
    pub bad_items: &'static str,
    pub allowed: &'static str,
}

impl<'a> Written<'a> {
    pub(super) fn new(labels: &'a BTreeMap<String, String>) -> Self {
        Self { labels, problems: Vec::new(), warnings: Vec::new() }
    }

    /// The problems and the warnings so far.
    pub(super) fn complaints(self) -> (Vec<Problem>, Vec<Problem>) {
        (self.problems, self.warnings)
    }

    // === Values ===

    /// As written.
    pub(super) fn raw(&self, label: &str) -> Option<&'a str> {
        self.labels.get(label).map(String::as_str)
    }

    /// Without blanks around; empty is the same as absent.
    pub(super) fn get(&self, label: &str) -> Option<&'a str> {
        self.raw(label).map(trimmed).filter(|value| !value.is_empty())
    }

    pub(super) fn text(&self, label: &str) -> Option<String> {
        self.get(label).map(str::to_owned)
    }

    /// The names of all labels.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.labels.keys().map(String::as_str)
    }

    /// A value with a checking constructor. `complaint` says what any other value is, such as "is no path".
    pub(super) fn value<T: FromStr<Err = ValueError>>(&mut self, label: &str, complaint: &str) -> Option<T> {
        let read = self.get(label)?.parse::<T>();
        read.map_err(|error| self.refuse(Code::BadOption, label, complaint, error.allowed)).ok()
    }

    pub(super) fn boolean(&mut self, label: &str, code: Code) -> Option<bool> {
        let read = boolean(self.get(label)?);
        if read.is_none() {
            self.refuse(code, label, "is neither true nor false", BOOLEAN);
        }
        read
    }

    /// The items of a list of which each reads; bad ones are problems. A separator at the end is forgiven.
    pub(super) fn items<T>(&mut self, list: List<'_>, mut read: impl FnMut(&str) -> Result<T, String>) -> Vec<T> {
        let Some(value) = self.get(list.label) else { return Vec::new() };
        let value = value.strip_suffix(list.separator).unwrap_or(value);
        let mut items = Vec::new();
        let mut bad = 0;
        for item in value.split(list.separator) {
            match read(item) {
                Ok(item) => items.push(item),
                Err(complaint) => {
                    bad += 1;
                    if bad <= NAMED {
                        let problem = Problem::new(list.code, complaint).at(list.label, excerpt(item));
                        self.problem(problem.allowed(list.allowed));
                    }
                }
            }
        }
        if bad > NAMED {
            self.refuse(list.code, list.label, format!("{} more of its {}", bad - NAMED, list.bad_items), list.allowed);
        }
        items
    }

    // === Complaints ===

    pub(super) fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    pub(super) fn warning(&mut self, problem: Problem) {
        self.warnings.push(problem);
    }

    /// Whether there is a problem of this kind so far.
    pub(super) fn has(&self, code: Code) -> bool {
        self.problems.iter().any(|problem| problem.code == code)
    }

    /// Refuses the whole value of a label.
    pub(super) fn refuse(&mut self, code: Code, label: &str, complaint: impl Into<String>, allowed: &str) {
        let problem = Problem::new(code, complaint).at(label, excerpt(self.raw(label).unwrap_or_default()));
        self.problem(problem.allowed(allowed));
    }

    /// Warns of a label that is left out.
    pub(super) fn left_out(&mut self, code: Code, label: &str, why: &str, allowed: &str) {
        let problem = Problem::new(code, why).at(label, excerpt(self.raw(label).unwrap_or_default()));
        self.warning(problem.allowed(allowed));
    }
}

/// The words that Interlock takes, which are those of Go's `strconv.ParseBool`.
pub(super) fn boolean(value: &str) -> Option<bool> {
    match trimmed(value) {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Blanks around a value are forgiven, line breaks are not: the same rule as in [`model::Host::parse`].
pub(super) fn trimmed(value: &str) -> &str {
    value.trim_matches(|c: char| c == ' ' || c == '\t')
}

pub(super) fn excerpt(value: &str) -> String {
    match value.char_indices().nth(EXCERPT) {
        None => value.to_owned(),
        Some((end, _)) => format!("{}...", &value[..end]),
    }
}
