//! From the memory of this process's control group to what may be held in it: buffers, pipes, connections.
//!
//! Without a bound there is nothing to divide. With one, all parts together stay below it, so that who comes
//! when they are used up is refused, and the kernel never has to end the process. Bytes that wait in sockets have a part,
//! too, which nothing but the peers keeps to: what is done when they do not is next door, in `pressure.rs`. [`divide`]
//! is the arithmetic.

use std::fs;
use std::path::Path;

use ringway_worker::BUFFERS_MAX;

use crate::cgroups::{Group, groups};

/// The program, its heap and its logs.
const BASE_BYTES: u64 = 12 << 20;
/// Ring, stack, tables and histograms, and those of the keeper.
const WORKER_BYTES: u64 = 4 << 20;
/// What the kernel and a worker keep for a connection that is silent, and a reserve: 6 KiB were measured.
const CONNECTION_BYTES: u64 = 8 << 10;
/// Buffers for a connection: with so many, a worker has some left when each of its connections has a
/// receiver that does not read.
const BUFFERS_PER_CONNECTION: u64 = 2;
/// A worker with fewer buffers could not keep the kernel supplied.
const BUFFERS_LEAST: u64 = 256;

/// What a bound of memory leaves to each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    pub(crate) buffers_per_worker: u16,
    /// Of all workers together.
    pub(crate) pipe_bytes: u64,
    pub(crate) connections: u64,
    /// What the kernel may hold in the sockets of a worker.
    pub(crate) socket_bytes_per_worker: Option<u64>,
    /// What it may hold of all that: sockets, pipes and connections.
    pub(crate) kernel_bytes: Option<u64>,
}

/// Half for connections and their buffers, a quarter for what waits in sockets, an eighth for pipes, and one to spare.
pub(crate) fn divide(bound_bytes: Option<u64>, workers: u64) -> Shares {
    let Some(bound_bytes) = bound_bytes else {
        return Shares {
            buffers_per_worker: BUFFERS_MAX,
            pipe_bytes: u64::MAX,
            connections: u64::MAX,
            socket_bytes_per_worker: None,
            kernel_bytes: None,
        };
    };
    let rest = bound_bytes.saturating_sub(BASE_BYTES + WORKER_BYTES * workers);
    let buffer_bytes = u64::from(ringway_worker::buffer_size());
    let connections = rest / 2 / (CONNECTION_BYTES + BUFFERS_PER_CONNECTION * buffer_bytes);
    let buffers = connections * BUFFERS_PER_CONNECTION / workers;
    let (sockets, pipes) = (rest / 4, rest / 8);
    Shares {
        buffers_per_worker: buffers.clamp(BUFFERS_LEAST, BUFFERS_MAX.into()) as u16,
        pipe_bytes: pipes,
        // Some, even where there is less than all this takes.
        connections: connections.max(64),
        socket_bytes_per_worker: Some(sockets / workers),
        kernel_bytes: Some(sockets + pipes + connections * CONNECTION_BYTES),
    }
}

/// The least that this process's group and those above it may have.
pub(crate) fn bound() -> Option<u64> {
    bounded().into_iter().map(|(_, bytes)| bytes).min()
}

/// The groups, its own and those above it, that bound the memory of this process, each with its bound.
pub(crate) fn bounded() -> Vec<(Group, u64)> {
    let groups = groups("memory", &["memory"]).into_iter();
    let bounded = groups.filter_map(|group| {
        let bytes = match &group {
            Group::V1(path) => read(path, "memory.limit_in_bytes"),
            Group::V2(path) => least(read(path, "memory.max"), read(path, "memory.high")),
        };
        let bytes = bytes.filter(|bytes| *bytes < UNBOUNDED)?;
        Some((group, bytes))
    });
    bounded.collect()
}

/// What `open` makes of this process's own group, or of the next above it of which it makes something.
pub(crate) fn innermost<T>(open: impl Fn(&Group) -> Option<T>) -> Option<T> {
    groups("memory", &["memory"]).iter().find_map(open)
}

/// cgroup v1 writes its largest number, less a part of a page, where there is no bound.
const UNBOUNDED: u64 = 1 << 62;

fn least(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    [a, b].into_iter().flatten().min()
}

/// A bound of `max` is none.
fn read(group: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(group.join(name)).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn without_a_bound_nothing_is_less() {
        let shares = divide(None, 4);
        assert_eq!(shares.buffers_per_worker, 32_768);
        assert_eq!(
            (shares.pipe_bytes, shares.connections),
            (u64::MAX, u64::MAX)
        );
    }

    #[test]
    fn a_small_container_has_a_small_share_of_all() {
        let Shares {
            buffers_per_worker,
            pipe_bytes,
            connections,
            socket_bytes_per_worker,
            kernel_bytes,
        } = divide(Some(128 << 20), 2);
        let mebibytes = |bytes: Option<u64>| bytes.unwrap() >> 20;
        assert_eq!(mebibytes(socket_bytes_per_worker), 13);
        assert_eq!(mebibytes(kernel_bytes), 51);
        assert_eq!(
            (buffers_per_worker, pipe_bytes >> 20, connections),
            (1382, 13, 1382)
        );
    }

    proptest! {
        #[test]
        fn the_shares_fit(bound in 64u64 << 20..1 << 40, workers in 1u64..8) {
            let shares = divide(Some(bound), workers);
            let buffers = u64::from(shares.buffers_per_worker) * workers * 16_384;
            let connections = shares.connections * CONNECTION_BYTES;
            let sockets = shares.socket_bytes_per_worker.unwrap() * workers;
            let kernel = connections + sockets + shares.pipe_bytes;
            let all = BASE_BYTES + WORKER_BYTES * workers + buffers + kernel;
            prop_assert!(all <= bound);
            // But for the remainders of divisions.
            prop_assert!(shares.kernel_bytes.unwrap().abs_diff(kernel) <= workers + 64 * CONNECTION_BYTES);
        }
    }
}
