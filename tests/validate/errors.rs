//! The errors of one file, and their places.

use std::fs;

use infiniservice::internals::config::load_file;

use super::rig::{all, env, errors, folder};

/// What is shown of each case is written anew by `GOLDEN=write cargo test --test validate every_error`.
#[test]
fn every_error_reads_as_written_down() {
    let cases = include_str!("cases.txt");
    let (mut wrong, mut now) = (Vec::new(), Vec::new());
    for case in cases.split("=== ").skip(1) {
        let (title, case) = case.split_once('\n').unwrap();
        let (text, expected) = case.split_once("---\n").unwrap_or((case, "nothing yet\n"));
        let name = if title.starts_with("agent: ") { "agent.toml" } else { "f.toml" };
        let shown = errors(name, text.as_bytes());
        now.push(format!("=== {title}\n{text}---\n{}\n", shown.trim_end()));
        if shown.trim_end() != expected.trim_end() {
            wrong.push(format!("=== {title}\n{text}---\n{shown}\n"));
        }
    }
    if std::env::var_os("GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/validate/cases.txt");
        return fs::write(path, now.join("\n")).unwrap();
    }
    assert!(wrong.is_empty(), "these read differently now:\n{}", wrong.concat());
    assert!(cases.matches("=== ").count() > 140);
}

#[test]
fn a_file_that_cannot_be_read_is_reported_without_a_place() {
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
    let one = load_file(folder.path(), &env).unwrap_err()[0].to_string();
    assert_eq!(one, format!("{}: this is a folder, and a file is needed", folder.path().display()));

    fs::write(folder.path().join("big.toml"), " ".repeat((1 << 20) + 1)).unwrap();
    assert_eq!(
        at("big.toml"),
        "DIR/big.toml: this file is larger than 1 MiB\n\
         help: a pipeline file has a few dozen lines; is this the right one?"
    );
}

#[test]
fn bytes_that_are_not_text_are_reported_with_their_place() {
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
