//! What a child uses, as the kernel tells it in `/proc`. Waits for nothing and judges nothing.

use std::fs;
use std::path::PathBuf;

use super::Running;

impl Running {
    /// The first number of the line of `/proc/PID/status` that begins with `key`; KiB where it is a size.
    pub fn status(&self, key: &str) -> u64 {
        let status = fs::read_to_string(self.file("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_ascii_whitespace().next().unwrap().parse().unwrap()
    }

    /// Processor time of all threads, ended ones too, in ticks of 10 ms (`proc_pid_stat(5)`).
    pub fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(self.file("stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_ascii_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// How many descriptors are open, but for those that the agent keeps of the processes of this machine: they are as many
    /// as others run.
    pub fn descriptors(&self) -> u64 {
        let open = fs::read_dir(self.file("fd")).unwrap().map(|entry| entry.unwrap().path());
        let is_of_a_process = |path: &PathBuf| {
            fs::read_link(path)
                .is_ok_and(|file| file.starts_with("/proc") && file.ends_with("stat"))
        };
        open.filter(|path| !is_of_a_process(path)).count() as u64
    }

    /// The peak counts from now (`proc_pid_clear_refs(5)`).
    pub fn forget_peak(&self) {
        fs::write(self.file("clear_refs"), "5").unwrap();
    }

    fn file(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.0.id())
    }
}
