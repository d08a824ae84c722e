//! Which fields a reading may have, as its types are read by serde.

use serde::de::value::Error;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

use super::metrics::Read;
use super::{
    CollectError, Cpu, CpuSeconds, Disk, DiskCounters, DiskIo, Host, Identity, Interface,
    InterfaceRates, Load, Memory, Mount, Network, Port, Pressure, PressureStats, Process,
};

/// The names of the fields of a type.
type Names = &'static [&'static str];

/// Asks a type for them.
type Fields = fn() -> Names;

/// The tables in a reading: where each stands, and the names of its fields.
const TABLES: &[(&str, Fields)] = &[
    ("", names::<Read>),
    ("identity.", names::<Identity>),
    ("cpu.", names::<Cpu>),
    ("cpu.seconds.", names::<CpuSeconds>),
    ("memory.", names::<Memory>),
    ("load.", names::<Load>),
    ("disk.", names::<Disk>),
    ("disk.mounts.", names::<Mount>),
    ("disk.io.", names::<DiskIo>),
    ("disk.devices.", names::<DiskCounters>),
    ("network.", names::<Network>),
    ("network.interfaces.", names::<Interface>),
    ("network.interfaces.rates.", names::<InterfaceRates>),
    ("processes.", names::<Process>),
    ("ports.", names::<Port>),
    ("host.", names::<Host>),
    ("pressure.", names::<Pressure>),
    ("pressure.cpu.", names::<PressureStats>),
    ("pressure.memory.", names::<PressureStats>),
    ("pressure.io.", names::<PressureStats>),
    ("troubles.", names::<CollectError>),
];

/// The path of each field that `json-lines` may write, groups included: names with dots between them, those of a list without
/// a number. Without the fields of `agent`, and without groups that have no field in a reading.
pub fn field_paths() -> impl Iterator<Item = String> {
    TABLES
        .iter()
        .flat_map(|(table, names)| names().iter().map(move |name| format!("{table}{name}")))
}

/// The names of the fields of a type that derives `Deserialize`.
fn names<'de, T: Deserialize<'de>>() -> Names {
    let mut names: Names = &[];
    // It never gets a value.
    let _ = T::deserialize(NamesOnly(&mut names));
    names
}

/// Notes the names that are asked for, and gives nothing.
struct NamesOnly<'a>(&'a mut Names);

impl<'de> Deserializer<'de> for NamesOnly<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: Names,
        visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(Error::custom("only the names are asked for"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
