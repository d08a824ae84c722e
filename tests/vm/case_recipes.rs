//! `packaging/recipes`, each as a stranger would follow it: with another path, secret and package, and nothing else changed.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::agent::Agent;
use super::guest::Guest;
use super::initramfs;
use super::installed::LONG;
use super::lab::{self, Lab};
use super::package::deb;
use super::pipelines::files;
use super::qemu::{KERNEL, told};
use super::systemd::{GATEWAY, boot_cloud};
use super::talk::{SECRET, Talk};
use super::wait;

const CLOUD_INIT: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/recipes/cloud-init.yaml"));
const LIBVIRT: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/recipes/libvirt.xml"));
const QEMU: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/recipes/qemu.conf"));

/// Boots, Python and libvirt on processors that others use too.
const PATIENCE: Duration = Duration::from_secs(600);

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn cloud_init_under_systemd_installs_the_agent_and_shows_its_secret_to_nobody() {
    let turn = lab::turn();
    let disk = turn.lab.systemd_disk();
    let deb = deb(&turn.lab.agent);
    let sum = HEXLOWER.encode(&Sha256::digest(&deb));
    let service = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let port = service.local_addr().expect("it is bound").port();
    let user_data = filled(
        CLOUD_INIT,
        &[
            ("the secret that the host has for this guest", SECRET),
            (
                "https://packages.example.com/infiniservice_0.1.0-1_amd64.deb",
                &format!("http://{GATEWAY}:{port}/agent.deb"),
            ),
            (&"0".repeat(64), &sum),
        ],
    );
    let files = [
        ("/meta-data", b"instance-id: first\n".to_vec()),
        // The disk has no sources of locales.
        ("/vendor-data", b"#cloud-config\nlocale: false\n".to_vec()),
        ("/user-data", user_data.into_bytes()),
        ("/agent.deb", deb),
    ];
    std::thread::spawn(move || serve(&service, &files));
    let mut vm = boot_cloud(turn.lab, &disk, port);
    vm.guest.until("test -e /run/cloud-init/result.json", PATIENCE);
    let result = vm.guest.run("cat /run/cloud-init/result.json");
    assert!(result.contains("\"errors\": []"), "{result}");
    vm.guest.until("systemctl is-active infiniservice", PATIENCE);
    let own = Talk::connect(&vm.socket()).exec("cat /proc/self/cgroup", LONG);
    assert!(own.stdout.contains("/infiniservice.slice/infiniservice-run-"), "{own:?}");
    let file = vm.guest.run("cd /etc/infiniservice && stat -c '%a %U' agent.env && cat agent.env");
    let lines = format!("600 root\nINFINIBAY_VM_ID=web-1\nINFINISERVICE_SHARED_SECRET={SECRET}\n");
    assert_eq!(file, lines);
    let search = format!(
        "setpriv --reuid nobody --regid nogroup --clear-groups \
             grep -rlsF -D skip {SECRET} /etc /root /run /tmp /usr/local /var; \
         grep -rlF {SECRET} /var/log; journalctl -b | grep -F {SECRET}; true"
    );
    let shown = vm.guest.try_run(&search, PATIENCE).expect("it ends").1;
    assert_eq!(shown, "", "it is in these files or lines");
    assert!(!vm.console().contains(SECRET));
}

/// A metadata service, and the server of packages: answers each request for one of these files, one after the other, as long as
/// the test runs.
fn serve(service: &TcpListener, files: &[(&str, Vec<u8>)]) {
    for stream in service.incoming().map_while(Result::ok) {
        // A guest that hangs up has lost its answer, and asks again.
        let _ = answer(stream, files);
    }
}

fn answer(mut stream: TcpStream, files: &[(&str, Vec<u8>)]) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    // The headers say nothing that matters here.
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (status, body) = match files.iter().find(|(name, _)| *name == path) {
        Some((_, body)) => ("200 OK", &body[..]),
        None => ("404 Not Found", &b""[..]),
    };
    write!(stream, "HTTP/1.0 {status}\r\nContent-Length: {}\r\n\r\n", body.len())?;
    stream.write_all(body)
}

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn the_channel_of_libvirt_is_the_agents_port() {
    let turn = lab::turn();
    let folder = Folder::new(turn.lab);
    let channel = filled(LIBVIRT, &[("/run/infiniservice/web-1.socket", &folder.at("agent.sock"))]);
    let domain = format!(
        "<domain type='{}'>
           <name>web-1</name> <memory unit='MiB'>256</memory> <vcpu>2</vcpu>
           <os>
             <type arch='x86_64'>hvm</type>
             <kernel>{}</kernel> <initrd>{}</initrd> <cmdline>{KERNEL}</cmdline>
           </os>
           <devices>
             <emulator>/usr/bin/qemu-system-x86_64</emulator>
             <serial type='file'><source path='{}'/></serial>
             <serial type='unix'><source mode='connect' path='{}'/></serial>
             <serial type='file'><source path='{}'/></serial>
             {channel}
           </devices>
         </domain>",
        if turn.lab.accel == super::accel::KVM { "kvm" } else { "qemu" },
        folder.at("kernel"),
        folder.at("initramfs"),
        folder.at("console.log"),
        folder.at("shell"),
        folder.at("agent.log"),
    );
    folder.write("domain.xml", domain.as_bytes());
    // With libvirt's daemon within the program, and all that is its own in the folder.
    let mut program = folder.command("virt-qemu-run");
    program.args(["--root", &folder.at("libvirt"), &folder.at("domain.xml")]);
    program.env("HOME", folder.at("")).env_remove("XDG_RUNTIME_DIR");
    speaks_through_the_port(&folder, program);
}

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn the_devices_of_the_qemu_recipe_are_the_agents_port() {
    let turn = lab::turn();
    let folder = Folder::new(turn.lab);
    let devices = filled(QEMU, &[("/run/infiniservice/web-1.socket", &folder.at("agent.sock"))]);
    folder.write("qemu.conf", devices.as_bytes());
    let mut program = folder.command("qemu-system-x86_64");
    program
        .args(["-accel", turn.lab.accel.name, "-cpu", turn.lab.accel.cpu, "-m", "256"])
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-kernel", &folder.at("kernel"), "-initrd", &folder.at("initramfs")])
        .args(["-append", KERNEL])
        .args(["-serial", &format!("file:{}", folder.at("console.log"))])
        .args(["-chardev", &format!("socket,id=shell,path={}", folder.at("shell"))])
        .args(["-serial", "chardev:shell"])
        .args(["-serial", &format!("file:{}", folder.at("agent.log"))])
        .args(["-readconfig", &folder.at("qemu.conf")]);
    speaks_through_the_port(&folder, program);
}

/// The recipe with what differs from guest to guest.
///
/// # Panics
/// Where it does not have a text that is to be replaced once and only once.
fn filled(recipe: &str, texts: &[(&str, &str)]) -> String {
    texts.iter().fold(recipe.to_owned(), |recipe, (from, to)| {
        assert_eq!(recipe.matches(from).count(), 1, "{from} in {recipe}");
        recipe.replace(from, to)
    })
}

/// Boots what the program starts, and has the agent in it answer a command.
fn speaks_through_the_port(folder: &Folder, mut program: Command) {
    let shell = UnixListener::bind(folder.path().join("shell")).expect("a socket can be made");
    folder.hand_over();
    let log = fs::File::create(folder.path().join("qemu.log")).expect("a log can be made");
    let mut program = Program(program.stdin(Stdio::null()).stderr(log).spawn().expect("it starts"));
    let until = Instant::now() + PATIENCE;
    let mut alive = || match program.0.try_wait() {
        Ok(None) => Ok(()),
        ended => Err(format!("it ended: {ended:?}")),
    };
    let guest = wait::accept(&shell, until, &mut alive)
        .and_then(|shell| Guest::start(shell, until.saturating_duration_since(Instant::now())));
    let mut guest = guest.unwrap_or_else(|why| panic!("{why}\n{}", told(folder.path())));
    Agent::start_with_commands(&mut guest);
    let answer = Talk::connect(Path::new(&folder.at("agent.sock"))).exec("hostname", LONG);
    assert_eq!(answer.stdout, "vm-under-test\n", "{answer:?}");
}

/// What a machine is made of, in a folder of the user that it runs as.
struct Folder(TempDir);

impl Folder {
    fn new(lab: &Lab) -> Self {
        let folder = Self(TempDir::new().expect("a temporary folder can be made"));
        fs::copy(&lab.kernel.image, folder.path().join("kernel")).expect("the kernel is a file");
        let programs = [("infiniservice", &lab.agent[..])];
        let archive = initramfs::build(&lab.busybox, &programs, &lab.kernel.modules, &files());
        folder.write("initramfs", &archive);
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn at(&self, name: &str) -> String {
        self.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path().join(name), bytes).expect("the temporary folder takes files");
    }

    /// A program that ends with this one, as another user where this one is root: root's libvirt has a user for QEMU that only a
    /// whole installation makes.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        if geteuid().is_root() {
            command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]);
        }
        command.args(["--pdeathsig", "TERM", "--", program]).current_dir(self.path());
        command
    }

    /// Gives all that is there to the user of the program.
    fn hand_over(&self) {
        if geteuid().is_root() {
            let mut chown = Command::new("chown");
            let chown = chown.args(["-R", "nobody"]).arg(self.path()).status();
            assert!(chown.is_ok_and(|status| status.success()));
        }
    }
}

/// A running program that ends its machine when it is asked to end.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        // It may have ended by itself.
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        let _ = self.0.wait();
    }
}
