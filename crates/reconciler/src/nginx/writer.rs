//! The only way into an nginx file. It takes typed values, so that nothing a stranger wrote in a label can end a
//! directive, open a block or name a variable. There is deliberately no method that takes text as it is.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use model::values::{Cidr, CookieName, Hsts, Path, RateLimit, RatePeriod, RedirectTo, Scheme, SecretName};
use model::{Digest, Host, SECRETS_DIRECTORY};

use super::values::{AdminLine, Text};

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
    /// Whereto a request is passed on; with a `/` in the place of the path that the location names, if so wished.
    To(Scheme, Upstream<'a>, bool),
    /// A host in a `map` with `hostnames`.
    MapHost(&'a Host),
    Path(&'a Path),
    /// The path with a slash at its end, and what is fixed behind it.
    Below(&'a Path, &'static str),
    /// The file of a secret in the proxy's container.
    Secret(&'a SecretName),
    /// The variable with what a client is known by where this cookie makes it stay at one server.
    Sticky(&'a CookieName),
    /// A pattern that finds the cookie in a `Cookie` header, and keeps its value in `$dovetail_cookie`.
    CookiePattern(&'a CookieName),
    /// Where a request is redirected, its path and query included.
    RedirectTo(&'a RedirectTo),
    /// The same host, path and query over TLS, on this port.
    ToTls(Option<NonZeroU16>),
    Hsts(Hsts),
    /// The memory in which requests to an upstream are counted.
    RateZone(Upstream<'a>),
    RateZoneName(Upstream<'a>),
    Rate(RateLimit),
    /// A parameter with a time, as in `fail_timeout=10s`.
    ParameterTime(&'static str, Duration),
}

/// Who is passed requests: each name is made from a host and a path, and every path of a host is in one group once.
#[derive(Clone, Copy)]
pub(super) enum Upstream<'a> {
    /// A route of the group whose first host this is; none: of the default backend.
    Route { host: Option<&'a Host>, path: &'a Path },
    /// Those who get the bytes of TLS connections.
    Passthrough { host: Option<&'a Host> },
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

    /// A line of the cluster's administrator, as it is.
    pub fn admin_line(&mut self, line: &AdminLine) {
        self.indent();
        self.text.push_str(line.as_str());
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
        for (n, value) in values.iter().enumerate() {
            // An entry of a `map` begins with a value; no directive does.
            if n > 0 || !name.is_empty() {
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
            Value::Number(number) => self.put(format_args!("{number}")),
            Value::Parameter(name, number) => {
                self.text.push_str(name);
                self.text.push('=');
                self.put(format_args!("{number}"));
            }
            Value::Time(time) => self.time(time),
            Value::ParameterTime(name, time) => {
                self.text.push_str(name);
                self.text.push('=');
                self.time(time);
            }
            Value::Size(bytes) => {
                const KIB: u64 = 1024;
                const MIB: u64 = KIB * KIB;
                // More is no number to nginx.
                let written = match bytes.min(i64::MAX as u64) {
                    0 => "0".to_owned(),
                    bytes if bytes.is_multiple_of(MIB) => format!("{}m", bytes / MIB),
                    bytes if bytes.is_multiple_of(KIB) => format!("{}k", bytes / KIB),
                    bytes => bytes.to_string(),
                };
                self.text.push_str(&written);
            }
            // Letters, digits, `-`, `_`, `.` and a leading `*.` by its constructor.
            Value::Host(host) => self.text.push_str(host.as_str()),
            Value::Endpoint(address) => self.put(format_args!("{address}")),
            Value::Network(network) => self.put(format_args!("{network}")),
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
            Value::Upstream(upstream) => self.text.push_str(&upstream.name()),
            Value::To(scheme, upstream, root) => {
                let end = if root { "/" } else { "" };
                self.put(format_args!("{}://{}{end}", scheme.as_str(), upstream.name()));
            }
            // With a backslash the words that mean something else in a `map` are names like any other.
            Value::MapHost(host) => {
                if matches!(host.as_str(), "default" | "hostnames" | "include" | "volatile") {
                    self.text.push('\\');
                }
                self.text.push_str(host.as_str());
            }
            // Letters, digits and - . _ ~ / + @ : = , by their constructors; the first is a slash.
            Value::Path(path) => self.text.push_str(path.as_str()),
            Value::Below(path, end) => {
                let slash = if path.is_root() { "" } else { "/" };
                self.put(format_args!("{path}{slash}{end}"));
            }
            // Letters, digits, `-`, `_` and `.`.
            Value::Secret(name) => self.put(format_args!("{SECRETS_DIRECTORY}{name}")),
            Value::Sticky(name) => {
                self.put(format_args!("$dovetail_sticky_{}", Digest::of(name.as_str().as_bytes()).name()));
            }
            Value::CookiePattern(name) => {
                let name = name.as_str().replace('.', r"\.");
                self.put(format_args!(r#""~(?:^|; *){name}=(?<dovetail_cookie>[^;]+)""#));
            }
            Value::RedirectTo(to) => self.put(format_args!("{to}$request_uri")),
            Value::ToTls(port) => {
                let port = port.filter(|port| port.get() != 443).map(|port| format!(":{port}")).unwrap_or_default();
                self.put(format_args!("https://$host{port}$request_uri"));
            }
            Value::Hsts(hsts) => self.put(format_args!("\"{hsts}\"")),
            Value::RateZone(upstream) => self.put(format_args!("zone=rate_{}:1m", upstream.digest())),
            Value::RateZoneName(upstream) => self.put(format_args!("zone=rate_{}", upstream.digest())),
            Value::Rate(limit) => {
                let period = match limit.period {
                    RatePeriod::Second => "s",
                    RatePeriod::Minute => "m",
                };
                self.put(format_args!("rate={}r/{period}", limit.requests));
            }
        }
    }

    fn put(&mut self, text: fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("a string takes everything");
    }

    fn time(&mut self, time: Duration) {
        let milliseconds = time.as_millis();
        let written = if milliseconds.is_multiple_of(1000) {
            format!("{}s", milliseconds / 1000)
        } else {
            format!("{milliseconds}ms")
        };
        self.text.push_str(&written);
    }
}

impl Upstream<'_> {
    /// No two have the same: a host holds neither `+` nor upper-case letters.
    fn name(&self) -> String {
        let of_host = |host: Option<&Host>| match host.map(Host::as_str) {
            None => "default-backend".to_owned(),
            Some(host) => match host.strip_prefix("*.") {
                Some(rest) => format!("wildcard-{rest}"),
                None => format!("host-{host}"),
            },
        };
        match self {
            Upstream::Route { host, path } if path.is_root() => of_host(*host),
            Upstream::Route { host, path } => {
                format!("{}+{}", of_host(*host), Digest::of(path.as_str().as_bytes()).short())
            }
            Upstream::Passthrough { host } => format!("TLS-{}", of_host(*host)),
        }
    }

    /// For names that must not hold all the characters that a host may.
    fn digest(&self) -> String {
        Digest::of(self.name().as_bytes()).name()
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
        let (root, app) = (Path::default(), "/app".parse().unwrap());
        for (value, expect) in [
            (Value::Time(Duration::from_secs(75)), "75s"),
            (Value::Time(Duration::from_millis(1500)), "1500ms"),
            (Value::Size(0), "0"),
            (Value::Size(1000), "1000"),
            (Value::Size(u64::MAX), "9223372036854775807"),
            (Value::Size(8 * 1024), "8k"),
            (Value::Size(32 * 1024 * 1024), "32m"),
            (Value::Parameter("max_fails", 0), "max_fails=0"),
            (Value::Host(&wildcard), "*.a.local"),
            (Value::Endpoint("10.0.0.9:80".parse().unwrap()), "10.0.0.9:80"),
            (Value::Endpoint("[fd00::1]:80".parse().unwrap()), "[fd00::1]:80"),
            (Value::Upstream(Upstream::Route { host: Some(&host), path: &root }), "host-a.local"),
            (Value::Upstream(Upstream::Route { host: Some(&host), path: &app }), "host-a.local+f53b52ad6d21"),
            (Value::Upstream(Upstream::Passthrough { host: Some(&host) }), "TLS-host-a.local"),
            (
                Value::To(Scheme::Http, Upstream::Route { host: Some(&wildcard), path: &root }, false),
                "http://wildcard-a.local",
            ),
            (Value::To(Scheme::Https, Upstream::Route { host: None, path: &root }, true), "https://default-backend/"),
            (Value::Below(&app, "$is_args$args"), "/app/$is_args$args"),
            (Value::Below(&root, ""), "/"),
            (Value::MapHost(&Host::parse("include").unwrap()), r"\include"),
            (
                Value::CookiePattern(&"connect.sid".parse().unwrap()),
                r#""~(?:^|; *)connect\.sid=(?<dovetail_cookie>[^;]+)""#,
            ),
            (Value::ToTls(NonZeroU16::new(443)), "https://$host$request_uri"),
            (Value::ToTls(NonZeroU16::new(8443)), "https://$host:8443$request_uri"),
            (Value::Hsts("600;preload".parse().unwrap()), r#""max-age=600; preload""#),
            (Value::Rate("5r/m".parse().unwrap()), "rate=5r/m"),
            (Value::ParameterTime("fail_timeout", Duration::from_secs(10)), "fail_timeout=10s"),
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
