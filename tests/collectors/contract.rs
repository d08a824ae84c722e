//! What holds of every collector: the group it fills, and its options as words of a file.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use infiniservice::metrics::collect::*;
use infiniservice::model::{Group, Rank, SystemMetrics};
use infiniservice::pipeline::StatsRegistry;
use tokio::time::Instant;

#[test]
fn each_collector_of_the_registry_fills_the_group_it_names_and_no_other() {
    let stats = StatsRegistry::default();
    let surroundings = CollectorContext { stats: &stats };
    let collector = |group: &Group| {
        let file = format!("[from]\n{} = {{}}", group.name());
        let mut file: BTreeMap<String, Read> = toml::from_str(&file).unwrap();
        let read = file.remove("from").unwrap();
        assert_eq!(read.group(), *group);
        read.build(&surroundings)
    };
    let mut collectors: Vec<_> = GROUPS.iter().map(collector).collect();
    let groups: Vec<_> = collectors.iter().map(|collector| collector.group()).collect();
    assert_eq!(groups, GROUPS);
    let start = Instant::now();
    for second in 0..2 {
        for collector in &mut collectors {
            let now = start + Duration::from_secs(second);
            let mut metrics =
                SystemMetrics::empty(SystemTime::now(), now, Duration::from_secs(1), 0);
            collector.read(now, &mut metrics);
            let filled = metrics.groups();
            assert!(filled.iter().all(|group| *group == collector.group()), "{filled:?}");
            let needs_psi =
                collector.group() == Group::Pressure && !Path::new("/proc/pressure").exists();
            if second == 1 && collector.group() != Group::Cpu && !needs_psi {
                assert!(metrics.has(collector.group()), "{:?}", collector.group());
            }
        }
    }
}

#[test]
fn options_are_words_of_a_file_and_unknown_ones_are_refused() {
    let options: ProcessesOptions = toml::from_str("keep = 50\nby = \"memory\"").unwrap();
    assert_eq!(
        options,
        ProcessesOptions { keep: 50, by: Rank::Memory, ..ProcessesOptions::default() }
    );
    assert_eq!(
        toml::from_str::<ProcessesOptions>("").unwrap(),
        ProcessesOptions { keep: 20, by: Rank::Cpu, command_line: CommandLine::Redacted }
    );
    assert!(toml::from_str::<ProcessesOptions>("by = \"Cpu\"").is_err());
    assert!(toml::from_str::<ProcessesOptions>("kept = 5").is_err());
    let options: NetworkOptions = toml::from_str("exclude = [\"lo\", \"veth*\"]").unwrap();
    assert_eq!(options.exclude, ["lo", "veth*"]);
    assert!(toml::from_str::<NetworkOptions>("only = []").is_err());
    assert_eq!(toml::from_str::<DiskOptions>("").unwrap(), DiskOptions::default());
    assert!(toml::from_str::<DiskOptions>("mounts = []").is_err());
}
