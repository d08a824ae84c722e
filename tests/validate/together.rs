//! Files that are loaded together: each is told, and a thing is said in one of them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::ExitCode;

use infiniservice::internals::cli::EXIT_CONFIG;
use infiniservice::internals::cli::validate::{ReportOptions, report};
use infiniservice::internals::config::load;

use super::rig::{all, around, env, folder};

#[test]
fn every_invalid_file_is_reported_and_every_valid_one_too() {
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
    let verdict = report(
        &[folder.path().to_path_buf()],
        ReportOptions::default(),
        &env,
        &mut right,
        &mut wrong,
    );
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
fn two_command_flow_files_are_an_error() {
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
fn a_file_whose_output_meets_another_is_not_called_right() {
    let pipeline = |path: &str| {
        let made = around("[serialize]\nformat = \"pretty\"");
        made.replace("null = true", &format!("file = {{ path = \"{path}\" }}"))
    };
    let folder = folder(&[]);
    let at = |name: &str| folder.path().join(name);
    fs::write(at("a.toml"), pipeline(&at("x").display().to_string())).unwrap();
    fs::write(at("b.toml"), pipeline(&at("x.1").display().to_string())).unwrap();
    let (mut right, mut wrong) = (Vec::new(), Vec::new());
    let paths = [folder.path().to_path_buf()];
    let verdict = report(&paths, ReportOptions::default(), &env, &mut right, &mut wrong);
    assert_eq!(verdict, ExitCode::from(EXIT_CONFIG));
    let (right, wrong) = (String::from_utf8(right).unwrap(), String::from_utf8(wrong).unwrap());
    assert!(right.contains("a.toml: ok") && !right.contains("b.toml: ok"), "{right}");
    assert!(wrong.contains("b.toml:9:17: "), "{wrong}");
}

#[test]
fn each_error_of_a_kind_is_reported_up_to_the_limit() {
    let folder = folder(&[
        (
            "twice.toml",
            "[[collect]]\nevery = \"1s\"\nfrom = [\"cpu\", \"cpu\", \"load\"]\n\
             [[collect]]\nevery = \"2s\"\nfrom = [\"load\"]\n\
             [[collect]]\nevery = \"3s\"\nfrom = []\n[[collect]]\nevery = \"4s\"\nfrom = []\n\
             [batch]\nmax_itms = 1\n[serialize]\nformat = \"pretty\"\n\
             [[write]]\nnull = true\n[[write]]\nnull = true\n[[write]]\nnull = true\n",
        ),
        ("many.toml", &format!("{}[write]\nnull = true\n", "[[enrich]]\nnone = 1\n".repeat(40))),
        ("endless.toml", &"[[enrich]]\nnone = 1\n".repeat(200)),
    ]);
    let told = |name: &str| -> Vec<String> {
        let errors = all(&folder.path().join(name)).unwrap_err();
        let line = |error: &infiniservice::internals::config::ConfigError| {
            format!("{}: {}", error.place.as_ref().unwrap().line, error.message)
        };
        errors.iter().map(line).collect()
    };
    let lines: Vec<String> =
        told("twice.toml").iter().map(|told| told.split(':').next().unwrap().to_owned()).collect();
    assert_eq!(lines, ["3", "6", "9", "12", "14", "19", "21"]);
    let many = told("many.toml").iter().filter(|told| told.contains("unknown name")).count();
    assert_eq!(many, 40);
    let endless = told("endless.toml");
    assert_eq!(endless.len(), 101);
    assert!(endless[100].contains("these are the first 100 mistakes of this file"));
}

/// The file of the secret is checked as at a start; where it is not there yet, that is a warning.
#[test]
fn the_file_of_a_secret_that_a_start_would_refuse_is_an_error() {
    let folder = folder(&[("key", "hush\n")]);
    let at = |name: &str| folder.path().join(name);
    let mode = |mode| fs::set_permissions(at("key"), fs::Permissions::from_mode(mode)).unwrap();
    fs::create_dir(at("folder")).unwrap();
    fs::write(at("long"), [b'x'; 5_000]).unwrap();
    fs::set_permissions(at("long"), fs::Permissions::from_mode(0o600)).unwrap();
    let told = |name: &str| {
        let text = format!("[receive]\n[verify]\nsecret = \"file:{}\"\n", at(name).display());
        fs::write(at("commands.toml"), text).unwrap();
        let (mut right, mut wrong) = (Vec::new(), Vec::new());
        let files = [at("commands.toml")];
        let code = report(&files, ReportOptions::default(), &|_| None, &mut right, &mut wrong);
        (code == ExitCode::SUCCESS, String::from_utf8(wrong).unwrap())
    };
    mode(0o600);
    assert_eq!(told("key"), (true, String::new()));
    for open in [0o640, 0o604, 0o602] {
        mode(open);
        let (is_right, why) = told("key");
        let mend = format!("help: mend it with `chmod 600 {}`", at("key").display());
        assert!(!is_right && why.contains(&format!("has mode {open:04o}")), "{why}");
        assert!(why.contains(&mend) && !why.contains("hush"), "{why}");
    }
    let (is_right, why) = told("folder");
    assert!(!is_right && why.contains("it is no regular file"), "{why}");
    let (is_right, why) = told("long");
    assert!(!is_right && why.contains("longer than 4096 bytes"), "{why}");
    let (is_right, why) = told("none");
    assert!(is_right && why.contains("warning: ") && why.contains("No such file"), "{why}");
}
