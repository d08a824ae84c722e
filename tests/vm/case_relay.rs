//! The whole way: two machines with the agent's package, and between them and a real NATS and a real Prometheus the relay.
#![expect(clippy::unwrap_used, reason = "a host that is not as it should be ends the case")]

use std::fs::{self, hard_link};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use async_nats::{Client, jetstream};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::guest::Guest;
use super::lab::{self, Lab};
use super::package::deb;
use super::qemu::Vm;
use super::shape;
use super::support::has;
use super::support::prometheus::{Server, free, scrape};
use super::support::{PATIENCE, Running, nats, soon, within};
use super::systemd::boot_package;
use super::talk::SECRET;

const GUESTS: [&str; 2] = ["web-1", "db-1"];
/// Two machines install a package and start a service, under emulation, on processors that others use too.
const LONG: Duration = Duration::from_secs(600);

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn two_packaged_guests_under_systemd_are_in_nats_and_prometheus_and_each_answers_its_own_commands()
{
    let turn = lab::turn();
    assert!(
        nats::is_there() && has("prometheus"),
        "nats-server and prometheus (.ci/run has their packages)"
    );
    let (disk, deb) = (turn.lab.systemd_disk(), deb(&turn.lab.agent));
    let started = Instant::now();
    let runtime = Runtime::new().unwrap();
    let host = runtime.block_on(Host::start());
    thread::scope(|scope| {
        for vm in GUESTS {
            let (host, handle, disk, deb) = (&host, runtime.handle(), &disk, &deb);
            // QEMU ends with the thread that has started it.
            scope.spawn(move || {
                let mut guest = host.boot(turn.lab, disk, deb, vm);
                lab::say(&format!("{vm} has its agent after {:.0?}", started.elapsed()));
                handle.block_on(host.sees(vm, &mut guest.guest));
            });
        }
    });
    runtime.block_on(host.prometheus.query("count(infiniservice_guest_up == 0) == 2"));
    lab::say(&format!("all of it took {:.0?}", started.elapsed()));
}

/// A relay that reads the sockets of guests, each with a key of its own, between NATS and Prometheus.
struct Host {
    _relay: Running,
    prometheus: Server,
    nats: nats::Server,
    place: TempDir,
}

impl Host {
    async fn start() -> Self {
        let place = TempDir::new().unwrap();
        let at = |name: &str| place.path().join(name);
        let nats = nats::start(place.path(), "").await;
        let [metrics, prometheus] = free();
        fs::create_dir(at("guests")).unwrap();
        fs::write(at("master"), SECRET).unwrap();
        fs::set_permissions(at("master"), fs::Permissions::from_mode(0o600)).unwrap();
        let sockets = at("guests/{vm}.socket");
        let master = format!("file:{}", at("master").display());
        let text = format!(
            "site = \"lab\"\n[guests]\nsockets = {sockets:?}\nmaster = {master:?}\n\
             [nats]\nservers = \"nats://{}\"\n\
             commands = true\n[commands]\nallow = [\"UnsafeCommand\"]\nraw_shell = true\n\
             [[write]]\nprometheus = {{ address = \"{metrics}\" }}\n",
            nats.address
        );
        fs::write(at("relay.toml"), text).unwrap();
        let config = json!({
            "global": { "scrape_interval": "1s" },
            "scrape_configs": [scrape("infiniservice-relay", metrics, json!({}))],
        });
        let prometheus = Server::start(place.path(), prometheus, &config);
        let relay = Running(program(place.path()).stdin(Stdio::null()).spawn().unwrap());
        Self { _relay: relay, prometheus, nats, place }
    }

    /// Boots a machine, shows the relay its port under this name, and installs the agent with the guest's key.
    fn boot(&self, lab: &Lab, disk: &Path, deb: &[u8], vm: &str) -> Vm {
        let printed = program(self.place.path()).args(["--key", vm]).output().unwrap();
        let key = String::from_utf8(printed.stdout).unwrap();
        let mut machine = boot_package(lab, disk, deb);
        let shown = self.place.path().join(format!("guests/{vm}.socket"));
        hard_link(machine.socket(), shown).unwrap();
        let install = format!(
            "dpkg -i /root/agent.deb && \
             echo INFINISERVICE_SHARED_SECRET={} > /etc/infiniservice/agent.env && systemctl restart infiniservice",
            key.trim()
        );
        let (status, told) = machine.guest.try_run(&install, LONG).expect("it ends");
        assert_eq!(status, 0, "{told}");
        machine
    }

    /// The guest answers over NATS, and its readings are in NATS and Prometheus, beside those of the other.
    async fn sees(&self, vm: &str, guest: &mut Guest) {
        let address = format!("nats://{}", self.nats.address);
        let client = soon("NATS answers", || async_nats::connect(address.clone())).await;
        let boot_id = "cat /proc/sys/kernel/random/boot_id";
        assert_eq!(exec(&client, vm, boot_id).await, guest.run(boot_id), "{vm}");
        let total = guest.run("awk '/^MemTotal/ { print $2 }' /proc/meminfo");
        let total: u64 = total.trim().parse().unwrap();
        let jetstream = jetstream::new(client);
        let stream = soon("the relay makes a stream", || jetstream.get_stream("infini")).await;
        let subject = format!("infini.lab.{vm}.metrics");
        let stored = within(LONG, "a reading is stored", || {
            stream.get_last_raw_message_by_subject(&subject)
        });
        let stored: Value = serde_json::from_slice(&stored.await.payload).unwrap();
        assert_eq!((&stored["site"], &stored["vm"]), (&json!("lab"), &json!(vm)));
        let line = shape::metrics(stored["line"].to_string().as_bytes());
        assert_eq!(line["data"]["system"]["memory"]["total_kb"], total);
        let series = format!("system_memory_limit_bytes{{site=\"lab\",vm=\"{vm}\"}}");
        let scraped = self.prometheus.query(&series).await;
        assert_eq!(scraped[0]["value"][1], (total * 1024).to_string());
        let both = "max_over_time(count(infiniservice_guest_up == 1)[1h:1s]) == 2";
        self.prometheus.query_within(LONG, both).await;
    }
}

fn program(place: &Path) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_infiniservice-host"));
    program.args(["relay", "--config"]).arg(place.join("relay.toml"));
    program
}

/// What a command line prints in the guest, asked over NATS once the guest is connected.
async fn exec(client: &Client, vm: &str, line: &str) -> String {
    let late = Instant::now() + LONG;
    for number in 0.. {
        let id = format!("{vm}-{number}");
        let command =
            json!({ "type": "UnsafeCommand", "id": id, "raw_command": line, "timeout": 60 });
        let mut request = async_nats::Request::new().payload(command.to_string().into());
        request = request.timeout(Some(4 * PATIENCE));
        let reply = client.send_request(format!("infini.lab.{vm}.command"), request).await;
        let reply: Value = serde_json::from_slice(&reply.unwrap().payload).unwrap();
        if reply["error"].is_null() {
            assert_eq!(reply["vm"], vm);
            return reply["line"]["stdout"].as_str().unwrap().to_owned();
        }
        let code = reply["error"]["code"].as_str().unwrap();
        assert!(["unknown_guest", "not_connected"].contains(&code), "{reply}");
        assert!(Instant::now() < late, "{vm} is connected");
    }
    unreachable!()
}
