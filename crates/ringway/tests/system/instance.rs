//! A running instance that is ready, with what it had when it began. Invariant: dropping it waits
//! until its connections are over, compares its books and what it holds with the beginning, and ends
//! it with SIGTERM, which must give exit code 0.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::admin::{Admin, Metrics};
use crate::eventually::{PATIENCE, until, until_file, until_is};
use crate::process::{Ended, Process};
use crate::setup::{Relay, Setup};

/// One instance.
#[derive(Debug)]
pub(crate) struct Ringway {
    pub(crate) process: Process,
    pub(crate) admin: Admin,
    addresses: Vec<String>,
    /// As its file says them.
    binds: Vec<String>,
    relay: Relay,
    held: Held,
    workers: usize,
}

/// What a process holds for itself, whatever traffic there was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    /// Without those of pooled pipes.
    descriptors: usize,
    /// Without those of the kernel that splice for the ring.
    threads: Vec<String>,
}

impl Ringway {
    pub(crate) fn start(setup: Setup) -> Ringway {
        let mut process = setup.launch();
        let admin = process.admin();
        until("it is ready", || {
            assert!(process.is_running(), "it ended instead of getting ready");
            admin
                .get("/readyz")
                .is_ok_and(|answer| answer.status == 200)
        });
        let status = admin.status();
        let addresses = status["listeners"][0]["addresses"].as_array().unwrap();
        let addresses = addresses
            .iter()
            .map(|address| address.as_str().unwrap().to_owned());
        let mut ringway = Ringway {
            addresses: addresses.collect(),
            workers: status["workers"].as_array().unwrap().len(),
            relay: setup.relay_mode(),
            binds: setup.bound_to().to_vec(),
            held: Held {
                descriptors: 0,
                threads: Vec::new(),
            },
            process,
            admin,
        };
        ringway.held = ringway.held();
        ringway
    }

    /// The file that says this and listens where the instance does.
    pub(crate) fn file(&self, setup: &Setup) -> String {
        let binds: Vec<&str> = self.binds.iter().map(String::as_str).collect();
        setup.clone().binds(&binds).file(self.dir())
    }

    /// The first address it listens on, as its file says it.
    pub(crate) fn bind(&self) -> &str {
        &self.binds[0]
    }

    /// Gives it another file, in one step.
    pub(crate) fn rewrite(&self, setup: &Setup) {
        self.rewrite_as(&self.file(setup));
    }

    pub(crate) fn rewrite_as(&self, text: &str) {
        let (new, file) = (self.dir().join("new"), self.dir().join("ringway.yaml"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    /// A reload that must happen: what it changed.
    pub(crate) fn reload(&self) -> Vec<String> {
        let answer = self.admin.post("/v1/reload").unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        let changes = answer["changes"].as_array().unwrap();
        let text = |change: &Value| change.as_str().unwrap().to_owned();
        changes.iter().map(text).collect()
    }

    /// A reload that must be refused: why.
    pub(crate) fn reload_refused(&self) -> Value {
        let answer = self.admin.post("/v1/reload").unwrap();
        assert_eq!(answer.status, 422, "{}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }

    /// A reload of this, which must happen.
    pub(crate) fn reload_as(&self, setup: &Setup) -> Vec<String> {
        self.rewrite(setup);
        self.reload()
    }

    /// The first address it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0].parse().unwrap()
    }

    /// Every address it listens on, as bound.
    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    pub(crate) fn dir(&self) -> &Path {
        self.process.dir()
    }

    pub(crate) fn status(&self) -> Value {
        self.admin.status()
    }

    pub(crate) fn metrics(&self) -> Metrics {
        self.admin.metrics()
    }

    /// The state of a backend of the pool, by its place.
    pub(crate) fn backend_state(&self, at: usize) -> String {
        self.status()["pools"][0]["backends"][at]["state"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub(crate) fn connections(&self) -> u64 {
        self.status()["connections"].as_u64().unwrap()
    }

    pub(crate) fn until_connections(&self, count: u64) {
        until_is("connections", count, || self.connections());
    }

    /// Connections that were closed so.
    pub(crate) fn closed(&self, side: &str, reason: &str) -> i64 {
        let labels = [("side", side), ("reason", reason)];
        self.metrics().sum("connections_closed_total", &labels)
    }

    /// Waits for that many connections to be closed so.
    pub(crate) fn until_closed(&self, side: &str, reason: &str, count: i64) {
        let what = format!("closed by {side}: {reason}");
        until_is(&what, count, || self.closed(side, reason));
    }

    pub(crate) fn refused(&self, reason: &str) -> i64 {
        self.metrics()
            .sum("listener_refused_total", &[("reason", reason)])
    }

    /// Bytes received from a side.
    pub(crate) fn received(&self, side: &str) -> i64 {
        self.metrics()
            .sum("received_bytes_total", &[("side", side)])
    }

    /// Waits until the counters say what the peers sent each other, to the byte.
    pub(crate) fn until_bytes(&self, from_client: u64, from_backend: u64) {
        let count = |family: &str, side| self.metrics().sum(family, &[("side", side)]) as u64;
        let counted = || {
            [
                count("received_bytes_total", "client"),
                count("sent_bytes_total", "backend"),
                count("received_bytes_total", "backend"),
                count("sent_bytes_total", "client"),
            ]
        };
        let expected = [from_client, from_client, from_backend, from_backend];
        until_is("bytes counted", expected, counted);
    }

    /// Waits until no byte moves although a peer wants to send: what comes is what fits the buffers.
    pub(crate) fn until_blocked(&self, side: &str) -> i64 {
        let mut last = (self.received(side), 0);
        until("blocked", || {
            let now = self.received(side);
            last = (now, if now == last.0 { last.1 + 1 } else { 0 });
            last.0 > 0 && last.1 >= 20
        });
        last.0
    }

    /// Waits until every connection is over, then compares books and belongings.
    pub(crate) fn settle(&self) {
        self.until_connections(0);
        self.until_balanced(0);
        let metrics = self.metrics();
        for gauge in [
            "worker_connections",
            "listener_connections",
            "backend_connections",
        ] {
            assert_eq!(metrics.sum(gauge, &[]), 0, "{gauge}");
        }
        assert_eq!(metrics.sum("worker_pipes", &[("state", "in_use")]), 0);
        assert_eq!(metrics.sum("worker_stale_completions_total", &[]), 0);
        let bytes = |family: &str, side| metrics.sum(family, &[("side", side)]);
        for (from, to) in [("client", "backend"), ("backend", "client")] {
            let (received, sent) = (
                bytes("received_bytes_total", from),
                bytes("sent_bytes_total", to),
            );
            assert!(
                sent <= received,
                "{sent} bytes sent to the {to}, {received} received"
            );
        }
        let sent = metrics.sum("sent_bytes_total", &[]);
        assert_eq!(metrics.sum("relayed_bytes_total", &[]), sent);
        until_is("what it holds", self.held.clone(), || self.held());
    }

    /// Waits until every accepted connection is accounted for and `active` are open.
    pub(crate) fn until_balanced(&self, active: i64) {
        let books = || {
            let metrics = self.metrics();
            let sum = |family| metrics.sum(family, &[]);
            let over = sum("connections_closed_total") + sum("listener_refused_total");
            (
                sum("listener_connections_total") - over,
                sum("listener_connections"),
            )
        };
        until_is("accepted less ended, and open", (active, active), books);
    }

    fn held(&self) -> Held {
        let threads = self.process.threads();
        let is_spliced = |name: &String| name.starts_with("iou-wrk");
        let spliced = threads.iter().filter(|name| is_spliced(name)).count();
        match self.relay {
            Relay::UringSplice => assert!(spliced <= 4 * self.workers, "{threads:?}"),
            Relay::Auto | Relay::Copy | Relay::Splice => assert_eq!(spliced, 0, "{threads:?}"),
        }
        let pipes = self.metrics().sum("worker_pipes", &[]) as usize;
        Held {
            descriptors: self.process.descriptors_kept().saturating_sub(2 * pipes),
            threads: threads
                .into_iter()
                .filter(|name| !is_spliced(name))
                .collect(),
        }
    }

    /// Ends it without a look at books and belongings, of which a reload has changed some.
    pub(crate) fn stop_early(mut self) {
        self.stop(PATIENCE);
    }

    /// What it holds now is what it may hold in the end: it has other sockets than at the beginning.
    pub(crate) fn hold_this(&mut self) {
        self.held = self.held();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// SIGTERM, and the end that must follow.
    pub(crate) fn stop(&mut self, within: Duration) -> Ended {
        self.signal(Signal::TERM);
        let ended = self.process.end_within(within);
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        ended
    }

    /// Messages of the log, one JSON object each.
    pub(crate) fn log_lines(&self) -> Vec<Value> {
        let lines = self.process.log();
        lines
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// The lines of a file it writes, once there are that many.
    pub(crate) fn json_lines(&self, file: &str, count: usize) -> Vec<Value> {
        let path = self.dir().join(file);
        until_file(&path, &format!("{count} lines"), |text| {
            text.matches('\n').count() >= count
        });
        let lines: Vec<Value> = std::fs::read_to_string(&path)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).expect(line))
            .collect();
        assert_eq!(lines.len(), count, "{lines:?}");
        lines
    }
}

impl Drop for Ringway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // One that has ended, or hangs, has its log to speak for it.
            if let Ok(metrics) = self.admin.try_metrics() {
                eprintln!("─── counters of the instance ───\n{}", metrics.nonzero());
            }
        } else if self.process.is_running() {
            self.settle();
            self.stop(PATIENCE);
        }
    }
}
