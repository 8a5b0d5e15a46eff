//! Times and sizes, as nginx writes them.

use std::ops::RangeInclusive;
use std::time::Duration;

use model::values::number;

/// The times that a label may set.
pub(super) const TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);

/// `1d`, `1h30m`, `1m 30s`, `500ms`, or seconds without a unit; each unit once, from the largest to the smallest.
pub(super) fn time(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let mut milliseconds: u64 = 0;
    let mut units = UNITS.as_slice();
    let mut rest = text;
    loop {
        let (amount, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
        let amount: u64 = number(amount)?;
        let word = &after[..after.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(after.len())];
        let unit = if word.is_empty() { "s" } else { word };
        let at = units.iter().position(|(name, _)| *name == unit)?;
        milliseconds = milliseconds.checked_add(amount.checked_mul(units[at].1)?)?;
        units = &units[at + 1..];
        rest = after[word.len()..].trim_start_matches(' ');
        if rest.is_empty() {
            return Some(Duration::from_millis(milliseconds));
        }
    }
}

/// Bytes: `32m`, `1g`, `8k`, or a number; nginx counts them in 63 bits.
pub(super) fn size(text: &str) -> Option<u64> {
    let (amount, unit) = match text.as_bytes().last()?.to_ascii_lowercase() {
        b'k' => (&text[..text.len() - 1], 1 << 10),
        b'm' => (&text[..text.len() - 1], 1 << 20),
        b'g' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    let bytes = number::<u64>(amount)?.checked_mul(unit)?;
    i64::try_from(bytes).is_ok().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_nginxs() {
        for (written, milliseconds) in [
            ("10s", 10_000),
            ("10", 10_000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1m 30s", 90_000),
            ("1m30", 90_000),
            ("1d", 86_400_000),
            ("1h1m1s1ms", 3_661_001),
            ("0", 0),
        ] {
            assert_eq!(time(written), Some(Duration::from_millis(milliseconds)), "{written:?}");
        }
        for bad in [
            "",
            "s",
            "ms",
            "-1",
            "+1s",
            "1.5s",
            "1x",
            "1S",
            "30s1m",
            "1s1s",
            "10 s",
            "1m,30s",
            "1s;",
            "1s\n",
            "１s",
            "1ms1",
            "99999999999999999999",
            "18446744073709551615d",
        ] {
            assert_eq!(time(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn sizes_are_nginxs() {
        for (written, bytes) in [
            ("0", 0),
            ("8k", 8192),
            ("32m", 33_554_432),
            ("32M", 33_554_432),
            ("1g", 1 << 30),
            ("9223372036854775807", i64::MAX as u64),
        ] {
            assert_eq!(size(written), Some(bytes), "{written:?}");
        }
        for bad in ["", "m", "-1", "+1m", "1t", "1 m", "1.5m", "1mb", "9223372036854775808", "9999999999g", "1é", "1m;"]
        {
            assert_eq!(size(bad), None, "{bad:?}");
        }
    }
}
