//! Networks and addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::{ValueError, number};

/// A network or an address. Bits of the address behind the network's are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    address: IpAddr,
    length: u8,
}

impl Cidr {
    /// What is possible.
    pub const ALLOWED: &'static str = "an address or a network, such as 10.0.0.0/8 or fd00::/8";
}

impl FromStr for Cidr {
    type Err = ValueError;

    /// Reads `10.0.0.0/8`, `fd00::/8`, or an address alone.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = || ValueError::new(text, Self::ALLOWED);
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address = address.parse::<IpAddr>().map_err(|_| refuse())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => most,
            Some(length) => number(length).filter(|length| *length <= most).ok_or_else(refuse)?,
        };
        // nginx warns of further bits, and they mean nothing.
        let address = match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                IpAddr::V4((address.to_bits() & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                IpAddr::V6((address.to_bits() & mask).into())
            }
        };
        Ok(Self { address, length })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

super::as_text!(Cidr);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_addresses_are_read() {
        for (written, read) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("fd00::/8", "fd00::/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3/31", "10.1.2.2/31"),
            ("1.2.3.4/0", "0.0.0.0/0"),
            ("fd00:1:2::3/20", "fd00::/20"),
            ("::1/128", "::1/128"),
            ("::1/0", "::/0"),
        ] {
            assert_eq!(written.parse::<Cidr>().unwrap().to_string(), read);
        }
        for bad in ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "example.org", "10.0.0.0/8;", "::/129"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad:?}");
        }
    }
}
