//! Every key of the configuration: its kind, its default and its meaning, once. The reading, the
//! JSON Schema and the defaults come from these lists. Not the rules between keys; those are
//! `lower.rs`. Invariant: a default is what the same key would say if it were written.

use ipnet::IpNet;
use ringway_balance::{Algorithm, WhenAllDown};
use ringway_flow::RelayMode;

use crate::address::{BackendAddress, BindAddress};
use crate::amounts::{Int, Micros, Rate, Seconds, Size, Time};
use crate::check_values::{Bytes, HostHeader, RequestPath};
use crate::compound::{Auto, Client, List, Named, Off, OneOrMany, Or, OrNull, Same, Words};
use crate::grammar::Preset::{Absent, Is, Required};
use crate::grammar::mapping;
use crate::limits::{
    ACCESS_NETWORKS_MAX, BACKENDS_MAX, BACKLOG_MAX, BUSY_POLL_US_MAX, CONNECT_MS_MAX,
    DURATION_MS_MAX, EJECTION_MS_MIN, KEEPALIVE_COUNT_MAX, KEEPALIVE_SECONDS_MAX, LISTENERS_MAX,
    POOLS_MAX, PROBE_INTERVAL_MS_MIN, PROBE_MS_MAX, SOCKET_BUFFER_BYTES_MAX,
    SOCKET_BUFFER_BYTES_MIN, USER_TIMEOUT_MS_MAX, WEIGHT_MAX,
};
use crate::model::{LogFormat, LogLevel, Over, ProxyProtocolMode, WhenBackendDown};
use crate::routes::{NamePattern, Protocol as AppProtocol};
use crate::values::{Anything, FilePath, LocalIp, PoolName, Statuses};
use crate::workers::WorkerChoice;

/// A deadline: a millisecond to a year.
type Deadline = Time<1, DURATION_MS_MAX>;
/// A count of connections.
type Count = Int<1, { u32::MAX }>;
/// A socket buffer.
type Buffer = Size<SOCKET_BUFFER_BYTES_MIN, SOCKET_BUFFER_BYTES_MAX>;
/// Networks of an access list.
type Networks<const MIN: usize> = List<IpNet, MIN, ACCESS_NETWORKS_MAX>;
/// A list that may be empty.
type AnyList<T> = List<T, 0, 1024>;

mapping! {
    /// The file.
    Document {
        "workers" workers: WorkerChoice = Is("auto"),
            "auto: one per CPU this process may use; or a number; or a list of CPUs";
        "busy_poll" busy_poll: Or<Off, Micros<1, BUSY_POLL_US_MAX>> = Is("off"),
            "how long a worker that has run out of work looks for more before it sleeps; costs CPU, saves latency";
        "listeners" listeners: Named<Listener, LISTENERS_MAX> = Required,
            "where connections are accepted, by name";
        "pools" pools: Option<Named<Pool, POOLS_MAX>> = Absent,
            "where connections go, by name";
        "admin" admin: Admin = Is("{}"), "the endpoint for dashboard, metrics and changes";
        "log" log: Log = Is("{}"), "what is logged, and how";
        "shutdown" shutdown: Shutdown = Is("{}"), "how the process ends";
    }
}

mapping! {
    /// One listener.
    Listener {
        "bind" bind: OneOrMany<BindAddress> = Required,
            "IP:PORT, [IPv6]:PORT or unix:/path, or a list of them; port 0 picks a free one";
        "protocol" protocol: Protocol = Is("tcp"), "tcp or udp";
        "pool" pool: Option<PoolName> = Absent,
            "used when no route matches; absent: what matches no route is refused";
        "routes" routes: AnyList<Route> = Is("[]"),
            "routing by TLS ClientHello without termination; an exact name beats the longest wildcard";
        "proxy_protocol" proxy_protocol: ProxyProtocol = Is("{}"),
            "PROXY v1 or v2 from the client; required or off, never guessed";
        "access" access: Access = Is("{}"), "who may connect; the longest prefix wins, on a tie deny";
        "limits" limits: Limits = Is("{}"), "how much is let in";
        "timeouts" timeouts: Timeouts = Is("{}"), "deadlines of its connections";
        "relay" relay: RelayMode = Is("auto"), "how bytes are moved";
        "tcp" tcp: Tcp = Is("{}"), "socket options";
    }
}

mapping! {
    /// One route of a listener.
    Route {
        "sni" sni: List<NamePattern, 1, 1024> = Required, "server names; a leading `*.` is a wildcard";
        "alpn" alpn: AnyList<AppProtocol> = Is("[]"),
            "application protocols, one of which must be offered, too";
        "pool" pool: PoolName = Required, "the pool of what matches";
    }
}

mapping! {
    /// The PROXY protocol of a listener.
    ProxyProtocol {
        "mode" mode: ProxyProtocolMode = Is("off"), "off or required";
        "trusted" trusted: AnyList<IpNet> = Is("[]"),
            "networks whose header is believed; needed when mode is required";
    }
}

mapping! {
    /// Who may connect.
    Access {
        "allow" allow: Networks<1> = Is("[0.0.0.0/0, \"::/0\"]"),
            "networks that may connect; when it is written, all others may not";
        "deny" deny: Networks<0> = Is("[]"), "networks that may not";
    }
}

mapping! {
    /// How much is let in.
    Limits {
        "connections" connections: Or<Off, Count> = Is("off"),
            "connections at once, exact across workers";
        "connections_per_source" connections_per_source: Or<Off, Count> = Is("off"),
            "connections at once of one source (an IPv4 address, or the /64 of an IPv6 address), exact across workers";
        "rate" rate: Or<Off, Rate> = Is("off"),
            "new connections per second, over all workers; a second's worth may come at once";
        "rate_per_source" rate_per_source: Or<Off, Rate> = Is("off"),
            "new connections per second of one source";
        "over" over: Over = Is("reset"), "what a refused connection gets: reset or close";
    }
}

mapping! {
    /// Deadlines of a listener's connections.
    Timeouts {
        "handshake" handshake: Or<Off, Deadline> = Is("5s"),
            "absolute, from accept until PROXY header and ClientHello are complete";
        "first_byte" first_byte: Or<Off, Deadline> = Is("off"),
            "from accept until the client's first payload byte";
        "idle" idle: Or<Off, Deadline> = Is("10m"), "no byte in either direction";
        "half_close" half_close: Or<Off, Deadline> = Is("30s"),
            "one side closed and the other silent";
        "lifetime" lifetime: Or<Off, Deadline> = Is("off"), "from accept, however busy";
    }
}

mapping! {
    /// Socket options of a listener; its connections inherit them.
    Tcp {
        "nodelay" nodelay: bool = Is("true"), "send small segments at once";
        "keepalive" keepalive: Or<Off, Keepalive> = Is("{}"), "off, or when a silent peer is probed";
        "user_timeout" user_timeout: Or<Off, Time<1, USER_TIMEOUT_MS_MAX>> = Is("90s"),
            "how long sent bytes may stay unacknowledged";
        "backlog" backlog: Int<1, BACKLOG_MAX> = Is("4096"),
            "connections waiting to be accepted; the kernel lowers it to net.core.somaxconn";
        "defer_accept" defer_accept: Or<Off, Seconds<1, KEEPALIVE_SECONDS_MAX>> = Is("off"),
            "wait this long for the first byte before accepting";
        "fast_open" fast_open: Or<Off, Int<1, BACKLOG_MAX>> = Is("off"),
            "TCP Fast Open, with this many pending requests";
        "receive_buffer" receive_buffer: Or<Auto, Buffer> = Is("auto"),
            "auto: the kernel tunes it; a size fixes it";
        "send_buffer" send_buffer: Or<Auto, Buffer> = Is("auto"),
            "auto: the kernel tunes it; a size fixes it";
    }
}

mapping! {
    /// When the kernel probes a silent connection.
    Keepalive {
        "idle" idle: Seconds<1, KEEPALIVE_SECONDS_MAX> = Is("60s"), "silence before the first probe";
        "interval" interval: Seconds<1, KEEPALIVE_SECONDS_MAX> = Is("10s"), "between two probes";
        "count" count: Int<1, KEEPALIVE_COUNT_MAX> = Is("6"),
            "unanswered probes that end the connection";
    }
}

mapping! {
    /// One pool.
    Pool {
        "balance" balance: Algorithm = Is("least_connections"), "how connections are spread";
        "backends" backends: Option<List<Backend, 1, BACKENDS_MAX>> = Absent, "where to connect to";
        "discover" discover: Option<Anything> = Absent, "where backends are found";
        "health_check" health_check: Or<Off, HealthCheck> = Is("{}"), "off, or active checks";
        "outlier" outlier: Or<Off, Outlier> = Is("{}"), "off, or ejection by failed connects";
        "connect" connect: Connect = Is("{}"), "how a backend is connected to";
        "send_proxy_protocol" send_proxy_protocol: ProxyProtocolVersion = Is("off"),
            "the PROXY header sent to backends: off, v1 or v2";
        "slow_start" slow_start: Or<Off, Deadline> = Is("off"),
            "how long a backend that is back grows to its share; not with a hashing balance";
        "when_backend_down" when_backend_down: WhenBackendDown = Is("keep"),
            "what its established connections do: keep or close";
        "when_all_down" when_all_down: WhenAllDown = Is("try"),
            "try (fail open) or refuse new connections";
    }
}

mapping! {
    /// One backend.
    Backend ("a mapping such as `{address: \"10.0.0.1:8080\"}`") {
        "address" address: BackendAddress = Required, "IP:PORT, [IPv6]:PORT or unix:/path";
        "weight" weight: Int<0, WEIGHT_MAX> = Is("1"), "its share of new connections; 0 gets none";
        "backup" backup: bool = Is("false"), "used only while no other backend is up";
        "max_connections" max_connections: Or<Off, Count> = Is("off"),
            "connections at once, exact across workers";
    }
}

mapping! {
    /// Active checks of a pool.
    HealthCheck ("a mapping such as `{type: tcp, interval: 2s}`") {
        "type" kind: CheckType = Is("tcp"), "tcp, http or exchange";
        "interval" interval: Time<PROBE_INTERVAL_MS_MIN, PROBE_MS_MAX> = Is("2s"),
            "from one check of a backend to its next";
        "timeout" timeout: Time<1, PROBE_MS_MAX> = Is("1s"), "no answer by then is a failure";
        "rise" rise: Int<1, 1000> = Is("2"), "successes in a row that turn a backend up";
        "fall" fall: Int<1, 1000> = Is("3"), "failures in a row that turn a backend down";
        "port" port: Or<Same, Int<1, 65_535>> = Is("same"), "same: the backend's own port";
        "path" path: RequestPath = Is("/"), "http: what is requested";
        "host" host: Option<HostHeader> = Absent,
            "http: the Host header; absent: the address that is connected to";
        "status" status: List<Statuses, 1, 64> = Is("[200-399]"), "http: statuses that are a success";
        "send" send: Bytes = Is("''"),
            "exchange: bytes to send, with escapes such as \\xff; empty: the backend speaks first";
        "expect" expect: Bytes = Is("''"),
            "exchange: bytes the answer begins with, with escapes such as \\xff; empty: any byte";
    }
}

mapping! {
    /// Ejection of backends that fail.
    Outlier {
        "consecutive_failures" consecutive_failures: Int<1, 1000> = Is("5"), "failed connects";
        "ejection" ejection: Time<EJECTION_MS_MIN, DURATION_MS_MAX> = Is("10s"),
            "doubles each time up to max_ejection, with jitter; half-open before it ends";
        "max_ejection" max_ejection: Time<EJECTION_MS_MIN, DURATION_MS_MAX> = Is("5m"), "longest ejection";
        "max_ejected_percent" max_ejected_percent: Int<0, 100> = Is("50"),
            "share of the backends that may be ejected at once";
    }
}

mapping! {
    /// How a backend is connected to.
    Connect {
        "timeout" timeout: Time<1, CONNECT_MS_MAX> = Is("3s"), "of one attempt";
        "attempts" attempts: Int<1, 16> = Is("3"), "each on another backend";
        "source" source: Or<Client, AnyList<LocalIp>> = Is("[]"),
            "local addresses to connect from, in turn; client: the client's own (IP_TRANSPARENT)";
    }
}

mapping! {
    /// The admin endpoint.
    Admin {
        "bind" bind: Or<Off, BindAddress> = Is("127.0.0.1:9901"),
            "off, IP:PORT (of loopback, or with a token_file), or unix:/path (mode 0600)";
        "token_file" token_file: OrNull<FilePath> = Is("null"),
            "file with the bearer token that changes then need; required when bind is not loopback or unix";
    }
}

mapping! {
    /// What is logged.
    Log {
        "level" level: LogLevel = Is("info"), "error, warn, info, debug or trace";
        "format" format: LogFormat = Is("text"), "text or json";
        "access" access: Or<Off, Or<Stdout, FilePath>> = Is("off"),
            "off, stdout or a path; one JSON line per connection, refused ones included";
    }
}

mapping! {
    /// How the process ends.
    Shutdown {
        "delay" delay: Time<0, DURATION_MS_MAX> = Is("0s"), "not ready, but still accepting";
        "drain" drain: Time<0, DURATION_MS_MAX> = Is("30s"), "time for connections to end";
    }
}

/// `stdout`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stdout;

impl crate::compound::Keyword for Stdout {
    const WORD: &'static str = "stdout";
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

impl Words for Protocol {
    const WORDS: &'static [(&'static str, Self)] = &[("tcp", Self::Tcp), ("udp", Self::Udp)];
}

impl Words for ProxyProtocolMode {
    const WORDS: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("required", Self::Required)];
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ProxyProtocolVersion {
    Off,
    V1,
    V2,
}

impl Words for ProxyProtocolVersion {
    const WORDS: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("v1", Self::V1), ("v2", Self::V2)];
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum CheckType {
    Tcp,
    Http,
    Exchange,
}

impl Words for CheckType {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("tcp", Self::Tcp),
        ("http", Self::Http),
        ("exchange", Self::Exchange),
    ];
}

impl Words for Over {
    const WORDS: &'static [(&'static str, Self)] =
        &[("reset", Self::Reset), ("close", Self::Close)];
}

impl Words for RelayMode {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("copy", Self::Copy),
        ("splice", Self::Splice),
        ("uring_splice", Self::UringSplice),
    ];
}

impl Words for Algorithm {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("round_robin", Self::RoundRobin),
        ("least_connections", Self::LeastConnections),
        ("random", Self::Random),
        ("source_hash", Self::SourceHash),
        ("maglev", Self::Maglev),
    ];
}

impl Words for WhenBackendDown {
    const WORDS: &'static [(&'static str, Self)] = &[("keep", Self::Keep), ("close", Self::Close)];
}

impl Words for WhenAllDown {
    const WORDS: &'static [(&'static str, Self)] = &[("try", Self::Try), ("refuse", Self::Refuse)];
}

impl Words for LogLevel {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

impl Words for LogFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}
