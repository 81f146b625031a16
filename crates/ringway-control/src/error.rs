//! Why a balancer did not start, and why one that ran ended badly. Each message is one line that
//! says what, where, and what to do about it.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use ringway_keeper::SpawnError;
use rustix::io::Errno;

/// Which exit code an error at start means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartErrorKind {
    /// The kernel or its limits cannot run this: exit code 69.
    Kernel,
    /// Something in the way, such as a port in use: exit code 1.
    Runtime,
}

/// Why a balancer did not start. Nothing of it is left when this is returned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A worker did not start.
    #[error("worker {index}: {source}")]
    Worker {
        /// Its number.
        index: u16,
        /// Why.
        source: ringway_worker::StartError,
    },
    /// A keeper did not start.
    #[error(
        "the health checks of worker {index}: {source}{}; {}",
        caused_by(source),
        keeper_remedy(source)
    )]
    Keeper {
        /// The number of its worker.
        index: u16,
        /// Why.
        source: SpawnError,
    },
    /// An address of a listener could not be bound.
    #[error("listener `{listener}`: {}", bind_message(address, source))]
    Bind {
        /// The listener's name.
        listener: String,
        /// The address as configured.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The admin endpoint could not be bound.
    #[error("admin endpoint: {} (admin.bind)", bind_message(address, source))]
    Admin {
        /// The address as configured.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The token of the admin endpoint cannot be used.
    #[error("{}: {source} (admin.token_file)", path.display())]
    AdminToken {
        /// The file as configured.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `workers` names a CPU that is not this process's.
    #[error(
        "workers: CPU {cpu} is not among the CPUs of this process ({allowed}): name others, or use \
         `workers: auto`"
    )]
    Cpu {
        /// The CPU.
        cpu: u16,
        /// Those that are, as a list.
        allowed: String,
    },
    /// A configured maximum cannot be kept.
    #[error(
        "{what} is {value}, but {nofile} descriptors (RLIMIT_NOFILE) carry {connections_max} \
         connections at most: raise the limit (LimitNOFILE= of systemd, --ulimit nofile= of \
         docker), or lower the value"
    )]
    LimitTooHigh {
        /// The key and its place.
        what: String,
        /// What it says.
        value: u32,
        /// The maximum of this process.
        connections_max: u64,
        /// The descriptors it was derived from.
        nofile: u64,
    },
    /// There are not even enough descriptors to begin.
    #[error(
        "{nofile} descriptors (RLIMIT_NOFILE) are too few: {reserved} are needed before the first \
         connection: raise the limit (LimitNOFILE= of systemd, --ulimit nofile= of docker)"
    )]
    TooFewDescriptors {
        /// What there is.
        nofile: u64,
        /// What is needed for everything but connections.
        reserved: u64,
    },
    /// The access log could not be opened.
    #[error("access log {path}: {source}: make its directory writable, or change log.access")]
    AccessLog {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The address of a backend is none that the kernel takes.
    #[error("pool `{pool}`, backend {address}: {source}: correct the address")]
    Backend {
        /// The pool's name.
        pool: String,
        /// The address as configured.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Connections to backends cannot come from there.
    #[error("pool `{pool}`: connect.source: {}", source_message(*address, source))]
    Source {
        /// The pool's name.
        pool: String,
        /// The address as configured; none where it is to be the client's.
        address: Option<IpAddr>,
        /// Why.
        source: io::Error,
    },
    /// A list would be too long.
    #[error(
        "more than 65,534 listeners, addresses, or backends of one pool, those that have left and still have \
         connections included: wait for connections to end, or restart"
    )]
    NoPlace,
    /// A descriptor this process was started with is not what it is said to be.
    #[error("inherited socket ({what}): {source}: correct what starts this process")]
    Inherited {
        /// Which one.
        what: String,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The process whose place this one was to take has not handed over.
    #[error("upgrade: {0}")]
    Upgrade(String),
    /// A worker whose sockets others are to have, too.
    #[error("worker {worker} does not answer, see /livez")]
    Silent {
        /// Its number.
        worker: u16,
    },
    /// A reload that nobody waits for any more, because its file did not answer.
    #[error("the reload was given up")]
    GivenUp,
    /// Something this thread itself needs.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl StartError {
    /// Which exit code it means.
    pub fn kind(&self) -> StartErrorKind {
        use ringway_worker::StartError as Worker;
        match self {
            StartError::Worker { source, .. } => match source {
                Worker::Ring { .. } | Worker::KernelThreads(_) => StartErrorKind::Kernel,
                Worker::Thread(_) | Worker::Pin { .. } | Worker::Died(_) => StartErrorKind::Runtime,
            },
            StartError::Keeper { source, .. } => match source {
                SpawnError::RingDenied(_) | SpawnError::Ring(_) => StartErrorKind::Kernel,
                _ => StartErrorKind::Runtime,
            },
            StartError::LimitTooHigh { .. }
            | StartError::TooFewDescriptors { .. }
            | StartError::Source { address: None, .. } => StartErrorKind::Kernel,
            StartError::Bind { .. }
            | StartError::Admin { .. }
            | StartError::AdminToken { .. }
            | StartError::Cpu { .. }
            | StartError::AccessLog { .. }
            | StartError::Backend { .. }
            | StartError::Source {
                address: Some(_), ..
            }
            | StartError::NoPlace
            | StartError::Inherited { .. }
            | StartError::Upgrade(_)
            | StartError::Silent { .. }
            | StartError::GivenUp
            | StartError::System { .. } => StartErrorKind::Runtime,
        }
    }
}

/// Why a running balancer ended otherwise than by a drain. All of them mean exit code 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A worker failed; the process cannot go on without it.
    #[error("{0}; restart the process")]
    Worker(#[from] ringway_worker::WorkerError),
    /// A worker ended although nobody asked it to.
    #[error("worker {0} ended without being asked to; restart the process")]
    WorkerEnded(u16),
    /// Workers did not end in the time of the drain.
    #[error("{0} workers had not ended a second after the drain's deadline; they were left behind")]
    WorkersLeft(usize),
    /// A second SIGTERM or SIGINT came before the drain was over.
    #[error("a second signal ended the drain; open connections were cut")]
    SecondSignal,
}

fn caused_by(error: &SpawnError) -> String {
    std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"))
}

fn keeper_remedy(error: &SpawnError) -> &'static str {
    match error {
        SpawnError::Ring(cause) if Errno::from_io_error(cause) == Some(Errno::NOMEM) => {
            "raise RLIMIT_MEMLOCK (LimitMEMLOCK= of systemd, --ulimit memlock= of docker), or run \
             fewer workers (`workers: N`)"
        }
        _ => "run `ringway doctor` to see what this kernel allows",
    }
}

/// What is in the way of a source, and what helps.
fn source_message(address: Option<IpAddr>, error: &io::Error) -> String {
    let Some(address) = address else {
        return match Errno::from_io_error(error) {
            Some(Errno::PERM) => "client: the kernel lets this process use no address but its own \
                 (IP_TRANSPARENT): grant CAP_NET_ADMIN or CAP_NET_RAW (AmbientCapabilities= of systemd, \
                 --cap-add of docker), or remove the key"
                .to_owned(),
            _ => format!("client: {error} (IP_TRANSPARENT): remove the key"),
        };
    };
    match Errno::from_io_error(error) {
        Some(Errno::ADDRNOTAVAIL) => format!(
            "{address} is not an address of this host: write one that `ip address` shows, or add it there"
        ),
        Some(Errno::AFNOSUPPORT) => {
            format!("{address}: this host has no IPv6: write an IPv4 address, or switch IPv6 on")
        }
        _ => format!("{address}: {error}: write another address"),
    }
}

/// What went wrong with an address, and what helps.
fn bind_message(address: &str, error: &io::Error) -> String {
    let is_unix = address.starts_with("unix:");
    match Errno::from_io_error(error) {
        Some(Errno::ADDRINUSE) if is_unix => format!(
            "{address} is in use by a process that accepts on it: end that process, or bind \
             another path"
        ),
        Some(Errno::ADDRINUSE) => {
            let port = address.rsplit(':').next().unwrap_or_default();
            format!(
                "{address} is in use by another socket: end what listens there (`ss -ltnp sport = \
                 {port}` shows it), or bind another port"
            )
        }
        Some(Errno::ADDRNOTAVAIL) => format!(
            "{address} is not an address of this host: bind one that `ip address` shows, or \
             0.0.0.0 for all"
        ),
        Some(Errno::AFNOSUPPORT) => {
            format!("{address}: this host has no IPv6: bind an IPv4 address, or switch IPv6 on")
        }
        Some(Errno::ACCESS | Errno::PERM) if is_unix => {
            format!("{address}: no permission to make a socket there: change the directory's owner")
        }
        Some(Errno::ACCESS | Errno::PERM) => format!(
            "{address} is a privileged port: grant CAP_NET_BIND_SERVICE (AmbientCapabilities= of \
             systemd), lower net.ipv4.ip_unprivileged_port_start, or bind a port from 1024 on"
        ),
        Some(Errno::NOENT) if is_unix => {
            format!("{address}: its directory does not exist: create it")
        }
        Some(Errno::EXIST) if is_unix => {
            format!("{address} exists and is no socket: remove it, or bind another path")
        }
        Some(Errno::MFILE | Errno::NFILE) => {
            format!("{address}: {error}: raise RLIMIT_NOFILE (LimitNOFILE=)")
        }
        _ => format!("{address}: {error}: bind another address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(address: &str, errno: Errno) -> String {
        let error = StartError::Bind {
            listener: "web".into(),
            address: address.into(),
            source: errno.into(),
        };
        assert_eq!(error.kind(), StartErrorKind::Runtime);
        error.to_string()
    }

    #[test]
    fn a_refused_address_says_what_where_and_what_to_do() {
        for (address, errno, words) in [
            ("127.0.0.1:80", Errno::ADDRINUSE, "sport = 80"),
            ("[::1]:8080", Errno::ADDRINUSE, "sport = 8080"),
            (
                "192.0.2.1:80",
                Errno::ADDRNOTAVAIL,
                "not an address of this host",
            ),
            ("0.0.0.0:80", Errno::ACCESS, "CAP_NET_BIND_SERVICE"),
            ("unix:/run/a", Errno::ACCESS, "directory"),
            ("unix:/run/a", Errno::NOENT, "create it"),
            ("unix:/run/a", Errno::EXIST, "is no socket"),
            ("unix:/run/a", Errno::ADDRINUSE, "another path"),
            ("0.0.0.0:80", Errno::MFILE, "LimitNOFILE"),
            ("0.0.0.0:80", Errno::IO, "another address"),
        ] {
            let text = message(address, errno);
            assert!(text.starts_with("listener `web`: "), "{text}");
            assert!(text.contains(address) && text.contains(words), "{text}");
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }

    #[test]
    fn what_the_kernel_refuses_is_told_from_what_is_in_the_way() {
        let denied = SpawnError::RingDenied(Errno::PERM.into());
        let denied = StartError::Keeper {
            index: 0,
            source: denied,
        };
        assert_eq!(denied.kind(), StartErrorKind::Kernel);
        assert!(denied.to_string().contains("ringway doctor"), "{denied}");
        let full = StartError::Keeper {
            index: 3,
            source: SpawnError::Ring(Errno::NOMEM.into()),
        };
        assert_eq!(full.kind(), StartErrorKind::Kernel);
        let text = full.to_string();
        assert!(
            text.contains("RLIMIT_MEMLOCK") && text.contains("`workers: N`"),
            "{text}"
        );
        let pin = StartError::Keeper {
            index: 0,
            source: SpawnError::Pin { cpu: 9 },
        };
        assert_eq!(pin.kind(), StartErrorKind::Runtime);
        let few = StartError::TooFewDescriptors {
            nofile: 10,
            reserved: 90,
        };
        assert_eq!(few.kind(), StartErrorKind::Kernel);
    }
}
