//! One service's routing labels while they are read: values are handed out, and complaints collected.

use std::collections::BTreeMap;
use std::str::FromStr;

use model::values::ValueError;
use model::{Code, Problem};

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

    /// As written, but for a line break at the end.
    pub(super) fn raw(&self, label: &str) -> Option<&'a str> {
        self.labels.get(label).map(|value| without_final_break(value))
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

    /// The items of a list of which each reads; bad ones are problems.
    pub(super) fn items<T>(&mut self, list: List<'_>, mut read: impl FnMut(&str) -> Result<T, String>) -> Vec<T> {
        let Some(value) = self.get(list.label) else { return Vec::new() };
        let mut items = Vec::new();
        let mut bad = 0;
        for item in parts(value, list.separator) {
            match read(item) {
                Ok(item) => items.push(item),
                Err(complaint) => {
                    bad += 1;
                    if bad <= NAMED {
                        let problem = Problem::new(list.code, complaint).at(list.label, item);
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

    /// Warns of many things: of the first one by one, and of the rest by their number.
    pub(super) fn warn_of<T>(
        &mut self,
        things: &[T],
        each: impl Fn(&T) -> Problem,
        rest: impl FnOnce(usize) -> Problem,
    ) {
        let (named, more) = things.split_at(things.len().min(NAMED));
        self.warnings.extend(named.iter().map(each));
        if !more.is_empty() {
            self.warnings.push(rest(more.len()));
        }
    }

    /// Whether there is a problem of this kind so far.
    pub(super) fn has(&self, code: Code) -> bool {
        self.problems.iter().any(|problem| problem.code == code)
    }

    /// Refuses the whole value of a label.
    pub(super) fn refuse(&mut self, code: Code, label: &str, complaint: impl Into<String>, allowed: &str) {
        let problem = Problem::new(code, complaint).at(label, self.raw(label).unwrap_or_default());
        self.problem(problem.allowed(allowed));
    }

    /// Warns of a label that is left out.
    pub(super) fn left_out(&mut self, code: Code, label: &str, why: &str, allowed: &str) {
        let problem = Problem::new(code, why).at(label, self.raw(label).unwrap_or_default());
        self.warnings.push(problem.allowed(allowed));
    }
}

/// The items of a list. A separator at the end is forgiven.
pub(super) fn parts(value: &str, separator: char) -> impl Iterator<Item = &str> {
    value.strip_suffix(separator).unwrap_or(value).split(separator)
}

/// The words that Interlock takes, which are those of Go's `strconv.ParseBool`.
pub(super) fn boolean(value: &str) -> Option<bool> {
    match trimmed(value) {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// YAML's folded and literal scalars (`>`, `|`) end in a line break, which nobody means.
pub(super) fn without_final_break(value: &str) -> &str {
    let Some(line) = value.strip_suffix('\n') else { return value };
    line.strip_suffix('\r').unwrap_or(line)
}

/// Blanks around a value are forgiven, line breaks are not: the same rule as in [`model::Host::parse`].
pub(super) fn trimmed(value: &str) -> &str {
    value.trim_matches(|c: char| c == ' ' || c == '\t')
}
