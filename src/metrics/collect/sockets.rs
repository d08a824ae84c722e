//! All TCP and UDP sockets of this machine. Does not know whose they are: that is `owners`.
//!
//! # Why `sock_diag` first
//! `/proc/net/tcp` takes 4.6 ms for 4 sockets (2 cores, Linux 6.18), because it goes through every
//! bucket of the hash with a lock; `sock_diag` skips the empty ones: 0.26 ms for TCP of both families in
//! one dump, 0.5 ms in two. The files are read where the kernel was built without `inet_diag`.

use std::io;

use rustix::net::netlink::SOCK_DIAG;

use super::netlink::{Netlink, u32_at};
use super::parse;
use super::procfs::Reader;

/// Transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// One socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Socket {
    /// Its protocol.
    pub transport: Transport,
    /// Number of its state (`include/net/tcp_states.h`), which UDP uses too.
    pub state: u8,
    /// Local port.
    pub port: u16,
    /// Inode; 0 where no process holds it, as after it was closed or before it is accepted.
    pub inode: u32,
}

/// Number of the state `established`.
pub(super) const ESTABLISHED: u8 = 1;
/// Number of the state `close`, in which a UDP socket without a peer is.
pub(super) const CLOSE: u8 = 7;
/// Number of the state `listen`.
pub(super) const LISTEN: u8 = 10;

/// Lists the sockets, by the best means this kernel has.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    netlink: Option<Netlink>,
    /// Protocols that are read from files, because the kernel cannot give them otherwise. Asking
    /// again would make it look for a module each time.
    from_files: Vec<Transport>,
    /// The kernel gives TCP of both families only one after the other.
    by_family: bool,
    file: Reader,
}

impl Sockets {
    /// All sockets of a protocol, added to `into`.
    pub(super) fn list(&mut self, transport: Transport, into: &mut Vec<Socket>) -> io::Result<()> {
        let start = into.len();
        if !self.from_files.contains(&transport) {
            match self.ask(transport, into) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    into.truncate(start);
                    self.netlink = None;
                    if !lasting(&error) {
                        return Err(error);
                    }
                    tracing::info!(?transport, %error, "the kernel lists no sockets over sock_diag: ports are read from /proc/net, which is slower");
                    self.from_files.push(transport);
                }
            }
        }
        self.read(transport, into)
    }

    fn ask(&mut self, transport: Transport, into: &mut Vec<Socket>) -> io::Result<()> {
        if transport == Transport::Tcp && !self.by_family {
            let start = into.len();
            match self.dump(TCPDIAG_GETSOCK, &BOTH_FAMILIES, transport, into) {
                Err(error) if lasting(&error) => {
                    into.truncate(start);
                    (self.netlink, self.by_family) = (None, true);
                }
                other => return other,
            }
        }
        for family in [AF_INET, AF_INET6] {
            self.dump(SOCK_DIAG_BY_FAMILY, &request(family, transport), transport, into)?;
        }
        Ok(())
    }

    fn dump(
        &mut self,
        kind: u16,
        request: &[u8],
        transport: Transport,
        into: &mut Vec<Socket>,
    ) -> io::Result<()> {
        let netlink = match &mut self.netlink {
            Some(netlink) => netlink,
            none => none.insert(Netlink::open(Some(SOCK_DIAG))?),
        };
        match netlink.dump(kind, request, |_, payload| into.extend(answer(transport, payload))) {
            // Each socket is a fact of its own, so a table that changed meanwhile is good enough.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            other => other,
        }
    }

    fn read(&mut self, transport: Transport, into: &mut Vec<Socket>) -> io::Result<()> {
        let [four, six] = match transport {
            Transport::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
            Transport::Udp => ["/proc/net/udp", "/proc/net/udp6"],
        };
        into.extend(parse(transport, self.file.read(four)?));
        match self.file.read(six) {
            Ok(text) => into.extend(parse(transport, text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {} // no IPv6
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

// include/uapi/linux/sock_diag.h, inet_diag.h
const TCPDIAG_GETSOCK: u16 = 18;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// States 1 to 12: without 13, sockets that are bound and do nothing.
const ALL_STATES: u32 = 0x1ffe;

/// Whether asking again would fail the same way: no such family, protocol or module, or not allowed.
fn lasting(error: &io::Error) -> bool {
    use rustix::io::Errno;
    const LASTING: [Errno; 7] = [
        Errno::NOENT,
        Errno::INVAL,
        Errno::OPNOTSUPP,
        Errno::PROTONOSUPPORT,
        Errno::AFNOSUPPORT,
        Errno::ACCESS,
        Errno::PERM,
    ];
    LASTING.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// `struct inet_diag_req`, the first version: family, two lengths, extensions, a socket id of 48 bytes, states u32,
/// `idiag_dbs` u32. The kernel answers it with both families (`inet_diag_dump_compat` in `net/ipv4/inet_diag.c`) in one
/// walk through its table of connections, which is what a dump costs: it has 262,144 buckets on a machine of 24 GiB.
const BOTH_FAMILIES: [u8; 60] = {
    let (mut bytes, states) = ([0; 60], ALL_STATES.to_ne_bytes());
    (bytes[52], bytes[53], bytes[54], bytes[55]) = (states[0], states[1], states[2], states[3]);
    bytes
};

/// `struct inet_diag_req_v2`: family, protocol, extensions, pad, states u32, a socket id of zeros.
fn request(family: u8, transport: Transport) -> [u8; 56] {
    let mut bytes = [0; 56];
    bytes[0] = family;
    bytes[1] = match transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
    };
    bytes[4..8].copy_from_slice(&ALL_STATES.to_ne_bytes());
    bytes
}

/// `struct inet_diag_msg`: family, state, timer, retransmits; the id, which begins with the local
/// port in network order; expires, two queues, uid, inode.
fn answer(transport: Transport, payload: &[u8]) -> Option<Socket> {
    let port = u16::from_be_bytes(*payload.get(4..)?.first_chunk()?);
    Some(Socket { transport, state: *payload.get(1)?, port, inode: u32_at(payload, 68)? })
}

/// The lines of `/proc/net/tcp` and its sisters: `sl local remote st queues timer retransmits uid
/// timeout inode …`, addresses and state in hexadecimal, a heading first.
fn parse(transport: Transport, text: &[u8]) -> impl Iterator<Item = Socket> {
    parse::lines(text).skip(1).filter_map(move |line| {
        let mut words = parse::words(line);
        let local = words.nth(1)?;
        let port = local.get(memchr::memrchr(b':', local)? + 1..)?;
        let port = parse::hexadecimal(port)?.try_into().ok()?;
        let state = parse::hexadecimal(words.nth(1)?)?.try_into().ok()?;
        let inode = parse::number(words.nth(5)?)?.try_into().ok()?;
        Some(Socket { transport, state, port, inode })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    const TCP: &[u8] = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
        0: 00000000:07E8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0000000000000000 100 0 0 10 0\n   \
        1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 5151 1 0000000000000000 20 4 30 10 -1\n   \
        2: 0100007F:C350 0100007F:1F90 06 00000000:00000000 03:00000A21 00000000     0        0 0 3 0000000000000000\n";

    #[test]
    fn the_text_of_any_kernel_gives_port_state_and_inode() {
        let read: Vec<_> = parse(Transport::Tcp, TCP).map(|s| (s.port, s.state, s.inode)).collect();
        assert_eq!(read, [(2024, LISTEN, 4242), (8080, ESTABLISHED, 5151), (50000, 6, 0)]);
        let six = b"heading\n 1: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 07 0:0 00:0 0 0 0 77 2 0 0\n";
        let read: Vec<_> = parse(Transport::Udp, six).collect();
        assert_eq!(read, [Socket { transport: Transport::Udp, state: CLOSE, port: 53, inode: 77 }]);
    }

    #[test]
    fn netlink_and_the_files_tell_the_same_of_the_same_sockets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let six = TcpListener::bind("[::1]:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut ports = [
            listener.local_addr().unwrap().port(),
            six.local_addr().unwrap().port(),
            client.local_addr().unwrap().port(),
            udp.local_addr().unwrap().port(),
        ];
        ports.sort_unstable();
        let mine = |list: &dyn Fn(&mut Sockets, Transport, &mut Vec<Socket>)| {
            let (mut sockets, mut found) = (Sockets::default(), Vec::new());
            list(&mut sockets, Transport::Tcp, &mut found);
            list(&mut sockets, Transport::Udp, &mut found);
            found.retain(|socket: &Socket| ports.binary_search(&socket.port).is_ok());
            found.sort_by_key(|socket| (socket.port, socket.state, socket.inode));
            found
        };
        let asked = mine(&|sockets, transport, into| sockets.ask(transport, into).unwrap());
        let read = mine(&|sockets, transport, into| sockets.read(transport, into).unwrap());
        assert_eq!(asked, read);
        let by_family = mine(&|sockets, transport, into| {
            sockets.by_family = true;
            sockets.ask(transport, into).unwrap();
        });
        assert_eq!(asked, by_family, "one dump has what two have");
        assert!(asked.len() >= 5, "both ends of the connection are seen: {asked:?}");
    }

    #[test]
    fn a_kernel_without_sock_diag_is_read_from_its_files() {
        let mut sockets = Sockets { from_files: vec![Transport::Udp], ..Sockets::default() };
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut found = Vec::new();
        sockets.list(Transport::Udp, &mut found).unwrap();
        assert!(sockets.netlink.is_none());
        assert!(found.iter().any(|socket| socket.port == udp.local_addr().unwrap().port()));
        assert!(
            lasting(&io::Error::from_raw_os_error(2))
                && !lasting(&io::Error::from_raw_os_error(105))
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>, text in "x\n([0-9A-F: ]{0,90}\n){0,3}") {
            let _ = answer(Transport::Tcp, &bytes);
            let _ = parse(Transport::Tcp, &bytes).count() + parse(Transport::Udp, text.as_bytes()).count();
        }
    }
}
