//! Where the named fields stand in a line.

use super::fields::{Field, Fields};
use super::shape::Shape;
use super::text::unescape;

/// Where a member stands in its line: `"key" : value`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct MemberSpan {
    pub key: u32,
    pub after_key: u32,
    pub value: u32,
    pub end: u32,
}

impl MemberSpan {
    /// Lines are shorter than 4 GiB.
    #[inline(always)]
    pub(super) fn new(key: usize, after_key: usize, value: usize, end: usize) -> Self {
        Self { key: key as u32, after_key: after_key as u32, value: value as u32, end: end as u32 }
    }
}

impl MemberSpan {
    /// The name as it is written, without quotes, and the value.
    pub(super) fn of(self, line: &[u8]) -> (&[u8], &[u8]) {
        let name = line.get(self.key as usize + 1..self.after_key as usize - 1);
        let value = line.get(self.value as usize..self.end as usize);
        (name.unwrap_or_default(), value.unwrap_or_default())
    }
}

/// Where the fields of a line stand.
#[derive(Debug, Default)]
pub(super) struct FoundFields {
    /// By field.
    pub places: Vec<MemberSpan>,
    /// The fields that the line has.
    pub present: u64,
    /// Earlier members of a name that comes again: the last one counts.
    pub doubled: Vec<(Field, MemberSpan)>,
    /// All members, where they are asked for.
    members: Vec<MemberSpan>,
    name: Vec<u8>,
    /// The keys of the line before.
    pub shape: Shape,
}

impl FoundFields {
    #[inline(always)]
    pub(super) fn clear(&mut self) {
        self.present = 0;
        self.doubled.clear();
        self.members.clear();
    }

    /// All members, where they are asked for.
    pub(super) fn members(&self) -> &[MemberSpan] {
        &self.members
    }

    /// The field of this name, as it is written.
    pub(super) fn find(&mut self, fields: &Fields, name: &[u8], escaped: bool) -> Option<Field> {
        if !escaped {
            return fields.find(name);
        }
        unescape(name, &mut self.name);
        fields.find(&self.name)
    }

    /// A member of the line.
    #[inline(always)]
    pub(super) fn member(&mut self, fields: &Fields, field: Option<Field>, place: MemberSpan) {
        if fields.is_open {
            self.members.push(place);
        }
        if let Some(field) = field {
            self.put(field, place);
        }
    }

    #[inline(always)]
    fn put(&mut self, field: Field, place: MemberSpan) {
        if self.places.len() <= field.index() {
            self.places.resize(field.index() + 1, MemberSpan::default());
        }
        if self.present & field.bit() != 0 {
            self.doubled.push((field, self.places[field.index()]));
        }
        self.places[field.index()] = place;
        self.present |= field.bit();
    }
}
