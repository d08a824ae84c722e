//! A group that a format has no words for, as rows: what distinguishes them, and their values. Knows no format.

use serde_json::Value;

/// The value of a field: a number, a text or a boolean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scalar<'a> {
    /// A whole number that is not negative.
    Whole(u64),
    /// Any other number, finite.
    Real(f64),
    /// A text.
    Text(&'a str),
    /// Yes or no.
    Bool(bool),
}

/// One line's worth of a group.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Row<'a> {
    /// The lists that it is an item of, by name; none for the group itself.
    pub list: Vec<&'a str>,
    /// What distinguishes it from the other items: their texts, by name.
    pub tags: Vec<(String, &'a str)>,
    /// Its values by name; an inner table adds its name and `_` before theirs. Never empty.
    pub fields: Vec<(String, Scalar<'a>)>,
}

/// The rows of a group's value: one of its own fields, and one for each item of a list in it, at any depth. What is
/// null is left out, and so is a row without a field. An item that is a bare value has it as the field `value`.
pub(crate) fn rows(value: &Value) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    add(value, Vec::new(), &[], &mut rows);
    rows
}

fn add<'a>(
    value: &'a Value,
    list: Vec<&'a str>,
    of: &[(String, &'a str)],
    rows: &mut Vec<Row<'a>>,
) {
    let mut row = Row { list, tags: of.to_vec(), fields: Vec::new() };
    let (at, mut lists) = (rows.len(), Vec::new());
    fields(value, String::new(), &mut row, &mut lists);
    for (name, items) in lists {
        for item in items {
            add(item, [&row.list[..], &[name]].concat(), &row.tags, rows);
        }
    }
    if !row.fields.is_empty() {
        rows.insert(at, row);
    }
}

fn fields<'a>(
    value: &'a Value,
    name: String,
    row: &mut Row<'a>,
    lists: &mut Vec<(&'a str, &'a [Value])>,
) {
    let named = |name: String| if name.is_empty() { "value".to_owned() } else { name };
    match value {
        Value::Null => {}
        Value::Object(table) => {
            for (key, value) in table {
                match value {
                    Value::Array(items) => lists.push((key, items)),
                    value if name.is_empty() => fields(value, key.clone(), row, lists),
                    value => fields(value, format!("{name}_{key}"), row, lists),
                }
            }
        }
        // A list in a list: its items have no name of their own.
        Value::Array(items) => items.iter().for_each(|item| fields(item, name.clone(), row, lists)),
        Value::String(text) if !row.list.is_empty() && !name.is_empty() => {
            row.tags.push((name, text));
        }
        Value::String(text) => row.fields.push((named(name), Scalar::Text(text))),
        Value::Bool(yes) => row.fields.push((named(name), Scalar::Bool(*yes))),
        Value::Number(number) => {
            let real = || number.as_f64().map(Scalar::Real);
            if let Some(scalar) = number.as_u64().map(Scalar::Whole).or_else(real) {
                row.fields.push((named(name), scalar));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_is_a_row_and_each_item_of_a_list_another() {
        let value = json!({
            "waiting": 3, "mean": 0.5, "name": "mail", "open": true, "none": null,
            "inner": {"done": 7},
            "lanes": [{"lane": "fast", "length": 2, "parts": [5]}, {"lane": "slow"}],
        });
        let rows = rows(&value);
        assert_eq!(rows.len(), 3, "an item without a value is no row: {rows:?}");
        let fields = |row: &Row<'_>| -> Vec<String> {
            row.fields.iter().map(|(name, value)| format!("{name}={value:?}")).collect()
        };
        assert_eq!(
            fields(&rows[0]),
            [
                "inner_done=Whole(7)",
                "mean=Real(0.5)",
                "name=Text(\"mail\")",
                "open=Bool(true)",
                "waiting=Whole(3)"
            ]
        );
        assert_eq!(
            (&rows[1].list[..], fields(&rows[1])),
            (&["lanes"][..], vec!["length=Whole(2)".to_owned()])
        );
        assert_eq!(rows[2].list, ["lanes", "parts"]);
        assert_eq!(
            rows[2].tags,
            [("lane".to_owned(), "fast")],
            "it is told from the parts of other lanes"
        );
    }
}
