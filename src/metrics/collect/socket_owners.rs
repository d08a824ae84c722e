//! Which process holds a socket. Does not list sockets: that is `sockets`.
//!
//! # Why a cache
//! The kernel reports the owner of a socket only from the other side: every descriptor of every process
//! is a link to be read. So that is done only when a socket appears that is not known; on a steady
//! machine a reading costs one link per owner, which proves that the owner still is who it was.

use std::collections::{HashMap, HashSet};
use std::io;
use std::time::{Duration, Instant};

use super::parse;
use super::procfs::{Processes, Reader};
use crate::sort;

/// Looking through all descriptors may take at most this part of the time between two looks: where
/// one takes 75 ms (a thousand processes), the next comes 3.75 s later at the earliest.
const SHARE: u32 = 50;

/// A process that holds sockets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SocketOwner {
    /// Its name, as the kernel has it.
    pub name: Option<String>,
    /// Its executable.
    pub executable: Option<String>,
}

/// The holders of the sockets that are there now.
#[derive(Debug, Default)]
pub(super) struct SocketOwners {
    proc: Option<Processes>,
    file: Reader,
    /// By inode; `None` for one that was looked for and not found: the kernel's own, or that of a
    /// process that may not be seen.
    holders: HashMap<u32, Option<Holder>>,
    owners: HashMap<u32, SocketOwner>,
    next_look: Option<Instant>,
    looks: u64,
}

#[derive(Debug, Clone, Copy)]
struct Holder {
    pid: u32,
    descriptor: u32,
}

impl SocketOwners {
    /// The process that holds a socket, as of the last [`update`](Self::update): the one with the
    /// lowest id but 1, which for a socket that was inherited is the parent, and for one that was
    /// passed on by the first process is who got it.
    pub(super) fn of(&self, inode: u32) -> Option<(u32, &SocketOwner)> {
        let holder = self.holders.get(&inode).copied().flatten()?;
        Some((holder.pid, self.owners.get(&holder.pid)?))
    }

    /// Brings the cache up to the sockets that are there now.
    pub(super) fn update(&mut self, inodes: impl Iterator<Item = u32>) -> io::Result<()> {
        let mut unknown: HashSet<u32> = inodes.filter(|inode| *inode != 0).collect();
        self.holders.retain(|inode, _| unknown.contains(inode));
        let mut proc = match self.proc.take() {
            Some(proc) => proc,
            None => Processes::open()?,
        };
        self.forget_the_gone(&mut proc);
        unknown.retain(|inode| !self.holders.contains_key(inode));
        let now = Instant::now();
        if !unknown.is_empty() && self.next_look.is_none_or(|next| next <= now) {
            self.look(&mut proc, unknown)?;
            let took = now.elapsed();
            self.next_look = Some(now + took.saturating_mul(SHARE).min(Duration::from_secs(60)));
        }
        self.proc = Some(proc);
        Ok(())
    }

    /// Forgets each owner whose descriptor is no longer the socket it was: it has ended, or its id is
    /// used again. One link per owner is enough.
    fn forget_the_gone(&mut self, proc: &mut Processes) {
        let mut there: HashMap<u32, bool> = HashMap::with_capacity(self.owners.len());
        for (inode, holder) in &self.holders {
            let Some(holder) = holder else { continue };
            there
                .entry(holder.pid)
                .or_insert_with(|| proc.holds(holder.pid, holder.descriptor, *inode));
        }
        let is_there = |pid: &u32| there.get(pid).copied().unwrap_or(false);
        self.owners.retain(|pid, _| is_there(pid));
        self.holders.retain(|_, holder| holder.is_none_or(|holder| is_there(&holder.pid)));
    }

    /// Looks through the descriptors of all processes, those first that hold sockets already, until
    /// all is known.
    fn look(&mut self, proc: &mut Processes, mut unknown: HashSet<u32>) -> io::Result<()> {
        self.looks += 1;
        let mut pids = Vec::new();
        proc.pids(&mut pids)?;
        sort::by_key(&mut pids, |pid| (!self.owners.contains_key(pid), *pid == 1, *pid));
        for pid in pids {
            if unknown.is_empty() {
                break;
            }
            let mut found = false;
            // One that has ended, or may not be looked into, is passed over.
            let _ = proc.sockets(pid, |descriptor, inode| {
                if unknown.remove(&inode) {
                    self.holders.insert(inode, Some(Holder { pid, descriptor }));
                    found = true;
                }
            });
            if found {
                let owner = describe(proc, &mut self.file, pid);
                self.owners.insert(pid, owner);
            }
        }
        self.holders.extend(unknown.into_iter().map(|inode| (inode, None)));
        Ok(())
    }
}

fn describe(proc: &mut Processes, file: &mut Reader, pid: u32) -> SocketOwner {
    let executable = proc.link(pid, "exe");
    let (dir, path) = proc.file(pid, "comm");
    let name =
        file.read_once_at(dir, path, 256).ok().map(|name| parse::lossy(name.trim_ascii_end()));
    SocketOwner { name, executable }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;

    fn inode_of(socket: &UdpSocket) -> u32 {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
        let link = link.to_str().unwrap().to_owned();
        link.trim_start_matches("socket:[").trim_end_matches(']').parse().unwrap()
    }

    #[test]
    fn descriptors_are_looked_through_only_when_a_socket_is_not_known() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let inode = inode_of(&socket);
        let mut owners = SocketOwners::default();
        owners.update([inode, 0].into_iter()).unwrap();
        let (pid, owner) = owners.of(inode).unwrap();
        assert_eq!(pid, std::process::id());
        assert_eq!(owner.executable.as_deref(), std::env::current_exe().unwrap().to_str());
        assert_eq!(owners.looks, 1);
        owners.update([inode].into_iter()).unwrap();
        assert_eq!(owners.looks, 1, "nothing new");

        owners.next_look = None;
        owners.update([inode, u32::MAX].into_iter()).unwrap();
        assert_eq!((owners.looks, owners.of(u32::MAX)), (2, None));
        owners.next_look = None;
        owners.update([inode, u32::MAX].into_iter()).unwrap();
        assert_eq!(owners.looks, 2, "one that has no owner is not looked for again");
        owners.update([0].into_iter()).unwrap();
        assert!(owners.holders.is_empty() && owners.owners.is_empty(), "what is gone is forgotten");
    }

    #[test]
    fn an_owner_that_is_not_what_it_was_is_looked_for_again() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let inode = inode_of(&socket);
        let mut owners = SocketOwners::default();
        let gone = Holder { pid: u32::MAX, descriptor: 3 };
        owners.holders.insert(inode, Some(gone));
        owners.owners.insert(u32::MAX, SocketOwner::default());
        owners.update([inode].into_iter()).unwrap();
        assert_eq!(owners.of(inode).unwrap().0, std::process::id());
    }

    #[test]
    fn looking_may_not_take_more_than_its_share_of_the_time() {
        let mut owners = SocketOwners {
            next_look: Some(Instant::now() + Duration::from_secs(9)),
            ..SocketOwners::default()
        };
        owners.update([u32::MAX].into_iter()).unwrap();
        assert_eq!(owners.looks, 0);
        assert!(owners.holders.is_empty(), "it stays unknown and is looked for later");
    }
}
