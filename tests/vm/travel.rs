//! A machine that goes on in another QEMU: by live migration, or from a snapshot. Knows nothing of the agent.

use std::fs::File;
use std::mem::replace;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use super::accel::TCG;
use super::lab::Lab;
use super::qemu::{Kind, Vm, command, end};
use super::qmp::Qmp;
use super::wait;

/// How long a quarter of a gigabyte may take to be copied.
const COPIED: Duration = Duration::from_secs(60);

/// A QEMU that waits for a machine.
struct There {
    qmp: Qmp,
    shell: UnixStream,
    child: Child,
    folder: TempDir,
}

impl Vm {
    /// Goes on in another QEMU without being stopped where that is possible. `generation` is what that one says
    /// of it.
    ///
    /// Emulated, it stands still while its memory is copied. The copy of a machine that ran under TCG missed
    /// writes once: the kernel's timers, which change all the time, arrived broken, and it panicked.
    pub fn migrate(&mut self, lab: &Lab, generation: &str) {
        let mut there = self.prepare(lab, generation);
        let uri = format!("unix:{}", there.folder.path().join("migration").display());
        there.qmp.run("migrate-incoming", json!({ "uri": uri }));
        self.leave(lab, &uri);
        self.arrive(lab, there);
    }

    /// Is saved and ended, and what was saved goes on in another QEMU.
    pub fn save_and_restore(&mut self, lab: &Lab, generation: &str) {
        let saved = self.folder.path().join("saved");
        self.leave(lab, &format!("exec:cat > {}", saved.display()));
        end(&mut self.child);
        let mut there = self.prepare(lab, generation);
        let uri = format!("exec:cat {}", saved.display());
        there.qmp.run("migrate-incoming", json!({ "uri": uri }));
        self.arrive(lab, there);
    }

    fn prepare(&self, lab: &Lab, generation: &str) -> There {
        let disk = self.left.first().unwrap_or(&self.folder).path().join("disk");
        let kind = Kind { generation: Some(generation), goes_on: Some(&disk), ..Kind::default() };
        let folder = TempDir::new().expect("a temporary folder can be made");
        let at = |name: &str| folder.path().join(name);
        let first = self.left.first().unwrap_or(&self.folder).path();
        std::fs::hard_link(first.join("initramfs"), at("initramfs")).expect("a file can be linked");
        let qmp = UnixListener::bind(at("qmp")).expect("a socket can be made");
        let shell = UnixListener::bind(at("shell")).expect("a socket can be made");
        let child = command(lab, folder.path(), &kind)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(at("qemu.log")).expect("a log can be made"))
            .spawn()
            .expect("QEMU starts");
        let accept = |listener| {
            wait::accept(listener, Instant::now() + COPIED, || Ok(())).expect("QEMU connects")
        };
        let mut qmp = Qmp::start(accept(&qmp)).expect("QEMU greets");
        tells_of_migration(&mut qmp);
        There { qmp, shell: accept(&shell), child, folder }
    }

    fn leave(&mut self, lab: &Lab, uri: &str) {
        tells_of_migration(&mut self.qmp);
        if lab.accel == TCG {
            self.qmp.run("stop", json!({}));
        }
        self.qmp.run("migrate", json!({ "uri": uri }));
        completed(&mut self.qmp);
    }

    fn arrive(&mut self, lab: &Lab, there: There) {
        let There { mut qmp, shell, child, folder } = there;
        completed(&mut qmp);
        if lab.accel == TCG {
            qmp.run("cont", json!({}));
        }
        self.qmp = qmp;
        self.guest.go_on(shell);
        end(&mut replace(&mut self.child, child));
        self.left.push(replace(&mut self.folder, folder));
    }
}

fn tells_of_migration(qmp: &mut Qmp) {
    let events = json!({ "capabilities": [{ "capability": "events", "state": true }] });
    qmp.run("migrate-set-capabilities", events);
}

fn completed(qmp: &mut Qmp) {
    qmp.event("MIGRATION", COPIED, |data| {
        assert_ne!(data["status"], "failed");
        data["status"] == "completed"
    });
}
