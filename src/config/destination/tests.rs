//! Spellings of one place, names of files that are rotated, and what is the agent's own.

use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::super::load;
use super::*;

/// The errors of pipelines with these `[write]`, each in a file of its own; `at` in them is the folder.
fn errors_of(folder: &TempDir, writes: &[&str]) -> Vec<String> {
    errors_with(folder, writes, None)
}

/// The same with a `--port`.
fn errors_with(folder: &TempDir, writes: &[&str], port: Option<&str>) -> Vec<String> {
    let at = folder.path().display().to_string();
    let files = folder.path().join("config");
    let _ = fs::remove_dir_all(&files);
    fs::create_dir(&files).unwrap();
    for (number, write) in writes.iter().enumerate() {
        let (origin, write) = match write.strip_prefix("commands ") {
            Some(rest) => ("[receive]\nport = \"unix:at/host\"\n", rest),
            None => (
                "[[collect]]\nevery = \"1s\"\nfrom = [\"cpu\"]\n[serialize]\nformat = \"pretty\"\n[write]\n",
                *write,
            ),
        };
        let text = format!("{origin}{write}\n").replace("at/", &format!("{at}/"));
        fs::write(files.join(format!("{number}.toml")), text).unwrap();
    }
    let loaded = load(&[files], &|_| None).unwrap();
    let port = port.map(|port| port.replace("at/", &format!("{at}/")).parse().unwrap());
    let errors = conflicts(&loaded, &folder.path().join("state"), port.as_ref());
    errors
        .iter()
        .map(|error| error.to_string().replace(&at, "at").replace("at/config/", ""))
        .collect()
}

fn file(path: &str, keep: u32) -> String {
    format!("file = {{ path = \"at/{path}\", keep = {keep} }}")
}

#[test]
fn one_file_is_one_file_however_it_is_spelled() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("d")).unwrap();
    symlink("d", at("link")).unwrap();
    symlink("later", at("dangling")).unwrap();
    fs::write(at("d/there"), "").unwrap();
    fs::hard_link(at("d/there"), at("hard")).unwrap();
    let meet = [
        ("d/x", "d/x"),
        ("d/x", "link/x"),
        ("d/x", "d/../d//x"),
        ("d/x", "none/../d/./x"),
        ("none/x", "none/y/../x"),
        ("d/none/x", "link/none/x"),
        ("d/there", "hard"),
        ("later/x", "dangling/x"),
    ];
    for (one, two) in meet {
        let errors = errors_of(&folder, &[&file(one, 3), &file(two, 3)]);
        assert_eq!(errors.len(), 1, "{one} and {two}: {errors:?}");
        assert!(errors[0].starts_with("1.toml:7:17: 0.toml writes to at/"), "{errors:?}");
    }
    for (one, two) in [("d/x", "x"), ("d/x", "d/y"), ("none/x", "d/x"), ("none/x", "other/x")] {
        assert_eq!(errors_of(&folder, &[&file(one, 3), &file(two, 3)]), [""; 0], "{one} and {two}");
    }
}

#[test]
fn a_file_that_is_turned_over_has_every_name_that_makes() {
    let folder = TempDir::new().unwrap();
    for (one, two) in [(("x", 3), ("x.1", 1)), (("x.3", 2), ("x", 3)), (("x.1", 1), ("x", 1))] {
        let errors = errors_of(&folder, &[&file(one.0, one.1), &file(two.0, two.1)]);
        assert!(
            errors.len() == 1 && errors[0].contains("is rotated"),
            "{one:?} {two:?}: {errors:?}"
        );
    }
    let apart = [
        (("x", 3), ("x.4", 3)),
        (("x", 3), ("x.01", 3)),
        (("x", 3), ("x.1.1", 3)),
        (("x", 3), ("x.", 3)),
    ];
    for (one, two) in apart {
        assert_eq!(
            errors_of(&folder, &[&file(one.0, one.1), &file(two.0, two.1)]),
            [""; 0],
            "{two:?}"
        );
    }
    let audit = "commands [audit]\npath = \"at/a\"\nkeep = 2";
    assert!(errors_of(&folder, &[audit, &file("a.2", 1)])[0].contains("is rotated"));
    assert_eq!(errors_of(&folder, &[audit, &file("a.3", 1)]), [""; 0]);
}

#[test]
fn the_agents_own_files_are_no_outputs() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    for is_there in [false, true] {
        for name in
            ["spool", "scripts.jsonl", "audit.jsonl", "audit.jsonl.2", "spool-of-b/x", "scripts/x"]
        {
            let errors = errors_of(&folder, &[&file(&format!("state/{name}"), 1)]);
            assert!(
                errors.len() == 1 && errors[0].contains("the agent's own"),
                "{name}: {errors:?}"
            );
        }
        assert_eq!(errors_of(&folder, &[&file("state/metrics", 1)]), [""; 0]);
        if !is_there {
            fs::create_dir_all(at("state/spool-of-b")).unwrap();
            symlink("state", at("way")).unwrap();
        }
    }
    assert!(errors_of(&folder, &[&file("way/spool", 1)])[0].contains("the agent's own"));
    assert!(
        errors_of(&folder, &["unix = \"at/state/control.sock\""])[0].contains("the agent's own")
    );
    let audit = |path: &str| format!("commands [audit]\npath = \"at/state/{path}\"");
    assert_eq!(errors_of(&folder, &[&audit("audit.jsonl")]), [""; 0]);
    assert!(errors_of(&folder, &[&audit("spool")])[0].contains("the agent's own"));
}

#[test]
fn configuration_secret_sockets_and_links_are_no_outputs() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("d")).unwrap();
    symlink("d", folder.path().join("link")).unwrap();
    let secret = "commands [verify]\nsecret = \"file:at/key\"";
    let cases = [
        (vec![file("config/0.toml", 1)], "is the configuration file"),
        (vec![file("config/new.toml", 1)], "would be read as a configuration file"),
        (vec![secret.to_owned(), file("key", 1)], "holds the secret"),
        (vec!["unix = \"at/socket\"".to_owned(), file("socket", 1)], "is the port or socket"),
        (vec![secret.to_owned(), file("host", 1)], "is the port or socket at/host"),
        (vec![file("bound", 1)], "is not a regular file"),
        (vec![file("d", 1)], "is not a regular file"),
        (vec![file("link", 1)], "is not a regular file"),
    ];
    drop(std::os::unix::net::UnixListener::bind(folder.path().join("bound")).unwrap());
    for (writes, what) in cases {
        let writes: Vec<&str> = writes.iter().map(String::as_str).collect();
        let errors = errors_of(&folder, &writes);
        assert!(errors.len() == 1 && errors[0].contains(what), "{writes:?}: {errors:?}");
    }
    let two = ["unix = \"at/socket\""; 2];
    assert_eq!(errors_of(&folder, &two), [""; 0], "each has a connection of its own");
}

#[test]
fn a_port_of_the_command_line_takes_the_place_of_those_in_the_files() {
    let folder = TempDir::new().unwrap();
    let port = "port = \"unix:at/socket\"";
    for (instead, name, is_one) in [
        (None, "socket", true),
        (None, "x", false),
        (Some("unix:at/x"), "x", true),
        (Some("at/x"), "none/../x", true),
        (Some("unix:at/x"), "socket", false),
        (Some("stdio"), "socket", false),
        (Some("org.infinibay.agent"), "x", false),
    ] {
        let errors = errors_with(&folder, &[port, &file(name, 1)], instead);
        assert_eq!(errors.len(), usize::from(is_one), "{instead:?} {name}: {errors:?}");
        assert!(errors.iter().all(|error| error.starts_with("1.toml:7:17: ")), "{errors:?}");
    }
    let own = errors_with(&folder, &[port], Some("unix:at/state/control.sock"));
    assert!(own.len() == 1 && own[0].starts_with("--port: ") && own[0].contains("the agent's own"));
}
