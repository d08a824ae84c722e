//! Playing the host: a signed command to a guest, and its reply. The guest is played here too, over a
//! socket pair; [`Host::connect`] takes the path of QEMU's socket. `cargo run --example host`
use std::error::Error;
use std::time::Duration;

use infiniservice::host::{Host, Secret, Settings, action};
use infiniservice::wire::envelope;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

const SECRET: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// Takes one command, checks its signature, and replies.
async fn guest(mut stream: UnixStream) -> Result<(), Box<dyn Error>> {
    let mut line = String::new();
    BufReader::new(&mut stream).read_line(&mut line).await?;
    let signed: Value = serde_json::from_str(&line)?;
    let now_ms = signed["ts"].as_i64().ok_or("the line is not signed")?;
    let opened = envelope::open(SECRET.as_bytes(), line.trim_end().as_bytes(), now_ms);
    let payload = opened.map_err(|refused| refused.reason())?.payload;
    let command: Value = serde_json::from_str(&payload)?;
    println!("the guest received {command}");
    let mut reply = json!({ "type": "response", "success": true, "data": { "hostname": "web-1" } });
    reply["id"] = command["id"].clone();
    stream.write_all(format!("{reply}\n").as_bytes()).await?;
    Ok(())
}

/// Sends one command and waits for its reply.
#[tokio::main(flavor = "current_thread")]
pub async fn main() -> Result<(), Box<dyn Error>> {
    let (ours, theirs) = UnixStream::pair()?;
    let host = Host::over(ours, Settings { secret: Secret::new(SECRET.into()), keep_alive: None });
    let ask = action("SystemInfo", &[])?;
    let (reply, served) = tokio::join!(host.command(&ask, Duration::from_secs(30)), guest(theirs));
    served?;
    let reply = reply?;
    println!("the guest replied {}", reply.data);
    assert!(reply.success && reply.data["hostname"] == "web-1");
    Ok(())
}
