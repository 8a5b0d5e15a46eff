//! Values that people write in labels, with checking constructors: a value of these types is fit to be written into a
//! proxy file. Each says what would be possible when it refuses.

mod address;
mod path;
mod policy;
mod redirect;
mod word;

pub use address::Cidr;
pub use path::Path;
pub use policy::{Hsts, RateLimit, RatePeriod};
pub use redirect::{RedirectTo, Scheme};
pub use word::{CookieName, SecretName};

/// Why a text is no such value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not possible: {allowed}")]
pub struct ValueError {
    /// The text.
    pub found: String,
    /// What would be possible.
    pub allowed: &'static str,
}

impl ValueError {
    /// A refusal.
    pub fn new(found: impl Into<String>, allowed: &'static str) -> Self {
        Self { found: found.into(), allowed }
    }
}

/// A number of digits alone: Rust would read "+80" too.
pub fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Reading and writing as text, for types with `FromStr` and `Display`.
macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
use as_text;
