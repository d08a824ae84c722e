//! `parse`: makes fields of a text.

use serde::Deserialize;
use tokio::time::Instant;

use super::pattern::Groups;
use super::fields::{Field, Fields};
use super::record::Record;
use super::{Example, Manual, Operator, Options, Verdict};
use crate::records::logfmt;
use crate::records::syslog::{self, Syslog};
use crate::values::Problem;

pub(super) const MANUAL: Manual = Manual {
    name: "parse",
    takes: "table, `field`, and `as` = `\"logfmt\"` or `\"syslog\"`, or `regex` = regular expression with named groups; `unparsed` = `\"keep\"` or `\"drop\"`",
    does: "makes fields of the text in `field` (`message`), which stays: the pairs of logfmt; of syslog (RFC 5424 or RFC 3164) `facility`, `severity`, `timestamp`, `host`, `app`, `pid`, `msgid`, `structured_data` and `message`; or the groups of an expression. All are texts. A record with another text is kept as it is, or dropped and counted as `unparsed`. An expression that begins with `^` is by far faster",
    options: None,
    example: Example {
        file: "[[transform]]\nparse = { field = \"line\", regex = \"^(?<verb>[A-Z]+) (?<path>[^ ]+)\" }\n[[transform]]\ndrop = { fields = [\"line\"] }",
        input: r#"{"line":"GET /index.html HTTP/1.1"}"#,
        output: r#"{"verb":"GET","path":"/index.html"}"#,
    },
};

/// What is parsed, and how.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parse {
    #[serde(default = "message")]
    field: String,
    r#as: Option<Grammar>,
    regex: Option<String>,
    #[serde(default)]
    unparsed: Unparsed,
}

fn message() -> String {
    "message".to_owned()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Grammar {
    Logfmt,
    Syslog,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Unparsed {
    #[default]
    Keep,
    Drop,
}

impl Options for Parse {
    fn build(&self, fields: &mut Fields) -> Result<Box<dyn Operator>, Problem> {
        let field = fields.add(&self.field)?;
        let parser = match (self.r#as, &self.regex) {
            (Some(Grammar::Logfmt), None) => {
                fields.open();
                Parser::Logfmt
            }
            (Some(Grammar::Syslog), None) => {
                let names = syslog::FIELDS.map(|name| fields.add(name));
                Parser::Syslog(names.into_iter().collect::<Result<_, _>>()?)
            }
            (None, Some(expression)) => {
                let pattern = Groups::new(expression)?;
                let names = pattern.names();
                if names.is_empty() {
                    let help = "name one, as in \"^(?<ip>[0-9.]+) \"";
                    return Err(Problem::new("has an expression without a named group", help));
                }
                let named = names.into_iter().map(|(group, name)| Ok((group, fields.add(&name)?)));
                Parser::Regex(Box::new(pattern), named.collect::<Result<_, Problem>>()?)
            }
            _ => {
                let help = "write as = \"logfmt\", as = \"syslog\" or regex = \"…\"";
                return Err(Problem::new("does not say how the text is read", help));
            }
        };
        Ok(Box::new(Parsed { field, parser, unparsed: self.unparsed, text: Vec::new(), plain: Vec::new() }))
    }
}

enum Parser {
    Logfmt,
    /// The fields of [`syslog::FIELDS`].
    Syslog(Vec<Field>),
    /// The groups and their fields.
    Regex(Box<Groups>, Vec<(usize, Field)>),
}

struct Parsed {
    field: Field,
    parser: Parser,
    unparsed: Unparsed,
    text: Vec<u8>,
    /// A text without its escapes.
    plain: Vec<u8>,
}

impl Operator for Parsed {
    fn apply(&mut self, _now: Instant, record: &mut Record<'_>) -> Verdict {
        // The text is copied: it may be replaced by what is made of it.
        self.text.clear();
        let is_text = match record.text(self.field, &mut self.plain) {
            Some(text) => {
                self.text.extend_from_slice(text);
                true
            }
            None => false,
        };
        match is_text && self.parser.parse(&self.text, &mut self.plain, record) {
            false if self.unparsed == Unparsed::Drop => Verdict::Discard("unparsed"),
            _ => Verdict::Keep,
        }
    }
}

impl Parser {
    /// Puts what is in `text` into the record, with `buffer` for values; returns whether it can be read.
    fn parse(&mut self, text: &[u8], buffer: &mut Vec<u8>, record: &mut Record<'_>) -> bool {
        match self {
            Self::Logfmt => {
                let mut pairs = 0;
                let is_right = logfmt::pairs(text, buffer, |_, _| pairs += 1) && pairs > 0;
                is_right && logfmt::pairs(text, buffer, |name, value| record.put_named(name, value))
            }
            Self::Syslog(fields) => {
                let Some(Syslog { values }) = Syslog::parse(text) else { return false };
                for (field, value) in fields.iter().zip(values) {
                    if let Some(value) = value {
                        record.put_text(*field, value);
                    }
                }
                true
            }
            Self::Regex(pattern, named) => {
                let Some(groups) = pattern.find(text) else { return false };
                for (group, field) in named {
                    if let Some(span) = groups.get_group(*group) {
                        record.put_text(*field, &text[span.range()]);
                    }
                }
                true
            }
        }
    }
}
