//! Values with rules: a value of these types is fit to be written into an nginx file.

use std::fmt;
use std::str::FromStr;

use model::values::ValueError;
use serde::{Deserialize, Serialize};

fn refuse<T>(found: &str, allowed: &'static str) -> Result<T, ValueError> {
    Err(ValueError::new(found, allowed))
}

/// A version of nginx.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Version {
    /// The first number.
    pub major: u16,
    /// The second; odd ones are mainline.
    pub minor: u16,
    /// The third.
    pub patch: u16,
}

impl Version {
    /// The oldest that we render for: that of Debian 12.
    pub const OLDEST: Version = Version { major: 1, minor: 22, patch: 0 };
    /// From here on nothing is known.
    pub const TOO_NEW: Version = Version { major: 1, minor: 31, patch: 0 };
}

impl FromStr for Version {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let numbers: Option<Vec<u16>> = text.split('.').map(|number| number.parse().ok()).collect();
        match numbers.as_deref() {
            Some([major, minor, patch]) => Ok(Self { major: *major, minor: *minor, patch: *patch }),
            _ => refuse(text, "a version has three numbers, such as 1.28.0"),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A text that nginx takes as it is: no control characters, and no `$`, which would begin a variable and cannot
/// be escaped in nginx's language.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Text(String);

impl Text {
    /// Checks a text.
    ///
    /// # Errors
    /// When it is empty, longer than 1024 bytes, or holds a control character or `$`.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let fits = (1..=1024).contains(&text.len()) && !text.chars().any(|c| c.is_control() || c == '$');
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            refuse(text, "1 to 1024 bytes without control characters and without $")
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A line of nginx's language by the cluster's administrator, who may write what they like: it is never made from a
/// label. What breaks the file is found by the check before the rollout, or by the rollout.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct AdminLine(String);

impl AdminLine {
    /// Checks a line.
    ///
    /// # Errors
    /// When it is empty, longer than 4000 bytes, or holds a control character other than a tab.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let fits = (1..=4000).contains(&text.len()) && !text.chars().any(|c| c.is_control() && c != '\t');
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            refuse(text, "one line of 1 to 4000 bytes without control characters")
        }
    }

    /// The line.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// In manifests they are texts, which are checked again when they are read.
macro_rules! as_text {
    ($name:ident, $parse:expr, $write:expr) => {
        impl TryFrom<String> for $name {
            type Error = ValueError;

            fn try_from(text: String) -> Result<Self, ValueError> {
                $parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                $write(value)
            }
        }
    };
}

as_text!(Version, str::parse, |version: Version| version.to_string());
as_text!(Text, Text::parse, |text: Text| text.0);
as_text!(AdminLine, AdminLine::parse, |line: AdminLine| line.0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_or_say_what_is_allowed() {
        for good in ["1.22.1", "1.28.0"] {
            assert_eq!(good.parse::<Version>().unwrap().to_string(), good);
        }
        for bad in ["", "1.22", "1.22.1.0", "1.x.1", "v1.22.1"] {
            assert!(bad.parse::<Version>().is_err(), "{bad:?}");
        }
        for bad in ["", "a\nb", "$x", "\u{7f}"] {
            assert!(Text::parse(bad).is_err(), "{bad:?}");
        }
        let error = Text::parse("$x").unwrap_err().to_string();
        assert_eq!(error, r#""$x" is not possible: 1 to 1024 bytes without control characters and without $"#);
    }
}
