//! What a keeper is told and what it tells. Plain values and one trait; nothing here decides anything.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ringway_health::{Check, Health, ProbeParams, ProbeResult, Transition};

/// Which backend a verdict is about; chosen by the caller, who also keeps it stable across
/// [`KeeperHandle::update`](crate::KeeperHandle::update).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendKey {
    /// The pool's number.
    pub pool: u16,
    /// The backend's number in its pool.
    pub backend: u16,
    /// Tells it from whoever had these numbers before: a target with another serial begins as unknown.
    pub serial: u64,
}

/// Where a probe connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeAddress {
    /// TCP over IPv4 or IPv6.
    Tcp(SocketAddr),
    /// A listening unix stream socket.
    Unix(PathBuf),
}

/// One backend to be probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The caller's name for it.
    pub key: BackendKey,
    /// Where to connect to.
    pub address: ProbeAddress,
    /// Local addresses to connect from: the first that has a port left; none where the kernel chooses.
    pub sources: Arc<[IpAddr]>,
    /// Sent before anything that is asked: a PROXY header, where the backend expects one.
    pub preface: Arc<[u8]>,
    /// What is asked there.
    pub check: Arc<Check>,
    /// How often, how long, and how many results in a row decide.
    pub params: ProbeParams,
    /// What it is taken for until now, by another keeper. Of no effect for one that this keeper has.
    pub known: Health,
    /// When another keeper began its last probe, since the start of
    /// [`KeeperParams`](crate::KeeperParams): the next one comes when it would have come there. Of no effect for one
    /// that this keeper has.
    pub last_probe: Option<Duration>,
}

/// Where verdicts go. Called on the keeper's thread, which probes nothing meanwhile: an implementation queues
/// or counts and returns. A panic in it ends the process.
pub trait VerdictSink: Send + Sync + 'static {
    /// A probe ended `at_since_start` (the start of [`KeeperParams`](crate::KeeperParams)), `took` after it
    /// began. Called for every probe, before [`on_transition`](Self::on_transition) if it tips the scale.
    fn on_probe(
        &self,
        key: BackendKey,
        at_since_start: Duration,
        took: Duration,
        result: &ProbeResult,
    );

    /// The health of a backend changed.
    fn on_transition(&self, key: BackendKey, transition: Transition);
}
