//! `install` and `uninstall`: the agent on a machine that has no package of it. Both can be said again, and ask nothing.
//!
//! `tree` writes and removes the files; this says which, and tells systemd.

mod error;
mod tree;

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use clap::Args;

use self::error::InstallError;
use self::tree::{Change, File, FileKind, Tree};
use super::{EXIT_SYSTEM, complain, init, refuse, say, unless};
use crate::commands::systemd;
use crate::config::DEFAULT_FOLDER;

/// Where the unit has the executable.
const PROGRAM: &str = "/opt/infiniservice/infiniservice";
/// The record, one line each: the SHA-256 of a file and its path, or `-` and a folder that was made.
const RECORD: &str = "/opt/infiniservice/installed";
const UNIT: &str = "/etc/systemd/system/infiniservice.service";
/// What `systemctl edit` adds to the unit.
const DROP_INS: &str = "/etc/systemd/system/infiniservice.service.d";
const RULE: &str = "/etc/udev/rules.d/60-infiniservice.rules";
/// The folder of what people change.
const SETTINGS: &str = "/etc/infiniservice";
/// What people, the agent, and systemd for it (`StateDirectory=`, `LogsDirectory=` of the unit) have there.
const PURGED: [&str; 4] = [SETTINGS, DROP_INS, "/var/lib/infiniservice", "/var/log/infiniservice"];
/// The unit of a package, which looks after its files itself.
const PACKAGED: [&str; 2] =
    ["/usr/lib/systemd/system/infiniservice.service", "/lib/systemd/system/infiniservice.service"];
/// How long systemd may take for one step; it ends an agent that does not end after 15 s.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
#[command(after_help = "\
Files that you have changed stay as they are, and files of /etc/infiniservice
that you have removed do not come back.
The agent starts when its port appears. If it runs and this is another version,
it is restarted.")]
pub(super) struct Install {
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Files below /etc/infiniservice that were changed or added stay, and so does the
state folder, unless --purge is given.")]
pub(super) struct Uninstall {
    /// Remove everything: also changed files with the secret, spool, request log, audit and logs
    #[arg(long)]
    purge: bool,

    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Place {
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Work in the tree of an image or a container, and start nothing
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

impl Install {
    pub(super) fn main(self) -> ExitCode {
        match fs::read("/proc/self/exe") {
            Ok(program) => self.install(program),
            Err(error) => refuse(format!("cannot read the running executable: {error}")),
        }
    }

    fn install(&self, program: Vec<u8>) -> ExitCode {
        let Place { dry_run, root } = &self.place;
        if !root.is_dir() {
            return refuse(InstallError::NoRoot(root.clone()));
        }
        if let Some(unit) = packaged(root) {
            return refuse(format!("the agent is installed as a package ({unit}); upgrade that"));
        }
        let mut tree = Tree::new(root, *dry_run);
        let installed = tree.install(&files(program));
        let mut steps: Vec<&[&str]> = vec![
            &["systemctl", "daemon-reload"],
            &["udevadm", "control", "--reload"],
            &["udevadm", "trigger", "--subsystem-match=virtio-ports", "--action=add"],
        ];
        let restart = ["systemctl", "try-restart", "infiniservice.service"];
        let is_new =
            |change: &Change| change.is_written() && [PROGRAM, UNIT].contains(&&*change.path);
        if tree.changes().iter().any(is_new) {
            match root == Path::new("/") && is_below_the_agent() {
                true => complain(
                    "infiniservice: restart the agent to run the new version: systemctl restart infiniservice",
                ),
                false => steps.push(&restart),
            }
        }
        finish(&self.place, &tree, installed, &steps)
    }
}

impl Uninstall {
    pub(super) fn main(self) -> ExitCode {
        let Place { dry_run, root } = &self.place;
        if !root.is_dir() {
            return refuse(InstallError::NoRoot(root.clone()));
        }
        if let Some(unit) = packaged(root) {
            return refuse(format!("the agent is installed as a package ({unit}); remove that"));
        }
        let mut tree = Tree::new(root, *dry_run);
        match tree.is_installed() {
            Err(why) => return refuse(why),
            Ok(false) if !self.purge => {
                return say("there is nothing that `infiniservice install` wrote\n");
            }
            Ok(_) => {}
        }
        if root == Path::new("/") && is_below_the_agent() {
            return refuse(
                "this runs below the agent, and would end with it: run it in a shell of the machine",
            );
        }
        if root.join(&UNIT[1..]).exists() {
            let stop: &[&str] = &["systemctl", "disable", "--now", "infiniservice.service"];
            if let Err(failed) = steps(&self.place, &[stop]) {
                complain(&format!("infiniservice: {failed}"));
                return ExitCode::from(EXIT_SYSTEM);
            }
        }
        let purged: &[&str] = if self.purge { &PURGED } else { &[] };
        let removed = tree.uninstall(purged, |path| !self.purge && path.starts_with(SETTINGS));
        let after: [&[&str]; 2] =
            [&["systemctl", "daemon-reload"], &["udevadm", "control", "--reload"]];
        finish(&self.place, &tree, removed, &after)
    }
}

/// All files, in the order in which they are written.
fn files(program: Vec<u8>) -> Vec<File> {
    let file = |path: &str, mode, text: &'static str, kind| File {
        path: path.to_owned(),
        mode,
        bytes: Cow::Borrowed(text.as_bytes()),
        kind,
    };
    let program = File {
        path: PROGRAM.to_owned(),
        mode: 0o755,
        bytes: Cow::Owned(program),
        kind: FileKind::Program,
    };
    let unit = include_str!("../../../packaging/infiniservice.service");
    let rule = include_str!("../../../packaging/60-infiniservice.rules");
    let variables = include_str!("../../../packaging/agent.env");
    let mut files = vec![
        program,
        file(&format!("{SETTINGS}/agent.env"), 0o600, variables, FileKind::Setting),
        file(UNIT, 0o644, unit, FileKind::System),
        file(RULE, 0o644, rule, FileKind::System),
    ];
    files.extend(init::files(Path::new(DEFAULT_FOLDER)).map(|(path, text)| File {
        path: path.to_string_lossy().into_owned(),
        mode: 0o644,
        bytes: Cow::Owned(text.into_bytes()),
        kind: FileKind::Setting,
    }));
    files
}

/// The unit of a package that is installed in `root`.
fn packaged(root: &Path) -> Option<&'static str> {
    PACKAGED.into_iter().find(|path| root.join(&path[1..]).exists())
}

/// Whether this process ends with the agent. A command in a unit of its own does not.
fn is_below_the_agent() -> bool {
    let own = fs::read_to_string("/proc/self/cgroup");
    own.is_ok_and(|own| own.contains("/infiniservice.service"))
}

/// Prints what was done, and has systemd take it.
fn finish(
    place: &Place,
    tree: &Tree<'_>,
    done: Result<(), InstallError>,
    after: &[&[&str]],
) -> ExitCode {
    let would = if place.dry_run { "would be " } else { "" };
    let lines = tree.changes().iter().map(|change| format!("{would}{change}\n"));
    let said = say(&lines.collect::<String>());
    match done.and_then(|()| steps(place, after)) {
        Ok(()) => said,
        Err(failed) => {
            complain(&format!("infiniservice: {failed}"));
            unless(said, EXIT_SYSTEM)
        }
    }
}

/// Runs programs one after the other, all of them, where systemd runs the machine and it is this machine.
///
/// # Errors
/// One that is there has failed, or takes too long: the first of them.
fn steps(place: &Place, steps: &[&[&str]]) -> Result<(), InstallError> {
    if place.root != Path::new("/") || !systemd::is_running() {
        return Ok(());
    }
    let mut result = Ok(());
    for words in steps {
        if place.dry_run {
            complain(&format!("would be run: {}", words.join(" ")));
        } else {
            result = result.and(run(words));
        }
    }
    result
}

fn run(words: &[&str]) -> Result<(), InstallError> {
    let command = words.join(" ");
    let mut program = Command::new(words[0]);
    program.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null());
    let (sender, receiver) = sync_channel(1);
    let waiting = std::thread::Builder::new().name(words[0].to_owned());
    let started = waiting.spawn(move || sender.send(program.output()).is_ok());
    if let Err(error) = started {
        return Err(InstallError::Start { command, error });
    }
    match receiver.recv_timeout(PATIENCE) {
        // A machine without udev has no need of its rules.
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Ok(Err(error)) => Err(InstallError::Start { command, error }),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => {
            let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(InstallError::Failed { command, status: output.status, stderr })
        }
        Err(_) => Err(InstallError::TooSlow { command }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::cli::EXIT_CONFIG;

    const STATE: &str = "/var/lib/infiniservice";

    /// A root, and what is below it.
    struct Lab(tempfile::TempDir);

    impl Lab {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn place(&self, dry_run: bool) -> Place {
            Place { dry_run, root: self.0.path().to_owned() }
        }

        fn install(&self, program: &str) -> Vec<String> {
            let mut tree = Tree::new(self.0.path(), false);
            tree.install(&files(program.into())).unwrap();
            let written = tree.changes().iter().filter(|change| change.is_written());
            written.map(|change| change.path.clone()).collect()
        }

        fn uninstall(&self, purge: bool) {
            let done = Uninstall { purge, place: self.place(false) }.main();
            assert_eq!(done, ExitCode::SUCCESS);
        }

        fn at(&self, path: &str) -> PathBuf {
            self.0.path().join(&path[1..])
        }

        fn read(&self, path: &str) -> String {
            fs::read_to_string(self.at(path)).unwrap()
        }

        /// Everything below the root: folders, and files with mode and content.
        fn all(&self) -> Vec<(PathBuf, u32, Vec<u8>)> {
            let (mut all, mut folders) = (Vec::new(), vec![self.0.path().to_owned()]);
            while let Some(folder) = folders.pop() {
                for entry in fs::read_dir(folder).unwrap() {
                    let path = entry.unwrap().path();
                    let mode = path.metadata().unwrap().permissions().mode();
                    all.push((path.clone(), mode, fs::read(&path).unwrap_or_default()));
                    if path.is_dir() {
                        folders.push(path);
                    }
                }
            }
            all.sort();
            all
        }
    }

    #[test]
    fn install_said_again_writes_nothing_and_uninstall_leaves_an_empty_tree() {
        let lab = Lab::new();
        let place = || Install { place: lab.place(false) };
        assert_eq!(place().install("program".into()), ExitCode::SUCCESS);
        let first = lab.all();
        let mode = |path| lab.at(path).metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(
            (mode(PROGRAM), mode(UNIT), mode("/etc/infiniservice/agent.env")),
            (0o755, 0o644, 0o600)
        );
        assert_eq!(lab.read(PROGRAM), "program");
        let pipelines = crate::config::load(&[lab.at(DEFAULT_FOLDER)], &|_| None).unwrap();
        assert!(pipelines.commands.is_some() && pipelines.pipelines.len() == 1);

        assert_eq!(place().install("program".into()), ExitCode::SUCCESS);
        assert_eq!(lab.all(), first);
        lab.uninstall(false);
        assert_eq!(lab.all(), []);
        lab.uninstall(false);
        assert_eq!(lab.all(), [], "there is nothing to do");
    }

    #[test]
    fn a_root_that_does_not_exist_is_refused_by_a_dry_run_too() {
        let lab = Lab::new();
        for dry_run in [true, false] {
            let place = || Place { dry_run, root: lab.at("/no/such") };
            let refused = ExitCode::from(EXIT_CONFIG);
            assert_eq!(Install { place: place() }.install("program".into()), refused);
            assert_eq!(Uninstall { purge: false, place: place() }.main(), refused);
        }
        assert_eq!(lab.all(), []);
    }

    #[test]
    fn a_dry_run_changes_nothing() {
        let lab = Lab::new();
        assert_eq!(Install { place: lab.place(true) }.install("program".into()), ExitCode::SUCCESS);
        assert_eq!(lab.all(), []);
        lab.install("first");
        fs::write(lab.at("/etc/infiniservice/own"), "x").unwrap();
        let before = lab.all();
        for purge in [false, true] {
            let done = Uninstall { purge, place: lab.place(true) }.main();
            assert_eq!(done, ExitCode::SUCCESS);
        }
        assert_eq!(Install { place: lab.place(true) }.install("program".into()), ExitCode::SUCCESS);
        assert_eq!(lab.all(), before);
    }

    #[test]
    fn an_upgrade_replaces_what_it_wrote_and_leaves_what_was_changed_or_removed() {
        let lab = Lab::new();
        let (variables, removed) =
            ("/etc/infiniservice/agent.env", "/etc/infiniservice/pipelines/metrics.toml");
        assert!(lab.install("first").len() > 6);
        fs::write(lab.at(variables), "INFINIBAY_VM_ID=a\n").unwrap();
        fs::write(lab.at(UNIT), "mine\n").unwrap();
        fs::remove_file(lab.at(removed)).unwrap();
        fs::remove_file(lab.at(RULE)).unwrap();
        assert_eq!(lab.install("second"), [PROGRAM, RULE]);
        assert_eq!(lab.read(PROGRAM), "second");
        assert_eq!(
            (lab.read(variables).as_str(), lab.read(UNIT).as_str()),
            ("INFINIBAY_VM_ID=a\n", "mine\n")
        );
        assert!(!lab.at(removed).exists(), "a pipeline that was taken away does not come back");

        // As an older version wrote it: its hash is in the record.
        let older = Lab::new();
        let mut old = files("first".into());
        old[2].bytes = b"an older unit".as_slice().into();
        Tree::new(older.0.path(), false).install(&old).unwrap();
        assert_eq!(older.install("first"), [UNIT]);
    }

    #[test]
    fn uninstall_keeps_what_people_wrote_and_purge_does_not() {
        let lab = Lab::new();
        let own = "/etc/infiniservice/pipelines/own.toml";
        let edited = "/etc/infiniservice/agent.env";
        lab.install("program");
        fs::write(lab.at(own), "x").unwrap();
        fs::write(lab.at(edited), "secret").unwrap();
        fs::write(lab.at(UNIT), "edited, and of no use without the program").unwrap();
        fs::create_dir_all(lab.at(STATE)).unwrap();
        lab.uninstall(false);
        let files: Vec<_> =
            lab.all().into_iter().map(|(path, ..)| path).filter(|path| path.is_file()).collect();
        assert_eq!(files, [lab.at(edited), lab.at(own)]);
        assert!(lab.at(STATE).exists());

        lab.install("program");
        assert_eq!(lab.read(edited), "secret");
        fs::create_dir_all(lab.at(DROP_INS)).unwrap();
        fs::write(lab.at(STATE).join("spool"), "x").unwrap();
        lab.uninstall(true);
        let left: Vec<_> = lab.all().into_iter().map(|(path, ..)| path).collect();
        assert!(
            left.iter().all(|path| path.is_dir() && !path.ends_with("infiniservice")),
            "{left:?}"
        );
    }

    #[test]
    fn a_package_a_link_out_of_the_tree_and_a_damaged_record_are_refused() {
        let lab = Lab::new();
        fs::create_dir_all(lab.at(PACKAGED[0])).unwrap();
        let before = lab.all();
        assert_ne!(
            Install { place: lab.place(false) }.install("program".into()),
            ExitCode::SUCCESS
        );
        assert_ne!(Uninstall { purge: true, place: lab.place(false) }.main(), ExitCode::SUCCESS);
        assert_eq!(lab.all(), before);

        let (lab, outside) = (Lab::new(), Lab::new());
        std::os::unix::fs::symlink(outside.0.path(), lab.at("/etc")).unwrap();
        let error = Tree::new(lab.0.path(), false).install(&files("program".into())).unwrap_err();
        assert!(matches!(&error, InstallError::Link(link) if *link == lab.at("/etc")), "{error}");
        assert_eq!(outside.all(), []);

        for record in ["- /../etc/passwd\n", "nonsense\n", "- etc\n"] {
            let lab = Lab::new();
            lab.install("program");
            fs::write(lab.at(RECORD), record).unwrap();
            let before = lab.all();
            assert_ne!(
                Install { place: lab.place(false) }.install("program".into()),
                ExitCode::SUCCESS
            );
            assert_ne!(
                Uninstall { purge: false, place: lab.place(false) }.main(),
                ExitCode::SUCCESS
            );
            assert_eq!(lab.all(), before, "{record}");
        }
    }
}
