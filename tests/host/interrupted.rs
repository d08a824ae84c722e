//! What the client of the host says when it is interrupted.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::peer::{SECRET, Socket};

/// Starts the command, interrupts it when `ready`, and tells what it said.
fn interrupted(mut command: Command, mut ready: impl FnMut(&mut dyn BufRead)) -> String {
    command.env("INFINISERVICE_SHARED_SECRET", SECRET).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    ready(&mut stderr);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said}");
    said
}

fn client(socket: &std::path::Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infiniservice-host"));
    command.arg(socket).args(arguments);
    command
}

#[test]
fn an_interrupt_before_a_request_reports_that_nothing_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    let said = interrupted(client(&socket, &["--listen", "exec", "--", "sleep", "9"]), |stderr| {
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        assert!(line.contains("waiting for an agent"), "{line}");
    });
    assert_eq!(
        said,
        "infiniservice-host: interrupted before an agent could be asked; nothing was sent\n"
    );
}

#[tokio::test]
async fn an_interrupt_after_a_request_reports_that_it_continues() {
    let socket = Socket::bind();
    let command = client(&socket.path(), &["exec", "--", "sleep", "9"]);
    let (heard, hears) = std::sync::mpsc::sync_channel(1);
    let said = tokio::task::spawn_blocking(move || interrupted(command, |_| hears.recv().unwrap()));
    let mut guest = socket.accept().await;
    guest.hear().await;
    heard.send(()).unwrap();
    let said = said.await.unwrap();
    assert!(
        said.ends_with("what was asked goes on in the guest until its time is over\n"),
        "{said}"
    );
}
