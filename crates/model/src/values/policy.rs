//! What is demanded of clients.

use std::fmt;
use std::str::FromStr;

use super::{ValueError, number};

/// How many requests one client address may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RateLimit {
    /// So many ...
    pub requests: u32,
    /// ... in this time.
    pub period: RatePeriod,
    /// So many more at once before any is refused. If nothing is said, all of the time's requests may come at once, as
    /// those of one page do.
    pub burst: u32,
}

/// The time of a [`RateLimit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RatePeriod {
    /// `r/s`.
    Second,
    /// `r/m`.
    Minute,
}

impl RateLimit {
    /// What is possible.
    pub const ALLOWED: &'static str =
        "requests a second or a minute and perhaps a burst, each up to 1000000, such as 10r/s or 30r/m,burst=20";
    const MOST: u32 = 1_000_000;
}

impl FromStr for RateLimit {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = || ValueError::new(text, Self::ALLOWED);
        let (rate, burst) = match text.split_once(',') {
            Some((rate, burst)) => {
                (rate, Some(burst.trim_start_matches(' ').strip_prefix("burst=").ok_or_else(refuse)?))
            }
            None => (text, None),
        };
        let (requests, period) = match rate.strip_suffix("r/s") {
            Some(requests) => (requests, RatePeriod::Second),
            None => (rate.strip_suffix("r/m").ok_or_else(refuse)?, RatePeriod::Minute),
        };
        let requests = number(requests).filter(|requests| (1..=Self::MOST).contains(requests)).ok_or_else(refuse)?;
        let burst = match burst {
            Some(burst) => number(burst).filter(|burst| *burst <= Self::MOST).ok_or_else(refuse)?,
            None => requests - 1,
        };
        Ok(Self { requests, period, burst })
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let period = match self.period {
            RatePeriod::Second => "s",
            RatePeriod::Minute => "m",
        };
        write!(f, "{}r/{period}", self.requests)?;
        if self.burst.checked_add(1) != Some(self.requests) { write!(f, ",burst={}", self.burst) } else { Ok(()) }
    }
}

/// Strict-Transport-Security: a browser that has seen it speaks TLS only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hsts {
    /// For how long, in seconds; 0 ends it.
    pub max_age: u32,
    /// Also with all hosts below this one.
    pub include_subdomains: bool,
    /// Whether browsers may ship it.
    pub preload: bool,
}

impl Hsts {
    /// What is possible.
    pub const ALLOWED: &'static str =
        "true (a year), or seconds, and perhaps includeSubDomains and preload, such as 31536000; includeSubDomains";
    const YEAR: u32 = 365 * 24 * 60 * 60;
}

impl FromStr for Hsts {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = || ValueError::new(text, Self::ALLOWED);
        let mut parts = text.split(';').map(|part| part.trim_matches(' '));
        let max_age = match parts.next() {
            Some("true") => Self::YEAR,
            Some(seconds) => number(seconds.strip_prefix("max-age=").unwrap_or(seconds)).ok_or_else(refuse)?,
            None => return Err(refuse()),
        };
        let mut hsts = Self { max_age, include_subdomains: false, preload: false };
        for part in parts {
            let flag = match part.to_ascii_lowercase().as_str() {
                "includesubdomains" => &mut hsts.include_subdomains,
                "preload" => &mut hsts.preload,
                _ => return Err(refuse()),
            };
            *flag = true;
        }
        Ok(hsts)
    }
}

impl fmt::Display for Hsts {
    /// As in the header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "max-age={}", self.max_age)?;
        if self.include_subdomains {
            f.write_str("; includeSubDomains")?;
        }
        if self.preload { f.write_str("; preload") } else { Ok(()) }
    }
}

super::as_text!(RateLimit, Hsts);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        for (written, read) in [
            ("10r/s", "10r/s"),
            ("30r/m,burst=20", "30r/m,burst=20"),
            ("5r/s, burst=0", "5r/s,burst=0"),
            ("5r/s,burst=4", "5r/s"),
            ("1r/m", "1r/m"),
        ] {
            assert_eq!(written.parse::<RateLimit>().unwrap().to_string(), read);
        }
        for bad in ["", "10", "0r/s", "10r/h", "10 r/s", "+1r/s", "1r/s,burst", "1r/s,burst=-1", "1r/s;", "1000001r/s"]
        {
            assert!(bad.parse::<RateLimit>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn hsts_is_read() {
        for (written, read) in [
            ("true", "max-age=31536000"),
            ("600", "max-age=600"),
            ("max-age=600", "max-age=600"),
            ("0; includeSubDomains", "max-age=0; includeSubDomains"),
            ("600;includesubdomains;preload", "max-age=600; includeSubDomains; preload"),
        ] {
            let hsts: Hsts = written.parse().unwrap();
            assert_eq!(hsts.to_string(), read);
            assert_eq!(hsts.to_string().parse::<Hsts>().unwrap(), hsts);
        }
        for bad in ["", "false", "1y", "-1", "600;", "600; x", "600\"", "4294967296"] {
            assert!(bad.parse::<Hsts>().is_err(), "{bad:?}");
        }
    }
}
