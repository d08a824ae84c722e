//! `infiniservice test`: tests of pipelines, what they say, and the tests that come with the program.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

use std::path::Path;
use std::process::{Command, Output};

use infiniservice::internals::records::transform::{MANUAL, Manual};
use tempfile::TempDir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn test(arguments: &[&Path]) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_infiniservice"));
    Command::new(program).arg("test").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A folder with `tests.toml`, and `flow.toml` beside it.
fn folder(flow: &str, tests: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("flow.toml"), flow).unwrap();
    std::fs::write(folder.path().join("tests.toml"), tests).unwrap();
    folder
}

/// What `infiniservice test` says of the tests, and its exit code.
fn told(flow: &str, tests: &str) -> (i32, String, String) {
    let folder = folder(flow, tests);
    let output = test(&[&folder.path().join("tests.toml")]);
    let place = format!("{}/", folder.path().display());
    let [out, err] = [output.stdout, output.stderr].map(|said| text(&said).replace(&place, ""));
    (output.status.code().unwrap(), out, err)
}

const LOGS: &str = "[[read]]\nlines = { stdin = true }\n[[transform]]\nfilter = { field = \"n\", less = 9 }\n\
    [[transform]]\ntags = { site = \"lab\" }\n[[transform]]\ntags = { rack = \"b\" }\n[write]\nnull = true\n";

#[test]
fn the_tests_that_come_with_the_program_pass_and_each_shipped_pipeline_has_some() {
    let tests = root().join("examples/tests");
    let output = test(&[&tests]);
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    for folder in ["pipelines", "examples"] {
        for file in std::fs::read_dir(root().join(folder)).unwrap() {
            let file = file.unwrap().path();
            let is_pipeline = file.extension().is_some_and(|extension| extension == "toml")
                && !["agent.toml", "bench.toml", "commands.toml", "relay.toml"]
                    .contains(&file.file_name().unwrap().to_str().unwrap());
            assert!(
                !is_pipeline || tests.join(file.file_name().unwrap()).exists(),
                "{}",
                file.display()
            );
        }
    }
}

#[test]
fn each_example_of_a_stage_in_the_reference_is_a_test_that_passes() {
    for Manual { name, example, .. } in MANUAL {
        let flow = format!(
            "[[read]]\nlines = {{ stdin = true }}\n{}\n[write]\nnull = true\n",
            example.file
        );
        let tests = format!(
            "pipeline = \"flow.toml\"\n[[test]]\nname = \"{name}\"\n[test.given]\nlines = '''\n{}\n'''\n\
             [test.expect]\nlines = '''\n{}\n'''\n",
            example.input, example.output
        );
        let (code, out, err) = told(&flow, &tests);
        assert_eq!(code, 0, "{name}: {out}{err}");
    }
}

#[test]
fn a_difference_is_told_by_its_place_within_eighty_columns() {
    let tests = r#"
pipeline = "flow.toml"
[[test]]
name = "all is well"
given = { lines = ['{"n":5}'] }
expect = { after = "tags", lines = [{ site = "lab", n = 5.0 }] }
[[test]]
name = "much is not"
given = { lines = ['{"n":1}', '{"n":20}', '{"n":2,"text":"a rather long text that has many words and goes beyond the end of a line"}', '{"n":3}'] }
[[test.expect]]
after = "filter"
lines = ['{"n":1}', '{"n":2}', '{"n":3}', '{"n":4}']
dropped = {}
[[test.expect]]
after = "tags#2"
match = "contains"
lines = ['{"n":1,"rack":"c"}', '{"n":2}', '{"n":3}']
"#;
    let (code, out, err) = told(LOGS, tests);
    let expected = r#"tests.toml
  ok   all is well
  FAIL much is not
       after filter
         + text: "a rather long text that has many words and goes beyond the end
           of a line"
         - {"n":4}
         expected 4, came 3; 2 as expected
         - dropped nothing
         + dropped 1 filtered
       after tags#2
         - rack: "c"
         + rack: "b"
         expected 3, came 3; 2 as expected

2 tests, 1 failed
"#;
    assert_eq!(
        out,
        expected.replace("         + text", "         - text: (nothing)\n         + text")
    );
    assert!(out.lines().all(|line| line.chars().count() <= 80));
    assert_eq!((code, err.as_str()), (1, ""));
}

#[test]
fn time_is_what_the_test_says() {
    let flow = "[[read]]\nlines = { stdin = true }\n[[transform]]\ndedupe = { by = [\"a\"], within = \"10s\" }\n[write]\nnull = true\n";
    let tests = r#"
pipeline = "flow.toml"
[[test]]
name = "a repetition is left out for ten seconds"
[[test.given]]
lines = '{"a":1}'
[[test.given]]
at = "9s"
lines = '{"a":1}'
[[test.given]]
at = "20s"
lines = '{"a":1}'
[test.expect]
lines = "{\"a\":1}\n{\"a\":1}"
"#;
    let (code, out, err) = told(flow, tests);
    assert_eq!(code, 0, "{out}{err}");
}

#[test]
fn rates_come_from_readings_in_time_order() {
    let flow = "[[collect]]\nevery = \"1s\"\nfrom = [\"network\"]\n[[enrich]]\nrates = {}\n[serialize]\nformat = \"json-lines\"\n[write]\nnull = true\n";
    let tests = r#"
pipeline = "flow.toml"
[[test]]
name = "bytes a second"
[[test.given]]
lines = [{ network = { interfaces = [{ name = "eth0", received_bytes = 1000 }] } }]
[[test.given]]
at = "2s"
lines = [{ network = { interfaces = [{ name = "eth0", received_bytes = 5000 }] } }]
[test.expect]
after = "rates"
match = "contains"
lines = [{ sequence = 0 }, { sequence = 1, timestamp = "2026-01-01T00:00:02.000Z", network = { interfaces = [{ rates = { received_bytes_per_sec = 2000 } }] } }]
"#;
    let (code, out, err) = told(flow, tests);
    assert_eq!(code, 0, "{out}{err}");
}

#[test]
fn all_mistakes_are_told_at_once_with_their_places() {
    let flow = "[[collect]]\nevery = \"1s\"\nfrom = [\"cpu\"]\n[serialize]\nformat = \"json-lines\"\n[write]\nnull = true\n";
    let tests = r#"pipeline = "flow.toml"
[[test]]
name = "a"
given = { lines = ['{"cpu":{"use":1}}', "x"] }
expect = { after = "rename", lines = [] }
[[test]]
name = "b"
expect = { match = "like", lines = [] }
"#;
    let (code, out, err) = told(flow, tests);
    assert_eq!((code, out.as_str()), (78, ""));
    for said in [
        "tests.toml:4:19: line 1 is no reading: unknown field `use`",
        "tests.toml:5:20: there is no stage \"rename\"",
        "help: the stages of this pipeline are batch, serialize",
        "tests.toml:8:20: unknown name \"like\"",
        "tests.toml:4:19: line 2 is no reading: ",
    ] {
        assert!(err.contains(said), "{said}\n{err}");
    }
    // The pipeline's own mistakes, too; what is missing is told where nothing else is wrong with the file.
    let tests = "pipeline = \"flow.toml\"\n[[test]]\nname = \"b\"\nexpect = { lines = [] }\n";
    let (code, _, err) = told("[[collect]]\nevery = \"1 parsec\"\n", tests);
    assert_eq!(code, 78);
    assert!(err.contains("flow.toml:2:9: "), "{err}");
    assert!(err.contains("tests.toml:2:1: nothing is given"), "{err}");
}

#[test]
fn a_pipeline_in_the_place_of_its_tests_is_told() {
    for mark in ["", "\u{feff}"] {
        let folder = folder(&format!("{mark}{LOGS}"), "");
        let output = test(&[&folder.path().join("flow.toml")]);
        assert_eq!(output.status.code(), Some(78));
        let said = text(&output.stderr);
        assert!(said.contains("flow.toml: this is a pipeline"), "{said}");
        assert!(
            said.contains("help: name a file that tests it, with pipeline = \"flow.toml\""),
            "{said}"
        );
    }
}
