//! The names in `[[enrich]]`: the enrichers and their options, in the order of the file.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::Deserializer;

use super::units::Count;
use super::value::{Problem, text_or_none};
use crate::metrics::collect::GroupName;
use crate::model::{Group, Rank};

/// One enricher: `[[enrich]]` with one name in it, such as `tags = { site = "lab-1" }`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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
