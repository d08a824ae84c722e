//! The pass beside `serde_json`: what is accepted, and what is made of it, on any input.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::model::{Receipt, Unacknowledged};
use crate::pipeline::{EventCount, MemoryBudget, Output, Transform};
use crate::records::Records;
use crate::records::batch::{Decode, Invalid, Limits, ParseAs};
use crate::records::serialize::{Format, Serialize};
use crate::values::Count;

const DROP: Decode = Decode { parse_as: ParseAs::Json, invalid: Invalid::Drop };

#[derive(Deserialize)]
struct File {
    #[serde(default, deserialize_with = "crate::values::variant::words")]
    transform: Vec<Stage>,
}

/// The lines that leave, and what was dropped by reason.
fn run(file: &str, decode: Decode, lines: &[&[u8]]) -> (Vec<u8>, Vec<(&'static str, u64)>) {
    let file: File = toml::from_str(file).unwrap();
    let limits = Limits::default();
    let mut pass = Pass::new(&file.transform, limits, &MemoryBudget::default()).ok().unwrap();
    let mut out = Output::default();
    pass.apply(Instant::now(), &batch(decode, lines, Receipt::default()), &mut out);
    let dropped = out.dropped().iter().chain(out.discarded()).copied().collect();
    pass.finish(&mut out);
    (out.drain().flat_map(|batch| batch.bytes.to_vec()).collect(), dropped)
}

fn batch(decode: Decode, lines: &[&[u8]], receipt: Receipt) -> Records {
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for line in lines {
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
        ends.push(u32::try_from(bytes.len()).unwrap());
    }
    Records { bytes: bytes.into(), ends, too_long: 0, oldest: Instant::now(), decode, receipt }
}

/// A batch is acknowledged when the last of its records is written, or at once if all of them are dropped.
#[test]
fn a_receipt_goes_with_the_last_record_of_its_batch_through_batches_and_frames() {
    let positions = Unacknowledged::default();
    let limits = Limits { max_items: Count::fixed(2), ..Limits::default() };
    let mut pass = Pass::new(&[], limits, &MemoryBudget::default()).ok().unwrap();
    // The longest frame of a port holds one of these records.
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(20_000));
    let long = long.as_bytes();
    let inputs: [&[&[u8]]; 5] = [&[b"no json"], &[long], &[long, long], &[long, b"no json"], &[]];
    let (mut records, mut frames) = (Output::default(), Output::default());
    let mut serialize = Serialize::new(Format::default()).for_ports();
    for (number, lines) in inputs.into_iter().enumerate() {
        pass.apply(Instant::now(), &batch(DROP, lines, positions.receipt(number)), &mut records);
    }
    assert_eq!(positions.take(), Some(0), "only the first has nothing that must be written");
    pass.finish(&mut records);
    for batch in records.drain() {
        serialize.apply(Instant::now(), &batch, &mut frames);
    }
    let mut moved = Vec::new();
    for frame in frames.drain() {
        frame.acknowledge();
        moved.push(positions.take());
    }
    // The records of the second to the fourth batch: 1, 2, 2, 3; two in a batch, one in a frame.
    assert_eq!(moved, [None, Some(1), None, Some(4)]);
    assert!(positions.is_settled() && !positions.is_stopped());
}

/// What a tree makes of a line: the object with the tags, or nothing.
fn with_tags(line: &[u8]) -> Option<Value> {
    let mut tree: Value = serde_json::from_slice(line).ok()?;
    tree.as_object_mut()?.insert("site".to_owned(), "lab-1".into());
    Some(tree)
}

const TAGS: &str = "[[transform]]\ntags = { site = \"lab-1\" }";

fn equals_the_tree(line: &[u8]) {
    let (out, dropped) = run(TAGS, DROP, &[line]);
    let shown = String::from_utf8_lossy(line);
    match with_tags(line) {
        Some(tree) => {
            assert_eq!(dropped, [], "{shown}");
            assert_eq!(serde_json::from_slice::<Value>(&out).ok(), Some(tree), "{shown}");
            assert_eq!(memchr::memchr_iter(b'\n', &out).count(), 1);
        }
        None => {
            assert_eq!(out, b"", "{shown}");
            assert_eq!(dropped.len(), 1, "{shown}");
        }
    }
}

#[test]
fn each_example_of_the_reference_makes_what_it_says() {
    for Manual { name, example, .. } in MANUAL {
        let lines: Vec<&[u8]> = example.input.lines().map(str::as_bytes).collect();
        let (out, _) = run(example.file, DROP, &lines);
        assert_eq!(String::from_utf8(out).unwrap().trim_end(), example.output, "{name}");
    }
}

#[test]
fn lines_at_the_edges_of_the_grammar_are_taken_as_a_tree_takes_them() {
    let deep = |levels: usize| {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        format!("{{\"a\":{open}{close}}}").into_bytes()
    };
    let values = [
        "0",
        "-0",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "1e+",
        "1E-2",
        "+1",
        "0x1",
        "1.5e3",
        "- 1",
        "NaN",
        "true",
        "tru",
        "True",
        "null",
        "nul",
        "[]",
        "[,]",
        "[1,]",
        "[1 2]",
        "[",
        "]",
        "{}",
        "{,}",
        "{\"k\":}",
        "{\"k\"}",
        "{k:1}",
        "{\"k\":1,}",
        "{\"k\":1 \"l\":2}",
        "{\"k\":[}",
        "[{]}",
        "''",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12G4\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\n\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud83d\\ud83d\"",
        "\"\\u0000\"",
        "\"\t\"",
        "\"\u{7f}\"",
        "\"é\"",
        "\"a",
        "\"\\",
        "\"\\\"",
        "1 ",
        " 1",
        "1//",
        "/**/1",
        "",
        "\u{feff}1",
        "1\u{a0}",
        "\"\\/\"",
    ];
    for value in values {
        equals_the_tree(format!("{{\"a\":{value}}}").as_bytes());
        equals_the_tree(format!("{{\"a\":[{value}],\"b\":1}}").as_bytes());
    }
    for line in [
        "",
        " ",
        "{}",
        " { } ",
        "{}x",
        "{}{}",
        "[]",
        "1",
        "null",
        "{\"a\":1}\r",
        "{\"a\":1,}",
        "{,}",
        "{\"site\":1}",
        "{\"site\":1,\"site\":2}",
        "{\"b\":1,\"site\":1,\"c\":2,\"site\":[2],\"d\":3}",
        "{\"\\u0073ite\":1,\"b\":2}",
        "{\"site\":1 , \"b\" : 2 }",
        "{\"\":1}",
        "\u{feff}{}",
        "{\"a\"1}",
    ] {
        equals_the_tree(line.as_bytes());
    }
    let bad: [&[u8]; 7] = [
        b"\xff",
        b"\xc0\x80",
        b"\xe0\x80\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe2\x82",
        b"\x80",
    ];
    for bytes in bad {
        equals_the_tree(&[b"{\"a\":\"", bytes, b"\"}"].concat());
    }
    (120..135).for_each(|levels| equals_the_tree(&deep(levels)));
    let (_, dropped) = run(TAGS, DROP, &[&deep(200), b"{\"a\":\"\xff\"}", b"x", b"y"]);
    assert_eq!(dropped, [("too_deep", 1), ("invalid_utf8", 1), ("invalid_json", 2)]);
}

/// The fields of a line as a tree has them, in the order of the record: the last of a name counts.
type Tree = serde_json::Map<String, Value>;

fn tree(line: &str) -> Option<Tree> {
    serde_json::from_str(line).ok()
}

/// What the stages of [`SHAPED`] make of a tree.
fn shaped(line: &str) -> Option<Tree> {
    let mut tree = tree(line)?;
    let passes = tree.get("a").is_none_or(|a| a.as_f64().is_none_or(|a| a <= 0.0));
    if !passes {
        return None;
    }
    tree.remove("c");
    if let Some(value) = tree.remove("b") {
        tree.insert("bb".to_owned(), value);
    }
    tree.insert("site".to_owned(), "lab-1".into());
    if let Some(value) = tree.remove("site") {
        tree.insert("a".to_owned(), value);
    }
    tree.retain(|name, _| ["a", "bb", "ab"].contains(&name.as_str()));
    Some(tree)
}

const SHAPED: &str = r#"
[[transform]]
filter = { not = { field = "a", greater = 0 } }
[[transform]]
drop = { fields = ["c"] }
[[transform]]
rename = { b = "bb" }
[[transform]]
tags = { site = "lab-1" }
[[transform]]
rename = { site = "a" }
[[transform]]
keep = { fields = ["a", "bb", "ab"] }
"#;

fn shaped_equals_the_tree(file: &str, line: &str, expected: Option<Tree>) {
    let (out, dropped) = run(file, DROP, &[line.as_bytes()]);
    match expected {
        Some(expected) => {
            let out = String::from_utf8(out).unwrap();
            assert_eq!(tree(&out), Some(expected), "{line} gave {out}");
        }
        None => assert_eq!((out.as_slice(), dropped.len()), (&b""[..], 1), "{line}"),
    }
}

#[test]
fn conditions_hold_for_what_they_name_and_nothing_else() {
    let passes = |condition: &str, line: &str| {
        let file = format!("[[transform]]\nfilter = {condition}");
        !run(&file, DROP, &[line.as_bytes()]).0.is_empty()
    };
    let cases = [
        ("{ field = \"a\", equals = \"x\\ty\" }", r#"{"a":"x\ty"}"#, r#"{"a":"x y"}"#),
        ("{ field = \"a\", equals = 1 }", r#"{"a":1.0}"#, r#"{"a":"1"}"#),
        (
            "{ field = \"a\", equals = 9007199254740993 }",
            r#"{"a":9007199254740993}"#,
            r#"{"a":9007199254740992}"#,
        ),
        ("{ field = \"a\", equals = true }", r#"{"a":true}"#, r#"{"a":false}"#),
        ("{ field = \"a\", not_equals = 1 }", r#"{}"#, r#"{"a":10e-1}"#),
        ("{ field = \"a\", exists = true }", r#"{"a":null}"#, r#"{"b":1}"#),
        ("{ field = \"a\", exists = false }", r#"{"A":1}"#, r#"{"a":null}"#),
        ("{ field = \"a\", prefix = \"GET \" }", r#"{"a":"GET /"}"#, r#"{"a":"GET"}"#),
        ("{ field = \"a\", greater = 1, less = 3 }", r#"{"a":2}"#, r#"{"a":3}"#),
        ("{ field = \"a\", greater_or_equal = 1.5 }", r#"{"a":1.5}"#, r#"{"a":1}"#),
        ("{ field = \"a\", less_or_equal = \"m\" }", r#"{"a":"m"}"#, r#"{"a":"n"}"#),
        ("{ field = \"a\", in = [1, \"x\"] }", r#"{"a":"x"}"#, r#"{"a":["x"]}"#),
        ("{ field = \"a\", less = 1e300 }", r#"{"a":0}"#, r#"{"a":"inf"}"#),
        (
            "{ all = [{ field = \"a\", exists = true }, { not = { field = \"b\", equals = 1 } }] }",
            r#"{"a":1,"b":2}"#,
            r#"{"a":1,"b":1}"#,
        ),
    ];
    for (condition, yes, no) in cases {
        assert!(passes(condition, yes), "{condition} holds for {yes}");
        assert!(!passes(condition, no), "{condition} does not hold for {no}");
    }
    let wrong = |stage: &str| {
        let file: File = toml::from_str(&format!("[[transform]]\n{stage}")).unwrap();
        Pass::new(&file.transform, Limits::default(), &MemoryBudget::default()).is_err()
    };
    for stage in [
        "filter = {}",
        "filter = { field = \"a\" }",
        "filter = { equals = 1 }",
        "filter = { any = [] }",
        "filter = { field = \"a\", equals = 1, not = { field = \"b\", exists = true } }",
        "keep = { fields = [] }",
        "drop = { fields = [] }",
        "rename = {}",
        "rename = { a = \"b\", b = \"c\" }",
        "rename = { a = \"c\", b = \"c\" }",
    ] {
        assert!(wrong(stage), "{stage}");
    }
}

#[test]
fn text_and_what_is_invalid_become_a_message() {
    let text = Decode { parse_as: ParseAs::Text, invalid: Invalid::Drop };
    let (out, dropped) = run("", text, &[b"a \"b\"\t\x01\r", b"\xff{}"]);
    let expected = "{\"message\":\"a \\\"b\\\"\\t\\u0001\"}\n{\"message\":\"\u{fffd}{}\"}\n";
    assert_eq!((String::from_utf8(out).unwrap().as_str(), &dropped[..]), (expected, &[][..]));
    let keep = Decode { parse_as: ParseAs::Json, invalid: Invalid::Keep };
    let (out, _) = run("", keep, &[b"{\"a\" : 1}", b"{\"a\":}"]);
    assert_eq!(out, b"{\"a\" : 1}\n{\"message\":\"{\\\"a\\\":}\"}\n");
}

/// Any JSON with numbers that `serde_json` reads as they are.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        (-1e9..1e9_f64).prop_map(|value| value.to_string()),
        ".{0,12}".prop_map(|text| Value::from(text).to_string()),
        prop_oneof![Just(r#""\u00e9\ud83d\ude00""#), Just(r#""a\/b\n""#)].prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let blank = prop_oneof![Just(""), Just(" "), Just("\t")];
        let key = prop_oneof![
            Just("\"site\"".to_owned()),
            Just("\"s\\u0069te\"".to_owned()),
            "[a-c]{0,2}".prop_map(|key| format!("\"{key}\"")),
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5)
                .prop_map(|items| format!("[{}]", items.join(" ,"))),
            (proptest::collection::vec((key, inner), 0..5), blank).prop_map(|(members, blank)| {
                let members: Vec<String> = members
                    .into_iter()
                    .map(|(key, value)| format!("{blank}{key}{blank}:{value}{blank}"))
                    .collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(crate::records::any_of(1_000))]

    #[test]
    fn any_json_with_tags_equals_the_tree(line in json()) {
        equals_the_tree(line.as_bytes());
    }

    #[test]
    fn stages_that_change_fields_equal_the_tree(
        members in proptest::collection::vec((prop_oneof![Just("a"), Just("b"), Just("bb"), Just("c"), Just("ab"), Just("site"), Just("\\u0061")], json()), 0..7),
        blank in prop_oneof![Just(""), Just(" ")],
    ) {
        let members: Vec<String> =
            members.iter().map(|(key, value)| format!("{blank}\"{key}\"{blank}:{value}{blank}")).collect();
        let line = format!("{{{}}}", members.join(","));
        shaped_equals_the_tree(SHAPED, &line, shaped(&line));
        let mut tree = tree(&line).unwrap();
        if let Some(value) = tree.remove("a") {
            tree.insert("b".to_owned(), value);
        }
        tree.remove("bb");
        tree.insert("ab".to_owned(), "x".into());
        let file = "[[transform]]\nrename = { a = \"b\" }\n[[transform]]\ndrop = { fields = [\"bb\", \"ab\"] }\n[[transform]]\ntags = { ab = \"x\" }";
        shaped_equals_the_tree(file, &line, Some(tree));
    }

    #[test]
    fn a_line_with_a_byte_changed_is_taken_as_a_tree_takes_it(
        line in json(),
        at in any::<usize>(),
        byte in prop_oneof![any::<u8>(), Just(b'"'), Just(b'\\'), Just(b','), Just(b'}'), Just(b'{')],
        removed in 0..2_usize,
    ) {
        let mut line = line.into_bytes();
        let at = at % (line.len() + 1);
        let end = (at + removed).min(line.len());
        line.splice(at..end, [byte]);
        // A number beyond f64 is right as it is written, and a tree refuses it; a newline ends a line.
        let error = serde_json::from_slice::<Value>(&line).err();
        let is_large = error.is_some_and(|error| error.to_string().starts_with("number out of range"));
        if !is_large && !line.contains(&b'\n') {
            equals_the_tree(&line);
        }
    }
}

proptest! {
    #![proptest_config(crate::records::any_of(1_000))]

    /// Most lines have the keys of the line before, which the scan compares with: it must not matter.
    #[test]
    fn what_becomes_of_a_line_does_not_depend_on_the_lines_before(
        members in proptest::collection::vec((key(), json()), 0..7),
        changes in proptest::collection::vec(
            (any::<u64>(), prop_oneof![any::<u8>(), proptest::sample::select(&b"\"\\,:}{[] 0a"[..])], 0..4_usize),
            1..8,
        ),
    ) {
        let members: Vec<String> = members.iter().map(|(key, value)| format!("{key}{value}")).collect();
        let whole = format!("{{{}}}", members.join(",")).into_bytes();
        let mut lines = vec![whole.clone()];
        for (at, byte, removed) in changes {
            let mut line = whole.clone();
            let at = usize::try_from(at % (line.len() as u64 + 1)).unwrap();
            line.splice(at..(at + removed).min(whole.len()), (byte != b'\n').then_some(byte));
            lines.push(line);
            lines.push(whole.clone());
        }
        let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        for file in [TAGS, SHAPED] {
            let alone: Vec<u8> = lines.iter().flat_map(|line| run(file, DROP, &[line]).0).collect();
            prop_assert_eq!(run(file, DROP, &lines).0, alone);
        }
    }
}

/// A key with its colon: short ones, escaped ones, and such as are longer than what is remembered of a key.
fn key() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        4 => "[a-c]{0,2}",
        1 => Just("site".to_owned()),
        1 => Just("s\\u0069te".to_owned()),
        2 => "[a-b]{10,40}",
    ];
    let blank = prop_oneof![4 => Just(""), 1 => Just(" ")];
    (blank.clone(), name, blank.clone(), blank)
        .prop_map(|(before, name, after, last)| format!("{before}\"{name}\"{after}:{last}"))
}

/// What leaves, and what was dropped in all, when batches come at these milliseconds and the deadlines are kept.
fn run_timed(file: &str, batches: &[(u64, Vec<String>)]) -> (Vec<Value>, u64) {
    let file: File = toml::from_str(file).unwrap();
    let limits = Limits::default();
    let mut pass = Pass::new(&file.transform, limits, &MemoryBudget::default()).ok().unwrap();
    let (start, mut out, mut lines) = (Instant::now(), Output::default(), Vec::new());
    let (mut received, mut dropped) = (0, 0);
    let mut take = |out: &mut Output<Records>| {
        dropped += out.not_sent_total();
        lines.extend(out.drain().flat_map(|batch| batch.bytes.to_vec()));
        (dropped, memchr::memchr_iter(b'\n', &lines).count() as u64)
    };
    let positions = Unacknowledged::default();
    for (nth, (at, input)) in batches.iter().enumerate() {
        let now = start + std::time::Duration::from_millis(*at);
        while let Some(deadline) = pass.deadline().filter(|deadline| *deadline < now) {
            pass.expire(deadline, &mut out);
        }
        let input: Vec<&[u8]> = input.iter().map(String::as_bytes).collect();
        received += input.len() as u64;
        pass.apply(now, &batch(DROP, &input, positions.receipt(nth)), &mut out);
        let (dropped, sent) = take(&mut out);
        assert_eq!(received, dropped + sent + pass.held(), "the books balance");
        if pass.held() > 0 && sent == 0 && dropped < received {
            assert_ne!(positions.take(), Some(nth), "what is held is not acknowledged");
        }
    }
    pass.finish(&mut out);
    let (dropped, sent) = take(&mut out);
    assert_eq!((received, 0), (dropped + sent, pass.held()));
    let lines = String::from_utf8(lines).unwrap();
    (lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), dropped)
}

#[test]
fn a_receipt_waits_for_the_records_that_a_stage_holds() {
    let file = "[[transform]]\nmultiline = { begins = \"^b\" }\n[[transform]]\naggregate = { of = \"n\", every = \"10s\" }";
    let file: File = toml::from_str(file).unwrap();
    let limits = Limits::default();
    let mut pass = Pass::new(&file.transform, limits, &MemoryBudget::default()).ok().unwrap();
    let (positions, start, mut out) =
        (Unacknowledged::default(), Instant::now(), Output::default());
    for nth in 0..4 {
        let line = format!("{{\"message\":\"b {nth}\"}}");
        pass.apply(start, &batch(DROP, &[line.as_bytes()], positions.receipt(nth)), &mut out);
    }
    assert_eq!((positions.take(), pass.held()), (None, 4));
    pass.finish(&mut out);
    let batches: Vec<Records> = out.drain().collect();
    assert_eq!(&batches[0].bytes[..], b"{\"count\":4}\n");
    batches[0].receipt.acknowledge();
    assert_eq!(positions.take(), Some(3));
}

#[test]
fn what_a_parse_cannot_read_is_kept_or_dropped() {
    let cases = [
        (
            "as = \"logfmt\"",
            r#"{"message":"at=info msg=\"a b\"","at":1}"#,
            r#"{"message":"at=info msg=\"a b\"","at":"info","msg":"a b"}"#,
        ),
        (
            "as = \"syslog\"",
            r#"{"message":"<34>1 - h - - - - x"}"#,
            r#"{"message":"x","facility":"auth","severity":"crit","host":"h"}"#,
        ),
        ("regex = \"(?<n>[0-9]+)$\"", r#"{"message":"n 12"}"#, r#"{"message":"n 12","n":"12"}"#),
        (
            "regex = \"^(?<a>a+?)(?<b>a*)$\"",
            r#"{"message":"aaa"}"#,
            r#"{"message":"aaa","a":"a","b":"aa"}"#,
        ),
    ];
    for (how, line, expected) in cases {
        let file = format!("[[transform]]\nparse = {{ {how} }}");
        let (out, dropped) = run(&file, DROP, &[line.as_bytes()]);
        assert_eq!((std::str::from_utf8(&out).unwrap().trim_end(), dropped.len()), (expected, 0));
        for other in [r#"{"message":"\"x"}"#, r#"{"message":7}"#, "{}"] {
            let (out, _) = run(&file, DROP, &[other.as_bytes()]);
            assert_eq!(std::str::from_utf8(&out).unwrap().trim_end(), other);
            let file = format!("[[transform]]\nparse = {{ {how}, unparsed = \"drop\" }}");
            assert_eq!(run(&file, DROP, &[other.as_bytes()]), (vec![], vec![("unparsed", 1)]));
        }
    }
    for wrong in
        ["", "as = \"logfmt\", regex = \"(?<a>b)\"", "regex = \"(a)\"", "regex = \"(?<a>\""]
    {
        let file: File = toml::from_str(&format!("[[transform]]\nparse = {{ {wrong} }}")).unwrap();
        let pass = Pass::new(&file.transform, Limits::default(), &MemoryBudget::default());
        assert!(pass.is_err(), "{wrong}");
    }
    let regex = "[[transform]]\nfilter = { field = \"a\", regex = \"x[0-9]{2}\" }";
    let (out, _) = run(regex, DROP, &[b"{\"a\":\"-x12-\"}", b"{\"a\":\"x1\"}", b"{\"a\":12}"]);
    assert_eq!(out, b"{\"a\":\"-x12-\"}\n");
}

#[test]
fn keys_beyond_a_bound_share_or_are_dropped() {
    let many: Vec<String> = (0..5_000).map(|n| format!("{{\"k\":{n},\"n\":1}}")).collect();
    let (lines, dropped) = run_timed(
        "[[transform]]\nthrottle = { records = 2, every = \"1s\", by = [\"k\"] }",
        &[(0, many.clone()), (2_000, many.clone())],
    );
    let shared = 5_000 - throttle::THROTTLE_KEYS_MAX as u64;
    assert_eq!((lines.len() as u64, dropped), (10_000 - 2 * (shared - 2), 2 * (shared - 2)));
    let file = "[[transform]]\naggregate = { of = \"n\", every = \"1s\", by = [\"k\"] }";
    let (lines, dropped) = run_timed(file, &[(0, many.clone())]);
    assert_eq!((lines.len(), dropped), (aggregate::AGGREGATE_KEYS_MAX, 5_000 - 1_024));
    let file = "[[transform]]\ndedupe = { by = [\"k\"], within = \"1h\" }";
    assert_eq!(run_timed(file, &[(0, many.clone()), (1, many)]).1, 5_000);
}

/// Batches of records with a key, some of them written in another way, and a number.
fn timed_batches() -> impl Strategy<Value = Vec<(u64, Vec<String>)>> {
    let key =
        prop_oneof![Just("\"a\""), Just("\"\\u0061\""), Just("\"b\""), Just("1"), Just("null")];
    let record = prop_oneof![
        4 => (key, -1_000..1_000_i32).prop_map(|(key, n)| format!("{{\"k\":{key},\"n\":{}}}", f64::from(n) / 8.0)),
        1 => Just("{\"n\":\"x\"}".to_owned()),
    ];
    let batch = (0..1_500_u64, proptest::collection::vec(record, 0..12));
    proptest::collection::vec(batch, 1..8).prop_map(|mut batches| {
        let mut at = 0;
        for (pause, _) in &mut batches {
            at += *pause;
            *pause = at;
        }
        batches
    })
}

proptest! {
    #![proptest_config(crate::records::any_of(500))]

    #[test]
    fn stages_that_count_by_key_equal_the_tree(batches in timed_batches()) {
        let all: Vec<(u64, Value)> = batches.iter()
            .flat_map(|(at, lines)| lines.iter().map(|line| (*at, serde_json::from_str(line).unwrap())))
            .collect();
        let key = |tree: &Value| tree.get("k").map(Value::to_string);

        let (lines, _) = run_timed("[[transform]]\nthrottle = { records = 2, every = \"1s\", by = [\"k\"] }", &batches);
        let mut windows = std::collections::HashMap::new();
        let throttled: Vec<Value> = all.iter().filter(|(at, tree)| {
            let window = windows.entry(key(tree)).or_insert((*at, 0));
            if at - window.0 >= 1_000 {
                *window = (*at, 0);
            }
            window.1 += 1;
            window.1 <= 2
        }).map(|(_, tree)| tree.clone()).collect();
        prop_assert_eq!(lines, throttled);

        let (lines, _) = run_timed("[[transform]]\ndedupe = { by = [\"k\"], within = \"1s\" }", &batches);
        let mut seen = std::collections::HashMap::new();
        let first: Vec<Value> = all.iter().filter(|(at, tree)| {
            let is_new = seen.get(&key(tree)).is_none_or(|before| at - before >= 1_000);
            if is_new {
                seen.insert(key(tree), *at);
            }
            is_new
        }).map(|(_, tree)| tree.clone()).collect();
        prop_assert_eq!(lines, first);

        let (lines, _) = run_timed("[[transform]]\nsample = { one_in = 3 }", &batches);
        let third: Vec<Value> = all.iter().step_by(3).map(|(_, tree)| tree.clone()).collect();
        prop_assert_eq!(lines, third);
        let (lines, dropped) = run_timed("[[transform]]\nsample = { one_in = 2, by = \"k\" }", &batches);
        let kept: std::collections::HashSet<_> = lines.iter().map(key).collect();
        let count = all.iter().filter(|(_, tree)| kept.contains(&key(tree))).count();
        prop_assert_eq!((lines.len(), dropped as usize), (count, all.len() - count));
    }

    #[test]
    fn an_aggregate_equals_the_tree(batches in timed_batches()) {
        let file = "[[transform]]\naggregate = { of = \"n\", every = \"1s\", by = [\"k\"] }";
        let (lines, _) = run_timed(file, &batches);
        // Windows begin with the first record after the one before.
        let (mut opened, mut windows): (Option<u64>, Vec<Vec<Value>>) = (None, Vec::new());
        for (at, batch) in &batches {
            for line in batch {
                if opened.is_none_or(|opened| at - opened >= 1_000) {
                    opened = Some(*at);
                    windows.push(Vec::new());
                }
                windows.last_mut().unwrap().push(serde_json::from_str(line).unwrap());
            }
        }
        let mut lines = lines.into_iter();
        for window in windows {
            let mut keys: Vec<Option<Value>> = Vec::new();
            for tree in &window {
                let key = tree.get("k").cloned();
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
            for key in keys {
                let of_key: Vec<&Value> = window.iter().filter(|tree| tree.get("k") == key.as_ref()).collect();
                let mut numbers: Vec<f64> = of_key.iter().filter_map(|tree| tree["n"].as_f64()).collect();
                numbers.sort_unstable_by(f64::total_cmp);
                let line = lines.next().unwrap();
                prop_assert_eq!(line.get("k"), key.as_ref());
                prop_assert_eq!(line["count"].as_u64(), Some(of_key.len() as u64));
                prop_assert_eq!(line["n_min"].as_f64(), numbers.first().copied());
                prop_assert_eq!(line["n_max"].as_f64(), numbers.last().copied());
                if numbers.is_empty() {
                    continue;
                }
                let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
                prop_assert!((line["n_mean"].as_f64().unwrap() - mean).abs() <= 1e-9 * mean.abs().max(1.0));
                let p95 = numbers[(numbers.len() * 95).div_ceil(100) - 1];
                prop_assert!((line["n_p95"].as_f64().unwrap() - p95).abs() <= 0.0201 * p95.abs(), "{} {}", line, p95);
            }
        }
        prop_assert_eq!(lines.next(), None);
    }

    #[test]
    fn joined_lines_equal_the_tree(lines in proptest::collection::vec(("[bc\\\\]{1,3}", 0..3_u8), 0..20)) {
        // A new one begins with b; a record without a text passes by.
        let record = |(text, kind): &(String, u8)| match kind {
            0 => "{\"n\":1}".to_owned(),
            1 => format!("{{\"n\":1,\"message\":{}}}", Value::from(text.as_str())),
            _ => format!("{{\"message\":{}}}", Value::from(text.as_str())),
        };
        let input: Vec<String> = lines.iter().map(record).collect();
        let file = "[[transform]]\nmultiline = { begins = \"^b\", max_lines = 4 }";
        let (out, _) = run_timed(file, &[(0, input)]);
        let mut joined: Vec<(String, usize)> = Vec::new();
        for (text, _) in lines.iter().filter(|(_, kind)| *kind > 0) {
            match joined.last_mut() {
                Some((last, count)) if !text.starts_with('b') && *count < 4 => {
                    last.push('\n');
                    last.push_str(text);
                    *count += 1;
                }
                _ => joined.push((text.clone(), 1)),
            }
        }
        let got: Vec<&str> = out.iter().filter_map(|tree| tree.get("message")?.as_str()).collect();
        let expected: Vec<&str> = joined.iter().map(|(text, _)| text.as_str()).collect();
        prop_assert_eq!(got, expected);
        prop_assert_eq!(out.iter().filter(|tree| tree.get("message").is_none()).count(), lines.iter().filter(|(_, kind)| *kind == 0).count());
    }
}
