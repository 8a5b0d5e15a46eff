//! Our YAML, with comments, and which line came from where.

use serde_json::Value;

/// A mapping to be written: keys in the order in which they first came.
#[derive(Default)]
pub struct Mapping {
    entries: Vec<(String, Entry)>,
}

struct Entry {
    comment: Option<String>,
    content: Content,
}

enum Content {
    Below(Mapping),
    Value(Value),
}

impl Mapping {
    /// Puts a value at a path, over the one that is there.
    pub fn set(&mut self, path: &[&str], value: Value, comment: Option<String>) {
        let (first, rest) = path.split_first().expect("a path has a key");
        if rest.is_empty() {
            let entry = Entry { comment, content: Content::Value(value) };
            match self.entries.iter_mut().find(|(key, _)| key == first) {
                Some((_, there)) => *there = entry,
                None => self.entries.push(((*first).to_owned(), entry)),
            }
            return;
        }
        self.below(first).set(rest, value, comment);
    }

    /// Moves what is at a path to the front of the mapping around it.
    pub fn lead(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [key] => self.entries.sort_by_key(|(there, _)| there != key),
            [key, rest @ ..] => self.below(key).lead(rest),
        }
    }

    fn below(&mut self, key: &str) -> &mut Mapping {
        let at = self.entries.iter().position(|(there, _)| there == key).unwrap_or_else(|| {
            let entry = Entry { comment: None, content: Content::Below(Mapping::default()) };
            self.entries.push((key.to_owned(), entry));
            self.entries.len() - 1
        });
        match &mut self.entries[at].1.content {
            Content::Below(mapping) => mapping,
            Content::Value(_) => unreachable!("no key of ours is both a value and a mapping"),
        }
    }

    /// The value at a path.
    pub fn get(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        match &self.entries.iter().find(|(key, _)| key == first)?.1.content {
            Content::Below(mapping) => mapping.get(rest),
            Content::Value(value) => rest.is_empty().then_some(value),
        }
    }

    /// Takes the value at a path away.
    pub fn remove(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [key] => self.entries.retain(|(there, _)| there != key),
            [key, rest @ ..] => self.below(key).remove(rest),
        }
    }

    /// Writes everything.
    pub fn written(&self) -> Written {
        let mut written = Written::default();
        self.write(&mut written, &mut Vec::new());
        written
    }

    fn write(&self, written: &mut Written, path: &mut Vec<String>) {
        let indent = "  ".repeat(path.len());
        for (key, entry) in &self.entries {
            if let Content::Below(mapping) = &entry.content
                && mapping.entries.is_empty()
            {
                continue;
            }
            for line in entry.comment.iter().flat_map(|comment| wrapped(comment, 110 - indent.len())) {
                written.line(format!("{indent}# {line}"), path);
            }
            path.push(key.clone());
            let key = plain_or_quoted(key);
            match &entry.content {
                Content::Below(mapping) => {
                    written.line(format!("{indent}{key}:"), path);
                    mapping.write(written, path);
                }
                Content::Value(Value::Array(items)) if !items.is_empty() => {
                    written.line(format!("{indent}{key}:"), path);
                    for item in items {
                        written.line(format!("{indent}  - {}", scalar(item)), path);
                    }
                }
                Content::Value(Value::Object(map)) if !map.is_empty() => {
                    written.line(format!("{indent}{key}:"), path);
                    for (key, value) in map {
                        written.line(format!("{indent}  {}: {}", plain_or_quoted(key), scalar(value)), path);
                    }
                }
                Content::Value(value) => written.line(format!("{indent}{key}: {}", scalar(value)), path),
            }
            path.pop();
        }
    }
}

/// A text, and the path of keys that each of its lines belongs to.
#[derive(Default)]
pub struct Written {
    /// The text.
    pub text: String,
    paths: Vec<Vec<String>>,
}

impl Written {
    fn line(&mut self, line: String, path: &[String]) {
        self.text.push_str(&line);
        self.text.push('\n');
        self.paths.push(path.to_vec());
    }

    /// The path of keys at a line, from 1.
    pub fn path(&self, line: usize) -> Option<&[String]> {
        self.paths.get(line.checked_sub(1)?).map(Vec::as_slice)
    }
}

/// Everything but a text is the same in JSON and YAML.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => plain_or_quoted(text),
        other => other.to_string(),
    }
}

/// The text without quotes where no reader of YAML, of whatever version, could take it for something else.
fn plain_or_quoted(text: &str) -> String {
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.' | '-' | '=' | '@' | ':');
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '/'))
        && text.chars().all(harmless)
        && !text.ends_with(':')
        && !WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    let (number, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let amount = !number.is_empty() && matches!(unit, "ms" | "s" | "m" | "h" | "k" | "g");
    if word || amount { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

/// A comment in lines of at most so many characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is one");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whatever_is_written_reads_back() {
        let mut mapping = Mapping::default();
        let odd = vec![
            "",
            "~",
            "null",
            "true",
            "yes",
            "Off",
            "n",
            "y",
            "1",
            "1.5",
            "1e3",
            "0x10",
            "12:30:45",
            " a",
            "a ",
            "a: b",
            "a #b",
            "- a",
            "? a",
            "[a",
            "{a",
            "*a",
            "&a",
            "!a",
            "|",
            ">",
            "%a",
            "@a",
            "`a",
            "a\nb",
            "a\tb",
            "\"",
            "'",
            "\\",
            "é",
            "a:",
            "key:value",
            "nginx",
            "auto",
            "8k",
            "30s",
            "node.labels.a==b",
            "unix:///var/run/docker.sock",
            "NO",
            "infinity",
            "2001-01-01",
            "<<",
            "=",
            "/a",
            "_",
            ".inf",
            "-",
            "---",
            "...",
            "registry:5000/a@sha256:00",
        ];
        for (number, text) in odd.iter().enumerate() {
            mapping.set(&["texts", &format!("k{number}")], json!(text), Some("Why? Because: #1.".into()));
        }
        mapping.set(&["list"], json!(odd), None);
        mapping.set(&["labels"], Value::Object(odd.iter().map(|key| ((*key).to_owned(), json!(key))).collect()), None);
        mapping.set(&["numbers", "whole"], json!(12), None);
        mapping.set(&["numbers", "flag"], json!(true), None);
        mapping.set(&["numbers", "none"], Value::Null, None);
        mapping.set(&["buffers"], json!({ "number": 4, "size": "8k" }), None);
        mapping.set(&["gone", "away"], json!(1), None);
        mapping.remove(&["gone", "away"]);
        let written = mapping.written();
        let read: Value = serde_yaml::from_str(&written.text).expect("it is YAML");
        let texts: serde_json::Map<String, Value> =
            odd.iter().enumerate().map(|(number, text)| (format!("k{number}"), json!(text))).collect();
        assert_eq!(read["texts"], Value::Object(texts));
        assert_eq!(read["list"], json!(odd));
        for text in odd {
            assert_eq!(read["labels"][text], json!(text), "{text:?}");
        }
        assert_eq!(read["numbers"], json!({ "whole": 12, "flag": true, "none": null }));
        assert_eq!(read["buffers"], json!({ "number": 4, "size": "8k" }));
        assert_eq!(read.get("gone"), None);
        let line = written.text.lines().position(|line| line.ends_with("flag: true")).expect("it is there");
        assert_eq!(written.path(line + 1).expect("it has a path"), ["numbers", "flag"]);
    }

    #[test]
    fn comments_are_wrapped() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("unbreakable", 3), ["unbreakable"]);
    }
}
