//! A real Chromium without a screen, spoken to over its debugging pipe (Chrome DevTools Protocol).

use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::*;

/// How long an answer may take: two busy cores are slow to start a browser.
const ANSWER: Duration = Duration::from_secs(120);

/// A browser with one page.
pub struct Browser {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    calls: u64,
    session: Option<String>,
    /// What the page should not have done: errors, refusals of its policy, dialogs.
    pub complaints: Vec<Value>,
    _child: Child,
    _folder: TempDir,
}

impl Browser {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Its pipe is the descriptors 3 and 4.
        let script = "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", "--headless", "--remote-debugging-pipe"]).args([
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ]);
        command.arg(format!("--user-data-dir={}", folder.path().display()));
        command.env("HOME", folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut browser = Self {
            input,
            output: BufReader::new(output),
            calls: 0,
            session: None,
            complaints: Vec::new(),
            _child: child,
            _folder: folder,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" })).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", attach).await;
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({})).await;
        }
        browser
    }

    /// What a method of the protocol gives.
    pub async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let mut call = json!({ "id": self.calls, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            call["sessionId"] = session.as_str().into();
        }
        self.input.write_all(format!("{call}\0").as_bytes()).await.unwrap();
        loop {
            let mut answer = Vec::new();
            let read = timeout(ANSWER, self.output.read_until(0, &mut answer)).await;
            read.expect("chromium answers").unwrap();
            assert_eq!(answer.pop(), Some(0), "chromium has ended");
            let mut answer: Value = serde_json::from_slice(&answer).unwrap();
            let is_complaint = match answer["method"].as_str() {
                Some("Runtime.exceptionThrown" | "Page.javascriptDialogOpening") => true,
                Some("Log.entryAdded") => answer["params"]["entry"]["level"] == "error",
                _ => false,
            };
            if is_complaint {
                self.complaints.push(answer["params"].take());
            } else if answer["id"] == self.calls {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].take();
            }
        }
    }

    pub async fn open(&mut self, address: &str) {
        self.call("Page.navigate", json!({ "url": address })).await;
    }

    /// The value of an expression of JavaScript.
    pub async fn value(&mut self, expression: &str) -> Value {
        let evaluate = json!({ "expression": expression, "returnByValue": true });
        let result = self.call("Runtime.evaluate", evaluate).await;
        // Between two pages there may be no document to ask.
        result["result"]["value"].clone()
    }

    /// Waits until the value of an expression is `expected`.
    pub async fn shows(&mut self, expression: &str, expected: impl Into<Value>) {
        let (expected, late) = (expected.into(), Instant::now() + ANSWER);
        loop {
            let value = self.value(expression).await;
            if value == expected {
                return;
            }
            let complaints = &self.complaints;
            assert!(
                Instant::now() < late,
                "{expression} is {value}, not {expected}; {complaints:?}"
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Presses a key.
    pub async fn press(&mut self, key: &str) {
        let code = match key {
            "Enter" => 13,
            "Escape" => 27,
            "ArrowDown" => 40,
            "ArrowUp" => 38,
            "Tab" => 9,
            other => panic!("which key is {other}?"),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event =
                json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            if key == "Enter" && kind == "keyDown" {
                event["text"] = "\r".into();
            }
            self.call("Input.dispatchKeyEvent", event).await;
        }
    }

    /// The colours and the width that the page is shown in.
    pub async fn look(&mut self, scheme: &str, width: u32) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features })).await;
        let size =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Puts a picture of the page into the folder of the variable `INFINISERVICE_SCREENSHOTS`, where there is one.
    pub async fn picture(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("INFINISERVICE_SCREENSHOTS") else { return };
        let picture =
            self.call("Page.captureScreenshot", json!({ "captureBeyondViewport": true })).await;
        let path = Path::new(&folder).join(format!("{name}.png.base64"));
        std::fs::write(path, picture["data"].as_str().unwrap()).unwrap();
    }
}
