//! Every family of metrics, once: name, kind, unit, labels and help.
//!
//! Names, kinds and labels are promises to whoever queries them: they are added to, not changed. A
//! family stands here only when something counts it. Values live in [`crate::block`] and
//! [`crate::histogram`]; how a family is written is [`crate::text`]'s business.
//!
//! **Invariant:** a counter's name, and no other's, ends in `_total`; a unit stands at the end of
//! the name (before `_total`); labels come from closed sets or from the configuration, never from a
//! client.

use crate::histogram::Ladder;

/// One family of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// The name users query by.
    pub name: &'static str,
    /// How its values behave.
    pub kind: Kind,
    /// What its values are measured in.
    pub unit: Unit,
    /// Whether the label `worker` follows those of `labels`.
    pub worker: WorkerLabel,
    /// The names of its labels, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// One line that says what is counted; no quotes, backslashes or line ends.
    pub help: &'static str,
}

/// How the values of a family behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; starts at zero with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Always 1: the labels are the information.
    Info,
    /// A distribution, exposed on these bounds.
    Histogram(Ladder),
}

/// What values are measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    One,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// The unit as it stands in names; `None` for numbers of things.
    pub const fn as_suffix(self) -> Option<&'static str> {
        match self {
            Self::One => None,
            Self::Seconds => Some("seconds"),
            Self::Bytes => Some("bytes"),
        }
    }
}

/// Whether a family has the label `worker`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerLabel {
    /// Every series has it: the family is about workers.
    Always,
    /// Series are sums over the workers, unless each worker's own are asked for.
    OnRequest,
    /// It is counted once per process.
    Never,
}

macro_rules! families {
    ($(
        $ident:ident: $name:literal, $kind:expr, $unit:ident, $worker:ident,
        [$($label:literal),*], $help:literal;
    )+) => {
        $(
            #[doc = concat!("`", $name, "`: ", $help)]
            pub static $ident: Family = Family {
                name: $name,
                kind: $kind,
                unit: Unit::$unit,
                worker: WorkerLabel::$worker,
                labels: &[$($label),*],
                help: $help,
            };
        )+

        /// Every family, in the order of exposition.
        pub static FAMILIES: &[&Family] = &[$(&$ident),+];
    };
}

families! {
    BUILD_INFO: "ringway_build_info", Kind::Info, One, Never, ["version", "commit"],
        "The build that is running.";
    WORKERS: "ringway_workers", Kind::Gauge, One, Never, [],
        "Workers that serve, one per CPU in use; one that leaves with its last connection is none.";

    WORKER_BUSY: "ringway_worker_busy_seconds_total", Kind::Counter, Seconds, Always, [],
        "Time spent in turns of the loop, waiting not included.";
    WORKER_BUSY_POLL: "ringway_worker_busy_poll_seconds_total", Kind::Counter, Seconds, Always, [],
        "Time spent looking for completions instead of sleeping (busy_poll), no part of the time in turns.";
    WORKER_CONNECTIONS: "ringway_worker_connections", Kind::Gauge, One, Always, [],
        "Connections the worker holds now.";
    WORKER_LOOP: "ringway_worker_loop_seconds", Kind::Histogram(Ladder::LOOP), Seconds, Always, [],
        "Time from the end of a wait until everything it brought is handled; one turn in 16 is timed.";
    WORKER_STALE: "ringway_worker_stale_completions_total", Kind::Counter, One, Always, [],
        "Completions that belonged to an earlier use of their slot and were dropped.";
    WORKER_PIPES: "ringway_worker_pipes", Kind::Gauge, One, Always, ["state"],
        "Pipes for splicing, in use by a direction of a connection or idle.";
    WORKER_PIPES_EXHAUSTED: "ringway_worker_pipes_exhausted_total", Kind::Counter, One, Always, [],
        "Times a direction was copied on because no pipe was to be had.";

    URING_ENTERS: "ringway_uring_enters_total", Kind::Counter, One, Always, [],
        "Calls of io_uring_enter.";
    URING_SUBMISSIONS: "ringway_uring_submissions_total", Kind::Counter, One, Always, [],
        "Operations given to the ring.";
    URING_COMPLETIONS: "ringway_uring_completions_total", Kind::Counter, One, Always, [],
        "Completions taken from the ring.";
    URING_CQ_OVERFLOW: "ringway_uring_cq_overflow_total", Kind::Counter, One, Always, [],
        "Completions that did not fit the completion queue when they came.";
    URING_IOWQ_WORKERS: "ringway_uring_iowq_workers", Kind::Gauge, One, Always, [],
        "Kernel threads working for the ring; more than none means operations left the fast path.";
    URING_BUFFERS_EXHAUSTED:
        "ringway_uring_buffers_exhausted_total", Kind::Counter, One, Always, [],
        "Receives that found no provided buffer free.";

    LISTENER_CONNECTIONS_TOTAL:
        "ringway_listener_connections_total", Kind::Counter, One, OnRequest, ["listener"],
        "Connections taken from the listening socket, those refused afterwards included.";
    LISTENER_CONNECTIONS:
        "ringway_listener_connections", Kind::Gauge, One, OnRequest, ["listener"],
        "Connections open now.";
    LISTENER_ACCEPT_ERRORS:
        "ringway_listener_accept_errors_total", Kind::Counter, One, OnRequest,
        ["listener", "errno"],
        "Failed accepts, by errno.";
    LISTENER_REFUSED:
        "ringway_listener_refused_total", Kind::Counter, One, OnRequest, ["listener", "reason"],
        "Connections turned away before they were given to a backend, by why.";

    CONNECTION_STAGE:
        "ringway_connection_stage_seconds", Kind::Histogram(Ladder::STAGE), Seconds, OnRequest,
        ["listener", "pool", "stage"],
        "Duration of the stages of a connection, and of all of it.";
    CONNECTIONS_CLOSED:
        "ringway_connections_closed_total", Kind::Counter, One, OnRequest,
        ["listener", "pool", "side", "reason"],
        "Ended connections, by who ended them and how.";
    RECEIVED_BYTES:
        "ringway_received_bytes_total", Kind::Counter, Bytes, OnRequest,
        ["listener", "pool", "side"],
        "Bytes received from clients and from backends.";
    SENT_BYTES:
        "ringway_sent_bytes_total", Kind::Counter, Bytes, OnRequest, ["listener", "pool", "side"],
        "Bytes sent to clients and to backends.";
    RELAYED_BYTES:
        "ringway_relayed_bytes_total", Kind::Counter, Bytes, OnRequest, ["engine"],
        "Bytes moved between two sockets, by what moved them.";

    BACKEND_UP: "ringway_backend_up", Kind::Gauge, One, Never, ["pool", "backend"],
        "1 while the backend is held to be healthy, else 0.";
    BACKEND_STATE:
        "ringway_backend_state", Kind::Gauge, One, Never, ["pool", "backend", "state"],
        "1 for the state the operator wants the backend in; ejected, half_open: workers that hold it so.";
    BACKEND_CONNECTIONS:
        "ringway_backend_connections", Kind::Gauge, One, OnRequest, ["pool", "backend"],
        "Connections to the backend that are open or being opened.";
    BACKEND_CONNECTIONS_TOTAL:
        "ringway_backend_connections_total", Kind::Counter, One, OnRequest, ["pool", "backend"],
        "Connections to the backend that were established.";
    BACKEND_CONNECT_FAILURES:
        "ringway_backend_connect_failures_total", Kind::Counter, One, OnRequest,
        ["pool", "backend", "error"],
        "Attempts to connect to the backend that failed, by how.";
    BACKEND_EJECTIONS:
        "ringway_backend_ejections_total", Kind::Counter, One, OnRequest, ["pool", "backend"],
        "Times a worker left the backend out because connects to it had failed.";
    BACKEND_RETRIES:
        "ringway_backend_retries_total", Kind::Counter, One, OnRequest, ["pool"],
        "Attempts to connect after the first of a connection.";
    POOL_FAIL_OPEN:
        "ringway_pool_fail_open_total", Kind::Counter, One, OnRequest, ["pool"],
        "Times a backend was chosen although all that were left were down or ejected.";

    HEALTH_CHECKS:
        "ringway_health_checks_total", Kind::Counter, One, Never, ["pool", "backend", "result"],
        "Finished health checks, by how they ended.";
    HEALTH_LAST_CHECK:
        "ringway_health_last_check_timestamp_seconds", Kind::Gauge, Seconds, Never,
        ["pool", "backend"],
        "When the last health check ended, in seconds since 1970.";
    HEALTH_CHECK_TIME:
        "ringway_health_check_seconds", Kind::Histogram(Ladder::HEALTH_CHECK), Seconds, Never,
        ["pool"],
        "Duration of health checks.";

    TCP_RTT:
        "ringway_tcp_rtt_seconds", Kind::Histogram(Ladder::ROUND_TRIP), Seconds, OnRequest,
        ["side", "pool"],
        "Smoothed TCP round-trip time when a connection closed; one in 16, or all with an access log.";
    TCP_RETRANSMITTED:
        "ringway_tcp_retransmitted_segments_total", Kind::Counter, One, OnRequest,
        ["side", "pool"],
        "TCP segments sent again, by one closed connection in 16, or all with an access log.";

    CONFIG_RELOADS: "ringway_config_reloads_total", Kind::Counter, One, Never, ["result"],
        "Reloads of the configuration.";
    CONFIG_LAST_RELOAD:
        "ringway_config_last_reload_success_timestamp_seconds", Kind::Gauge, Seconds, Never, [],
        "When the running configuration was applied, in seconds since 1970.";
    DRAINING_CONNECTIONS: "ringway_draining_connections", Kind::Gauge, One, Never, [],
        "Connections that a drain waits for.";
    ACCESS_LOG_DROPPED:
        "ringway_access_log_dropped_total", Kind::Counter, One, OnRequest, [],
        "Access log lines dropped because the log did not keep up.";

    PROCESS_CPU: "process_cpu_seconds_total", Kind::Counter, Seconds, Never, [],
        "CPU time of the process, user and system.";
    PROCESS_OPEN_FDS: "process_open_fds", Kind::Gauge, One, Never, [],
        "Open file descriptors.";
    PROCESS_MAX_FDS: "process_max_fds", Kind::Gauge, One, Never, [],
        "Most file descriptors the process may open.";
    PROCESS_RESIDENT: "process_resident_memory_bytes", Kind::Gauge, Bytes, Never, [],
        "Memory of the process that is in RAM.";
    PROCESS_VIRTUAL: "process_virtual_memory_bytes", Kind::Gauge, Bytes, Never, [],
        "Address space of the process.";
    PROCESS_THREADS: "process_threads", Kind::Gauge, One, Never, [],
        "Threads of the process.";
    PROCESS_START: "process_start_time_seconds", Kind::Gauge, Seconds, Never, [],
        "When the process started, in seconds since 1970.";
}

#[cfg(test)]
mod tests;
