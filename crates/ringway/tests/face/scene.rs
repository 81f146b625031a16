//! An instance with something to see: three listeners, backends of which some are gone, clients that
//! come, stay, reset and are refused. Invariant: dropping it ends the process and the clients.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::SockRef;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// A running instance, its backends and its clients.
#[derive(Debug)]
pub(crate) struct Scene {
    child: Child,
    folder: TempDir,
    /// Where its dashboard is.
    pub(crate) admin: SocketAddr,
    is_over: Arc<AtomicBool>,
}

/// How much there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// In the large pool; each tenth is gone.
    pub(crate) backends: u16,
}

impl Scene {
    pub(crate) fn start(size: Size) -> Scene {
        let folder = TempDir::new().unwrap();
        // An address that no other process has, so that the port is free again after a restart.
        let [high, low] = (std::process::id() as u16).to_be_bytes();
        let admin = SocketAddr::from((Ipv4Addr::new(127, 77, high, low), free_port()));
        let ports = [serve(), free_port(), free_port()];
        fs::write(
            folder.path().join("ringway.yaml"),
            config(size, admin, ports),
        )
        .unwrap();
        let child = launch(&folder);
        let mut scene = Scene {
            child,
            folder,
            admin,
            is_over: Arc::default(),
        };
        scene.until_ready();
        scene.play();
        scene
    }

    /// Ends the process at once and starts another at the same place.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn start_again(&mut self) {
        self.child = launch(&self.folder);
        self.until_ready();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The body of an answer of the admin endpoint.
    pub(crate) fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.admin).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let host = self.admin;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.get("/v1/status?latency=1").unwrap()).unwrap()
    }

    fn until_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.get("/readyz").is_none() {
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap();
            let is_running = self.child.try_wait().unwrap().is_none();
            assert!(
                is_running && Instant::now() < deadline,
                "not ready:\n{}",
                log()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Clients of each kind until it is over; they go on when it was started again.
    fn play(&self) {
        let status = self.status();
        let listeners = status["listeners"].as_array().unwrap();
        let address = |name: &str| -> SocketAddr {
            let found = listeners
                .iter()
                .find(|listener| listener["name"] == name)
                .unwrap();
            found["addresses"][0].as_str().unwrap().parse().unwrap()
        };
        let clients = [
            ("web", Visit::Ask, 4),
            ("web", Visit::Stay, 12),
            ("api", Visit::Ask, 2),
            ("api", Visit::Reset, 40),
            ("limited", Visit::Ask, 15),
        ];
        for (listener, visit, pause_ms) in clients {
            let (address, is_over) = (address(listener), Arc::clone(&self.is_over));
            thread::spawn(move || {
                let mut guests = Vec::new();
                for number in 0usize.. {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    guests.extend(visit.make(address, number));
                    let most = 60 + 40 * (number / 200 % 3);
                    if guests.len() > most {
                        guests.drain(..most / 2);
                    }
                    // The pace of the crowd, which nothing waits for.
                    thread::sleep(Duration::from_millis(pause_ms + number as u64 / 64 % 3));
                }
            });
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            eprintln!("the instance said:\n{}", last.join("\n"));
        }
    }
}

/// What a client does.
#[derive(Clone, Copy, Debug)]
enum Visit {
    Ask,
    Stay,
    Reset,
}

impl Visit {
    fn make(self, address: SocketAddr, number: usize) -> Option<TcpStream> {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        let question = vec![b'x'; 200 << (number % 8)];
        stream.write_all(&question).ok()?;
        stream.read_exact(&mut vec![0; question.len()]).ok()?;
        match self {
            Visit::Ask => None,
            Visit::Stay => Some(stream),
            Visit::Reset => {
                SockRef::from(&stream)
                    .set_linger(Some(Duration::ZERO))
                    .ok()?;
                None
            }
        }
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Sends back what it gets, on every address of this host.
fn serve() -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let (mut stream, mut buffer) = (stream, [0; 16384]);
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..count]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

fn config(size: Size, admin: SocketAddr, [alive, down, broken]: [u16; 3]) -> String {
    let own = admin.ip();
    let [web, api, limited] = [free_port(), free_port(), free_port()];
    let mut text = format!(
        "workers: 2
listeners:
  web: {{bind: '{own}:{web}', pool: web}}
  api: {{bind: '{own}:{api}', pool: api}}
  limited: {{bind: '{own}:{limited}', pool: api, limits: {{rate: 20/s}}}}
pools:
  api:
    health_check: off
    outlier: {{consecutive_failures: 3, ejection: 5s}}
    backends:
      - {{address: '127.0.0.1:{alive}'}}
      - {{address: '127.0.0.2:{alive}', weight: 2}}
      - {{address: '127.0.0.3:{broken}'}}
      - {{address: 'unix:/gone/<b>bold</b>', backup: true}}
  web:
    health_check: {{interval: 1s}}
    backends:
"
    );
    for number in 0..size.backends {
        let port = if number % 10 == 7 { down } else { alive };
        let [high, low] = (number + 1).to_be_bytes();
        writeln!(text, "      - {{address: '127.10.{high}.{low}:{port}'}}").unwrap();
    }
    write!(text, "admin: {{bind: '{admin}'}}\nlog: {{format: json}}\n").unwrap();
    text
}

fn launch(folder: &TempDir) -> Child {
    Command::new(env!("CARGO_BIN_EXE_ringway"))
        .args(["run", "-c", "ringway.yaml"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(folder.path().join("log")).unwrap())
        .spawn()
        .unwrap()
}
