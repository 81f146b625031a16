//! What `GET /v1/status` says, as far as it is shown. Not the whole answer: `ringway status --json`
//! prints that as it came. Invariant: a field that an instance of another version does not send is
//! empty, not an error; a field with another type is an error.

use serde::Deserialize;

use crate::client::{Endpoint, Method};
use crate::failure::Failure;

/// One answer. Seconds are fractions, counters run since the start.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Snapshot {
    pub(crate) version: String,
    pub(crate) commit: String,
    pub(crate) pid: u32,
    pub(crate) uptime_seconds: f64,
    pub(crate) draining: bool,
    /// What is left of a drain.
    pub(crate) drain: Option<Drain>,
    /// Why it should get no new traffic.
    pub(crate) unready: Option<String>,
    /// Open now.
    pub(crate) connections: i64,
    /// As many as the descriptors carry.
    pub(crate) connections_max: u64,
    pub(crate) workers: Vec<Worker>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) pools: Vec<Pool>,
    pub(crate) routes: Vec<Route>,
}

/// What is left of a drain.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Drain {
    /// Until those that are left are cut.
    pub(crate) remaining_seconds: f64,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Worker {
    pub(crate) index: u32,
    pub(crate) cpu: u32,
    /// `leaving` where it only keeps what connections it has.
    pub(crate) state: String,
    /// Open now.
    pub(crate) connections: i64,
    pub(crate) connections_total: u64,
    pub(crate) received_bytes_total: u64,
    /// CPU time of its thread.
    pub(crate) busy_seconds_total: Option<f64>,
}

impl Worker {
    /// Its number, and that it leaves, if it does.
    pub(crate) fn name(&self) -> String {
        let index = self.index;
        match self.state.as_str() {
            "leaving" => format!("{index} (leaving)"),
            _ => index.to_string(),
        }
    }
}

/// Connections of one listener to one pool.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Route {
    pub(crate) received_bytes: Received,
}

/// Bytes by the side they came from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Received {
    pub(crate) client: u64,
    pub(crate) backend: u64,
}

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Listener {
    pub(crate) name: String,
    /// Where it is really bound.
    pub(crate) addresses: Vec<String>,
    pub(crate) pools: Vec<String>,
    /// Open now.
    pub(crate) connections: i64,
    pub(crate) connections_total: u64,
    pub(crate) refused_total: u64,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pool {
    pub(crate) name: String,
    /// Backends that some worker may choose.
    pub(crate) up: u64,
    pub(crate) backends: Vec<Backend>,
}

/// One backend of a pool.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Backend {
    pub(crate) address: String,
    pub(crate) weight: u32,
    pub(crate) backup: bool,
    /// `up`, `down` or `unknown`.
    pub(crate) state: String,
    /// What the operator wants; `active` unless somebody said otherwise.
    pub(crate) admin_state: String,
    /// In this state.
    pub(crate) since_seconds: f64,
    /// Open now.
    pub(crate) connections: i64,
    pub(crate) connections_total: u64,
    pub(crate) connect_failures_total: u64,
    /// Workers that leave it out because connects to it have failed.
    pub(crate) ejected_workers: i64,
    /// Since the last check ended; none without checks.
    pub(crate) last_check_seconds: Option<f64>,
    /// Why the last failed check failed.
    pub(crate) last_failure: Option<String>,
}

impl Snapshot {
    /// Asks `endpoint`.
    pub(crate) fn fetch(endpoint: &Endpoint) -> Result<Snapshot, Failure> {
        let response = endpoint.request(Method::Get, "/v1/status")?;
        Snapshot::read(&response.body).map_err(|error| {
            Failure::Runtime(format!("{endpoint}: the status cannot be read: {error}"))
        })
    }

    /// Reads the body of an answer.
    pub(crate) fn read(body: &[u8]) -> Result<Snapshot, serde_json::Error> {
        serde_json::from_slice(body)
    }
}
