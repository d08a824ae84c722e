//! The names in `[[enrich]]`: the enrichers and their options, in the order of the file.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::Deserializer;

use super::units::{Count, Period, Size};
use super::value::{Problem, Raw, text_or_none};
use crate::commands::process::uid_of;
use crate::metrics::collect::GroupName;
use crate::metrics::enrich::{Crossing, Measure};
use crate::model::{Group, Rank};

/// One enricher: `[[enrich]]` with one name in it, such as `tags = { site = "lab-1" }`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Enrich {
    /// Adds the machine's identity.
    Identity(Identify),
    /// Adds fixed tags.
    Tags(BTreeMap<String, String>),
    /// Adds rates per second to counters.
    Rates(Rates),
    /// Keeps the most important of a list.
    Top(Top),
    /// Keeps or drops whole groups.
    Select(Select),
    /// Lets only what has changed through, and a full copy now and then.
    Changes(Changes),
    /// Keeps the processes for which all conditions hold.
    Where(Where),
    /// Reports a value that stays above a bound.
    Threshold(#[serde(deserialize_with = "crossing")] Crossing),
}

/// Options of `identity`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Identify {
    /// The machine's name at its manager; without it, that of `agent.toml`.
    #[serde(deserialize_with = "text_or_none")]
    pub vm_id: Option<String>,
}

/// Options of `rates`: there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {}

/// Options of `top`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Top {
    /// How many processes stay.
    pub processes: Count,
    /// What makes a process important.
    pub by: Rank,
}

impl Default for Top {
    fn default() -> Self {
        Self { processes: Count::fixed(20), by: Rank::Cpu }
    }
}

/// Options of `select`: exactly one of the two lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Select {
    /// These groups stay, all others go.
    Keep(Vec<Group>),
    /// These groups go.
    Drop(Vec<Group>),
}

impl Select {
    /// Whether `group` stays.
    pub fn keeps(&self, group: Group) -> bool {
        match self {
            Self::Keep(groups) => groups.contains(&group),
            Self::Drop(groups) => !groups.contains(&group),
        }
    }
}

impl<'de> Deserialize<'de> for Select {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let help = "give it keep = [\"cpu\", \"memory\"] or drop = [\"ports\"]";
        let lists = SelectLists::deserialize(deserializer)?;
        match (lists.keep, lists.drop) {
            (Some(groups), None) | (None, Some(groups)) if groups.is_empty() => {
                Err(Problem::new("names no group", help).pack())
            }
            (Some(groups), None) => Ok(Self::Keep(groups.into_iter().map(Group::from).collect())),
            (None, Some(groups)) => Ok(Self::Drop(groups.into_iter().map(Group::from).collect())),
            (Some(_), Some(_)) => Err(Problem::new("has both keep and drop", help).pack()),
            (None, None) => Err(Problem::new("has neither keep nor drop", help).pack()),
        }
    }
}

/// As the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SelectLists {
    keep: Option<Vec<GroupName>>,
    drop: Option<Vec<GroupName>>,
}

/// Options of `changes`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Changes {
    /// Every how many readings a full copy goes, whatever has changed.
    pub full_every: Count,
}

impl Default for Changes {
    fn default() -> Self {
        Self { full_every: Count::fixed(10) }
    }
}

/// Options of `where`: one of them at least.
#[derive(Debug, Clone, PartialEq)]
pub struct Where {
    /// Patterns of names.
    pub name: Option<Vec<String>>,
    /// Users.
    pub user: Option<Vec<User>>,
    /// Percent of one core.
    pub cpu_above: Option<f64>,
    /// Resident memory.
    pub memory_above: Option<Size>,
}

impl<'de> Deserialize<'de> for Where {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let help = "give it name = [\"postgres\"], user = [\"www-data\"], cpu_above = 5 or memory_above = \"100MiB\"";
        let keys = WhereKeys::deserialize(deserializer)?;
        let is_empty = [keys.name.as_ref().map(Vec::len), keys.user.as_ref().map(Vec::len)];
        if is_empty.contains(&Some(0)) {
            return Err(Problem::new("has an empty list, which nothing matches", help).pack());
        }
        let WhereKeys { name, user, cpu_above, memory_above } = keys;
        let all = Self { name, user, cpu_above: cpu_above.map(|Bound(above)| above), memory_above };
        if all == (Self { name: None, user: None, cpu_above: None, memory_above: None }) {
            return Err(Problem::new("has no condition", help).pack());
        }
        Ok(all)
    }
}

/// A user, by name or id. The name is looked up when the file is read, so a reload sees an account that has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// As the file has it.
    pub name: String,
    /// The id; `None` where no account of this machine has the name.
    pub uid: Option<u32>,
}

impl<'de> Deserialize<'de> for User {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = match Raw::deserialize(deserializer)? {
            Raw::Text(name) => name,
            Raw::Whole(uid) => uid.to_string(),
            _ => return Err(Problem::new("is no user", "write a name or an id").pack()),
        };
        let uid = name.parse().ok().or_else(|| uid_of(&name));
        Ok(Self { name, uid })
    }
}

/// As the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhereKeys {
    name: Option<Vec<String>>,
    user: Option<Vec<User>>,
    cpu_above: Option<Bound>,
    memory_above: Option<Size>,
}

/// Options of `threshold`.
fn crossing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Crossing, D::Error> {
    let ThresholdKeys { of, above: Bound(above), hold, until } =
        ThresholdKeys::deserialize(deserializer)?;
    let until = until.map_or(above, |Bound(until)| until);
    if until > above {
        let help = "until = 80 belongs to above = 90: between the two nothing changes";
        return Err(Problem::new("has an `until` above its `above`", help).pack());
    }
    Ok(Crossing { of, above, hold: hold.map(Period::get).unwrap_or_default(), until })
}

/// As the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ThresholdKeys {
    of: Measure,
    above: Bound,
    #[serde(rename = "for")]
    hold: Option<Period>,
    until: Option<Bound>,
}

/// A finite number that is not negative.
struct Bound(f64);

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
