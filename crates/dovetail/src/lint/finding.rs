//! What is found in a stack file.

use model::Problem;
use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The service is not routed, or docker refuses the file.
    Problem,
    /// It is routed, and not as somebody may think.
    Warning,
    /// Good to know.
    Note,
}

impl Severity {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Severity::Problem => "problem",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

/// Something that is found, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The line, from 1.
    pub line: usize,
    /// How bad it is.
    pub severity: Severity,
    /// The service, by its name in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// What kind it is; stable, for programs.
    pub code: String,
    /// The label, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Its value, with variables put in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// A sentence for people, without the label and its value.
    pub message: String,
    /// What would be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<String>,
    /// Lines for the file, ready to be put in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paste: Vec<String>,
}

impl Finding {
    /// A problem.
    pub fn problem(code: &str, line: usize, message: impl Into<String>) -> Self {
        Self::new(Severity::Problem, code, line, message)
    }

    /// A warning.
    pub fn warning(code: &str, line: usize, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, line, message)
    }

    /// A note.
    pub fn note(code: &str, line: usize, message: impl Into<String>) -> Self {
        Self::new(Severity::Note, code, line, message)
    }

    fn new(severity: Severity, code: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            line,
            severity,
            service: None,
            code: code.to_owned(),
            label: None,
            value: None,
            message: message.into(),
            allowed: None,
            paste: Vec::new(),
        }
    }

    /// What the operator would say of a service.
    pub fn from_operator(severity: Severity, line: usize, problem: &Problem) -> Self {
        let Problem { code, label, value, message, allowed } = problem.clone();
        Self { label, value, allowed, ..Self::new(severity, code.as_str(), line, message) }
    }

    /// Names the service.
    pub fn of(mut self, service: &str) -> Self {
        self.service = Some(service.to_owned());
        self
    }

    /// Names the label and its value.
    pub fn at(mut self, label: &str, value: &str) -> Self {
        self.label = Some(label.to_owned());
        self.value = Some(value.to_owned());
        self
    }

    /// Says what would be right.
    pub fn allowed(mut self, allowed: impl Into<String>) -> Self {
        self.allowed = Some(allowed.into());
        self
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.label, &self.value) {
            // `Debug` keeps line breaks and control characters of strangers out of logs and terminals.
            (Some(label), Some(value)) => write!(f, "{label}={value:?}: {}", self.message)?,
            (Some(label), None) => write!(f, "{label}: {}", self.message)?,
            (None, _) => f.write_str(&self.message)?,
        }
        match &self.allowed {
            Some(allowed) => write!(f, " (allowed: {allowed})"),
            None => Ok(()),
        }
    }
}

/// What is found so far.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// One more.
    pub fn add(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    /// All, in the order of the file, each once.
    pub fn sorted(mut self) -> Vec<Finding> {
        self.0.sort();
        self.0.dedup();
        self.0
    }
}
