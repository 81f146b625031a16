//! What a test chooses about its instance, and the file that says so. Not the defaults of the
//! product: tests want no health checks, no ejections and an order they can count on unless they say otherwise.

use std::fmt::{Display, Write as _};
use std::path::Path;

use crate::instance::Ringway;
use crate::places::own_address;
use crate::process::{Launch, Process, Workplace};

/// The values of `relay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relay {
    Auto,
    Copy,
    Splice,
    UringSplice,
}

/// The values of `balance`.
pub(crate) const ALGORITHMS: [&str; 5] = [
    "round_robin",
    "least_connections",
    "random",
    "source_hash",
    "maglev",
];

/// Every way to move bytes.
pub(crate) const MODES: [Relay; 4] = [Relay::Auto, Relay::Copy, Relay::Splice, Relay::UringSplice];

/// Every way to move bytes and every number of workers, without every pair of them.
pub(crate) const SHAPES: [(Relay, u16); 6] = [
    (Relay::Auto, 1),
    (Relay::Copy, 2),
    (Relay::Splice, 4),
    (Relay::UringSplice, 1),
    (Relay::Auto, 4),
    (Relay::Splice, 1),
];

impl Relay {
    pub(crate) fn as_key(self) -> &'static str {
        match self {
            Relay::Auto => "auto",
            Relay::Copy => "copy",
            Relay::Splice => "splice",
            Relay::UringSplice => "uring_splice",
        }
    }
}

/// One listener `l` and one pool `p`, and what other pools the routes of the listener lead to.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    relay: Relay,
    workers: u16,
    top: Vec<String>,
    binds: Vec<String>,
    listener: Vec<String>,
    has_default: bool,
    others: Vec<String>,
    balance: &'static str,
    health: String,
    pool: Vec<String>,
    backends: Vec<String>,
    access: &'static str,
    shutdown: &'static str,
    launch: Launch,
}

impl Setup {
    /// In front of these backends.
    pub(crate) fn to<B: Display>(backends: impl IntoIterator<Item = B>) -> Setup {
        let backend = |address: B| format!("{{address: \"{address}\"}}");
        Setup {
            relay: Relay::Auto,
            workers: 1,
            top: Vec::new(),
            binds: vec![own_address().to_string()],
            listener: Vec::new(),
            has_default: true,
            others: Vec::new(),
            balance: "round_robin",
            health: "off".to_owned(),
            pool: Vec::new(),
            backends: backends.into_iter().map(backend).collect(),
            access: "off",
            shutdown: "{delay: 0s, drain: 30s}",
            launch: Launch::Plain,
        }
    }

    pub(crate) fn shape(self, (relay, workers): (Relay, u16)) -> Setup {
        self.relay(relay).workers(workers)
    }

    pub(crate) fn relay(self, relay: Relay) -> Setup {
        Setup { relay, ..self }
    }

    pub(crate) fn workers(self, workers: u16) -> Setup {
        Setup { workers, ..self }
    }

    /// One more key of the file itself, on one line.
    pub(crate) fn top(mut self, line: &str) -> Setup {
        self.top.push(line.to_owned());
        self
    }

    /// Binds these addresses instead of a free port of 127.0.0.1. `DIR` stands for the directory of
    /// the instance.
    pub(crate) fn binds(self, binds: &[&str]) -> Setup {
        let binds = binds.iter().map(ToString::to_string).collect();
        Setup { binds, ..self }
    }

    /// One more backend with more to say than its address.
    pub(crate) fn backend(mut self, address: impl Display, keys: &str) -> Setup {
        self.backends
            .push(format!("{{address: \"{address}\", {keys}}}"));
        self
    }

    /// One more key of the listener, on one line.
    pub(crate) fn listener(mut self, line: &str) -> Setup {
        self.listener.push(line.to_owned());
        self
    }

    /// One more pool, of one backend, and the route that leads there.
    pub(crate) fn route(mut self, name: &str, backend: impl Display, names: &str) -> Setup {
        let backends = format!("backends: [{{address: \"{backend}\"}}]");
        let pool = format!("{name}: {{{backends}, health_check: off, outlier: off}}");
        self.others.push(pool);
        self.listener(&format!("  - {{pool: {name}, {names}}}"))
    }

    /// What no route leads anywhere is refused.
    pub(crate) fn without_default(self) -> Setup {
        Setup {
            has_default: false,
            ..self
        }
    }

    /// A PROXY header is required, and believed of these networks.
    pub(crate) fn trusting(self, networks: &str) -> Setup {
        self.listener(&format!(
            "proxy_protocol: {{mode: required, trusted: [{networks}]}}"
        ))
    }

    /// One more key of the pool, on one line.
    pub(crate) fn pool(mut self, line: &str) -> Setup {
        self.pool.push(line.to_owned());
        self
    }

    pub(crate) fn balance(self, balance: &'static str) -> Setup {
        Setup { balance, ..self }
    }

    /// Checks that notice within a second.
    pub(crate) fn health_checks(self) -> Setup {
        let health = "{interval: 250ms, timeout: 250ms, rise: 2, fall: 2}".to_owned();
        Setup { health, ..self }
    }

    /// The whole of `health_check`.
    pub(crate) fn health(self, health: &str) -> Setup {
        let health = health.to_owned();
        Setup { health, ..self }
    }

    /// The same checks with more to ask, such as `type: http`.
    pub(crate) fn health_checks_of(self, kind: &str) -> Setup {
        let health = format!("{{interval: 250ms, timeout: 250ms, rise: 2, fall: 2, {kind}}}");
        Setup { health, ..self }
    }

    /// `log.access`: `stdout`, or a path.
    pub(crate) fn access_log(self, access: &'static str) -> Setup {
        Setup { access, ..self }
    }

    pub(crate) fn shutdown(self, shutdown: &'static str) -> Setup {
        Setup { shutdown, ..self }
    }

    pub(crate) fn launch_as(self, launch: Launch) -> Setup {
        Setup { launch, ..self }
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(self) -> Ringway {
        Ringway::start(self)
    }

    /// Starts it without expecting anything, for files that must be refused.
    pub(crate) fn launch(&self) -> Process {
        let place = Workplace::new();
        place.write_config(&self.file(place.path()));
        Process::launch(place, self.launch)
    }

    pub(crate) fn bound_to(&self) -> &[String] {
        &self.binds
    }

    pub(crate) fn relay_mode(&self) -> Relay {
        self.relay
    }

    pub(crate) fn file(&self, dir: &Path) -> String {
        let mut file = format!("workers: {}\nlisteners:\n  l:\n    bind:\n", self.workers);
        let mut line = |indent: usize, text: &str| {
            writeln!(file, "{:indent$}{text}", "").unwrap();
        };
        for bind in &self.binds {
            line(6, &format!("- \"{bind}\""));
        }
        if self.has_default {
            line(4, "pool: p");
        }
        line(4, &format!("relay: {}", self.relay.as_key()));
        self.listener.iter().for_each(|key| line(4, key));
        line(0, "pools:\n  p:\n    backends:");
        self.backends
            .iter()
            .for_each(|backend| line(6, &format!("- {backend}")));
        line(4, &format!("balance: {}", self.balance));
        line(4, &format!("health_check: {}", self.health));
        self.pool.iter().for_each(|key| line(4, key));
        if !self.pool.iter().any(|key| key.starts_with("outlier:")) {
            line(4, "outlier: off");
        }
        self.others.iter().for_each(|pool| line(2, pool));
        line(0, "admin: {bind: \"unix:DIR/admin.sock\"}");
        line(
            0,
            &format!("log: {{format: json, access: \"{}\"}}", self.access),
        );
        line(0, &format!("shutdown: {}", self.shutdown));
        self.top.iter().for_each(|key| line(0, key));
        file.replace("DIR", dir.to_str().unwrap())
    }
}
