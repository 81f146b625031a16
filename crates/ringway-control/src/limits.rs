//! From the descriptors and the memory of the process to the connections, pipes and buffers it can promise.
//!
//! A connection takes two descriptors, a pipe takes two, and a part is set aside for everything
//! else, so that accept never meets EMFILE for want of arithmetic. [`derive`] is that arithmetic;
//! the rest reads what it starts from.

use std::fs;

use ringway_keeper::DESCRIPTORS_PER_PROBE;
use ringway_worker::Share;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::StartError;
use crate::memory;

/// Bytes of a pipe, to start with. Four times the default: a bulk copy then moves 256 KiB per pair
/// of system calls, and twice as much gained nothing measurable.
const PIPE_SIZE: usize = 256 * 1024;
/// The default size of a pipe: smaller ones cost a system call per 64 KiB and save nothing.
const PIPE_SIZE_MIN: usize = 64 * 1024;
/// Pipes a worker holds at most: what streams at the same time on one CPU.
const PIPES_MAX: u64 = 256;
/// Below so many pipes per worker, more and smaller ones are better than few large ones.
const PIPES_WANTED: u64 = 32;
const PAGE_SIZE: u64 = 4096;
/// stdio, logs, the control thread's poller, and reading /proc.
const RESERVED_FOR_CONTROL: u64 = 64;
/// Ring, eventfd, the keeper's ring and its eventfds, sockets of connections that are closing.
const RESERVED_PER_WORKER: u64 = 24;
/// What a process without a limit is taken to have; the kernel's own bound, fs.nr_open, is that.
const NOFILE_UNLIMITED: u64 = 1024 * 1024;

/// What is asked of the process besides connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) workers: u64,
    /// Addresses of all listeners.
    pub(crate) binds: u64,
    /// Backends with health checks.
    pub(crate) probes: u64,
}

/// What the system allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// The soft limit of descriptors.
    pub(crate) nofile: u64,
    /// Pages all pipes together may have; `None` is no bound.
    pub(crate) pipe_pages: Option<u64>,
    /// Bytes of memory; `None` is no bound.
    pub(crate) memory: Option<u64>,
}

/// What descriptors, pipes and memory allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The soft limit of descriptors, after it was raised.
    pub nofile_soft: u64,
    /// The hard limit of descriptors.
    pub nofile_hard: u64,
    /// Descriptors set aside for everything but connections and pipes.
    pub reserved: u64,
    /// Connections for which there are descriptors; 0 if they do not even suffice to begin.
    pub connections_by_nofile: u64,
    /// Connections the whole process may hold: fewer where it has little memory.
    pub connections_max: u64,
    /// Bytes that the control group of the process may have, if they are bounded.
    pub memory: Option<u64>,
    /// Workers among which that is divided.
    pub workers: u64,
    /// Buffers each worker may hold.
    pub buffers_per_worker: u16,
    /// Bytes that the kernel may hold in the sockets of each worker, if memory is bounded.
    pub socket_bytes_per_worker: Option<u64>,
    /// Pipes each worker may hold.
    pub pipes_per_worker: usize,
    /// Bytes of each of them.
    pub pipe_size: usize,
}

/// Raises the soft limit of descriptors to the hard one and tells what that allows a balancer with
/// one worker per CPU and one listener: what `ringway doctor` shows.
pub fn limits() -> Limits {
    let workers = crate::cpus::allowed().map_or(1, |cpus| cpus.len() as u64);
    let demand = Demand {
        workers,
        binds: 1,
        probes: 16,
    };
    of_process(demand)
}

/// The workers that `workers: auto` means here, and how many of them find locked memory.
pub fn locked_memory() -> (usize, usize) {
    let workers = crate::cpus::allowed().map_or(1, |cpus| cpus.len());
    (workers, ringway_worker::workers_that_fit(workers))
}

/// The same for a known demand.
pub(crate) fn of_process(demand: Demand) -> Limits {
    let (nofile, nofile_hard) = raise_nofile();
    let allowance = Allowance {
        nofile,
        pipe_pages: pipe_pages(),
        memory: memory::bound(),
    };
    Limits {
        nofile_hard,
        ..derive(demand, allowance)
    }
}

/// The arithmetic.
pub(crate) fn derive(demand: Demand, allowance: Allowance) -> Limits {
    let nofile = allowance.nofile;
    let workers = demand.workers.max(1);
    // All probes may wait at once, but take never more than an eighth.
    let reserved = RESERVED_FOR_CONTROL
        + crate::admin::CONNECTIONS_MAX as u64
        // Twice: an upgrade copies the listening sockets.
        + workers * (RESERVED_PER_WORKER + 2 * demand.binds)
        + (demand.probes * DESCRIPTORS_PER_PROBE).min(nofile / 8);
    let available = nofile.saturating_sub(reserved);
    let shares = memory::divide(allowance.memory, workers);
    let pages = allowance.pipe_pages.unwrap_or(u64::MAX);
    let pages = pages.min(shares.pipe_bytes / PAGE_SIZE);
    let (by_pages, pipe_size) = pipes_by_pages(workers, pages);
    // Pipes may take a quarter of what is left.
    let by_descriptors = available / 4 / 2 / workers;
    let pipes = PIPES_MAX.min(by_descriptors).min(by_pages);
    let connections_by_nofile = (available - pipes * workers * 2) / 2;
    Limits {
        nofile_soft: nofile,
        nofile_hard: nofile,
        reserved,
        connections_by_nofile,
        connections_max: connections_by_nofile.min(shares.connections),
        memory: allowance.memory,
        workers,
        buffers_per_worker: shares.buffers_per_worker,
        socket_bytes_per_worker: shares.socket_bytes_per_worker,
        pipes_per_worker: pipes as usize,
        pipe_size,
    }
}

/// Pipes per worker within a number of pages, and their size.
fn pipes_by_pages(workers: u64, pages: u64) -> (u64, usize) {
    let mut size = PIPE_SIZE;
    loop {
        let pipes = pages / (size as u64 / PAGE_SIZE) / workers;
        if pipes >= PIPES_WANTED || size == PIPE_SIZE_MIN {
            return (pipes, size);
        }
        size /= 2;
    }
}

/// Soft and hard limit, after the soft one was raised to the hard one as far as the kernel lets us.
fn raise_nofile() -> (u64, u64) {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    let after = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised,
        // Nothing is lost: what follows is derived from the limit that is.
        Err(_) => before,
    };
    let number = |limit: Option<u64>| limit.unwrap_or(NOFILE_UNLIMITED);
    (number(after.current), number(after.maximum))
}

/// The pages of pipes one user may have (pipe(7)); a privileged process may have any number.
fn pipe_pages() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if is_exempt(&status) {
        return None;
    }
    let pages = fs::read_to_string("/proc/sys/fs/pipe-user-pages-soft").ok()?;
    // 0 switches the bound off.
    pages.trim().parse().ok().filter(|pages| *pages > 0)
}

/// Whether the effective capabilities hold CAP_SYS_RESOURCE or CAP_SYS_ADMIN.
fn is_exempt(status: &str) -> bool {
    const SYS_ADMIN: u32 = 21;
    const SYS_RESOURCE: u32 = 24;
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = set.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    set.is_some_and(|set| set & (1 << SYS_ADMIN | 1 << SYS_RESOURCE) != 0)
}

impl Limits {
    /// What of it is each worker's.
    pub(crate) fn share(&self) -> Share {
        Share {
            pipes_max: self.pipes_per_worker,
            pipe_size: self.pipe_size,
            buffers_max: self.buffers_per_worker,
            socket_bytes: self.socket_bytes_per_worker,
        }
    }

    /// Refuses what this process could not keep.
    pub(crate) fn check(&self, config: &ringway_config::Config) -> Result<(), StartError> {
        if self.connections_by_nofile == 0 {
            return Err(StartError::TooFewDescriptors {
                nofile: self.nofile_soft,
                reserved: self.reserved,
            });
        }
        for listener in &config.listeners {
            let what = || format!("listener `{}`: limits.connections", listener.name);
            self.check_one(listener.limits.connections.map(u32::from), what)?;
        }
        for pool in &config.pools {
            for backend in &pool.backends {
                let name = &pool.name;
                let what = || {
                    format!(
                        "pool `{name}`, backend {}: max_connections",
                        backend.address
                    )
                };
                self.check_one(backend.max_connections, what)?;
            }
        }
        Ok(())
    }

    fn check_one(&self, limit: Option<u32>, what: impl Fn() -> String) -> Result<(), StartError> {
        match limit {
            Some(value) if u64::from(value) > self.connections_by_nofile => {
                Err(StartError::LimitTooHigh {
                    what: what(),
                    value,
                    connections_max: self.connections_by_nofile,
                    nofile: self.nofile_soft,
                })
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn demand(workers: u64) -> Demand {
        Demand {
            workers,
            binds: 2,
            probes: 4,
        }
    }

    fn allowance(nofile: u64, pipe_pages: Option<u64>) -> Allowance {
        Allowance {
            nofile,
            pipe_pages,
            memory: None,
        }
    }

    #[test]
    fn plenty_gives_the_full_pipes_and_the_rest_to_connections() {
        let limits = derive(demand(2), allowance(20_000, None));
        assert_eq!(
            (limits.pipes_per_worker, limits.pipe_size),
            (256, 256 * 1024)
        );
        let taken = limits.reserved + 2 * 2 * 256 + 2 * limits.connections_max;
        assert_eq!(taken, 20_000);
    }

    #[test]
    fn an_unprivileged_process_keeps_to_the_pages_of_its_user() {
        let per_worker = |workers| {
            let limits = derive(demand(workers), allowance(1 << 20, Some(16_384)));
            (limits.pipes_per_worker, limits.pipe_size / 1024)
        };
        assert_eq!(per_worker(1), (256, 256));
        assert_eq!(per_worker(2), (128, 256));
        assert_eq!(per_worker(16), (32, 128));
        assert_eq!(per_worker(128), (8, 64));
    }

    #[test]
    fn few_descriptors_carry_few_connections_and_too_few_none() {
        let limits = derive(demand(2), allowance(1024, None));
        assert!(limits.connections_max > 200, "{limits:?}");
        let limits = derive(demand(2), allowance(100, None));
        assert_eq!(limits.connections_max, 0);
        let config = ringway_config::Config::new(Vec::new(), Vec::new());
        let error = limits.check(&config).unwrap_err().to_string();
        assert!(
            error.contains("100 descriptors") && error.contains("LimitNOFILE"),
            "{error}"
        );
    }

    #[test]
    fn every_probe_may_wait_at_the_same_time() {
        let reserved = |probes| {
            let demand = Demand {
                probes,
                ..demand(2)
            };
            derive(demand, allowance(20_000, None)).reserved
        };
        assert_eq!(reserved(104) - reserved(4), 100 * DESCRIPTORS_PER_PROBE);
        assert_eq!(reserved(100_000) - reserved(0), 20_000 / 8);
    }

    #[test]
    fn privilege_is_read_from_the_effective_set() {
        assert!(is_exempt("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        assert!(is_exempt("CapEff:\t0000000001000000\n"));
        assert!(!is_exempt(
            "CapEff:\t0000000000000400\nCapPrm:\t000001ffffffffff\n"
        ));
        assert!(!is_exempt(""));
    }

    proptest! {
        #[test]
        fn nothing_is_promised_twice(
            workers in 1u64..1024, binds in 0u64..2048, probes in 0u64..100_000,
            nofile in 0u64..2_000_000, pages in proptest::option::of(1u64..1_000_000),
        ) {
            let limits = derive(Demand { workers, binds, probes }, allowance(nofile, pages));
            let pipes = limits.pipes_per_worker as u64 * workers;
            let spent = limits.connections_max * 2 + pipes * 2;
            prop_assert!(spent == 0 || spent + limits.reserved <= nofile);
            if let Some(pages) = pages {
                prop_assert!(pipes * (limits.pipe_size as u64 / PAGE_SIZE) <= pages);
            }
        }
    }
}
