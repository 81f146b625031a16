//! A balancer on a thread, echo backends, and an HTTP client of a page.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ringway_config::Config;
use ringway_control::{
    Inheritance, RunError, RunParams, Running, Signals, StartError, Stopper, Watch, start,
};

/// Far more than anything here takes: a test that meets it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn config(text: &str) -> Config {
    ringway_config::parse("test.yaml", text).unwrap_or_else(|errors| panic!("{errors}"))
}

pub(crate) fn params(config: Config, signals: Signals) -> RunParams {
    RunParams {
        config,
        config_path: None,
        version: "1.2.3",
        commit: "abcdef",
        signals,
        watch: Watch::Off,
        log_level: None,
        inheritance: Inheritance::default(),
        relaunch: None,
    }
}

pub(crate) fn try_start(text: &str) -> Result<Running, StartError> {
    start(params(config(text), Signals::Ignore))
}

/// A balancer that runs on a thread of its own.
pub(crate) struct Balancer {
    pub(crate) stopper: Stopper,
    pub(crate) admin: Option<String>,
    listeners: Vec<(String, String)>,
    result: Receiver<Result<(), RunError>>,
}

impl Balancer {
    pub(crate) fn start(text: &str) -> Balancer {
        Balancer::start_with(text, Signals::Ignore)
    }

    pub(crate) fn start_with(text: &str, signals: Signals) -> Balancer {
        Balancer::run(params(config(text), signals))
    }

    /// With a file that may be loaded again.
    pub(crate) fn start_of(path: &Path) -> Balancer {
        let text = std::fs::read_to_string(path).unwrap();
        Balancer::run(RunParams {
            config_path: Some(path.to_owned()),
            ..params(config(&text), Signals::Ignore)
        })
    }

    fn run(params: RunParams) -> Balancer {
        let running = start(params).unwrap_or_else(|e| panic!("{e}"));
        let (stopper, admin) = (running.stopper(), running.admin());
        let listeners = running.listeners();
        let (sender, result) = channel();
        std::thread::spawn(move || sender.send(running.run()));
        Balancer {
            stopper,
            admin,
            listeners,
            result,
        }
    }

    /// The first address of that listener.
    pub(crate) fn address(&self, name: &str) -> &str {
        &self
            .listeners
            .iter()
            .find(|(listener, _)| listener == name)
            .unwrap()
            .1
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address("web")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.request(&get(path))
    }

    pub(crate) fn request(&self, text: &str) -> Answer {
        http(self.admin.as_deref().unwrap(), text)
    }

    pub(crate) fn status(&self) -> serde_json::Value {
        self.get("/v1/status").json()
    }

    /// Waits until the run is over.
    pub(crate) fn ended(self) -> Result<(), RunError> {
        self.result
            .recv_timeout(PATIENCE)
            .expect("the balancer ends in time")
    }

    pub(crate) fn drained(self) {
        self.stopper.drain();
        self.ended().unwrap();
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
}

pub(crate) fn http(address: &str, request: &str) -> Answer {
    match address.strip_prefix("unix:") {
        Some(path) => {
            let stream = UnixStream::connect(Path::new(path)).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            converse(stream, request)
        }
        None => {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            converse(stream, request)
        }
    }
}

fn converse(mut stream: impl Read + Write, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no head: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer {
        status,
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

/// A backend that gives back what it gets, until the test ends; its address.
pub(crate) fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut reader = stream.try_clone().unwrap();
                // A client that resets is no failure of the backend.
                let _ = std::io::copy(&mut reader, &mut stream);
                let _ = stream.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    address
}

/// Sends a few bytes there and back.
pub(crate) fn round_trip(stream: &mut (impl Read + Write)) {
    stream.write_all(b"ping").unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ping");
}

/// Looks again until it holds; the state of another process or thread has no other bell to ring.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One listener `web` on loopback and one pool `web`; more top-level keys in `more`.
pub(crate) fn one_pool(backends: &[String], pool: &str, more: &str) -> String {
    let backends: Vec<String> = backends
        .iter()
        .map(|address| format!("{{address: '{address}'}}"))
        .collect();
    format!(
        "workers: 2\n\
         listeners: {{web: {{bind: '127.0.0.1:0', pool: web}}}}\n\
         pools: {{web: {{backends: [{}]{pool}}}}}\n\
         {more}\n",
        backends.join(", ")
    )
}

pub(crate) const ADMIN: &str = "admin: {bind: '127.0.0.1:0'}\n";
