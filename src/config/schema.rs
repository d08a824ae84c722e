//! The JSON Schema of each kind of file (draft 7, which editors of TOML read), made of the tables of [`super::reference`].
//! It knows the keys, their types and their words; rules between keys are [`super::load()`]'s work alone.

use serde_json::{Map, Value, json};

use super::reference::{AGENT, COMMANDS, Key, PIPELINE, Page, RECORDS, Section};
use crate::records::transform::MANUAL;
use crate::sort;

/// A kind of file: its name, and what makes its schema.
pub(crate) type Kind = (&'static str, fn() -> Value);

/// All kinds.
pub const KINDS: [Kind; 3] = [("pipeline", pipeline), ("commands", commands), ("agent", agent)];

/// Where a text has a variable, nothing is known of its value.
const VARIABLE: &str = r"\$\{";

/// A file of metrics, or of records.
fn pipeline() -> Value {
    let mut properties = properties(&PIPELINE);
    // A section of both kinds of file has the keys of either.
    for (name, of_records) in self::properties(&RECORDS) {
        let schema = match properties.remove(&name) {
            Some(of_metrics) => json!({ "anyOf": [of_metrics, of_records] }),
            None => of_records,
        };
        properties.insert(name, schema);
    }
    let stage = |manual: &crate::records::transform::Manual| {
        let mut schema =
            manual.options.as_ref().map_or(json!({}), |options| table(&RECORDS, options));
        schema["description"] = plain(&format!("{} {}", manual.name, manual.does)).into();
        (manual.name.to_owned(), schema)
    };
    let stages = object(MANUAL.iter().map(stage).collect(), &[], "One stage.");
    properties.insert("transform".into(), json!({ "type": "array", "items": stages }));
    let mut schema = root(properties, PIPELINE.about);
    let one_of = ["collect", "generate", "read"].map(|name| json!({ "required": [name] }));
    schema["anyOf"] = json!(one_of);
    schema
}

fn commands() -> Value {
    let mut schema = root(properties(&COMMANDS), COMMANDS.about);
    schema["required"] = json!(["receive"]);
    schema
}

fn agent() -> Value {
    root(properties(&AGENT), AGENT.about)
}

fn root(properties: Map<String, Value>, about: &str) -> Value {
    let mut schema = object(properties, &[], about);
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema
}

fn object(properties: Map<String, Value>, required: &[&str], about: &str) -> Value {
    json!({
        "type": "object",
        "description": plain(about),
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn empty() -> Value {
    json!({ "type": "object", "additionalProperties": false })
}

/// The keys at the top of a file, and its sections.
fn properties(page: &Page) -> Map<String, Value> {
    let mut all = Map::new();
    for section in &page.sections() {
        if section.header.starts_with("(top") {
            all.extend(keys(page, section));
        }
        // "`[[collect]]`", "`[write]` or `[[write]]`", "`[batch]` of records".
        let Some(shown) = section.header.strip_prefix("`[") else { continue };
        let name = shown.trim_start_matches('[').split(']').next().unwrap_or_default();
        let table = table(page, section);
        let list = json!({ "type": "array", "items": table, "minItems": 1 });
        let schema = match (shown.starts_with('['), section.header.contains(" or ")) {
            (true, _) => list,
            (false, true) => json!({ "anyOf": [table, list] }),
            (false, false) => table,
        };
        all.insert(name.to_owned(), schema);
    }
    all
}

fn table(page: &Page, section: &Section) -> Value {
    let needed: Vec<&str> = section
        .keys
        .iter()
        .filter(|key| key.default == crate::values::words::NEEDED)
        .map(|key| key.name)
        .collect();
    object(keys(page, section), &needed, section.about)
}

fn keys(page: &Page, section: &Section) -> Map<String, Value> {
    let schema = |key: &Key| {
        let mut schema = of(page, key);
        schema["description"] = plain(key.does).into();
        if let Some(default) = parsed(key.default) {
            schema["default"] = default;
        }
        (key.name.to_owned(), schema)
    };
    section.keys.iter().map(schema).collect()
}

/// The schema of a key: its example has the type, and what it takes has the words and bounds.
fn of(page: &Page, key: &Key) -> Value {
    match parsed(key.example) {
        Some(Value::Bool(_)) if key.takes == "`true`" => {
            json!({ "anyOf": [{ "const": true }, empty()] })
        }
        Some(Value::Bool(_)) => json!({ "type": "boolean" }),
        Some(Value::Number(_)) if key.takes.starts_with("count") => {
            let most = key.takes.split("at most ").nth(1).and_then(|most| most.parse().ok());
            json!({ "type": "integer", "minimum": 1, "maximum": most.unwrap_or(super::Count::MAX) })
        }
        Some(Value::Number(_)) if key.takes == "number" => {
            json!({ "type": "number", "minimum": 0 })
        }
        Some(Value::Number(_)) => json!({ "type": "integer", "minimum": 0 }),
        Some(Value::String(_)) => text(key),
        Some(Value::Array(_)) => json!({ "type": "array", "items": items(page, key) }),
        Some(Value::Object(_)) => match words(key.takes) {
            words if words.is_empty() => options(page, key),
            words => json!({ "anyOf": [one_word_of(&words), options(page, key)] }),
        },
        Some(Value::Null) | None => json!({}),
    }
}

fn text(key: &Key) -> Value {
    let words = words(key.takes);
    match key.takes {
        _ if !words.is_empty() => one_word_of(&words),
        "as in `[serialize]`" => {
            let mut names = crate::wire::Format::ALL.map(crate::wire::Format::name).to_vec();
            let of_records = crate::records::serialize::Format::ALL;
            names.extend(of_records.map(crate::records::serialize::Format::name));
            sort::by(&mut names, Ord::cmp);
            names.dedup();
            one_word_of(&names)
        }
        takes if takes.starts_with("time") || takes.starts_with("size") => {
            json!({ "type": "string", "pattern": format!(r"^\s*[0-9].*[A-Za-z]\s*$|{VARIABLE}") })
        }
        _ => json!({ "type": "string", "minLength": 1 }),
    }
}

/// The words that a key takes, where it takes no other text: "`\"a\"` or `\"b\"`".
fn words(takes: &str) -> Vec<&str> {
    if !takes.starts_with("`\"") {
        return Vec::new();
    }
    let quoted = takes.split('`').skip(1).step_by(2);
    quoted.filter_map(|word| word.strip_prefix('"')?.strip_suffix('"')).collect()
}

fn one_word_of(words: &[&str]) -> Value {
    json!({ "type": "string", "anyOf": [{ "enum": words }, { "pattern": VARIABLE }] })
}

/// What the list of a key holds.
fn items(page: &Page, key: &Key) -> Value {
    let is_group = |takes: &str| takes.starts_with("list of groups");
    if is_group(key.takes) {
        let all: Vec<_> =
            crate::metrics::collect::GROUPS.iter().map(|group| group.name()).collect();
        let mut items = vec![one_word_of(&all)];
        for group in all {
            let table = options_of(page, group).map_or(empty(), |section| table(page, &section));
            items.push(object(Map::from_iter([(group.to_owned(), table)]), &[group], ""));
        }
        return json!({ "anyOf": items });
    }
    let text = json!({ "type": "string", "minLength": 1 });
    match page.sections().into_iter().find(|section| section.header.starts_with("a rule of")) {
        Some(section) if key.takes.contains("rules") => {
            json!({ "anyOf": [text, table(page, &section)] })
        }
        _ => text,
    }
}

/// The table of a key.
fn options(page: &Page, key: &Key) -> Value {
    match options_of(page, key.name) {
        Some(section) => table(page, &section),
        None if key.takes == "table of texts" => {
            json!({ "type": "object", "additionalProperties": { "type": "string" } })
        }
        None if key.takes == "empty table" => empty(),
        None => json!({ "type": "object" }),
    }
}

/// The section "`NAME = { … }` in …".
fn options_of(page: &Page, name: &str) -> Option<Section> {
    let start = format!("`{name} = {{");
    page.sections().into_iter().find(|section| section.header.starts_with(&start))
}

/// A value of the tables, as data; `None` for one that is described in words.
fn parsed(value: &str) -> Option<Value> {
    let file = format!("value = {value}");
    toml::from_str::<Value>(&file).ok()?.get_mut("value").map(Value::take)
}

/// Without the marks of the document.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    // A link, [words](target), is its words.
    while let Some((before, after)) = rest.split_once("](") {
        match (before.rsplit_once('['), after.split_once(')')) {
            (Some((before, words)), Some((_, after))) => {
                plain += &format!("{before}{words}");
                rest = after;
            }
            _ => break,
        }
    }
    plain + rest
}
