//! A Ringway under test: its configuration, its process and what its admin endpoint says. Invariant:
//! it is ready when it is returned, and gone when it is dropped.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;

use super::exposition::Exposition;
use super::rig::Rig;

/// How long an instance may take to be ready, and to end: far more than it should.
const PATIENCE: Duration = Duration::from_secs(20);

/// A configuration in the making: every listener has a pool of its own name.
#[derive(Debug)]
pub(super) struct Config {
    workers: String,
    listeners: String,
    pools: String,
}

impl Config {
    /// `workers` as in the file: `auto`, a number or a list of CPUs.
    pub(super) fn new(workers: &str) -> Config {
        Config {
            workers: workers.to_owned(),
            listeners: String::new(),
            pools: String::new(),
        }
    }

    /// One worker on the CPU that is kept for it.
    pub(super) fn pinned(rig: &Rig) -> Config {
        Config::new(&format!("[{}]", rig.worker_cpu))
    }

    /// Adds listener `name` on a free port.
    pub(super) fn listener(
        self,
        name: &str,
        relay: &str,
        backends: &[SocketAddr],
        health_check: &str,
    ) -> Config {
        self.listener_with(name, relay, backends, health_check, "")
    }

    /// The same with more keys, each after a comma.
    pub(super) fn listener_with(
        mut self,
        name: &str,
        relay: &str,
        backends: &[SocketAddr],
        health_check: &str,
        more: &str,
    ) -> Config {
        self = self.pool(name, backends, health_check);
        let _ = writeln!(
            self.listeners,
            "  {name}: {{bind: \"127.0.0.1:0\", pool: {name}, relay: {relay}{more}}}"
        );
        self
    }

    /// A listener on a Unix socket.
    pub(super) fn unix_listener(
        mut self,
        name: &str,
        path: &Path,
        backends: &[SocketAddr],
        health_check: &str,
    ) -> Config {
        self = self.pool(name, backends, health_check);
        let _ = writeln!(
            self.listeners,
            "  {name}: {{bind: \"unix:{}\", pool: {name}}}",
            path.display()
        );
        self
    }

    fn pool(mut self, name: &str, backends: &[SocketAddr], health_check: &str) -> Config {
        let backends: Vec<String> = backends
            .iter()
            .map(|address| format!("{{address: \"{address}\"}}"))
            .collect();
        let backends = backends.join(", ");
        let _ = writeln!(
            self.pools,
            "  {name}: {{backends: [{backends}], health_check: {health_check}}}"
        );
        self
    }

    fn text(&self, socket: &Path) -> String {
        format!(
            "workers: {}\nlisteners:\n{}pools:\n{}admin: {{bind: \"unix:{}\"}}\n\
             log: {{level: warn}}\nshutdown: {{drain: 1s}}\n",
            self.workers,
            self.listeners,
            self.pools,
            socket.display()
        )
    }
}

/// No health check.
pub(super) const UNCHECKED: &str = "\"off\"";

/// A running Ringway.
#[derive(Debug)]
pub(super) struct Instance {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
    /// From the start of the process to its first answer that it is ready.
    pub(super) ready_after: Duration,
}

impl Instance {
    /// Starts one with `config` and waits until it is ready.
    pub(super) fn start(rig: &Rig, config: &Config) -> io::Result<Instance> {
        Instance::start_by(rig, config, Command::new(&rig.ringway))
    }

    /// The same in the control group with this list of processes.
    pub(super) fn start_in(rig: &Rig, config: &Config, processes: &Path) -> io::Result<Instance> {
        let mut command = Command::new("sh");
        let script = "echo $$ >\"$0\" && exec \"$@\"";
        command
            .args(["-c", script])
            .arg(processes)
            .arg(&rig.ringway);
        Instance::start_by(rig, config, command)
    }

    fn start_by(rig: &Rig, config: &Config, mut command: Command) -> io::Result<Instance> {
        let (socket, log) = (rig.path("admin.sock"), rig.path("ringway.log"));
        let file = rig.path("ringway.yaml");
        fs::write(&file, config.text(&socket))?;
        let begin = Instant::now();
        let child = command
            .arg("run")
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()?;
        let mut instance = Instance {
            child,
            socket,
            log,
            ready_after: Duration::ZERO,
        };
        instance.wait_until_ready(begin)?;
        Ok(instance)
    }

    fn wait_until_ready(&mut self, begin: Instant) -> io::Result<()> {
        loop {
            if matches!(self.get("/readyz"), Ok((200, _))) {
                self.ready_after = begin.elapsed();
                return Ok(());
            }
            if self.child.try_wait()?.is_some() || begin.elapsed() > PATIENCE {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                let last = log.lines().last().unwrap_or("no log").to_owned();
                return Err(io::Error::other(format!(
                    "ringway did not become ready: {last}"
                )));
            }
            thread::sleep(Duration::from_micros(500));
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The address of listener `name`.
    pub(super) fn address(&self, name: &str) -> io::Result<String> {
        let (_, body) = self.get("/v1/status")?;
        let status: Json = serde_json::from_str(&body)?;
        let listeners = status["listeners"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        listeners
            .iter()
            .find(|listener| listener["name"] == name)
            .and_then(|listener| listener["addresses"][0].as_str())
            .map(str::to_owned)
            .ok_or_else(|| io::Error::other(format!("no listener {name} in {body}")))
    }

    /// How many lines of its log say so.
    pub(super) fn said(&self, what: &str) -> io::Result<usize> {
        let log = fs::read_to_string(&self.log)?;
        Ok(log.lines().filter(|line| line.contains(what)).count())
    }

    pub(super) fn metrics(&self) -> io::Result<Exposition> {
        self.get("/metrics").map(|(_, body)| Exposition(body))
    }

    /// Polls until `condition` holds of the metrics; whether it did in time.
    pub(super) fn settles(
        &self,
        patience: Duration,
        condition: impl Fn(&Exposition) -> io::Result<bool>,
    ) -> io::Result<bool> {
        let begin = Instant::now();
        loop {
            if condition(&self.metrics()?)? {
                return Ok(true);
            }
            if begin.elapsed() > patience {
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Status and body of a request to the admin endpoint.
    fn get(&self, path: &str) -> io::Result<(u16, String)> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        match status {
            Some(_)
                if head
                    .to_ascii_lowercase()
                    .contains("transfer-encoding: chunked") =>
            {
                Err(io::Error::other(format!("{path} was answered in chunks")))
            }
            Some(status) => Ok((status, body.to_owned())),
            None => Err(io::Error::other(format!("{path}: no status in `{head}`"))),
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id())
            && let Some(pid) = Pid::from_raw(pid)
        {
            // Fails only if it is gone already.
            let _ = kill_process(pid, Signal::TERM);
        }
        let begin = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begin.elapsed() > Duration::from_secs(5) {
                let _ = self.child.kill();
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}
