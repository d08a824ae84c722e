//! The host as a library.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use infiniservice::host::{
    GUEST_BUFFER_BYTES_MAX, GUEST_LINE_BYTES_MAX, Gone, Host, HostError, Kind, Script, Settings,
    Shell, action,
};
use infiniservice::model::Iso8601;
use serde_json::json;
use tokio::net::UnixStream;

use super::peer::{Peer, settings};

const SECONDS_30: Duration = Duration::from_secs(30);

fn pair(settings: Settings) -> (Host, Peer) {
    let (host, guest) = UnixStream::pair().unwrap();
    (Host::over(host, settings), Peer::over(guest))
}

fn dated(kind: &str, at: SystemTime) -> String {
    format!(r#"{{"type":"{kind}","timestamp":"{}"}}"#, Iso8601::new(at).as_str())
}

#[tokio::test]
async fn five_hundred_commands_at_once_are_answered_in_any_order_each_with_its_own() {
    let (host, mut guest) = pair(settings());
    let ask = action("SystemInfo", &[]).unwrap();
    let asked = futures::future::join_all((0..500).map(|_| host.command(&ask, SECONDS_30)));
    let speaks = async {
        let mut heard = Vec::new();
        for _ in 0..500 {
            heard.push(guest.hear().await);
        }
        for command in heard.iter().rev() {
            let id = &command.body["id"];
            guest.answer(command, &format!(r#""success":true,"data":{{"of":{id}}}"#)).await;
        }
    };
    let (answers, ()) = tokio::join!(asked, speaks);
    for answer in answers {
        let answer = answer.unwrap();
        assert_eq!(answer.data["of"], answer.id);
    }
}

#[tokio::test]
async fn requests_are_stamped_with_the_guests_clock_once_it_is_known() {
    let (host, mut guest) = pair(settings());
    let millis = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    host.send("{}").await.unwrap();
    let own = guest.hear().await.ts;
    assert!(millis(SystemTime::now()).abs_diff(own) < 20_000, "the host's own clock");

    let ahead = SystemTime::now() + Duration::from_secs(7200);
    guest.say(r#"{"type":"keep_alive","sequence_number":1,"timestamp":1700000000000}"#).await;
    guest.hear().await;
    assert_eq!(host.status().clock.offset_ms(), None, "a number is no clock");
    guest.say(dated("agent_event", ahead)).await;
    host.clock_known(SECONDS_30).await.unwrap();
    host.send("{}").await.unwrap();
    let stamped = guest.hear().await.ts;
    assert!(millis(ahead).abs_diff(stamped) < 20_000, "two hours ahead");
}

#[tokio::test(start_paused = true)]
async fn keep_alives_are_sent_in_time_and_checked_and_the_guests_own_are_answered() {
    let (host, mut guest) = pair(Settings { keep_alive: Some(SECONDS_30), ..settings() });
    let began = tokio::time::Instant::now();
    let asked = guest.hear().await;
    assert_eq!(began.elapsed().as_secs(), 30);
    assert_eq!(asked.body["type"], "keep_alive_request");
    assert_eq!(asked.body["sequence_number"], 1);
    guest.say(r#"{"type":"keep_alive","sequence_number":1}"#).await;
    let answer = guest.hear().await;
    assert_eq!(answer.body["type"], "keep_alive_response");
    assert_eq!(answer.body["sequence_number"], 1);
    let alive = host.status().keep_alive;
    assert_eq!((alive.asked(), alive.echoed(), alive.missed_in_a_row()), (1, 1, 0));

    guest.say(r#"{"type":"keep_alive","sequence_number":1005}"#).await;
    assert_eq!(guest.hear().await.body["sequence_number"], 1005);
    for number in [1006, 1007, 1008] {
        assert_eq!(guest.hear().await.body["sequence_number"], number, "counts on from there");
    }
    assert_eq!(host.status().keep_alive.missed_in_a_row(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_command_without_an_answer_times_out_with_the_likely_reason() {
    let (host, mut guest) = pair(settings());
    let ask = action("SystemInfo", &[]).unwrap();
    let began = tokio::time::Instant::now();
    let late = host.command(&ask, SECONDS_30).await.unwrap_err().to_string();
    assert_eq!(began.elapsed().as_secs(), 32, "the time-out and the grace");
    assert!(late.starts_with("no answer within 30s: nothing at all came from the guest"), "{late}");

    let (late, ()) = tokio::join!(host.command(&ask, SECONDS_30), async {
        guest.hear().await;
        let command = guest.hear().await;
        assert_eq!(command.body["timeout"], 30);
        guest.say(dated("agent_event", SystemTime::now() + Duration::from_secs(7200))).await;
        guest.say(r#"{"type":"response","id":"another","success":true}"#).await;
    });
    let late = late.unwrap_err().to_string();
    assert!(late.contains("clock is 7200 s off") || late.contains("clock is 7199 s off"), "{late}");
    let late = host.command(&ask, SECONDS_30).await.unwrap_err().to_string();
    assert!(late.contains("has it the same secret?"), "{late}");
}

#[tokio::test]
async fn scripts_are_handed_out_once_on_request_and_an_empty_list_otherwise() {
    let (host, mut guest) = pair(settings());
    let script = Script {
        execution_id: "run-1".to_owned(),
        script_id: "s".to_owned(),
        script_name: "hello".to_owned(),
        script_content: "echo hello".to_owned(),
        shell: Shell::Bash,
        execution_type: "FIRST_BOOT".to_owned(),
        input_values: [("NAME".to_owned(), "value".to_owned())].into(),
        timeout_seconds: 600,
        run_as: None,
    };
    host.pending(vec![script]).await.unwrap();
    // The list is taken in before this is written.
    host.send("{}").await.unwrap();
    guest.hear().await;
    for runs in [json!(["run-1"]), json!([])] {
        guest.say(r#"{"type":"request_pending_scripts","vm_id":"x"}"#).await;
        let given = guest.hear().await.body;
        assert_eq!(given["type"], "pending_scripts_response");
        let scripts = given["scripts"].as_array().unwrap();
        let ids: Vec<_> = scripts.iter().map(|script| &script["execution_id"]).collect();
        assert_eq!(json!(ids), runs);
    }
}

#[tokio::test]
async fn lines_are_cut_as_todays_host_cuts_them() {
    let (host, mut guest) = pair(settings());
    let long = format!(r#"{{"type":"long","x":"{}"}}"#, "x".repeat(GUEST_LINE_BYTES_MAX));
    let (_, kinds) = tokio::join!(
        async {
            guest.bytes(b"\n\r\n  \n{\"type\":\"one\"}\r\n{\"type\":").await;
            guest.bytes(b"\"two\"}\nnonsense\n").await;
            guest.say(&long).await;
            guest.say(r#"{"type":"after"}"#).await;
            let endless = vec![b'x'; 2 * GUEST_BUFFER_BYTES_MAX];
            // The host leaves in the middle of it.
            guest.try_bytes(&endless).await
        },
        async {
            let mut kinds = Vec::new();
            let why = loop {
                match host.next().await {
                    Ok(message) => kinds.push(message.kind),
                    Err(HostError::Gone(why)) => break why,
                    Err(other) => panic!("{other}"),
                }
            };
            assert!(matches!(why, Gone::Endless { .. }), "{why}");
            kinds
        }
    );
    let other = |kind: &str| Kind::Other(kind.to_owned());
    let [one, two, Kind::Unreadable(_), Kind::Unreadable(too_long), after] = &kinds[..] else {
        panic!("{kinds:?}")
    };
    assert_eq!([one, two, after], [&other("one"), &other("two"), &other("after")]);
    assert!(too_long.contains("the longest one taken is 4194304 bytes"), "{too_long}");
}

#[tokio::test]
async fn a_guest_that_floods_and_does_not_read_costs_bounded_memory_and_no_answer() {
    let (host, mut guest) = pair(settings());
    let flood = r#"{"type":"keep_alive","sequence_number":7}"#;
    let ask = action("SystemInfo", &[]).unwrap();
    let (answer, ()) = tokio::join!(host.command(&ask, SECONDS_30), async {
        let command = guest.hear().await;
        let many = format!("{flood}\n").repeat(1000);
        for _ in 0..100 {
            guest.bytes(many.as_bytes()).await;
        }
        guest.answer(&command, r#""success":true"#).await;
    });
    assert!(answer.unwrap().success);
    assert!(host.lost() > 0, "of what nobody takes the oldest goes");
}

#[tokio::test]
async fn metrics_are_a_stream_that_ends_with_the_connection() {
    let (host, mut guest) = pair(Settings::default());
    let now = SystemTime::now();
    guest.say(dated("agent_event", now)).await;
    for share in [10, 20] {
        let line = json!({ "type": "metrics", "data": { "system": { "cpu": { "usage_percent": share } } } });
        guest.say(line.to_string()).await;
    }
    drop(guest);
    let shares: Vec<_> = host.metrics().map(|reading| reading.cpu_percent).collect().await;
    assert_eq!(shares, [Some(10.0), Some(20.0)]);
}

#[tokio::test]
async fn without_a_secret_only_unsigned_payloads_are_sent() {
    let (host, mut guest) = pair(Settings::default());
    let ask = action("SystemInfo", &[]).unwrap();
    let error = host.command(&ask, SECONDS_30).await.unwrap_err();
    assert!(matches!(error, HostError::NoSecret), "{error}");
    guest.say(r#"{"type":"keep_alive","sequence_number":7}"#).await;
    assert_eq!(host.next().await.unwrap().kind, Kind::KeepAlive(7));
    host.send_unsigned("{\"a\":1}").await.unwrap();
    assert_eq!(guest.line().await.as_deref(), Some("{\"a\":1}"));
    assert!(host.send_unsigned("two\nlines").await.is_err());
    drop(host);
    assert_eq!(guest.rest().await, "");
}

#[tokio::test]
async fn a_dropped_host_writes_what_was_sent_and_too_long_a_line_is_refused() {
    let (host, guest) = pair(settings());
    let payload = "x".repeat(1 << 20);
    let (sent, seen) = tokio::join!(
        async {
            let sent = host.send(payload.clone()).await;
            let too_long = host.send("x".repeat(8 << 20)).await.unwrap_err();
            assert!(matches!(too_long, HostError::TooLong { .. }), "{too_long}");
            drop(host);
            sent
        },
        guest.rest()
    );
    sent.unwrap();
    assert!(seen.ends_with("\"}\n") && seen.contains(&payload));
}

#[tokio::test]
async fn an_answer_sent_before_the_disconnect_is_read_even_if_writes_fail() {
    // Whether reading or writing comes first is chance.
    for _ in 0..20 {
        let (host, mut guest) = pair(settings());
        let ask = action("RebootSystem", &[]).unwrap();
        let (answer, ()) = tokio::join!(host.command(&ask, SECONDS_30), async move {
            let command = guest.hear().await;
            // Each of these makes the host write, into a connection that is gone when it does.
            let said = "{\"type\":\"keep_alive\",\"sequence_number\":7}\n".repeat(3000);
            let id = &command.body["id"];
            let last = format!("{said}{{\"type\":\"response\",\"id\":{id},\"success\":true}}\n");
            guest.bytes(last.as_bytes()).await;
        });
        assert!(answer.unwrap().success);
    }
}
