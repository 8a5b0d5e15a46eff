//! Interlock's TOML with line numbers. Its reader takes keys in any case, and so does this one.

use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::config::ConfigError;

/// The file, as text and by name.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// Its name, for messages.
    pub file: &'a str,
    /// What is in it.
    pub text: &'a str,
}

/// A table of it.
pub struct Section<'a> {
    source: Source<'a>,
    /// Its name, such as `Extensions.east`; empty for the top.
    pub name: String,
    /// What is in it, in the order of the file.
    pub items: Vec<Item<'a>>,
}

/// One key of a table.
#[derive(Clone)]
pub struct Item<'a> {
    /// The key as written.
    pub key: &'a str,
    /// Its line, from 1.
    pub line: usize,
    /// Its value.
    pub value: &'a Spanned<DeValue<'a>>,
    /// Its value as written.
    pub written: &'a str,
}

impl<'a> Source<'a> {
    /// Reads the text as TOML.
    ///
    /// # Errors
    /// With the line, when it is none.
    pub fn parse(self) -> Result<Spanned<DeTable<'a>>, ConfigError> {
        DeTable::parse(self.text).map_err(|error| ConfigError {
            file: self.file.to_owned(),
            line: error.span().map(|span| self.line(span.start)),
            message: format!("is no TOML: {}", error.message()),
        })
    }

    /// The line, from 1, of a place in the text.
    fn line(self, at: usize) -> usize {
        self.text.as_bytes()[..at.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// A table, with its keys in the order of the file.
    ///
    /// # Errors
    /// When a key stands twice, in whatever case: which one counted was up to Interlock.
    pub fn section(self, name: impl Into<String>, table: &'a DeTable<'a>) -> Result<Section<'a>, ConfigError> {
        let mut items: Vec<Item<'a>> = table.iter().map(|(key, value)| self.item(key, value)).collect();
        items.sort_by_key(|item| (item.line, item.value.span().start));
        let section = Section { source: self, name: name.into(), items };
        let mut seen = BTreeSet::new();
        for item in &section.items {
            if !seen.insert(item.key.to_ascii_lowercase()) {
                return Err(
                    section.refuse(item, "stands here a second time, in whatever case: every key may stand once")
                );
            }
        }
        Ok(section)
    }

    fn item(self, key: &'a Spanned<DeString<'a>>, value: &'a Spanned<DeValue<'a>>) -> Item<'a> {
        let written = self.text.get(value.span()).unwrap_or_default();
        Item { key: key.get_ref(), line: self.line(key.span().start), value, written }
    }
}

impl<'a> Section<'a> {
    /// The key of this name in any case.
    pub fn get(&self, key: &str) -> Option<&Item<'a>> {
        self.items.iter().find(|item| item.key.eq_ignore_ascii_case(key))
    }

    /// The table of this name below this one, if there is one.
    ///
    /// # Errors
    /// When it is no table.
    pub fn below(&self, key: &str) -> Result<Option<Section<'a>>, ConfigError> {
        self.get(key).map(|item| self.table(item)).transpose()
    }

    /// The value of one of its keys, which has to be a table.
    ///
    /// # Errors
    /// When it is none.
    pub fn table(&self, item: &Item<'a>) -> Result<Section<'a>, ConfigError> {
        match item.value.get_ref() {
            DeValue::Table(table) => self.source.section(self.path(item.key), table),
            _ => Err(self.refuse(item, "is no table")),
        }
    }

    /// The name of one of its keys from the top.
    pub fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// An error at one of its keys.
    pub fn refuse(&self, item: &Item<'_>, what: &str) -> ConfigError {
        let path = self.path(item.key);
        let message = match item.shown() {
            Some(value) => format!("{path} = {value}: {what}"),
            None => format!("{path}: {what}"),
        };
        ConfigError { file: self.source.file.to_owned(), line: Some(item.line), message }
    }
}

/// The longest excerpt of a value in a message, in characters.
const EXCERPT: usize = 120;

impl Item<'_> {
    /// The value for messages: on one line, not too long, no table, and never a password.
    pub fn shown(&self) -> Option<String> {
        if self.key.eq_ignore_ascii_case("AdminPass") || matches!(self.value.get_ref(), DeValue::Table(_)) {
            return None;
        }
        let mut shown: String = self.written.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some((end, _)) = shown.char_indices().nth(EXCERPT) {
            shown.truncate(end);
            shown.push_str("...");
        }
        Some(shown)
    }
}
