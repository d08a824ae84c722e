//! `infiniservice diagnose --bundle` beside a running agent: what is in the file, and that no secret is.
#![allow(clippy::unwrap_used)] // what cannot go on has failed

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use serde_json::Value;
use support::flows::{COMMANDS, WHOLE, metrics};
use support::{PATIENCE, Place, Running};

/// Every secret of these tests begins so, and differs in its end.
const CANARY: &str = "cnry7Nqx";

/// A file that names secrets where none should be, and is taken all the same.
const TALKATIVE: &str = r#"# the old password was cnry7Nqx-comment
[[collect]]
every = "1s"
from = ["load"]
[[enrich]]
tags = { api_token = "cnry7Nqx-tag", site = "lab" }
[serialize]
format = "json-lines"
[write]
null = true
"#;
const PROGRAM: &str = r#"[[read]]
exec = { command = ["mysql", "-u", "ann", "-pcnry7Nqx-argument", "-e", "select 1"] }
[write]
null = true
"#;
/// It parses, and is refused.
const REFUSED: &str =
    "[write]\nhttp = \"https://ann:cnry7Nqx-url@lab/x\"\npassphrase = \"cnry7Nqx-key\"\n";
/// It does not parse.
const BROKEN: &str = "[verify]\nsecret = \"cnry7Nqx-broken\npassword = cnry7Nqx-broken\n";

/// What the programs of systemd print in these tests.
const LOG: &str = "2026-11-29T17:00:01.000000+00:00 infiniservice[7]: second, with cnry7Nqx-shared and Bearer cnry7Nqx-bearer\n\
    2026-11-29T17:00:00.000000+00:00 infiniservice[7]: first: cat <<EOF password=cnry7Nqx-log\n";
const UNIT: &str = "# /etc/systemd/system/infiniservice.service.d/own.conf\n[Service]\n\
    Environment=ANY=cnry7Nqx-environment \\\n  OTHER=cnry7Nqx-second\nSetCredential=x:cnry7Nqx-credential\nUser=root\n";

/// A running agent on a machine that a test sets up.
struct Lab {
    place: Place,
    agent: Option<Running>,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { place: Place::new(), agent: None };
        let policy = format!(
            "{COMMANDS}deny = [{{ action = \"ProcessKill*\" }}] # for password cnry7Nqx-policy\n"
        );
        lab.put("pipelines/commands.toml", &policy);
        lab.put("pipelines/metrics.toml", &metrics("200ms", WHOLE));
        lab.put("pipelines/talkative.toml", TALKATIVE);
        lab.put("pipelines/program.toml", PROGRAM);
        // Programs that print what systemd would.
        lab.program("journalctl", &format!("cat <<'END'\n{LOG}END\n"));
        lab.program("systemctl", &format!("[ \"$1\" = cat ] || exit 0\ncat <<'END'\n{UNIT}END\n"));
        // The machine: its processes, and the variables of the unit.
        let variables = "# INFINISERVICE_SHARED_SECRET=cnry7Nqx-former\nINFINISERVICE_SHARED_SECRET='cnry7Nqx-shared'\n\
                         ANYTHING=cnry7Nqx-anything\n";
        lab.put("root/etc/infiniservice/agent.env", variables);
        lab.put("root/run/credentials/infiniservice.service/own", "cnry7Nqx-own\n");
        lab.put("root/etc/os-release", "PRETTY_NAME=\"Lab Linux 1\"\n");
        symlink("/proc", lab.at("root/proc")).unwrap();
        lab
    }

    fn at(&self, path: &str) -> PathBuf {
        self.place.folder.path().join(path)
    }

    fn put(&self, path: &str, text: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
    }

    fn program(&self, name: &str, script: &str) {
        let path = format!("bin/{name}");
        self.put(&path, &format!("#!/bin/sh\n{script}"));
        fs::set_permissions(self.at(&path), Permissions::from_mode(0o755)).unwrap();
    }

    /// The agent, once it answers.
    fn run(&mut self) {
        let state = self.at("state").display().to_string();
        let variables = [
            ("INFINISERVICE_SHARED_SECRET", "cnry7Nqx-shared"),
            ("DB_PASSWORD", "cnry7Nqx-variable"),
            ("INFINISERVICE_STATE_DIR", &state),
        ];
        let mut agent = self.place.run(&self.at("pipelines"), &variables);
        let begun = Instant::now();
        while !self.at("state/control.sock").exists() {
            assert!(begun.elapsed() < PATIENCE && agent.0.try_wait().unwrap().is_none());
            std::thread::yield_now();
        }
        self.agent = Some(agent);
    }

    fn diagnose(&self, bundle: &Path, more: &[&str]) -> Output {
        let path = format!("{}:{}", self.at("bin").display(), std::env::var("PATH").unwrap());
        let mut diagnose = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
        diagnose.args(["diagnose", "--bundle"]).arg(bundle).args(more);
        diagnose.arg("--state").arg(self.at("state")).arg("--root").arg(self.at("root"));
        diagnose.arg("--pipelines").arg(self.at("pipelines"));
        diagnose.env("PATH", path).env("MY_TOKEN", "cnry7Nqx-token").stdin(Stdio::null());
        diagnose.output().unwrap()
    }

    /// Unpacked by Debian's tar; it holds no secret, and neither does what was printed.
    fn unpacked(&self, bundle: &Path, done: &Output) -> PathBuf {
        let bytes = fs::read(bundle).unwrap();
        for text in [&bytes, &done.stdout, &done.stderr] {
            let text = String::from_utf8_lossy(text);
            let at = text.find(CANARY).map(|at| &text[at.saturating_sub(200)..at + 30]);
            assert_eq!(at, None, "a secret");
        }
        let folder = self.at(&format!("of-{}", bundle.file_name().unwrap().display()));
        fs::create_dir(&folder).unwrap();
        let mut tar = Command::new("tar");
        let tar = tar.arg("--zstd").arg("-xf").arg(bundle).arg("-C").arg(&folder);
        assert!(tar.status().unwrap().success());
        folder.join("infiniservice-bundle")
    }
}

fn text(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn data(folder: &Path, name: &str) -> Value {
    serde_json::from_str(&text(folder, name)).unwrap()
}

#[test]
fn a_bundle_has_what_support_needs_and_no_secret_wherever_one_stands() {
    let mut lab = Lab::new();
    lab.run();
    lab.put("state/scripts/cnry", "");
    let bundle = lab.at("one.tar.zst");
    let done = lab.diagnose(&bundle, &["--json"]);
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(told.contains("one.tar.zst") && told.lines().count() == 1, "{told}");
    assert_eq!(bundle.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    let folder = lab.unpacked(&bundle, &done);

    let printed: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(data(&folder, "verdicts.json"), printed);
    assert_eq!(done.status.code(), Some(0), "{printed}");
    let machine = data(&folder, "machine.json");
    assert_eq!(machine["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(machine["os_release"]["PRETTY_NAME"], "Lab Linux 1");
    assert_eq!(machine["signed_with"], "variable INFINISERVICE_SHARED_SECRET");
    let variables = machine["agent_variables"].as_array().unwrap();
    assert!(variables.contains(&"DB_PASSWORD".into()), "names: {variables:?}");
    let files = text(&folder, "files.json");
    for part in [
        "\"every\": \"200ms\"",
        "env:INFINISERVICE_SHARED_SECRET",
        "ProcessKill*",
        "mysql -u ann -p[redacted]",
    ] {
        assert!(files.contains(part), "{part}: {files}");
    }
    assert_eq!(data(&folder, "validate.json")["ok"], true);
    let status = data(&folder, "status.json");
    assert_eq!(status["pid"], lab.agent.as_ref().unwrap().0.id());
    let log = text(&folder, "log.txt");
    assert!(log.find("first") < log.find("second"), "the oldest line first: {log}");
    assert!(text(&folder, "unit.txt").ends_with("SetCredential=[redacted]\nUser=root\n"));
    let state = text(&folder, "state.txt");
    for name in [" control.sock\n", " spool", " scripts/cnry\n", "100600 "] {
        assert!(state.contains(name), "{name}: {state}");
    }
    let contents = text(&folder, "contents.txt");
    assert!(contents.contains("unit-state.txt: missing: systemctl says nothing\n"), "{contents}");
}

#[test]
fn without_an_agent_and_with_files_that_are_wrong_there_is_a_bundle_without_a_secret_all_the_same()
{
    let lab = Lab::new();
    lab.put("pipelines/refused.toml", REFUSED);
    lab.put("pipelines/broken.toml", BROKEN);
    lab.program("journalctl", "exit 1");
    let bundle = lab.at("two.tar.zst");
    let done = lab.diagnose(&bundle, &[]);
    assert_eq!(done.status.code().unwrap(), 10, "files are wrong");
    let folder = lab.unpacked(&bundle, &done);
    let contents = text(&folder, "contents.txt");
    for missing in ["status.json: missing: no agent has answered\n", "log.txt: missing: "] {
        assert!(contents.contains(missing), "{contents}");
    }
    let validated = data(&folder, "validate.json");
    assert!(validated["errors"].as_array().unwrap().len() > 1, "{validated}");
    assert!(text(&folder, "files.json").contains("it is no TOML"));

    let refused = lab.diagnose(&bundle, &[]);
    assert_eq!(refused.status.code(), Some(78));
    assert!(
        refused.stdout.is_empty()
            && String::from_utf8_lossy(&refused.stderr).contains("--overwrite")
    );
    assert_eq!(lab.diagnose(&bundle, &["--overwrite"]).status.code(), Some(10));
    let nowhere = lab.diagnose(&lab.at("no/such/b.tar.zst"), &[]);
    assert_eq!(nowhere.status.code(), Some(74), "it could not be written");
}
