//! Names of cookies and of Swarm's secrets.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::ValueError;

macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $most:literal, $special:literal, $allowed:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// What is possible.
            pub const ALLOWED: &'static str = $allowed;

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ValueError;

            fn from_str(text: &str) -> Result<Self, ValueError> {
                let possible = |byte: u8| byte.is_ascii_alphanumeric() || $special.contains(&byte);
                if (1..=$most).contains(&text.len()) && text.bytes().all(possible) {
                    Ok(Self(text.into()))
                } else {
                    Err(ValueError::new(text, Self::ALLOWED))
                }
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

        super::as_text!($name);
    };
}

word! {
    /// The name of a cookie. HTTP would allow more; these are the names in use.
    CookieName, 128, b"-._", "a cookie's name of at most 128 letters, digits, - . and _"
}

word! {
    /// The name of a Swarm secret, as Swarm allows it.
    SecretName, 64, b"-._", "the name of a secret: at most 64 letters, digits, - . and _"
}

impl SecretName {
    /// The name that `docker stack deploy` gives it in a stack; none if that would be none.
    pub fn in_stack(&self, stack: &str) -> Option<Self> {
        format!("{stack}_{self}").parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are() {
        for good in ["session", "JSESSIONID", "connect.sid", "app_session-2"] {
            assert_eq!(good.parse::<CookieName>().unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a=b", "a;", "ä", "a$", "a\"", "../a"] {
            assert!(bad.parse::<CookieName>().is_err(), "{bad:?}");
            assert!(bad.parse::<SecretName>().is_err(), "{bad:?}");
        }
        assert!("a".repeat(64).parse::<SecretName>().is_ok());
        assert!("a".repeat(65).parse::<SecretName>().is_err());
    }
}
