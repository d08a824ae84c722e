//! The accounts of this machine, as ids. No directory service is asked.
//!
//! # Why the files and not the C library
//! `getpwnam` loads plug-ins (`nsswitch.conf`) that may ask the network and wait. `/etc/passwd` and
//! `/etc/group` (`passwd(5)`, `group(5)`) hold every account that can be used while the network is away;
//! one that only a directory knows (`LAB\ann`) is refused with that reason.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub(crate) const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
/// The longest account file that is read: 100,000 accounts.
const FILE_MAX: u64 = 8 * 1024 * 1024;
/// The most groups a process may be in (`NGROUPS_MAX` of linux/limits.h).
const GROUPS_MAX: usize = 65_536;

/// The shell of an account that names none (`passwd(5)`).
const SHELL: &str = "/bin/sh";

/// An account as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Its name.
    pub name: String,
    /// Its user id.
    pub uid: u32,
    /// Its first group.
    pub gid: u32,
    /// All its groups, the first one among them.
    pub groups: Vec<u32>,
    /// Its folder; `/` where it names none.
    pub home: PathBuf,
    /// Its shell; `/bin/sh` where it names none.
    pub shell: PathBuf,
}

impl Identity {
    /// What tells a program who it is: `USER`, `LOGNAME`, `HOME` and `SHELL` (environ(7)).
    pub(crate) fn variables(&self) -> [(&'static str, OsString); 4] {
        [
            ("USER", (&self.name).into()),
            ("LOGNAME", (&self.name).into()),
            ("HOME", (&self.home).into()),
            ("SHELL", (&self.shell).into()),
        ]
    }
}

/// The account of this name, where `/etc/passwd` has it; with its first group alone where `/etc/group` cannot be read. Reads
/// files: not for an async worker.
///
/// # Errors
/// `/etc/passwd` cannot be read.
pub(crate) fn account(name: &str) -> io::Result<Option<Identity>> {
    Ok(by_name(&text(PASSWD)?, &text(GROUP).unwrap_or_default(), name))
}

/// The user id of an account, where `/etc/passwd` has it. Reads a file: not for an async worker.
pub(crate) fn uid_of(name: &str) -> Option<u32> {
    let passwd = text(PASSWD).ok()?;
    lines(&passwd).find(|entry| entry.name == name).map(|entry| entry.uid)
}

/// The folder of a user, where `/etc/passwd` has one. Reads a file: not for an async worker.
pub(crate) fn home_of(uid: u32) -> Option<PathBuf> {
    let passwd = text(PASSWD).ok()?;
    lines(&passwd).find(|entry| entry.uid == uid).map(|entry| entry.home.into())
}

/// One usable line of `passwd(5)`.
struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a Path,
    shell: &'a Path,
}

fn by_name(passwd: &str, group: &str, name: &str) -> Option<Identity> {
    let entry = lines(passwd).find(|entry| entry.name == name)?;
    let mut groups = vec![entry.gid];
    for gid in group.lines().filter_map(|line| member(line, name)) {
        if !groups.contains(&gid) && groups.len() < GROUPS_MAX {
            groups.push(gid);
        }
    }
    Some(Identity {
        name: entry.name.to_owned(),
        uid: entry.uid,
        gid: entry.gid,
        groups,
        home: entry.home.into(),
        shell: entry.shell.into(),
    })
}

/// A line with a wrong number of fields, or ids that are no numbers, is no account.
fn lines(passwd: &str) -> impl Iterator<Item = Entry<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        let home = Some(fields.nth(1)?).filter(|home| !home.is_empty()).unwrap_or("/");
        let shell = Some(fields.next()?).filter(|shell| !shell.is_empty()).unwrap_or(SHELL);
        let (home, shell) = (Path::new(home), Path::new(shell));
        // (uid_t)-1 means "leave as it is" to the kernel's calls, so no account may have it.
        let real = uid != u32::MAX && gid != u32::MAX;
        real.then_some(Entry { name, uid, gid, home, shell })
    })
}

/// The id of the group of this line, where `name` is one of its members.
fn member(line: &str, name: &str) -> Option<u32> {
    let mut fields = line.split(':');
    let gid = fields.nth(2)?.parse().ok().filter(|gid| *gid != u32::MAX)?;
    fields.next()?.split(',').any(|member| member == name).then_some(gid)
}

fn text(path: &str) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
        +:::::: \n\
        short:x:7:7\n\
        none:x:4294967295:1::/:/bin/sh\n\
        ann:x:1000:1000:Ann,,,:/home/ann:/bin/bash\n\
        ann:x:0:0:a second line of that name:/root:/bin/bash\n\
        nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
    const GROUP: &str = "root:x:0:\nsudo:x:27:bob,ann\nannex:x:28:anna\nwrong:x:y:ann\n\
        ann:x:1000:ann\nvideo:x:44:ann\n";

    #[test]
    fn an_account_is_its_first_line_with_all_its_groups_once() {
        let ann = by_name(PASSWD, GROUP, "ann").unwrap();
        let groups = vec![1000, 27, 44];
        let (name, home, shell) = ("ann".into(), "/home/ann".into(), "/bin/bash".into());
        assert_eq!(ann, Identity { name, uid: 1000, gid: 1000, groups, home, shell });
        let bare = by_name("bare:x:5:5:::\n", "", "bare").unwrap();
        assert_eq!((bare.home, bare.shell), ("/".into(), SHELL.into()));
        assert_eq!(by_name(PASSWD, "", "nobody").unwrap().groups, [65_534]);
    }

    #[test]
    fn what_is_no_account_is_none() {
        for name in ["", "+", "short", "none", "an", "annex", "LAB\\ann", "1000", "root:x"] {
            assert_eq!(by_name(PASSWD, GROUP, name), None, "{name}");
        }
    }

    #[test]
    fn root_is_found_by_its_name_and_by_its_id() {
        assert_eq!(account("root").unwrap().unwrap().uid, 0);
        assert_eq!(account("LAB\\ann").unwrap(), None);
        assert!(home_of(0).is_some());
    }
}
