//! Lengths of time, sizes and counts, with their units and bounds. A file's `"30s"` becomes a
//! [`Duration`] here and nowhere else.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use serde::de::{Deserialize, Deserializer};

use super::value::{Problem, Raw};

/// A length of time, written with its unit: `"500ms"`, `"30s"`, `"1m 30s"`. From 10 ms to one day, except
/// where a key states a longest of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(Duration);

impl Period {
    /// The shortest.
    pub const MIN: Duration = Duration::from_millis(10);
    /// The longest where a key states none.
    pub const MAX: Duration = Duration::from_secs(24 * 60 * 60);

    /// Checks the bounds, [`Period::MIN`] and [`Period::MAX`].
    pub fn new(length: Duration) -> Result<Self, Problem> {
        Self::within(length, Self::MAX, PERIOD_BOUNDS)
    }

    fn within(length: Duration, most: Duration, bounds: &str) -> Result<Self, Problem> {
        match length {
            _ if length.is_zero() => Err(Problem::new("is zero", bounds)),
            _ if length < Self::MIN => Err(Problem::new("is too short", bounds)),
            _ if length > most => Err(Problem::new("is too long", bounds)),
            _ => Ok(Self(length)),
        }
    }

    /// The length.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// Parses a value of at most `most`, which may be above [`Period::MAX`]; the error states `bounds` and no others.
    pub(crate) fn at_most<'de, D: Deserializer<'de>>(
        deserializer: D,
        most: Duration,
        bounds: &str,
    ) -> Result<Self, D::Error> {
        Self::read(Raw::deserialize(deserializer)?, most, bounds).map_err(Problem::pack)
    }

    /// For the defaults of the grammar, which are within the bounds.
    pub(crate) const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    fn read(raw: Raw, most: Duration, bounds: &str) -> Result<Self, Problem> {
        match raw {
            Raw::Text(text) => match length(text.trim())? {
                Some(length) => Self::within(length, most, bounds),
                None => Err(Problem::new("is too long", bounds)),
            },
            Raw::Whole(_) | Raw::Real(_) => {
                let help = "put it in quotes with a unit (ms, s, m, h), as in \"30s\"";
                Err(Problem::new("has no unit", help))
            }
            _ => Err(Problem::new("is not a length of time", PERIOD_UNITS)),
        }
    }
}

const PERIOD_BOUNDS: &str = "the shortest is \"10ms\", the longest \"1day\"";
const PERIOD_UNITS: &str = "write a number and a unit (ms, s, m, h), as in \"30s\"";

impl FromStr for Period {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        Self::read(Raw::Text(text.to_owned()), Self::MAX, PERIOD_BOUNDS)
    }
}

/// The value of a text, without bounds. `None`: longer than can be counted.
fn length(text: &str) -> Result<Option<Duration>, Problem> {
    use humantime::DurationError::{Empty, NumberOverflow, UnknownUnit};
    if is_number(text) {
        return Err(Problem::new("has no unit", PERIOD_UNITS));
    }
    let what = match humantime::parse_duration(text) {
        Ok(length) => return Ok(Some(length)),
        Err(NumberOverflow) => return Ok(None),
        Err(Empty) => "is empty",
        Err(UnknownUnit { unit, .. }) if unit.is_empty() => "has a number without a unit",
        Err(UnknownUnit { .. }) => "has a unit that is not known",
        Err(_) => "is not a length of time",
    };
    Err(Problem::new(what, PERIOD_UNITS))
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::at_most(deserializer, Self::MAX, PERIOD_BOUNDS)
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
            _ if bytes > Self::MAX => Err(Problem::new("is too large", SIZE_MOST)),
            _ => Ok(Self(bytes)),
        }
    }

    /// The bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Parses a value with bounds of its own, which `help` states: one above them is `too_large`. The error names no wider
    /// bound.
    pub(crate) fn within<'de, D: Deserializer<'de>>(
        deserializer: D,
        bounds: RangeInclusive<u64>,
        too_large: &str,
        help: &str,
    ) -> Result<Self, D::Error> {
        let bytes = match Raw::deserialize(deserializer)? {
            Raw::Text(text) => bytes_of(&text),
            Raw::Whole(_) | Raw::Real(_) => {
                let help = "put it in quotes with a unit (B, KiB, MiB, GiB), as in \"256KiB\"";
                Err(Problem::new("has no unit", help))
            }
            _ => Err(Problem::new("is not a size", SIZE_UNITS)),
        };
        let (least, most) = bounds.into_inner();
        bytes.map_err(Problem::pack).and_then(|bytes| match bytes {
            _ if bytes > most => Err(Problem::new(too_large, help).pack()),
            _ if bytes < least && least > 1 => Err(Problem::new("is too small", help).pack()),
            _ => Self::new(bytes).map_err(Problem::pack),
        })
    }

    /// For the defaults of the grammar.
    pub(crate) const fn kib(kib: u64) -> Self {
        Self(kib << 10)
    }
}

const SIZE_MOST: &str = "the most is \"1TiB\"";
const SIZE_UNITS: &str = "write a number and a unit (B, KiB, MiB, GiB), as in \"256KiB\"";

impl FromStr for Size {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        Self::new(bytes_of(text)?)
    }
}

/// The value of a text, without bounds.
fn bytes_of(text: &str) -> Result<u64, Problem> {
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
    Ok(size.as_u64())
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::within(deserializer, 1..=Self::MAX, "is too large", SIZE_MOST)
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
        Self::from_whole(count.into(), Self::MAX)
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
    pub(crate) const fn fixed(count: u32) -> Self {
        Self(count)
    }

    fn from_whole(number: i128, most: u32) -> Result<Self, Problem> {
        match u32::try_from(number.max(0)) {
            Ok(0) => Err(Problem::new("is too small", "the least is 1")),
            Ok(number) if number <= most => Ok(Self(number)),
            _ => Err(Problem::new("is too large", format!("the most is {most}"))),
        }
    }

    /// Parses a value of at most `most`; the error names no higher bound.
    pub(crate) fn at_most<'de, D: Deserializer<'de>>(
        deserializer: D,
        most: u32,
    ) -> Result<Self, D::Error> {
        match Raw::deserialize(deserializer)? {
            Raw::Whole(number) => Self::from_whole(number, most),
            Raw::Text(_) => Err(Problem::new(
                "is a text where a number is needed",
                "write a whole number without quotes (a variable cannot give one)",
            )),
            _ => Err(Problem::new("is not a whole number", "write one, as in 20")),
        }
        .map_err(Problem::pack)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::at_most(deserializer, Self::MAX)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Digits without a unit.
fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// A finite number that is not negative.
pub(crate) struct Bound(pub(crate) f64);

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = match Raw::deserialize(deserializer)? {
            Raw::Whole(number) => number as f64,
            Raw::Real(number) => number,
            _ => return Err(Problem::new("is not a number", "write one, as in 90 or 0.5").pack()),
        };
        match number {
            number if number.is_finite() && number >= 0.0 => Ok(Self(number)),
            _ => Err(Problem::new("is no bound", "a number from 0 on is needed, as in 90").pack()),
        }
    }
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
    fn an_error_names_the_narrower_bound_only() {
        #[derive(Debug, serde::Deserialize)]
        struct Narrow {
            #[serde(default, deserialize_with = "size")]
            _size: Option<Size>,
            #[serde(default, deserialize_with = "count")]
            _count: Option<Count>,
            #[serde(default, deserialize_with = "period")]
            _period: Option<Period>,
        }
        fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Size>, D::Error> {
            Size::within(deserializer, 10..=20, "is too large", "10 to 20").map(Some)
        }
        fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Count>, D::Error> {
            Count::at_most(deserializer, 20).map(Some)
        }
        fn period<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Period>, D::Error> {
            Period::at_most(deserializer, Duration::from_secs(20), "20 s").map(Some)
        }
        for (text, help) in [
            ("_size = \"21B\"", "10 to 20"),
            ("_size = \"2TiB\"", "10 to 20"),
            ("_size = \"9B\"", "10 to 20"),
            ("_size = \"0B\"", "10 to 20"),
            ("_count = 21", "the most is 20"),
            ("_count = 70000", "the most is 20"),
            ("_count = 99999999999", "the most is 20"),
            ("_count = -1", "the least is 1"),
            ("_period = \"21s\"", "20 s"),
            ("_period = \"2days\"", "20 s"),
            ("_period = \"99999999999999999999s\"", "20 s"),
        ] {
            let error = toml::from_str::<Narrow>(text).unwrap_err().to_string();
            assert!(error.contains(help), "{text}: {error}");
        }
        for text in ["_size = \"10B\"", "_size = \"20B\"", "_count = 20", "_period = \"20s\""] {
            assert!(toml::from_str::<Narrow>(text).is_ok(), "{text}");
        }
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
