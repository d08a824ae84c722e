//! What the audit says was begun and never ended: the requests that were running when the agent was killed. Reads, and
//! writes nothing.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::Deserialize;

use super::redact::REDACTED;
use crate::files::is_own;

/// Bytes of each file that are looked at, from its end: some four hundred requests.
pub const LOOKED_AT: u64 = 256 << 10;

/// A request that was running when an agent ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unended {
    /// Its id.
    pub id: String,
    /// Its action.
    pub action: String,
    /// When it began, as the audit has it.
    pub began: String,
}

/// What has not ended by the end of the audit file at `path`; where that is shorter than what is looked at, its
/// former self is looked at too. Nothing where it cannot be read. Blocks.
pub fn read(path: &Path) -> Vec<Unended> {
    let (now, is_whole) = tail(path).unwrap_or_default();
    let mut text = Vec::new();
    if is_whole {
        let mut former = path.as_os_str().to_owned();
        former.push(".1");
        text = tail(&PathBuf::from(former)).unwrap_or_default().0;
        text.push(b'\n');
    }
    text.extend(now);
    unended(&text)
}

/// What begins and does not end in `text`, oldest first. What is no line of an audit is passed over, and so is an id of
/// which the audit has only a part.
pub fn unended(text: &[u8]) -> Vec<Unended> {
    let mut begun: HashMap<String, (usize, Unended)> = HashMap::new();
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let Ok(line) = serde_json::from_slice::<Line<'_>>(line) else { continue };
        match &*line.event {
            "begin" if !line.id.contains(REDACTED) && !line.id.ends_with('…') => {
                let (id, action) = (line.id.into_owned(), line.action.into_owned());
                let unended = Unended { id: id.clone(), action, began: line.time.into_owned() };
                begun.insert(id, (at, unended));
            }
            "end" | "lost" => {
                begun.remove(&*line.id);
            }
            _ => {}
        }
    }
    let mut begun: Vec<_> = begun.into_values().collect();
    begun.sort_unstable_by_key(|(at, _)| *at);
    begun.into_iter().map(|(_, unended)| unended).collect()
}

/// The end of a file, from the beginning of a line on, and whether that is all of it.
fn tail(path: &Path) -> io::Result<(Vec<u8>, bool)> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut file: File =
        OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    is_own(&metadata)?; // what another has written is no audit
    let from = metadata.len().saturating_sub(LOOKED_AT);
    file.seek(SeekFrom::Start(from))?;
    let mut text = Vec::new();
    file.take(LOOKED_AT).read_to_end(&mut text)?;
    if from > 0 {
        let cut = text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |end| end + 1);
        text.drain(..cut);
    }
    Ok((text, from == 0))
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    action: Cow<'a, str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(event: &str, id: &str) -> String {
        format!("{{\"time\":\"t\",\"event\":\"{event}\",\"id\":\"{id}\",\"action\":\"A\"}}\n")
    }

    fn ids(found: Vec<Unended>) -> Vec<String> {
        found.into_iter().map(|unended| unended.id).collect()
    }

    #[test]
    fn what_has_begun_and_not_ended_is_found_in_its_order() {
        let lines = [
            ("begin", "done"),
            ("begin", "second"),
            ("begin", "told"),
            ("refused", "second"),
            ("end", "done"),
            ("lost", "told"),
            ("begin", "key=[redacted]"),
            ("begin", "first"),
            ("end", "of another file"),
        ];
        let mut text: String = lines.map(|(event, id)| line(event, id)).concat();
        text += "{\"time\":\"t\",\"event\":\"gap\",\"lines_lost\":5}\n{\"torn\n[1]\n\u{1}\n";
        assert_eq!(ids(unended(text.as_bytes())), ["second", "first"]);
        let whole = Unended { id: "a".into(), action: "A".into(), began: "t".into() };
        assert_eq!(unended(line("begin", "a").as_bytes()), [whole]);
        // A last line that was cut has not begun anything.
        for cut in 0..line("begin", "a").len() - 1 {
            assert_eq!(ids(unended(&line("begin", "a").as_bytes()[..cut])), [""; 0]);
        }
    }

    #[test]
    fn no_more_than_the_end_of_the_files_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        assert!(read(&path).is_empty());
        std::fs::write(
            folder.path().join("audit.jsonl.1"),
            line("begin", "a") + &line("begin", "b"),
        )
        .unwrap();
        std::fs::write(&path, line("end", "a")).unwrap();
        assert_eq!(ids(read(&path)), ["b"], "over the turn of the file");
        let long = line("refused", "x").repeat(6_000);
        assert!(long.len() as u64 > LOOKED_AT);
        std::fs::write(&path, line("begin", "far") + &long + &line("begin", "near")).unwrap();
        assert_eq!(ids(read(&path)), ["near"]);
        std::os::unix::fs::symlink(&path, folder.path().join("link")).unwrap();
        assert!(read(&folder.path().join("link")).is_empty());
    }
}
