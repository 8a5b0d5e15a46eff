//! What can go wrong at the Engine, by what a caller should do about it.

use std::fmt;

/// Shorthand for the results of the port.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of failure; policy is written per class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The object is not there (any more).
    NotFound,
    /// Somebody else was faster: the version is out of date, or the name is taken. Look again.
    Conflict,
    /// It cannot be removed while something refers to it.
    InUse,
    /// The Engine understood and says no: the same call will fail again.
    Refused,
    /// No answer: no connection, a timeout, a broken stream.
    Unreachable,
    /// The Engine answers, and the cluster behind it cannot: no leader, not a manager, an internal error.
    Unavailable,
    /// The answer does not read, or is less than was asked for.
    Malformed,
}

impl Class {
    /// The class in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::NotFound => "not_found",
            Class::Conflict => "conflict",
            Class::InUse => "in_use",
            Class::Refused => "refused",
            Class::Unreachable => "unreachable",
            Class::Unavailable => "unavailable",
            Class::Malformed => "malformed",
        }
    }
}

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What to do about it.
    pub class: Class,
    /// What was tried, as a phrase: "list services", "update service dovetail-proxy".
    pub operation: String,
    /// What the Engine or the connection said.
    pub message: String,
}

impl Error {
    /// A failed call.
    pub fn new(class: Class, operation: impl Into<String>, message: impl Into<String>) -> Self {
        Self { class, operation: operation.into(), message: message.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to {}: {}", self.operation, self.message)
    }
}

impl std::error::Error for Error {}
