//! The only way into an nginx file. It takes typed values, so that nothing a stranger wrote in a label can end a
//! directive, open a block or name a variable. There is deliberately no method that takes text as it is.

use std::net::SocketAddr;
use std::time::Duration;

use model::Host;

use super::values::{Cidr, Text};

/// One word of a directive.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    /// Fixed in our source: a keyword, a variable, an address of our own.
    Word(&'static str),
    /// Fixed in our source, written in single quotes: it may hold variables, and no single quote.
    Format(&'static str),
    Number(u64),
    /// A parameter with a number, as in `max_fails=0`.
    Parameter(&'static str, u64),
    Time(Duration),
    /// In bytes.
    Size(u64),
    Host(&'a Host),
    Endpoint(SocketAddr),
    Network(Cidr),
    Text(&'a Text),
    Upstream(Upstream<'a>),
    /// `http://` and the upstream.
    To(Upstream<'a>),
}

/// Who is proxied to: each name is made from a host, and every host is in one group.
#[derive(Clone, Copy)]
pub(super) enum Upstream<'a> {
    /// The group whose first host this is.
    Group(&'a Host),
    /// Who answers unknown hosts.
    Default,
}

/// A file under construction.
#[derive(Default)]
pub(super) struct Writer {
    text: String,
    depth: usize,
}

impl Writer {
    pub fn finish(self) -> String {
        debug_assert_eq!(self.depth, 0, "every block ends");
        self.text
    }

    pub fn blank(&mut self) {
        self.text.push('\n');
    }

    /// A comment. Control characters become `?`, so that it cannot leave its line; it ends after 300 characters,
    /// because nginx refuses lines that do not fit its buffer of 4 KiB.
    pub fn comment(&mut self, text: &str) {
        self.indent();
        self.text.push_str("# ");
        let safe =
            text.chars().take(300).map(|c| if c.is_control() || c == '\u{2028}' || c == '\u{2029}' { '?' } else { c });
        self.text.extend(safe);
        self.text.push('\n');
    }

    pub fn line(&mut self, name: &'static str, values: &[Value<'_>]) {
        self.head(name, values);
        self.text.push_str(";\n");
    }

    pub fn block(&mut self, name: &'static str, values: &[Value<'_>], body: impl FnOnce(&mut Self)) {
        self.head(name, values);
        self.text.push_str(" {\n");
        self.depth += 1;
        body(self);
        self.depth -= 1;
        self.indent();
        self.text.push_str("}\n");
    }

    fn head(&mut self, name: &'static str, values: &[Value<'_>]) {
        self.indent();
        self.text.push_str(name);
        for value in values {
            // An entry of a `map` may have an empty name in front; no directive does.
            if !self.text.ends_with(' ') {
                self.text.push(' ');
            }
            self.value(*value);
        }
    }

    fn indent(&mut self) {
        self.text.extend(std::iter::repeat_n("    ", self.depth));
    }

    fn value(&mut self, value: Value<'_>) {
        match value {
            Value::Word(word) => self.text.push_str(word),
            Value::Format(format) => {
                debug_assert!(!format.contains('\''));
                self.text.push('\'');
                self.text.push_str(format);
                self.text.push('\'');
            }
            Value::Number(number) => self.text.push_str(&number.to_string()),
            Value::Parameter(name, number) => {
                self.text.push_str(name);
                self.text.push('=');
                self.text.push_str(&number.to_string());
            }
            Value::Time(time) => {
                let milliseconds = time.as_millis();
                let written = if milliseconds.is_multiple_of(1000) {
                    format!("{}s", milliseconds / 1000)
                } else {
                    format!("{milliseconds}ms")
                };
                self.text.push_str(&written);
            }
            Value::Size(bytes) => {
                const KIB: u64 = 1024;
                const MIB: u64 = KIB * KIB;
                let written = match bytes {
                    0 => "0".to_owned(),
                    bytes if bytes.is_multiple_of(MIB) => format!("{}m", bytes / MIB),
                    bytes if bytes.is_multiple_of(KIB) => format!("{}k", bytes / KIB),
                    bytes => bytes.to_string(),
                };
                self.text.push_str(&written);
            }
            // Letters, digits, `-`, `_`, `.` and a leading `*.` by its constructor.
            Value::Host(host) => self.text.push_str(host.as_str()),
            Value::Endpoint(address) => self.text.push_str(&address.to_string()),
            Value::Network(network) => self.text.push_str(&network.to_string()),
            Value::Text(text) => {
                self.text.push('"');
                for c in text.as_str().chars() {
                    if matches!(c, '"' | '\\') {
                        self.text.push('\\');
                    }
                    self.text.push(c);
                }
                self.text.push('"');
            }
            Value::Upstream(upstream) => self.upstream(upstream),
            Value::To(upstream) => {
                self.text.push_str("http://");
                self.upstream(upstream);
            }
        }
    }

    fn upstream(&mut self, upstream: Upstream<'_>) {
        match upstream {
            Upstream::Default => self.text.push_str("default-backend"),
            Upstream::Group(host) => match host.as_str().strip_prefix("*.") {
                Some(rest) => {
                    self.text.push_str("wildcard-");
                    self.text.push_str(rest);
                }
                None => {
                    self.text.push_str("host-");
                    self.text.push_str(host.as_str());
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(values: &[Value<'_>]) -> String {
        let mut writer = Writer::default();
        writer.line("d", values);
        writer.finish()
    }

    #[test]
    fn values_are_written_in_nginx_s_forms() {
        let (host, wildcard) = (Host::parse("a.local").unwrap(), Host::parse("*.a.local").unwrap());
        for (value, expect) in [
            (Value::Time(Duration::from_secs(75)), "75s"),
            (Value::Time(Duration::from_millis(1500)), "1500ms"),
            (Value::Size(0), "0"),
            (Value::Size(1000), "1000"),
            (Value::Size(8 * 1024), "8k"),
            (Value::Size(32 * 1024 * 1024), "32m"),
            (Value::Parameter("max_fails", 0), "max_fails=0"),
            (Value::Host(&wildcard), "*.a.local"),
            (Value::Endpoint("10.0.0.9:80".parse().unwrap()), "10.0.0.9:80"),
            (Value::Endpoint("[fd00::1]:80".parse().unwrap()), "[fd00::1]:80"),
            (Value::Upstream(Upstream::Group(&host)), "host-a.local"),
            (Value::To(Upstream::Group(&wildcard)), "http://wildcard-a.local"),
            (Value::To(Upstream::Default), "http://default-backend"),
            (Value::Text(&Text::parse(r#"a"b\c; }"#).unwrap()), r#""a\"b\\c; }""#),
        ] {
            assert_eq!(written(&[value]), format!("d {expect};\n"));
        }
    }

    #[test]
    fn a_comment_stays_on_its_line_and_is_short() {
        let mut writer = Writer::default();
        writer.comment("a\nb\r\u{85}c } ; $x \u{2028}");
        writer.comment(&"x".repeat(10_000));
        let text = writer.finish();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "# a?b??c } ; $x ?");
        assert_eq!(lines[1].len(), 302);
        assert_eq!(lines.len(), 2);
    }
}
