//! A real Prometheus that scrapes a relay and an agent, with the alerts and the dashboard of `packaging`.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use support::has;
use support::prometheus::{Server, check_metrics, free, get, promtool, scrape, served};

fn packaged(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

/// The metrics that an expression names: what is left of it without texts, labels and functions.
fn names(expression: &str) -> BTreeSet<String> {
    let without_texts: String = expression.split('"').step_by(2).collect();
    let outside = without_texts.split(['{', '}']).step_by(2);
    let labels = ["by", "without", "on", "ignoring"];
    let mut names = BTreeSet::new();
    for part in outside {
        let mut words = part.split_inclusive(|c: char| !(c.is_alphanumeric() || c == '_'));
        while let Some(word) = words.next() {
            let name = word.trim_end_matches(|c: char| !(c.is_alphanumeric() || c == '_'));
            if labels.contains(&name) {
                let _ = words.by_ref().find(|word| word.ends_with(')'));
            } else if name.contains('_') || name == "up" {
                names.insert(name.to_owned());
            }
        }
    }
    names
}

#[test]
fn the_names_of_metrics_are_found_in_an_expression() {
    let text = r#"sum by (a_b, c) (rate(one_total{d_e="f_g"}[1m])) / ignoring (h_i) two_bytes{} > up or three_x offset 15m"#;
    let found: Vec<String> = names(text).into_iter().collect();
    assert_eq!(found, ["one_total", "three_x", "two_bytes", "up"]);
}

#[test]
fn alerts_are_told_when_they_should_be_and_not_before() {
    if has("promtool") {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/relay/alerts.yml");
        promtool(&["test", "rules", tests.to_str().unwrap()], "");
    }
}

#[tokio::test]
async fn every_panel_and_alert_asks_for_what_a_real_prometheus_scrapes_of_agent_and_relay() {
    if !has("prometheus") || !has("promtool") {
        return;
    }
    let place = Place::new();
    let [agent_at, relay_at, at] = free();

    // Until there is a relay, the agent loses readings.
    let port = place.at("guests/web.vsock_8460");
    let pipeline = place.at("metrics.toml");
    let groups = r#""cpu", "load", "memory", "disk", "network", "pressure", "agent""#;
    let text = metrics("100ms", groups).replace("[write]", "[[write]]\nkeep = 1");
    let text = format!("{text}[[write]]\nprometheus = {{ address = \"{agent_at}\" }}\n");
    std::fs::write(&pipeline, text).unwrap();
    let mut agent = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
    agent.args(["run", "--pipelines"]).arg(&pipeline).arg("--state").arg(place.at("state"));
    agent.arg("--port").arg(format!("unix:{}", port.display())).env_remove("RUST_LOG");
    let _agent = Running(agent.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    soon("the agent has more lines than it keeps for the port", || async {
        let text = get(agent_at, "/metrics").await?;
        let lines = "infiniservice_stage_sent_total{stage=\"metrics/infinibay\"} ";
        let lines = text.lines().find_map(|line| line.strip_prefix(lines)).ok_or(())?;
        if lines.parse::<u64>().map_err(drop)? > 20 { Ok(()) } else { Err(()) }
    })
    .await;

    // A machine with vsock, to whose socket the agent connects as a hypervisor would for it; and a guest that sends garbage.
    let _machine = UnixListener::bind(place.at("guests/web.vsock")).unwrap();
    let garbage = place.guest("garbage");
    let sockets = place.at("guests/{vm}.vsock");
    let _relay = place.relay(
        "rate = \"64KiB\"",
        &format!("[guests.vsock]\nsockets = {sockets:?}\n[[write]]\nprometheus = {{ address = \"{relay_at}\" }}"),
    );
    let (mut stream, _) = timeout(PATIENCE, garbage.accept()).await.unwrap().unwrap();
    stream.write_all(format!("{:1000}\n", "no object").repeat(100).as_bytes()).await.unwrap();
    drop(stream);
    let of_relay = served(
        relay_at,
        &[
            "infiniservice_guest_up{site=\"lab\",vm=\"web\"} 1",
            "system_cpu_utilization_ratio{site=\"lab\",vm=\"web\"}",
            "infiniservice_guest_dropped_total{site=\"lab\",vm=\"garbage\",reason=\"garbage\"}",
            "infiniservice_guest_disconnects_total{",
            "infiniservice_guest_throttled_total{",
        ],
    )
    .await;
    let of_agent =
        served(agent_at, &["reason=\"overwritten\"", "system_cpu_utilization_ratio"]).await;
    check_metrics(&of_agent);
    check_metrics(&of_relay);

    let prometheus = Server::start(
        place.0.path(),
        at,
        &json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [packaged("prometheus/alerts.yml")],
            "scrape_configs": [
                scrape("infiniservice", agent_at, json!({ "site": "lab", "vm": "web" })),
                scrape("infiniservice-relay", relay_at, json!({})),
            ],
        }),
    );
    prometheus.query("count(up == 1) == 2").await;
    let total = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total: u64 = total.split_whitespace().nth(1).unwrap().parse().unwrap();
    for job in ["infiniservice", "infiniservice-relay"] {
        let series = format!("system_memory_limit_bytes{{job=\"{job}\",site=\"lab\",vm=\"web\"}}");
        let value = prometheus.query(&series).await[0]["value"][1].as_str().unwrap().to_owned();
        assert_eq!(value.parse::<f64>().unwrap(), total as f64 * 1024.0, "{series}");
    }

    let kinds = [&of_agent, &of_relay].into_iter().flat_map(|text| text.lines());
    let known: BTreeSet<&str> = kinds
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .chain(["up"])
        .collect();
    let check_names = |expression: &str| {
        let named = names(expression);
        assert!(!named.is_empty(), "{expression}");
        let unknown: Vec<_> = named.iter().filter(|name| !known.contains(name.as_str())).collect();
        assert!(unknown.is_empty(), "nobody writes {unknown:?}: {expression}");
    };

    let dashboard = std::fs::read_to_string(packaged("grafana/infiniservice.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let targets = dashboard["panels"].as_array().unwrap().iter();
    let targets = targets.filter_map(|panel| panel["targets"].as_array()).flatten();
    let expressions: Vec<String> = targets
        .map(|target| target["expr"].as_str().unwrap().to_owned())
        // A kernel may be built without it.
        .filter(|text| Path::new("/proc/pressure").exists() || !text.contains("pressure"))
        .map(|text| text.replace("$site", ".*").replace("$vm", ".*"))
        .map(|text| text.replace("$__rate_interval", "1m"))
        .collect();
    assert!(expressions.len() > 20, "{expressions:?}");
    for expression in &expressions {
        assert!(!expression.contains('$'), "{expression}");
        check_names(expression);
        prometheus.query(expression).await;
    }
    for variable in ["site", "vm"] {
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        let variable = variables.iter().find(|one| one["name"] == variable).unwrap();
        let asked = variable["definition"].as_str().unwrap().replace("$site", ".*");
        let inner = asked.strip_prefix("label_values(").unwrap().rsplit_once(',').unwrap().0;
        check_names(inner);
    }

    let alerts = packaged("prometheus/alerts.yml");
    promtool(&["check", "rules", alerts.to_str().unwrap()], "");
    let rules = soon("every alert was evaluated", || async {
        let rules = prometheus.ask("/api/v1/rules").await?["data"]["groups"][0]["rules"].take();
        let rules = rules.as_array().cloned().ok_or(())?;
        if rules.iter().all(|rule| rule["health"] == "ok") { Ok(rules) } else { Err(()) }
    })
    .await;
    assert!(rules.len() > 5, "{rules:?}");
    for rule in &rules {
        check_names(rule["query"].as_str().unwrap());
    }
    // Both were lost before the first scrape.
    for (alert, reason) in
        [("InfiniserviceLoss", "overwritten"), ("InfiniserviceRelayLoss", "garbage")]
    {
        let firing =
            format!("ALERTS{{alertname=\"{alert}\",reason=\"{reason}\",alertstate=\"firing\"}}");
        prometheus.query(&firing).await;
    }
}
