//! A real NATS server with JetStream, of Debian's package `nats-server`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use super::{PATIENCE, Running};

/// A server, killed when dropped, and the address that it listens at.
pub struct Server {
    pub process: Running,
    pub address: String,
}

/// Whether there is one to run, with a line that says so where not.
pub fn is_there() -> bool {
    let there = Command::new("nats-server").arg("--version").output().is_ok();
    if !there {
        eprintln!("NOT RUN: nats-server is missing");
    }
    there
}

/// Starts one on what it has stored in `folder`, with `more` in its configuration.
pub async fn start(folder: &Path, more: &str) -> Server {
    let (config, store) = (folder.join("nats.conf"), folder.join("store"));
    let text = format!(
        "listen: \"127.0.0.1:-1\"\nports_file_dir: {folder:?}\njetstream {{ store_dir: {store:?} }}\n{more}"
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("nats-server");
    command.arg("--config").arg(&config).arg("--log").arg(folder.join("log"));
    let process = Running(command.stdin(Stdio::null()).spawn().unwrap());
    let ports = folder.join(format!("nats-server_{}.ports", process.0.id()));
    let late = Instant::now() + PATIENCE;
    loop {
        if let Some(address) = address(&ports) {
            return Server { process, address };
        }
        assert!(Instant::now() < late, "the server says where it listens");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// What the file of ports says; `None` before it is whole.
fn address(ports: &Path) -> Option<String> {
    let ports: Value = serde_json::from_str(&std::fs::read_to_string(ports).ok()?).ok()?;
    let place = ports["nats"][0].as_str()?;
    Some(place.rsplit_once('/').map_or(place, |(_, at)| at).to_owned())
}
