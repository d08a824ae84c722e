//! The model of the port behaves as a real port and a real socket do.

use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;

use infiniservice::internals::port::{Opener, Sent};
use proptest::prelude::*;

use crate::doubles::port::script::{Op, play, random};
use crate::doubles::port::socket::Socket;
use crate::doubles::port::*;

async fn observed(port: &(ModelPort, ModelHost), script: &str) -> Vec<String> {
    let ops: Vec<Op> = script.split(", ").map(|op| op.parse().unwrap()).collect();
    let lines = play(&ops, port.0.clone(), &port.1).await;
    lines
        .iter()
        .map(|line| line.split_once(": ").map_or("", |(_, observed)| observed).into())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn as_many_writes_are_in_flight_as_were_measured_on_a_real_port() {
    for (bytes, writes) in [(200, 295), (4_096, 172), (32_768, 135)] {
        let lines = observed(&pair(), &format!("open, connect, write {bytes} 400, poll")).await;
        let taken = bytes * writes;
        assert_eq!(lines[2], format!("{writes} writes, {taken} bytes, then full"));
        assert_eq!(lines[3], "", "neither to be read nor to be written");
    }
}

#[tokio::test(start_paused = true)]
async fn every_host_that_leaves_a_full_port_costs_a_buffer_until_nothing_can_be_written() {
    let port = pair();
    for lost in 1..=RING_BUFFERS {
        observed(&port, "open, connect, write 4096 400, leave").await;
        assert_eq!(port.1.leaked(), lost);
    }
    let lines =
        observed(&port, "open, connect, write 1 1, poll, unplug, plug, open, write 1 1, poll");
    let lines = lines.await;
    assert_eq!(lines[2..4], ["0 writes, 0 bytes, then full", ""]);
    assert_eq!(lines[7..9], ["0 writes, 0 bytes, then full", "out"], "a re-plug heals nothing");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_leaves_little_unread_costs_nothing() {
    let port = pair();
    for _ in 0..1_000 {
        observed(&port, "open, connect, write 32768 2, leave").await;
    }
    assert_eq!((port.1.leaked(), port.1.discarded()), (0, 1_000 * 65_536));
}

#[tokio::test(start_paused = true)]
async fn a_migration_keeps_the_descriptor_and_every_buffer() {
    let (mut guest, host) = pair();
    host.connect();
    host.stop_reading();
    let mut device = Opener::open(&mut guest).await.unwrap();
    while let Sent::Took(_) = device.write(&[0; 4096]).unwrap() {}
    host.migrate();
    assert_eq!(device.write(b"x").unwrap(), Sent::Away);
    host.connect();
    host.read_on();
    assert_eq!(device.write(b"x").unwrap(), Sent::Took(1));
    assert_eq!((host.leaked(), host.sessions()[1].received.as_slice()), (0, &b"x"[..]));
}

proptest! {
    // A script writes megabytes.
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn a_random_script_is_the_same_for_its_seed_and_no_byte_is_unaccounted_for(seed: u64) {
        let script = random(seed, 60);
        prop_assert_eq!(&script, &random(seed, 60));
        for op in &script {
            prop_assert_eq!(op.to_string().parse::<Op>(), Ok(*op));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let (guest, host) = pair();
        let lines = runtime.block_on(play(&script, guest, &host));
        let written: u64 = lines
            .iter()
            .filter_map(|line| line.split_once(" writes, ")?.1.split(' ').next()?.parse::<u64>().ok())
            .sum();
        let received: usize = host.sessions().iter().map(|host| host.received.len()).sum();
        let rest = host.discarded() + host.in_flight() as u64 + received as u64;
        prop_assert_eq!(written, rest, "written = received + discarded + in flight");
        prop_assert!(host.leaked() <= RING_BUFFERS);
    }
}

/// How many writes a real socket accepts without a reader.
fn fits(bytes: usize) -> usize {
    let (mut one, _other) = UnixStream::pair().unwrap();
    one.set_nonblocking(true).unwrap();
    let data = vec![b'x'; bytes];
    let mut taken = 0;
    loop {
        match one.write(&data) {
            Ok(_) => taken += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return taken,
            Err(error) => unreachable!("{error}"),
        }
    }
}

#[test]
fn a_socket_holds_about_what_a_real_one_holds() {
    for bytes in [1, 192, 193, 700, 1_000, 1_729, 3_776, 3_777, 4_096, 5_000, 10_000, 32_768] {
        let mut socket = Socket::new(BUFFER_BYTES);
        let mut taken = 0;
        while socket.send(vec![b'x'; bytes]).is_ok() {
            taken += 1;
        }
        let real = fits(bytes);
        let near = real / 2..=real * 2;
        assert!(near.contains(&taken), "{bytes} bytes: {taken}, and really {real}");
    }
}

#[test]
fn a_writer_is_woken_at_a_quarter_and_a_write_is_read_in_parts() {
    let mut socket = Socket::new(BUFFER_BYTES);
    while socket.send(vec![b'x'; 200]).is_ok() {}
    let (held, mut got) = (socket.len(), Vec::new());
    assert_eq!(held, 167 * 200);
    socket.receive(held / 2 + 1, &mut got);
    assert!(!socket.wakes_writer() && socket.send(b"room".to_vec()).is_ok());
    socket.receive(held / 3, &mut got);
    assert!(socket.wakes_writer());
    assert_eq!(got.len(), held / 2 + 1 + held / 3);
    assert_eq!(socket.clear(), held + 4 - got.len());
}
