//! Where records go: each output in a format of its own, and lines that are no records to a side file.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::support::{Place, Running};

/// Runs the pipeline to the end of what it reads.
fn run_to_the_end(place: &Place, pipeline: &str) {
    let folder = place.folder.path();
    let file = place.file("logs.toml", &pipeline.replace("FOLDER", &folder.display().to_string()));
    let mut agent = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
    agent.args(["run", "--pipelines"]).arg(file).arg("--state").arg(folder.join("state"));
    let agent = Running(agent.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let (code, log) = agent.end();
    assert_eq!(code, Some(0), "{log}");
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn each_output_of_records_has_a_format_of_its_own() {
    let place = Place::new();
    let folder = place.folder.path();
    fs::write(
        folder.join("app.log"),
        "{\"message\":\"a b\",\"n\":1}\n{\"message\":\"c\",\"n\":2}\n",
    )
    .unwrap();
    run_to_the_end(
        &place,
        r#"
        [[read]]
        lines = { file = "FOLDER/app.log", until_end = true }
        [serialize]
        format = "raw"
        [[write]]
        file.path = "FOLDER/out.txt"
        [[write]]
        file.path = "FOLDER/out.logfmt"
        format = "logfmt"
        [[write]]
        file.path = "FOLDER/out.ndjson"
        format = "json-lines"
        [[write]]
        file.path = "FOLDER/again.ndjson"
        format = "json-lines"
        "#,
    );
    assert_eq!(text(&folder.join("out.txt")), "a b\nc\n");
    assert_eq!(text(&folder.join("out.logfmt")), "message=\"a b\" n=1\nmessage=c n=2\n");
    let records = text(&folder.join("app.log"));
    assert_eq!(text(&folder.join("out.ndjson")), records);
    assert_eq!(text(&folder.join("again.ndjson")), records);
}

#[test]
fn lines_that_are_no_records_go_to_the_side_file_of_their_source_as_they_are() {
    let place = Place::new();
    let folder = place.folder.path();
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
    let invalid =
        [b"no json".as_slice(), b"{\"a\":", b"{\"a\":\"\xff\"}", b"[1]", deep.as_bytes(), b"\r"];
    let mut lines = Vec::new();
    for line in invalid {
        lines.extend_from_slice(line);
        lines.extend_from_slice(b"\n{\"n\":1}\n");
    }
    lines.extend_from_slice(b"cut off");
    fs::write(folder.join("app.log"), lines).unwrap();
    fs::write(folder.join("other.log"), "{\"n\":2}\nnor this\n").unwrap();
    run_to_the_end(
        &place,
        r#"
        [[read]]
        lines = { file = "FOLDER/app.log", until_end = true }
        invalid = { file = { path = "FOLDER/app.invalid" } }
        [[read]]
        lines = { file = "FOLDER/other.log", until_end = true }
        invalid = { file = { path = "FOLDER/other.invalid", max_size = "1MiB", keep = 1 } }
        [write]
        file.path = "FOLDER/out"
        "#,
    );
    let mut expected = invalid.join(&b'\n');
    expected.extend_from_slice(b"\ncut off\n");
    assert_eq!(fs::read(folder.join("app.invalid")).unwrap(), expected);
    assert_eq!(text(&folder.join("other.invalid")), "nor this\n");
    let records = text(&folder.join("out"));
    assert_eq!(records.matches("{\"n\":1}\n").count(), invalid.len());
    assert_eq!(records.lines().count(), invalid.len() + 1);
}
