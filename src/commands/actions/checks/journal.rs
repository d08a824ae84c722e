//! Errors in the system's log in the last day: how many, and whose. Hands out no message, because a message
//! can hold anything.

use std::collections::BTreeMap;
use std::io;

use rustix::fs::{Mode, OFlags};
use serde_json::json;

use super::super::ActionError;
use super::super::{Context, blocking, find_program, program};
use super::{Check, Status};
use crate::commands::process::Exit;
use crate::sort;

const NAME: &str = "event_log_errors";
/// Above this many errors a day the check warns.
const WARNING: usize = 50;
/// The most entries that are counted.
const ENTRIES_MAX: usize = 1_000;
/// The most records of the kernel's log that are read; the largest buffers hold fewer.
const RECORDS_MAX: usize = 1_000_000;
/// `/proc/sys/kernel/printk`: 0 emergency … 3 error.
const ERROR: u32 = 3;

/// `event_log_errors`: a warning where more than 50 entries of the last 24 hours are errors or worse. Asks
/// `journalctl`, and where there is no journal, the kernel's own buffer.
pub(super) async fn check(cx: &Context) -> Check {
    let mut why = String::new();
    if find_program("journalctl").is_some() {
        match ask_journal(cx).await {
            Ok(Some(sources)) => return judged(&sources, "the journal, last 24 hours"),
            Ok(None) => {}
            Err(error) => why = error.to_string(),
        }
    }
    match blocking(cx.deadline, "reading /dev/kmsg", kernel_errors).await {
        Ok(Ok(sources)) => judged(&sources, "the kernel's log since boot"),
        Ok(Err(error)) => {
            let why = if why.is_empty() { String::new() } else { format!("; {why}") };
            Check::unavailable(
                NAME,
                format!("there is no journal, and /dev/kmsg cannot be read: {error}{why}"),
            )
        }
        Err(error) => Check::broken(NAME, error),
    }
}

/// Entries by who wrote them; `None` where there is no journal.
async fn ask_journal(cx: &Context) -> Result<Option<BTreeMap<String, usize>>, ActionError> {
    let most = ENTRIES_MAX.to_string();
    let arguments = [
        "--priority=err",
        "--since=-24h",
        "--lines",
        &most,
        "--output=json",
        "--output-fields=SYSLOG_IDENTIFIER,_COMM",
        "--no-pager",
        "--quiet",
    ];
    // Without entries it still says whether there is a journal at all.
    let header = cx
        .runner
        .run(program("journalctl", &["--list-boots", "--quiet", "--no-pager"], cx.deadline))
        .await?;
    if header.exit != Exit::Code(0) || header.stdout.text.trim().is_empty() {
        return Ok(None);
    }
    let finished = cx.runner.run(program("journalctl", &arguments, cx.deadline)).await?;
    match finished.exit {
        Exit::Code(0) => Ok(Some(parse_journal(&finished.stdout.text))),
        _ => {
            let said = finished.stderr.text.lines().next().unwrap_or("did not finish");
            Err(ActionError::Program("journalctl", said.to_owned()))
        }
    }
}

fn judged(sources: &BTreeMap<String, usize>, place: &str) -> Check {
    let count: usize = sources.values().sum();
    let mut most: Vec<_> = sources.iter().collect();
    sort::by(&mut most, |a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let sources: Vec<_> = most
        .iter()
        .take(10)
        .map(|(name, count)| json!({ "source": name, "errors": count }))
        .collect();
    let mut message = format!("{count} errors in {place}");
    if count >= ENTRIES_MAX {
        message = format!("at least {message}");
    }
    if let Some((name, count)) = most.first() {
        message = format!("{message}, {count} of them from {name}");
    }
    let status = if count > WARNING { Status::Warning } else { Status::Passed };
    Check::new(NAME, status, message, json!({ "errors": count, "in": place, "sources": sources }))
}

/// One JSON object a line; a field that is no text is an array of bytes, or null when it is long.
fn parse_journal(text: &str) -> BTreeMap<String, usize> {
    let mut sources = BTreeMap::new();
    for line in text.lines() {
        // What is cut in the middle of a long answer is no object.
        let Ok(entry) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let name =
            ["SYSLOG_IDENTIFIER", "_COMM"].iter().find_map(|field| entry.get(field)?.as_str());
        count(&mut sources, name.unwrap_or("unknown"));
    }
    sources
}

/// Errors in the kernel's log by who wrote them.
fn kernel_errors() -> io::Result<BTreeMap<String, usize>> {
    let (mut sources, mut errors) = (BTreeMap::new(), 0);
    read_kmsg(|record| {
        if let Some(source) = parse_kmsg(record).filter(|_| errors < ENTRIES_MAX) {
            count(&mut sources, &source);
            errors += 1;
        }
    })?;
    Ok(sources)
}

/// Reads what the kernel still has of its log, oldest first, one record a call of `each`.
pub(super) fn read_kmsg(mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let log = rustix::fs::open("/dev/kmsg", flags, Mode::empty())?;
    let mut record = [0_u8; 8192];
    for _ in 0..RECORDS_MAX {
        match rustix::io::read(&log, &mut record[..]) {
            Ok(0) | Err(rustix::io::Errno::AGAIN) => break, // the end, so far
            Ok(length) => record.get(..length).into_iter().for_each(&mut each),
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::INTR) => {} // overwritten while being read
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// `priority,sequence,microseconds,flags;text` (`Documentation/ABI/testing/dev-kmsg`): who wrote it,
/// where it is an error. The lowest three bits of the priority are its level, the others the facility:
/// 0 is the kernel.
fn parse_kmsg(record: &[u8]) -> Option<String> {
    let record = String::from_utf8_lossy(record);
    let (head, text) = record.split_once(';')?;
    let priority: u32 = head.split(',').next()?.parse().ok()?;
    if priority & 7 > ERROR {
        return None;
    }
    if priority >> 3 == 0 {
        return Some("kernel".to_owned());
    }
    let name: String = text
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c))
        .take(64)
        .collect();
    Some(if name.is_empty() { "unknown".to_owned() } else { name })
}

pub(super) fn count(sources: &mut BTreeMap<String, usize>, name: &str) {
    let mut name = name.replace('\0', "");
    name.truncate(name.floor_char_boundary(64));
    *sources.entry(name).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::super::super::test_context;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entries_are_counted_by_who_wrote_them_and_no_message_is_kept() {
        let text = "{\"SYSLOG_IDENTIFIER\":\"sshd\",\"MESSAGE\":\"secret\"}\n{\"_COMM\":\"cron\"}\n{\"SYSLOG_IDENTIFIER\":\"sshd\"}\n[... cut ...]\n{\"SYSLOG_IDENTIFIER\":null}\n";
        let check = judged(&parse_journal(text), "the journal");
        assert_eq!(check.details["errors"], 4);
        assert_eq!(check.details["sources"][0], json!({ "source": "sshd", "errors": 2 }));
        assert!(check.status == Status::Passed && !format!("{check:?}").contains("secret"));
        let many = BTreeMap::from([("x".to_owned(), 51)]);
        assert_eq!(judged(&many, "the journal").status, Status::Warning);
    }

    #[test]
    fn only_errors_of_the_kernel_log_count() {
        assert_eq!(
            parse_kmsg(b"3,12,100,-;ata1: failed\n SUBSYSTEM=x\n").as_deref(),
            Some("kernel")
        );
        assert_eq!(parse_kmsg(b"6,12,100,-;all is well\n"), None);
        assert_eq!(parse_kmsg(b"27,12,100,-;systemd[1]: Failed\n").as_deref(), Some("systemd"));
        assert_eq!(parse_kmsg(b"30,12,100,-;systemd[1]: Started\n"), None);
    }

    #[tokio::test]
    async fn the_log_of_this_machine_is_counted_or_said_to_be_missing() {
        let check = check(&test_context()).await;
        match check.details.get("errors") {
            Some(errors) => {
                let sources = check.details["sources"].as_array().unwrap();
                let sum: u64 =
                    sources.iter().map(|source| source["errors"].as_u64().unwrap()).sum();
                assert!(sum <= errors.as_u64().unwrap());
            }
            None => assert_eq!(check.details["available"], false),
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>, text in "([0-9]{0,12}[,;a-z]{0,9}){0,5}") {
            let _ = (parse_kmsg(&bytes), parse_kmsg(text.as_bytes()));
            let _ = parse_journal(&String::from_utf8_lossy(&bytes));
        }
    }
}
