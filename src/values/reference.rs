//! The reference of a section and its keys: `docs/pipelines.md` is made of them.

/// A section of a file, or the options of a name in it.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// As the file has it: `[batch]`, `[[collect]]`.
    pub header: &'static str,
    /// The purpose, in one or more sentences.
    pub about: &'static str,
    /// A file in which `{}` stands for one line of it. The other lines are required context.
    pub within: &'static str,
    /// Its keys, most looked-for first.
    pub keys: &'static [Key],
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// As the file has it.
    pub name: &'static str,
    /// The type, with unit and bounds.
    pub takes: &'static str,
    /// The default, as TOML; or its meaning in parentheses.
    pub default: &'static str,
    /// An example value, as TOML.
    pub example: &'static str,
    /// The meaning, as a phrase.
    pub does: &'static str,
}

/// A name in a file that has options of its own, as the name of a sink in `[write]`.
#[derive(Debug, Clone, Copy)]
pub struct Manual {
    /// The name, and what it takes and does.
    pub key: Key,
    /// Its options, where they are keys.
    pub options: Option<Section>,
}

/// A key, in one expression.
pub(crate) const fn key(
    name: &'static str,
    takes: &'static str,
    default: &'static str,
    example: &'static str,
    does: &'static str,
) -> Key {
    Key { name, takes, default, example, does }
}

/// The words for what a key takes and for its default, which `docs/pipelines.md` explains once.
pub(crate) mod words {
    /// It has to be given.
    pub(crate) const NEEDED: &str = "(needed)";
    /// Without it, nothing.
    pub(crate) const NONE: &str = "(none)";
    /// A whole number with bounds.
    pub(crate) const COUNT: &str = "count";
    /// A text with a unit of time.
    pub(crate) const TIME: &str = "time";
    /// A text with a unit of bytes.
    pub(crate) const SIZE: &str = "size";
    /// A boolean.
    pub(crate) const SWITCH: &str = "`true` or `false`";
    /// A text in which `*` stands for any text.
    pub(crate) const PATTERN: &str = "pattern";
    /// How much of command lines is shown.
    pub(crate) const COMMAND_LINE: &str = "`\"redacted\"`, `\"full\"` or `\"name\"`";
    /// What makes a process important.
    pub(crate) const RANK: &str = "`\"cpu\"` or `\"memory\"`";
}
