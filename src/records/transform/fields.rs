//! The fields that the stages of a flow name, found by name in a few steps.

use super::text::{write_key, write_text};
use crate::values::Problem;

/// The most fields that the stages of one flow name: one bit each.
const FIELDS_MAX: usize = 64;

/// A field that a stage names, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field(pub(super) u8);

impl Field {
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    pub(super) fn bit(self) -> u64 {
        1 << self.0
    }
}

/// A member that a stage has made, `,"key":value`, in the buffer of the pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Member {
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    pub(super) fn of(self, buffer: &[u8]) -> &[u8] {
        buffer.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// The fields that the stages of a flow name.
#[derive(Debug)]
pub(crate) struct Fields {
    pub(super) names: Vec<Box<[u8]>>,
    /// Of each, `,"NAME":`.
    pub(super) keys: Vec<Box<[u8]>>,
    /// The fields whose name has this many bytes; the last one stands for all that are longer.
    by_length: [u64; 32],
    /// The fields whose name begins with this byte.
    by_first: [u64; 256],
    /// Members that never change, such as those of `tags`.
    pub(super) constants: Vec<u8>,
    /// Whether a stage makes fields whose names are in the data.
    pub(super) is_open: bool,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            keys: Vec::new(),
            by_length: [0; 32],
            by_first: [0; 256],
            constants: Vec::new(),
            is_open: false,
        }
    }
}

impl Fields {
    /// The field of this name.
    ///
    /// # Errors
    /// There are 64 others (`FIELDS_MAX`).
    pub(crate) fn add(&mut self, name: &str) -> Result<Field, Problem> {
        let number = match self.names.iter().position(|known| **known == *name.as_bytes()) {
            Some(known) => known,
            None if self.names.len() == FIELDS_MAX => {
                let help = "give some of the stages a pipeline of their own";
                return Err(Problem::new("names more than 64 fields with those before it", help));
            }
            None => {
                let bit = 1 << self.names.len();
                self.by_length[name.len().min(31)] |= bit;
                match name.bytes().next() {
                    Some(first) => self.by_first[usize::from(first)] |= bit,
                    None => self.by_first.iter_mut().for_each(|fields| *fields |= bit),
                }
                let mut key = Vec::new();
                write_key(name.as_bytes(), &mut key);
                self.names.push(name.as_bytes().into());
                self.keys.push(key.into());
                self.names.len() - 1
            }
        };
        Ok(Field(u8::try_from(number).unwrap_or(u8::MAX)))
    }

    /// A member of this text, made once.
    pub(crate) fn constant(&mut self, field: Field, text: &str) -> Member {
        let start = self.constants.len();
        self.constants.extend_from_slice(&self.keys[field.index()]);
        write_text(text.as_bytes(), &mut self.constants);
        Member::new(start, self.constants.len())
    }

    /// A stage makes fields whose names are in the data, so all members of a record have to be known.
    pub(crate) fn open(&mut self) {
        self.is_open = true;
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<Field> {
        let length = self.by_length[name.len().min(31)];
        let mut candidates = match name.first() {
            Some(first) => length & self.by_first[usize::from(*first)],
            None => length,
        };
        while candidates != 0 {
            let number = candidates.trailing_zeros() as usize;
            if *self.names[number] == *name {
                return Some(Field(number as u8));
            }
            candidates &= candidates - 1;
        }
        None
    }
}
