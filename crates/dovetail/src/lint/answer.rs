//! What is printed of several files, and the exit status.

use serde_json::{Value, json};

use super::{Checked, Severity};
use crate::config::ConfigError;

/// What the command says.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// For standard output.
    pub output: String,
    /// For standard error.
    pub errors: String,
    /// 0 fine, 1 problems (or, if that was asked for, warnings), 2 something could not be read.
    pub status: u8,
}

impl Answer {
    /// From what is said of each file.
    ///
    /// # Errors
    /// When it cannot be written as JSON, which no file brings about.
    pub fn new(
        checked: &[Result<Checked, ConfigError>],
        strict: bool,
        as_json: bool,
    ) -> Result<Self, serde_json::Error> {
        let count = |severity| checked.iter().flatten().map(|checked| checked.count(severity)).sum::<usize>();
        let (problems, warnings) = (count(Severity::Problem), count(Severity::Warning));
        let unreadable: Vec<&ConfigError> = checked.iter().filter_map(|checked| checked.as_ref().err()).collect();
        let status = match unreadable.is_empty() {
            false => 2,
            true => u8::from(problems > 0 || strict && warnings > 0),
        };
        if as_json {
            let files: Vec<Value> = checked
                .iter()
                .map(|checked| match checked {
                    Ok(checked) => serde_json::to_value(checked),
                    Err(ConfigError { file, line, message }) => {
                        Ok(json!({ "file": file, "unreadable": { "line": line, "message": message } }))
                    }
                })
                .collect::<Result<_, _>>()?;
            let answer = json!({ "files": files, "problems": problems, "warnings": warnings, "fine": status == 0 });
            let output = serde_json::to_string_pretty(&answer)? + "\n";
            return Ok(Self { output, errors: String::new(), status });
        }
        let texts: Vec<String> = checked.iter().flatten().map(ToString::to_string).collect();
        let errors = unreadable.iter().map(|error| format!("dovetail: {error}\n")).collect();
        Ok(Self { output: texts.join("\n"), errors, status })
    }
}
