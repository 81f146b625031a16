//! Every bound this crate enforces, in one place. Not what a value means: the tables in `keys.rs`
//! say which bound belongs to which key. The const assertions at the end keep the bounds
//! consistent with each other, so that no legal file runs into a budget meant for hostile ones.

/// Largest configuration file, in bytes: two full access lists with room for comments.
pub const FILE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Deepest nesting of lists and mappings. The schema itself needs eight.
pub const DEPTH_MAX: usize = 32;
/// Most nodes (keys, values, lists and mappings) of one file.
pub const NODES_MAX: usize = 400_000;
/// Most errors kept for one file; the rest are counted.
pub const ERRORS_MAX: usize = 1000;
/// Most errors for which a near word is looked up, which costs more than all the rest.
pub(crate) const SUGGESTIONS_MAX: usize = 100;
/// Widest part of a line shown under an error, in characters.
pub(crate) const EXCERPT_CHARS_MAX: usize = 160;
/// Longest value repeated inside a message, in characters.
pub(crate) const QUOTE_CHARS_MAX: usize = 60;
/// Longest misspelt word for which a near one is looked up, in characters.
pub(crate) const SUGGEST_CHARS_MAX: usize = 64;

/// Most listeners of one file.
pub const LISTENERS_MAX: usize = 1024;
/// Most pools of one file.
pub const POOLS_MAX: usize = 1024;
/// Most backends of one pool.
pub const BACKENDS_MAX: usize = 4096;
/// Most networks of one access list.
pub const ACCESS_NETWORKS_MAX: usize = 128 * 1024;
/// Longest name of a listener or a pool: it becomes a metric label and a part of a URL.
pub const NAME_CHARS_MAX: usize = 64;
/// Most workers.
pub const WORKERS_MAX: u32 = 1024;
/// Heaviest backend.
pub const WEIGHT_MAX: u32 = 256;
/// Longest path of a unix socket in bytes: `sun_path` of unix(7) without its final NUL.
pub const UNIX_PATH_BYTES_MAX: usize = 107;

const SECOND_MS: u64 = 1000;
const HOUR_MS: u64 = 3600 * SECOND_MS;
/// Longest duration of any key: one year, in milliseconds.
pub(crate) const DURATION_MS_MAX: u64 = 8760 * HOUR_MS;
/// Longest interval or timeout of a health check, in milliseconds.
pub(crate) const PROBE_MS_MAX: u64 = 24 * HOUR_MS;
/// Shortest interval of a health check, in milliseconds.
pub(crate) const PROBE_INTERVAL_MS_MIN: u64 = 10;
/// Shortest ejection, in milliseconds: it bounds how often a backend that stays dead is tried and told of.
pub(crate) const EJECTION_MS_MIN: u64 = 100;
/// Longest that a worker looks for work before it sleeps, in microseconds: beyond that sleeping costs nothing by
/// comparison.
pub(crate) const BUSY_POLL_US_MAX: u64 = 1000;
/// Longest path or host of an HTTP check.
pub(crate) const CHECK_TEXT_CHARS_MAX: usize = 1024;
/// Most bytes a check sends or expects: they fit the kernel's buffers at once.
pub(crate) const CHECK_BYTES_MAX: usize = 4096;
/// Longest attempt to connect, in milliseconds: the kernel's own retries end after about that.
pub(crate) const CONNECT_MS_MAX: u64 = 600 * SECOND_MS;
/// Largest `TCP_KEEPIDLE` and `TCP_KEEPINTVL` of tcp(7), in seconds (`MAX_TCP_KEEPIDLE`).
pub(crate) const KEEPALIVE_SECONDS_MAX: u64 = 32_767;
/// Largest `TCP_KEEPCNT` (`MAX_TCP_KEEPCNT` of the kernel).
pub(crate) const KEEPALIVE_COUNT_MAX: u32 = 127;
/// Largest `TCP_USER_TIMEOUT` the kernel takes, in milliseconds: a positive `int`.
pub(crate) const USER_TIMEOUT_MS_MAX: u64 = i32::MAX as u64;
/// Largest queue of listen(2) and of `TCP_FASTOPEN`.
pub(crate) const BACKLOG_MAX: u32 = 65_535;
/// Smallest socket buffer, in bytes.
pub(crate) const SOCKET_BUFFER_BYTES_MIN: u32 = 4 * 1024;
/// Largest socket buffer, in bytes: the kernel doubles it inside a positive `int`.
pub(crate) const SOCKET_BUFFER_BYTES_MAX: u32 = 512 * 1024 * 1024;

/// The longest legal list of backends, each a mapping of four keys in a list item.
const BACKEND_NODES: usize = 1 + 4 * 2;
const _: () = assert!(BACKENDS_MAX * BACKEND_NODES * 4 < NODES_MAX);
const _: () = assert!(LISTENERS_MAX * 64 < NODES_MAX && POOLS_MAX * 64 < NODES_MAX);
// Both lists of a listener at their longest, each network with its quotes, comma and line.
const _: () = assert!(2 * ACCESS_NETWORKS_MAX < NODES_MAX);
const _: () =
    assert!(ACCESS_NETWORKS_MAX * "- \"0000:0000:0000:0000::/64\"\n".len() * 2 < FILE_BYTES_MAX);
// Even the densest file cannot hold many more nodes than bytes.
const _: () = assert!(NODES_MAX < FILE_BYTES_MAX);
const _: () = assert!(DEPTH_MAX >= 16 && SUGGESTIONS_MAX < ERRORS_MAX);
const _: () = assert!(QUOTE_CHARS_MAX < EXCERPT_CHARS_MAX);
const _: () = assert!(NAME_CHARS_MAX <= SUGGEST_CHARS_MAX);
const _: () = assert!(PROBE_INTERVAL_MS_MIN < PROBE_MS_MAX && PROBE_MS_MAX < DURATION_MS_MAX);
const _: () = assert!(CONNECT_MS_MAX < DURATION_MS_MAX && EJECTION_MS_MIN < DURATION_MS_MAX);
const _: () = assert!(KEEPALIVE_SECONDS_MAX * SECOND_MS < DURATION_MS_MAX);
const _: () = assert!(WORKERS_MAX <= u16::MAX as u32 && BACKLOG_MAX <= i32::MAX as u32);
const _: () = assert!(SOCKET_BUFFER_BYTES_MIN < SOCKET_BUFFER_BYTES_MAX);
const _: () = assert!(SOCKET_BUFFER_BYTES_MAX <= i32::MAX as u32 / 2);
