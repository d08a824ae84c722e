//! How a point in time is spelled wherever it leaves the program. Does not read a clock.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serializer;
use serde::de::{Deserialize, Deserializer, Error};

/// The last second that four digits of year can spell: 9999-12-31T23:59:59Z.
const LAST_SECOND: u64 = 253_402_300_799;

/// A time in ISO-8601, in UTC with milliseconds: `2026-07-14T10:00:00.000Z`.
///
/// Total: a time before 1970 is spelled as 1970, one after 9999 as the end of 9999. Costs no
/// allocation.
///
/// # Why not `humantime`
/// Its formatter panics outside those years, and a process start time is computed from what the
/// kernel says, so it can be anything.
///
/// ```
/// use infiniservice::model::Iso8601;
/// use std::time::{Duration, UNIX_EPOCH};
///
/// let at = UNIX_EPOCH + Duration::from_millis(1_784_023_200_250);
/// assert_eq!(Iso8601::new(at).as_str(), "2026-07-14T10:00:00.250Z");
/// assert_eq!(Iso8601::new(UNIX_EPOCH - Duration::from_secs(9)).as_str(), "1970-01-01T00:00:00.000Z");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Iso8601([u8; 24]);

impl Iso8601 {
    /// Spells `at`.
    pub fn new(at: SystemTime) -> Self {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, millis) = match since.as_secs() {
            seconds @ ..=LAST_SECOND => (seconds, since.subsec_millis()),
            _ => (LAST_SECOND, 999),
        };
        let (year, month, day) = civil(seconds / 86_400);
        let of_day = seconds % 86_400;

        let mut text = *b"0000-00-00T00:00:00.000Z";
        digits(&mut text[0..4], year);
        digits(&mut text[5..7], month);
        digits(&mut text[8..10], day);
        digits(&mut text[11..13], of_day / 3_600);
        digits(&mut text[14..16], of_day / 60 % 60);
        digits(&mut text[17..19], of_day % 60);
        digits(&mut text[20..23], u64::from(millis));
        Self(text)
    }

    /// The text: 24 ASCII characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

pub(super) fn iso8601<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(Iso8601::new(*at).as_str())
}

pub(super) fn iso8601_option<S: Serializer>(
    at: &Option<SystemTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => iso8601(at, serializer),
        None => serializer.serialize_none(),
    }
}

pub(super) fn of_iso8601<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<SystemTime, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_rfc3339(&text).map_err(|_| {
        D::Error::custom(format!("{text:?} is no time, such as \"2026-07-14T10:00:00.000Z\""))
    })
}

pub(super) fn of_iso8601_option<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SystemTime>, D::Error> {
    #[derive(serde::Deserialize)]
    struct Time(#[serde(deserialize_with = "of_iso8601")] SystemTime);

    Ok(Option::<Time>::deserialize(deserializer)?.map(|Time(at)| at))
}

/// Year, month and day of a day counted from 1970-01-01. The method of "days to civil" in
/// Howard Hinnant's *chrono-Compatible Low-Level Date Algorithms*: years begin in March, so that
/// the leap day is the last of its year and months follow one linear formula.
fn civil(days: u64) -> (u64, u64, u64) {
    let from_march_0000 = days + 719_468;
    let era = from_march_0000 / 146_097; // 400 years
    let day_of_era = from_march_0000 % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

fn digits(into: &mut [u8], mut value: u64) {
    for digit in into.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_day_of_four_centuries_is_spelled_as_humantime_spells_it() {
        for day in 0..200_000 {
            let at = UNIX_EPOCH + Duration::from_millis(day * 86_400_000 + day * 431 % 86_400_000);
            let other = humantime::format_rfc3339_millis(at).to_string();
            assert_eq!(Iso8601::new(at).as_str(), other);
        }
    }

    #[test]
    fn a_time_after_the_year_9999_is_spelled_as_its_end() {
        let at = UNIX_EPOCH + Duration::from_secs(LAST_SECOND + 1);
        assert_eq!(Iso8601::new(at).as_str(), "9999-12-31T23:59:59.999Z");
    }
}
