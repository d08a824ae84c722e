//! The command flow over the real port and under the shipped unit: what an Infinibay host may rely on,
//! whatever else goes on. One machine for all of it: its start is what costs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use futures::future::join_all;
use infiniservice::host::{Kind, Message, RawCommand, Script, Shell, payload};
use infiniservice::wire::envelope;
use serde_json::{Value, json};

use super::lab;
use super::pipelines::files;
use super::qemu::{PORT, Vm};
use super::systemd::boot_with;
use super::talk::{SECRET, Talk, raw};

const SOON: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(60);
/// What an answer may take where nothing is in its way but the emulator.
const QUICK: Duration = Duration::from_secs(2);
/// How much later than its time-out a tree may be ended and told of, on two emulated processors that others
/// use too: 0.4 to 1.5 s were seen.
const LATE: Duration = Duration::from_secs(4);

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn under_the_shipped_unit_commands_and_scripts_do_what_a_host_relies_on() {
    let turn = lab::alone();
    let disk = turn.lab.systemd_disk();
    let started = Instant::now();
    let text = |path: &str| {
        let found = files().into_iter().find(|(name, _)| *name == path);
        found.map(|(_, text)| text).expect("the guest has this pipeline")
    };
    let commands = text("commands/commands.toml").replace("detach = false", "detach = true");
    let pipelines = [("metrics.toml", text("commands/metrics.toml")), ("commands.toml", commands)];
    let pipelines = pipelines.each_ref().map(|(name, text)| (*name, text.as_str()));
    let mut vm = boot_with(turn.lab, &disk, &pipelines);
    vm.guest.until("systemctl is-active infiniservice", LONG);
    lab::say(&format!("systemd and the agent are up after {:.0?}", started.elapsed()));
    it_opens_its_port_alone_with_a_newline_and_then_a_time(&mut vm);
    let talk = Talk::connect(&vm.socket());
    five_in_one_burst_have_one_answer_each_whatever_is_wrong_with_them(&mut vm, &talk);
    what_the_host_did_not_sign_is_not_done_and_what_it_did_is_done_once(&mut vm, &talk);
    programs_of_any_user_run_and_inherit_nothing_of_the_agent(&talk);
    what_is_left_running_is_told_and_stays_where_it_may(&mut vm, &talk);
    quick_ones_come_through_behind_slow_ones_and_time_is_up_for_whole_trees(&mut vm, &talk);
    a_fork_bomb_ends_at_its_deadline_and_the_machine_goes_on(&mut vm, &talk);
    each_script_runs_once_over_an_orderly_end_and_over_a_kill(&mut vm, &talk);
    answers_stay_below_what_the_host_takes_and_say_what_was_left_out(&mut vm, &talk);
    lab::say(&format!("all of it took {:.0?}", started.elapsed()));
}

fn it_opens_its_port_alone_with_a_newline_and_then_a_time(vm: &mut Vm) {
    vm.guest.run("systemctl stop infiniservice");
    let mut host = vm.host();
    vm.guest.run("systemctl start infiniservice");
    assert_eq!(host.line(SOON).as_deref(), Some(&b""[..]), "a bare newline first");
    let first = host.line(SOON).expect("the agent speaks first");
    assert!(first.is_ascii());
    let first: Value = serde_json::from_slice(&first).expect("one JSON object a line");
    let stamp = first["timestamp"].as_str().expect("a time as text teaches the host the clock");
    humantime::parse_rfc3339(stamp).expect("in ISO 8601");
    host.take(3);
    let held = vm
        .guest
        .run("readlink /proc/$(systemctl show -P MainPID infiniservice)/fd/* | grep /dev/vport");
    let held: Vec<&str> = held.lines().collect();
    assert_eq!(held.len(), 1, "opened once: {held:?}");
    let node = held[0].trim_start_matches("/dev/");
    let name = vm.guest.run(&format!("cat /sys/class/virtio-ports/{node}/name"));
    assert_eq!(name.trim(), PORT);
}

/// The unit is closed to others (`UMask=0077`, `StateDirectoryMode=0700`) and protected from the
/// out-of-memory killer, and has a secret in its environment: nothing of that is its programs'.
fn programs_of_any_user_run_and_inherit_nothing_of_the_agent(talk: &Talk) {
    // Ignored signals without 32 and 33, which are the C library's own.
    let text = "id -un; echo $USER:$LOGNAME:$HOME:$SHELL; umask; pwd; cat /proc/self/oom_score_adj; \
                grep -E '^Sig(Ign|Blk)' /proc/self/status | cut -f2 | sed s/180000000$/000000000/ | sort -u; \
                ulimit -Sn; ulimit -c; \
                env | grep -cE 'INFINI|NOTIFY|WATCHDOG|LISTEN|CREDENTIALS|INVOCATION|JOURNAL|SECRET'; true";
    let nobody = "nobody\nnobody:nobody:/nonexistent:/usr/sbin/nologin\n";
    let root = "root\nroot:root:/root:/bin/bash\n";
    let more = "0022\n/\n0\n0000000000000000\n1024\n0\n0\n";
    for (number, (name, who)) in [("nobody", nobody), ("System", root)].into_iter().enumerate() {
        let told = format!("{who}{more}");
        let run_as = Some(name.to_owned());
        let line = RawCommand { run_as: run_as.clone(), ..raw(text) };
        let answer = talk.wait(talk.host.exec(&line, SOON)).expect("it is answered");
        assert_eq!(answer.stdout, told, "a command line as {name}: {answer:?}");
        let long = RawCommand { raw_command: format!("{text}\n#{}", "x".repeat(200_000)), ..line };
        let answer = talk.wait(talk.host.exec(&long, SOON)).expect("it is answered");
        assert_eq!(answer.stdout, told, "a long command line as {name}: {answer:?}");
        for shell in [Shell::Sh, Shell::Bash] {
            let id = format!("as-{number}-{shell:?}");
            let pushed = Script { run_as: run_as.clone(), shell, ..script(&id, text) };
            let done = talk.wait(talk.host.script(&pushed, SOON)).expect("it completes");
            assert_eq!(done.stdout, told, "a script as {name}: {done:?}");
        }
    }
}

fn what_is_left_running_is_told_and_stays_where_it_may(vm: &mut Vm, talk: &Talk) {
    let left = "setsid sleep 9874 > /dev/null 2>&1 < /dev/null & sleep 1";
    let ended = talk.exec(left, SOON);
    assert_eq!(ended.stderr, "infiniservice: ended 1 process left behind: sleep\n", "{ended:?}");
    assert_eq!(vm.guest.running("sleep 9874"), 0);
    let env_vars = [("INFINISERVICE_DETACH".to_owned(), "1".to_owned())].into();
    let detached = RawCommand { env_vars, run_as: Some("nobody".to_owned()), ..raw(left) };
    let answer = talk.wait(talk.host.exec(&detached, SOON)).expect("it is answered");
    let scope = answer.stderr.strip_prefix("infiniservice: left 1 process running in ");
    let scope = scope.and_then(|rest| rest.strip_suffix(": sleep\n"));
    let scope = scope.unwrap_or_else(|| panic!("{answer:?}")).to_owned();
    vm.guest.run("systemctl restart infiniservice");
    assert_eq!(vm.guest.running("sleep 9874"), 1, "it outlives the agent");
    vm.guest.run(&format!("systemctl is-active {scope} && systemctl stop {scope}"));
    assert_eq!(vm.guest.running("sleep 9874"), 0);
    // One that root has moved away, into another session and to another parent.
    let away =
        "setsid sh -c 'echo 0 > /sys/fs/cgroup/cgroup.procs; setsid sleep 9875 & exit' & sleep 60";
    let answer = talk.exec(away, Duration::from_secs(3));
    assert_eq!(answer.exit_code, Some(124), "{answer:?}");
    vm.guest.none_runs("sleep 9875", LATE);
}

fn five_in_one_burst_have_one_answer_each_whatever_is_wrong_with_them(vm: &mut Vm, talk: &Talk) {
    let asked = [
        json!({ "action": "SystemInfo" }),
        json!({ "action": "OsInfo" }),
        json!({ "action": "NoSuchThing" }),
        json!({ "action": "ServiceControl", "params": { "service": "ssh", "operation": "explode" } }),
        json!({ "action": 7 }),
    ];
    let id = |number: usize| format!("burst-{number}");
    // No write of the host ends before the next begins: they arrive together.
    talk.wait(async {
        join_all(asked.iter().enumerate().map(|(number, action)| {
            talk.host.send(payload::safe_command(&id(number), action, SOON))
        }))
        .await
    });
    // What is sent after them is answered after them, or at least after all that is refused; a second
    // number a while later would find what came twice.
    let mut answers: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    // A host that has just come may be told once more what was under way, marked as such.
    let is_first = |message: &Message| message.body["redelivered"] != true;
    let collect = async {
        while answers.len() < asked.len() {
            let message = talk.host.next().await.expect("the port stays");
            if let Kind::Response(id) = &message.kind
                && is_first(&message)
            {
                answers.entry(id.clone()).or_default().push((*message.body).clone());
            }
        }
        talk.host.send(payload::keep_alive_request(9, "t")).await.expect("the port stays");
        let mut metrics = 0;
        while metrics < 5 {
            let message = talk.host.next().await.expect("the port stays");
            metrics += u32::from(message.kind == Kind::Metrics);
            if let Kind::Response(id) = &message.kind
                && is_first(&message)
            {
                answers.entry(id.clone()).or_default().push((*message.body).clone());
            }
        }
    };
    talk.wait(async { tokio::time::timeout(LONG, collect).await }).expect("all are answered");
    for number in 0..asked.len() {
        let told = &answers[&id(number)];
        assert_eq!(told.len(), 1, "{number}: {told:?}");
        assert_eq!(told[0]["success"], number < 2, "{told:?}");
        assert_eq!(told[0]["error"].is_string(), number >= 2, "{told:?}");
    }
    let kernel = vm.guest.run("uname -r");
    assert_eq!(answers[&id(0)][0]["data"]["kernel_version"], kernel.trim());
}

fn what_the_host_did_not_sign_is_not_done_and_what_it_did_is_done_once(vm: &mut Vm, talk: &Talk) {
    let payload = payload::unsafe_command("once", &raw("echo x >> /tmp/touched"), SOON);
    let clock = talk.host.status().clock;
    let now = clock.stamp(SystemTime::now());
    let key = SECRET.as_bytes();
    let good = envelope::seal(key, now, "n1", &payload);
    let lines = [
        payload.clone(),
        envelope::seal(b"another key", now, "n2", &payload),
        envelope::seal(key, now - 301_000, "n3", &payload),
        envelope::seal(key, now, "n4", &payload).replace("\"v\":1", "\"v\":2"),
        envelope::seal(key, now, "n5", &payload)[..200].to_owned(),
        "\u{fffd}{".to_owned(),
        good.clone(),
        good,
    ];
    talk.wait(async {
        for line in lines {
            talk.host.send_unsigned(line).await.expect("the port stays");
        }
    });
    vm.guest.until("test -s /tmp/touched", SOON);
    assert!(talk.ask("SystemInfo", &[], SOON).success);
    assert_eq!(vm.guest.run("cat /tmp/touched"), "x\n");
    let log = vm.guest.run("journalctl -b -o cat -u infiniservice");
    assert!(!log.contains("touched") && !log.contains(SECRET), "{log}");
}

fn quick_ones_come_through_behind_slow_ones_and_time_is_up_for_whole_trees(
    vm: &mut Vm,
    talk: &Talk,
) {
    // One that leaves its session, one that holds on to the pipe, one that busies a processor.
    let tree = raw("setsid sleep 9871 & sleep 9871 & while :; do :; done");
    let limit = Duration::from_secs(6);
    let begun = Instant::now();
    let slow = async {
        let answers = join_all((0..4).map(|_| talk.host.exec(&tree, limit))).await;
        (answers, begun.elapsed())
    };
    let beside = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (mut slowest_command, mut slowest_echo) = (Duration::ZERO, Duration::ZERO);
        let info = json!({ "action": "SystemInfo" });
        for number in 0..5 {
            let asked = Instant::now();
            let answer = talk.host.command(&info, SOON).await.expect("it is answered");
            slowest_command = slowest_command.max(asked.elapsed());
            assert!(answer.success);
            // What came before, in all the steps of this machine, is not what the echo waits behind.
            while let Ok(Ok(_)) = tokio::time::timeout(Duration::ZERO, talk.host.next()).await {}
            let asked = Instant::now();
            talk.host.send(payload::keep_alive_request(number, "t")).await.expect("the port stays");
            let mut metrics = 0;
            while !matches!(talk.host.next().await.expect("the port stays").kind, Kind::KeepAlive(n) if n == number)
            {
                metrics += 1;
            }
            slowest_echo = slowest_echo.max(asked.elapsed());
            assert!(metrics < 100, "the echo does not wait for the readings");
        }
        (slowest_command, slowest_echo)
    };
    let ((answers, took), (command, echo)) = talk.wait(async { tokio::join!(slow, beside) });
    lab::say(&format!(
        "behind four slow ones: SystemInfo within {command:.0?}, keep_alive within {echo:.0?}"
    ));
    assert!(command < QUICK && echo < QUICK);
    for answer in answers {
        let answer = answer.expect("each is answered");
        assert_eq!((answer.success, answer.exit_code), (false, Some(124)), "{answer:?}");
    }
    assert!(took < limit + LATE, "answered after {took:?}");
    // The answer leaves in time also where the last of a tree is still ending.
    vm.guest.none_runs("sleep 9871", LATE);
}

fn a_fork_bomb_ends_at_its_deadline_and_the_machine_goes_on(vm: &mut Vm, talk: &Talk) {
    let bomb = raw("bomb() { bomb | bomb & }; bomb; sleep 9872");
    let limit = Duration::from_secs(5);
    let begun = Instant::now();
    let beside = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let begun = Instant::now();
        let answer = talk.host.command(&json!({ "action": "SystemInfo" }), SOON).await;
        (answer.is_ok_and(|answer| answer.success), begun.elapsed())
    };
    let (answer, (went_on, beside)) = talk.wait(async {
        tokio::join!(
            talk.host.answer(payload::unsafe_command("bomb", &bomb, limit), "bomb", LONG),
            beside
        )
    });
    let took = begun.elapsed();
    let answer = answer.expect("it is answered");
    assert_eq!((answer.success, answer.exit_code), (false, Some(124)), "{answer:?}");
    lab::say(&format!(
        "a fork bomb of 5 s: answered after {took:.1?}, a command beside it {beside:.1?}"
    ));
    assert!(took < limit + LATE, "answered after {took:?}");
    assert!(went_on);
    // The answer leaves a little before the deadline, and the last of the bomb may still be ending.
    vm.guest.until("! ls /sys/fs/cgroup/infiniservice.slice | grep -q infiniservice-run", SOON);
    assert_eq!(vm.guest.running("sleep 9872"), 0);
    assert!(talk.exec("echo again", SOON).success);
}

fn each_script_runs_once_over_an_orderly_end_and_over_a_kill(vm: &mut Vm, talk: &Talk) {
    // To the host both restarts are the same connection.
    let quick = script("e-quick", "echo quick >> /tmp/ran; echo said; exit 3");
    let done = talk.wait(talk.host.script(&quick, SOON)).expect("it completes");
    assert_eq!((done.exit_code, done.stdout.as_str()), (3, "said\n"));
    vm.guest.run("systemctl restart infiniservice");

    let again = talk.wait(talk.host.script(&quick, SOON)).expect("told again");
    assert_eq!(again.exit_code, 3);
    let slow = script(
        "e-slow",
        "echo slow >> /tmp/ran; until test -e /tmp/go; do sleep 0.2; done; echo went on; exit 7",
    );
    let pushed = payload::pending_scripts(std::slice::from_ref(&slow), "t");
    talk.wait(talk.host.send(pushed)).expect("the port stays");
    vm.guest.until("grep -q slow /tmp/ran", SOON);
    // Asked for at the start of the next agent, as pending ones are.
    talk.wait(talk.host.pending(vec![quick, slow])).expect("the port stays");
    // The unit starts it again; the script goes on meanwhile, and ends when the next agent is there.
    vm.guest.run("kill -KILL $(systemctl show -P MainPID infiniservice)");
    vm.guest.until("systemctl is-active infiniservice", LONG);
    vm.guest.run("touch /tmp/go");
    let mut completed = BTreeMap::new();
    let completions = async {
        while completed.len() < 2 {
            let message = talk.host.next().await.expect("the port stays");
            if let Some(done) = message.script_completion() {
                completed.insert(done.execution_id, (done.exit_code, done.stdout));
            }
        }
    };
    talk.wait(async { tokio::time::timeout(LONG, completions).await }).expect("both are told");
    // What it wrote was with the first agent.
    assert_eq!(completed["e-quick"].0, 3);
    assert_eq!(completed["e-slow"], (7, "went on\n".to_owned()));
    assert_eq!(vm.guest.run("cat /tmp/ran"), "quick\nslow\n");
}

fn answers_stay_below_what_the_host_takes_and_say_what_was_left_out(vm: &mut Vm, talk: &Talk) {
    vm.guest.run(
        "mkdir -p /var/lib/dpkg && awk 'BEGIN { for (i = 0; i < 9000; i++) printf \
         \"Package: package-number-%d\\nStatus: install ok installed\\nVersion: 1.%d\\nArchitecture: all\\n\
         Description: one of many packages, with words that take some room in a list\\n\\n\", i, i }' \
         > /var/lib/dpkg/status",
    );
    let list = talk.ask("PackageList", &[], LONG);
    assert!(list.success, "{:?}", list.error);
    let told = list.data["packages"].as_array().map_or(0, Vec::len);
    let bytes = list.data.to_string().len();
    assert!(bytes <= 500 << 10, "{bytes} bytes of data");
    assert!((1_000..9_000).contains(&told), "{told} packages");
    assert_eq!(list.data["truncated"], 9_000 - told, "it says how many were left out");
    let spoken = talk.exec("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end", LONG);
    assert!(spoken.success && spoken.stdout.len() <= 300 << 10, "{}", spoken.stdout.len());
    assert!(spoken.stdout.ends_with("end\n") && spoken.stdout.starts_with("xxx"));
}

fn script(id: &str, content: &str) -> Script {
    Script {
        execution_id: id.to_owned(),
        script_id: "s".to_owned(),
        script_name: "test".to_owned(),
        script_content: format!("{content}\n"),
        shell: Shell::Sh,
        execution_type: "ON_DEMAND".to_owned(),
        input_values: BTreeMap::new(),
        timeout_seconds: 60,
        run_as: None,
    }
}
