//! `KEY=VALUE` on the command line, which overrides the files.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use toml::{Table, Value};

use super::parse::{METRICS, RECORDS};

/// One key of a pipeline file, or of `agent.toml`, with another value.
///
/// `batch.max_items=64`, or `batch.max_delay = 10ms`: a text needs no quotes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Setting {
    path: Vec<String>,
    value: Value,
    shown: String,
}

/// A text that is no [`Setting`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no KEY=VALUE, as in batch.max_items=64")]
pub(crate) struct NotASetting(String);

impl FromStr for Setting {
    type Err = NotASetting;

    fn from_str(text: &str) -> Result<Self, NotASetting> {
        let wrong = || NotASetting(text.to_owned());
        let (key, value) = text.split_once('=').ok_or_else(wrong)?;
        let path: Vec<String> = key.trim().split('.').map(|key| key.trim().to_owned()).collect();
        if path.len() < 2 || path.iter().any(String::is_empty) {
            return Err(wrong());
        }
        let value = value.trim();
        let read = toml::from_str::<Table>(&format!("value = {value}"));
        let read = read.ok().and_then(|mut table| table.remove("value"));
        let value = read.unwrap_or_else(|| Value::String(value.to_owned()));
        Ok(Self { path, value, shown: text.trim().to_owned() })
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Setting {
    /// Whether it belongs to a pipeline; else it belongs to the agent.
    pub(super) fn is_of_pipeline(&self) -> bool {
        self.path.first().is_some_and(|section| {
            METRICS.contains(&section.as_str()) || RECORDS.contains(&section.as_str())
        })
    }

    /// Sets it in `document`. A section that is there several times is set in each, or by its number (`write.0.keep`).
    fn set(&self, document: &mut Table) {
        if let Some((first, rest)) = self.path.split_first() {
            let value =
                document.entry(first.as_str()).or_insert_with(|| Value::Table(Table::new()));
            set(value, rest, &self.value);
        }
    }
}

fn set(here: &mut Value, path: &[String], value: &Value) {
    let Some((first, rest)) = path.split_first() else {
        value.clone_into(here);
        return;
    };
    if let Value::Array(many) = here {
        match first.parse::<usize>() {
            Ok(number) => {
                if let Some(one) = many.get_mut(number) {
                    set(one, rest, value);
                }
            }
            Err(_) => many.iter_mut().for_each(|one| set(one, path, value)),
        }
        return;
    }
    if !here.is_table() {
        *here = Value::Table(Table::new());
    }
    if let Value::Table(table) = here {
        let next = table.entry(first.as_str()).or_insert_with(|| Value::Table(Table::new()));
        set(next, rest, value);
    }
}

/// `text`, shown as `origin`, with `settings` filled in. Without settings, or if it is not TOML, it is unchanged; the parser
/// reports the error.
pub(super) fn with_settings<'a>(
    (origin, text): (String, String),
    settings: impl Iterator<Item = &'a Setting>,
) -> (String, String) {
    let settings: Vec<_> = settings.collect();
    let Ok(mut document) = text.parse::<Table>() else { return (origin, text) };
    if settings.is_empty() {
        return (origin, text);
    }
    settings.iter().for_each(|setting| setting.set(&mut document));
    let shown: Vec<&str> = settings.iter().map(|setting| setting.shown.as_str()).collect();
    match toml::to_string(&document) {
        Ok(text) => (format!("{origin} with {}", shown.join(", ")), text),
        Err(_) => (origin, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_shown_as_it_was_written_and_has_a_value() {
        let setting: Setting = "batch.max_items=64".parse().unwrap();
        assert_eq!(setting.to_string(), "batch.max_items=64");
        assert!("batch".parse::<Setting>().is_err());
    }

    #[test]
    fn a_setting_overrides_every_section_of_its_name() {
        let file =
            "[batch]\nmax_items = 1\n[[write]]\nnull = true\n[[write]]\nnull = true\nkeep = 3\n";
        let set = |settings: &[&str]| {
            let settings: Vec<Setting> =
                settings.iter().map(|setting| setting.parse().unwrap()).collect();
            with_settings(("f".into(), file.into()), settings.iter())
        };
        let (origin, text) = set(&[
            "batch.max_items=64",
            "batch.max_delay=10ms",
            "write.keep = 7",
            "write.1.keep=8",
        ]);
        let expected = "[batch]\nmax_delay = \"10ms\"\nmax_items = 64\n\n[[write]]\nkeep = 7\nnull = true\n\n\
                        [[write]]\nkeep = 8\nnull = true\n";
        assert_eq!(text, expected);
        assert_eq!(
            origin,
            "f with batch.max_items=64, batch.max_delay=10ms, write.keep = 7, write.1.keep=8"
        );
        assert_eq!(set(&[]), ("f".to_owned(), file.to_owned()));
        assert!(set(&["collect.from=[\"cpu\"]"]).1.contains("from = [\"cpu\"]"));
    }
}
