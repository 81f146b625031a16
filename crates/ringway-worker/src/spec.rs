//! What a worker is made from: sockets that are bound already, and values. No names, no files.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_balance::{AdminState, Algorithm, BackendParams, MaglevTable, WhenAllDown};
use ringway_flow::{CloseHow, FlowParams, QUEUED_BYTES_MAX};
use ringway_health::OutlierParams;
use ringway_metrics::{WorkerBlocks, WorkerHistograms};
use ringway_uring::{ConnectAddress, ListenOptions};
use ringway_wire::ProxyVersion;

use crate::access::AccessQueue;
use crate::admission::Admission;
use crate::inspect::Inspect;
use crate::limit::Limit;
use crate::origin::OriginSpec;
use crate::outlier::NoticeSink;

/// Bytes of a receive buffer. Measured with 64 B and 16 KiB round trips and bulk copies: smaller
/// ones cost bulk an operation more per byte, larger ones gain nothing once splice takes over.
const BUFFER_SIZE: u32 = 16 * 1024;

const _: () = assert!(QUEUED_BYTES_MAX.is_multiple_of(BUFFER_SIZE));

/// Receive buffers of a worker at most: 512 MiB of address space that only blocked receivers can make
/// it use. From half of what it may hold on a direction may hold one only, so that 16,000 blocked ones
/// leave some.
pub const BUFFERS_MAX: u16 = 1 << 15;

/// Bytes of one receive buffer: the `chunk_size` of [`FlowParams::new`].
pub const fn buffer_size() -> u32 {
    BUFFER_SIZE
}

/// Everything one worker needs.
#[derive(Debug)]
pub struct WorkerSpec {
    /// Its number, from 0.
    pub index: u16,
    /// The CPU it is pinned to.
    pub cpu: Option<usize>,
    /// Zero of the clock all workers share.
    pub epoch: Instant,
    /// Seed of its random choices.
    pub seed: u64,
    /// When it begins to accept.
    pub opening: Opening,
    /// Its listeners, in the topology's order.
    pub listeners: Vec<ListenerSpec>,
    /// Its listening sockets.
    pub sockets: Vec<SocketSpec>,
    /// Its routes, in the topology's order.
    pub routes: Vec<RouteSpec>,
    /// Its pools, in the topology's order.
    pub pools: Vec<PoolSpec>,
    /// Where it counts. Who had its number before it counted in the same ones.
    pub blocks: WorkerBlocks,
    /// Where it records; with what was recorded under its number before.
    pub histograms: WorkerHistograms,
    /// Connections the whole process may hold, derived from its descriptors.
    pub connections: Arc<Limit>,
    /// Its share of what the process has.
    pub share: Share,
    /// How long after a completion it looks for the next before it sleeps; off without.
    pub busy_poll: Option<Duration>,
    /// The queue to the access log, if there is one.
    pub access: Option<AccessQueue>,
    /// Who is told of ejections.
    pub notices: Box<dyn NoticeSink>,
}

/// A worker's part of what all workers of a process divide among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Pipes it may hold.
    pub pipes_max: usize,
    /// Bytes it asks for per pipe.
    pub pipe_size: usize,
    /// Receive buffers it may hold: from 64 to [`BUFFERS_MAX`].
    pub buffers_max: u16,
    /// Bytes that the kernel may hold in its sockets; none where memory is not bounded.
    pub socket_bytes: Option<u64>,
}

/// When a worker begins to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// As soon as it runs.
    AtOnce,
    /// At [`Message::Open`](crate::Message): until then somebody else accepts on its sockets, or
    /// nobody.
    WhenTold,
}

/// One listener.
#[derive(Debug)]
pub struct ListenerSpec {
    /// Index of the route of connections that nothing else routes.
    pub route: u16,
    /// Who is let in.
    pub admission: Admission,
    /// What is read of a connection before it is routed, if anything is. Until then it is on `route`,
    /// whose flows then look first.
    pub inspect: Option<Arc<Inspect>>,
    /// What a refused connection gets.
    pub over: CloseHow,
}

/// This worker's listening sockets at one address: one, or more where it has those of others too.
#[derive(Debug)]
pub struct SocketSpec {
    /// Their number, which they keep for life. Others may have it after that.
    pub number: u32,
    /// Index of the listener whose connections they bring.
    pub listener: u16,
    /// The sockets, where they are new to the worker.
    pub fds: Vec<OwnedFd>,
    /// What they are to hand down from now on, where that changes.
    pub options: Option<ListenOptions>,
}

/// One pair of listener and pool.
#[derive(Clone, Copy, Debug)]
pub struct RouteSpec {
    /// Index of the listener.
    pub listener: u16,
    /// Index of the pool.
    pub pool: u16,
    /// What its flows have in common.
    pub flow: FlowParams,
}

/// One pool.
#[derive(Debug)]
pub struct PoolSpec {
    /// How it chooses.
    pub algorithm: Algorithm,
    /// What it does when there is nothing to choose from.
    pub when_all_down: WhenAllDown,
    /// The table of a Maglev pool, shared by all workers.
    pub table: Option<Arc<MaglevTable>>,
    /// What happens to the connections of a backend that goes down.
    pub when_backend_down: WhenBackendDown,
    /// When failed connects eject a backend.
    pub outlier: Option<OutlierParams>,
    /// The PROXY header that its backends get.
    pub send_proxy: Option<ProxyVersion>,
    /// Where its connections come from.
    pub origin: OriginSpec,
    /// How long a backend that is back grows to its share.
    pub slow_start: Option<Duration>,
    /// Whether there are health checks; where there are none, every backend is up.
    pub is_checked: bool,
    /// Its backends.
    pub backends: Vec<BackendSpec>,
}

/// One backend.
#[derive(Debug)]
pub struct BackendSpec {
    /// Where it is.
    pub address: ConnectAddress,
    /// Weight, tier, identity.
    pub params: BackendParams,
    /// What an operator wants of it.
    pub state: AdminState,
    /// `max_connections`, shared by all workers.
    pub limit: Option<Arc<Limit>>,
    /// Whether it is in the configuration. Where not, its weight is 0, and what it has of connections
    /// stays.
    pub is_offered: bool,
}

impl BackendSpec {
    /// Whether anything is to be known of it.
    pub(crate) fn is_in_use(&self) -> bool {
        self.is_offered && self.state != AdminState::Maintenance
    }
}

/// What happens to the connections of a backend that goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenBackendDown {
    /// They stay.
    Keep,
    /// They are reset.
    Close,
}
