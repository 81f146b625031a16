//! The access log's thread: it takes what the workers queued and writes it down.
//!
//! Invariant: no worker waits for it. A queue that is full drops records, which the worker counts;
//! what the disk refuses is dropped and counted here.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use ringway_config::AccessLog as Destination;
use ringway_flow::Moment;
use ringway_metrics::Topology;
use ringway_worker::{AccessQueue, LogEntry};
use rtrb::{Consumer, RingBuffer};
use tracing::{info, warn};

use crate::access_line::write_line;
use crate::clock::unix_millis;
use crate::error::StartError;
use crate::instance::lock;
use crate::plan::Plan;

/// Records a worker may be ahead of the log: a second of 8000 connections.
const QUEUE_RECORDS: usize = 8192;
/// Records taken from one worker before the next one's turn.
const RECORDS_PER_TURN: usize = 256;
/// Bytes collected before they are written, unless the queues are empty earlier.
const BUFFER_BYTES: usize = 64 * 1024;
/// How long the end of the process waits for a slow disk or terminal.
const FINISH_WITHIN: Duration = Duration::from_secs(1);

/// A running access log.
#[derive(Debug)]
pub(crate) struct AccessLog {
    state: Arc<LogState>,
    thread: Option<JoinHandle<()>>,
    ended: Receiver<()>,
}

/// What the log's thread and the control thread share.
#[derive(Debug, Default)]
pub(crate) struct LogState {
    /// Lines written.
    pub(crate) lines: AtomicU64,
    /// Lines lost because writing failed.
    pub(crate) lost: AtomicU64,
    shall_reopen: AtomicBool,
    /// Where the lines go from now on.
    moved: Mutex<Option<Target>>,
    shall_end: AtomicBool,
    /// Queues that the log's thread does not know yet.
    joined: Mutex<Vec<Queue>>,
    /// The log's thread, once it runs.
    writer: OnceLock<Thread>,
}

/// A worker's queue.
#[derive(Debug)]
struct Queue {
    entries: Consumer<LogEntry>,
    /// What the indices of its records mean.
    names: Arc<Topology>,
}

impl LogState {
    /// The queue of one more worker, whose records mean this by their indices. It is forgotten when the
    /// worker has dropped its end and what it had is written.
    pub(crate) fn join(&self, names: &Arc<Topology>) -> Option<AccessQueue> {
        let writer = self.writer.get()?.clone();
        let (producer, entries) = RingBuffer::new(QUEUE_RECORDS);
        lock(&self.joined).push(Queue {
            entries,
            names: Arc::clone(names),
        });
        Some(AccessQueue::new(producer, writer))
    }
}

/// An open file, and its path if it has one.
#[derive(Debug)]
pub(crate) struct Target {
    file: File,
    path: Option<PathBuf>,
}

impl Target {
    /// `None` where no log is configured.
    pub(crate) fn open(destination: &Destination) -> Result<Option<Target>, StartError> {
        let (file, path) = match destination {
            Destination::Off => return Ok(None),
            Destination::Stdout => (stdout(), None),
            Destination::File(path) => (open(path), Some(path.clone())),
        };
        let file = file.map_err(|source| StartError::AccessLog {
            path: path
                .as_deref()
                .unwrap_or(Path::new("stdout"))
                .display()
                .to_string(),
            source,
        })?;
        Ok(Some(Target { file, path }))
    }
}

impl AccessLog {
    /// Starts the log's thread; with it comes the queue of each worker. All of it is `None` where no
    /// log is configured.
    pub(crate) fn start(
        target: Option<Target>,
        workers: usize,
        plan: &Plan,
    ) -> Result<(Option<AccessLog>, Vec<Option<AccessQueue>>), StartError> {
        let Some(Target { file, path }) = target else {
            return Ok((None, (0..workers).map(|_| None).collect()));
        };
        let state = Arc::new(LogState::default());
        let (end, ended) = sync_channel(1);
        let writer = Writer {
            queues: Vec::new(),
            file,
            path,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            buffered_lines: 0,
            health: Health::Good,
            state: Arc::clone(&state),
            epoch: plan.epoch,
        };
        let thread = std::thread::Builder::new()
            .name("ringway-log".to_owned())
            .spawn(move || writer.run(&end))
            .map_err(|source| StartError::System {
                what: "the access log's thread could not be started",
                source,
            })?;
        state.writer.get_or_init(|| thread.thread().clone());
        let queues = (0..workers).map(|_| state.join(&plan.topology)).collect();
        let thread = Some(thread);
        Ok((
            Some(AccessLog {
                state,
                thread,
                ended,
            }),
            queues,
        ))
    }

    pub(crate) fn state(&self) -> Arc<LogState> {
        Arc::clone(&self.state)
    }

    /// Opens the file anew: after it was moved away.
    pub(crate) fn reopen(&self) {
        self.state.shall_reopen.store(true, Ordering::Release);
        self.wake();
    }

    /// Writes what comes from now on to another file.
    pub(crate) fn move_to(&self, target: Target) {
        *lock(&self.state.moved) = Some(target);
        self.wake();
    }

    /// Writes what is queued and ends the thread; one that a slow disk holds is left behind.
    pub(crate) fn finish(&mut self) {
        self.state.shall_end.store(true, Ordering::Release);
        self.wake();
        let Some(thread) = self.thread.take() else {
            return;
        };
        if self.ended.recv_timeout(FINISH_WITHIN).is_ok() {
            // It has ended but for its last instructions.
            let _ = thread.join();
        } else {
            warn!("the access log does not take its last lines; they are lost");
        }
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Whether the last write succeeded: a failure is told once, when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Good,
    /// What was written last may lack its end.
    Failing,
}

#[derive(Debug)]
struct Writer {
    queues: Vec<Queue>,
    file: File,
    path: Option<PathBuf>,
    buffer: Vec<u8>,
    buffered_lines: u64,
    health: Health,
    state: Arc<LogState>,
    epoch: Instant,
}

impl Writer {
    fn run(mut self, end: &SyncSender<()>) {
        loop {
            // Looked at before the queues: what was queued before the end was asked for is written.
            let shall_end = self.state.shall_end.load(Ordering::Acquire);
            if self.state.shall_reopen.swap(false, Ordering::AcqRel) {
                self.reopen();
            }
            self.move_on();
            if self.take_turn() > 0 {
                continue;
            }
            self.flush();
            if shall_end {
                // Nobody waits any more if this took too long.
                let _ = end.send(());
                return;
            }
            std::thread::park();
        }
    }

    /// A bounded share of each queue; how many records that were.
    fn take_turn(&mut self) -> usize {
        let epoch_unix_millis = unix_millis() - millis(self.epoch.elapsed());
        let mut taken = 0;
        self.queues.append(&mut lock(&self.state.joined));
        // Looked at before they are emptied: what was queued before an end was dropped is written.
        self.queues
            .retain(|queue| !queue.entries.is_abandoned() || !queue.entries.is_empty());
        for Queue { entries, names } in &mut self.queues {
            for _ in 0..RECORDS_PER_TURN {
                let record = match entries.pop() {
                    Ok(LogEntry::Record(record)) => record,
                    Ok(LogEntry::Names(changed)) => {
                        *names = changed;
                        continue;
                    }
                    Err(_) => break,
                };
                let over = epoch_unix_millis + millis(record.ended.since(Moment::default()));
                write_line(&mut self.buffer, &record, names, over);
                self.buffered_lines += 1;
                taken += 1;
            }
        }
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush();
        }
        taken
    }

    fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let lines = std::mem::take(&mut self.buffered_lines);
        match self.write() {
            Ok(()) => {
                self.health = Health::Good;
                self.state.lines.fetch_add(lines, Ordering::Relaxed);
            }
            Err(error) => {
                if self.health == Health::Good {
                    warn!(%error, "the access log cannot be written; lines are lost until it can");
                }
                self.health = Health::Failing;
                self.state.lost.fetch_add(lines, Ordering::Relaxed);
            }
        }
        self.buffer.clear();
    }

    fn write(&mut self) -> io::Result<()> {
        if self.health == Health::Failing {
            // Ends the line that was cut off, if one was: an empty line is easier to skip.
            self.file.write_all(b"\n")?;
        }
        self.file.write_all(&self.buffer)
    }

    fn move_on(&mut self) {
        let Some(target) = lock(&self.state.moved).take() else {
            return;
        };
        self.flush();
        (self.file, self.path) = (target.file, target.path);
        self.health = Health::Good;
    }

    fn reopen(&mut self) {
        self.flush();
        let Some(path) = &self.path else { return };
        match open(path) {
            Ok(file) => {
                self.file = file;
                self.health = Health::Good;
                info!(path = %path.display(), "access log reopened");
            }
            Err(error) => {
                warn!(path = %path.display(), %error, "the access log cannot be reopened; the old file is kept");
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Opening a FIFO for writing waits for a reader, unless it is opened for reading too (fifo(7)).
    let is_fifo = std::fs::metadata(path).is_ok_and(|about| about.file_type().is_fifo());
    OpenOptions::new()
        .read(is_fifo)
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

/// Standard output without the buffer of the standard library, which this thread has its own of.
fn stdout() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
