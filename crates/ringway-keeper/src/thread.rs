//! The keeper's thread: started pinned, with its ring; stopped by joining.
//!
//! Invariant: when [`spawn`] has returned a handle the ring exists, and when [`KeeperHandle::stop`] has
//! returned neither thread nor descriptor of the keeper is left.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use core_affinity::CoreId;
use monoio::time::TimeDriver;
use monoio::{IoUringDriver, Runtime, RuntimeBuilder};

use crate::keeper;
use crate::mailbox::{Assignment, Inbox, Mailbox};
use crate::target::{Target, VerdictSink};

/// Entries of the submission queue; the smallest the runtime makes. More probes at once are submitted in
/// several calls, and the kernel keeps completions that do not fit.
const RING_ENTRIES: u32 = 256;

/// The CPUs that sched_setaffinity(2) can name with the set the C library offers.
const CPU_SET_SIZE: usize = 1024;

/// What a keeper starts with.
#[derive(Clone, Debug)]
pub struct KeeperParams {
    /// The worker's number; it names the thread.
    pub index: u16,
    /// The worker's CPU; none leaves the thread where the scheduler puts it.
    pub cpu: Option<usize>,
    /// The backends to probe. A key listed twice counts once, the first time.
    pub targets: Vec<Target>,
    /// The number of backends that all keepers of the process probe together. It sets the pace of the first
    /// probes, so that many keepers that start at once do not add up to a burst.
    pub fleet_count: usize,
    /// For jitter and spread; different for each keeper.
    pub seed: u64,
    /// The epoch of the moments told to the [`VerdictSink`].
    pub start: Instant,
}

/// Why there is no keeper.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The kernel, a sysctl or a seccomp filter forbids io_uring (EPERM, EACCES, ENOSYS).
    #[error("io_uring is denied to the health checks")]
    RingDenied(#[source] io::Error),
    /// The ring could not be made for another reason, such as a limit.
    #[error("no io_uring for the health checks")]
    Ring(#[source] io::Error),
    /// The eventfd that wakes the keeper could not be made.
    #[error("no eventfd for the health checks")]
    Eventfd(#[source] io::Error),
    /// The CPU does not exist or this process may not run on it.
    #[error("the health checks cannot be pinned to CPU {cpu}")]
    Pin {
        /// The CPU asked for.
        cpu: usize,
    },
    /// The thread could not be started.
    #[error("no thread for the health checks")]
    Thread(#[source] io::Error),
}

/// A running keeper. Dropping it stops the keeper without waiting for that.
#[derive(Debug)]
pub struct KeeperHandle {
    mailbox: Arc<Mailbox>,
    thread_id: i32,
    thread: Option<JoinHandle<()>>,
}

/// Starts a keeper: a thread `ringway-keep-N`, pinned, with a ring of its own.
///
/// # Errors
/// See [`SpawnError`]; nothing is left running then.
pub fn spawn(params: KeeperParams, sink: Arc<dyn VerdictSink>) -> Result<KeeperHandle, SpawnError> {
    let KeeperParams {
        index,
        cpu,
        targets,
        fleet_count,
        seed,
        start,
    } = params;
    let mailbox = Arc::new(Mailbox::new().map_err(SpawnError::Eventfd)?);
    mailbox.assign(Assignment {
        targets,
        fleet_count,
    });
    let (report, outcome) = sync_channel(1);
    let theirs = Arc::clone(&mailbox);
    let keep = move |inbox| keeper::run(inbox, sink, seed, start);
    let thread = std::thread::Builder::new()
        .name(thread_name(index))
        .spawn(move || run_thread(cpu, theirs, keep, &report))
        .map_err(SpawnError::Thread)?;
    match outcome.recv() {
        Ok(Ok(thread_id)) => Ok(KeeperHandle {
            mailbox,
            thread_id,
            thread: Some(thread),
        }),
        Ok(Err(error)) => {
            // It reported as the last thing it did; waiting leaves no thread behind.
            let _ = thread.join();
            Err(error)
        }
        Err(_) => Err(SpawnError::Thread(io::Error::other(
            "it ended before it began",
        ))),
    }
}

impl KeeperHandle {
    /// The kernel's number of its thread.
    pub fn thread_id(&self) -> i32 {
        self.thread_id
    }

    /// Replaces the targets. One with the same key and address keeps its health, its place in the schedule
    /// and the probe under way, also when its parameters change; others are dropped, or join as
    /// [`Target::known`] with their first probes where another keeper would have them, or spread. `fleet_count` is as
    /// in [`KeeperParams`].
    ///
    /// Returns at once; of several calls in a row only the last may be seen.
    pub fn update(&self, targets: Vec<Target>, fleet_count: usize) {
        self.mailbox.assign(Assignment {
            targets,
            fleet_count,
        });
    }

    /// Stops the keeper, gives up the probes under way without a verdict, and waits for the thread to end.
    pub fn stop(mut self) {
        self.mailbox.stop();
        if let Some(thread) = self.thread.take() {
            // An error would be a panic, and that has ended the process.
            let _ = thread.join();
        }
    }
}

impl Drop for KeeperHandle {
    fn drop(&mut self) {
        self.mailbox.stop();
    }
}

/// Ends the process when dropped by a panic, after the panic hook has told why.
pub(crate) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// The runtime every keeper uses. COOP_TASKRUN and SINGLE_ISSUER (Linux 6.0) save interrupts of a thread
/// that enters the kernel anyway. DEFER_TASKRUN would save more, but the runtime's version of io-uring does
/// not fetch deferred completions between two tasks.
pub(crate) fn build_runtime() -> io::Result<Runtime<TimeDriver<IoUringDriver>>> {
    let mut ring = io_uring_06::IoUring::builder();
    ring.setup_coop_taskrun().setup_single_issuer();
    RuntimeBuilder::<IoUringDriver>::new()
        .with_entries(RING_ENTRIES)
        .uring_builder(ring)
        .enable_timer()
        .build()
}

fn run_thread<F: Future<Output = ()>>(
    cpu: Option<usize>,
    mailbox: Arc<Mailbox>,
    keep: impl FnOnce(Inbox) -> F,
    report: &SyncSender<Result<i32, SpawnError>>,
) {
    let _guard = AbortOnPanic;
    let mut runtime = match pin(cpu).and_then(|()| build_runtime().map_err(ring_error)) {
        Ok(runtime) => runtime,
        Err(error) => {
            // Whoever spawned this thread waits for the report.
            let _ = report.send(Err(error));
            return;
        }
    };
    runtime.block_on(async {
        match Inbox::new(mailbox) {
            Ok(inbox) => {
                let thread_id = rustix::thread::gettid().as_raw_nonzero().get();
                let _ = report.send(Ok(thread_id));
                keep(inbox).await;
            }
            Err(error) => {
                let _ = report.send(Err(SpawnError::Eventfd(error)));
            }
        }
    });
    // Waits that the keeper gave up last are cancelled but not reaped. Dropping the runtime submits their
    // cancellation, ends the ring and closes their descriptors itself.
}

fn pin(cpu: Option<usize>) -> Result<(), SpawnError> {
    match cpu {
        Some(cpu) if cpu >= CPU_SET_SIZE || !core_affinity::set_for_current(CoreId { id: cpu }) => {
            Err(SpawnError::Pin { cpu })
        }
        Some(_) | None => Ok(()),
    }
}

fn ring_error(error: io::Error) -> SpawnError {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported => {
            SpawnError::RingDenied(error)
        }
        _ => SpawnError::Ring(error),
    }
}

/// The kernel keeps 15 bytes of a thread's name: the number must be among them.
fn thread_name(index: u16) -> String {
    match index {
        0..=99 => format!("ringway-keep-{index}"),
        100.. => format!("ringway-k-{index}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_keep_their_number() {
        assert_eq!(thread_name(7), "ringway-keep-7");
        for index in [0, 9, 10, 99, 100, 999, u16::MAX] {
            let name = thread_name(index);
            assert!(name.len() <= 15, "{name}");
            assert!(name.ends_with(&format!("-{index}")), "{name}");
        }
    }

    #[test]
    fn denial_is_told_from_other_errors() {
        use rustix::io::Errno;
        let error = |errno: Errno| ring_error(errno.into());
        assert!(matches!(error(Errno::PERM), SpawnError::RingDenied(_)));
        assert!(matches!(error(Errno::ACCESS), SpawnError::RingDenied(_)));
        assert!(matches!(error(Errno::NOSYS), SpawnError::RingDenied(_)));
        assert!(matches!(error(Errno::NOMEM), SpawnError::Ring(_)));
        assert!(matches!(error(Errno::MFILE), SpawnError::Ring(_)));
    }
}
