//! The groups of a reading: their names, and the groups that a reading has no field for.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::keyword::one_of;

/// The name of a group: the word that stands for it in files, logs and messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group(&'static str);

/// The groups that have a field in [`SystemMetrics`](super::SystemMetrics).
#[allow(non_upper_case_globals)] // they are names, and stand in patterns as those of an enum would
impl Group {
    /// Processor use.
    pub const Cpu: Self = Self("cpu");
    /// Memory and swap.
    pub const Memory: Self = Self("memory");
    /// Load averages and uptime.
    pub const Load: Self = Self("load");
    /// File systems and block devices.
    pub const Disk: Self = Self("disk");
    /// Network interfaces.
    pub const Network: Self = Self("network");
    /// Processes.
    pub const Processes: Self = Self("processes");
    /// Listening and connected ports.
    pub const Ports: Self = Self("ports");
    /// Facts about the machine that seldom change.
    pub const Host: Self = Self("host");
    /// Pressure stall information.
    pub const Pressure: Self = Self("pressure");
    /// The agent's own use and counters.
    pub const Agent: Self = Self("agent");
}

impl Group {
    /// A group of one's own: lower-case letters, digits and `_`, and no key that every reading has.
    ///
    /// # Panics
    /// On another name; where it is a constant, that is an error of the compiler.
    pub const fn new(name: &'static str) -> Self {
        let bytes = name.as_bytes();
        assert!(!bytes.is_empty() && bytes[0].is_ascii_lowercase(), "a name begins with a letter");
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            let allowed = byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            assert!(allowed, "a name is lower-case letters, digits and _");
            at += 1;
        }
        assert!(!is_key(bytes), "every reading has this key");
        Self(name)
    }

    /// The word.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// Whether every reading has this key.
const fn is_key(name: &[u8]) -> bool {
    matches!(name, b"timestamp" | b"sequence" | b"identity" | b"tags" | b"troubles")
}

impl<'de> Deserialize<'de> for Group {
    /// Only those that have a field.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const NAMES: &[&str] = &[
            Group::Cpu.0,
            Group::Memory.0,
            Group::Load.0,
            Group::Disk.0,
            Group::Network.0,
            Group::Processes.0,
            Group::Ports.0,
            Group::Host.0,
            Group::Pressure.0,
            Group::Agent.0,
        ];
        one_of(deserializer, NAMES).map(Self)
    }
}

impl Serialize for Group {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

/// A group that a reading has no field for: a type of yours, which formats write by its serde names.
///
/// `json-lines` writes what serde does. `influx` and `pretty` write its numbers, texts and booleans; an inner table adds
/// its name and `_` before theirs, and each item of a list is a line of its own, which its texts tell apart. The line of
/// `infinibay` has no place for it. The `rates` enricher adds what a [`Kind::Counter`] moves a second.
///
/// ```
/// use infiniservice::model::{Field, Group, Kind, OwnGroup};
///
/// #[derive(Debug, PartialEq, serde::Serialize)]
/// struct Queue { waiting: u64, done: u64 }
///
/// impl OwnGroup for Queue {
///     const GROUP: Group = Group::new("queue");
///     const FIELDS: &'static [Field] = &[
///         Field { name: "waiting", kind: Kind::Gauge, unit: "jobs", about: "jobs that wait" },
///         Field { name: "done", kind: Kind::Counter, unit: "jobs", about: "jobs done since the start" },
///     ];
/// }
/// ```
pub trait OwnGroup: Serialize + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// Its name. A reading holds one group of each name.
    const GROUP: Group;

    /// What its fields are; a field that is not here counts as a gauge without a unit.
    const FIELDS: &'static [Field] = &[];
}

/// A field of an [`OwnGroup`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name, as serde writes it.
    pub name: &'static str,
    /// What its value stands for.
    pub kind: Kind,
    /// Such as `bytes` or `seconds`; empty for a plain count.
    pub unit: &'static str,
    /// What it is, as a phrase.
    pub about: &'static str,
}

impl Field {
    /// A value of now, or of the interval since the reading before.
    pub const fn gauge(name: &'static str, unit: &'static str, about: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, unit, about }
    }

    /// A value that grows from the start of what it counts; `rates` makes a value a second of it.
    pub const fn counter(name: &'static str, unit: &'static str, about: &'static str) -> Self {
        Self { name, kind: Kind::Counter, unit, about }
    }
}

/// What a value stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// A value of now, or of the interval since the reading before.
    #[default]
    Gauge,
    /// It grows from the start of what it counts.
    Counter,
}

/// An [`OwnGroup`] of any type, shared, with the rates that an enricher may have added.
#[derive(Debug, Clone)]
pub struct AnyGroup {
    data: Arc<dyn Erased>,
    rates: Vec<(&'static str, f64)>,
}

impl AnyGroup {
    /// Its name.
    pub fn group(&self) -> Group {
        self.data.group()
    }

    /// What its fields are.
    pub fn fields(&self) -> &'static [Field] {
        self.data.fields()
    }

    /// Itself, where it is of this type.
    pub fn get<T: OwnGroup>(&self) -> Option<&T> {
        self.data.as_any().downcast_ref()
    }

    /// Its value under serde's names, with its rates as `FIELD_per_sec`; null where serde refuses it. Costs as much as a
    /// serialization.
    pub fn value(&self) -> Value {
        let mut value = self.data.value();
        if let Value::Object(fields) = &mut value {
            for (field, rate) in &self.rates {
                fields.entry(format!("{field}_per_sec")).or_insert_with(|| Value::from(*rate));
            }
        }
        value
    }

    /// The same group with the rates of these fields, a second.
    pub fn with_rates(&self, rates: Vec<(&'static str, f64)>) -> Self {
        Self { data: self.data.clone(), rates }
    }
}

impl PartialEq for AnyGroup {
    fn eq(&self, other: &Self) -> bool {
        let same = Arc::ptr_eq(&self.data, &other.data) || self.data.same(&*other.data);
        same && self.rates == other.rates
    }
}

/// The groups that a reading has no field for, in the order of their names, one of each name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OwnGroups(Vec<AnyGroup>);

impl OwnGroups {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, AnyGroup> {
        self.0.iter()
    }

    /// The one of this name.
    pub fn find(&self, group: Group) -> Option<&AnyGroup> {
        self.0.iter().find(|own| own.group() == group)
    }

    /// Puts one in, in the place of one of its name.
    pub fn put<T: OwnGroup>(&mut self, data: T) {
        self.replace(AnyGroup { data: Arc::new(data), rates: Vec::new() });
    }

    /// As [`put`](Self::put), with one that is shared.
    pub fn replace(&mut self, own: AnyGroup) {
        match self.0.binary_search_by_key(&own.group(), AnyGroup::group) {
            Ok(at) => self.0[at] = own,
            Err(at) => self.0.insert(at, own),
        }
    }

    /// Takes the one of this name out.
    pub fn remove(&mut self, group: Group) {
        self.0.retain(|own| own.group() != group);
    }
}

impl Serialize for OwnGroups {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for own in &self.0 {
            map.serialize_entry(own.group().name(), &own.value())?;
        }
        map.end()
    }
}

/// An [`OwnGroup`] without its type.
trait Erased: fmt::Debug + Send + Sync {
    fn group(&self) -> Group;
    fn fields(&self) -> &'static [Field];
    fn value(&self) -> Value;
    fn same(&self, other: &dyn Erased) -> bool;
    fn as_any(&self) -> &dyn Any;
}

impl<T: OwnGroup> Erased for T {
    fn group(&self) -> Group {
        T::GROUP
    }

    fn fields(&self) -> &'static [Field] {
        T::FIELDS
    }

    fn value(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn same(&self, other: &dyn Erased) -> bool {
        other.as_any().downcast_ref() == Some(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize)]
    struct Queue {
        done: u64,
    }

    impl OwnGroup for Queue {
        const GROUP: Group = Group::new("queue");
    }

    #[test]
    fn one_group_of_each_name_is_held_and_compared_by_value() {
        let (mut one, mut other) = (OwnGroups::default(), OwnGroups::default());
        one.put(Queue { done: 1 });
        one.put(Queue { done: 2 });
        other.put(Queue { done: 2 });
        assert_eq!(one.iter().count(), 1);
        assert_eq!(one, other);
        assert_eq!(one.find(Queue::GROUP).unwrap().get(), Some(&Queue { done: 2 }));
        let rated = one.find(Queue::GROUP).unwrap().with_rates(vec![("done", 0.5)]);
        assert_eq!(rated.value(), serde_json::json!({"done": 2, "done_per_sec": 0.5}));
        one.replace(rated);
        assert_ne!(one, other);
        one.remove(Queue::GROUP);
        assert!(one.is_empty());
    }

    #[test]
    #[should_panic(expected = "every reading has this key")]
    fn a_group_cannot_take_a_key_of_the_reading() {
        let _ = Group::new("sequence");
    }
}
