//! What a format is, and what each says of itself.

use super::Format;
use crate::model::{Group, SystemMetrics};

/// No line is longer, newline included. Today's host drops a line of 4 MiB and forgets the machine
/// at 8 MiB without a newline; this stays well below.
pub const MAX_LINE: usize = 1 << 20;

/// What a format is: a constant of its file.
pub(super) struct Spec {
    /// The word that stands for it in files and messages.
    pub name: &'static str,
    /// The groups without which a line is worth nothing.
    pub needs: &'static [Group],
    /// Whether a line has a place for a group.
    pub carries: fn(Group) -> bool,
    /// Whether a line has a place for tags and for who speaks.
    pub carries_tags: bool,
    /// Whether each reading has the last values of the groups that others have read.
    pub joins: bool,
    /// Why an operator's tag cannot have this name, as the end of a sentence.
    pub refused_tag: fn(&str) -> Option<&'static str>,
    /// Appends a reading as whole lines, none longer than [`MAX_LINE`]; what it refuses leaves the buffer as it was.
    pub encode: fn(&SystemMetrics, &mut Vec<u8>) -> Result<(), Refused>,
}

impl Spec {
    /// One that has a place for everything and takes every tag.
    pub(super) const fn of_everything(
        name: &'static str,
        encode: fn(&SystemMetrics, &mut Vec<u8>) -> Result<(), Refused>,
    ) -> Self {
        let (needs, carries_tags, joins) = (&[], true, false);
        Self { name, needs, carries: |_| true, carries_tags, joins, refused_tag: |_| None, encode }
    }
}

impl Format {
    /// The word that stands for it in files and messages.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// The groups without which a line is worth nothing. Today's Infinibay host refuses one that
    /// lacks any of these four.
    pub fn needs(self) -> &'static [Group] {
        self.spec().needs
    }

    /// Whether each reading has the last values of the groups that others have read.
    pub fn joins(self) -> bool {
        self.spec().joins
    }

    /// Whether a line has a place for `group`.
    pub fn carries(self, group: Group) -> bool {
        (self.spec().carries)(group)
    }

    /// Whether a line has a place for tags and for who speaks.
    pub fn carries_tags(self) -> bool {
        self.spec().carries_tags
    }

    /// Why an operator's tag cannot have this name in this format, as the end of a sentence; `None` where it can.
    pub fn refused_tag(self, name: &str) -> Option<&'static str> {
        (self.spec().refused_tag)(name)
    }

    /// Appends the reading to `out` as whole lines, each with its newline. No line is longer than
    /// [`MAX_LINE`].
    ///
    /// # Errors
    /// What cannot be written leaves `out` as it was.
    pub fn encode(self, reading: &SystemMetrics, out: &mut Vec<u8>) -> Result<(), Refused> {
        (self.spec().encode)(reading, out)
    }
}

/// Why a reading was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It does not fit in [`MAX_LINE`].
    Oversize,
    /// It has no spelling in this format.
    Unencodable,
}

impl Refused {
    /// The word it is counted under.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Oversize => "oversize",
            Self::Unencodable => "unencodable",
        }
    }
}
