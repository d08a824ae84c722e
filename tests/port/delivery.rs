//! Durable frames, the window, and the port's own lines.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use infiniservice::internals::port::{Audience, TrackedFrame, WINDOW_BYTES};
use tokio::time::Instant;

use crate::doubles::port as model;

use super::rig::{Rig, frame, settle};

fn barriers(rig: &Rig) -> usize {
    rig.seen().lines().filter(|line| line.starts_with("{\"barrier\"")).count()
}

#[tokio::test(start_paused = true)]
async fn a_session_opens_with_its_own_line_and_a_barrier_and_another_follows_a_durable_frame() {
    let rig = Rig::asking();
    rig.send_telemetry("{\"early\":1}\n");
    rig.durable(7, "{\"must\":1}\n");
    rig.host.connect();
    settle().await;
    let seen = rig.seen();
    assert!(seen.starts_with("\n{\"session\":1}\n{\"barrier\":"), "{seen}");
    assert_eq!(rig.said(), "\n{\"session\":1}\n{\"must\":1}\n{\"early\":1}\n");
    assert_eq!(
        (barriers(&rig), seen.lines().last().map(|last| last.starts_with("{\"barrier\":"))),
        (2, Some(true))
    );
    assert_eq!(*rig.read.borrow(), 0);
    rig.answer();
    settle().await;
    assert_eq!(*rig.read.borrow(), 7);

    rig.send_telemetry("{\"late\":1}\n");
    settle().await;
    assert!(rig.seen().ends_with("{\"late\":1}\n"), "nothing to ask for a few readings");
}

#[tokio::test(start_paused = true)]
async fn unacknowledged_durable_frames_go_to_the_next_host_marked() {
    let rig = Rig::met().await;
    rig.durable(1, "{\"a\":1}\n");
    settle().await;
    rig.answer();
    settle().await;
    rig.durable(2, "{\"b\":1}\n{\"c\":1}\n");
    settle().await;
    rig.reply("{\"reply\":1}\n");
    rig.host.leave();
    rig.durable(3, "{\"d\":1}\n");
    settle().await;
    rig.host.connect();
    settle().await;
    let head = "\n{\"session\":2}\n{\"redelivered\":true,\"b\":1}\n{\"redelivered\":true,\"c\":1}\n{\"d\":1}\n";
    assert_eq!(rig.said(), head);
    rig.answer();
    settle().await;
    assert_eq!(*rig.read.borrow(), 3);
    rig.check_counters();
    assert_eq!(rig.node.count().dropped, [("session", 1)], "a reply is for the host that asked");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_took_over_unseen_is_detected_by_the_barrier_it_skips() {
    let rig = Rig::met().await;
    rig.durable(1, "{\"a\":1}\n");
    settle().await;
    rig.answer();
    settle().await;
    rig.host.stop_reading();
    rig.durable(2, "{\"b\":1}\n");
    settle().await;
    rig.host.leave();
    rig.host.connect(); // before the port could see the gap
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        rig.answer();
    }
    settle().await;
    let redelivered = "\n{\"session\":2}\n{\"redelivered\":true,\"b\":1}\n";
    assert!(rig.said().contains(redelivered), "{}", rig.seen());
    rig.answer();
    settle().await;
    assert_eq!(*rig.read.borrow(), 2);
}

#[tokio::test(start_paused = true)]
async fn never_more_than_the_window_is_unacknowledged() {
    let rig = Rig::met().await;
    rig.answer();
    settle().await;
    for _ in 0..1_000 {
        rig.send_telemetry(format!("{{\"t\":\"{}\"}}\n", "x".repeat(500)));
    }
    let mut read = rig.seen().len();
    for round in 0..20 {
        settle().await;
        let ahead = rig.seen().len() - read;
        assert!(ahead <= WINDOW_BYTES * 3 / 4 + 256, "{ahead} bytes in round {round}");
        assert!(ahead > WINDOW_BYTES / 4, "{ahead} bytes in round {round}: the window is used");
        rig.durable(round + 1, format!("{{\"m\":{round}}}\n"));
        settle().await;
        assert!(rig.seen().contains(&format!("{{\"m\":{round}}}")), "there is room for a reply");
        read = rig.seen().len();
        rig.answer();
        if rig.node.count().sent >= 1_000 {
            return;
        }
    }
    panic!("{:?}", rig.node.count());
}

#[tokio::test(start_paused = true)]
async fn a_frame_longer_than_the_window_goes_when_all_before_it_is_acknowledged() {
    let rig = Rig::met().await;
    rig.send_telemetry("{\"t\":1}\n");
    settle().await;
    rig.durable(1, format!("{{\"m\":\"{}\"}}\n", "x".repeat(500_000)));
    settle().await;
    assert!(rig.seen().len() < 1_000, "something before it may still be on its way");
    rig.answer();
    settle().await;
    assert!(rig.seen().len() > 500_000);
    rig.durable(2, "{\"m\":2}\n");
    settle().await;
    assert!(!rig.seen().contains("{\"m\":2}"));
    rig.answer();
    settle().await;
    rig.answer();
    settle().await;
    assert_eq!(*rig.read.borrow(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_never_answers_gets_a_window_a_second_and_acknowledges_by_being_alive() {
    let rig = Rig::met().await;
    for _ in 0..1_000 {
        rig.send_telemetry(format!("{{\"t\":\"{}\"}}\n", "x".repeat(1_000)));
    }
    rig.durable(1, "{\"m\":1}\n");
    settle().await;
    assert!(rig.seen().len() <= WINDOW_BYTES);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let seen = rig.seen().len();
    assert!((5 * WINDOW_BYTES..12 * WINDOW_BYTES).contains(&seen), "{seen} bytes in ten seconds");
    assert_eq!(*rig.read.borrow(), 0);
    assert!(rig.counters.never_acked.load(Relaxed), "`diagnose` finds that");
    tokio::time::sleep(Duration::from_secs(22)).await;
    assert_eq!(*rig.read.borrow(), 0, "it may hang");
    rig.host.send(b"{}\n");
    settle().await;
    assert_eq!(*rig.read.borrow(), 1, "half a minute later it still has something to say");
    rig.durable(2, "{\"m\":2}\n");
    tokio::time::sleep(Duration::from_secs(299)).await;
    assert_eq!(*rig.read.borrow(), 1);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(*rig.read.borrow(), 2, "and one that never says anything is not doubted for ever");
    assert!(barriers(&rig) <= 64 + 2);
    rig.answer();
    settle().await;
    assert!(!rig.counters.never_acked.load(Relaxed));
}

#[tokio::test(start_paused = true)]
async fn hosts_that_hang_and_crash_cost_nothing_on_a_port_that_was_once_acknowledged() {
    let rig = Rig::over(model::pair(), true);
    rig.host.connect();
    rig.durable(1, "{\"m\":1}\n");
    settle().await;
    rig.answer();
    settle().await;
    let flood = rig.telemetry.clone();
    let flood = tokio::spawn(async move {
        let line = format!("{{\"t\":\"{}\"}}\n", "x".repeat(8_000));
        while flood.send(frame(line.clone())).await.is_ok() {}
    });
    for round in 0..40 {
        if round % 2 == 0 {
            rig.answer(); // it hangs after it has answered, or before
            settle().await;
        }
        rig.host.stop_reading();
        tokio::time::sleep(Duration::from_secs(round * 60)).await;
        rig.host.leave();
        assert_eq!(rig.host.leaked(), 0, "round {round}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        rig.host.read_on();
        rig.host.connect();
        settle().await;
    }
    flood.abort();
}

#[tokio::test(start_paused = true)]
async fn unacknowledged_readings_of_a_host_that_left_are_counted_as_lost() {
    let rig = Rig::met().await;
    rig.answer();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = barriers(&rig);
    rig.send_telemetry("{\"t\":1}\n");
    settle().await;
    assert_eq!(barriers(&rig), before + 1, "it is asked whether it has read them, ...");
    rig.answer();
    settle().await;
    for number in 2..=4 {
        rig.send_telemetry(format!("{{\"t\":{number}}}\n"));
        settle().await;
    }
    assert_eq!(barriers(&rig), before + 1, "... and not of each again");
    rig.host.leave();
    settle().await;
    assert_eq!(rig.node.count().dropped, [("unread", 3)], "it may have read them");
    rig.check_counters();
}

#[tokio::test(start_paused = true)]
async fn a_host_that_stops_answering_acknowledges_nothing_and_is_asked_again() {
    let rig = Rig::met().await;
    rig.durable(1, "{\"m\":1}\n");
    settle().await;
    rig.answer();
    settle().await;
    for _ in 0..1_000 {
        rig.send_telemetry(format!("{{\"t\":\"{}\"}}\n", "x".repeat(1_000)));
    }
    rig.durable(2, "{\"m\":2}\n");
    tokio::time::sleep(Duration::from_secs(50)).await;
    let seen = rig.seen().len();
    assert!(seen <= WINDOW_BYTES + 512, "{seen}");
    tokio::time::sleep(Duration::from_secs(3_000)).await;
    let seen = rig.seen().len();
    assert!(seen <= WINDOW_BYTES + 10 * 512, "it hangs: {seen}");
    for _ in 0..200 {
        rig.host.send(b"{}\n");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let seen = rig.seen().len();
    assert!((2 * WINDOW_BYTES..5 * WINDOW_BYTES).contains(&seen), "a window a minute: {seen}");
    assert_eq!(*rig.read.borrow(), 1, "durable data waits for its answer");
}

#[tokio::test(start_paused = true)]
async fn a_device_that_fails_repeatedly_opens_the_breaker_and_the_host_is_notified() {
    let rig = Rig::met().await;
    for _ in 0..5 {
        rig.host.fail_once();
        tokio::time::sleep(Duration::from_secs(7)).await;
    }
    let opens = rig.host.tries().opens;
    rig.host.fail_once();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(rig.host.tries().opens - opens <= 3, "a rest");
    let seen = rig.seen();
    assert!(seen.contains("{\"breaker\":\"HalfOpen\"}"), "{seen}");
    tokio::time::sleep(Duration::from_secs(120)).await;
    rig.send_telemetry("{\"t\":1}\n");
    settle().await;
    assert!(rig.seen().contains("{\"breaker\":\"Closed\"}"), "{}", rig.seen());
}

#[tokio::test(start_paused = true)]
async fn an_idle_port_with_everything_acknowledged_does_not_wake() {
    let rig = Rig::asking();
    rig.host.connect();
    rig.durable(1, "{\"m\":1}\n");
    settle().await;
    rig.answer();
    settle().await;
    let before = super::get(&rig.counters.wakeups);
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(super::get(&rig.counters.wakeups), before);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_crashes_two_hundred_times_under_load_costs_the_port_nothing() {
    let rig = Rig::over(model::pair(), true);
    let flood = rig.telemetry.clone();
    let flood = tokio::spawn(async move {
        let line = format!("{{\"t\":\"{}\"}}\n", "x".repeat(8_000));
        while flood.send(frame(line.clone())).await.is_ok() {}
    });
    for round in 1..=200 {
        rig.host.connect();
        match round % 4 {
            0 => rig.host.stop_reading(), // it never read a byte
            1 => rig.host.read_on(),
            2 => rig.answer(), // it read, answered, and stops in the middle
            _ => {}
        }
        rig.durable(round, format!("{{\"m\":{round}}}\n"));
        tokio::time::sleep(Duration::from_millis(round * 7 % 1_500)).await;
        if round % 3 == 0 {
            rig.answer();
            rig.host.stop_reading();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        rig.host.leave();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(rig.host.leaked(), 0, "round {round}");
    }
    rig.host.read_on();
    rig.host.connect();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        rig.answer();
    }
    assert_eq!((*rig.read.borrow(), rig.host.leaked()), (200, 0));
    flood.abort();
}

#[tokio::test(start_paused = true)]
async fn a_host_that_ignored_many_barriers_gets_another_one_later() {
    let rig = Rig::met().await;
    rig.durable(1, "{\"first\":1}\n");
    settle().await;
    rig.answer();
    for seq in 2..=100 {
        rig.durable(seq, format!("{{\"n\":{seq}}}\n"));
        settle().await;
    }
    assert_eq!(*rig.read.borrow(), 1);
    // From now on it answers new barriers, and none of the earlier ones.
    let ignored = rig.seen().len();
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        rig.host.send(b"{}\n");
        let later = rig.seen()[ignored..].to_owned();
        for line in later.lines().filter_map(|line| line.strip_prefix("{\"barrier\":")) {
            rig.acks.on_ack(line.trim_end_matches('}').parse().unwrap(), None);
        }
    }
    assert_eq!(*rig.read.borrow(), 100);
    let before = rig.seen().len();
    tokio::time::sleep(Duration::from_secs(1_000)).await;
    assert_eq!(rig.seen().len(), before, "nothing waits, nothing is asked");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_came_unseen_gets_a_barrier_before_silence_counts_as_delivery() {
    // However many barriers the last host ignored.
    for items in [1, 6, 90] {
        let rig = Rig::met().await;
        rig.host.stop_reading();
        for seq in 1..=items {
            rig.durable(seq, format!("{{\"n\":{seq}}}\n"));
            settle().await;
        }
        rig.host.leave();
        rig.host.connect(); // before the port could see the gap
        for _ in 0..360 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            rig.answer();
        }
        for seq in 1..=items {
            let again = format!("{{\"redelivered\":true,\"n\":{seq}}}\n");
            assert!(rig.seen().contains(&again), "{seq} of {items}: {}", rig.seen());
        }
        assert_eq!(*rig.read.borrow(), items);
    }
}

#[tokio::test(start_paused = true)]
async fn many_short_writes_fill_the_window_before_they_fill_the_socket_behind_the_port() {
    let rig = Rig::over(model::pair(), true);
    rig.host.connect();
    settle().await;
    rig.answer();
    settle().await;
    rig.host.stop_reading();
    for number in 0..1_000 {
        rig.send_telemetry(format!("{{\"t\":{number}}}\n"));
        settle().await; // a write for each
    }
    rig.host.leave();
    assert_eq!(rig.host.leaked(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_requested_frame_is_marked_for_another_host() {
    let rig = Rig::met().await;
    let requested_at = Some(Instant::now());
    let tracked = |seq, requested_at| TrackedFrame {
        seq,
        frame: frame(format!("{{\"m\":{seq}}}\n")),
        redelivered: false,
        requested_at,
        audience: Audience::Any,
        sender_waits: false,
    };
    let late = frame("{\"reply\":1}\n");
    rig.durable.try_send(tracked(1, requested_at)).unwrap();
    settle().await;
    rig.answer();
    assert!(rig.seen().contains("{\"m\":1}"), "the one that asked is still there");
    settle().await;
    rig.host.leave();
    rig.durable.try_send(tracked(2, requested_at)).unwrap(); // while no host is connected
    settle().await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    rig.host.connect();
    settle().await;
    rig.durable.try_send(tracked(3, requested_at)).unwrap(); // while another one is
    rig.durable.try_send(tracked(4, None)).unwrap();
    rig.replies.try_send(late).unwrap();
    rig.reply("{\"reply\":2}\n");
    settle().await;
    let seen = rig.seen();
    let received: Vec<&str> =
        seen.lines().filter(|line| line.contains("\"m\"") || line.contains("reply")).collect();
    let marked = |seq| format!("{{\"redelivered\":true,\"m\":{seq}}}");
    assert_eq!(received, [&marked(2), "{\"reply\":2}", &marked(3), "{\"m\":4}"]);
    assert_eq!(rig.node.count().dropped, [("session", 1)]);
}

/// The device shows no gap, and the new host has the barrier that follows what the last one had begun to read.
#[tokio::test(start_paused = true)]
async fn a_host_that_took_over_unseen_is_detected_by_the_number_of_its_connection() {
    let rig = Rig::met().await;
    rig.answer_over(1);
    settle().await;
    rig.durable(1, "{\"a\":1}\n");
    settle().await;
    rig.answer_over(2);
    settle().await;
    assert_eq!(*rig.read.borrow(), 0, "it was the last host that may have read it");
    let redelivered = "{\"session\":2}\n{\"redelivered\":true,\"a\":1}\n";
    assert!(rig.said().ends_with(redelivered), "{}", rig.seen());
    rig.answer_over(2);
    settle().await;
    assert_eq!(*rig.read.borrow(), 1);
    rig.check_counters();
}
