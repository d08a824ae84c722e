//! What a file can be run with, and likely does not mean; and how a verdict is told.

use std::fs;
use std::process::ExitCode;

use infiniservice::internals::cli::EXIT_CONFIG;
use infiniservice::internals::cli::validate::{ReportOptions, report};
use infiniservice::internals::config::BUILT_IN;
use serde_json::Value;

use super::rig::{all, env, folder};

/// The warnings of a file that is right, each as its place and message.
fn warnings(name: &str, text: &str) -> Vec<String> {
    let folder = folder(&[(name, text)]);
    let loaded = all(&folder.path().join(name)).unwrap();
    let told = loaded.warnings.iter().map(|warning| {
        let place = warning.place.as_ref().unwrap();
        assert!(warning.to_string().contains(": warning: ") && warning.help.is_some());
        format!("{}:{}: {}", place.line, place.column, warning.message)
    });
    told.collect()
}

/// A pipeline of all that these lines say and what is needed beside it.
fn pipeline(from: &str, format: &str, more: &str, write: &str) -> String {
    format!(
        "{more}\n[[collect]]\nevery = \"1s\"\nfrom = [{from}]\n[serialize]\nformat = \"{format}\"\n[write]\n{write}\n"
    )
}

const ALL_FOUR: &str = "\"cpu\", \"memory\", \"disk\", \"network\"";

#[test]
fn data_loss_and_useless_settings_are_warned_of_at_their_place() {
    let null = "null = true";
    let cases = [
        (
            pipeline(
                &format!("{ALL_FOUR}, \"host\""),
                "infinibay",
                "[[enrich]]\ntags = { a = \"b\" }\n[[enrich]]\nidentity = {}",
                null,
            ),
            vec![
                "2:8: the format \"infinibay\" has no place for tags: it is lost",
                "4:12: the format \"infinibay\" has no place for identity: it is lost",
                "7:45: the format \"infinibay\" has no place for \"host\": it is read and lost",
            ],
        ),
        (
            pipeline("\"cpu\"", "json-lines", "[[enrich]]\ntop = {}\n[[enrich]]\nrates = {}", null),
            vec![
                "2:7: this does nothing: there is no \"processes\" here",
                "4:9: this does nothing: there is no \"network\" here",
            ],
        ),
        (
            pipeline(
                "\"cpu\"",
                "json-lines",
                "[[enrich]]\nwhere = { user = [\"root\", \"nobody-here\", 4711] }\n[[enrich]]\n\
                 threshold = { of = \"swap\", above = 5 }",
                null,
            ),
            vec![
                "2:9: this does nothing: there is no \"processes\" here",
                "2:27: there is no user \"nobody-here\" here: no process is theirs",
                "4:13: this does nothing: there is no \"memory\" here",
            ],
        ),
        (
            pipeline(
                "\"cpu\", \"network\"",
                "json-lines",
                "[[enrich]]\nselect = { keep = [\"cpu\"] }\n[[enrich]]\nrates = {}",
                null,
            ),
            vec!["4:9: this does nothing: there is no \"network\" here"],
        ),
        (
            pipeline(
                "\"cpu\"",
                "json-lines",
                "[[enrich]]\ntags = { a = \"1\" }\n[[enrich]]\ntags = { a = \"2\" }",
                null,
            ),
            vec!["2:8: the tag \"a\" is given again further down, and that one counts"],
        ),
        (
            pipeline("\"cpu\"", "influx", "[[enrich]]\ntags = { a = \"\", b = \"1\" }", null),
            vec!["2:8: the tag \"a\" has no value, and the format \"influx\" leaves it out"],
        ),
        (pipeline("\"cpu\"", "json-lines", "[[enrich]]\ntags = { a = \"\" }", null), vec![]),
        (
            pipeline("\"cpu\"", "json-lines", "", "file = { path = \"x.jsonl\" }"),
            vec!["8:17: this path begins where the agent is started, and that may be anywhere"],
        ),
        (
            pipeline("\"cpu\"", "json-lines", "", "file = { path = \"/no/such/x.jsonl\" }"),
            vec!["8:17: there is no folder /no/such: nothing can be written here"],
        ),
        (
            pipeline("\"cpu\"", "json-lines", "", "port = \"p\"\nkeep = 2"),
            vec![
                "9:8: this is less than one batch: up to 8 frames at once, and the oldest of them would be lost",
            ],
        ),
        (
            pipeline("\"cpu\"", "json-lines", "[batch]\nmax_items = 3\nmax_delay = \"10s\"", null),
            vec!["3:13: this is never reached: 3 readings are there after 2s"],
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(warnings("f.toml", &text), expected, "{text}");
    }
    let settings = "[log]\nlevel = \"info,infiniservice::prt=debug,port=debug,zbus=warn\"\n[runtime]\nthread_name = \"infiniservice-worker\"";
    assert_eq!(
        warnings("agent.toml", settings),
        [
            "2:9: nothing logs as \"infiniservice::prt\": this has no effect",
            "2:9: nothing logs as \"port\": this has no effect",
            "4:15: the kernel shows 15 bytes of this name",
        ]
    );
}

#[test]
fn the_shipped_files_are_not_doubted() {
    for (name, text) in BUILT_IN {
        assert_eq!(warnings(name, text), [""; 0], "{name}");
    }
    let folder = folder(&BUILT_IN);
    assert_eq!(all(folder.path()).unwrap().warnings, []);
}

#[test]
fn a_ceiling_too_small_for_any_request_is_warned_of() {
    let folder = folder(&[("agent.toml", "[memory]\nceiling = \"4MiB\""), ("c.toml", "[receive]")]);
    let warnings = all(folder.path()).unwrap().warnings;
    assert_eq!(
        warnings[0].message,
        "the ceiling of [memory] is 4 MiB, and one batch of each pipeline and one line of the host are 8"
    );
}

#[test]
fn the_report_is_text_or_json_and_warnings_may_count_as_errors() {
    let right = pipeline("\"cpu\"", "json-lines", "[[enrich]]\ntop = {}", "null = true");
    let folder =
        folder(&[("a.toml", &right), ("b.toml", "[batch]\nmax_items = 0\nmax_dely = 1\n")]);
    let told = |name: &str, how: ReportOptions| {
        let (mut right, mut wrong) = (Vec::new(), Vec::new());
        let verdict = report(&[folder.path().join(name)], how, &env, &mut right, &mut wrong);
        (verdict, String::from_utf8(right).unwrap(), String::from_utf8(wrong).unwrap())
    };
    let (verdict, right, wrong) = told("a.toml", ReportOptions::default());
    assert_eq!(verdict, ExitCode::SUCCESS);
    assert!(right.contains("a.toml: ok (") && !right.contains("memory"), "{right}");
    assert!(wrong.contains("a.toml:2:7: warning: this does nothing"), "{wrong}");

    let (verdict, ..) =
        told("a.toml", ReportOptions { deny_warnings: true, ..ReportOptions::default() });
    assert_eq!(verdict, ExitCode::from(EXIT_CONFIG));

    let (verdict, right, wrong) =
        told("b.toml", ReportOptions { json: true, ..ReportOptions::default() });
    assert_eq!((verdict, wrong.as_str()), (ExitCode::from(EXIT_CONFIG), ""));
    let data: Value = serde_json::from_str(&right).unwrap();
    let lines: Vec<_> =
        data["errors"].as_array().unwrap().iter().map(|error| error["line"].as_u64()).collect();
    assert_eq!((&data["ok"], lines), (&Value::Bool(false), vec![Some(2), Some(3)]));

    fs::remove_file(folder.path().join("b.toml")).unwrap();
    let (_, right, _) = told("", ReportOptions { json: true, ..ReportOptions::default() });
    let data: Value = serde_json::from_str(&right).unwrap();
    assert_eq!((&data["ok"], &data["warnings"][0]["line"]), (&Value::Bool(true), &Value::from(2)));
}

#[test]
fn an_old_name_keeps_its_meaning_and_is_warned_of() {
    let port = |word: &str| {
        let write = format!("port = \"org.infinibay.agent\"\ndelivery = \"{word}\"");
        pipeline("\"cpu\"", "json-lines", "", &write)
    };
    for (old, new) in [("must", "durable"), ("newest", "latest")] {
        let told = format!("9:12: \"{old}\" is the old name of \"{new}\"");
        assert_eq!(warnings("f.toml", &port(old)), [told]);
        assert!(warnings("f.toml", &port(new)).is_empty());
        let read = |word| all(&folder(&[("f.toml", &port(word))]).path().join("f.toml")).unwrap();
        let delivery = |word| read(word).pipelines[0].file.write[0].delivery;
        assert_eq!(delivery(old), delivery(new));
    }
    let agent = "[runtime]\nflavour = \"multi_thread\"\nworker_threads = 2\n";
    let folder = folder(&[("agent.toml", agent), ("f.toml", &port("latest"))]);
    let loaded = all(folder.path()).unwrap();
    let told: Vec<_> = loaded.warnings.iter().map(|warning| warning.message.as_str()).collect();
    assert_eq!(told, ["\"flavour\" is the old name of \"kind\""]);
    assert_eq!(loaded.agent.runtime.kind.name(), "multi_thread");
}

#[test]
fn a_file_whose_rotated_name_is_too_long_is_warned_of() {
    let folder = folder(&[]);
    let file = |name: usize| {
        let path = folder.path().join("x".repeat(name));
        let write = format!("file = {{ path = \"{}\", keep = 10 }}", path.display());
        pipeline("\"cpu\"", "json-lines", "", &write)
    };
    assert!(warnings("f.toml", &file(252)).is_empty());
    let told = warnings("f.toml", &file(253));
    assert!(told.len() == 1 && told[0].ends_with("and this one, rotated, 256"), "{told:?}");
}

#[test]
fn records_that_go_where_they_are_read_from_are_warned_of() {
    let place = folder(&[]);
    std::os::unix::fs::symlink(place.path(), place.path().join("link")).unwrap();
    let told = |read: &str, write: &str| {
        let at = |name: &str| place.path().join(name).display().to_string();
        let (read, write) = (at(read), at(write));
        let text = format!(
            "[[read]]\nlines = {{ file = \"{read}\" }}\n[write]\nfile = {{ path = \"{write}\" }}\n"
        );
        warnings("records.toml", &text)
    };
    for (read, write) in [
        ("a.log", "a.log"),
        ("*.log", "a.log"),
        ("a.log*", "a.log"),
        ("a.log.*", "a.log"),
        ("*.log", "link/a.log"),
        ("link/a.log", "a.log"),
    ] {
        let told = told(read, write);
        assert!(told.len() == 1 && told[0].contains("reads the file that it writes"), "{told:?}");
    }
    for (read, write) in [("a.log", "b.log"), ("*.log", "a.txt"), ("*/a.log", "a.log")] {
        assert_eq!(told(read, write), [""; 0], "{read} {write}");
    }
}
