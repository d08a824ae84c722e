//! Runs each program of `examples/`, as part of this test and not as a process: each asserts what it shows.

use std::collections::BTreeSet;
use std::path::Path;

#[path = "../examples/back_pressure.rs"]
mod back_pressure;
#[path = "../examples/broadcast.rs"]
mod broadcast;
#[path = "../examples/collector.rs"]
mod collector;
#[path = "../examples/enricher.rs"]
mod enricher;
#[path = "../examples/handler.rs"]
mod handler;
#[path = "../examples/host.rs"]
mod host;
#[path = "../examples/pipeline.rs"]
mod pipeline;
#[path = "../examples/readings.rs"]
mod readings;
#[path = "../examples/restart.rs"]
mod restart;
#[path = "../examples/sink.rs"]
mod sink;

macro_rules! runs {
    ($($name:ident)*) => {
        const TRIED: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                $name::main();
            }
        )*
    };
}
runs!(back_pressure broadcast collector enricher handler pipeline readings restart sink);

#[test]
fn host() {
    host::main().unwrap();
}

#[test]
fn every_example_is_run_is_short_and_is_in_the_list_of_the_documents() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = std::fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let mut found = BTreeSet::new();
    for file in std::fs::read_dir(root.join("examples")).unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines < 60, "{} has {lines} lines", file.display());
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(
            list.contains(&format!("| `{name}` |")),
            "docs/architecture.md does not list {name}"
        );
        found.insert(name);
    }
    let tried: BTreeSet<String> = TRIED.iter().chain(&["host"]).map(ToString::to_string).collect();
    assert_eq!(found, tried);
}
