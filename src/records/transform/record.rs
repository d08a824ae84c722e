//! A record on its way through the stages: the line as it was read, where the named fields stand in it, and what has
//! changed. It is written once, at the end: what no stage has changed is copied as it is.

use super::fields::{Field, Fields, Member};
use super::found::{FoundFields, MemberSpan};
use super::text::{plain_text, unescape, write_key, write_text};

/// What a field is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldValue {
    /// There is none.
    Gone,
    /// The value of this field of the line.
    Of(Field),
    /// A stage has made it.
    Made(Member),
}

/// Where a field is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    None,
    /// Where this field stood in the line.
    InLine(Field),
    /// Behind all others.
    Appended,
}

/// What stands at the end of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Appended {
    Field(Field),
    /// A member whose name no stage names.
    Other(Member),
}

/// A member of the line that is not written as it is, and what is written there.
#[derive(Debug, Clone, Copy)]
struct Edit {
    place: MemberSpan,
    instead: Option<Field>,
}

/// What has become of a field. After `rename = { a = "b" }` and `tags = { c = "x" }`, `{"a":1,"d":2}` is:
///
/// | field | `value` | `position` | `in_its_place` |
/// |---|---|---|---|
/// | a | `Gone` | `None` | `Some(b)`: `b` is written where `a` stood |
/// | b | `Of(a)` | `InLine(a)` | `None`: it was not in the line |
/// | c | `Made(,"c":"x")` | `Appended` | `None` |
///
/// and is written as `{"b":1,"d":2,"c":"x"}`: `d` is not touched, and copied with all else between the edits.
#[derive(Debug, Clone, Copy)]
struct FieldState {
    value: FieldValue,
    position: Position,
    /// What is written at its place in the line.
    in_its_place: Option<Field>,
}

/// The changes to a record. Kept from one record to the next, so that nothing is allocated.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The fields whose states hold; any other is as it is in the line.
    touched: u64,
    /// By field.
    states: Vec<FieldState>,
    appended: Vec<Appended>,
    /// Members of the line that are replaced and that no stage names.
    replaced: Vec<MemberSpan>,
    /// Members that no stage names are left out.
    is_closed: bool,
    /// What stages have made, behind the constants.
    made: Vec<u8>,
    constants: usize,
    cuts: Vec<Edit>,
    /// A name without its escapes.
    decoded: Vec<u8>,
}

impl Changes {
    /// None yet, to records in which `fields` are named.
    pub(super) fn new(fields: &Fields) -> Self {
        let count = fields.names.len();
        Self {
            states: vec![
                FieldState {
                    value: FieldValue::Gone,
                    position: Position::None,
                    in_its_place: None
                };
                count
            ],
            made: fields.constants.clone(),
            constants: fields.constants.len(),
            ..Self::default()
        }
    }

    #[inline(always)]
    fn clear(&mut self) {
        self.touched = 0;
        self.appended.clear();
        self.replaced.clear();
        self.is_closed = false;
        self.made.truncate(self.constants);
    }
}

/// A record on its way through the stages.
pub(crate) struct Record<'a> {
    /// The object, from brace to brace, is at `start..end` of it.
    line: &'a [u8],
    start: usize,
    end: usize,
    fields: &'a Fields,
    found: &'a FoundFields,
    changes: &'a mut Changes,
}

impl<'a> Record<'a> {
    /// The object at `start..end` of `line`, in which `found` has found the fields. What was changed before is forgotten.
    #[inline(always)]
    pub(super) fn new(
        line: &'a [u8],
        (start, end): (usize, usize),
        fields: &'a Fields,
        found: &'a FoundFields,
        changes: &'a mut Changes,
    ) -> Self {
        changes.clear();
        Self { line, start, end, fields, found, changes }
    }

    fn is_touched(&self, field: Field) -> bool {
        self.changes.touched & field.bit() != 0
    }

    fn is_present(&self, field: Field) -> bool {
        self.found.present & field.bit() != 0
    }

    /// Whether the record has the field.
    pub(crate) fn has(&self, field: Field) -> bool {
        match self.is_touched(field) {
            true => self.changes.states[field.index()].value != FieldValue::Gone,
            false => self.is_present(field),
        }
    }

    /// The value of the field, as JSON.
    pub(crate) fn value(&self, field: Field) -> Option<&[u8]> {
        let value = match self.is_touched(field) {
            true => self.changes.states[field.index()].value,
            false if self.is_present(field) => FieldValue::Of(field),
            false => FieldValue::Gone,
        };
        match value {
            FieldValue::Gone => None,
            FieldValue::Of(of) => {
                let place = self.found.places[of.index()];
                self.line.get(place.value as usize..place.end as usize)
            }
            FieldValue::Made(member) => {
                member.of(&self.changes.made).get(self.fields.keys[field.index()].len()..)
            }
        }
    }

    /// The text of the field, where it is one, without escapes; `buffer` may be used for it.
    pub(crate) fn text<'b>(&'b self, field: Field, buffer: &'b mut Vec<u8>) -> Option<&'b [u8]> {
        let [b'"', inside @ .., b'"'] = self.value(field)? else { return None };
        Some(plain_text(inside, buffer))
    }

    /// The lists of changes hold for `field` from now on.
    fn touch(&mut self, field: Field) {
        if self.is_touched(field) {
            return;
        }
        let (is_present, index) = (self.is_present(field), field.index());
        let changes = &mut *self.changes;
        changes.touched |= field.bit();
        changes.states[index].value =
            if is_present { FieldValue::Of(field) } else { FieldValue::Gone };
        changes.states[index].position =
            if is_present { Position::InLine(field) } else { Position::None };
        changes.states[index].in_its_place = is_present.then_some(field);
    }

    /// Sets the field to a member that was made for it.
    pub(crate) fn put(&mut self, field: Field, member: Member) {
        if (self.found.present | self.changes.touched) & field.bit() == 0 {
            let (changes, index) = (&mut *self.changes, field.index());
            changes.touched |= field.bit();
            changes.states[index].value = FieldValue::Made(member);
            changes.states[index].position = Position::Appended;
            changes.states[index].in_its_place = None;
            return changes.appended.push(Appended::Field(field));
        }
        self.touch(field);
        let is_present = self.is_present(field);
        let (changes, index) = (&mut *self.changes, field.index());
        if changes.states[index].value == FieldValue::Gone {
            if is_present && changes.states[index].in_its_place.is_none() {
                changes.states[index].in_its_place = Some(field);
                changes.states[index].position = Position::InLine(field);
            } else {
                changes.appended.push(Appended::Field(field));
                changes.states[index].position = Position::Appended;
            }
        }
        changes.states[index].value = FieldValue::Made(member);
    }

    /// Sets the field to a text.
    pub(crate) fn put_text(&mut self, field: Field, text: &[u8]) {
        let made = &mut self.changes.made;
        let start = made.len();
        made.extend_from_slice(&self.fields.keys[field.index()]);
        write_text(text, made);
        let member = Member::new(start, made.len());
        self.put(field, member);
    }

    /// Sets the field of any name to a text. The fields must be [`open`](Fields::open).
    pub(crate) fn put_named(&mut self, name: &[u8], text: &[u8]) {
        if let Some(field) = self.fields.find(name) {
            return self.put_text(field, text);
        }
        let mut decoded = std::mem::take(&mut self.changes.decoded);
        for place in self.found.members() {
            let key = self.line.get(place.key as usize + 1..place.after_key as usize - 1);
            let key = key.unwrap_or_default();
            let is_same = match memchr::memchr(b'\\', key) {
                None => key == name,
                Some(_) => {
                    unescape(key, &mut decoded);
                    decoded == name
                }
            };
            if is_same && !self.changes.replaced.contains(place) {
                self.changes.replaced.push(*place);
            }
        }
        let changes = &mut *self.changes;
        changes.decoded = decoded;
        let start = changes.made.len();
        write_key(name, &mut changes.made);
        let after_key = changes.made.len();
        let same = |appended: &Appended| match appended {
            Appended::Other(member) => {
                member.of(&changes.made).starts_with(&changes.made[start..after_key])
            }
            Appended::Field(_) => false,
        };
        let before = changes.appended.iter().position(same);
        write_text(text, &mut changes.made);
        let member = Appended::Other(Member::new(start, changes.made.len()));
        match before {
            Some(before) => changes.appended[before] = member,
            None => changes.appended.push(member),
        }
    }

    /// Takes the field out.
    pub(crate) fn remove(&mut self, field: Field) {
        if !self.has(field) {
            return;
        }
        self.touch(field);
        let (changes, index) = (&mut *self.changes, field.index());
        match changes.states[index].position {
            Position::None => {}
            Position::InLine(place) => changes.states[place.index()].in_its_place = None,
            Position::Appended => changes.appended.retain(|one| *one != Appended::Field(field)),
        }
        changes.states[index].value = FieldValue::Gone;
        changes.states[index].position = Position::None;
    }

    /// Gives the value of `from` to `to`, in its place; without it nothing changes.
    pub(crate) fn rename(&mut self, from: Field, to: Field) {
        if from == to || !self.has(from) {
            return;
        }
        self.remove(to);
        self.touch(from);
        self.touch(to);
        let keys = &self.fields.keys;
        let changes = &mut *self.changes;
        changes.states[to.index()].value = match changes.states[from.index()].value {
            FieldValue::Made(member) => {
                let start = changes.made.len();
                changes.made.extend_from_slice(&keys[to.index()]);
                let value = member.start as usize + keys[from.index()].len()..member.end as usize;
                changes.made.extend_from_within(value);
                FieldValue::Made(Member::new(start, changes.made.len()))
            }
            other => other,
        };
        let position = changes.states[from.index()].position;
        changes.states[to.index()].position = position;
        match position {
            Position::None => {}
            Position::InLine(place) => changes.states[place.index()].in_its_place = Some(to),
            Position::Appended => {
                for appended in &mut changes.appended {
                    if *appended == Appended::Field(from) {
                        *appended = Appended::Field(to);
                    }
                }
            }
        }
        changes.states[from.index()].value = FieldValue::Gone;
        changes.states[from.index()].position = Position::None;
    }

    /// Takes everything out but these fields.
    pub(crate) fn keep(&mut self, kept: &[Field]) {
        for number in 0..self.fields.names.len() {
            let field = Field(number as u8);
            if !kept.contains(&field) {
                self.remove(field);
            }
        }
        self.changes.is_closed = true;
        self.changes.appended.retain(|one| matches!(one, Appended::Field(_)));
    }

    /// Writes the record and a newline.
    #[inline(never)]
    pub(super) fn write(&mut self, out: &mut Vec<u8>) {
        let changes = &*self.changes;
        let cut = self.found.present & changes.touched;
        let object = self.line.get(self.start..self.end).unwrap_or_default();
        if changes.is_closed {
            self.write_closed(out);
        } else if cut == 0 && changes.replaced.is_empty() {
            if changes.appended.is_empty() {
                out.extend_from_slice(object);
                out.push(b'\n');
                return;
            }
            let inside = object[..object.len() - 1].trim_ascii_end();
            out.extend_from_slice(inside);
            self.write_appended(inside.len() > 1, out);
        } else {
            self.write_cut(cut, out);
        }
        out.extend_from_slice(b"}\n");
    }

    /// The line with some of its members left out or written anew, and what is appended.
    fn write_cut(&mut self, mut cut: u64, out: &mut Vec<u8>) {
        let changes = &mut *self.changes;
        changes.cuts.clear();
        while cut != 0 {
            let number = cut.trailing_zeros() as usize;
            cut &= cut - 1;
            let instead = changes.states[number].in_its_place;
            changes.cuts.push(Edit { place: self.found.places[number], instead });
        }
        for (field, place) in &self.found.doubled {
            if changes.touched & field.bit() != 0 {
                changes.cuts.push(Edit { place: *place, instead: None });
            }
        }
        for place in &changes.replaced {
            changes.cuts.push(Edit { place: *place, instead: None });
        }
        changes.cuts.sort_unstable_by_key(|cut| cut.place.key);
        let (mut at, mut is_empty) = (self.start + 1, true);
        out.push(b'{');
        for cut in &self.changes.cuts {
            write_members(self.line, at, cut.place.key as usize, &mut is_empty, out);
            if let Some(field) = cut.instead {
                self.write_field(field, is_empty, out);
                is_empty = false;
            }
            at = cut.place.end as usize;
        }
        write_members(self.line, at, self.end - 1, &mut is_empty, out);
        self.write_appended(!is_empty, out);
    }

    /// Only named fields, in the order of the line, and what is appended.
    fn write_closed(&mut self, out: &mut Vec<u8>) {
        let changes = &mut *self.changes;
        changes.cuts.clear();
        let mut present = self.found.present;
        while present != 0 {
            let field = Field(present.trailing_zeros() as u8);
            present &= present - 1;
            let instead = match changes.touched & field.bit() {
                0 => Some(field),
                _ => changes.states[field.index()].in_its_place,
            };
            let place = self.found.places[field.index()];
            changes.cuts.extend(instead.map(|field| Edit { place, instead: Some(field) }));
        }
        changes.cuts.sort_unstable_by_key(|cut| cut.place.key);
        let mut is_empty = true;
        out.push(b'{');
        for field in self.changes.cuts.iter().filter_map(|cut| cut.instead) {
            self.write_field(field, is_empty, out);
            is_empty = false;
        }
        self.write_appended(!is_empty, out);
    }

    /// One field, `"key":value`, with a comma before it where it is not the first.
    fn write_field(&self, field: Field, is_first: bool, out: &mut Vec<u8>) {
        let value = match self.is_touched(field) {
            true => self.changes.states[field.index()].value,
            false => FieldValue::Of(field),
        };
        let skip = usize::from(is_first);
        match value {
            FieldValue::Gone => {}
            FieldValue::Made(member) => {
                out.extend_from_slice(&member.of(&self.changes.made)[skip..])
            }
            FieldValue::Of(of) => {
                let place = self.found.places[of.index()];
                out.extend_from_slice(&self.fields.keys[field.index()][skip..]);
                let value = self.line.get(place.value as usize..place.end as usize);
                out.extend_from_slice(value.unwrap_or_default());
            }
        }
    }

    /// What is appended; members that lie side by side are copied at once.
    fn write_appended(&self, mut follows: bool, out: &mut Vec<u8>) {
        let mut run = Member::new(0, 0);
        let mut leave = |run: Member, out: &mut Vec<u8>| {
            let bytes = run.of(&self.changes.made);
            if !bytes.is_empty() {
                out.extend_from_slice(&bytes[usize::from(!follows)..]);
                follows = true;
            }
        };
        for appended in &self.changes.appended {
            let member = match appended {
                Appended::Other(member) => *member,
                Appended::Field(field) => match self.changes.states[field.index()].value {
                    FieldValue::Made(member) => member,
                    // A field is appended when it is made, and a value of the line stays in its place.
                    FieldValue::Gone | FieldValue::Of(_) => continue,
                },
            };
            if member.start == run.end {
                run.end = member.end;
            } else {
                leave(run, out);
                run = member;
            }
        }
        leave(run, out);
    }
}

/// Copies the members between two places, without the commas around them.
fn write_members(line: &[u8], start: usize, end: usize, is_empty: &mut bool, out: &mut Vec<u8>) {
    let mut text = line.get(start..end).unwrap_or_default().trim_ascii();
    if let [inside @ .., b','] = text {
        text = inside.trim_ascii_end();
    }
    if let [b',', inside @ ..] = text {
        text = inside.trim_ascii_start();
    }
    if text.is_empty() {
        return;
    }
    if !*is_empty {
        out.push(b',');
    }
    out.extend_from_slice(text);
    *is_empty = false;
}
