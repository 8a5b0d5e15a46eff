//! What there is to say about single options.

use serde::Serialize;

/// One option of the file that is not simply taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// Its line, from 1.
    pub line: usize,
    /// Its name from the top, as written.
    pub option: String,
    /// Its value as written; none for tables and passwords.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What became of an option.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Another value is taken.
    Changed {
        /// The key of ours.
        key: String,
        /// Its value.
        becomes: String,
        /// Why.
        reason: String,
    },
    /// It is taken over, and somebody should think about it.
    Kept {
        /// The key of ours.
        key: String,
        /// What to think about.
        reason: String,
    },
    /// It has no counterpart, or none that is needed.
    Dropped {
        /// Why.
        reason: String,
    },
    /// Nobody knows it.
    Unknown {
        /// The nearest name that is known, if one is near.
        nearest: Option<String>,
    },
}

impl std::fmt::Display for Remark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.option)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        match &self.outcome {
            Outcome::Changed { key, becomes, reason } => write!(f, ": {key}: {becomes}, because {reason}"),
            Outcome::Kept { key, reason } => write!(f, ": {key}; {reason}"),
            Outcome::Dropped { reason } => write!(f, ": {reason}"),
            Outcome::Unknown { nearest: Some(nearest) } => write!(f, ": is {nearest} meant?"),
            Outcome::Unknown { nearest: None } => Ok(()),
        }
    }
}
