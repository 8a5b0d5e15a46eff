//! Files that people write, with pieces taken out, put in and moved: whatever is done to them, reading ends with a
//! value or with an error of bounded size that names the file. `PROPTEST_CASES` makes it run longer.

use std::path::Path;

use dovetail::config;
use dovetail::import::import;
use dovetail::lint;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// The longest error: a file's own words may be in it, but not all of them.
const LONGEST_ERROR: usize = 4096;

/// Pieces that mean something in YAML, TOML or in a label.
const PIECES: &[&str] = &[
    "\n",
    "\n  ",
    "\t",
    " ",
    ":",
    ": ",
    "- ",
    "#",
    "\"",
    "'",
    "{",
    "}",
    "[",
    "]",
    "&a ",
    "*a",
    "<<: *a",
    "!!str ",
    "|\n",
    "%",
    "${X:-",
    "$",
    "~",
    "null",
    "true",
    "0x50",
    "1e9",
    "-1",
    "99999999999999999999",
    ".inf",
    "é",
    "\u{feff}",
    "\u{0}",
    "\u{202e}",
    "---\n",
    "...\n",
    "? ",
    "@",
    "`",
    "=",
    "[[x]]\n",
    "\"\"\"",
];

/// One change of a text.
#[derive(Clone, Debug)]
enum Edit {
    Take { from: Index, length: usize },
    Put { at: Index, piece: &'static str },
    Copy { from: Index, length: usize, to: Index },
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let edit = prop_oneof![
        (any::<Index>(), 1..40_usize).prop_map(|(from, length)| Edit::Take { from, length }),
        (any::<Index>(), select(PIECES)).prop_map(|(at, piece)| Edit::Put { at, piece }),
        (any::<Index>(), 1..200_usize, any::<Index>()).prop_map(|(from, length, to)| Edit::Copy { from, length, to }),
    ];
    prop::collection::vec(edit, 1..8)
}

fn edited(text: &str, edits: &[Edit]) -> String {
    let mut text: Vec<char> = text.chars().collect();
    for edit in edits {
        let place = |index: &Index, text: &[char]| index.index(text.len() + 1);
        match edit {
            Edit::Take { from, length } => {
                let from = place(from, &text);
                text.drain(from..(from + length).min(text.len()));
            }
            Edit::Put { at, piece } => {
                let at = place(at, &text);
                text.splice(at..at, piece.chars());
            }
            Edit::Copy { from, length, to } => {
                let (from, to) = (place(from, &text), place(to, &text));
                let copied: Vec<char> = text[from..(from + length).min(text.len())].to_vec();
                text.splice(to..to, copied);
            }
        }
    }
    text.into_iter().collect()
}

/// The files of a directory beside this one, with this ending.
fn corpus(directory: &str, ending: &str) -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/commands").join(directory);
    let mut files: Vec<_> =
        std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("a file").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == ending));
    files.sort();
    assert!(!files.is_empty(), "there are files that end with {ending}");
    files.iter().map(|file| std::fs::read_to_string(file).expect("UTF-8")).collect()
}

fn told(file: &str, error: &impl ToString) -> Result<(), TestCaseError> {
    let error = error.to_string();
    prop_assert!(error.starts_with(file), "the file is named: {error}");
    prop_assert!(error.len() <= LONGEST_ERROR, "{} bytes", error.len());
    Ok(())
}

proptest! {
    #[test]
    fn a_mutated_configuration_is_read_or_refused(edits in edits()) {
        let text = edited(include_str!("../../../../config/dovetail.yaml"), &edits);
        if let Err(error) = config::parse("dovetail.yaml", &text) {
            told("dovetail.yaml", &error)?;
        }
    }

    #[test]
    fn a_mutated_configuration_of_interlock_is_imported_or_refused(file in select(corpus("interlock", "toml")), edits in edits()) {
        let text = edited(&file, &edits);
        match import("config.toml", &text) {
            Ok(imported) => prop_assert!(config::parse("dovetail.yaml", &imported.configuration).is_ok()),
            Err(error) => told("config.toml", &error)?,
        }
    }

    #[test]
    fn a_mutated_stack_file_is_judged_or_refused(file in select(corpus("stacks", "yml")), edits in edits()) {
        let text = edited(&file, &edits);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        match runtime.block_on(lint::check("stack.yml", &text, &lint::Settings::default())) {
            Ok(checked) => {
                let lines = text.lines().count() + 1;
                for finding in &checked.findings {
                    prop_assert!(finding.line <= lines, "line {} of {lines}", finding.line);
                }
                // No label can break a line of the table, or steer a terminal.
                let shown = checked.to_string();
                prop_assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
            }
            Err(error) => told("stack.yml", &error)?,
        }
    }
}
