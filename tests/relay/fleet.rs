//! `infiniservice-host ls` beside a relay that runs.

use super::*;

#[tokio::test]
async fn the_guests_of_a_relay_are_listed_with_their_state_and_what_they_said() {
    let place = Place::new();
    let (web, _silent) = (place.guest("web"), place.guest("silent"));
    let metrics = place.at("metrics");
    let output = format!("[[write]]\nprometheus = {{ unix = {metrics:?} }}");
    let _relay = place.relay("", &output);
    let mut guest = accept(&web).await;
    guest.say(r#"{"type":"agent_event","context":{"session":1,"version":"0.1.0"}}"#).await;
    guest.say(r#"{"type":"metrics","data":{"system":{"cpu":{"usage_percent":12.5},"memory":{"total_kb":8,"used_kb":2}}}}"#).await;
    guest.say("garbage").await;
    place
        .scraped(&[
            r#"infiniservice_guest_dropped_total{site="lab",vm="web",reason="garbage"} 1"#,
            r#"infiniservice_guest_up{site="lab",vm="silent"} 0"#,
        ])
        .await;
    let at = format!("unix:{}", metrics.display());
    let ran = |arguments: &[&str]| {
        let output = host().args(arguments).args(["--metrics", &at]).stdin(Stdio::null()).output();
        let output = output.unwrap();
        let [out, err] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code(), out, err)
    };
    let list = |arguments: Vec<&'static str>| {
        let ran = ran(&arguments);
        assert_eq!((ran.0, ran.2.as_str()), (Some(0), ""), "{arguments:?}");
        ran.1
    };
    // The page that is served may be half a second old.
    let late = Instant::now() + PATIENCE;
    let json = loop {
        let guests = objects(&list(vec!["ls", "--json"]));
        if guests.len() == 2 && guests[1]["lost"] == 1 {
            break guests;
        }
        assert!(Instant::now() < late, "{guests:?}");
    };
    assert_eq!(
        (&json[0]["vm"], &json[0]["up"], &json[0]["last_line"]),
        (&"silent".into(), &false.into(), &Value::Null)
    );
    let web = &json[1];
    assert_eq!(
        (&web["vm"], &web["site"], &web["up"]),
        (&"web".into(), &"lab".into(), &true.into())
    );
    assert_eq!(
        (&web["cpu_percent"], &web["memory_percent"], &web["disk_percent"], &web["version"]),
        (&12.5.into(), &25.0.into(), &Value::Null, &"0.1.0".into())
    );
    let table = list(vec!["ls", "--sort", "cpu"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows[1][..7], ["web", "lab", "up", "12.5", "25.0", "-", "1"], "{table}");
    assert_eq!(rows[2][..3], ["silent", "lab", "never"], "{table}");

    for (arguments, code, said) in [
        (vec!["top"], 78, "top needs a terminal"),
        (vec!["ls", "--listen"], 78, "leave out SOCKET and the options for a guest"),
    ] {
        let (ended, _, err) = ran(&arguments);
        assert_eq!(ended, Some(code), "{err}");
        assert!(err.contains(said), "{err}");
    }
    let nowhere = format!("unix:{}", place.at("nowhere").display());
    let output = host().args(["ls", "--metrics", &nowhere]).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69), "{err}");
    assert!(err.contains("no metrics of a relay at"), "{err}");
}
