//! Lengths of time, sizes and counts, with their units and bounds. A file's `"30s"` becomes a
//! [`Duration`] here and nowhere else.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use serde::de::{Deserialize, Deserializer};

use super::raw::{Problem, Raw};

/// A length of time from 10 ms to one day, written with its unit: `"500ms"`, `"30s"`, `"1m 30s"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(Duration);

impl Period {
    /// The shortest.
    pub const MIN: Duration = Duration::from_millis(10);
    /// The longest.
    pub const MAX: Duration = Duration::from_secs(24 * 60 * 60);

    /// Checks the bounds.
    pub fn new(length: Duration) -> Result<Self, Problem> {
        match length {
            _ if length.is_zero() => Err(Problem::new("is zero", PERIOD_BOUNDS)),
            _ if length < Self::MIN => Err(Problem::new("is too short", PERIOD_BOUNDS)),
            _ if length > Self::MAX => Err(Problem::new("is too long", PERIOD_BOUNDS)),
            _ => Ok(Self(length)),
        }
    }

    /// The length.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// For the defaults of the grammar, which are within the bounds.
    pub(super) const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }
}

const PERIOD_BOUNDS: &str = "the shortest is \"10ms\", the longest \"1day\"";
const PERIOD_UNITS: &str = "write a number and a unit (ms, s, m, h), as in \"30s\"";

impl FromStr for Period {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        use humantime::DurationError::{Empty, NumberOverflow, UnknownUnit};
        let text = text.trim();
        if is_number(text) {
            return Err(Problem::new("has no unit", PERIOD_UNITS));
        }
        Self::new(humantime::parse_duration(text).map_err(|error| match error {
            Empty => Problem::new("is empty", PERIOD_UNITS),
            UnknownUnit { unit, .. } if unit.is_empty() => {
                Problem::new("has a number without a unit", PERIOD_UNITS)
            }
            UnknownUnit { .. } => Problem::new("has a unit that is not known", PERIOD_UNITS),
            NumberOverflow => Problem::new("is too long", PERIOD_BOUNDS),
            _ => Problem::new("is not a length of time", PERIOD_UNITS),
        })?)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Raw::deserialize(deserializer)? {
            Raw::Text(text) => text.parse(),
            Raw::Whole(_) | Raw::Real => {
                let help = "put it in quotes with a unit (ms, s, m, h), as in \"30s\"";
                Err(Problem::new("has no unit", help))
            }
            _ => Err(Problem::new("is not a length of time", PERIOD_UNITS)),
        }
        .map_err(Problem::pack)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// A number of bytes from 1 to 1 TiB, written with its unit: `"256KiB"`, `"16MiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

impl Size {
    /// The largest.
    pub const MAX: u64 = 1 << 40;

    /// Checks the bounds.
    pub fn new(bytes: u64) -> Result<Self, Problem> {
        match bytes {
            0 => Err(Problem::new("is zero", "the least is \"1B\"")),
            _ if bytes > Self::MAX => Err(Problem::new("is too large", "the most is \"1TiB\"")),
            _ => Ok(Self(bytes)),
        }
    }

    /// The bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// For the defaults of the grammar.
    pub(super) const fn kib(kib: u64) -> Self {
        Self(kib << 10)
    }
}

const SIZE_UNITS: &str = "write a number and a unit (B, KiB, MiB, GiB), as in \"256KiB\"";

impl FromStr for Size {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Problem::new("is empty", SIZE_UNITS));
        }
        if is_number(text) {
            return Err(Problem::new("has no unit", SIZE_UNITS));
        }
        let size = text.parse::<ByteSize>().map_err(|_| {
            let what = match text.starts_with(|c: char| c.is_ascii_digit()) {
                true => "has a unit that is not known",
                false => "is not a size",
            };
            Problem::new(what, SIZE_UNITS)
        })?;
        Self::new(size.as_u64())
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Raw::deserialize(deserializer)? {
            Raw::Text(text) => text.parse(),
            Raw::Whole(_) | Raw::Real => {
                let help = "put it in quotes with a unit (B, KiB, MiB, GiB), as in \"256KiB\"";
                Err(Problem::new("has no unit", help))
            }
            _ => Err(Problem::new("is not a size", SIZE_UNITS)),
        }
        .map_err(Problem::pack)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB"), (0, "B")];
        let whole = units.into_iter().find(|(shift, _)| self.0.trailing_zeros() >= *shift);
        let (shift, unit) = whole.unwrap_or((0, "B"));
        write!(f, "{}{unit}", self.0 >> shift)
    }
}

/// How many of something: 1 to 65,536.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(u32);

impl Count {
    /// The most.
    pub const MAX: u32 = 65_536;

    /// Checks the bounds.
    pub fn new(count: u32) -> Result<Self, Problem> {
        Self::from_whole(count.into())
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number, as a length or capacity.
    pub const fn items(self) -> usize {
        self.0 as usize
    }

    /// For the defaults of the grammar.
    pub(super) const fn fixed(count: u32) -> Self {
        Self(count)
    }

    fn from_whole(number: i128) -> Result<Self, Problem> {
        match number {
            ..=0 => Err(Problem::new("is too small", "the least is 1")),
            1..=65_536 => Ok(Self(number as u32)),
            _ => Err(Problem::new("is too large", "the most is 65536")),
        }
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Raw::deserialize(deserializer)? {
            Raw::Whole(number) => Self::from_whole(number),
            Raw::Text(_) => Err(Problem::new(
                "is a text where a number is needed",
                "write a whole number without quotes (a variable cannot give one)",
            )),
            _ => Err(Problem::new("is not a whole number", "write one, as in 20")),
        }
        .map_err(Problem::pack)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Digits and nothing else to say what they count.
fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn period(text: &str) -> Result<Duration, String> {
        text.parse::<Period>().map(Period::get).map_err(|problem| problem.what)
    }

    fn size(text: &str) -> Result<u64, String> {
        text.parse::<Size>().map(Size::bytes).map_err(|problem| problem.what)
    }

    #[test]
    fn a_period_has_a_unit_and_bounds() {
        assert_eq!(period("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(period(" 1m 30s "), Ok(Duration::from_secs(90)));
        assert_eq!(period("1day"), Ok(Period::MAX));
        assert_eq!(period("10ms"), Ok(Period::MIN));
        assert_eq!(period("9ms"), Err("is too short".into()));
        assert_eq!(period("25h"), Err("is too long".into()));
        assert_eq!(period("99999999999999999999s"), Err("is too long".into()));
        assert_eq!(period("0"), Err("has no unit".into()));
        assert_eq!(period("0s"), Err("is zero".into()));
        assert_eq!(period("30"), Err("has no unit".into()));
        assert_eq!(period("1m 30"), Err("has a number without a unit".into()));
        assert_eq!(period("30sx"), Err("has a unit that is not known".into()));
        assert_eq!(period("-30s"), Err("is not a length of time".into()));
        assert_eq!(period("soon"), Err("is not a length of time".into()));
        assert_eq!(period(" "), Err("is empty".into()));
    }

    #[test]
    fn a_size_has_a_unit_and_bounds() {
        assert_eq!(size("256KiB"), Ok(256 * 1024));
        assert_eq!(size("1.5 MiB"), Ok(3 << 19));
        assert_eq!(size("1kB"), Ok(1000));
        assert_eq!(size("1TiB"), Ok(Size::MAX));
        assert_eq!(size("2TiB"), Err("is too large".into()));
        assert_eq!(size("99999999999999999999TiB"), Err("is too large".into()));
        assert_eq!(size("0B"), Err("is zero".into()));
        assert_eq!(size("256"), Err("has no unit".into()));
        assert_eq!(size("256XB"), Err("has a unit that is not known".into()));
        assert_eq!(size("-1KiB"), Err("is not a size".into()));
        assert_eq!(size("large"), Err("is not a size".into()));
        assert_eq!(size(""), Err("is empty".into()));
    }

    #[test]
    fn a_size_and_a_period_are_shown_as_they_are_written() {
        for text in ["1B", "1000B", "256KiB", "16MiB", "1TiB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        for text in ["10ms", "1s", "30s", "1m 30s", "1day"] {
            assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_count_is_at_least_one_and_bounded() {
        assert_eq!(Count::new(1).map(Count::get), Ok(1));
        assert_eq!(Count::new(Count::MAX).map(Count::items), Ok(65_536));
        assert!(Count::new(0).is_err());
        assert!(Count::new(Count::MAX + 1).is_err());
    }
}
