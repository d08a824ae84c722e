//! `infiniservice top` of a running agent in `tmux`, whose screen is read as a person would read it.
#![allow(clippy::unwrap_used)] // what cannot go on has failed

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::flows::metrics;
use support::{Place, Running, has};

/// A screen that is drawn once a second, on processors that others use, too.
const PATIENCE: Duration = Duration::from_secs(120);

/// A terminal of 80 columns and 24 rows with a shell's script in it; ended when dropped.
struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    fn open(folder: &Path, locale: &str, script: &str) -> Self {
        let terminal = Self { socket: folder.join(format!("tmux-{locale}.sock")) };
        let size = ["-x", "80", "-y", "24"];
        let mut tmux = terminal.command();
        tmux.env("LC_ALL", locale).args(["-f", "/dev/null", "new-session", "-d"]);
        assert!(tmux.args(size).arg(script).status().unwrap().success(), "tmux starts");
        terminal
    }

    fn command(&self) -> Command {
        let mut tmux = Command::new("tmux");
        tmux.args(["-u", "-S"]).arg(&self.socket).env_remove("TMUX").stdin(Stdio::null());
        tmux
    }

    fn ask(&self, words: &[&str]) -> String {
        let done = self.command().args(words).output().unwrap();
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{words:?}: {told}");
        String::from_utf8(done.stdout).unwrap()
    }

    fn press(&self, key: &str) {
        self.ask(&["send-keys", key]);
    }

    /// The screen, once it is as wanted.
    fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let screen = self.ask(&["capture-pane", "-p"]);
            if is_so(&screen) {
                return screen;
            }
            assert!(begun.elapsed() < PATIENCE, "never {what}:\n{screen}");
            std::thread::yield_now();
        }
    }

    /// The screen with what sets its colours.
    fn coloured(&self) -> String {
        self.ask(&["capture-pane", "-p", "-e"])
    }

    /// The shell has it again, with what was there before and a cursor.
    fn is_left(&self) {
        self.until("what was there before", |screen| {
            screen.starts_with("before\n") && screen.contains("ended with 0\n")
        });
        let state = self.ask(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(state, "0 1\n", "the first screen, and a cursor");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.command().arg("kill-server").status();
    }
}

/// What a shell does with it; `variables` go before the program.
fn script(place: &Place, variables: &str) -> String {
    let (program, state) = (env!("CARGO_BIN_EXE_infiniservice"), place.folder.path().join("state"));
    format!(
        "echo before; {variables} '{program}' top --state '{}'; echo ended with $?; exec sleep 1000",
        state.display()
    )
}

/// An agent that answers, and a host that reads all it writes.
fn agent(place: &Place) -> Running {
    let state = place.folder.path().join("state").display().to_string();
    let file = place.file("lab.toml", &metrics("200ms", support::flows::WHOLE));
    let mut agent = place.run(&file, &[("INFINISERVICE_STATE_DIR", &state)]);
    let mut host = place.host();
    std::thread::spawn(move || std::io::copy(&mut host, &mut std::io::sink()));
    let begun = Instant::now();
    while !Path::new(&state).join("control.sock").exists() {
        assert!(begun.elapsed() < PATIENCE && agent.0.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
    agent
}

/// The row below the names of the boxes, where the rates are.
fn rates(screen: &str) -> &str {
    screen.lines().skip_while(|line| !line.contains("collect")).nth(1).unwrap_or_default()
}

#[test]
fn top_draws_a_running_agent_obeys_its_keys_and_leaves_the_terminal_as_it_was() {
    if !has("tmux") {
        return;
    }
    let place = Place::new();
    let agent = agent(&place);
    let no_colours = script(&place, "NO_COLOR=1");
    let terminal = Terminal::open(place.folder.path(), "C.UTF-8", &no_colours);

    let keys = "q quit   a all stages   space pause   up, down scroll";
    let screen = terminal.until("the agent with its host and a rate", |screen| {
        screen.contains("host connected") && rates(screen).contains(|c| ('1'..='9').contains(&c))
    });
    let lines: Vec<&str> = screen.lines().collect();
    assert_eq!(lines.len(), 24, "{screen}");
    let head =
        format!("infiniservice {}   process {}   up ", env!("CARGO_PKG_VERSION"), agent.0.id());
    assert!(lines[0].starts_with(&head), "{screen}");
    assert!(screen.contains("\nlab\n┌collect─────┐  ┌remember────┐  ┌join"), "{screen}");
    assert!(screen.contains("\nport unix:/"), "the port is one line: {screen}");
    assert_eq!(lines[23], keys);
    assert!(!terminal.coloured().contains('\u{1b}'), "{screen}");

    terminal.press("Space");
    terminal.until("a pause", |screen| screen.contains("PAUSED"));
    terminal.press("Space");
    terminal.until("going on", |screen| !screen.contains("PAUSED"));
    terminal.press("a");
    terminal.until("the box of a stage without items", |screen| screen.contains("┌troubles"));
    terminal.ask(&["resize-window", "-x", "60", "-y", "12"]);
    terminal.until("a screen of the new size", |screen| {
        let lines: Vec<&str> = screen.lines().collect();
        lines.len() == 12 && lines[11] == keys && lines.contains(&"─".repeat(60).as_str())
    });
    terminal.ask(&["resize-window", "-x", "80", "-y", "24"]);

    drop(agent);
    terminal.until("what is wrong", |screen| screen.contains("no agent listens at "));
    terminal.press("q");
    terminal.is_left();
}

#[test]
fn without_utf_8_top_draws_in_ascii_with_colours_and_ctrl_c_ends_it_as_q_does() {
    if !has("tmux") {
        return;
    }
    let place = Place::new();
    let _agent = agent(&place);
    let terminal = Terminal::open(place.folder.path(), "C", &script(&place, "TERM=vt220"));
    let screen =
        terminal.until("boxes", |screen| screen.contains("+collect-----+  +remember----+"));
    assert!(screen.is_ascii(), "{screen}");
    let coloured = terminal.coloured();
    assert!(coloured.contains("\u{1b}[32mhost connected"), "green: {coloured:?}");
    terminal.press("C-c");
    terminal.is_left();
}
