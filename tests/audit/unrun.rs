//! What was not run, or not to its end.

use infiniservice::internals::commands::audit::chain;
use infiniservice::internals::commands::audit::{Audit, WAITING_UNHEARD};
use infiniservice::internals::commands::authorize::Authorization;
use infiniservice::internals::commands::outcome::Outcome;
use infiniservice::internals::commands::request::Refusal;
use infiniservice::internals::commands::request_log::CUT;

use super::{WIDE, lines, permit, place, remove};

#[tokio::test]
async fn no_text_of_the_host_turns_or_breaks_a_line_for_who_looks_at_it() {
    let (_folder, path) = place();
    let audit = Audit::new(&path, WIDE, true);
    let (id, action) = ("i\u{202e}d\u{2028}".to_owned(), "mysql -phunter2".to_owned());
    let error = "no\u{2066}\u{85}\u{7f}".to_owned();
    audit.unclear(&Refusal { id, action, error, is_script: false, held: <_>::default() }).await;
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.trim_end().chars().all(|c| (' '..='~').contains(&c)), "{text:?}");
    let line = lines(&path).remove(0);
    assert_eq!(
        (&line["id"], &line["why"]),
        (&"i\u{202e}d\u{2028}".into(), &"no\u{2066}\u{85}\u{7f}".into())
    );
    assert_eq!(line["action"], "mysql -p[redacted]");
}

#[tokio::test]
async fn what_was_not_understood_is_a_line_without_arguments() {
    let (_folder, path) = place();
    let audit = Audit::new(&path, WIDE, true);
    let (id, action) = ("id-1".to_owned(), "token=hunter2 ".repeat(1_000));
    let error = "the action --password=hunter2 is not known".to_owned();
    audit.unclear(&Refusal { id, action, error, is_script: false, held: <_>::default() }).await;
    let line = lines(&path).remove(0);
    let text = line.to_string();
    assert!(text.len() < 1_000 && !text.contains("hunter2"), "{text}");
    assert_eq!((&line["event"], &line["decision"]), (&"refused".into(), &"unclear".into()));
    assert_eq!(line["id"], "id-1");
    assert_eq!(line["why"], "the action --password=[redacted] is not known");
}

/// The thread that writes has something else to do first, so that all that comes meanwhile waits.
#[test]
fn lines_are_in_the_order_of_the_calls_and_a_flood_is_counted_and_leaves_room_for_what_runs() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let (_folder, path) = place();
        let audit = Audit::new(&path, WIDE, true);
        let (held, go) = std::sync::mpsc::sync_channel::<()>(1);
        let busy = tokio::task::spawn_blocking(move || go.recv());
        let permit = permit(remove("runs", "nginx"));
        audit.undelivered("first", "SystemInfo", "it has gone");
        let mut begun = std::pin::pin!(audit.begin(&permit));
        assert!(futures::poll!(&mut begun).is_pending());
        for _ in 0..1_000 {
            audit.no_room(&Authorization::Permitted(permit.clone()), "too many");
        }
        let mut other = std::pin::pin!(audit.begin(&permit));
        assert!(futures::poll!(&mut other).is_pending(), "there is room for what runs");
        drop(held);
        assert!(busy.await.unwrap().is_err());
        begun.await.unwrap().end(&Outcome::default()).await;
        other.await.unwrap().end(&Outcome::default()).await;
        let lines = lines(&path);
        let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
        let refused = WAITING_UNHEARD - 2;
        assert_eq!(lines[0]["lines_lost"], 1_000 - refused);
        assert_eq!(events[..3], ["gap", "undelivered", "begin"]);
        assert!(events[3..3 + refused].iter().all(|event| *event == "refused"));
        assert_eq!(events[3 + refused..], ["begin", "end", "end"]);
    });
}

#[tokio::test]
async fn what_panics_has_ended_and_of_what_is_cut_off_the_next_agent_says_that_it_is_lost() {
    let (_folder, path) = place();
    let audit = Audit::new(&path, WIDE, true);
    audit.open().unwrap();
    let cut = audit.begin(&permit(remove("cut", "nginx"))).await.unwrap();
    let panics = audit.begin(&permit(remove("panics", "nginx"))).await.unwrap();
    let panicked = tokio::spawn(async move {
        let _entry = panics;
        tokio::task::yield_now().await;
        panic!("as a test");
    });
    assert!(panicked.await.is_err());
    drop(cut);
    audit.refused(&remove("next", "x"), "r", true, "no").await;
    assert_eq!(lines(&path)[2]["event"], "end");
    assert_eq!(
        (&lines(&path)[2]["id"], &lines(&path)[2]["success"]),
        (&"panics".into(), &false.into())
    );

    let next = Audit::new(&path, WIDE, true);
    next.open().unwrap();
    next.cut("cut", "PackageRemove", true, CUT);
    next.refused(&remove("behind it", "x"), "r", true, "no").await;
    let line = lines(&path).remove(4);
    assert_eq!((&line["event"], &line["why"]), (&"lost".into(), &CUT.into()));
    assert_eq!(chain::verify(&path).unwrap().breaks, [], "another agent goes on with the chain");
}
