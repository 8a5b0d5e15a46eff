//! Identifiers as Swarm gives them, and names that people write and that have rules.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

macro_rules! identifier {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the identifier as Swarm wrote it; Swarm's identifiers have no rule that we rely on.
            pub fn new(id: impl Into<Arc<str>>) -> Self {
                Self(id.into())
            }

            /// The identifier as Swarm wrote it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(id: &str) -> Self {
                Self(id.into())
            }
        }
    )*};
}

identifier! {
    /// A Swarm service, by id: a service that is removed and created again under its name is another one.
    ServiceId;
    /// A Swarm task.
    TaskId;
    /// A Swarm-scope network.
    NetworkId;
    /// A node of the Swarm.
    NodeId;
    /// A config object.
    ConfigId;
    /// A secret object.
    SecretId;
}

/// A time that Swarm tells, in nanoseconds since 1970: when it created an object, and with it who came first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// How long before this `earlier` was; zero if it was not.
    pub fn since(self, earlier: Timestamp) -> Duration {
        let nanoseconds = self.0.saturating_sub(earlier.0);
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
    }
}

/// A host name as routed: lower case, without the final dot, at most 253 characters; `*.` may lead it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Host(Arc<str>);

/// Why a text is no host name. The text shown to people is made by [`fmt::Display`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing is left after trimming.
    #[error("the name is empty")]
    Empty,
    /// More than 253 characters.
    #[error("the name has {0} characters, at most 253 are possible")]
    TooLong(usize),
    /// Two dots in a row, or a dot in front.
    #[error("a part between two dots is empty")]
    EmptyLabel,
    /// A part of more than 63 characters.
    #[error("the part {0:?} has more than 63 characters")]
    LabelTooLong(String),
    /// Something that no DNS name holds.
    #[error("the character {0:?} is not possible in a host name")]
    Character(char),
    /// `-a` or `a-`.
    #[error("the part {0:?} starts or ends with a hyphen")]
    Hyphen(String),
    /// A star anywhere but as the whole first part of at least two.
    #[error("a star is possible only as the whole first part, as in *.example.org")]
    Wildcard,
}

impl Host {
    /// What [`Host::parse`] accepts, in words for people.
    pub const ALLOWED: &'static str =
        "a DNS name of letters, digits, hyphens, underscores and dots, such as app.example.org or *.example.org";

    /// Reads a host name the way a label holds it: blanks around it and upper case are forgiven.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let trimmed = text.trim_matches(|c: char| c == ' ' || c == '\t');
        let name = trimmed.strip_suffix('.').unwrap_or(trimmed).to_ascii_lowercase();
        if name.is_empty() {
            return Err(HostError::Empty);
        }
        if name.len() > 253 {
            return Err(HostError::TooLong(name.len()));
        }
        let labels = match name.strip_prefix("*.") {
            Some(rest) => rest,
            None => name.as_str(),
        };
        for label in labels.split('.') {
            check_label(label)?;
        }
        Ok(Self(name.into()))
    }

    /// The name, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for all hosts below a name.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }
}

fn check_label(label: &str) -> Result<(), HostError> {
    if label.is_empty() {
        return Err(HostError::EmptyLabel);
    }
    if let Some(bad) = label.chars().find(|c| !(c.is_ascii_alphanumeric() || *c == '-' || *c == '_')) {
        return Err(if bad == '*' { HostError::Wildcard } else { HostError::Character(bad) });
    }
    if label.len() > 63 {
        return Err(HostError::LabelTooLong(label.to_owned()));
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(HostError::Hyphen(label.to_owned()));
    }
    Ok(())
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Host::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Why a text is no name of an instance or a cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name: 1 to 16 lower-case letters, digits and hyphens, starting with a letter or digit")]
pub struct NameError(pub String);

macro_rules! short_name {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// 1 to 16 characters of `[a-z0-9-]`, so that names of config objects stay within 64.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                let fits = (1..=16).contains(&text.len())
                    && !text.starts_with('-')
                    && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
                if fits { Ok(Self(text.into())) } else { Err(NameError(text.to_owned())) }
            }

            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                $name::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    )*};
}

short_name! {
    /// One installation of Dovetail on a cluster; every object that it creates carries this name as a label.
    InstanceName;
    /// One proxy service with its settings: Interlock's "service cluster".
    ClusterName;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_normalised() {
        for (written, read) in [
            ("demo.local", "demo.local"),
            (" Demo.Local\t", "demo.local"),
            ("demo.local.", "demo.local"),
            ("*.Example.org", "*.example.org"),
            ("localhost", "localhost"),
            ("my_app.local", "my_app.local"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(Host::parse(written).unwrap().as_str(), read, "{written:?}");
        }
    }

    #[test]
    fn what_is_no_host_name_is_refused_with_its_reason() {
        for (written, error) in [
            ("", HostError::Empty),
            (" ", HostError::Empty),
            (".", HostError::Empty),
            ("a..b", HostError::EmptyLabel),
            (".a", HostError::EmptyLabel),
            ("a;b{}", HostError::Character(';')),
            ("a\nb", HostError::Character('\n')),
            ("demo.local\n", HostError::Character('\n')),
            ("$x", HostError::Character('$')),
            ("demo.local:80", HostError::Character(':')),
            ("ä.example.org", HostError::Character('ä')),
            ("*", HostError::Wildcard),
            ("a.*.b", HostError::Wildcard),
            ("*a.b", HostError::Wildcard),
            ("-a.b", HostError::Hyphen("-a".into())),
            ("a-.b", HostError::Hyphen("a-".into())),
        ] {
            assert_eq!(Host::parse(written), Err(error), "{written:?}");
        }
        assert_eq!(Host::parse(&"a.".repeat(150)), Err(HostError::TooLong(299)));
        assert!(matches!(Host::parse(&"a".repeat(64)), Err(HostError::LabelTooLong(_))));
    }

    #[test]
    fn instance_names_fit_into_object_names() {
        for good in ["main", "a", "blue-2", "0123456789abcdef"] {
            assert!(InstanceName::parse(good).is_ok(), "{good:?}");
        }
        for bad in ["", "-a", "Main", "a.b", "0123456789abcdefg", "a b", "é"] {
            assert!(InstanceName::parse(bad).is_err(), "{bad:?}");
        }
    }
}
