//! Records from programs: through a FIFO, sockets, a program that is run, and the journal.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::given::until;
use super::support::{Place, Running};

/// The program reads `source` as text into a file; programs are found in the test's folder first.
fn agent(place: &Place, source: &str) -> Running {
    let folder = place.folder.path();
    let text = format!(
        "[[read]]\n{source}\nparse_as = \"text\"\n[batch]\nmax_delay = \"20ms\"\n\
         [write]\nfile = {{ path = \"{}/out\" }}\n",
        folder.display()
    );
    let pipeline = place.file("sources.toml", &text);
    let path = format!("{}:/usr/bin:/bin", folder.display());
    let mut agent = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
    agent.args(["run", "--pipelines"]).arg(pipeline).arg("--state").arg(folder.join("state"));
    agent.env("PATH", path).env("SECRET", "x").stdin(Stdio::null()).stderr(Stdio::piped());
    Running(agent.spawn().unwrap())
}

fn end(agent: Running) {
    agent.signal(Signal::TERM);
    let (code, log) = agent.end();
    assert_eq!(code, Some(0), "{log}");
}

/// The messages that have come.
fn messages(place: &Place) -> Vec<String> {
    let text = fs::read_to_string(place.folder.path().join("out")).unwrap_or_default();
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let message = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["message"].as_str().unwrap().to_owned()
    };
    whole.lines().map(message).collect()
}

fn path(place: &Place, name: &str) -> PathBuf {
    place.folder.path().join(name)
}

fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_fifo_is_made_and_its_writers_come_and_go() {
    let place = Place::new();
    let fifo = path(&place, "in");
    let agent = agent(&place, &format!("lines = {{ fifo = \"{}\" }}", fifo.display()));
    until("the FIFO is there", || fifo.exists());
    for number in 0..3 {
        let mut writer = OpenOptions::new().write(true).open(&fifo).unwrap();
        write!(writer, "{number}a\n{number}b\n").unwrap();
    }
    until("all lines come", || messages(&place).len() == 6);
    assert_eq!(messages(&place), ["0a", "0b", "1a", "1b", "2a", "2b"]);
    end(agent);
}

#[test]
fn many_writers_to_a_socket_mix_no_line() {
    const WRITERS: usize = 100; // more than may be connected at a time
    let place = Place::new();
    let socket = path(&place, "in");
    let agent = agent(&place, &format!("lines = {{ unix = \"{}\" }}", socket.display()));
    until("the socket is there", || UnixStream::connect(&socket).is_ok());
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let mut stream = UnixStream::connect(&socket).unwrap();
            std::thread::spawn(move || {
                for number in 0..50 {
                    let text = format!("{writer}-{number}\n");
                    let (start, end) = text.split_at(2);
                    stream.write_all(start.as_bytes()).unwrap();
                    stream.write_all(end.as_bytes()).unwrap();
                }
                stream.write_all(b"last").unwrap();
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    until("all lines come", || messages(&place).len() == WRITERS * 51);
    let mut messages = messages(&place);
    for writer in 0..WRITERS {
        let prefix = format!("{writer}-");
        let of_one = messages.iter().filter(|line| line.starts_with(&prefix));
        assert!(of_one.eq(&(0..50).map(|number| format!("{writer}-{number}")).collect::<Vec<_>>()));
    }
    messages.retain(|line| line == "last");
    assert_eq!(messages.len(), WRITERS);
    end(agent);
    assert!(!socket.exists());
}

#[test]
fn a_datagram_is_a_line_or_several() {
    let place = Place::new();
    let socket = path(&place, "in");
    let source = format!("lines = {{ datagram = \"{}\" }}", socket.display());
    // One that nobody reads any more is in the way.
    drop(UnixDatagram::bind(&socket).unwrap());
    let agent = agent(&place, &source);
    let writer = UnixDatagram::unbound().unwrap();
    until("the socket is there", || writer.connect(&socket).is_ok());
    for text in ["1", "2\n", "3\n4", "5\n6\n"] {
        writer.send(text.as_bytes()).unwrap();
    }
    until("all lines come", || messages(&place).len() == 6);
    assert_eq!(messages(&place), ["1", "2", "3", "4", "5", "6"]);
    end(agent);
}

#[test]
fn a_program_is_kept_running_and_ends_with_its_children() {
    let place = Place::new();
    let (pids, program) = (path(&place, "pids"), path(&place, "program"));
    let text = "#!/bin/sh\necho \"secret $SECRET\"\nsleep 1000 &\necho $! >> $0.pids\necho $$ >> $0.pids\nwait\n";
    script(&program, &text.replace("$0.pids", &pids.display().to_string()));
    let agent = agent(&place, &format!("exec = {{ command = [\"{}\"] }}", program.display()));
    until("it runs", || {
        fs::read_to_string(&pids).is_ok_and(|text| text.lines().count() == 2)
            && messages(&place) == ["secret "]
    });
    end(agent);
    let is_there = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // A zombie has ended, and waits for whoever is process 1 here.
        !stat.is_empty() && !stat.contains(") Z ")
    };
    let pids = fs::read_to_string(&pids).unwrap();
    until("its processes end", || !pids.lines().any(is_there));
}

#[test]
fn a_program_is_run_again_and_again() {
    let place = Place::new();
    let source =
        "exec = { command = [\"sh\", \"-c\", \"echo 1; echo 2; exit 3\"], every = \"50ms\" }";
    let agent = agent(&place, source);
    until("it has run three times", || messages(&place).len() >= 6);
    assert_eq!(messages(&place)[..6], ["1", "2", "1", "2", "1", "2"]);
    end(agent);
}

#[test]
fn the_journal_goes_on_behind_the_last_entry_that_has_arrived() {
    let place = Place::new();
    let asked = path(&place, "asked");
    // Three entries behind the cursor, and then it waits as `--follow` does.
    let text = "#!/bin/sh\necho \"$@\" >> ASKED\nfrom=0\nfor option; do\n case $option in --after-cursor=c*) \
                from=${option#--after-cursor=c};; esac\ndone\nfor n in 1 2 3; do\n n=$((from + n))\n \
                echo \"{\\\"__CURSOR\\\":\\\"c$n\\\",\\\"MESSAGE\\\":\\\"$n\\\"}\"\ndone\nexec sleep 1000\n";
    script(&path(&place, "journalctl"), &text.replace("ASKED", &asked.display().to_string()));
    for run in 1..=3 {
        let agent = agent(&place, "journal = { units = [\"a.service\"] }");
        until("entries come", || messages(&place).len() == 3 * run);
        end(agent);
    }
    let entries: Vec<String> =
        (1..=9).map(|n| format!("{{\"__CURSOR\":\"c{n}\",\"MESSAGE\":\"{n}\"}}")).collect();
    assert_eq!(messages(&place), entries);
    let asked = fs::read_to_string(asked).unwrap();
    let asked: Vec<&str> = asked.lines().collect();
    assert!(asked[0].ends_with("--boot --unit=a.service"), "{}", asked[0]);
    assert!(asked[2].ends_with("--after-cursor=c6 --unit=a.service"), "{}", asked[2]);
}
