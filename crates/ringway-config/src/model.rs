//! The checked configuration: what the rest of Ringway reads. Not what a user may write; that is
//! `keys.rs`. Invariant of a [`Config`] from this crate: every pool index is valid, no listener
//! address is bound twice, no pool is empty or holds an address twice, and every number is inside
//! the range the kernel takes.

use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use ringway_balance::{AdminState, Algorithm, WhenAllDown};
use ringway_flow::RelayMode;
use ringway_health::{OutlierParams, ProbeParams, StatusRange};
use ringway_wire::ProxyVersion;

use crate::address::{AdminBind, BackendAddress, BindAddress};
use crate::routes::NamePattern;

/// A whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How many workers, and where.
    pub workers: Workers,
    /// How long after a completion a worker looks for the next before it sleeps; `None` is off.
    pub busy_poll: Option<Duration>,
    /// The listeners in the order of the file.
    pub listeners: Vec<Listener>,
    /// The pools in the order of the file.
    pub pools: Vec<Pool>,
    /// Where the admin endpoint answers; `None` is off.
    pub admin: Option<AdminBind>,
    /// The file with the token that changes need; always there where other machines reach `admin`.
    pub admin_token_file: Option<PathBuf>,
    /// What is logged, and how.
    pub log: Log,
    /// How the process ends.
    pub shutdown: Shutdown,
}

impl Config {
    /// These listeners and pools, and the contract's default for everything else. The caller keeps
    /// the invariants of this module.
    pub fn new(listeners: Vec<Listener>, pools: Vec<Pool>) -> Self {
        Config {
            workers: Workers::default(),
            busy_poll: None,
            listeners,
            pools,
            admin: Some(AdminBind::default()),
            admin_token_file: None,
            log: Log::default(),
            shutdown: Shutdown::default(),
        }
    }
}

/// How many workers run, and on which CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Workers {
    /// One per CPU this process may use.
    #[default]
    Auto,
    /// That many.
    Count(NonZeroU16),
    /// One on each of these CPUs; never empty, no CPU twice.
    Cpus(Vec<u16>),
}

/// Where connections are accepted and what happens to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Unique among the listeners.
    pub name: String,
    /// Never empty.
    pub binds: Vec<BindAddress>,
    /// Index into [`Config::pools`]; `None` refuses what no route leads anywhere. Then there are
    /// routes.
    pub pool: Option<usize>,
    /// Where the names of a TLS ClientHello lead.
    pub routes: Vec<Route>,
    /// The header its clients begin with.
    pub proxy_protocol: ProxyProtocol,
    /// Who may connect.
    pub access: Access,
    /// How much is let in.
    pub limits: ListenerLimits,
    /// Deadlines of its connections.
    pub timeouts: ListenerTimeouts,
    /// How bytes are moved.
    pub relay: RelayMode,
    /// Socket options.
    pub tcp: TcpOptions,
}

impl Listener {
    /// A listener with the contract's defaults.
    pub fn new(name: impl Into<String>, binds: Vec<BindAddress>, pool: usize) -> Self {
        Listener {
            name: name.into(),
            binds,
            pool: Some(pool),
            routes: Vec::new(),
            proxy_protocol: ProxyProtocol::default(),
            access: Access::default(),
            limits: ListenerLimits::default(),
            timeouts: ListenerTimeouts::default(),
            relay: RelayMode::Auto,
            tcp: TcpOptions::default(),
        }
    }
}

/// Where some names lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Never empty.
    pub names: Vec<NamePattern>,
    /// Application protocols, one of which must be offered; empty is no condition.
    pub protocols: Vec<String>,
    /// Index into [`Config::pools`].
    pub pool: usize,
}

/// The PROXY protocol of a listener's clients.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProxyProtocol {
    /// Whether there is a header.
    pub mode: ProxyProtocolMode,
    /// Networks whose header is believed; never empty where one is required.
    pub trusted: Vec<IpNet>,
}

/// Whether connections begin with a PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ProxyProtocolMode {
    /// What looks like one is payload.
    #[default]
    Off,
    /// They must.
    Required,
}

/// Networks that may connect and networks that may not: the longest prefix that holds an address
/// decides, on a tie the one that denies, and an address in none may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Never empty, and without host bits; a network may be there twice.
    pub allow: Vec<IpNet>,
    /// The same, and may be empty.
    pub deny: Vec<IpNet>,
}

impl Default for Access {
    fn default() -> Self {
        Access {
            allow: vec![Ipv4Net::default().into(), Ipv6Net::default().into()],
            deny: Vec::new(),
        }
    }
}

/// How much a listener lets in, over all workers; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListenerLimits {
    /// Most connections at once.
    pub connections: Option<NonZeroU32>,
    /// Most connections at once of one source: an IPv4 address, or the /64 of an IPv6 address.
    pub connections_per_source: Option<NonZeroU32>,
    /// New connections per second.
    pub rate: Option<NonZeroU32>,
    /// New connections per second of one source.
    pub rate_per_source: Option<NonZeroU32>,
    /// What a refused connection gets.
    pub over: Over,
}

/// What a refused connection gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Over {
    /// A reset.
    #[default]
    Reset,
    /// An orderly end without a byte.
    Close,
}

/// Deadlines of a listener's connections; `None` is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerTimeouts {
    /// From accept until PROXY header and ClientHello are complete, where they are read.
    pub handshake: Option<Duration>,
    /// From accept until the client's first payload byte.
    pub first_byte: Option<Duration>,
    /// No byte in either direction.
    pub idle: Option<Duration>,
    /// One side closed and the other silent.
    pub half_close: Option<Duration>,
    /// From accept, however busy.
    pub lifetime: Option<Duration>,
}

impl Default for ListenerTimeouts {
    fn default() -> Self {
        ListenerTimeouts {
            handshake: Some(Duration::from_secs(5)),
            first_byte: None,
            idle: Some(Duration::from_secs(600)),
            half_close: Some(Duration::from_secs(30)),
            lifetime: None,
        }
    }
}

/// Options of a listener's sockets, inherited by the connections it accepts; see tcp(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpOptions {
    /// `TCP_NODELAY`.
    pub nodelay: bool,
    /// `SO_KEEPALIVE` and its three numbers; `None` is off.
    pub keepalive: Option<Keepalive>,
    /// `TCP_USER_TIMEOUT`, whole milliseconds; `None` is the kernel's default.
    pub user_timeout: Option<Duration>,
    /// The queue of listen(2); the kernel lowers it to `net.core.somaxconn`.
    pub backlog: u32,
    /// `TCP_DEFER_ACCEPT`, whole seconds; `None` is off.
    pub defer_accept: Option<Duration>,
    /// `TCP_FASTOPEN`, the length of its queue; `None` is off.
    pub fast_open: Option<u32>,
    /// `SO_RCVBUF` in bytes; `None` leaves it to the kernel, which tunes it.
    pub receive_buffer: Option<u32>,
    /// `SO_SNDBUF` in bytes; `None` leaves it to the kernel, which tunes it.
    pub send_buffer: Option<u32>,
}

impl Default for TcpOptions {
    fn default() -> Self {
        TcpOptions {
            nodelay: true,
            keepalive: Some(Keepalive::default()),
            user_timeout: Some(Duration::from_secs(90)),
            backlog: 4096,
            defer_accept: None,
            fast_open: None,
            receive_buffer: None,
            send_buffer: None,
        }
    }
}

/// When the kernel probes a silent connection, and when it gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe (`TCP_KEEPIDLE`), whole seconds.
    pub idle: Duration,
    /// Between two probes (`TCP_KEEPINTVL`), whole seconds.
    pub interval: Duration,
    /// Unanswered probes that end the connection (`TCP_KEEPCNT`).
    pub count: u32,
}

impl Default for Keepalive {
    fn default() -> Self {
        Keepalive {
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(10),
            count: 6,
        }
    }
}

/// Backends that serve the same thing, and how one is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Unique among the pools.
    pub name: String,
    /// How new connections are spread.
    pub algorithm: Algorithm,
    /// Never empty, no address twice.
    pub backends: Vec<Backend>,
    /// Active checks; `None` is off.
    pub health: Option<HealthCheck>,
    /// Ejection of backends that cannot be connected to; `None` is off.
    pub outlier: Option<OutlierParams>,
    /// The PROXY header its backends get; `None` is none.
    pub send_proxy: Option<ProxyVersion>,
    /// How long a backend that is back grows to its share; `None` is at once.
    pub slow_start: Option<Duration>,
    /// One attempt to connect.
    pub connect_timeout: Duration,
    /// Attempts for one connection, each on another backend.
    pub connect_attempts: u32,
    /// The local address of connections to backends.
    pub connect_source: ConnectSource,
    /// What happens to established connections of a backend that goes down.
    pub when_backend_down: WhenBackendDown,
    /// What happens to new connections while all backends are down.
    pub when_all_down: WhenAllDown,
}

impl Pool {
    /// A pool with the contract's defaults.
    pub fn new(name: impl Into<String>, backends: Vec<Backend>) -> Self {
        Pool {
            name: name.into(),
            algorithm: Algorithm::LeastConnections,
            backends,
            health: Some(HealthCheck::default()),
            outlier: Some(outlier_defaults()),
            send_proxy: None,
            slow_start: None,
            connect_timeout: Duration::from_secs(3),
            connect_attempts: 3,
            connect_source: ConnectSource::default(),
            when_backend_down: WhenBackendDown::Keep,
            when_all_down: WhenAllDown::Try,
        }
    }
}

/// Where connections to backends come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ConnectSource {
    /// The kernel chooses.
    #[default]
    Any,
    /// One of these, in turn, of the family of the backend; never empty, none twice.
    Addresses(Vec<IpAddr>),
    /// The client's own.
    Client,
}

/// The contract's defaults.
const fn outlier_defaults() -> OutlierParams {
    OutlierParams {
        consecutive_failures: 5,
        ejection: Duration::from_secs(10),
        max_ejection: Duration::from_secs(300),
        max_ejected_percent: 50,
    }
}

/// One backend of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Unique in its pool; also its name.
    pub address: BackendAddress,
    /// Its share of new connections, up to [`WEIGHT_MAX`](crate::limits::WEIGHT_MAX).
    pub weight: u32,
    /// What an operator wants of it while it runs. A file cannot say: there it is active.
    pub state: AdminState,
    /// Chosen only while no backend that is not a backup is up.
    pub backup: bool,
    /// Most connections at once over all workers; `None` is no limit.
    pub max_connections: Option<u32>,
}

impl Backend {
    /// A backend with the contract's defaults.
    pub fn new(address: BackendAddress) -> Self {
        Backend {
            address,
            weight: 1,
            state: AdminState::Active,
            backup: false,
            max_connections: None,
        }
    }
}

/// Active checks of a pool's backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked of a backend.
    pub kind: CheckKind,
    /// Cadence and thresholds.
    pub params: ProbeParams,
    /// The port that is probed; `None` is the backend's own.
    pub port: Option<u16>,
}

impl Default for HealthCheck {
    fn default() -> Self {
        let (interval, timeout) = (Duration::from_secs(2), Duration::from_secs(1));
        HealthCheck {
            kind: CheckKind::Tcp,
            params: ProbeParams {
                interval,
                timeout,
                rise: 2,
                fall: 3,
            },
            port: None,
        }
    }
}

/// What a health check asks of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckKind {
    /// To take a connection.
    Tcp,
    /// To answer an HTTP/1.1 request.
    Http {
        /// What is requested; it starts with `/`.
        path: String,
        /// The Host header; `None` is the address that is connected to.
        host: Option<String>,
        /// The statuses that are a success.
        statuses: Vec<StatusRange>,
    },
    /// To answer some bytes, or to speak first.
    Exchange {
        /// What is sent; empty is nothing.
        send: Vec<u8>,
        /// What the answer begins with; empty is any byte.
        expect: Vec<u8>,
    },
}

/// What happens to established connections of a backend that goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WhenBackendDown {
    /// They go on.
    Keep,
    /// They are closed.
    Close,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Log {
    /// Least severe level that is written.
    pub level: LogLevel,
    /// The form of a line.
    pub format: LogFormat,
    /// One line per connection.
    pub access: AccessLog,
}

/// Severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something is likely to fail.
    Warn,
    /// What an operator wants to know.
    #[default]
    Info,
    /// What explains a decision.
    Debug,
    /// Everything.
    Trace,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum AccessLog {
    /// Nowhere.
    #[default]
    Off,
    /// To standard output.
    Stdout,
    /// To this file.
    File(PathBuf),
}

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shutdown {
    /// Not ready any more, but still accepting.
    pub delay: Duration,
    /// Time for connections to end after that.
    pub drain: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown {
            delay: Duration::ZERO,
            drain: Duration::from_secs(30),
        }
    }
}
