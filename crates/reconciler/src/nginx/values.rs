//! Values with rules: a value of these types is fit to be written into an nginx file.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Why a text is no such value; says what would be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not possible: {allowed}")]
pub struct ValueError {
    found: String,
    allowed: &'static str,
}

fn refuse<T>(found: &str, allowed: &'static str) -> Result<T, ValueError> {
    Err(ValueError { found: found.to_owned(), allowed })
}

/// A version of nginx.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// A network or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    address: IpAddr,
    length: u8,
}

impl FromStr for Cidr {
    type Err = ValueError;

    /// Reads `10.0.0.0/8`, `fd00::/8`, or an address alone.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        const ALLOWED: &str = "an address or a network, such as 10.0.0.0/8 or fd00::/8";
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let Ok(address) = address.parse::<IpAddr>() else { return refuse(text, ALLOWED) };
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match length.map(str::parse::<u8>) {
            None => most,
            Some(Ok(length)) if length <= most => length,
            Some(_) => return refuse(text, ALLOWED),
        };
        Ok(Self { address, length })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// A text that nginx takes as it is: no control characters, and no `$`, which would begin a variable and cannot
/// be escaped in nginx's language.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
        for (written, read) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("fd00::/8", "fd00::/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(written.parse::<Cidr>().unwrap().to_string(), read);
        }
        for bad in ["", "10.0.0.0/33", "10.0.0.0/", "example.org", "10.0.0.0/8;", "::/129"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad:?}");
        }
        for bad in ["", "a\nb", "$x", "\u{7f}"] {
            assert!(Text::parse(bad).is_err(), "{bad:?}");
        }
        let error = Text::parse("$x").unwrap_err().to_string();
        assert_eq!(error, r#""$x" is not possible: 1 to 1024 bytes without control characters and without $"#);
    }
}
