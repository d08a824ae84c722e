//! The port with both ends in the test: here over the model of a virtio-serial port, under paused time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "doubles/mod.rs"]
mod doubles;
#[path = "port/delivery.rs"]
mod spool;
#[path = "port/faults.rs"]
mod faults;
#[path = "port/goodbye.rs"]
mod goodbye;
#[path = "port/memory.rs"]
mod memory;
#[path = "port/rig.rs"]
mod rig;
#[path = "port/socket.rs"]
mod socket;
#[path = "port/the_model.rs"]
mod the_model;
#[path = "port/todays_host.rs"]
mod todays_host;
#[path = "support/todays_host.rs"]
mod warnings;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use doubles::port as model;
use infiniservice::internals::port::{Audience, Inbound, Port, PortExit, Summary, TrackedFrame};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use rig::{Rig, frame, get, settle, settle_long};

#[tokio::test(start_paused = true)]
async fn nothing_is_tried_or_pulled_while_no_host_is_connected() {
    let rig = Rig::start();
    settle().await;
    let before = (rig.host.tries(), get(&rig.counters.wakeups));
    rig.send_telemetry("early\n");
    rig.durable(1, "must\n");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!((rig.host.tries(), get(&rig.counters.wakeups)), before);
    assert_eq!(
        (rig.telemetry.capacity(), rig.durable.capacity()),
        (4095, 15),
        "they wait in their channels"
    );

    rig.host.connect();
    settle().await;
    assert_eq!(rig.seen(), "\nmust\nearly\n");
    assert_eq!((get(&rig.counters.host_connects), get(&rig.counters.opens)), (1, 1));
    rig.check_counters();
}

#[tokio::test(start_paused = true)]
async fn a_host_that_comes_and_says_nothing_costs_a_handful_of_tries() {
    let rig = Rig::start();
    for _ in 0..10 {
        rig.host.connect();
        settle().await;
        rig.host.leave();
        settle().await;
    }
    let tries = rig.host.tries();
    assert!(tries.reads <= 50 && tries.writes <= 20 && tries.waits <= 100, "{tries:?}");
    assert_eq!((get(&rig.counters.host_connects), get(&rig.counters.host_leaves)), (10, 10));
}

#[tokio::test(start_paused = true)]
async fn frames_leave_together_in_one_write_and_replies_before_them() {
    let rig = Rig::start();
    settle().await;
    for n in 0..100 {
        rig.send_telemetry(format!("metric {n}\n"));
    }
    rig.durable(1, "must\n");
    rig.host.connect();
    settle().await;
    let expected: String = (0..100).map(|n| format!("metric {n}\n")).collect();
    assert_eq!(rig.seen(), format!("\nmust\n{expected}"));
    assert_eq!(rig.host.tries().writes, 2, "the newline, and the rest");
    assert_eq!((rig.node.count().received, rig.node.count().sent), (101, 101));
}

#[tokio::test(start_paused = true)]
async fn a_partial_write_goes_on_from_that_byte() {
    let rig = Rig::start();
    rig.host.take_at_most(7);
    rig.host.connect();
    settle().await;
    rig.send_telemetry("a line that is longer than seven bytes\n");
    rig.send_telemetry(vec![b'x'; 100_000].into_iter().chain(*b"\n").collect::<Bytes>());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let expected = format!("\na line that is longer than seven bytes\n{}\n", "x".repeat(100_000));
    assert!(rig.seen() == expected);
}

#[tokio::test(start_paused = true)]
async fn a_line_cut_by_a_hang_up_is_sent_again_whole_and_the_ones_before_are_not() {
    let rig = Rig::start();
    rig.host.connect();
    settle().await;
    rig.host.take_at_most(1);
    rig.host.stop_reading(); // room for one write in its socket and 128 in the ring
    rig.send_telemetry(format!("first\n{}\n", "y".repeat(200)));
    settle().await;
    assert_eq!(get(&rig.counters.stalls), 1);
    rig.host.leave();
    settle().await;
    rig.host.take_at_most(32 * 1024);
    rig.host.connect();
    settle().await;
    assert_eq!(rig.seen(), format!("\n{}\n", "y".repeat(200)));
    assert_eq!(get(&rig.counters.torn_lines_resent), 1);
    let count = rig.node.count();
    assert_eq!((count.received, count.sent, rig.host.discarded()), (2, 1, 129));
    assert_eq!(count.dropped, [("unread", 1)], "the first line may not have been read");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_takes_over_unseen_never_starts_inside_a_line() {
    let rig = Rig::start();
    rig.host.connect();
    settle().await;
    rig.host.stop_reading();
    for n in 0..5_000 {
        rig.telemetry.send(frame(format!("{n:0>1000}\n"))).await.unwrap();
    }
    rig.host.leave();
    rig.host.connect(); // before the port could see the gap
    tokio::time::sleep(Duration::from_secs(3)).await;
    let seen = rig.seen();
    assert!(!seen.is_empty() && seen.lines().all(|line| line.len() == 1000 || line.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn reading_goes_on_while_writing_is_stalled() {
    let mut rig = Rig::start();
    rig.host.connect();
    settle().await;
    rig.host.stop_reading();
    rig.host.take_at_most(1);
    rig.send_telemetry("z".repeat(500) + "\n");
    settle().await;
    rig.host.send(b"command\n");
    settle().await;
    assert_eq!(rig.inbound.try_recv(), Ok(Inbound::Bytes("command\n".into())));
    assert_eq!(rig.node.count().sent, 0, "still stalled");
    rig.host.read_on();
    settle().await;
    assert_eq!(rig.node.count().sent, 1);
}

#[tokio::test(start_paused = true)]
async fn writing_goes_on_while_the_inbound_channel_is_full() {
    let mut rig = Rig::start();
    rig.host.connect();
    rig.host.send(&[b'c'; 100 * 4096]);
    settle().await;
    let reads = rig.host.tries().reads;
    assert_eq!(get(&rig.counters.bytes_in), 16 * 4096, "the channel is full, the port is not read");
    rig.send_telemetry("metric\n");
    settle().await;
    assert_eq!(rig.seen(), "\nmetric\n");
    assert_eq!(rig.host.tries().reads, reads);
    let mut taken = 0;
    while let Some(Inbound::Bytes(chunk)) =
        tokio::time::timeout(Duration::from_secs(1), rig.inbound.recv()).await.unwrap()
    {
        taken += chunk.len();
        if taken == 100 * 4096 {
            return;
        }
    }
    panic!("{taken} bytes");
}

#[tokio::test(start_paused = true)]
async fn a_reset_follows_the_last_bytes_of_a_host_that_has_gone() {
    let mut rig = Rig::start();
    rig.host.connect();
    settle().await;
    rig.host.send(&[b'o'; 20 * 4096]); // more than the channel holds
    settle().await;
    rig.host.leave();
    rig.send_telemetry("seen by nobody yet\n"); // a write finds the hang-up before a read does
    settle().await;
    let mut order = String::new();
    let mut drain = async |rig: &mut Rig| {
        while let Ok(item) =
            tokio::time::timeout(Duration::from_millis(1), rig.inbound.recv()).await
        {
            order.push(match item.unwrap() {
                Inbound::Bytes(chunk) => char::from(chunk[0]),
                Inbound::Reset => '|',
            });
        }
    };
    drain(&mut rig).await;
    rig.host.connect();
    rig.host.send(b"n");
    drain(&mut rig).await;
    assert_eq!(order, format!("{}|n", "o".repeat(20)));
    assert_eq!((get(&rig.counters.host_connects), get(&rig.counters.host_leaves)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn without_an_inbound_channel_bytes_from_the_host_are_dropped_and_counted() {
    let (guest, host) = model::pair_with_buffer(1);
    let mut port = Port::new(guest, Arc::default(), CancellationToken::new());
    let (counters, _replies) = (port.counters(), port.replies());
    let running = tokio::spawn(async move { port.run().await });
    host.connect();
    host.send(&[b'c'; 100_000]);
    settle().await;
    assert_eq!((get(&counters.bytes_in), get(&counters.bytes_in_unwanted)), (100_000, 100_000));
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn an_unplugged_port_is_opened_again_by_name_and_the_cut_line_goes_whole() {
    let rig = Rig::start();
    rig.host.connect();
    settle().await;
    rig.host.take_at_most(1);
    rig.host.stop_reading();
    rig.send_telemetry("w".repeat(200) + "\n");
    settle().await;
    rig.host.unplug();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let opens = rig.host.tries().opens;
    assert!((100..=260).contains(&opens), "looked for every 2.5 to 5 s: {opens}");
    rig.host.take_at_most(32 * 1024);
    rig.host.read_on();
    rig.host.plug();
    tokio::time::sleep(Duration::from_secs(5)).await;
    // What was in the host's socket it still reads; the newline after the open ends that.
    assert_eq!(rig.seen(), format!("\nw\n{}\n", "w".repeat(200)));
    assert_eq!((get(&rig.counters.opens), rig.node.count().sent), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_port_that_another_process_holds_is_tried_again_within_thirty_seconds() {
    let (guest, host) = model::pair_with_buffer(1);
    host.hold(true);
    host.connect();
    let mut port = Port::new(guest, Arc::default(), CancellationToken::new());
    let (counters, (durable, _read)) = (port.counters(), port.durable());
    let running = tokio::spawn(async move { port.run().await });
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let opens = host.tries().opens;
    assert!((120..=260).contains(&opens), "{opens}");
    host.hold(false);
    durable
        .try_send(TrackedFrame {
            seq: 1,
            frame: frame("must\n"),
            redelivered: false,
            requested_at: None,
            audience: Audience::Any,
            sender_waits: false,
        })
        .unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(host.sessions()[0].received, b"\nmust\n");
    assert_eq!(get(&counters.opens), 1);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_the_device_is_counted_and_survived() {
    let rig = Rig::start();
    rig.host.connect();
    settle().await;
    rig.host.fail_once();
    settle_long().await;
    rig.send_telemetry("after\n");
    settle().await;
    assert_eq!(rig.seen(), "\n\nafter\n");
    assert_eq!((rig.node.count().failed, get(&rig.counters.opens)), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_returns_0_is_tried_again_without_spinning() {
    let rig = Rig::start();
    rig.host.connect();
    settle().await;
    rig.host.write_zero(3);
    rig.send_telemetry("late\n");
    settle().await;
    assert_eq!(rig.seen(), "\n");
    let writes = rig.host.tries().writes;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(rig.seen(), "\nlate\n");
    assert_eq!(rig.host.tries().writes - writes, 3);
}

#[tokio::test(start_paused = true)]
async fn closing_flushes_the_channels_until_they_end() {
    let mut rig = Rig::start();
    rig.host.connect();
    settle().await;
    rig.closing.cancel();
    settle().await;
    rig.host.send(b"late\n");
    settle().await;
    assert_eq!(
        rig.inbound.try_recv(),
        Ok(Inbound::Bytes("late\n".into())),
        "the receiver is still there"
    );
    rig.send_telemetry("held upstream until now\n");
    rig.reply("last reply\n");
    settle().await;
    assert!(!rig.running.is_finished());
    let host = rig.host.clone();
    let summary = rig.close().await;
    assert_eq!(
        summary,
        Summary { end: PortExit::Flushed, received: 2, sent: 2, dropped: vec![], failed: 0 }
    );
    assert_eq!(host.sessions()[0].received, b"\nlast reply\nheld upstream until now\n");
}

#[tokio::test(start_paused = true)]
async fn closing_without_a_host_ends_at_once_and_counts_the_loss() {
    let rig = Rig::start();
    settle().await;
    for _ in 0..7 {
        rig.send_telemetry("never\n");
    }
    let began = Instant::now();
    let summary = rig.close().await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    let lost = vec![("shutdown", 7)];
    assert_eq!(
        summary,
        Summary { end: PortExit::Abandoned, received: 7, sent: 0, dropped: lost, failed: 0 }
    );
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_loses_nothing_and_abandoning_counts_what_is_left() {
    let (guest, host) = model::pair_with_buffer(1);
    let mut port = Port::new(guest, Arc::default(), CancellationToken::new());
    let replies = port.replies();
    let (telemetry, lane) = mpsc::channel(8);
    port.telemetry(ReceiverStream::new(lane));
    host.connect();
    host.stop_reading();
    host.take_at_most(1);
    telemetry.try_send(frame("v".repeat(200) + "\n")).unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(5), port.run()).await.is_err());
    host.read_on();
    host.take_at_most(32 * 1024);
    assert!(tokio::time::timeout(Duration::from_secs(5), port.run()).await.is_err());
    let received = String::from_utf8(host.sessions()[0].received.clone()).unwrap();
    assert!(received.ends_with(&format!("\n{}\n", "v".repeat(200))), "{received}");

    host.leave();
    telemetry.try_send(frame("w\n")).unwrap();
    let summary = port.abandon();
    assert_eq!(
        (summary.end, summary.received, summary.dropped),
        (PortExit::Abandoned, 2, vec![("shutdown", 1)])
    );
    assert!(replies.is_closed(), "senders of replies see the end");
}

#[tokio::test(start_paused = true)]
async fn the_hook_sees_each_frame_when_its_last_byte_was_accepted() {
    let (guest, host) = model::pair_with_buffer(1);
    let mut port = Port::new(guest, Arc::default(), CancellationToken::new());
    port.telemetry(ReceiverStream::new({
        let (sender, lane) = mpsc::channel(8);
        for _ in 0..3 {
            sender.try_send(frame("frame\n")).unwrap();
        }
        lane
    }));
    let latencies = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&latencies);
    port.on_written(move |frame, at| seen.lock().unwrap().push(at - frame.oldest));
    let running = tokio::spawn(async move { port.run().await });
    tokio::time::sleep(Duration::from_secs(2)).await;
    host.connect();
    assert_eq!(
        running.await.unwrap().end,
        PortExit::Flushed,
        "its channels have ended: so does it"
    );
    assert_eq!(*latencies.lock().unwrap(), [Duration::from_secs(2); 3]);
}
