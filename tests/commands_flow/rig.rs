//! An agent that takes commands, and what its host asks.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use infiniservice::host::Secret;
use infiniservice::host::{Host, Listener, Script, Settings, Shell, action};
use tempfile::TempDir;

use super::support::flows::{COMMANDS, SECRET, WHOLE, metrics};
use super::support::{PATIENCE, Running};

/// What is allowed and denied beside [`COMMANDS`]; a test names the line of the denial.
const RULES: &str = r#"deny = [{ action = "PackageRemove", package = "systemd*" }]
scripts = true
[execute]
parallel = 5
waiting = 64
"#;

/// An agent with its state, and the socket that its host listens at.
pub struct Lab {
    pub folder: TempDir,
    listener: Listener,
}

impl Lab {
    pub async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let pipelines = folder.path().join("pipelines");
        std::fs::create_dir(&pipelines).unwrap();
        let state = folder.path().join("state");
        let agent = format!("[state]\nfolder = {:?}\n", state.display().to_string());
        let (metrics, commands) = (metrics("200ms", WHOLE), format!("{COMMANDS}{RULES}"));
        for (name, text) in
            [("metrics.toml", metrics), ("commands.toml", commands), ("agent.toml", agent)]
        {
            std::fs::write(pipelines.join(name), text).unwrap();
        }
        let listener = Listener::bind(&folder.path().join("host.sock")).await.unwrap();
        Self { folder, listener }
    }

    pub fn start(&self, secret: Option<&str>) -> Running {
        self.start_after("", secret)
    }

    /// The same by a shell that does something before.
    pub fn start_after(&self, before: &str, secret: Option<&str>) -> Running {
        let socket = self.folder.path().join("host.sock");
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", &format!("{before} exec \"$@\""), "sh"]);
        command.arg(env!("CARGO_BIN_EXE_infiniservice"));
        command.args(["run", "--port", &format!("unix:{}", socket.display()), "--pipelines"]);
        command.arg(self.folder.path().join("pipelines")).env_clear();
        if let Some(secret) = secret {
            command.env("INFINISERVICE_SHARED_SECRET", secret);
        }
        let stdio = std::process::Stdio::piped();
        Running(command.stdin(std::process::Stdio::null()).stderr(stdio).spawn().unwrap())
    }

    pub async fn host(&self) -> Host {
        let secret = Secret::new(SECRET.as_bytes().to_vec());
        let settings = Settings { secret, keep_alive: None };
        tokio::time::timeout(PATIENCE, self.listener.accept(settings)).await.unwrap().unwrap()
    }

    /// A file of the state folder, as far as it is text.
    pub fn state(&self, name: &str) -> String {
        let file = std::fs::read(self.folder.path().join("state").join(name));
        String::from_utf8_lossy(&file.unwrap_or_default()).into_owned()
    }
}

pub fn script(id: &str, content: String) -> Script {
    Script {
        execution_id: id.to_owned(),
        script_id: "s".to_owned(),
        script_name: "test".to_owned(),
        script_content: content,
        shell: Shell::Sh,
        execution_type: "ON_DEMAND".to_owned(),
        input_values: BTreeMap::new(),
        timeout_seconds: 60,
        run_as: None,
    }
}

pub fn ask(name: &str) -> serde_json::Value {
    action(name, &[]).unwrap()
}

pub async fn seen(path: &Path) -> String {
    let begun = Instant::now();
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if !text.is_empty() => return text,
            _ => assert!(begun.elapsed() < PATIENCE, "{} never came", path.display()),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
