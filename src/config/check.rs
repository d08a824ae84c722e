//! A rule of a file that its types cannot express, and what breaks it.

use super::write::{Target, Write, one_target};

/// One step on the way to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Key(&'static str),
    Item(usize),
}

/// A rule that is broken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken {
    /// The place; the nearest existing one stands for a missing one.
    pub path: Vec<Step>,
    /// The other place, of a rule that concerns two.
    pub other: Option<Vec<Step>>,
    /// The message and help to use instead if the section of `path` is not in the file.
    pub without_section: Option<(String, String)>,
    /// Whether a part is missing, which may only follow from another mistake.
    pub is_missing: bool,
    pub message: String,
    pub help: String,
}

impl Broken {
    pub(super) fn new(path: &[Step], message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            path: path.to_vec(),
            other: None,
            without_section: None,
            is_missing: false,
            message: message.into(),
            help: help.into(),
        }
    }

    pub(super) fn missing(self) -> Self {
        Self { is_missing: true, ..self }
    }

    pub(super) fn beside(self, other: Vec<Step>) -> Self {
        Self { other: Some(other), ..self }
    }
}

/// A file with rules that its types cannot express.
pub(super) trait Check {
    /// Every broken rule, except those that only follow from another.
    fn check(&self) -> Vec<Broken>;

    /// The warnings: parts that have no effect or lose data.
    fn warnings(&self) -> Vec<Broken> {
        Vec::new()
    }

    /// Adds the lines of rules from the text of the file.
    fn find(&mut self, _source: &str) {}
}

/// The rules that all lists of outputs have: there is one, and none of them is there twice.
pub(super) fn somewhere_to_write<F>(write: &[Write<F>]) -> Vec<Broken> {
    if write.is_empty() {
        let message = "nothing is written anywhere";
        let help = format!("add [write] and {}", one_target());
        return vec![Broken::new(&[Step::Key("write")], message, help).missing()];
    }
    let mut broken = Vec::new();
    for (index, one) in write.iter().enumerate() {
        let same = |earlier: &Write<F>| same_place(&earlier.target, &one.target);
        if let Some(earlier) = write[..index].iter().position(same) {
            let message = "this section writes to the same place as one before it";
            broken.push(
                Broken::new(
                    &[Step::Key("write"), Step::Item(index)],
                    message,
                    "take one of them out",
                )
                .beside(vec![Step::Key("write"), Step::Item(earlier)]),
            );
        }
    }
    broken
}

fn same_place(one: &Target, other: &Target) -> bool {
    let written = one.written().map(|used| used.path);
    one == other || written.is_some() && written == other.written().map(|used| used.path)
}
