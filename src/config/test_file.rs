//! A file of tests of a pipeline as a type, for `infiniservice test`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::check::{Broken, Check, Step};
use super::table::{one_or_many, tables};
use super::units::Period;

/// A file of tests. It names the pipeline, and each test what goes in and what comes out.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestFile {
    /// The file of the pipeline, from the folder of this one; or `built-in:NAME`.
    pub pipeline: PathBuf,
    /// The tests, each with the pipeline from its start.
    #[serde(default, deserialize_with = "tables")]
    pub test: Vec<TestCase>,
}

/// One `[[test]]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestCase {
    /// What is tested, as a sentence.
    pub name: String,
    /// What goes in, in order.
    #[serde(default, deserialize_with = "one_or_many")]
    pub given: Vec<TestInput>,
    /// What comes out, after some stages.
    #[serde(default, deserialize_with = "one_or_many")]
    pub expect: Vec<Expected>,
}

/// Readings or records that go in together.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestInput {
    /// How long after the start.
    #[serde(default, deserialize_with = "since_start")]
    pub at: Duration,
    /// Of records: the source whose lines they are, counted from 1 in the order of the file.
    #[serde(default = "one")]
    pub read: usize,
    /// Readings as `json-lines` writes them, or lines as the source reads them.
    pub lines: Lines,
}

/// What has come out when the input has ended.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expected {
    /// The last stage that they went through; without it all did, and they are as they would be written.
    #[serde(default)]
    pub after: Option<String>,
    /// How they are compared.
    #[serde(default, rename = "match")]
    pub matching: Matching,
    /// All that came out, in order.
    #[serde(default)]
    pub lines: Option<Lines>,
    /// All that was dropped or left out up to here, by reason.
    #[serde(default)]
    pub dropped: Option<BTreeMap<String, u64>>,
}

/// How a line that came out is compared with one that was expected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Matching {
    /// It is the same; of JSON, the same value, in whatever order its keys stand.
    #[default]
    Exact,
    /// It has all of it: of an object, each key that was expected, with its value; of other text, the words.
    Contains,
}

/// Lines, each without its end: a text of several, or a list of texts and of tables, which stand for JSON.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Lines(pub Vec<String>);

impl<'de> Deserialize<'de> for Lines {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LinesVisitor;
        impl<'de> Visitor<'de> for LinesVisitor {
            type Value = Lines;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a table, or a list of them")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Lines, E> {
                Ok(Lines(text.lines().map(str::to_owned).collect()))
            }
            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Lines, A::Error> {
                let table = serde::de::value::MapAccessDeserializer::new(table);
                Ok(Lines(vec![Value::deserialize(table)?.to_string()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Lines, A::Error> {
                let mut lines = Vec::new();
                while let Some(item) = list.next_element::<Value>()? {
                    match item {
                        Value::String(line) => lines.push(line),
                        table @ Value::Object(_) => lines.push(table.to_string()),
                        _ => return Err(A::Error::custom("a line is a text or a table")),
                    }
                }
                Ok(Lines(lines))
            }
        }
        deserializer.deserialize_any(LinesVisitor)
    }
}

fn one() -> usize {
    1
}

/// A length of time from none at all to one day.
fn since_start<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct Zero;
    impl<'de> Visitor<'de> for Zero {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a length of time, as in \"30s\"")
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
            match text.trim() {
                "0s" | "0ms" | "0" => Ok(Duration::ZERO),
                text => text.parse().map(Period::get).map_err(|problem| problem.pack()),
            }
        }
    }
    deserializer.deserialize_any(Zero)
}

/// Which part of a test is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TestPart {
    /// A `[[test.given]]`, by its number from 0.
    Given(usize),
    /// A `[[test.expect]]`, by its number from 0.
    Expected(usize),
}

/// A mistake that only the pipeline tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrongTest {
    /// The number of the test, from 0.
    pub test: usize,
    /// The part of it.
    pub part: TestPart,
    /// What is wrong, as the end of a sentence.
    pub message: String,
    /// The remedy.
    pub help: String,
}

impl WrongTest {
    pub(super) fn broken(self) -> Broken {
        let (list, index, key) = match self.part {
            TestPart::Given(index) => ("given", index, "lines"),
            TestPart::Expected(index) => ("expect", index, "after"),
        };
        let path = [Key("test"), Item(self.test), Key(list), Item(index), Key(key)];
        Broken::new(&path, self.message, self.help)
    }
}

use Step::{Item, Key};

impl Check for TestFile {
    fn check(&self) -> Vec<Broken> {
        let mut broken = Vec::new();
        if self.test.is_empty() {
            let help = "add a section [[test]] with a name, what is given and what is expected";
            broken.push(Broken::new(&[], "there is no test", help).missing());
        }
        for (number, test) in self.test.iter().enumerate() {
            let path = [Key("test"), Item(number)];
            if test.given.is_empty() {
                let help = "add [[test.given]] with lines = '''…'''";
                broken.push(Broken::new(&path, "nothing is given", help).missing());
            }
            if test.expect.is_empty() {
                let help = "add [[test.expect]] with lines = '''…'''";
                broken.push(Broken::new(&path, "nothing is expected", help).missing());
            }
            for (index, given) in test.given.iter().enumerate().skip(1) {
                if given.at < test.given[index - 1].at {
                    let path = [path[0], path[1], Key("given"), Item(index), Key("at")];
                    let help = "write them in the order of their times, which count from the start";
                    broken.push(Broken::new(&path, "this is before the one above", help));
                }
            }
            for (index, expected) in test.expect.iter().enumerate() {
                if expected.lines.is_none() && expected.dropped.is_none() {
                    let path = [path[0], path[1], Key("expect"), Item(index)];
                    let help =
                        "write lines = '''…''', or [] for none, or dropped = { filtered = 1 }";
                    broken.push(Broken::new(&path, "this expects nothing", help).missing());
                }
            }
        }
        broken
    }
}
