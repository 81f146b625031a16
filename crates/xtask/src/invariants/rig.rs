//! What all checks share: the two binaries, a directory that goes away, and which CPU does what.
//! Invariant: with two CPUs or more the balancer has one for itself, so that the load's needs do not
//! change how it batches.

use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, getuid, setrlimit};
use rustix::system::uname;
use rustix::thread::{CpuSet, sched_getaffinity};

use super::count::Counter;
use crate::build;

/// What 20,000 connections in one process need, and some; more where more are asked for and the
/// hard limit allows them.
const DESCRIPTORS_WANTED: u64 = 65_536;

/// The means of a run.
#[derive(Debug)]
pub(super) struct Rig {
    pub(super) ringway: PathBuf,
    pub(super) bench: PathBuf,
    /// For sockets, configurations and logs.
    pub(super) directory: PathBuf,
    /// The CPU of a single worker.
    pub(super) worker_cpu: usize,
    /// The CPU of the load and the servers.
    pub(super) load_cpu: usize,
    /// Most descriptors of a process.
    pub(super) descriptors_max: u64,
    /// How many connections are held that do nothing, where descriptors allow it.
    pub(super) idle_connections: u64,
    pub(super) counter: Counter,
}

impl Rig {
    /// Builds the binaries, unless they are given.
    pub(super) fn new(binaries: Option<&Path>, idle_connections: u64) -> io::Result<Rig> {
        let binaries = match binaries {
            Some(directory) => directory.to_owned(),
            None => build::release(&["-p", "ringway", "-p", "ringway-bench"])?,
        };
        let directory = std::env::temp_dir().join(format!("ringway-xtask-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let cpus = usable_cpus()?;
        let (Some(first), Some(last)) = (cpus.first(), cpus.last()) else {
            return Err(io::Error::other("no usable CPU"));
        };
        Ok(Rig {
            ringway: existing(binaries.join("ringway"))?,
            bench: existing(binaries.join("ringway-bench"))?,
            directory,
            worker_cpu: *first,
            load_cpu: *last,
            descriptors_max: raise_descriptors(),
            idle_connections,
            counter: Counter::detect(),
        })
    }

    /// One line about the machine and the means.
    pub(super) fn describe(&self) -> String {
        format!(
            "Linux {}, {}, {}, worker on CPU {}, load on CPU {}, {} descriptors\nsystem calls counted by {}",
            uname().release().to_string_lossy(),
            if getuid().is_root() {
                "root"
            } else {
                "ordinary user"
            },
            congestion_control(),
            self.worker_cpu,
            self.load_cpu,
            self.descriptors_max,
            self.counter.describe(),
        )
    }

    /// A new path in the directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // What is left of it is in the system's temporary directory, and goes with it.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn existing(path: PathBuf) -> io::Result<PathBuf> {
    match path.is_file() {
        true => Ok(path),
        false => Err(io::Error::other(format!(
            "{} does not exist",
            path.display()
        ))),
    }
}

/// Takes as many descriptors as any check wants, for this process and those that it starts: more than
/// the hard limit where that is allowed, else all of it. Returns how many there are.
fn raise_descriptors() -> u64 {
    let hard = getrlimit(Resource::Nofile).maximum;
    let most = hard.map_or(DESCRIPTORS_WANTED, |hard| hard.max(DESCRIPTORS_WANTED));
    let take = |count: u64, maximum: Option<u64>| {
        let limit = Rlimit {
            current: Some(count),
            maximum,
        };
        setrlimit(Resource::Nofile, limit).is_ok().then_some(count)
    };
    let raised = take(most, hard.map(|_| most));
    raised
        .or_else(|| take(hard?, hard))
        .or(hard)
        .unwrap_or(DESCRIPTORS_WANTED)
}

/// How TCP paces here, which decides how much a stream has ready at a time.
fn congestion_control() -> String {
    std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").map_or_else(
        |_| "unknown congestion control".to_owned(),
        |name| name.trim().to_owned(),
    )
}

fn usable_cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect())
}
