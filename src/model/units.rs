//! Durations and sizes as users write them: `250ms`, `5s`, `1m30s`, `24h`; `64KiB`, `10MB`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A duration such as `250ms`, `5s`, `1m30s` or `24h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Span(pub Duration);

impl Span {
    pub const fn seconds(seconds: u64) -> Span {
        Span(Duration::from_secs(seconds))
    }
}

const DURATION_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl FromStr for Span {
    type Err = String;

    fn from_str(raw: &str) -> Result<Span, String> {
        let wrong = || format!("\"{raw}\" is not a duration; write it like 250ms, 5s, 1m30s or 24h");
        let mut rest = raw.trim();
        if rest == "0" {
            return Ok(Span(Duration::ZERO));
        }
        if rest.is_empty() {
            return Err(wrong());
        }
        let mut millis: u64 = 0;
        while !rest.is_empty() {
            let (number, tail) = split_number(rest).ok_or_else(wrong)?;
            let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(end);
            let (_, factor) = DURATION_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
            millis = number.checked_mul(*factor).and_then(|n| millis.checked_add(n)).ok_or_else(wrong)?;
            rest = tail;
        }
        Ok(Span(Duration::from_millis(millis)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return f.write_str("0s");
        }
        for (unit, factor) in [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
            if millis >= factor {
                write!(f, "{}{unit}", millis / factor)?;
                millis %= factor;
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(raw: String) -> Result<Span, String> {
        raw.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        span.to_string()
    }
}

/// A number of bytes such as `64KiB` or `10MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Size(pub u64);

const SIZE_UNITS: [(&str, u64); 8] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

impl FromStr for Size {
    type Err = String;

    fn from_str(raw: &str) -> Result<Size, String> {
        let wrong = || format!("\"{raw}\" is not a size; write it like 64KiB or 10MB");
        let (number, unit) = split_number(raw.trim()).ok_or_else(wrong)?;
        let unit = unit.trim();
        let (_, factor) = SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(wrong)?;
        number.checked_mul(*factor).map(Size).ok_or_else(wrong)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(raw: String) -> Result<Size, String> {
        raw.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> String {
        size.to_string()
    }
}

fn split_number(raw: &str) -> Option<(u64, &str)> {
    let end = raw.find(|c: char| !c.is_ascii_digit()).unwrap_or(raw.len());
    Some((raw[..end].parse().ok()?, &raw[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print_alike() {
        for (raw, millis) in [("250ms", 250), ("5s", 5_000), ("1m30s", 90_000), ("24h", 86_400_000), ("0", 0)] {
            let span: Span = raw.parse().expect(raw);
            assert_eq!(span.0.as_millis(), millis);
            assert_eq!(span.to_string().parse(), Ok(span));
        }
        for raw in ["", "5", "s", "5 parsecs", "-1s", "99999999999999999999h"] {
            assert!(raw.parse::<Span>().is_err(), "{raw}");
        }
    }

    #[test]
    fn sizes_read_and_print_alike() {
        for (raw, bytes) in [("64KiB", 65_536), ("10MB", 10_000_000), ("512", 512)] {
            let size: Size = raw.parse().expect(raw);
            assert_eq!(size.0, bytes);
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        assert!("a lot".parse::<Size>().is_err());
    }
}
