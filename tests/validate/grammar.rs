//! What a right file means, to the last value.

use std::time::Duration;

use infiniservice::internals::config::{
    Batch, ChangesOptions, Collect, Count, Delivery, Destination, Enrich, FileOptions,
    IdentityOptions, Period, PipelineFile, ProcessesOptions, RatesOptions, Read, SelectOptions,
    Serialize, Size, TagsOptions, Target, TopOptions, Write,
};
use infiniservice::metrics::collect::{NetworkOptions, NoOptions};
use infiniservice::model::{Group, Rank};
use infiniservice::sinks::UnixOptions;
use infiniservice::wire::Format;

use super::rig::{SECRET, all, around, folder};

/// Everything the grammar has.
pub const EVERYTHING: &str = include_str!("everything.toml");

#[test]
fn a_file_can_express_what_code_can() {
    let period = |millis| Period::new(Duration::from_millis(millis)).unwrap();
    let size = |bytes| Size::new(bytes).unwrap();
    let count = |number| Count::new(number).unwrap();
    let network = NetworkOptions { exclude: vec!["lo".into(), "lab-1".into()] };
    let processes =
        ProcessesOptions { keep: count(50), by: Rank::Memory, ..ProcessesOptions::default() };
    let file =
        FileOptions { path: "/var/log/m.jsonl".into(), max_size: size(1 << 20), keep: count(3) };
    let write = |target, keep| Write {
        target,
        format: None,
        keep: count(keep),
        delivery: Delivery::Latest,
    };
    let expected = PipelineFile {
        about: Some("Everything: ${SITE}".to_owned()),
        collect: vec![
            Collect {
                every: period(1_000),
                from: vec![Read::Cpu(NoOptions {}), Read::Memory(NoOptions {})],
            },
            Collect {
                every: period(90_000),
                from: vec![
                    Read::Network(network),
                    Read::Processes(processes),
                    Read::Disk(Default::default()),
                    Read::Host(NoOptions {}),
                ],
            },
        ],
        generate: None,
        enrich: vec![
            Enrich::Identity(IdentityOptions { vm_id: Some("vm-lab-1".into()) }),
            Enrich::Tags(TagsOptions([("${SITE}".to_owned(), "lab-1".to_owned())].into())),
            Enrich::Rates(RatesOptions {}),
            Enrich::Top(TopOptions { processes: count(5), by: Rank::Cpu }),
            Enrich::Select(SelectOptions::Drop(vec![Group::Host])),
            Enrich::Changes(ChangesOptions { full_every: count(10) }),
        ],
        batch: Batch { max_items: count(8), max_bytes: size(16 << 20), max_delay: period(500) },
        serialize: Serialize { format: Format::Influx },
        write: vec![
            write(Target::Port("unix:/run/p".into()), 64),
            write(Destination::File(file).into(), 7),
            write(Destination::Unix(UnixOptions("/run/m.sock".into())).into(), 64),
            write(Destination::Stdout(Default::default()).into(), 64),
            write(Destination::Null(Default::default()).into(), 64),
        ],
    };
    let folder = folder(&[("f.toml", EVERYTHING)]);
    assert_eq!(all(&folder.path().join("f.toml")).unwrap().pipelines[0].file, expected);
}

#[test]
fn the_value_of_a_variable_never_becomes_part_of_the_file() {
    let text = around("[[enrich]]\ntags = { \"${SECRET}\" = \"a${SECRET}\" }")
        + "\n[serialize]\nformat = \"pretty\" # ${GONE}\n";
    let folder = folder(&[("f.toml", &text)]);
    let file = &all(&folder.path().join("f.toml")).unwrap().pipelines[0].file;
    let tags = [("${SECRET}".to_owned(), format!("a{SECRET}"))].into();
    assert_eq!(file.enrich, [Enrich::Tags(TagsOptions(tags))]);
    assert_eq!(file.write.len(), 1);
}
