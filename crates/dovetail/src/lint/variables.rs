//! Variables in a stack file, put in the way `docker stack deploy` does.
//!
//! `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`, `${NAME:?why}`, `${NAME?why}`, and `$$` for a dollar
//! sign. Docker takes a default also without braces (`$NAME-default`), and so does this. Names of variables that are
//! not set are replaced by nothing. A file `.env` is not read by docker, and not here: name it with `--env-file`.

use std::collections::{BTreeMap, BTreeSet};

/// The variables that are set.
#[derive(Clone, Debug, Default)]
pub struct Variables(pub BTreeMap<String, String>);

/// A text with its variables put in.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// The text.
    pub text: String,
    /// Variables that are not set and have no default.
    pub unset: BTreeSet<String>,
}

impl Variables {
    /// Adds what a file says, `NAME=value` a line; what is set already wins.
    ///
    /// # Errors
    /// With the line that says something else.
    pub fn add_file(&mut self, text: &str) -> Result<(), (usize, String)> {
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let line = line.strip_prefix("export ").unwrap_or(line);
            let (name, value) = line.split_once('=').ok_or((number + 1, "is not NAME=value".to_owned()))?;
            if !is_name(name) {
                return Err((number + 1, format!("{name:?} is no name of a variable")));
            }
            let quoted = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
            let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
            self.0.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        Ok(())
    }

    /// Puts the variables into a text.
    ///
    /// # Errors
    /// With what docker would refuse.
    pub fn fill(&self, text: &str) -> Result<Filled, String> {
        let mut filled = Filled::default();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            filled.text.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                filled.text.push('$');
                rest = after;
                continue;
            }
            let (expression, after) = expression(rest)
                .ok_or_else(|| format!("{text:?} is no template: write $$ for a dollar sign, or ${{NAME}}"))?;
            filled.text.push_str(&self.value(expression, &mut filled.unset)?);
            rest = after;
        }
        filled.text.push_str(rest);
        Ok(filled)
    }

    fn value(&self, expression: &str, unset: &mut BTreeSet<String>) -> Result<String, String> {
        let set = |name: &str| self.0.get(name).cloned();
        let filled = |name: &str| set(name).filter(|value| !value.is_empty());
        let needed = |value: Option<String>, name: &str, why: &str| {
            value.ok_or_else(|| format!("the variable {name} is needed: {why}"))
        };
        // Docker looks for the four forms in this order, wherever their signs stand: in ${NAME?no-value} it finds a
        // default of the variable "NAME?no".
        if let Some((name, default)) = expression.split_once(":-") {
            return Ok(filled(name).unwrap_or_else(|| default.to_owned()));
        }
        if let Some((name, default)) = expression.split_once('-') {
            return Ok(set(name).unwrap_or_else(|| default.to_owned()));
        }
        if let Some((name, why)) = expression.split_once(":?") {
            return needed(filled(name), name, why);
        }
        if let Some((name, why)) = expression.split_once('?') {
            return needed(set(name), name, why);
        }
        Ok(set(expression).unwrap_or_else(|| {
            unset.insert(expression.to_owned());
            String::new()
        }))
    }
}

/// The expression after a dollar sign, without braces, and what follows it.
fn expression(rest: &str) -> Option<(&str, &str)> {
    match rest.strip_prefix('{') {
        Some(inside) => {
            let (expression, after) = inside.split_once('}')?;
            let length = name_length(expression);
            (length > 0 && (length == expression.len() || has_operator(&expression[length..])))
                .then_some((expression, after))
        }
        None => {
            let length = name_length(rest);
            if length == 0 {
                return None;
            }
            let after = &rest[length..];
            let end = if has_operator(after) { after.find('}').unwrap_or(after.len()) } else { 0 };
            Some(rest.split_at(length + end))
        }
    }
}

fn has_operator(text: &str) -> bool {
    text.strip_prefix(':').unwrap_or(text).starts_with(['-', '?'])
}

fn name_length(text: &str) -> usize {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts { text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count() } else { 0 }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && name_length(text) == text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        Variables([("SET", "value"), ("EMPTY", "")].map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }

    /// As `docker stack config` of version 28 prints them.
    #[test]
    fn variables_are_put_in_as_docker_does() {
        for (text, filled) in [
            ("plain", "plain"),
            ("a${SET}b", "avalueb"),
            ("$SET.local", "value.local"),
            ("$SET$SET", "valuevalue"),
            ("${EMPTY:-default}", "default"),
            ("${EMPTY-default}", ""),
            ("${NOT:-default}", "default"),
            ("${NOT-default}", "default"),
            ("${NOT:-}", ""),
            ("${NOT:-a:-b}", "a:-b"),
            ("${SET:-default}", "value"),
            ("${SET:?why}", "value"),
            ("${EMPTY?why}", ""),
            ("$NOT-default and more", "default and more"),
            ("$SET-x y}z", "value}z"),
            ("${NOT-a:-b}", "b"),
            ("${SET?a-b}", "b"),
            ("$$SET", "$SET"),
            ("a$$", "a$"),
            ("${SET}}", "value}"),
        ] {
            assert_eq!(variables().fill(text).map(|filled| filled.text), Ok(filled.to_owned()), "{text:?}");
        }
        let unset = variables().fill("$NOT ${NEITHER} ${NOR:-x} $SET").unwrap();
        assert_eq!((unset.text.as_str(), unset.unset.len()), ("  x value", 2));
    }

    #[test]
    fn what_docker_refuses_is_refused() {
        for text in ["$", "a$ b", "${", "${}", "${SET", "${1}", "$1", "${SET!}", "${a b}", "$ä"] {
            assert!(variables().fill(text).is_err(), "{text:?}");
        }
        assert_eq!(variables().fill("${NOT:?say it}"), Err("the variable NOT is needed: say it".into()));
        assert!(variables().fill("${EMPTY:?}").is_err());
    }

    #[test]
    fn files_of_variables_are_read() {
        let mut variables = variables();
        let text = "# comment\n\nSET=other\nexport NEW=\"a b\"\nHOST='x'\nURL=http://a?b=c\n";
        variables.add_file(text).unwrap();
        let all = variables.fill("$SET|$NEW|$HOST|$URL").unwrap().text;
        assert_eq!(all, "value|a b|x|http://a?b=c");
        assert_eq!(variables.add_file("A=1\nnonsense\n"), Err((2, "is not NAME=value".into())));
        assert_eq!(variables.add_file("1A=1\n"), Err((1, "\"1A\" is no name of a variable".into())));
    }
}
