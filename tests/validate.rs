//! Every error a file can have, exactly as it is shown; and that nothing else gets through.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use infiniservice::cli::EXIT_CONFIG;
use infiniservice::cli::validate::report;
use infiniservice::config::{
    AgentSettings, BUILT_IN, Batch, Changes, Collect, Commands, ConfigError, Count, Delivery,
    Enforce, Enrich, FileTarget, Identify, Loaded, Period, PipelineFile, ProcessesOptions, Rates,
    Read, Select, Serialize, Size, Target, Top, Write, load, load_file,
};
use infiniservice::metrics::collect::NetworkOptions;
use infiniservice::model::{Group, Rank};
use infiniservice::wire::Format;
use proptest::prelude::*;
use tempfile::TempDir;

/// What no error may ever show, dressed up to be mistaken for a part of serde's messages.
const SECRET: &str = "hunter2`, expected `cpu\"\n[write]\nnull = true # \u{1f}hunter2\u{1f}";

fn env(name: &str) -> Option<String> {
    match name {
        "SECRET" => Some(SECRET.to_owned()),
        "SITE" => Some("lab-1".to_owned()),
        "PERIOD" => Some("30".to_owned()),
        _ => None,
    }
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn all(path: &Path) -> Result<Loaded, Vec<ConfigError>> {
    load(&[path.to_path_buf()], &env)
}

/// The errors of a file with these bytes, as they are shown; the file is called `name`.
fn errors(name: &str, bytes: &[u8]) -> String {
    let folder = folder(&[]);
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    let shown = match all(&path) {
        Ok(loaded) => format!("no error: {loaded:?}"),
        Err(errors) => errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    };
    shown.replace(&format!("{}/", folder.path().display()), "")
}

/// A pipeline around one line.
fn around(line: &str) -> String {
    format!("[[collect]]\nevery = \"1s\"\nfrom = [\"cpu\"]\n\n{line}\n\n[write]\nnull = true\n")
}

#[test]
fn every_error_reads_as_written_down() {
    let cases = include_str!("validate/cases.txt");
    let mut wrong = Vec::new();
    for case in cases.split("=== ").skip(1) {
        let (title, case) = case.split_once('\n').unwrap();
        let (text, expected) = case.split_once("---\n").unwrap_or((case, "nothing yet\n"));
        let name = if title.starts_with("agent: ") { "agent.toml" } else { "f.toml" };
        let shown = errors(name, text.as_bytes());
        if shown.trim_end() != expected.trim_end() {
            wrong.push(format!("=== {title}\n{text}---\n{shown}\n"));
        }
    }
    assert!(wrong.is_empty(), "these read differently now:\n{}", wrong.concat());
    assert!(cases.matches("=== ").count() > 140);
}

#[test]
fn a_file_that_cannot_be_read_is_told_without_a_place() {
    let folder = folder(&[("f.toml", "")]);
    let at = |name: &str| {
        let error = all(&folder.path().join(name)).unwrap_err().remove(0);
        assert_eq!(error.place, None);
        error.to_string().replace(&format!("{}", folder.path().display()), "DIR")
    };
    assert_eq!(at("none.toml"), "DIR/none.toml: there is no such file");
    assert_eq!(at("f.toml/x"), "DIR/f.toml/x: cannot read this file: not a directory");

    fs::create_dir_all(folder.path().join("e/folder.toml")).unwrap();
    assert_eq!(at("e"), "DIR/e/folder.toml: this is a folder, and a file is needed");
    assert_eq!(
        at("e/folder.toml"),
        "DIR/e/folder.toml: this folder has no *.toml file\n\
         help: put a pipeline file there, or name the files to use"
    );
    let one = load_file(folder.path(), &env).unwrap_err().to_string();
    assert_eq!(one, format!("{}: this is a folder, and a file is needed", folder.path().display()));

    fs::write(folder.path().join("big.toml"), " ".repeat((1 << 20) + 1)).unwrap();
    assert_eq!(
        at("big.toml"),
        "DIR/big.toml: this file is larger than 1 MiB\n\
         help: a pipeline file has a few dozen lines; is this the right one?"
    );
}

#[test]
fn bytes_that_are_no_text_are_told_with_their_place() {
    assert_eq!(
        errors("f.toml", b"about = \"x\"\n# caf\xe9 au lait\n"),
        "f.toml:2:6: this is not UTF-8: byte 0xe9 at offset 17\n  |\n\
         2 | # caf\u{fffd} au lait\n  |      ^\nhelp: save the file as UTF-8"
    );
    assert!(
        errors("f.toml", b"\xff\xfea\0").starts_with("f.toml:1:1: this is not UTF-8: byte 0xff")
    );
}

#[test]
fn line_ends_and_marks_of_other_systems_change_no_place() {
    let expected = "f.toml:2:1: unknown key \"max_item\"\n  |\n2 | max_item = 64\n  | ^^^^^^^^\n\
                    help: did you mean \"max_items\"? known here are \"max_items\", \
                    \"max_bytes\" and \"max_delay\"";
    for text in [
        "[batch]\nmax_item = 64",
        "[batch]\nmax_item = 64\n",
        "[batch]\r\nmax_item = 64\r\n",
        "\u{feff}[batch]\nmax_item = 64\n",
    ] {
        assert_eq!(errors("f.toml", text.as_bytes()), expected, "{text:?}");
    }
}

#[test]
fn every_file_with_an_error_is_told_and_every_right_one_is_too() {
    let good = around("[serialize]\nformat = \"pretty\"");
    let made = good.replace("[[collect]]\nevery = \"1s\"", "[generate]");
    let folder = folder(&[
        ("a.toml", "batch = 1"),
        ("b.toml", &good),
        ("c.toml", "[bacth]"),
        ("agent.toml", "[log]\nlevel = \"warn\""),
        ("made.toml", &made),
        (".hidden.toml", "?"),
        ("notes.txt", "?"),
    ]);
    let (mut right, mut wrong) = (Vec::new(), Vec::new());
    let verdict = report(&[folder.path().to_path_buf()], &env, &mut right, &mut wrong);
    assert_eq!(verdict, ExitCode::from(EXIT_CONFIG));
    let plain = |bytes| {
        String::from_utf8(bytes).unwrap().replace(&format!("{}/", folder.path().display()), "")
    };
    assert_eq!(
        plain(right),
        "b.toml: ok (b: 1 cadence, 1 group → pretty → null)\n\
         made.toml: ok (made: generated, 1 group → pretty → null)\n\
         agent.toml: ok (agent: current_thread, log warn)\n"
    );
    let wrong = plain(wrong);
    assert!(wrong.starts_with("a.toml:1:9: 1 is a number; a table is needed\n"), "{wrong}");
    assert!(wrong.contains("\n\nc.toml:1:2: unknown section \"bacth\"\n"), "{wrong}");
    assert!(wrong.ends_with("\n") && !wrong.contains("hidden"), "{wrong}");

    for name in ["a.toml", "c.toml"] {
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    let loaded = all(folder.path()).unwrap();
    assert_eq!(loaded.pipelines.iter().map(|one| &*one.name).collect::<Vec<_>>(), ["b"]);
    assert_eq!(loaded.skipped.iter().map(|one| &*one.name).collect::<Vec<_>>(), ["made"]);
    assert_eq!(loaded.agent.log.level, "warn");
    assert_eq!(all(&folder.path().join("made.toml")).unwrap().pipelines[0].name, "made");
}

#[test]
fn a_name_is_given_to_one_pipeline_and_settings_are_given_once() {
    let good = around("[serialize]\nformat = \"pretty\"");
    let (one, two) = (
        folder(&[("a.toml", &good), ("agent.toml", "")]),
        folder(&[("a.toml", &good), ("agent.toml", "")]),
    );
    let paths = [one.path().to_path_buf(), two.path().to_path_buf()];
    let errors: Vec<String> =
        load(&paths, &env).unwrap_err().iter().map(ToString::to_string).collect();
    let (one, two) = (one.path().display(), two.path().display());
    assert_eq!(
        errors,
        [
            format!(
                "{two}/a.toml: a pipeline named \"a\" was already given by {one}/a.toml\n\
                 help: a pipeline has the name of its file; rename one of the two"
            ),
            format!(
                "{two}/agent.toml: the agent's settings were already given by {one}/agent.toml\n\
                 help: name one agent.toml"
            ),
        ]
    );
}

#[test]
fn the_shipped_files_load_from_the_program_and_from_their_folder() {
    let loaded = all(Path::new("pipelines")).unwrap();
    assert_eq!(loaded.agent, AgentSettings::default());
    let commands = loaded.commands.as_ref().unwrap();
    assert_eq!(
        commands.to_string(),
        "port org.infinibay.agent, 5 at once, 64 waiting, 1 rule allows, 0 deny"
    );
    assert_eq!(
        loaded.pipelines[0].to_string(),
        "metrics: 1 cadence, 7 groups → infinibay → port org.infinibay.agent"
    );
    let bench = &loaded.skipped[0];
    assert_eq!(bench.to_string(), "bench: generated, 7 groups → infinibay → null");

    let names = BUILT_IN.map(|(name, _)| PathBuf::from(format!("built-in:{name}")));
    let built_in = load(&names, &|_| None).unwrap();
    assert_eq!(built_in.pipelines[0].file, bench.file);
    assert_eq!(built_in.commands.unwrap().file, commands.file);
    let defaults = parsed("[receive]\n").file;
    assert_eq!(commands.file.receive(), defaults.receive());
    assert_eq!(commands.file.execute, defaults.execute);
    assert_eq!((&commands.file.reply, &commands.file.audit), (&defaults.reply, &defaults.audit));
    assert_eq!(defaults.enforce, Enforce::default());
    assert_eq!(built_in.pipelines[1].file, loaded.pipelines[0].file);
    assert_eq!(built_in.pipelines[1].origin, "built-in:metrics.toml");
    assert_eq!(load_file(Path::new("built-in:bench.toml"), &env).unwrap().file, bench.file);
    assert!(load_file(Path::new("built-in:agent.toml"), &env).is_err());
    assert!(load_file(Path::new("built-in:commands.toml"), &env).is_err());
}

/// The command flow of a file with this text.
fn parsed(text: &str) -> Commands {
    let folder = folder(&[("f.toml", text)]);
    all(&folder.path().join("f.toml")).unwrap().commands.unwrap()
}

#[test]
fn without_its_secret_the_shipped_flow_loads_and_is_locked() {
    let told = |secret: Option<&str>| {
        let env =
            |name: &str| secret.filter(|_| name == "INFINISERVICE_SHARED_SECRET").map(Into::into);
        let (mut right, mut wrong) = (Vec::new(), Vec::new());
        report(&["built-in:commands.toml".into()], &env, &mut right, &mut wrong);
        assert_eq!(String::from_utf8(wrong).unwrap(), "");
        let told = String::from_utf8(right).unwrap();
        let (flow, memory) = told.split_once("memory: ").unwrap();
        assert!(memory.starts_with("at most ") && memory.contains(" queued: "), "{memory}");
        flow.to_owned()
    };
    let flow = "built-in:commands.toml: ok (commands: port org.infinibay.agent, 5 at once, 64 waiting, \
                1 rule allows, 0 deny; ";
    let locked = format!("{flow}locked: the variable INFINISERVICE_SHARED_SECRET is not set)\n");
    assert_eq!(told(None), locked);
    assert_eq!(told(Some("")), locked);
    let open = format!("{flow}secret from variable INFINISERVICE_SHARED_SECRET)\n");
    assert_eq!(told(Some("hunter2")), open);

    let lock = |text: &str| parsed(&format!("[receive]\n{text}")).file.lock(&env);
    assert_eq!(lock(""), "locked: no secret is named");
    assert_eq!(lock("[verify]\nsecret = \"file:/etc/s\""), "secret from file /etc/s");
    assert_eq!(lock("[verify]\nsecret = \"credential:s\""), "secret from credential s");
}

#[test]
fn what_is_allowed_is_said_in_one_file() {
    let folder =
        folder(&[("a.toml", "[receive]"), ("b.toml", "[receive]\n[enforce]\nallow = [\"*\"]")]);
    let errors = all(folder.path()).unwrap_err();
    let at = folder.path().display();
    assert_eq!(
        errors[0].to_string(),
        format!(
            "{at}/b.toml: a command flow was already given by {at}/a.toml\n\
             help: put both into one file: what is allowed is said in one place"
        )
    );
}

#[test]
fn a_machine_s_name_comes_from_the_environment_where_it_is_there() {
    let named = |name: &str| (name == "INFINIBAY_VM_ID").then(|| "vm-7".to_owned());
    let loaded = load(&["built-in:agent.toml".into()], &named).unwrap();
    assert_eq!(loaded.agent.identity.vm_id.as_deref(), Some("vm-7"));
}

/// Everything the grammar has.
const EVERYTHING: &str = include_str!("validate/everything.toml");

#[test]
fn a_file_says_what_code_can_say() {
    let period = |millis| Period::new(Duration::from_millis(millis)).unwrap();
    let size = |bytes| Size::new(bytes).unwrap();
    let count = |number| Count::new(number).unwrap();
    let network = NetworkOptions { exclude: vec!["lo".into(), "lab-1".into()] };
    let processes = ProcessesOptions { keep: count(50), by: Rank::Memory };
    let file =
        FileTarget { path: "/var/log/m.jsonl".into(), max_size: size(1 << 20), keep: count(3) };
    let write = |target, keep| Write { target, keep: count(keep), delivery: Delivery::Newest };
    let expected = PipelineFile {
        about: Some("Everything: ${SITE}".to_owned()),
        collect: vec![
            Collect { every: period(1_000), from: vec![Read::Cpu, Read::Memory] },
            Collect {
                every: period(90_000),
                from: vec![
                    Read::Network(network),
                    Read::Processes(processes),
                    Read::Disk(Default::default()),
                    Read::Host,
                ],
            },
        ],
        generate: None,
        enrich: vec![
            Enrich::Identity(Identify { vm_id: Some("vm-lab-1".into()) }),
            Enrich::Tags([("${SITE}".to_owned(), "lab-1".to_owned())].into()),
            Enrich::Rates(Rates {}),
            Enrich::Top(Top { processes: count(5), by: Rank::Cpu }),
            Enrich::Select(Select::Drop(vec![Group::Host])),
            Enrich::Changes(Changes { full_every: count(10) }),
        ],
        batch: Batch { max_items: count(8), max_bytes: size(16 << 20), max_delay: period(500) },
        serialize: Serialize { format: Format::Influx },
        write: vec![
            write(Target::Port("unix:/run/p".into()), 64),
            write(Target::File(file), 7),
            write(Target::Unix("/run/m.sock".into()), 64),
            write(Target::Stdout, 64),
            write(Target::Null, 64),
        ],
    };
    let folder = folder(&[("f.toml", EVERYTHING)]);
    assert_eq!(all(&folder.path().join("f.toml")).unwrap().pipelines[0].file, expected);
}

#[test]
fn what_a_variable_holds_is_a_value_and_never_a_part_of_the_file() {
    let text = around("[[enrich]]\ntags = { \"${SECRET}\" = \"a${SECRET}\" }")
        + "\n[serialize]\nformat = \"pretty\" # ${GONE}\n";
    let folder = folder(&[("f.toml", &text)]);
    let file = &all(&folder.path().join("f.toml")).unwrap().pipelines[0].file;
    let tags = [("${SECRET}".to_owned(), format!("a{SECRET}"))].into();
    assert_eq!(file.enrich, [Enrich::Tags(tags)]);
    assert_eq!(file.write.len(), 1);
}

/// What must hold of any file at all: an error has a place in it, and says nothing it must not.
fn holds(name: &str, bytes: &[u8]) {
    let folder = folder(&[]);
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    let Err(errors) = all(&path) else { return };
    assert_eq!(errors.len(), 1);
    let (error, shown) = (&errors[0], errors[0].to_string());
    assert!(!format!("{shown}{error:?}").contains("hunter2"), "{shown}");
    assert!(!error.message.is_empty() && !error.message.contains('\n'), "{shown}");
    assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");

    let place = error.place.as_ref().expect("a place");
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let line = text.split('\n').nth(place.line - 1).expect("a line of the file");
    // What stands where a secret should not is shown as asterisks, byte for byte.
    let masked = line.contains("secret") || place.text.bytes().all(|b| b"*\"'\r".contains(&b));
    let line = line.trim_end_matches('\r');
    assert!(place.text == line || masked && place.text.len() == line.len(), "{shown}");
    assert!(place.column <= place.text.chars().count() + 1, "{shown}");
    assert!(place.mark.end <= place.text.len() && place.span.end <= text.len(), "{shown}");
    let under = shown.lines().nth(3).expect("a line of carets");
    assert!(under.contains('^') && under.chars().count() < 120, "{shown}");
}

/// What a slip of the hand may leave in a file.
const SLIPS: &[&str] = &[
    "",
    "\"",
    "'",
    "\"\"\"",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ",",
    ".",
    "#",
    "\n",
    "\r",
    "\t",
    "\0",
    "\u{1b}[2J",
    "é",
    "中文",
    "\u{202e}",
    "\u{feff}",
    "0",
    "-1",
    "1.5",
    "30s",
    "true",
    "nan",
    "2024-01-01",
    "99999999999999999999",
    "${SECRET}",
    "${GONE}",
    "${",
    "$${",
    "${PERIOD}",
    "\"cpu\"",
    "write",
    "keep = 0",
    "[batch]",
    "[[write]]",
    "a.b.c = 1\n",
    "\\",
    "\\u0000",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        holds("f.toml", &bytes);
        holds("agent.toml", &bytes);
    }

    #[test]
    fn no_slip_causes_a_panic_or_is_told_at_a_place_that_is_not_there(
        which in 0..5_usize,
        slips in proptest::collection::vec((any::<usize>(), 0..12_usize, 0..SLIPS.len()), 1..6),
    ) {
        let (name, text) = BUILT_IN.get(which).copied().unwrap_or(("f.toml", EVERYTHING));
        let mut text = text.to_owned();
        for (at, removed, slip) in slips {
            let start = text.floor_char_boundary(at % (text.len() + 1));
            let end = text.ceil_char_boundary((start + removed).min(text.len()));
            text.replace_range(start..end, SLIPS[slip]);
        }
        holds(name, text.as_bytes());
    }

    #[test]
    fn no_text_replaced_by_a_variable_shows_what_it_holds(at in any::<usize>(), which in 0..5_usize) {
        let (name, text) = BUILT_IN.get(which).copied().unwrap_or(("f.toml", EVERYTHING));
        let quoted: Vec<_> = text.match_indices('"').map(|(at, _)| at).collect();
        let pair = 2 * (at % (quoted.len() / 2));
        let mut text = text.to_owned();
        text.replace_range(quoted[pair] + 1..quoted[pair + 1], "${SECRET}");
        holds(name, text.as_bytes());
    }
}
