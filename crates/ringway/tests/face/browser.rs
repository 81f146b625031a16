//! Debian's Chromium without a window, driven over its debugging pipe: one JSON message per NUL. Not
//! a driver for every purpose. Invariant: everything the page complained about since it was opened is
//! kept; dropping a browser ends its process and removes its profile.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Longest wait for an answer of a loaded machine's browser.
const PATIENCE: Duration = Duration::from_secs(90);

/// Longest wait for the next sign of one that is told to end.
const LEAVE: Duration = Duration::from_secs(10);

/// One browser with one page.
#[derive(Debug)]
pub(crate) struct Browser {
    child: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    session: Option<String>,
    calls: u64,
    complaints: Vec<Complaint>,
    _profile: TempDir,
}

/// What a page said on its console, or its browser about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// `network` for requests that failed.
    pub(crate) source: String,
    pub(crate) text: String,
}

/// How the page is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) is_dark: bool,
}

impl Browser {
    /// `None`, told by name, where Chromium is not installed.
    pub(crate) fn start() -> Option<Browser> {
        let program = "/usr/bin/chromium";
        if !Path::new(program).exists() {
            eprintln!("skipped: chromium is not installed");
            return None;
        }
        let profile = TempDir::new().unwrap();
        // The pipe is on descriptors 3 and 4.
        let mut child = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 0</dev/null 1>/dev/null"#])
            .arg(program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
            ])
            .args(["--no-first-run", "--disable-background-networking"])
            .args([
                "--disable-component-update",
                "--disable-sync",
                "--hide-scrollbars",
            ])
            .arg("--remote-debugging-pipe")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            // What it leaves there goes with the profile.
            .env("TMPDIR", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        let (sender, messages) = channel();
        thread::spawn(move || {
            for message in BufReader::new(output).split(0) {
                let Ok(message) = message else { return };
                let Ok(()) = sender.send(serde_json::from_slice(&message).unwrap()) else {
                    return;
                };
            }
        });
        let mut browser = Browser {
            input: child.stdin.take().unwrap(),
            child,
            messages,
            session: None,
            calls: 0,
            complaints: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", attach);
        browser.session = Some(session["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Opens an address and waits for its page.
    pub(crate) fn open(&mut self, address: &str) {
        self.call("Page.navigate", json!({"url": address}));
        let is_there =
            format!("location.href === '{address}' && document.readyState === 'complete'");
        // Not in the page: the one before it is still there at first.
        let deadline = Instant::now() + PATIENCE;
        while self.value(&is_there) != true {
            assert!(Instant::now() < deadline, "{address} does not open");
        }
    }

    pub(crate) fn look(&mut self, look: Look) {
        let is_mobile = look.width < 500;
        let metrics = json!({"width": look.width, "height": look.height,
            "deviceScaleFactor": 1, "mobile": is_mobile});
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = if look.is_dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        );
    }

    /// The value of an expression in the page.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", asked);
        assert!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].clone()
    }

    pub(crate) fn text(&mut self, expression: &str) -> String {
        let value = self.value(expression);
        value
            .as_str()
            .unwrap_or_else(|| panic!("{expression} is {value}"))
            .to_owned()
    }

    /// Waits in the page until an expression is true.
    pub(crate) fn until(&mut self, expression: &str) {
        let millis = (PATIENCE - Duration::from_secs(10)).as_millis();
        let holds = self.value(&format!(
            "new Promise((tell) => {{ const ends = Date.now() + {millis};
               const look = () => {{ let holds = false; try {{ holds = {expression}; }} catch {{}}
                 if (holds || Date.now() > ends) tell(holds); else setTimeout(look, 50); }};
               look(); }})"
        ));
        let body = if holds == true {
            String::new()
        } else {
            self.text("document.body.innerText")
        };
        assert_eq!(
            holds, true,
            "{expression} on\n{body}\n{:?}",
            self.complaints
        );
    }

    /// A picture of what is on the screen, as PNG.
    pub(crate) fn picture(&mut self) -> Vec<u8> {
        let answer = self.call("Page.captureScreenshot", json!({"format": "png"}));
        base64(answer["data"].as_str().unwrap())
    }

    /// What it said of the page.
    pub(crate) fn complaints(&mut self) -> Vec<Complaint> {
        // An answer to this comes after all that was said before.
        self.value("1");
        self.complaints.clone()
    }

    /// One call of the DevTools protocol.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let number = self.calls;
        let mut message = json!({"id": number, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.input
            .write_all(message.to_string().as_bytes())
            .unwrap();
        self.input.write_all(&[0]).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = self.messages.recv_timeout(left);
            let message = message.unwrap_or_else(|error| panic!("{method}: {error}"));
            if message["id"] == number {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            self.note(&message);
        }
    }

    fn note(&mut self, event: &Value) {
        let params = &event["params"];
        let (source, text) = match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => {
                ("exception", params["exceptionDetails"].to_string())
            }
            Some("Runtime.consoleAPICalled") => ("console", params["args"].to_string()),
            // Of reading what a plot has drawn, which the test does and not the page.
            Some("Log.entryAdded") if params["entry"]["source"] == "rendering" => return,
            Some("Log.entryAdded") => {
                let entry = &params["entry"];
                (
                    entry["source"].as_str().unwrap_or("?"),
                    entry["text"].to_string(),
                )
            }
            _ => return,
        };
        self.complaints.push(Complaint {
            source: source.to_owned(),
            text,
        });
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // All its processes have the pipe: they have ended when it has, and write no more into the profile.
        let close = json!({"id": 0, "method": "Browser.close"});
        if write!(self.input, "{close}\0").is_ok() {
            while self.messages.recv_timeout(LEAVE).is_ok() {}
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.bytes().filter(|byte| *byte != b'=');
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0u32, 0);
    for digit in digits {
        let value = DIGITS.iter().position(|known| *known == digit).unwrap();
        held = (held << 6) | value as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    bytes
}
