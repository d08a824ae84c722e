//! The web page of a relay: what is served and to whom, and the page in a real browser.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use tokio::net::TcpStream;

use super::browser::Browser;
use super::commands::{RULES, agent, command, system_info, there};
use super::nats::secret_file;
use super::*;
use support::has;
use support::prometheus::free;

const TOKEN: &str = "4fb1c2a03d9e5876";

/// A whole answer: its status line, its head and its body.
struct Answer {
    head: String,
    body: String,
}

impl Answer {
    fn code(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    /// The value of a header.
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (this, value) = line.split_once(": ")?;
            this.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Sends a request with these headers, as soon as somebody listens.
async fn send(at: SocketAddr, first: &str, headers: &str, body: &str) -> BufReader<TcpStream> {
    let mut stream = soon("the relay serves its page", || TcpStream::connect(at)).await;
    let length = body.len();
    let request = format!("{first} HTTP/1.1\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    BufReader::new(stream)
}

async fn ask(at: SocketAddr, first: &str, headers: &str, body: &str) -> Answer {
    let mut stream = send(at, first, headers, body).await;
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("it answers").unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Answer { head: head.to_owned(), body: body.to_owned() }
}

async fn get(at: SocketAddr, path: &str) -> Answer {
    ask(at, &format!("GET {path}"), &format!("Host: {at}\r\n"), "").await
}

/// The server-sent events of a relay.
struct Events(Lines<BufReader<TcpStream>>);

impl Events {
    async fn open(at: SocketAddr) -> Self {
        Self(send(at, "GET /events", &format!("Host: {at}\r\n"), "").await.lines())
    }

    /// The name and the data of the next event.
    async fn next(&mut self) -> (String, Value) {
        let mut name = String::new();
        loop {
            let line = timeout(PATIENCE, self.0.next_line()).await.expect("an event").unwrap();
            let line = line.expect("the relay goes on");
            if let Some(event) = line.strip_prefix("event: ") {
                event.clone_into(&mut name);
            } else if let Some(data) = line.strip_prefix("data: ") {
                return (name, serde_json::from_str(data).unwrap());
            }
        }
    }

    /// The row of a guest, once it is as it should be.
    async fn row(&mut self, vm: &str, is_right: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (name, data) = self.next().await;
            let rows = if name == "fleet" { &data["guests"] } else { &data["changed"] };
            let found = rows.as_array().unwrap().iter().find(|row| row["vm"] == vm);
            if let Some(row) = found.filter(|row| is_right(row)) {
                return row.clone();
            }
        }
    }
}

/// A reading of a guest.
fn reading(cpu: f64, process: &str) -> String {
    let process = Value::from(process);
    format!(
        r#"{{"type":"metrics","data":{{"processes":[{{"pid":7,"name":{process},"cpu_percent":{cpu},"memory_kb":2048,"status":"running"}}],"system":{{"cpu":{{"usage_percent":{cpu}}},"memory":{{"total_kb":8,"used_kb":2}},"disk":{{"usage_stats":[{{"used_gb":9.5,"available_gb":0.5}}]}},"network":{{"interfaces":[{{"name":"eth0","bytes_received":7000,"bytes_sent":1000}}]}},"load_average":{{"load_1min":0.25}}}}}}}}"#
    )
}

fn output() -> &'static str {
    "[[write]]\nnull = true\n"
}

#[tokio::test]
async fn the_fleet_is_served_as_it_is_and_as_it_changes() {
    let place = Place::new();
    let (web, _never) = (place.guest("web"), place.guest("db.prod"));
    let [at] = free();
    let _relay = place.relay("silence = \"1h\"", &format!("{}[web]\naddress = \"{at}\"", output()));
    let mut events = Events::open(at).await;
    let (name, fleet) = events.next().await;
    assert_eq!((name.as_str(), &fleet["site"]), ("fleet", &"lab".into()));
    let mut guest = accept(&web).await;
    guest.say(reading(12.5, "<b>init</b>")).await;
    guest.say(r#"{"type":"agent_event","severity":"warn","message":"it is <i>late</i>","context":{"version":"0.1.0"}}"#).await;
    guest.say("garbage").await;
    let row = events.row("web", |row| row["lost"] == 1 && row["cpu"] == 12.5).await;
    for (key, value) in [
        ("state", Value::from("up")),
        ("memory", 25.0.into()),
        ("disk", 95.0.into()),
        ("version", "0.1.0".into()),
    ] {
        assert_eq!(row[key], value, "{row}");
    }
    assert_eq!(row["event"]["text"], "it is <i>late</i>");
    guest.say(reading(50.0, "init")).await;
    events.row("web", |row| row["cpu"] == 50.0).await;

    // A page that is opened later has what was before.
    let late = Events::open(at).await.row("web", |_| true).await;
    assert_eq!(late["spark"].as_array().unwrap().len(), 2, "{late}");
    let whole = get(at, "/guests/web").await;
    assert_eq!((whole.code(), whole.header("content-type")), ("200", Some("application/json")));
    let whole = whole.json();
    assert_eq!(
        (&whole["readings"][0]["cpu"], &whole["readings"][1]["cpu"]),
        (&12.5.into(), &50.0.into())
    );
    assert_eq!(whole["processes"][0]["name"], "init");
    assert_eq!(whole["counts"]["dropped"]["garbage"], 1);
    assert_eq!(get(at, "/guests/db%2Eprod").await.json()["state"], "never");

    // A guest that leaves is down, and one whose socket goes is not there.
    drop((web, guest));
    std::fs::remove_file(place.at("guests/db.prod.socket")).unwrap();
    let (mut is_down, mut is_gone) = (false, false);
    while !(is_down && is_gone) {
        let (_, change) = events.next().await;
        let changed = change["changed"].as_array().unwrap();
        is_down |= changed.iter().any(|row| row["vm"] == "web" && row["state"] == "down");
        is_gone |= change["gone"] == serde_json::json!(["db.prod"]);
    }
    assert_eq!(get(at, "/guests/db%2Eprod").await.code(), "404");
}

#[tokio::test]
async fn what_is_no_question_of_this_page_gets_no_answer() {
    let place = Place::new();
    let [at] = free();
    let web = format!("{}[web]\naddress = \"{at}\"\nhosts = \"relay.example\"", output());
    let _relay = place.relay("", &web);
    let page = get(at, "/").await;
    assert!(page.code() == "200" && page.body.contains("<script src=\"/fleet.js\" defer>"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(!page.body.contains("<script>") && !page.body.contains("style="), "nothing inline");
    for (first, headers, code) in [
        ("GET /", "Host: relay.example\r\n", "200"),
        ("HEAD /", "Host: localhost\r\n", "200"),
        ("GET /", "Host: evil.example\r\n", "421"),
        ("GET /events", "Host: evil.example:8460\r\n", "421"),
        ("GET /", "", "421"),
        ("POST /", "Host: localhost\r\n", "405"),
        ("POST /login", "Host: localhost\r\n", "403"),
        ("GET /../etc/passwd", "Host: localhost\r\n", "404"),
        ("GET /guests/%", "Host: localhost\r\n", "404"),
        ("nonsense", "", "400"),
    ] {
        assert_eq!(ask(at, first, headers, "").await.code(), code, "{first} {headers}");
    }
    let long = ask(at, "POST /login", "Host: localhost\r\n", &"x".repeat(2000)).await;
    assert_eq!(long.code(), "400");

    // As many pages as there may be; the next one has to wait for one to be closed.
    let mut pages = Vec::new();
    for _ in 0..16 {
        let mut page = Events::open(at).await;
        page.next().await;
        pages.push(page);
    }
    assert_eq!(get(at, "/events").await.code(), "503");
    pages.pop();
    soon("there is room for a page", || async {
        let mut stream = send(at, "GET /events", &format!("Host: {at}\r\n"), "").await;
        let mut first = String::new();
        timeout(PATIENCE, stream.read_line(&mut first)).await.expect("an answer").unwrap();
        if first.contains(" 200 ") { Ok(()) } else { Err(()) }
    })
    .await;
}

#[tokio::test]
async fn with_a_token_nobody_reads_the_fleet_without_it_and_no_log_has_it() {
    let place = Place::new();
    let _guest = place.guest("web");
    let ([at], token) = (free(), place.at("token"));
    std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let web =
        format!("{}[web]\naddress = \"{at}\"\ntoken = \"file:{}\"", output(), token.display());
    let relay = place.relay_with("", &web, Stdio::piped());
    let with = |more: &str| format!("Host: {at}\r\n{more}\r\n");
    for path in ["/events", "/guests/web"] {
        let refused = get(at, path).await;
        assert_eq!((refused.code(), refused.header("www-authenticate")), ("401", Some("Bearer")));
        let wrong = ask(at, &format!("GET {path}"), &with("Authorization: Bearer 4fb1"), "").await;
        assert_eq!(wrong.code(), "401");
    }
    let sent = get(at, "/").await;
    assert_eq!((sent.code(), sent.header("location")), ("303", Some("/login")));
    let form = get(at, "/login").await;
    assert!(form.code() == "200" && form.body.contains("role=\"alert\" hidden"), "{}", form.body);
    let bearer = with(&format!("Authorization: Bearer {TOKEN}"));
    soon("the guest is found", || async {
        let answer = ask(at, "GET /guests/web", &bearer, "").await;
        if answer.code() == "200" { Ok(()) } else { Err(()) }
    })
    .await;
    let kind = "Content-Type: application/x-www-form-urlencoded";
    let wrong = ask(at, "POST /login", &with(kind), "token=4fb1").await;
    assert!(wrong.code() == "403" && wrong.header("set-cookie").is_none());
    assert!(wrong.body.contains("role=\"alert\">This is not the token."), "{}", wrong.body);
    let right = ask(at, "POST /login", &with(kind), &format!("token={TOKEN}")).await;
    assert_eq!((right.code(), right.header("location")), ("303", Some("/")));
    let (cookie, more) = right.header("set-cookie").unwrap().split_once("; ").unwrap();
    assert!(
        more == "Path=/; HttpOnly; SameSite=Strict" && !cookie.contains(TOKEN),
        "{cookie}; {more}"
    );
    let shown = ask(at, "GET /", &with(&format!("Cookie: {cookie}")), "").await;
    assert_eq!(shown.code(), "200");
    relay.signal(Signal::INT);
    let (code, log) = tokio::task::spawn_blocking(|| relay.end()).await.unwrap();
    assert!(code == Some(0) && !log.contains(TOKEN), "{log}");
}

/// A page that takes commands, and its outputs.
fn page_with_commands(place: &Place, at: SocketAddr) -> String {
    secret_file(&place.at("token"), TOKEN, 0o600);
    let token = place.at("token");
    format!("[web]\naddress = \"{at}\"\ntoken = \"file:{}\"\n{RULES}", token.display())
}

/// The head of a program that knows the token.
fn program(at: SocketAddr) -> String {
    format!("Host: {at}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n")
}

#[tokio::test]
async fn a_command_of_the_page_is_answered_by_its_guest_though_nats_is_away() {
    let place = Place::new();
    let listener = place.guest("web.1");
    let [at, nowhere] = free();
    let nats = format!("[nats]\nservers = \"nats://{nowhere}\"\ncommands = true\n");
    let outputs = nats + &page_with_commands(&place, at);
    let relay = place.relay_with("", &outputs, Stdio::piped());
    let mut guest = there(&listener).await;
    tokio::spawn(async move {
        loop {
            let heard = command(&mut guest).await;
            guest.answer(&heard, r#""success":true,"stdout":"hello""#).await;
        }
    });
    let post = async |headers: &str, body: &str| {
        ask(at, "POST /guests/web%2E1/command", headers, body).await
    };
    soon("the guest is there", || async {
        let answer = post(&program(at), &system_info("first")).await;
        if answer.code() == "200" {
            return Ok(());
        }
        assert_eq!(answer.json()["error"]["code"], "not_connected");
        Err(())
    })
    .await;
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let in_order =
        ask(at, "POST /login", &format!("Host: {at}\r\n{form}"), &format!("token={TOKEN}")).await;
    let cookie = in_order.header("set-cookie").unwrap().split("; ").next().unwrap().to_owned();
    let browser = format!("Host: {at}\r\nCookie: {cookie}\r\nContent-Type: application/json\r\n");
    let own = format!("{browser}Origin: http://{at}\r\n");
    let reply = post(&own, &system_info("a")).await;
    assert_eq!((reply.code(), reply.header("content-type")), ("200", Some("application/json")));
    let reply = reply.json();
    assert_eq!((&reply["site"], &reply["vm"]), (&"lab".into(), &"web.1".into()), "{reply}");
    assert_eq!((&reply["line"]["id"], &reply["line"]["stdout"]), (&"a".into(), &"hello".into()));

    // Whatever another site has a browser send, and whoever has no token, is not heard.
    let form = program(at).replace("application/json", "text/plain");
    for (headers, code) in [
        (format!("Host: {at}\r\nContent-Type: application/json\r\nOrigin: http://{at}\r\n"), "401"),
        (browser.clone(), "403"),
        (format!("{browser}Origin: http://evil.example\r\n"), "403"),
        (format!("{browser}Origin: null\r\n"), "403"),
        (own.replace("json", "x-www-form-urlencoded"), "415"),
        (form, "415"),
        (own.replace(&format!("Host: {at}"), "Host: evil.example"), "421"),
    ] {
        assert_eq!(post(&headers, &system_info("b")).await.code(), code, "{headers}");
    }
    for (body, code, why) in [
        (system_info("c").replace("SystemInfo", "RebootSystem"), "403", "denied"),
        ("nonsense".to_owned(), "400", "not_understood"),
        ("x".repeat((256 << 10) + 1), "413", "too_long"),
    ] {
        let reply = post(&own, &body).await;
        assert_eq!((reply.code(), &reply.json()["error"]["code"]), (code, &why.into()));
    }
    let nobody = ask(at, "POST /guests/nobody/command", &own, &system_info("d")).await;
    assert_eq!((nobody.code(), &nobody.json()["error"]["code"]), ("404", &"unknown_guest".into()));

    // What may be allowed is offered.
    assert_eq!(get(at, "/actions").await.code(), "401");
    let offer = ask(at, "GET /actions", &program(at), "").await.json();
    let names: Vec<_> =
        offer["actions"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["UnsafeCommand", "SystemInfo", "ServiceControl", "RestartServices"]);
    relay.signal(Signal::INT);
    let (code, log) = tokio::task::spawn_blocking(|| relay.end()).await.unwrap();
    assert_eq!(code, Some(0));
    let told = "sender=\"web page, 127.0.0.1:";
    let line = log.lines().find(|line| line.contains("id=\"a\"")).expect("each is in the log");
    assert!(line.contains(told) && line.contains("outcome=\"answered\""), "{line}");
}

#[tokio::test]
async fn pages_have_no_more_than_sixteen_commands_in_flight() {
    let place = Place::new();
    let listeners = ["a", "b"].map(|vm| place.guest(vm));
    let [at] = free();
    let outputs = format!("{}{}", output(), page_with_commands(&place, at));
    let _relay = place.relay("", &outputs);
    let mut guests = Vec::new();
    for listener in &listeners {
        let mut guest = there(listener).await;
        acknowledged(&mut guest, 1000).await; // so it is known to be there
        guests.push(guest);
    }
    let post = async |vm: &str, id: &str| {
        let first = format!("POST /guests/{vm}/command");
        send(at, &first, &program(at), &system_info(id)).await
    };
    let (mut waiting, mut heard) = (Vec::new(), Vec::new());
    for (vm, guest) in ["a", "b"].iter().zip(&mut guests) {
        for number in 0..8 {
            waiting.push(post(vm, &number.to_string()).await);
            heard.push(command(guest).await);
        }
    }
    let first_line = async |stream: &mut BufReader<TcpStream>| {
        let mut line = String::new();
        timeout(PATIENCE, stream.read_line(&mut line)).await.expect("an answer").unwrap();
        line
    };
    let refused = first_line(&mut post("a", "more").await).await;
    assert!(refused.contains(" 429 "), "{refused}");
    // A page that is closed leaves its command in flight; an answer makes room.
    drop(waiting.remove(8));
    let refused = first_line(&mut post("a", "more").await).await;
    assert!(refused.contains(" 429 "), "{refused}");
    guests[0].answer(&heard[0], r#""success":true"#).await;
    let answered = first_line(&mut waiting[0]).await;
    assert!(answered.contains(" 200 "), "{answered}");
    // Until the relay has seen that, the next one is refused.
    let late = Instant::now() + PATIENCE;
    let (mut next, heard) = loop {
        let mut next = post("b", "next").await;
        tokio::select! {
            heard = command(&mut guests[1]) => break (next, heard),
            refused = first_line(&mut next) => assert!(refused.contains(" 429 "), "{refused}"),
        }
        assert!(Instant::now() < late, "there is room");
    };
    assert_eq!(heard.body["id"], "next");
    guests[1].answer(&heard, r#""success":true"#).await;
    let answered = first_line(&mut next).await;
    assert!(answered.contains(" 200 "), "{answered}");
}

#[test]
fn a_page_that_others_could_read_is_not_served() {
    let place = Place::new();
    let (file, token) = (place.at("relay.toml"), place.at("token"));
    let mode =
        |bits| std::fs::set_permissions(&token, std::fs::Permissions::from_mode(bits)).unwrap();
    std::fs::write(&token, "short").unwrap();
    mode(0o600);
    let told = |web: &str, arguments: &[&str]| {
        std::fs::write(
            &file,
            place.relay_file("secret = \"env:KEY\"", &format!("{}{web}", output())),
        )
        .unwrap();
        let mut command = host();
        command.args(["relay", "--config"]).arg(&file).args(arguments).stdin(Stdio::null());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let with_token =
        format!("[web]\naddress = \"0.0.0.0:8460\"\ntoken = \"file:{}\"\n", token.display());
    let rules_and_token = format!("[commands]\n{with_token}");
    for (web, arguments, code, said) in [
        (
            "[web]\naddress = \"0.0.0.0:8460\"\n",
            &["--check"][..],
            78,
            "other machines could read the page",
        ),
        ("[web]\n", &["--check", "--web", "[::]:8460"], 78, "other machines could read the page"),
        (
            "[web]\naddress = \"localhost:80\"\n",
            &["--check"],
            78,
            "is not an IP address with a port",
        ),
        ("[web]\nhosts = [\"http://a\"]\n", &["--check"], 78, "no name of a host"),
        ("[web]\n", &["--check"], 0, "is right"),
        (&with_token, &["--check"], 0, "is right"),
        (&with_token, &[], 71, "has less than 16 bytes"),
        ("", &["--check", "--allow-commands"], 78, "there is no web page; add --web"),
        (
            &with_token,
            &["--check", "--allow-commands"],
            78,
            "no rules say which commands are allowed; add a section",
        ),
        (
            "[commands]\n[web]\n",
            &["--check", "--allow-commands"],
            78,
            "there is no token; add token",
        ),
        (&rules_and_token, &["--check", "--allow-commands"], 0, "is right"),
        (&rules_and_token, &["--check"], 0, "[commands] has no effect"),
    ] {
        let (ended, err) = told(web, arguments);
        assert!(ended == Some(code) && err.contains(said), "{web} {arguments:?}: {ended:?} {err}");
    }
    mode(0o644);
    let (ended, err) = told(&with_token, &[]);
    assert!(ended == Some(71) && err.contains("cannot take the secret from"), "{ended:?} {err}");
    mode(0o600);
    std::fs::write(&token, "").unwrap();
    let (ended, err) = told(&with_token, &[]);
    assert!(ended == Some(71) && err.contains("its token is empty"), "{ended:?} {err}");
}

#[tokio::test]
async fn in_a_browser_guests_are_rows_that_change_and_nothing_that_they_say_is_obeyed() {
    if !has("chromium") {
        return;
    }
    const HOSTILE: &str = r#""><script>alert(1)</script><img src=x onerror=alert(2)>' & "#;
    let place = Place::new();
    let name = "<script>alert(3)<script>'\"&";
    let (calm, hostile) = (place.guest("calm"), place.guest(name));
    let _idle: Vec<_> = (0..3).map(|number| place.guest(&format!("idle-{number}"))).collect();
    let [at] = free();
    let _relay = place.relay("silence = \"1h\"", &format!("{}[web]\naddress = \"{at}\"", output()));
    let (mut calm, mut hostile) = (accept(&calm).await, accept(&hostile).await);
    calm.say(reading(12.5, "init")).await;
    let text = Value::from(HOSTILE);
    hostile.say(reading(99.0, HOSTILE)).await;
    hostile.say(format!(r#"{{"type":"agent_event","severity":{text},"message":{text},"context":{{"version":{text}}}}}"#)).await;

    let mut browser = Browser::start().await;
    browser.look("light", 1280).await;
    browser.open(&format!("http://{at}/")).await;
    let names = "[...document.querySelectorAll('#guests tbody th')].map(cell => cell.textContent).join('|')";
    browser.shows(names, format!("{name}|calm|idle-0|idle-1|idle-2")).await;
    browser.shows("document.getElementById('link').textContent", "live").await;
    let cell = |row: u32, cell: u32| {
        format!("document.querySelector('#guests tbody').rows[{row}].cells[{cell}].textContent")
    };
    browser.shows(&cell(1, 1), "up").await;
    browser.shows(&cell(1, 2), "12.5 %").await;
    browser.shows(&cell(2, 1), "never").await;
    browser.shows(&cell(0, 9), HOSTILE).await;

    // A reading comes, and the row has it.
    for number in 1..20 {
        calm.say(reading(f64::from(number * number % 83), "init")).await;
    }
    calm.say(reading(87.5, "init")).await;
    browser.shows(&cell(1, 2), "87.5 %").await;
    browser.picture("fleet-light-1280").await;

    // By keyboard: to the second row, into it, and back.
    browser.value("document.querySelector('#guests tbody a').focus()").await;
    browser.press("ArrowDown").await;
    browser.shows("document.activeElement.textContent", "calm").await;
    browser.press("Enter").await;
    browser.shows("document.getElementById('guest-title').textContent", "calm").await;
    browser.shows("document.querySelectorAll('#charts svg:has(.curve)').length", 5).await;
    browser
        .shows("document.querySelector('#processes tbody').rows[0].cells[1].textContent", "init")
        .await;
    browser.picture("guest-light-1280").await;
    browser.look("dark", 1280).await;
    browser.picture("guest-dark-1280").await;
    browser.look("dark", 400).await;
    browser.picture("guest-dark-400").await;
    let overflow = "document.documentElement.scrollWidth > document.documentElement.clientWidth";
    browser.shows(overflow, false).await;
    browser.press("Escape").await;
    // The title of its page has the focus and the same text, until the page is left.
    browser.shows("document.getElementById('fleet').hidden", false).await;
    browser.shows("document.activeElement.textContent", "calm").await;
    browser.picture("fleet-dark-400").await;
    browser.shows(overflow, false).await;
    browser.look("dark", 1280).await;
    browser.picture("fleet-dark-1280").await;

    // The hostile one's own page has its texts as they are.
    browser.press("ArrowUp").await;
    browser.shows("document.activeElement.textContent", name).await;
    browser.press("Enter").await;
    browser.shows("document.getElementById('guest-title').textContent", name).await;
    browser
        .shows("document.querySelector('#processes tbody').rows[0].cells[1].textContent", HOSTILE)
        .await;
    browser.shows("document.querySelectorAll('#guest script, #guest img').length", 0).await;
    let complaints = &browser.complaints;
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[tokio::test]
async fn in_a_browser_who_knows_the_token_sends_a_command_to_a_real_agent() {
    if !has("chromium") {
        return;
    }
    let place = Place::new();
    let _agent = agent(&place, "web", SECRET);
    let [at] = free();
    let outputs = format!("{}{}", output(), page_with_commands(&place, at));
    let _relay = place.relay("silence = \"1h\"", &outputs);
    soon("the agent is there", || async {
        let answer = ask(at, "POST /guests/web/command", &program(at), &system_info("0")).await;
        if answer.code() == "200" { Ok(()) } else { Err(()) }
    })
    .await;

    let mut browser = Browser::start().await;
    browser.look("light", 1280).await;
    browser.open(&format!("http://{at}/")).await;
    browser.shows("document.querySelector('h1').textContent", "Guests").await;
    let log_in = format!(
        "document.getElementById('token').value = '{TOKEN}'; document.forms[0].requestSubmit()"
    );
    browser.value(&log_in).await;
    browser.shows("document.querySelector('#guests tbody a')?.textContent", "web").await;
    browser.value("document.querySelector('#guests tbody a').click()").await;
    browser.shows("document.getElementById('run').textContent", "Run on web").await;
    browser.shows("document.getElementById('commands').hidden", false).await;
    let choose = |name: &str| {
        format!(
            "(action => {{ action.value = '{name}'; action.dispatchEvent(new Event('change')) }})(document.getElementById('action'))"
        )
    };
    browser.value(&choose("SystemInfo")).await;
    browser.value("document.getElementById('run').click()").await;
    let outcome = |begin: &str| {
        format!("document.getElementById('outcome').textContent.startsWith('{begin}')")
    };
    browser.shows(&outcome("SystemInfo succeeded after"), true).await;
    browser
        .shows("JSON.parse(document.getElementById('answer').textContent).os_type", "Linux")
        .await;
    browser.picture("command-light-1280").await;

    // A command line, by keyboard; what it writes is text.
    browser.value(&choose("UnsafeCommand")).await;
    browser.value("document.querySelector('#parameters input').focus()").await;
    let line = "echo '<b>written</b>'; exit 3";
    browser.call("Input.insertText", serde_json::json!({ "text": line })).await;
    browser.press("Enter").await;
    browser.shows(&outcome("UnsafeCommand failed after"), true).await;
    browser
        .shows("document.getElementById('outcome').textContent.endsWith('exit code 3')", true)
        .await;
    let written = "document.getElementById('answer').textContent.includes('<b>written</b>')";
    browser.shows(written, true).await;
    browser.shows("document.querySelectorAll('#answer b').length", 0).await;
    browser.look("dark", 400).await;
    browser.picture("command-dark-400").await;
    let overflow = "document.documentElement.scrollWidth > document.documentElement.clientWidth";
    browser.shows(overflow, false).await;
    let complaints = &browser.complaints;
    assert!(complaints.is_empty(), "{complaints:?}");

    // What the relay does not allow is told.
    browser.value(&choose("ServiceControl")).await;
    browser.value("document.getElementsByName('service')[0].value = 'ssh'; document.getElementsByName('operation')[0].value = 'restart'").await;
    browser.value("document.getElementById('run').click()").await;
    browser.shows(&outcome("ServiceControl did not get an answer: denied"), true).await;
}
