//! Paths under a host.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::ValueError;

/// A path that a route begins at: `/`, or `/app` without a final slash. It stands for itself and for everything
/// below it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Arc<str>);

impl Path {
    /// What is possible.
    pub const ALLOWED: &'static str = "a path such as /app, of at most 255 letters, digits and - . _ ~ / + @ : = , \
                                       without empty parts, . and ..";

    /// Whether it is the whole host.
    pub fn is_root(&self) -> bool {
        &*self.0 == "/"
    }

    /// The text: without a final slash, unless it is the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Path {
    fn default() -> Self {
        Self("/".into())
    }
}

impl FromStr for Path {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = || ValueError::new(text, Self::ALLOWED);
        if text == "/" {
            return Ok(Self::default());
        }
        let parts = text.strip_prefix('/').ok_or_else(refuse)?;
        let parts = parts.strip_suffix('/').unwrap_or(parts);
        let possible = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+@:=,".contains(&byte);
        let fits = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(possible);
        if parts.len() > 254 || !parts.split('/').all(fits) {
            return Err(refuse());
        }
        Ok(Self(format!("/{parts}").into()))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

super::as_text!(Path);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_without_a_final_slash() {
        for (written, read) in [("/", "/"), ("/app", "/app"), ("/app/", "/app"), ("/a/b.c/~d", "/a/b.c/~d")] {
            assert_eq!(written.parse::<Path>().unwrap().as_str(), read);
        }
        assert!(Path::default().is_root());
    }

    #[test]
    fn what_nginx_would_read_otherwise_is_no_path() {
        for bad in
            ["", "app", "//", "/a//b", "/a/../b", "/.", "/a b", "/a;", "/a{", "/a$x", "/a%2f", "/a?b", "/ä", "/a\n"]
        {
            assert!(bad.parse::<Path>().is_err(), "{bad:?}");
        }
        assert!(format!("/{}", "a".repeat(255)).parse::<Path>().is_err());
        assert!(format!("/{}", "a".repeat(254)).parse::<Path>().is_ok());
    }
}
