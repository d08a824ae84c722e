//! Fills variables in: `${NAME}`, `${NAME:-default}`, and `$${` for a literal `${`.
//!
//! It works on the parsed document and on text values only, so a key, a comment or a number is never changed, and the value
//! of a variable cannot become TOML. No error contains the value of a variable.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Env;

/// A variable that cannot be filled in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidVariable {
    /// Where in the file.
    pub span: Range<usize>,
    /// Where the whole value stands.
    pub value: Range<usize>,
    pub message: String,
    pub help: String,
}

/// Fills in every text value of `document`, which was parsed from `source`. Returns the places that were changed, and the
/// errors.
pub(super) fn fill(
    document: &mut DeTable<'_>,
    source: &str,
    env: &Env<'_>,
) -> (Vec<Range<usize>>, Vec<InvalidVariable>) {
    let mut filling = Filling { source, env, filled: Vec::new(), unfilled: Vec::new() };
    filling.table(document);
    (filling.filled, filling.unfilled)
}

struct Filling<'a> {
    source: &'a str,
    env: &'a Env<'a>,
    filled: Vec<Range<usize>>,
    unfilled: Vec<InvalidVariable>,
}

impl Filling<'_> {
    fn table(&mut self, table: &mut DeTable<'_>) {
        table.iter_mut().for_each(|(_, value)| self.value(value));
    }

    fn value(&mut self, value: &mut Spanned<DeValue<'_>>) {
        let span = value.span();
        match value.get_mut() {
            DeValue::String(text) if text.contains("${") => match expand(text, self.env) {
                Ok(whole) => {
                    *text = whole.into();
                    self.filled.push(span);
                }
                Err(wrong) => self.unfilled.push(wrong.at(text, self.source, span)),
            },
            DeValue::Array(values) => values.iter_mut().for_each(|value| self.value(value)),
            DeValue::Table(table) => self.table(table),
            _ => {}
        }
    }
}

/// The error, and its place in the text.
#[derive(Debug, PartialEq, Eq)]
struct InvalidPart {
    part: Range<usize>,
    message: String,
    help: String,
}

impl InvalidPart {
    /// The place in the file: exact where the text stands there as it is, the whole value where
    /// escapes stand in between.
    fn at(self, text: &str, source: &str, span: Range<usize>) -> InvalidVariable {
        let written = source.get(span.clone()).unwrap_or_default();
        let value = span.clone();
        let span = match written.find(text) {
            Some(start) => span.start + start + self.part.start..span.start + start + self.part.end,
            None => span,
        };
        InvalidVariable { span, value, message: self.message, help: self.help }
    }
}

/// `text` with its variables filled in. Their values are not interpolated again.
fn expand(text: &str, env: &Env<'_>) -> Result<String, InvalidPart> {
    let mut whole = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(found) = text[at..].find("${") {
        let start = at + found;
        if text[at..start].ends_with('$') {
            whole.push_str(&text[at..start - 1]);
            whole.push_str("${");
            at = start + 2;
            continue;
        }
        whole.push_str(&text[at..start]);
        let Some(length) = text[start..].find('}') else {
            return Err(InvalidPart {
                part: start..text.len(),
                message: "this ${ is never closed".to_owned(),
                help: "end it with }, or write $${ for a literal ${".to_owned(),
            });
        };
        at = start + length + 1;
        whole.push_str(&variable(&text[start + 2..at - 1], start..at, env)?);
    }
    whole.push_str(&text[at..]);
    Ok(whole)
}

/// What stands for `inner`, the part between the braces.
fn variable(inner: &str, part: Range<usize>, env: &Env<'_>) -> Result<String, InvalidPart> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    if !is_name(name) || default.is_some_and(|default| default.contains("${")) {
        return Err(InvalidPart {
            part,
            message: "this is not a variable".to_owned(),
            help: "write ${NAME} or ${NAME:-default}; $${ is a literal ${".to_owned(),
        });
    }
    match (env(name), default) {
        // As in a shell: `:-` is for what is not set and for what is empty.
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(InvalidPart {
            part,
            message: format!("the variable {name} is not set"),
            help: format!("set it, or give a default: ${{{name}:-default}}"),
        }),
    }
}

pub(super) fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "SITE" => Some("lab-1".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${SITE}".to_owned()),
            "EVIL" => Some("\"]\n[write]\nnull = true # ".to_owned()),
            _ => None,
        }
    }

    fn whole(text: &str) -> Result<String, String> {
        expand(text, &env).map_err(|wrong| text[wrong.part].to_owned())
    }

    #[test]
    fn variables_are_filled_in_as_a_shell_does() {
        assert_eq!(whole("${SITE}/${SITE}").unwrap(), "lab-1/lab-1");
        assert_eq!(whole("${EMPTY}").unwrap(), "");
        assert_eq!(whole("${EMPTY:-none}${GONE:-}").unwrap(), "none");
        assert_eq!(whole("${GONE:-a:-b é}").unwrap(), "a:-b é");
    }

    #[test]
    fn dollars_that_are_no_variable_stay() {
        assert_eq!(whole("$5 $SITE $").unwrap(), "$5 $SITE $");
        assert_eq!(whole("$${SITE} $$ $$${SITE}").unwrap(), "${SITE} $$ $${SITE}");
    }

    #[test]
    fn the_value_of_a_variable_is_not_interpolated_again() {
        assert_eq!(whole("${NESTED}").unwrap(), "${SITE}");
    }

    #[test]
    fn an_unknown_variable_is_reported_with_its_place() {
        assert_eq!(whole("é ${GONE}!"), Err("${GONE}".to_owned()));
        assert_eq!(whole("a ${SITE"), Err("${SITE".to_owned()));
        for part in ["${}", "${A B}", "${1A}", "${A-b}", "${:-x}", "${A:-${SITE}"] {
            assert_eq!(whole(part), Err(part.to_owned()));
        }
    }

    #[test]
    fn only_text_values_are_touched_and_nothing_can_become_toml() {
        let source = "\"${SITE}\" = 1 # ${GONE}\nx = [{ y = '${EVIL}' }]\n";
        let mut document = DeTable::parse(source).unwrap().into_inner();
        let (filled, unfilled) = fill(&mut document, source, &env);
        assert_eq!(unfilled, []);
        assert_eq!(&source[filled[0].clone()], "'${EVIL}'");
        assert_eq!(filled.len(), 1);
        assert_eq!(document.len(), 2);
        assert!(document.contains_key("${SITE}"));
        let evil = document.get("x").and_then(|x| x.get_ref().get(0)?.get_ref().get("y"));
        assert_eq!(evil.and_then(|y| y.get_ref().as_str()), env("EVIL").as_deref());
    }
}
