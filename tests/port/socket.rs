//! The port over a real Unix socket, in real time, under both runtimes.

use std::sync::Arc;
use std::time::Duration;

use infiniservice::internals::port::{Inbound, Port, PortExit, Target};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::rig::{frame, get};

/// The same flow under either runtime.
fn on_both_runtimes(test: impl AsyncFn()) {
    for mut builder in
        [tokio::runtime::Builder::new_current_thread(), tokio::runtime::Builder::new_multi_thread()]
    {
        let runtime = builder.enable_all().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(20), test()).await.unwrap()
        });
    }
}

#[test]
fn over_a_real_socket_the_host_may_come_late_leave_and_return() {
    on_both_runtimes(async || {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("host.sock");
        let target: Target = format!("unix:{}", path.display()).parse().unwrap();
        let mut port = Port::new(target, Arc::default(), CancellationToken::new());
        let (telemetry, lane) = mpsc::channel(8);
        port.telemetry(ReceiverStream::new(lane));
        let mut inbound = port.inbound();
        let running = tokio::spawn(async move { port.run().await });

        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        for round in 0..2 {
            let mut host = tokio::io::BufReader::new(listener.accept().await.unwrap().0);
            let long = format!("{{\"round\":{round},\"pad\":\"{}\"}}\n", "p".repeat(1 << 20));
            telemetry.send(frame(long.clone())).await.unwrap();
            let mut seen = String::new();
            host.read_line(&mut seen).await.unwrap();
            host.read_line(&mut seen).await.unwrap();
            assert!(seen == format!("\n{long}"));
            host.write_all(b"half a comm").await.unwrap();
            assert_eq!(inbound.recv().await, Some(Inbound::Bytes("half a comm".into())));
            drop(host);
            assert_eq!(inbound.recv().await, Some(Inbound::Reset));
        }
        let mut host = listener.accept().await.unwrap().0;
        telemetry.send(frame("the end\n")).await.unwrap();
        drop(telemetry);
        let mut seen = String::new();
        host.read_to_string(&mut seen).await.unwrap();
        assert_eq!(seen, "\nthe end\n");
        assert_eq!(running.await.unwrap().end, PortExit::Flushed);
    });
}

#[test]
fn over_a_real_socket_megabytes_go_both_ways_at_once() {
    const CHUNKS: usize = 400;
    on_both_runtimes(async || {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("host.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let mut port = Port::new(Target::Unix(path), Arc::default(), CancellationToken::new());
        let (telemetry, lane) = mpsc::channel(8);
        port.telemetry(ReceiverStream::new(lane));
        let (counters, mut inbound) = (port.counters(), port.inbound());
        let running = tokio::spawn(async move { port.run().await });
        let (mut from_guest, mut to_guest) = listener.accept().await.unwrap().0.into_split();
        let chunk = vec![b'c'; 32 * 1024];
        let line = [vec![b'm'; 32 * 1024 - 1], b"\n".to_vec()].concat();
        let expected = 1 + CHUNKS * line.len();
        let (sends, says, takes, reads) = tokio::join!(
            async {
                for _ in 0..CHUNKS {
                    to_guest.write_all(&chunk).await.unwrap();
                }
                CHUNKS * chunk.len()
            },
            async {
                for _ in 0..CHUNKS {
                    telemetry.send(frame(line.clone())).await.unwrap();
                }
                expected
            },
            async {
                let mut taken = 0;
                while taken < CHUNKS * chunk.len() {
                    let Some(Inbound::Bytes(bytes)) = inbound.recv().await else { break };
                    taken += bytes.len();
                }
                taken
            },
            async {
                let mut seen = vec![0; expected];
                from_guest.read_exact(&mut seen).await.unwrap();
                assert_eq!(
                    seen.split(|byte| *byte == b'\n')
                        .filter(|line| line.len() == 32 * 1024 - 1)
                        .count(),
                    CHUNKS
                );
                seen.len()
            }
        );
        assert_eq!((sends, says), (takes, reads));
        assert_eq!(get(&counters.bytes_out), expected as u64);
        drop(telemetry);
        assert_eq!(running.await.unwrap().end, PortExit::Flushed);
    });
}
