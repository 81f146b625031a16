//! Starting a worker's thread and talking to it from others.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender, SyncSender};
use std::thread::JoinHandle;

use ringway_uring::{ReceiveStyle, Ring, RingParams, SetupError, Turn, Waker, take_turns};

use crate::clock::thread_time;
use crate::duty::Ended;
use crate::mailbox::Message;
use crate::spec::{BUFFERS_MAX, WorkerSpec, buffer_size};
use crate::worker::Worker;

/// Entries of the submission queue: what one turn stages without an extra enter.
const SQ_ENTRIES: u32 = 512;
/// Entries of the completion queue. More completions than that at once cost time, none is lost.
/// Queues count as locked memory: so small that 64 workers fit the usual 8 MiB of a user.
const CQ_ENTRIES: u32 = 2048;
/// Receive buffers the kernel may fill from the start; more are given to it when it runs out.
const BUFFERS_INITIAL: u16 = 64;
/// Receive buffers the kernel has at a time at most: twice what one turn handles.
const BUFFERS_LENT_MAX: u16 = 1024;

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The kernel does not give it a ring.
    #[error("{source}; {}", source.remedy())]
    Ring {
        /// What the kernel refused.
        #[from]
        source: SetupError,
    },
    /// The thread or its eventfd could not be made.
    #[error("a worker's thread could not be started: {0}")]
    Thread(#[source] io::Error),
    /// `uring_splice` needs its kernel threads bounded.
    #[error("the ring's kernel threads could not be bounded: {0}")]
    KernelThreads(#[source] io::Error),
    /// The process may not run on the CPU the worker was given.
    #[error(
        "worker {worker} could not be pinned to CPU {cpu}: it is not among the CPUs of this process"
    )]
    Pin {
        /// The worker.
        worker: u16,
        /// The CPU.
        cpu: usize,
    },
    /// The thread ended before it said anything, or before it was to begin.
    #[error("worker {0} ended while it started")]
    Died(u16),
}

/// The outside of a running worker.
#[derive(Debug)]
pub struct WorkerHandle {
    index: u16,
    thread_id: i32,
    ring_report: String,
    mailbox: Sender<Message>,
    waker: Waker,
    has_ended: Arc<AtomicBool>,
    join: JoinHandle<()>,
}

struct Started {
    thread_id: i32,
    ring_report: String,
}

/// Starts a worker and waits until its ring is set up. `on_end` is called on its thread when it has
/// ended, by a drain or by an error.
///
/// # Errors
/// [`StartError`]; the sockets of the specification are closed then.
pub fn start(
    spec: WorkerSpec,
    on_end: impl FnOnce(Ended) + Send + 'static,
) -> Result<WorkerHandle, StartError> {
    let index = spec.index;
    let waker = Waker::new().map_err(StartError::Thread)?;
    let (mailbox, messages) = mpsc::channel();
    let (ready, started) = mpsc::sync_channel(1);
    let own_waker = waker.clone();
    let has_ended = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&has_ended);
    let join = std::thread::Builder::new()
        .name(format!("ringway-wrk-{index}"))
        .spawn(move || {
            if let Some(mut worker) = set_up(spec, messages, own_waker, &ready) {
                let result = worker.run();
                end.store(true, Ordering::Release);
                on_end(Ended {
                    worker: index,
                    result,
                    histograms: worker.retire(),
                    cpu_time: thread_time(),
                });
            }
        })
        .map_err(StartError::Thread)?;
    let Started {
        thread_id,
        ring_report,
    } = started.recv().map_err(|_| StartError::Died(index))??;
    Ok(WorkerHandle {
        index,
        thread_id,
        ring_report,
        mailbox,
        waker,
        has_ended,
        join,
    })
}

fn set_up(
    spec: WorkerSpec,
    messages: mpsc::Receiver<Message>,
    waker: Waker,
    ready: &SyncSender<Result<Started, StartError>>,
) -> Option<Worker> {
    // Inherited from the thread that starts workers are brief ones, which are not for them. Where this is forbidden, so
    // was that.
    take_turns(Turn::Usual).ok();
    let params = ring_params();
    let worker = pin(&spec).and_then(|()| Worker::new(spec, &params, messages, waker));
    let (worker, answer) = match worker {
        Ok(worker) => {
            let thread_id = rustix::thread::gettid().as_raw_nonzero().get();
            let ring_report = worker.ring.report().to_string();
            (
                Some(worker),
                Ok(Started {
                    thread_id,
                    ring_report,
                }),
            )
        }
        Err(error) => (None, Err(error)),
    };
    // If nobody waits any more, the worker must not run.
    ready.send(answer).ok().and(worker)
}

fn pin(spec: &WorkerSpec) -> Result<(), StartError> {
    match spec.cpu {
        Some(cpu) if !core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) => {
            Err(StartError::Pin {
                worker: spec.index,
                cpu,
            })
        }
        Some(_) | None => Ok(()),
    }
}

/// How many workers, of `most`, find the locked memory that their rings and those of their keepers
/// take. Tried, because kernels differ in what they count.
pub fn workers_that_fit(most: usize) -> usize {
    let keepers = RingParams {
        sq_entries: 256,
        cq_entries: 512,
        buffers_initial: 1,
        buffers_lent_max: 1,
        buffers_max: 1,
        receive_style: ReceiveStyle::OneShot,
        ..ring_params()
    };
    let mut rings = Vec::new();
    for count in 0..most {
        for params in [&ring_params(), &keepers] {
            match Ring::new(params) {
                Ok(ring) => rings.push(ring),
                Err(SetupError::NoMemory { .. }) => return count,
                // Not for want of memory.
                Err(_) => return most,
            }
        }
    }
    most
}

/// As many buffers as a worker may ever have: what it does not have of them is address space only.
fn ring_params() -> RingParams {
    RingParams {
        sq_entries: SQ_ENTRIES,
        cq_entries: CQ_ENTRIES,
        buffer_size: buffer_size(),
        buffers_initial: BUFFERS_INITIAL,
        buffers_lent_max: BUFFERS_LENT_MAX,
        buffers_max: BUFFERS_MAX,
        receive_style: ReceiveStyle::Auto,
    }
}

impl WorkerHandle {
    /// Its number.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// The kernel's number of its thread: its directory in /proc/self/task.
    pub fn thread_id(&self) -> i32 {
        self.thread_id
    }

    /// What its ring uses of the kernel, as one line.
    pub fn ring_report(&self) -> &str {
        &self.ring_report
    }

    /// Whether it works no more; known before `on_end` of [`start`] is called.
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Sends a message and wakes the worker; one that has ended does not mind.
    pub fn send(&self, message: Message) {
        if self.mailbox.send(message).is_ok() {
            self.waker.wake();
        }
    }

    /// A way to send messages that can be given to other threads.
    pub fn mailbox(&self) -> Mailbox {
        Mailbox {
            sender: self.mailbox.clone(),
            waker: self.waker.clone(),
        }
    }

    /// Waits until the thread has ended.
    pub fn join(self) {
        // A worker that panicked has told so on stderr, and a release build has ended with it.
        let _ = self.join.join();
    }
}

/// A way to send messages to one worker.
#[derive(Clone, Debug)]
pub struct Mailbox {
    sender: Sender<Message>,
    waker: Waker,
}

impl Mailbox {
    /// Sends a message and wakes the worker; one that has ended does not mind.
    pub fn send(&self, message: Message) {
        if self.sender.send(message).is_ok() {
            self.waker.wake();
        }
    }
}
