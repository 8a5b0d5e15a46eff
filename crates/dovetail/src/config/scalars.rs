//! The single values of the configuration. Each is read by a visitor of its own, because only then does an
//! error carry the line of the value and not that of the mapping around it.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use model::{ClusterName, InstanceName};
use reconciler::HostPattern;

/// A value that is written as one word or number.
pub trait Scalar: Sized {
    /// What is allowed, after "expected".
    const EXPECTED: &'static str;

    /// Reads the value; the error says what is wrong with it.
    fn read(text: &str) -> Result<Self, String>;
}

/// Implements `Deserialize`, `Serialize` and `JsonSchema` for a [`Scalar`] that prints what it reads.
macro_rules! scalar {
    ($name:ty, $schema:tt) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(<$name as Scalar>::EXPECTED)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        <$name as Scalar>::read(text).map_err(|error| {
                            E::custom(format_args!("{text:?} {error}, expected {}", <$name as Scalar>::EXPECTED))
                        })
                    }

                    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<$name, E> {
                        self.visit_str(&number.to_string())
                    }

                    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<$name, E> {
                        self.visit_str(&number.to_string())
                    }

                    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<$name, E> {
                        self.visit_str(&number.to_string())
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let text = self.to_string();
                match text.parse::<u64>() {
                    Ok(number) => serializer.serialize_u64(number),
                    Err(_) => serializer.serialize_str(&text),
                }
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).replace(['<', '>', ' ', ','], "_").into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}

/// A length of time: `500ms`, `3s`, `10m`, `2h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl Scalar for Span {
    const EXPECTED: &'static str = "a length of time such as 500ms, 3s, 10m or 2h, at least 1ms and at most 24h";

    fn read(text: &str) -> Result<Self, String> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| "does not start with a whole number".to_owned())?;
        let scale = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "" => return Err("has no unit".into()),
            _ => return Err(format!("has the unknown unit {unit:?}")),
        };
        match number.checked_mul(scale) {
            Some(milliseconds) if (1..=86_400_000).contains(&milliseconds) => {
                Ok(Self(Duration::from_millis(milliseconds)))
            }
            _ => Err("is out of range".into()),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        for (scale, unit) in [(3_600_000, "h"), (60_000, "m"), (1000, "s")] {
            if milliseconds.is_multiple_of(scale) {
                return write!(f, "{}{unit}", milliseconds / scale);
            }
        }
        write!(f, "{milliseconds}ms")
    }
}

scalar!(Span, { "type": "string", "pattern": "^[0-9]+(ms|s|m|h)$", "examples": ["500ms", "3s", "10m"] });

/// An amount of bytes: `512`, `8k`, `32m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Scalar for Size {
    const EXPECTED: &'static str = "a size in bytes such as 512, 8k, 32m or 1g";

    fn read(text: &str) -> Result<Self, String> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| "does not start with a whole number".to_owned())?;
        let shift = match unit {
            "" => 0,
            "k" | "K" => 10,
            "m" | "M" => 20,
            "g" | "G" => 30,
            _ => return Err(format!("has the unknown unit {unit:?}")),
        };
        number.checked_mul(1 << shift).map(Self).ok_or_else(|| "is out of range".to_owned())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(30, "g"), (20, "m"), (10, "k")] {
            if self.0 > 0 && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

scalar!(Size, { "type": ["string", "integer"], "pattern": "^[0-9]+[kKmMgG]?$", "examples": ["8k", "32m"] });

/// A whole number between two bounds, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Whole<const MIN: u64, const MAX: u64>(pub u64);

impl<'de, const MIN: u64, const MAX: u64> serde::Deserialize<'de> for Whole<MIN, MAX> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<const MIN: u64, const MAX: u64>;
        impl<const MIN: u64, const MAX: u64> serde::de::Visitor<'_> for Visitor<MIN, MAX> {
            type Value = Whole<MIN, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from {MIN} to {MAX}")
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
                if (MIN..=MAX).contains(&number) {
                    Ok(Whole(number))
                } else {
                    Err(E::invalid_value(serde::de::Unexpected::Unsigned(number), &self))
                }
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Self::Value, E> {
                match u64::try_from(number) {
                    Ok(number) => self.visit_u64(number),
                    Err(_) => Err(E::invalid_value(serde::de::Unexpected::Signed(number), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl<const MIN: u64, const MAX: u64> serde::Serialize for Whole<MIN, MAX> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<const MIN: u64, const MAX: u64> schemars::JsonSchema for Whole<MIN, MAX> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Whole_{MIN}_{MAX}").into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

/// A TCP port.
pub type Port = Whole<1, 65535>;

/// Declares an enum of words, read and printed as written here.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl Scalar for $name {
            const EXPECTED: &'static str = concat!("one of", $(" ", $word),+);

            fn read(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err("is not possible here".into()),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }

        scalar!($name, { "type": "string", "enum": [$($word),+] });
    };
}

words! {
    /// How log lines look.
    LogFormat {
        /// One JSON object a line.
        Json = "json",
        /// For people.
        Text = "text",
    }
}

words! {
    /// How much is logged.
    LogLevel {
        /// Only what needs somebody.
        Error = "error",
        /// And what may need somebody.
        Warn = "warn",
        /// And what was done.
        Info = "info",
        /// And why, short-circuits included.
        Debug = "debug",
        /// And every call.
        Trace = "trace",
    }
}

words! {
    /// How the proxy's ports are published.
    PublishMode {
        /// By Swarm's routing mesh, on every node.
        Ingress = "ingress",
        /// On the nodes that run a proxy, one proxy a node.
        Host = "host",
    }
}

words! {
    /// What the application is told about the client's protocol and request id.
    Forwarded {
        /// What a trusted outer balancer sent is kept.
        Keep = "keep",
        /// What this proxy sees.
        Overwrite = "overwrite",
    }
}

words! {
    /// What Swarm does when an update of the proxy service fails.
    FailureAction {
        /// Go back to the spec before.
        Rollback = "rollback",
        /// Stop where it is; Dovetail then writes the last good forward.
        Pause = "pause",
    }
}

words! {
    /// What a tag of the proxy image is worth.
    ImagePolicy {
        /// What it meant when it was configured.
        Keep = "keep",
        /// What it means now.
        Follow = "follow",
    }
}

words! {
    /// The order within an update.
    UpdateOrder {
        /// Start-first where no host port is involved, else stop-first.
        Auto = "auto",
        /// The new task runs before the old one stops.
        StartFirst = "start-first",
        /// The old task is gone before the new one starts.
        StopFirst = "stop-first",
    }
}

words! {
    /// When the files are checked before an update.
    UpdateCheck {
        /// When something differs from what works that the generator cannot vouch for, above all secrets and the image.
        Auto = "auto",
        /// Before every update to something that has not worked before.
        Always = "always",
        /// Never: the first proxy of an update is the check.
        Never = "never",
    }
}

words! {
    /// How requests are logged.
    AccessLog {
        /// Not at all. A quoted word: without quotes, YAML 1.1 readers take it for false.
        Off = "off",
        /// The combined format and X-Forwarded-For.
        Main = "main",
        /// `main` with the request's id and times.
        Trace = "trace",
        /// One JSON object a line.
        Json = "json",
    }
}

words! {
    /// The least severe messages that the proxies log about themselves.
    ErrorLogLevel {
        /// `error`
        Error = "error",
        /// `warn`
        Warn = "warn",
        /// `notice`
        Notice = "notice",
        /// `info`
        Info = "info",
    }
}

words! {
    /// A version of TLS.
    TlsProtocol {
        /// 1.0, for very old clients only.
        V1_0 = "TLSv1",
        /// 1.1, likewise.
        V1_1 = "TLSv1.1",
        /// 1.2.
        V1_2 = "TLSv1.2",
        /// 1.3.
        V1_3 = "TLSv1.3",
    }
}

macro_rules! wrapped {
    ($(#[$doc:meta])* $name:ident($inner:ty), $expected:literal, $read:expr, $schema:tt) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub $inner);

        impl Scalar for $name {
            const EXPECTED: &'static str = $expected;

            fn read(text: &str) -> Result<Self, String> {
                let read: fn(&str) -> Result<$inner, String> = $read;
                read(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        scalar!($name, $schema);
    };
}

wrapped!(
    /// The name of this installation.
    Instance(InstanceName),
    "1 to 16 lower-case letters, digits and hyphens",
    |text| InstanceName::parse(text).map_err(|_| "is no name of an instance".to_owned()),
    { "type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,15}$" }
);

wrapped!(
    /// The name of a cluster of proxies.
    Cluster(ClusterName),
    "1 to 16 lower-case letters, digits and hyphens",
    |text| ClusterName::parse(text).map_err(|_| "is no name of a cluster".to_owned()),
    { "type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,15}$" }
);

wrapped!(
    /// An address to listen on.
    Listen(SocketAddr),
    "an address and a port such as 127.0.0.1:8717",
    |text| text.parse().map_err(|_| "is no address with a port".to_owned()),
    { "type": "string", "examples": ["127.0.0.1:8717"] }
);

wrapped!(
    /// Hosts that a rule is about.
    Claimed(HostPattern),
    "a host such as shop.example.org, all below it as *.shop.example.org, or * for every host",
    |text| text.parse().map_err(|_| "is no host".to_owned()),
    { "type": "string", "examples": ["*.shop.example.org"] }
);

wrapped!(
    /// A name that Swarm accepts for a service.
    ServiceName(String),
    "1 to 63 letters, digits, hyphens and underscores, with a letter or digit at both ends",
    |text| {
        if actuator::is_service_name(text) { Ok(text.to_owned()) } else { Err("is no name of a service".into()) }
    },
    { "type": "string", "pattern": "^[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?$" }
);

wrapped!(
    /// A routing label that a service can do without.
    RoutingLabel(String),
    "a routing label other than hosts and port, such as com.docker.lb.basic_auth",
    |text| {
        let known = model::labels::ROUTING.contains(&text);
        let needed = [model::labels::HOSTS, model::labels::PORT].contains(&text);
        if known && !needed { Ok(text.to_owned()) } else { Err("is not such a label".into()) }
    },
    { "type": "string", "examples": ["com.docker.lb.basic_auth", "com.docker.lb.max_body_size"] }
);

wrapped!(
    /// Something that must not be empty and has no blanks or control characters in it.
    Word(String),
    "a word without blanks",
    |text| {
        if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            Err("is empty or has blanks in it".into())
        } else {
            Ok(text.to_owned())
        }
    },
    { "type": "string", "minLength": 1, "pattern": "^\\S+$" }
);

wrapped!(
    /// A capability of Linux, the way the Engine writes it.
    Capability(String),
    "a capability such as NET_BIND_SERVICE, or ALL",
    |text| {
        let name = text.to_ascii_uppercase();
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        let fits = (1..=32).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        match name {
            "ALL" => Ok(name.to_owned()),
            _ if fits => Ok(format!("CAP_{name}")),
            _ => Err("is no capability".into()),
        }
    },
    { "type": "string", "examples": ["ALL", "NET_BIND_SERVICE"] }
);

/// The version of nginx in the proxy's image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NginxVersion(pub u16, pub u16, pub u16);

impl Scalar for NginxVersion {
    const EXPECTED: &'static str = "a version of nginx from 1.22 to 1.30, such as \"1.22.1\" (in quotes)";

    fn read(text: &str) -> Result<Self, String> {
        let parts: Vec<u16> =
            text.split('.').map(str::parse).collect::<Result<_, _>>().map_err(|_| "is no version".to_owned())?;
        let version = match parts[..] {
            [major, minor] => Self(major, minor, 0),
            [major, minor, patch] => Self(major, minor, patch),
            _ => return Err("is no version".into()),
        };
        if version.0 == 1 && (22..=30).contains(&version.1) { Ok(version) } else { Err("is not supported".into()) }
    }
}

impl fmt::Display for NginxVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

scalar!(NginxVersion, { "type": "string", "pattern": "^1\\.(2[2-9]|30)(\\.[0-9]+)?$", "examples": ["1.22.1"] });

/// How many worker processes a proxy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// As many as the machine has processors.
    Auto,
    /// So many.
    Count(u16),
}

impl Scalar for Workers {
    const EXPECTED: &'static str = "auto, or a whole number from 1 to 512";

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            number => match number.parse() {
                Ok(count) if (1..=512).contains(&count) => Ok(Self::Count(count)),
                _ => Err("is not possible here".into()),
            },
        }
    }
}

impl fmt::Display for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

scalar!(Workers, { "type": ["string", "integer"], "examples": ["auto", 2] });

/// How many proxies an update replaces at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parallelism {
    /// A quarter of them where the new ones start first, else one after the other.
    Auto,
    /// So many.
    Count(u64),
}

impl Scalar for Parallelism {
    const EXPECTED: &'static str = "auto, or a whole number from 1 to 1000";

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            number => match number.parse() {
                Ok(count) if (1..=1000).contains(&count) => Ok(Self::Count(count)),
                _ => Err("is not possible here".into()),
            },
        }
    }
}

impl fmt::Display for Parallelism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

scalar!(Parallelism, { "type": ["string", "integer"], "examples": ["auto", 2] });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_print_what_they_read() {
        for text in ["1ms", "500ms", "3s", "90s", "10m", "2h"] {
            assert_eq!(Span::read(text).unwrap().to_string(), text);
        }
        for (text, printed) in [("512", "512"), ("8k", "8k"), ("1024", "1k"), ("32M", "32m"), ("0", "0")] {
            assert_eq!(Size::read(text).unwrap().to_string(), printed);
        }
        assert_eq!(NginxVersion::read("1.28").unwrap().to_string(), "1.28.0");
        assert_eq!(Workers::read("auto"), Ok(Workers::Auto));
        for (text, printed) in [("ALL", "ALL"), ("all", "ALL"), ("NET_RAW", "CAP_NET_RAW"), ("cap_chown", "CAP_CHOWN")]
        {
            assert_eq!(Capability::read(text).unwrap().to_string(), printed);
        }
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        for text in ["", "s", "3", "3 s", "-3s", "0s", "25h", "99999999999999999999s", "3d"] {
            assert!(Span::read(text).is_err(), "{text:?}");
        }
        for text in ["1.21.6", "1.31", "2.0", "1", "1.22.1.1", "latest"] {
            assert!(NginxVersion::read(text).is_err(), "{text:?}");
        }
        for text in ["0", "513", "-1", "many"] {
            assert!(Workers::read(text).is_err(), "{text:?}");
        }
        for text in ["", "CAP_", "NET RAW", "NET-RAW", "CAP_9"] {
            assert!(Capability::read(text).is_err(), "{text:?}");
        }
        for text in ["0", "1001", "-1", "many"] {
            assert!(Parallelism::read(text).is_err(), "{text:?}");
        }
        assert_eq!(Parallelism::read("4"), Ok(Parallelism::Count(4)));
    }
}
