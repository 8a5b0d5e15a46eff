//! Whereto requests are redirected.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use super::{Path, ValueError, number};
use crate::Host;

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// Plain.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// The scheme as in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// Where a redirect leads: the path and the query of the request are put behind it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RedirectTo {
    /// How.
    pub scheme: Scheme,
    /// To whom; never a wildcard.
    pub host: Host,
    /// `None`: the scheme's own.
    pub port: Option<NonZeroU16>,
    /// What comes before the path of the request.
    pub path: Path,
}

impl RedirectTo {
    /// What is possible.
    pub const ALLOWED: &'static str =
        "http:// or https://, a host name, and perhaps a port and a path, such as https://new.example.org";
}

impl FromStr for RedirectTo {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = || ValueError::new(text, Self::ALLOWED);
        let (scheme, rest) = text.split_once("://").ok_or_else(refuse)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(refuse()),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => (&rest[..at], rest[at..].parse()?),
            None => (rest, Path::default()),
        };
        let (name, port) = match authority.split_once(':') {
            Some((name, port)) => (name, Some(number(port).ok_or_else(refuse)?)),
            None => (authority, None),
        };
        let host = Host::parse(name).map_err(|_| refuse())?;
        if host.is_wildcard() || name.trim() != name {
            return Err(refuse());
        }
        Ok(Self { scheme, host, port, path })
    }
}

impl fmt::Display for RedirectTo {
    /// Without a final slash: a path and a query follow.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        if self.path.is_root() { Ok(()) } else { write!(f, "{}", self.path) }
    }
}

super::as_text!(RedirectTo);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        for (written, read) in [
            ("http://new.local", "http://new.local"),
            ("https://New.Local/", "https://new.local"),
            ("https://new.local:8443/base/", "https://new.local:8443/base"),
        ] {
            assert_eq!(written.parse::<RedirectTo>().unwrap().to_string(), read);
        }
        for bad in [
            "",
            "new.local",
            "ftp://new.local",
            "http://",
            "http://*.local",
            "http://a b",
            "http://a:0",
            "http://a:+8",
            "http://a;return",
            "http://a/$x",
            "http://a?b",
            "http://user@a",
            "http:// a",
        ] {
            assert!(bad.parse::<RedirectTo>().is_err(), "{bad:?}");
        }
    }
}
