//! Colours of a terminal, where it has them and `NO_COLOR` does not say otherwise.

use std::io::{self, IsTerminal};

/// Columns that every terminal has.
pub(super) const WIDTH: usize = 80;

/// A colour by its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    Red,
    Green,
    Yellow,
    Bold,
    Dim,
}

/// Whether there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paint(bool);

impl Paint {
    /// Colours only on a terminal that is not `dumb`. An empty `NO_COLOR` counts as none.
    pub(super) fn of_stdout() -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|set| !set.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        Self(io::stdout().is_terminal() && !is_dumb && !is_set("NO_COLOR"))
    }

    /// Without colours.
    #[cfg(feature = "host")]
    pub(super) fn none() -> Self {
        Self(false)
    }

    /// With colours or without, whatever the terminal.
    #[cfg(test)]
    pub(super) fn fixed(has_colours: bool) -> Self {
        Self(has_colours)
    }

    /// The text in a colour.
    pub(super) fn in_colour(self, colour: Colour, text: &str) -> String {
        let code = match colour {
            Colour::Red => 31,
            Colour::Green => 32,
            Colour::Yellow => 33,
            Colour::Bold => 1,
            Colour::Dim => 2,
        };
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Adds `line`, indented, broken at spaces where it can be and anywhere else to fit the columns; what follows the
    /// first line is indented by two more.
    pub(super) fn wrapped(
        self,
        text: &mut String,
        indent: usize,
        colour: Option<Colour>,
        line: &str,
    ) {
        let (mut rest, mut blanks) = (line, indent);
        loop {
            let room = WIDTH.saturating_sub(blanks).max(20);
            let end = rest.char_indices().nth(room).map_or(rest.len(), |(at, _)| at);
            let (mut piece, mut behind) = rest.split_at(end);
            if let Some(next) = behind.strip_prefix(' ') {
                behind = next;
            } else if !behind.is_empty()
                && let Some(space) = piece.rfind(' ')
                && space * 2 > piece.len()
            {
                (piece, behind) = (&rest[..space], &rest[space + 1..]);
            }
            text.extend(std::iter::repeat_n(' ', blanks));
            match colour {
                Some(colour) => text.push_str(&self.in_colour(colour, piece)),
                None => text.push_str(piece),
            }
            text.push('\n');
            if behind.is_empty() {
                return;
            }
            (rest, blanks) = (behind, indent + 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_stays_within_the_columns() {
        let mut text = String::new();
        let line = format!("- {} {}", "word ".repeat(20).trim_end(), "x".repeat(200));
        Paint::fixed(false).wrapped(&mut text, 9, Some(Colour::Red), &line);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.starts_with("         - word word"));
        let without = |text: &str| text.replace(char::is_whitespace, "");
        assert_eq!(without(&text), without(&line));
        let mut painted = String::new();
        Paint::fixed(true).wrapped(&mut painted, 0, Some(Colour::Red), "- x");
        assert_eq!(painted, "\x1b[31m- x\x1b[0m\n");
    }
}
