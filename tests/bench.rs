//! `bench` as a person runs it: what it measures, and that what a file names is left alone.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const SINKS: [&[&str]; 5] =
    [&[], &["--sink", "null"], &["--sink", "file"], &["--sink", "unix"], &["--sink", "port"]];

/// A folder with a pipeline that writes to `write`, the agent's settings, and a place for temporary files.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tmp")).unwrap();
        std::fs::create_dir(folder.path().join("files")).unwrap();
        let state = folder.path().join("state");
        let agent = format!("[state]\nfolder = {:?}\n", state.display().to_string());
        std::fs::write(folder.path().join("files/agent.toml"), agent).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn bench(&self, write: &str, arguments: &[&str]) -> Output {
        let pipeline = format!(
            "[[collect]]\nevery = \"1s\"\nfrom = [\"cpu\", \"memory\"]\n[batch]\nmax_items = 4\nmax_delay = \"1s\"\n\
             [serialize]\nformat = \"json-lines\"\n[[write]]\n{write}\n"
        );
        std::fs::write(self.path("files/lab.toml"), pipeline).unwrap();
        Command::new(env!("CARGO_BIN_EXE_infiniservice"))
            .args(["bench", "--for", "100ms", "--json"])
            .arg(self.path("files"))
            .args(arguments)
            .env("TMPDIR", self.path("tmp"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.path(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// The report: one line, and nothing else on standard output.
fn report(output: &Output) -> Value {
    let err = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{err}"));
    assert_eq!((output.status.code(), &report["complete"]), (Some(0), &true.into()), "{err}");
    assert!(report["delivered"].as_u64().unwrap() > 0, "{report}");
    report
}

fn text(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

#[test]
fn nothing_that_the_file_names_is_written_whatever_stands_in_for_it() {
    let place = Place::new();
    let data = place.path("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("real.log"), "precious\n").unwrap();
    let (unix, port) = (place.path("real.sock"), place.path("port.sock"));
    let listeners = [&unix, &port].map(|path| UnixListener::bind(path).unwrap());
    let writes = [
        format!(
            "file = {{ path = {}, max_size = \"10B\", keep = 1 }}",
            text(&data.join("real.log"))
        ),
        format!("unix = {}", text(&unix)),
        format!("port = {}", text(Path::new(&format!("unix:{}", port.display())))),
        "stdout = true".to_owned(),
    ];
    for write in &writes {
        for sink in SINKS {
            report(&place.bench(write, sink));
            assert_eq!(std::fs::read_to_string(data.join("real.log")).unwrap(), "precious\n");
            assert_eq!(place.names("data"), ["real.log"], "{write} {sink:?}: nothing was rotated");
            assert_eq!(place.names("tmp"), [""; 0], "{write} {sink:?}: nothing is left behind");
            assert!(!place.path("state").exists(), "{write} {sink:?}: no state");
        }
    }
    for listener in listeners {
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "nobody has connected");
    }
}

#[test]
fn the_real_output_is_written_where_that_is_asked_for_and_said() {
    let place = Place::new();
    let real = place.path("real.log");
    let output = place.bench(&format!("file = {{ path = {} }}", text(&real)), &["--real-outputs"]);
    let made = report(&output)["made"].as_u64().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains(&format!("made-up readings to file {}", real.display())), "{err}");
    let lines = std::fs::read_to_string(&real).unwrap().lines().count();
    assert_eq!(lines as u64, made);
    let both = place.bench("null = true", &["--real-outputs", "--sink", "null"]);
    assert_eq!(both.status.code(), Some(78), "one or the other");
}

#[test]
fn two_files_or_two_outputs_are_compared() {
    let place = Place::new();
    for arguments in [&["built-in:bench.toml"][..], &["--sink", "null", "--sink", "unix"]] {
        let output = place.bench("null = true", arguments);
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{err}");
        let both: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (&both["first"]["complete"], &both["second"]["complete"]),
            (&true.into(), &true.into())
        );
        let speed = &both["ratios"][0];
        let figure = |name: &str| speed[name].as_f64().unwrap();
        assert!((figure("ratio") - figure("second") / figure("first")).abs() < 1e-9, "{speed}");
    }
    let three = place.bench("null = true", &["--sink", "null", "--sink", "null", "--sink", "null"]);
    assert_eq!(three.status.code(), Some(78));
}

#[test]
fn two_settings_of_one_file_are_compared_and_one_is_measured() {
    let place = Place::new();
    let run = |arguments: &[&str]| {
        let output = place.bench("null = true", arguments);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{err}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let bytes = |report: &Value| {
        let number = |name: &str| report[name].as_f64().unwrap();
        number("delivered_bytes") / number("delivered")
    };
    let format = |format| ["--set", format];
    let [lines, influx] = [
        format("serialize.format=json-lines"),
        format("serialize.format=influx; runtime.flavour=multi_thread"),
    ];
    let both = run(&[lines, influx].concat());
    let (first, second) = (bytes(&both["first"]), bytes(&both["second"]));
    assert!(first != second, "{both}");
    assert!((bytes(&run(&influx)) - second).abs() < 5.0, "one setting is measured by itself");

    for (wrong, what) in [
        ("batch.max_itms=1", "unknown key"),
        ("batch.max_items=0", "max_items"),
        ("batch", "no KEY=VALUE"),
        ("runtime.threds=1", "unknown key"),
    ] {
        let refused = place.bench("null = true", &format(wrong));
        let err = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(78) && err.contains(what), "{wrong}: {err}");
    }
    let three = [format("batch.max_items=1"); 3].concat();
    assert_eq!(place.bench("null = true", &three).status.code(), Some(78));
}

#[test]
fn one_output_stands_for_all_of_a_file_with_several() {
    let place = Place::new();
    let real = place.path("real.log");
    let two = format!("stdout = true\n[[write]]\nfile = {{ path = {} }}", text(&real));
    for sink in SINKS {
        let output = place.bench(&two, sink);
        report(&output);
        assert!(!real.exists(), "{sink:?}");
    }
    let refused = place.bench(&two, &["--real-outputs"]);
    let err = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(78) && err.contains("one real output"), "{err}");
}

#[test]
fn records_are_measured_with_the_lines_of_a_file_and_beside_plain_loops() {
    let place = Place::new();
    let (input, logs) = (place.path("app.ndjson"), place.path("logs.toml"));
    let lines = "{\"level\":\"info\",\"n\":1}\n{\"level\":\"warn\",\"n\":2}\nno record\n";
    std::fs::write(&input, lines).unwrap();
    let pipeline = "[[read]]\nlines = { stdin = true }\n[[transform]]\nfilter = { field = \"level\", equals = \"warn\" }\n\
         [[transform]]\ntags = { site = \"lab-1\" }\n[write]\nnull = true\n";
    std::fs::write(&logs, pipeline).unwrap();
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_infiniservice"))
            .args(["bench", "--for", "100ms", "--json"])
            .args(arguments)
            .env("TMPDIR", place.path("tmp"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let (logs, input) = (logs.to_str().unwrap(), input.to_str().unwrap());
    let read = report(&run(&[logs, "--input", input, "--sink", "file", "--against"]));
    let number = |name: &str| read[name].as_u64().unwrap();
    assert!(number("made").abs_diff(3 * number("delivered")) < 3, "{read}");
    let loops = read["against"].as_array().unwrap();
    assert!(loops.len() == 3 && loops.iter().all(|one| one["pipeline_to_it"].as_f64() > Some(0.0)));
    let made_up = report(&run(&[logs]));
    assert!(made_up["delivered"].as_u64() < made_up["made"].as_u64(), "{made_up}");
    assert_eq!(place.names("tmp"), [""; 0]);
    let refused = run(&["built-in:bench.toml", "--against"]);
    assert_eq!(refused.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("[[read]]"));
}

#[test]
fn latency_is_drawn_against_load() {
    let place = Place::new();
    let svg = place.path("curve.svg");
    let output = place.bench("null = true", &["--plot", svg.to_str().unwrap()]);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{err}");
    let curve: Value = serde_json::from_slice(&output.stdout).unwrap();
    let knee = curve["knee_per_second"].as_f64().unwrap();
    let points = curve["points"].as_array().unwrap();
    assert_eq!(points.len(), 9);
    for point in points {
        let (percent, point) = (point[0].as_f64().unwrap(), &point[1]);
        let offered = point["offered_per_second"].as_f64().unwrap();
        assert!((offered - knee * percent / 100.0).abs() < 1.0, "{point}");
        let written = point["per_second"].as_f64().unwrap();
        assert!(written > 0.0 && written < 1.05 * offered, "never more than is offered: {point}");
    }
    let picture = std::fs::read_to_string(svg).unwrap();
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
    assert_eq!(picture.matches("<circle ").count(), 3 * 9);
    let refused = place.bench("null = true", &["--plot", "/nowhere/curve.svg"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("/nowhere/curve.svg"));
}

#[test]
fn pipelines_threads_and_batches_are_measured_by_one_command() {
    let place = Place::new();
    let output = place.bench("null = true", &["--scale", "--sink", "unix"]);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{err}");
    let scaling: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = scaling["pipelines"].as_array().unwrap();
    let pipelines: Vec<_> = rows.iter().map(|row| row["pipelines"].as_u64().unwrap()).collect();
    assert_eq!(pipelines, [1, 2, 4, 8, 16, 32, 64]);
    let threads = rows[0]["threads"].as_array().unwrap();
    assert_eq!(threads[0][0], 1);
    let all = std::thread::available_parallelism().unwrap().get() as u64;
    assert_eq!(threads.last().unwrap()[0], all);
    let batches = scaling["batches"].as_array().unwrap();
    let sizes: Vec<_> = batches.iter().map(|batch| batch[0].as_u64().unwrap()).collect();
    assert_eq!(sizes, [1, 4, 16, 64, 256, 1024, 4096]);
    let points = rows.iter().flat_map(|row| row["threads"].as_array().unwrap()).chain(batches);
    for point in points {
        assert!(point[1]["per_second"].as_f64() > Some(0.0), "{point}");
        assert_eq!(point[1]["complete"], true, "{point}");
    }
}
