//! The limits around io_uring: descriptors, pipes, queues, CPUs, filters. Not io_uring itself.
//! Invariant: a file of /proc that is not there is a kernel that does not know the limit, and never
//! makes anything else here fail.

use std::fs;
use std::path::Path;

use ringway_control::{limits, locked_memory};
use rustix::process::{Resource, getrlimit};
use rustix::system::uname;
use rustix::thread::{CpuSet, sched_getaffinity};

use super::{Check, Outcome};

/// Fewer connections than this are soon used up.
const CONNECTIONS_WANTED: u64 = 10_000;
/// The default `tcp.backlog` of a listener.
const BACKLOG_WANTED: u64 = 4096;
/// Fewer pipes per worker than this, and bulk transfers are copied.
const PIPES_WANTED: usize = 32;

/// Everything, in the order in which it is printed.
pub(super) fn checks() -> Vec<Check> {
    vec![
        ok("kernel", uname().release().to_string_lossy().into_owned()),
        cpus(),
        io_uring_disabled(number("/proc/sys/kernel/io_uring_disabled")),
        seccomp(&fs::read_to_string("/proc/self/status").unwrap_or_default()),
        descriptors(&limits()),
        memory(&limits()),
        memlock(getrlimit(Resource::Memlock).current, locked_memory()),
        pipes(
            &limits(),
            number("/proc/sys/fs/pipe-user-pages-soft"),
            number("/proc/sys/fs/pipe-max-size"),
        ),
        somaxconn(number("/proc/sys/net/core/somaxconn")),
    ]
}

fn ok(name: &'static str, detail: String) -> Check {
    Check {
        name,
        outcome: Outcome::Ok,
        detail,
    }
}

fn degraded(name: &'static str, detail: String, remedy: &str) -> Check {
    Check {
        name,
        outcome: Outcome::Degraded {
            remedy: remedy.to_owned(),
        },
        detail,
    }
}

fn missing(name: &'static str, detail: String, remedy: &str) -> Check {
    Check {
        name,
        outcome: Outcome::Missing {
            remedy: remedy.to_owned(),
        },
        detail,
    }
}

fn number(path: impl AsRef<Path>) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The CPUs of the affinity mask, and what a cgroup leaves of them.
fn cpus() -> Check {
    let allowed = match sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).count(),
        Err(errno) => {
            let remedy = "allow sched_getaffinity in the container's seccomp profile";
            return missing("CPUs", format!("cannot be read: {errno}"), remedy);
        }
    };
    // The standard library knows the quotas of both versions of cgroups.
    let granted = std::thread::available_parallelism().map_or(allowed, usize::from);
    let quota = match granted < allowed {
        true => format!(", and a cgroup quota for about {granted}"),
        false => String::new(),
    };
    ok("CPUs", format!("{allowed} usable{quota}"))
}

/// The sysctl of Linux 6.6. Whether it hits this process is what trying io_uring tells.
fn io_uring_disabled(level: Option<u64>) -> Check {
    let name = "kernel.io_uring_disabled";
    match level {
        None => ok(name, "not known to this kernel".to_owned()),
        Some(0) => ok(name, "0".to_owned()),
        Some(1) => ok(
            name,
            "1: only for root and the group kernel.io_uring_group".to_owned(),
        ),
        Some(level) => missing(
            name,
            format!("{level}: for nobody"),
            "set sysctl kernel.io_uring_disabled=0",
        ),
    }
}

/// Whether a filter is there. What it refuses is what trying io_uring tells.
fn seccomp(status: &str) -> Check {
    let mode = status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp:"))
        .map(str::trim);
    let detail = match mode {
        Some("0") => "no filter",
        Some("1") => "strict mode",
        Some("2") => "a filter; the lines about io_uring below tell what it allows",
        Some(_) | None => "unknown",
    };
    ok("seccomp", detail.to_owned())
}

fn descriptors(limits: &ringway_control::Limits) -> Check {
    let name = "RLIMIT_NOFILE";
    let (soft, hard, most) = (
        limits.nofile_soft,
        limits.nofile_hard,
        limits.connections_by_nofile,
    );
    let detail = format!("{soft} of {hard}, for at most {most} connections");
    let remedy = "raise the limit (LimitNOFILE= of systemd, --ulimit nofile= of docker)";
    match most {
        0 => missing(name, detail, remedy),
        few if few < CONNECTIONS_WANTED => degraded(name, detail, remedy),
        _ => ok(name, detail),
    }
}

/// A group that bounds memory bounds what can be held at a time, and so the connections.
fn memory(limits: &ringway_control::Limits) -> Check {
    let name = "memory";
    let Some(bytes) = limits.memory else {
        return ok(name, "not bounded by a control group".to_owned());
    };
    let (mib, most) = (bytes / 1024 / 1024, limits.connections_max);
    let detail = format!("{mib} MiB of the control group, for at most {most} connections");
    if limits.connections_max < limits.connections_by_nofile.min(CONNECTIONS_WANTED) {
        let remedy = "raise the limit (MemoryMax= of systemd, --memory= of docker)";
        return degraded(name, detail, remedy);
    }
    ok(name, detail)
}

/// Some kernels count the queues of a ring, for users without CAP_IPC_LOCK.
fn memlock(soft: Option<u64>, (wanted, fit): (usize, usize)) -> Check {
    let name = "RLIMIT_MEMLOCK";
    let limit = match soft {
        None => "unlimited".to_owned(),
        Some(bytes) => format!("{} KiB", bytes / 1024),
    };
    if fit == wanted {
        return ok(name, limit);
    }
    let detail = format!("{limit}, for {fit} workers of {wanted}");
    let raise = "raise the limit (LimitMEMLOCK= of systemd, --ulimit memlock= of docker)";
    match fit {
        0 => missing(name, detail, raise),
        fit => missing(name, detail, &format!("{raise}, or set `workers: {fit}`")),
    }
}

fn pipes(limits: &ringway_control::Limits, pages: Option<u64>, size: Option<u64>) -> Check {
    let name = "pipes";
    let shown = |number: Option<u64>| number.map_or("unknown".to_owned(), |n| n.to_string());
    let detail = format!(
        "{} per worker of {} KiB (fs.pipe-user-pages-soft {}, fs.pipe-max-size {})",
        limits.pipes_per_worker,
        limits.pipe_size / 1024,
        shown(pages),
        shown(size)
    );
    let larger_than_max = size.is_some_and(|size| size < limits.pipe_size as u64);
    if limits.pipes_per_worker < PIPES_WANTED {
        let remedy = "raise sysctl fs.pipe-user-pages-soft and RLIMIT_NOFILE, or bulk is copied";
        degraded(name, detail, remedy)
    } else if larger_than_max {
        degraded(
            name,
            detail,
            "raise sysctl fs.pipe-max-size, or pipes stay smaller",
        )
    } else {
        ok(name, detail)
    }
}

fn somaxconn(most: Option<u64>) -> Check {
    let name = "net.core.somaxconn";
    match most {
        None => ok(name, "unknown".to_owned()),
        Some(most) if most < BACKLOG_WANTED => degraded(
            name,
            format!("{most}: shorter than the default backlog, {BACKLOG_WANTED}"),
            "set sysctl net.core.somaxconn=4096 or more",
        ),
        Some(most) => ok(name, most.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use ringway_control::Limits;

    use super::*;

    const PLENTY: Limits = Limits {
        nofile_soft: 1 << 20,
        nofile_hard: 1 << 20,
        reserved: 200,
        connections_by_nofile: 500_000,
        connections_max: 500_000,
        memory: None,
        workers: 1,
        socket_bytes_per_worker: None,
        buffers_per_worker: 32_768,
        pipes_per_worker: 256,
        pipe_size: 256 * 1024,
    };

    #[test]
    fn every_limit_that_hurts_names_its_remedy() {
        let remedy = |check: Check| match check.outcome {
            Outcome::Ok => None,
            Outcome::Degraded { remedy } => Some(format!("degraded {remedy}")),
            Outcome::Missing { remedy } => Some(format!("missing {remedy}")),
        };
        let says = |check: Check, words: &str| {
            let text = remedy(check).expect("a remedy");
            assert!(text.contains(words), "{text}");
        };
        assert_eq!(remedy(io_uring_disabled(None)), None);
        assert_eq!(remedy(io_uring_disabled(Some(1))), None);
        says(
            io_uring_disabled(Some(2)),
            "missing set sysctl kernel.io_uring_disabled=0",
        );
        assert_eq!(remedy(descriptors(&PLENTY)), None);
        says(
            descriptors(&Limits {
                connections_by_nofile: 400,
                ..PLENTY
            }),
            "degraded raise the limit",
        );
        says(
            descriptors(&Limits {
                connections_by_nofile: 0,
                ..PLENTY
            }),
            "missing raise the limit",
        );
        assert_eq!(remedy(memory(&PLENTY)), None);
        says(
            memory(&Limits {
                connections_max: 400,
                memory: Some(32 << 20),
                ..PLENTY
            }),
            "degraded raise the limit (MemoryMax=",
        );
        assert_eq!(remedy(pipes(&PLENTY, Some(16_384), Some(1 << 20))), None);
        let few = Limits {
            pipes_per_worker: 8,
            ..PLENTY
        };
        says(
            pipes(&few, Some(16_384), Some(1 << 20)),
            "degraded raise sysctl fs.pipe-user",
        );
        says(
            pipes(&PLENTY, None, Some(4096)),
            "degraded raise sysctl fs.pipe-max-size",
        );
        assert_eq!(remedy(somaxconn(Some(4096))), None);
        says(somaxconn(Some(128)), "somaxconn=4096");
        assert_eq!(memlock(None, (2, 2)).detail, "unlimited");
        assert_eq!(remedy(memlock(Some(8 << 20), (64, 64))), None);
        says(memlock(Some(64 << 10), (2, 0)), "missing raise the limit");
        let some = memlock(Some(8 << 20), (128, 73));
        assert_eq!(some.detail, "8192 KiB, for 73 workers of 128");
        says(some, "or set `workers: 73`");
    }

    #[test]
    fn a_seccomp_filter_is_noticed() {
        let detail = |status: &str| seccomp(status).detail;
        assert_eq!(
            detail("Name:\tx\nSeccomp:\t0\nSeccomp_filters:\t0\n"),
            "no filter"
        );
        assert!(detail("Seccomp:\t2\n").starts_with("a filter"));
        assert_eq!(detail(""), "unknown");
    }

    #[test]
    fn this_system_is_described_whatever_it_is() {
        let checks = checks();
        assert_eq!(checks.len(), 9);
        assert!(checks.iter().all(|check| !check.detail.is_empty()));
    }
}
