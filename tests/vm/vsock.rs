//! The host's half of a vsock device: `vhost-device-vsock`, which has a vsock as Firecracker does. A guest that
//! connects to a port of the host is connected to the Unix socket of that port, if somebody listens there.

use std::fs::{self, File};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::host::Host;
use super::lab::Lab;
use super::qemu::end;
use super::wait;

/// The port of the host that the agent connects to.
pub const PORT: u32 = 8460;
/// The socket that QEMU connects to.
pub const DEVICE: &str = "vsock.device";
/// What the program says.
pub const LOG: &str = "vsock.log";

const START: Duration = Duration::from_secs(10);
/// The longest pause between two tries of the agent, and the 2 s that a try may last.
const CONNECT: Duration = Duration::from_secs(30);

/// The running program.
#[derive(Debug)]
pub struct Vsock {
    child: Child,
    /// The machine's socket.
    pub socket: PathBuf,
}

impl Vsock {
    /// Starts it in `folder`, and waits until QEMU can connect.
    ///
    /// # Panics
    /// Where it does not start.
    pub(super) fn start(lab: &Lab, folder: &Path) -> Self {
        let (device, socket) = (folder.join(DEVICE), folder.join("web.vsock"));
        let log = File::create(folder.join(LOG)).expect("a log can be made");
        // It must not outlive a test run that is killed.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(lab.vsock_program())
            .args(["--guest-cid", "3"])
            .arg("--socket")
            .arg(&device)
            .arg("--uds-path")
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::piped()) // says nothing there, but closes it when it ends
            .stderr(log)
            .spawn()
            .expect("vhost-device-vsock starts");
        let vsock = Self { child, socket };
        let stdout = vsock.child.stdout.as_ref().expect("it is piped");
        let until = Instant::now() + START;
        while !is_listened_at(&device) {
            let slice = Instant::now() + Duration::from_millis(10);
            let has_ended = wait::readable(stdout, slice).expect("a pipe can be polled");
            if has_ended || Instant::now() > until {
                let log = fs::read_to_string(folder.join(LOG)).unwrap_or_default();
                panic!("vhost-device-vsock does not listen: {log}");
            }
        }
        vsock
    }

    /// Listens for the guest, as a host that has come.
    pub fn listen(&self) -> Listener {
        let path = format!("{}_{PORT}", self.socket.display());
        let inner = UnixListener::bind(&path).expect("the socket of before is removed");
        Listener { inner, path }
    }
}

impl Drop for Vsock {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// A host that waits for the guest. Its socket goes with it.
#[derive(Debug)]
pub struct Listener {
    inner: UnixListener,
    path: String,
}

impl Listener {
    /// The next connection of the guest.
    ///
    /// # Panics
    /// Where none comes in time.
    pub fn accept(&self) -> Host {
        let stream = wait::accept(&self.inner, Instant::now() + CONNECT, || Ok(()));
        Host::over(stream.expect("the agent connects"))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Where it cannot be removed, the next one cannot listen, and says so.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether the socket at `path` is listened at: a connection to see that would be the program's only one.
fn is_listened_at(path: &Path) -> bool {
    const ACCEPTS: &str = "00010000";
    let sockets = fs::read_to_string("/proc/net/unix").expect("proc_net(5)");
    let mut sockets = sockets.lines().map(|line| line.split_ascii_whitespace());
    sockets.any(|mut words| {
        words.nth(3) == Some(ACCEPTS) && words.last() == Some(&path.to_string_lossy())
    })
}
