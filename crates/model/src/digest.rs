//! Content addresses.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// The SHA-256 of some bytes, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of one piece of content.
    pub fn of(content: &[u8]) -> Self {
        Self(sha2::Sha256::digest(content).into())
    }

    /// Reads 64 hexadecimal digits; anything else is `None`.
    pub fn parse(hex: &str) -> Option<Self> {
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return None;
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// The digits.
    pub(crate) fn hex(&self) -> [u8; 64] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        std::array::from_fn(|place| {
            let byte = self.0[place / 2];
            DIGITS[usize::from(if place.is_multiple_of(2) { byte >> 4 } else { byte & 0xf })]
        })
    }

    /// The first twelve digits, for people.
    pub fn short(&self) -> String {
        let mut hex = self.to_string();
        hex.truncate(12);
        hex
    }

    /// The first twenty digits, for names of objects that carry the whole digest in a label.
    pub fn name(&self) -> String {
        let mut hex = self.to_string();
        hex.truncate(20);
        hex
    }
}

/// Several parts in their order. Each part's length goes in before it, so that moving bytes from one part to the next
/// changes the digest.
#[derive(Default)]
pub(crate) struct Parts(sha2::Sha256);

impl Parts {
    pub(crate) fn add(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
    }

    pub(crate) fn digest(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.hex()).expect("digits are ASCII"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hex = String::deserialize(deserializer)?;
        Digest::parse(&hex).ok_or_else(|| serde::de::Error::custom("a digest has 64 lower-case hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_what_it_prints() {
        let digest = Digest::of(b"content");
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        assert_eq!(Digest::parse("abc"), None);
        assert_eq!(Digest::parse(&"A".repeat(64)), None);
    }

    #[test]
    fn parts_do_not_run_together() {
        let digest = |all: [&[u8]; 2]| {
            let mut parts = Parts::default();
            all.into_iter().for_each(|part| parts.add(part));
            parts.digest()
        };
        assert_ne!(digest([b"ab", b"c"]), digest([b"a", b"bc"]));
    }
}
