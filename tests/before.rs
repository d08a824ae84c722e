//! What is told of files before they run: one reading (`run --once`), `plan`, and the schema that editors hold files against.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use infiniservice::internals::config::reference::{
    AGENT, COMMANDS, PIPELINE, Page, RECORDS, Section,
};
use infiniservice::internals::config::schema::KINDS;
use serde_json::{Value, json};

fn program(arguments: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
    program.args(arguments).env_remove("RUST_LOG").output().unwrap()
}

fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Two cadences, and outputs of which none may be touched.
fn two_cadences(folder: &Path) -> String {
    let text = format!(
        "[[collect]]\nevery = \"1s\"\nfrom = [\"cpu\", \"memory\", \"network\"]\n\
         [[collect]]\nevery = \"1h\"\nfrom = [\"disk\", \"processes\"]\n\
         [batch]\nmax_items = 2\nmax_delay = \"1h\"\n\
         [[write]]\nfile = {{ path = \"{0}/never\" }}\nformat = \"json-lines\"\n\
         [[write]]\nport = \"unix:{0}/never.sock\"\ndelivery = \"durable\"\n\
         [[write]]\nunix = \"{0}/never.sock\"\nformat = \"json-lines\"\n",
        folder.display()
    );
    file(folder, "two.toml", &text)
}

#[test]
fn one_reading_goes_through_the_flow_to_standard_output_in_each_format_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = two_cadences(folder.path());
    let ran = program(&["run", "--once", &path]);
    assert!(ran.status.success(), "{ran:?}");
    let text = String::from_utf8(ran.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [json, infinibay] = &lines[..] else { panic!("{text}") };
    // All cadences are in the one reading, the hourly one too.
    for group in ["cpu", "disk", "network", "processes"] {
        assert!(json.get(group).is_some(), "{json}");
    }
    assert_eq!(infinibay["type"], "metrics");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else was written");

    let ran = program(&["run", "--once", "--format", "influx", "--pipelines", &path]);
    let text = String::from_utf8(ran.stdout).unwrap();
    assert!(text.lines().all(|line| line.starts_with("infiniservice")), "{text}");
    assert!(text.lines().filter(|line| line.starts_with("infiniservice_cpu")).count() > 0);
}

#[test]
fn what_no_reading_can_be_made_of_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let few = "[[collect]]\nevery = \"1s\"\nfrom = [\"cpu\"]\n[serialize]\nformat = \"pretty\"\n[write]\nnull = true\n";
    let few = file(folder.path(), "few.toml", few);
    let ran = program(&["run", "--once", "--format", "infinibay", "--pipelines", &few]);
    assert_eq!(ran.status.code(), Some(78));
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(said.contains("infinibay needs memory, which ") && said.contains("few.toml"), "{said}");

    let records = file(
        folder.path(),
        "records.toml",
        "[[read]]\nlines = { stdin = true }\n[write]\nnull = true\n",
    );
    let ran = program(&["run", "--once", "--pipelines", &records]);
    assert_eq!(ran.status.code(), Some(78));
}

#[test]
fn a_plan_tells_rates_delay_and_what_may_be_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = two_cadences(folder.path());
    let ran = program(&["plan", "--json", &path]);
    assert!(ran.status.success(), "{ran:?}");
    let plan: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let flow = &plan["pipelines"][0];
    assert!((flow["readings_per_minute"].as_f64().unwrap() - 60.0 - 1.0 / 60.0).abs() < 1e-6);
    // The second of two readings comes a second after the first.
    let delay = flow["delay_seconds_max"].as_f64().unwrap();
    assert!((0.9..=1.0).contains(&delay), "{delay}");
    let [json, port, _] = &flow["outputs"].as_array().unwrap()[..] else { panic!("{flow}") };
    let rate = |output: &Value| output["bytes_per_second"].as_f64().unwrap();
    assert!(rate(json) > 100.0 && rate(port) > 100.0, "{flow}");
    // Processes are in one line of 3,600 only, so a line without them makes the rate.
    let once = program(&["run", "--once", "--format", "infinibay", "--pipelines", &path]);
    assert!(rate(port) < once.stdout.len() as f64, "{flow}");
    assert_eq!((&json["durable"], &port["durable"]), (&json!(false), &json!(true)));
    assert!(plan["memory_bytes_max"].as_u64().unwrap() > 1 << 20);

    let text = program(&["plan", &path]).stdout;
    let text = String::from_utf8(text).unwrap();
    for told in ["every 1h: disk, processes", "durable: on disk below ", "`overwritten`"] {
        assert!(text.contains(told), "{text}");
    }
    let path = folder.path().to_str().unwrap();
    let widest = text.lines().filter(|line| !line.contains(path)).map(|line| line.chars().count());
    assert!(widest.max().unwrap() <= 80, "{text}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was written");
}

#[test]
fn a_plan_of_records_alone_tells_what_waits_and_measures_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[[read]]\nlines = { file = \"/var/log/app\" }\n[write]\nunix = \"/run/x.sock\"\n";
    let path = file(folder.path(), "records.toml", text);
    let text = String::from_utf8(program(&["plan", &path]).stdout).unwrap();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("4 may wait, then reading waits; files and the journal"), "{text}");
    for other in ["measured over", "a reading that is missed", "durable messages"] {
        assert!(!text.contains(other), "{other}: {text}");
    }
}

/// Validates with the implementation of Python (`jsonschema`): for each document, what is wrong with it, or nothing.
fn validated(documents: &[(&str, Value)]) -> Option<Vec<String>> {
    const SCRIPT: &str = "import json, sys, jsonschema\n\
        schemas, documents = json.load(sys.stdin)\n\
        [jsonschema.Draft7Validator.check_schema(s) for s in schemas.values()]\n\
        find = lambda kind, one: [e.json_path + ': ' + e.message for e in jsonschema.Draft7Validator(schemas[kind]).iter_errors(one)]\n\
        json.dump(['; '.join(find(*d)) for d in documents], sys.stdout)\n";
    let has = |python: &mut Command| python.output().is_ok_and(|output| output.status.success());
    if !has(Command::new("python3").args(["-c", "import jsonschema"])) {
        assert!(std::env::var_os("CI").is_none(), "python3-jsonschema is missing");
        eprintln!("NOT RUN: python3-jsonschema is missing");
        return None;
    }
    let schemas: serde_json::Map<String, Value> =
        KINDS.iter().map(|(name, schema)| ((*name).to_owned(), schema())).collect();
    let mut python = Command::new("python3")
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = serde_json::to_vec(&json!([schemas, documents])).unwrap();
    python.stdin.take().unwrap().write_all(&input).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn data(text: &str) -> Value {
    toml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The kind of a file of this name and text.
fn kind(name: &str, text: &str) -> &'static str {
    match name {
        "agent.toml" => "agent",
        _ if text.contains("[receive]") => "commands",
        _ => "pipeline",
    }
}

/// The files that are shipped, those of the documents, and one with every key.
fn shipped() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = |name: &str| std::fs::read_dir(root.join(name)).unwrap();
    let mut files = Vec::new();
    let paths: Vec<PathBuf> = ["pipelines", "examples", "tests/validate", "docs"]
        .into_iter()
        .flat_map(folder)
        .map(|entry| entry.unwrap().path())
        .chain([root.join("README.md")])
        .collect();
    for path in paths {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "relay.toml" {
            continue; // a file of the host's program, of which there is no schema
        } else if name.ends_with(".toml") {
            files.push((name, std::fs::read_to_string(path).unwrap()));
        } else if name.ends_with(".md") {
            let text = std::fs::read_to_string(path).unwrap();
            let blocks =
                text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
            let is_whole = |text: &&str| {
                ["[receive]", "[[collect]]", "[[read]]", "[generate]"]
                    .iter()
                    .any(|section| text.contains(section))
            };
            // Of tests there is no schema.
            let blocks = blocks.filter(|text| is_whole(text) && !text.contains("[[test]]"));
            files.extend(blocks.map(|block| (name.clone(), block.to_owned())));
        }
    }
    files
}

#[test]
fn every_shipped_file_and_every_example_of_the_reference_holds_by_the_schema() {
    let mut documents: Vec<(&str, Value)> =
        shipped().iter().map(|(name, text)| (kind(name, text), data(text))).collect();
    assert!(documents.len() > 6);
    let pages: [(&str, Page); 4] =
        [("pipeline", PIPELINE), ("pipeline", RECORDS), ("commands", COMMANDS), ("agent", AGENT)];
    let mut wrong = Vec::new();
    for (kind, page) in pages {
        for section in &page.sections() {
            for key in section.keys {
                let line = format!("{} = {}", key.name, key.example);
                documents.push((kind, data(&filled(section, key.name, &line))));
            }
            wrong.push((kind, data(&filled(section, "zzz", "zzz = \"zzz\""))));
        }
    }
    let right = documents.len();
    let text = "[[collect]]\nevery = 30\nfrom = [\"cpus\"]\n[write]\nstdout = 1\n";
    wrong.extend([("pipeline", data(text)), ("agent", data("host = \"ours\""))]);
    documents.extend(wrong);
    let Some(found) = validated(&documents) else { return };
    for (index, ((_, document), told)) in documents.iter().zip(found).enumerate() {
        assert_eq!(told.is_empty(), index < right, "{told}: {document}");
    }
}

/// A file with this line in the section, without what stands there of the same key.
fn filled(section: &Section, name: &str, line: &str) -> String {
    let is_other = |other: &&str| {
        let key = other.split(" = ").next().unwrap();
        key != name && !key.ends_with(&format!(".{name}"))
    };
    let others: Vec<&str> = section.within.lines().filter(is_other).collect();
    others.join("\n").replace("{}", line)
}

#[test]
fn shipped_files_name_their_schema_and_init_puts_it_there() {
    let folder = tempfile::tempdir().unwrap();
    let written = program(&["init", folder.path().to_str().unwrap()]);
    assert!(written.status.success(), "{written:?}");
    for (name, kind) in [("agent", "agent"), ("commands", "commands"), ("metrics", "pipeline")] {
        let text = std::fs::read_to_string(folder.path().join(format!("{name}.toml"))).unwrap();
        let hint = text.lines().next().unwrap().strip_prefix("#:schema ").unwrap();
        let schema = std::fs::read_to_string(folder.path().join(hint)).unwrap();
        let printed = String::from_utf8(program(&["schema", kind]).stdout).unwrap();
        assert_eq!(schema, printed, "{name}");
    }
}
