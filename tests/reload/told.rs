//! What is said of a reload: to who asked for it, and to systemd.

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::rig::{Lab, commands, send, text};
use super::support::{PATIENCE, Running};

#[tokio::test]
async fn settings_that_need_a_restart_are_named_and_the_others_applied() {
    let lab = Lab::new().await;
    let agent = lab.start();
    let host = lab.host().await;
    host.clock_known(PATIENCE).await.unwrap();
    lab.says("pipeline started", 1).await;
    while !lab.path("state/control.sock").exists() {
        tokio::task::yield_now().await;
    }
    let other = lab.agent(false).replace("/state", "/elsewhere");
    let threads = "[runtime]\nkind = \"multi_thread\"\n[shutdown]\ndeadline = \"2s\"\n";
    lab.write("agent", &format!("{other}{threads}"));
    lab.write("extra", &lab.numbers(1).replace("numbers.jsonl", "extra.jsonl"));
    fs::remove_file(lab.path("pipelines/commands.toml")).unwrap();
    let output = lab.reload().await;
    let said = text(&output.stdout);
    let expected = "added: extra\nremoved: commands\nunchanged: metrics, numbers\n\
                    [shutdown] has changed and holds from now on\n\
                    [runtime] has changed and is read at a start: restart the agent\n\
                    [state] has changed and is read at a start: restart the agent\n";
    assert_eq!(said, expected, "{}", text(&output.stderr));
    // What is asked now is refused, and does not wait for somebody.
    let refused = send(&host, |_| format!("touch {}", lab.path("refused").display())).await;
    let answer = async |id: &str| {
        let answer = async {
            loop {
                let body = host.next().await.unwrap().body;
                if body["id"] == id {
                    break body;
                }
            }
        };
        tokio::time::timeout(PATIENCE, answer).await.unwrap()
    };
    assert_eq!(answer(&refused).await["success"], false);
    // And again: the command flow is back, on the same port.
    lab.write("commands", &commands(1));
    let said = text(&lab.reload().await.stdout);
    assert!(said.starts_with("added: commands\nunchanged: extra, metrics, numbers\n"), "{said}");
    let id = send(&host, |_| "echo heard".to_owned()).await;
    assert_eq!(answer(&id).await["stdout"], "heard\n");
    assert!(!lab.path("refused").exists());
    agent.signal(Signal::TERM);
    assert_eq!(agent.end().0, Some(0));
    assert!(!lab.path("state/control.sock").exists(), "it is gone with its agent");
    let output = lab.reload().await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no agent listens at"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn systemd_is_notified_of_a_reload_by_a_signal_with_its_time_and_of_no_other() {
    let lab = Lab::new().await;
    let notify = lab.path("notify.sock");
    let socket = std::os::unix::net::UnixDatagram::bind(&notify).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = || {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        text(&buffer[..length])
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
    command.args(["run", "--port", "stdio", "--pipelines"]).arg(lab.path("pipelines"));
    command.env_clear().env("NOTIFY_SOCKET", &notify).stdin(Stdio::null());
    let agent = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    assert_eq!(heard().trim(), "READY=1");
    // `ExecReload=`: systemd waits for that program, and is told nothing else meanwhile.
    while !lab.path("state/control.sock").exists() {
        tokio::task::yield_now().await;
    }
    lab.write("extra", &lab.numbers(1).replace("numbers.jsonl", "extra.jsonl"));
    let output = lab.reload().await;
    assert!(text(&output.stdout).contains("added: extra"), "{}", text(&output.stderr));
    agent.signal(Signal::HUP);
    let reloading = heard();
    let at = reloading.trim().strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
    assert!((0..20_000_000).contains(&(now - at.parse::<i128>().unwrap())), "{at}");
    assert_eq!(heard().trim(), "READY=1");
    agent.signal(Signal::TERM);
    assert_eq!(heard().trim(), "STOPPING=1");
}
