//! `dovetail import-config`: an Interlock configuration (TOML) becomes one of ours (YAML).
//!
//! What the admin wrote keeps its meaning, Interlock's defaults do not: a key that is not in the file has
//! Dovetail's default. Everything that is not simply taken over is said, on standard error and in the JSON. Unknown
//! keys are reported and pass; a value of the wrong type is an error with its line.
//!
//! The result is read by the same code as `check-config` before it is handed out. What that refuses is reported at
//! the line of the TOML that it came from.
//!
//! Deliberately missing: defaults of Interlock's that the file does not name, templates, and raw text that has no key
//! of ours.

mod cluster;
mod remark;
mod rules;
mod source;
mod values;
mod yaml;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

pub use remark::{Outcome, Remark};

use crate::config::{self, ConfigError};
use crate::nearest::nearest;
use crate::table::printable;
use cluster::Names;
use rules::{Becomes, CORE, Rule};
use source::{Item, Section, Source};
use values::Reading;
use yaml::Mapping;

/// A configuration of ours, and what there is to say about how it came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// The file that was read.
    pub file: String,
    /// The YAML.
    pub configuration: String,
    /// What is not simply taken over, by line.
    pub remarks: Vec<Remark>,
}

/// Reads a file.
///
/// # Errors
/// When it cannot be read, is no TOML, or says something that has no meaning.
pub fn import_file(path: &Path) -> Result<Imported, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::unread(path, &error))?;
    import(&path.display().to_string(), &text)
}

/// Reads a text; `file` is for messages.
///
/// # Errors
/// As [`import_file`].
pub fn import(file: &str, text: &str) -> Result<Imported, ConfigError> {
    let source = Source { file, text };
    let document = source.parse()?;
    let top = source.section("", document.get_ref())?;
    let mut draft = Draft::default();
    draft.follow(&top, CORE, &[])?;
    draft.engine(&top)?;
    let Some(extensions) = top.below("Extensions")? else {
        return Err(ConfigError { file: file.to_owned(), line: None, message: "has no table Extensions".into() });
    };
    if extensions.items.is_empty() {
        let item = top.get("Extensions").expect("it was found");
        return Err(top.refuse(item, "names no extension: each becomes a cluster of proxies"));
    }
    let mut names = Names::default();
    for item in &extensions.items {
        draft.extension(&extensions, item, &mut names)?;
    }
    draft.finish(source)
}

/// What is known so far.
#[derive(Default)]
struct Draft {
    yaml: Mapping,
    remarks: Vec<Remark>,
    /// Where each key of ours came from, for what is refused in the end.
    origins: BTreeMap<Vec<String>, Origin>,
}

struct Origin {
    line: usize,
    option: String,
    value: Option<String>,
}

impl Draft {
    /// Does with the keys of a table what the rules say; `below` is where the keys of ours are.
    fn follow(&mut self, section: &Section<'_>, rules: &[Rule], below: &[&str]) -> Result<(), ConfigError> {
        for Rule { option, becomes } in rules {
            let Some(item) = section.get(option) else { continue };
            match becomes {
                Becomes::Key(path, reader) => {
                    let reading = reader(item).map_err(|error| section.refuse(item, &error))?;
                    let path: Vec<&str> = below.iter().copied().chain(path.split('.')).collect();
                    self.take(section, item, &path, reading);
                }
                Becomes::Nothing(reason) => {
                    self.remark(section, item, Outcome::Dropped { reason: (*reason).to_owned() });
                }
                Becomes::Elsewhere => {}
            }
        }
        for item in &section.items {
            if !rules.iter().any(|rule| rule.option.eq_ignore_ascii_case(item.key)) {
                let known = rules.iter().map(|rule| rule.option);
                let nearest = nearest(item.key, known).map(str::to_owned);
                self.remark(section, item, Outcome::Unknown { nearest });
            }
        }
        Ok(())
    }

    /// Takes a value into the YAML, or not, and remarks on it.
    fn take(&mut self, section: &Section<'_>, item: &Item<'_>, path: &[&str], reading: Reading) {
        let key = path.join(".");
        let (value, outcome) = match reading {
            Reading::Taken(value) => (value, None),
            Reading::Doubtful(value, reason) => (value, Some(Outcome::Kept { key, reason })),
            Reading::Changed(value, reason) => {
                let outcome = Outcome::Changed { key, becomes: shown(&value), reason };
                (value, Some(outcome))
            }
            Reading::Dropped(reason) => return self.remark(section, item, Outcome::Dropped { reason }),
        };
        let comment = outcome.as_ref().and_then(|outcome| match outcome {
            Outcome::Changed { reason, .. } => Some(match item.shown() {
                Some(was) => format!("{} was {was}: {reason}.", item.key),
                None => format!("{}: {reason}.", item.key),
            }),
            Outcome::Kept { reason, .. } => Some(format!("{} is kept: {reason}.", item.key)),
            Outcome::Dropped { .. } | Outcome::Unknown { .. } => None,
        });
        self.yaml.set(path, value, comment);
        self.came_from(path, section, item);
        if let Some(outcome) = outcome {
            self.remark(section, item, outcome);
        }
    }

    fn came_from(&mut self, path: &[&str], section: &Section<'_>, item: &Item<'_>) {
        let origin = Origin { line: item.line, option: section.path(item.key), value: item.shown() };
        self.origins.insert(path.iter().map(|key| (*key).to_owned()).collect(), origin);
    }

    fn remark(&mut self, section: &Section<'_>, item: &Item<'_>, outcome: Outcome) {
        self.remarks.push(Remark { line: item.line, option: section.path(item.key), value: item.shown(), outcome });
    }

    /// How the Engine is reached: certificates are all there or none is.
    fn engine(&mut self, top: &Section<'_>) -> Result<(), ConfigError> {
        let certificates = [("TLSCACert", "ca"), ("TLSCert", "cert"), ("TLSKey", "key")];
        let mut found = Vec::new();
        for (option, key) in certificates {
            let Some(item) = top.get(option) else { continue };
            let path = values::string(item).map_err(|error| top.refuse(item, &error))?;
            found.push((item, key, path));
        }
        let whole = found.len() == certificates.len() && found.iter().all(|(_, _, path)| !path.is_empty());
        for (item, key, path) in found {
            let reading = match whole {
                true => Reading::Taken(json!(path)),
                false if path.is_empty() => Reading::Dropped(values::EMPTY.into()),
                false => Reading::Dropped("TLSCACert, TLSCert and TLSKey are needed together".into()),
            };
            self.take(top, item, &["engine", "tls", key], reading);
        }
        if let Some(item) = top.get("AllowInsecure") {
            let insecure = values::boolean(item).map_err(|error| top.refuse(item, &error))?;
            let reason = match insecure {
                true => "the Engine's certificate is always verified: name its CA in engine.tls",
                false => "the Engine's certificate is always verified",
            };
            self.remark(top, item, Outcome::Dropped { reason: reason.into() });
        }
        Ok(())
    }

    /// Writes the YAML and reads it the way the operator will.
    fn finish(mut self, source: Source<'_>) -> Result<Imported, ConfigError> {
        self.remarks.sort_by_key(|remark| remark.line);
        let mut written = self.yaml.written();
        config::parse(source.file, &written.text).map_err(|error| self.blame(source.file, error, &written))?;
        let head = format!(
            "# Made by `dovetail import-config` from Interlock's {}. What is not here has its default: config/dovetail.yaml \
             in Dovetail's sources names all keys.\n",
            printable(
                Path::new(source.file).file_name().map_or(source.file.into(), |name| name.to_string_lossy()).as_ref()
            ),
        );
        written.text.insert_str(0, &head);
        Ok(Imported { file: source.file.to_owned(), configuration: written.text, remarks: self.remarks })
    }

    /// Says of what is refused where in the TOML it came from.
    fn blame(&self, file: &str, error: ConfigError, written: &yaml::Written) -> ConfigError {
        let path = error.line.and_then(|line| written.path(line)).unwrap_or_default();
        let mut near = (1..=path.len()).rev().map(|length| &path[..length]);
        // A key that came from nowhere is blamed on what is around it.
        let origin = near.find_map(|path| {
            self.origins
                .get(path)
                .or_else(|| self.origins.iter().find(|(key, _)| key.starts_with(path)).map(|(_, at)| at))
        });
        match origin {
            Some(Origin { line, option, value }) => {
                let value = value.as_ref().map(|value| format!(" = {value}")).unwrap_or_default();
                let message = format!("{option}{value}: is not possible in Dovetail: {}", error.message);
                ConfigError { file: file.to_owned(), line: Some(*line), message }
            }
            None => ConfigError { file: file.to_owned(), line: None, message: error.message },
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl Imported {
    /// The remarks for people: what is dropped by its reasons, all else one by one.
    pub fn report(&self) -> String {
        type Kind = fn(&Outcome) -> bool;
        let kinds: [(&str, Kind); 3] = [
            ("changed", |outcome| matches!(outcome, Outcome::Changed { .. })),
            ("kept, and worth a thought", |outcome| matches!(outcome, Outcome::Kept { .. })),
            ("unknown, and passed over", |outcome| matches!(outcome, Outcome::Unknown { .. })),
        ];
        let mut report = String::new();
        for (heading, is_of_kind) in kinds {
            let mut remarks = self.remarks.iter().filter(|remark| is_of_kind(&remark.outcome)).peekable();
            if remarks.peek().is_some() {
                let _ = writeln!(report, "{heading}:");
            }
            for remark in remarks {
                let _ = writeln!(report, "  {}:{}: {}", self.file, remark.line, printable(&remark.to_string()));
            }
        }
        let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
        for remark in &self.remarks {
            let Outcome::Dropped { reason } = &remark.outcome else { continue };
            let option = format!("{} (line {})", remark.option.rsplit('.').next().unwrap_or_default(), remark.line);
            match reasons.iter_mut().find(|(there, _)| there == reason) {
                Some((_, options)) => options.push(option),
                None => reasons.push((reason, vec![option])),
            }
        }
        if !reasons.is_empty() {
            report.push_str("dropped:\n");
        }
        for (reason, options) in reasons {
            let _ = writeln!(report, "  {}: {}", printable(&options.join(", ")), printable(reason));
        }
        report
    }
}
