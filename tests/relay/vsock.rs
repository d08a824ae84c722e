//! Guests over vsock as hypervisors in user space have it: Unix sockets, in the hypervisor's place.

use super::*;

fn vsock(place: &Place, more: &str, file: &Path) -> String {
    let sockets = place.at("guests/{vm}.vsock");
    format!(
        "[guests.vsock]\nsockets = {sockets:?}\n{more}\n[[write]]\nfile = {{ path = {file:?} }}\n"
    )
}

fn numbers(file: &Path) -> Vec<u64> {
    let lines = objects(&std::fs::read_to_string(file).unwrap());
    lines
        .iter()
        .map(|line| {
            assert_eq!((&line["vm"], &line["kind"]), (&"web".into(), &"record".into()));
            line["line"]["number"].as_u64().unwrap()
        })
        .collect()
}

#[tokio::test]
async fn a_guest_connects_to_the_socket_of_its_machine_that_the_relay_listens_at() {
    let place = Place::new();
    let (file, at) = (place.at("lines"), place.at("guests/web.vsock_8460"));
    // The machine, and what a relay that was killed has left.
    let machine = UnixListener::bind(place.at("guests/web.vsock")).unwrap();
    support::leave_socket(&at);
    let relay = place.relay("", &vsock(&place, "", &file));
    for number in 0..3 {
        let stream = soon("the relay listens", || UnixStream::connect(at.clone())).await;
        let mut guest = Peer::over(stream);
        guest.say(format!(r#"{{"number":{number}}}"#)).await;
        acknowledged(&mut guest, 1000).await;
    }
    assert_eq!(numbers(&file), [0, 1, 2]);
    drop(machine);
    std::fs::remove_file(place.at("guests/web.vsock")).unwrap();
    let gone = || async { if at.exists() { Err(()) } else { Ok(()) } };
    soon("the relay's socket goes with the machine's", gone).await;
    relay.signal(Signal::TERM);
    assert_eq!(next_end(relay).await, Some(0));
}

#[tokio::test]
async fn a_guest_that_listens_is_connected_to_by_the_number_of_its_port() {
    let place = Place::new();
    let file = place.at("lines");
    let machine = UnixListener::bind(place.at("guests/web.vsock")).unwrap();
    let _relay = place.relay("", &vsock(&place, "port = 8461\nconnect = true", &file));
    let connect = async || {
        let accepted = timeout(PATIENCE, machine.accept()).await;
        let mut stream = accepted.expect("the relay connects").unwrap().0;
        let mut asked = [0; 13];
        stream.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"CONNECT 8461\n");
        stream
    };
    // Nobody listens there in the guest; then something that is no answer.
    drop(connect().await);
    let _ = connect().await.write_all(b"{\"number\":7}\n").await;
    let mut stream = connect().await;
    stream.write_all(b"OK 1073741824\n{\"number\":8}\n").await.unwrap();
    let mut guest = Peer::over(stream);
    acknowledged(&mut guest, 1000).await;
    assert_eq!(numbers(&file), [8]);
}
