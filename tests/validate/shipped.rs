//! The files that come with the program.

use std::path::{Path, PathBuf};

use infiniservice::internals::cli::validate::{ReportOptions, report};
use infiniservice::internals::config::{
    AgentSettings, BUILT_IN, Commands, Enforce, load, load_file,
};

use super::rig::{all, env, folder};

#[test]
fn the_shipped_files_load_from_the_program_and_from_their_folder() {
    let loaded = all(Path::new("pipelines")).unwrap();
    assert_eq!(loaded.agent, AgentSettings::default());
    let commands = loaded.commands.as_ref().unwrap();
    assert_eq!(
        commands.to_string(),
        "port org.infinibay.agent, 5 at once, 64 waiting, 1 rule allows, 0 deny"
    );
    assert_eq!(
        loaded.pipelines[0].to_string(),
        "metrics: 1 cadence, 7 groups → infinibay → port org.infinibay.agent"
    );
    let bench = &loaded.skipped[0];
    assert_eq!(bench.to_string(), "bench: generated, 7 groups → infinibay → null");

    let names = BUILT_IN.map(|(name, _)| PathBuf::from(format!("built-in:{name}")));
    let built_in = load(&names, &|_| None).unwrap();
    assert_eq!(built_in.pipelines[0].file, bench.file);
    assert_eq!(built_in.commands.unwrap().file, commands.file);
    let defaults = parsed("[receive]\n").file;
    assert_eq!(commands.file.receive(), defaults.receive());
    assert_eq!(commands.file.execute, defaults.execute);
    assert_eq!((&commands.file.reply, &commands.file.audit), (&defaults.reply, &defaults.audit));
    assert_eq!(defaults.enforce, Enforce::default());
    assert_eq!(built_in.pipelines[1].file, loaded.pipelines[0].file);
    assert_eq!(built_in.pipelines[1].origin, "built-in:metrics.toml");
    assert_eq!(load_file(Path::new("built-in:bench.toml"), &env).unwrap().file, bench.file);
    assert!(load_file(Path::new("built-in:agent.toml"), &env).is_err());
    assert!(load_file(Path::new("built-in:commands.toml"), &env).is_err());
}

#[test]
fn the_settings_alone_are_reported_with_their_memory() {
    let (mut right, mut wrong) = (Vec::new(), Vec::new());
    let how = ReportOptions { verbose: true, ..ReportOptions::default() };
    report(&["built-in:agent.toml".into()], how, &env, &mut right, &mut wrong);
    let told = String::from_utf8(right).unwrap();
    assert!(told.contains("\nmemory: at most 16.0 MiB queued, the ceiling; "), "{told}");
}

#[test]
fn without_its_secret_the_shipped_flow_loads_and_is_locked() {
    let told = |secret: Option<&str>| {
        let env =
            |name: &str| secret.filter(|_| name == "INFINISERVICE_SHARED_SECRET").map(Into::into);
        let (mut right, mut wrong) = (Vec::new(), Vec::new());
        let how = ReportOptions { verbose: true, ..ReportOptions::default() };
        report(&["built-in:commands.toml".into()], how, &env, &mut right, &mut wrong);
        assert_eq!(String::from_utf8(wrong).unwrap(), "");
        let told = String::from_utf8(right).unwrap();
        let (flow, memory) = told.split_once("memory: ").unwrap();
        assert!(memory.starts_with("at most ") && memory.contains(" queued: "), "{memory}");
        flow.to_owned()
    };
    let flow = "built-in:commands.toml: ok (commands: port org.infinibay.agent, 5 at once, 64 waiting, \
                1 rule allows, 0 deny; ";
    let locked = format!("{flow}locked: the variable INFINISERVICE_SHARED_SECRET is not set)\n");
    assert_eq!(told(None), locked);
    assert_eq!(told(Some("")), locked);
    let open = format!("{flow}secret from variable INFINISERVICE_SHARED_SECRET)\n");
    assert_eq!(told(Some("hunter2")), open);

    let lock = |text: &str| parsed(&format!("[receive]\n{text}")).file.lock(&env);
    assert_eq!(lock(""), "locked: no secret is named");
    assert_eq!(lock("[verify]\nsecret = \"file:/etc/s\""), "secret from file /etc/s");
    assert_eq!(lock("[verify]\nsecret = \"credential:s\""), "secret from credential s");
}

/// The command flow of a file with this text.
fn parsed(text: &str) -> Commands {
    let folder = folder(&[("f.toml", text)]);
    all(&folder.path().join("f.toml")).unwrap().commands.unwrap()
}

#[test]
fn a_machine_s_name_comes_from_the_environment_where_it_is_there() {
    let named = |name: &str| (name == "INFINIBAY_VM_ID").then(|| "vm-7".to_owned());
    let loaded = load(&["built-in:agent.toml".into()], &named).unwrap();
    assert_eq!(loaded.agent.identity.vm_id.as_deref(), Some("vm-7"));
}
