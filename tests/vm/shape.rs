//! What a metrics line must be for today's host to store it: the fields it refuses a line without, their
//! types and units. Does not judge whether a value is true.

use std::time::SystemTime;

use serde_json::Value;

/// The longest line a guest may send.
const LINE_MAX: usize = 1 << 20;

/// Reads a metrics line.
///
/// # Panics
/// Where it is not one whole JSON object in ASCII, or lacks what the host needs.
pub fn metrics(line: &[u8]) -> Value {
    let text = std::str::from_utf8(line).unwrap_or_default();
    let excerpt: String = String::from_utf8_lossy(line).chars().take(400).collect();
    assert!(line.is_ascii(), "not ASCII only: {excerpt}");
    assert!(line.len() <= LINE_MAX, "a line of {} bytes", line.len());
    let value: Value = serde_json::from_str(text)
        .unwrap_or_else(|error| panic!("not a whole line ({error}): {excerpt}"));
    if let Err(what) = check(&value) {
        panic!("{what}: {excerpt}");
    }
    value
}

/// When the reading was taken.
pub fn time(line: &Value) -> SystemTime {
    let text = line["timestamp"].as_str().unwrap_or_default();
    humantime::parse_rfc3339(text).expect("the timestamp was checked")
}

fn check(line: &Value) -> Result<(), String> {
    if line["type"] != "metrics" {
        return Err(format!("type is {}", line["type"]));
    }
    let stamp = line["timestamp"].as_str().ok_or("timestamp is no string")?;
    humantime::parse_rfc3339(stamp).map_err(|error| format!("timestamp {stamp:?}: {error}"))?;
    let system = &line["data"]["system"];
    percent(system, "/cpu/usage_percent")?;
    let cores = array(system, "/cpu/cores_usage")?;
    for core in 0..cores.len() {
        percent(system, &format!("/cpu/cores_usage/{core}"))?;
    }
    for name in ["total_kb", "used_kb", "available_kb", "swap_total_kb", "swap_used_kb"] {
        whole(system, &format!("/memory/{name}"))?;
    }
    array(system, "/disk/usage_stats")?;
    for name in ["read_bytes", "write_bytes", "read_ops", "write_ops"] {
        whole(system, &format!("/disk/io_stats/{name}_per_sec"))?;
    }
    for index in 0..array(system, "/network/interfaces")?.len() {
        let at = format!("/network/interfaces/{index}");
        for name in ["bytes", "packets"] {
            whole(system, &format!("{at}/{name}_received"))?;
            whole(system, &format!("{at}/{name}_sent"))?;
        }
        for name in ["errors_in", "errors_out"] {
            whole(system, &format!("{at}/{name}"))?;
        }
        array(system, &format!("{at}/ip_addresses"))?;
    }
    whole(system, "/uptime_seconds")?;
    if let Some(load) = system.get("load_average") {
        for name in ["load_1min", "load_5min", "load_15min"] {
            load[name].as_f64().ok_or_else(|| format!("load_average.{name} is no number"))?;
        }
    }
    Ok(())
}

fn percent(of: &Value, path: &str) -> Result<(), String> {
    match of.pointer(path).and_then(Value::as_f64) {
        Some(value) if (0.0..=100.0).contains(&value) => Ok(()),
        _ => Err(format!("{path} is {:?}", of.pointer(path))),
    }
}

fn whole(of: &Value, path: &str) -> Result<(), String> {
    match of.pointer(path).and_then(Value::as_u64) {
        Some(_) => Ok(()),
        None => Err(format!("{path} is {:?}", of.pointer(path))),
    }
}

fn array<'a>(of: &'a Value, path: &str) -> Result<&'a Vec<Value>, String> {
    of.pointer(path)
        .and_then(Value::as_array)
        .ok_or_else(|| format!("{path} is {:?}", of.pointer(path)))
}
