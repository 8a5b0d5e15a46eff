//! A stack file's YAML with the line of every value: anchors followed, merge keys (`<<`) carried out, scalars
//! resolved the way docker's reader does.
//!
//! The events come from a parser; the tree is our own, because docker's rules are those of YAML 1.1 in places: `010`
//! is the number 8, and what a label says is the number as docker prints it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

/// A value and the line, from 1, that it begins at.
#[derive(Debug)]
pub struct Node {
    /// The line.
    pub line: usize,
    /// The value.
    pub value: Value,
}

/// A value.
#[derive(Debug)]
pub enum Value {
    /// One word.
    Scalar {
        /// As written, without quotes.
        text: String,
        /// Whether it has no quotes, so that it can be something other than a text.
        plain: bool,
    },
    /// A list.
    List(Vec<Arc<Node>>),
    /// A mapping.
    Mapping(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its line.
    pub line: usize,
    /// Its value.
    pub node: Arc<Node>,
}

/// What docker takes a scalar for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Flag(bool),
    /// A number, as docker prints it.
    Number(String),
    /// A text.
    Text,
}

/// Why a text is no stack file, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct YamlError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Values may lie so deep within others. Docker's files need eight.
const DEPTH: usize = 64;

/// Reads the first document of a text; docker does not read further. `None` if there is none.
///
/// # Errors
/// When it is no YAML, a key stands twice in one mapping, or a merge key names no mapping.
pub fn parse(text: &str) -> Result<Option<Arc<Node>>, YamlError> {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| YamlError {
            line: error.marker().line().max(1),
            message: format!("is no YAML: {}", error.info()),
        })?;
        if matches!(event, Event::DocumentEnd) {
            break;
        }
        builder.take(event, span)?;
    }
    Ok(builder.root)
}

/// A list or mapping that has begun.
struct Open {
    line: usize,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Arc<Node>>),
    /// Its entries, what is merged into it, and the key whose value comes next.
    Mapping {
        entries: Vec<Entry>,
        merged: Vec<Arc<Node>>,
        key: Option<(String, usize)>,
    },
}

#[derive(Default)]
struct Builder {
    root: Option<Arc<Node>>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Arc<Node>>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlError> {
        let line = span.start.line();
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                self.done(anchor, Node { line, value: Value::Scalar { text: text.into_owned(), plain } })
            }
            Event::SequenceStart(anchor, _) => self.begin(line, anchor, Content::List(Vec::new())),
            Event::MappingStart(anchor, _) => {
                self.begin(line, anchor, Content::Mapping { entries: Vec::new(), merged: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => self.place(node, line),
                // One that names what it is a part of.
                None => Err(YamlError { line, message: "an alias stands inside what it names".into() }),
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                Ok(())
            }
        }
    }

    fn begin(&mut self, line: usize, anchor: usize, content: Content) -> Result<(), YamlError> {
        if self.open.len() >= DEPTH {
            return Err(YamlError { line, message: format!("has more than {DEPTH} levels") });
        }
        self.open.push(Open { line, anchor, content });
        Ok(())
    }

    fn end(&mut self) -> Result<(), YamlError> {
        let Some(Open { line, anchor, content }) = self.open.pop() else { return Ok(()) };
        let value = match content {
            Content::List(items) => Value::List(items),
            Content::Mapping { entries, merged, .. } => Value::Mapping(with_merged(entries, &merged)?),
        };
        self.done(anchor, Node { line, value })
    }

    fn done(&mut self, anchor: usize, node: Node) -> Result<(), YamlError> {
        let (node, line) = (Arc::new(node), node_line(&self.open));
        let line = line.unwrap_or(node.line);
        if anchor > 0 {
            self.anchors.insert(anchor, Arc::clone(&node));
        }
        self.place(Arc::clone(&node), if matches!(node.value, Value::Scalar { .. }) { node.line } else { line })
    }

    /// Puts a finished value where it belongs; `line` is where it stands, which for an alias is not where it was
    /// written.
    fn place(&mut self, node: Arc<Node>, line: usize) -> Result<(), YamlError> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.content {
            Content::List(items) => items.push(node),
            Content::Mapping { entries, merged, key } => match key.take() {
                None => match &node.value {
                    Value::Scalar { text, .. } => *key = Some((text.clone(), line)),
                    Value::List(_) | Value::Mapping(_) => {
                        return Err(YamlError { line, message: "a key is a list or a mapping".into() });
                    }
                },
                Some((text, _)) if text == "<<" => merged.push(node),
                Some((text, line)) => {
                    if let Some(first) = entries.iter().find(|entry| entry.key == text) {
                        let message = format!("the key {text:?} stands in line {} already", first.line);
                        return Err(YamlError { line, message });
                    }
                    entries.push(Entry { key: text, line, node });
                }
            },
        }
        Ok(())
    }
}

/// The line of the list or mapping around.
fn node_line(open: &[Open]) -> Option<usize> {
    open.last().map(|open| open.line)
}

/// Own keys win, then those of the mapping that is named first.
fn with_merged(mut entries: Vec<Entry>, merged: &[Arc<Node>]) -> Result<Vec<Entry>, YamlError> {
    for node in merged {
        let mappings: Vec<&Arc<Node>> = match &node.value {
            Value::List(items) => items.iter().collect(),
            Value::Mapping(_) | Value::Scalar { .. } => vec![node],
        };
        for mapping in mappings {
            let Value::Mapping(more) = &mapping.value else {
                return Err(YamlError { line: mapping.line, message: "<< names no mapping".into() });
            };
            let new: Vec<Entry> =
                more.iter().filter(|more| !entries.iter().any(|own| own.key == more.key)).cloned().collect();
            entries.extend(new);
        }
    }
    Ok(entries)
}

impl Node {
    /// The value of a key, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The entries, if this is a mapping.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Mapping(entries) => entries,
            Value::List(_) | Value::Scalar { .. } => &[],
        }
    }

    /// The items, if this is a list.
    pub fn items(&self) -> &[Arc<Node>] {
        match &self.value {
            Value::List(items) => items,
            Value::Mapping(_) | Value::Scalar { .. } => &[],
        }
    }

    /// The text, if this is a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            Value::List(_) | Value::Mapping(_) => None,
        }
    }

    /// Whether this is nothing.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if meaning(text) == Meaning::Null)
    }
}

/// What docker takes a scalar without quotes for.
pub fn meaning(text: &str) -> Meaning {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Meaning::Null,
        "true" | "True" | "TRUE" => return Meaning::Flag(true),
        "false" | "False" | "FALSE" => return Meaning::Flag(false),
        _ => {}
    }
    match number(text) {
        Some(number) => Meaning::Number(number),
        None => Meaning::Text,
    }
}

/// Whether a scalar without quotes is a flag for docker up to 20.10, and a text since.
pub fn was_a_flag(text: &str) -> bool {
    let mut rest = text.chars().skip(1);
    // Lower case, upper case, or a capital in front.
    let cased = text.chars().all(|c| c.is_ascii_uppercase()) || rest.all(|c| c.is_ascii_lowercase());
    cased && ["y", "n", "yes", "no", "on", "off"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// A number as Go reads and prints it.
fn number(text: &str) -> Option<String> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    let compact = text.replace('_', "");
    let (minus, digits) = match compact.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, compact.strip_prefix('+').unwrap_or(&compact)),
    };
    let whole = |digits: &str, radix| {
        let unsigned = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
        u64::from_str_radix(digits, radix).ok().filter(|_| unsigned && !digits.is_empty())
    };
    let octal = |digits: &str| digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let read = match digits.get(..2) {
        Some("0x" | "0X") => whole(&digits[2..], 16),
        Some("0o" | "0O") => whole(&digits[2..], 8),
        Some("0b" | "0B") => whole(&digits[2..], 2),
        Some(two) if two.starts_with('0') && octal(digits) => whole(digits, 8),
        // 08 is no octal number, and is read as one with a fraction.
        Some(two) if two.starts_with('0') => None,
        _ => whole(digits, 10),
    };
    let sign = if minus { "-" } else { "" };
    match read {
        Some(0) => Some("0".into()),
        // Less than any whole number that Go reads: then it has a fraction.
        Some(number) if minus && number > 1 << 63 => fraction(digits).map(|number| format!("-{number}")),
        Some(number) => Some(format!("{sign}{number}")),
        None => fraction(digits).map(|number| format!("{sign}{number}")),
    }
}

fn fraction(digits: &str) -> Option<String> {
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (digits, None),
    };
    let decimal = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let fits = match mantissa.split_once('.') {
        Some(("", after)) => decimal(after),
        Some((before, after)) => decimal(before) && (after.is_empty() || decimal(after)),
        None => decimal(mantissa),
    };
    let exponent_fits = exponent.is_none_or(|exponent| decimal(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)));
    if !fits || !exponent_fits {
        return None;
    }
    let number: f64 = digits.parse().ok().filter(|number: &f64| number.is_finite())?;
    // Go prints the shortest form, with an exponent of at least two digits where it is below -4 or above 5.
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    if number != 0.0 && !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return Some(format!("{mantissa}e{sign}{:02}", exponent.abs()));
    }
    Some(number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_of(text: &str, path: &[&str]) -> usize {
        let mut node = parse(text).expect("it is YAML").expect("it holds something");
        let mut line = node.line;
        for key in path {
            let entry = node.get(key).unwrap_or_else(|| panic!("no {key} in {node:?}")).clone();
            (line, node) = (entry.line, entry.node);
        }
        line
    }

    #[test]
    fn lines_are_those_of_the_keys() {
        let text =
            "# one\na:\n  b: 1\n\n  \"c\":\n    - x\n    - y: 2\nd: {e: 3,\n    f: 4}\ng: |\n  long\n  text\nh: last\n";
        for (path, line) in
            [(&["a"][..], 2), (&["a", "b"], 3), (&["a", "c"], 5), (&["d", "e"], 8), (&["d", "f"], 9), (&["h"], 13)]
        {
            assert_eq!(line_of(text, path), line, "{path:?}");
        }
        let node = parse(text).unwrap().unwrap();
        assert_eq!(node.get("a").unwrap().node.get("c").unwrap().node.items()[1].line, 7);
    }

    #[test]
    fn anchors_and_merge_keys_are_followed_and_keep_their_lines() {
        let text = "x: &x\n  k: 1\n  l: 2\ny: &y {l: 3, m: 4}\na:\n  <<: *x\n  k: 5\nb:\n  <<: [*y, *x]\nc: *x\n";
        let node = parse(text).unwrap().unwrap();
        let value = |path: [&str; 2]| {
            let entry = node.get(path[0]).unwrap().node.get(path[1]).unwrap();
            (entry.node.text().unwrap().to_owned(), entry.line)
        };
        assert_eq!(value(["a", "k"]), ("5".into(), 7));
        assert_eq!(value(["a", "l"]), ("2".into(), 3));
        assert_eq!(value(["b", "l"]), ("3".into(), 4));
        assert_eq!(value(["b", "k"]), ("1".into(), 2));
        assert_eq!(value(["c", "k"]), ("1".into(), 2));
    }

    #[test]
    fn what_is_no_yaml_is_said_with_its_line() {
        for (text, line, message) in [
            ("a: 1\nb: [\n", 3, "is no YAML: "),
            ("a: 1\nb: 2\na: 3\n", 3, "the key \"a\" stands in line 1 already"),
            ("a: *x\n", 1, "is no YAML: "),
            ("a: &a\n  b: *a\n", 2, "an alias stands inside what it names"),
            ("a: 1\n<<: b\n", 2, "<< names no mapping"),
            ("? [a]\n: b\n", 1, "a key is a list or a mapping"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.line == line && error.message.starts_with(message), "{text:?}: {error:?}");
        }
        assert_eq!(parse(&"- ".repeat(65)).unwrap_err().message, "has more than 64 levels");
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse("").unwrap().is_none());
        assert!(parse("# nothing\n").unwrap().is_none());
        // Ten levels of ten aliases each are held once.
        let mut bomb = "a0: &a0 x\n".to_owned();
        for level in 1..60 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        assert!(parse(&bomb).is_ok());
    }

    /// As `docker stack config` of version 28 prints them.
    #[test]
    fn scalars_mean_what_docker_takes_them_for() {
        for (text, printed) in [
            ("8080", "8080"),
            ("010", "8"),
            ("080", "80"),
            ("0", "0"),
            ("00", "0"),
            ("-0", "0"),
            ("1_000", "1000"),
            ("1.50", "1.5"),
            ("1.", "1"),
            (".5", "0.5"),
            ("1e3", "1000"),
            ("0x1F", "31"),
            ("0o17", "15"),
            ("0b11", "3"),
            ("+7", "7"),
            ("-7", "-7"),
            ("1e21", "1e+21"),
            ("1234567.5", "1.2345675e+06"),
            ("999999.5", "999999.5"),
            ("1e-7", "1e-07"),
            ("0.0001", "0.0001"),
            ("123456789012345678901", "1.2345678901234568e+20"),
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775809", "-9.223372036854776e+18"),
        ] {
            assert_eq!(meaning(text), Meaning::Number(printed.into()), "{text:?}");
        }
        for text in
            ["a", "8080;", "1.2.3", "10.0.0.0/8", "-", "+", ".", "1e", "0xg", "12:30", "08x", "1 2", "_1", "NaN", "inf"]
        {
            assert_eq!(meaning(text), Meaning::Text, "{text:?}");
        }
        assert_eq!(meaning("~"), Meaning::Null);
        assert_eq!(meaning("True"), Meaning::Flag(true));
        for (text, was) in
            [("yes", true), ("On", true), ("OFF", true), ("n", true), ("oN", false), ("true", false), ("yess", false)]
        {
            assert_eq!(was_a_flag(text), was, "{text}");
        }
    }
}
