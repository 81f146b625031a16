//! The side of the running process: it starts the new one and leads it to the point at which it
//! accepts. On a thread of its own, because it waits.
//!
//! Invariant: until the new process accepts, this one only copies descriptors; one that fails is
//! killed and waited for before the failure is told.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use ringway_worker::{Mailbox, Message};
use rustix::io::FdFlags;
use rustix::net::sockopt;
use tracing::info;

use super::channel::{Channel, FDS_MAX, ReceiveError};
use super::message::{Asked, Entry, FromNew, FromOld, Manifest, PROTOCOL, Role};
use super::outcome::UpgradeError;
use super::relaunch::Relaunch;
use crate::inherited::{CHANNEL_VARIABLE, listening_at};

/// Backends in one message.
const ASKED_MAX: usize = 128;
/// How long a worker may take to copy a few descriptors.
const LEND_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks at whether the upgrade is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// From the go until the new process accepts; it has nothing to do but that.
const ACCEPT_WITHIN: Duration = Duration::from_secs(10);
/// From the end of the conversation to that of the process.
const END_WITHIN: Duration = Duration::from_secs(1);
/// Variables that speak of the process they were made for.
const OWN_VARIABLES: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// What is known of the sockets of an address besides themselves.
#[derive(Debug)]
pub(crate) struct Known {
    /// The listener's.
    pub(crate) name: String,
    pub(crate) configured: String,
    pub(crate) options: Option<u64>,
}

/// Everything an attempt needs.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) relaunch: Relaunch,
    pub(crate) version: &'static str,
    pub(crate) workers: Vec<Mailbox>,
    /// By the number that workers know them by.
    pub(crate) known: HashMap<u32, Known>,
    /// What operators have asked for.
    pub(crate) asked: Vec<Asked>,
    /// The admin endpoint's socket.
    pub(crate) admin: Option<(OwnedFd, Entry)>,
    /// Files of Unix sockets: the address, and device and inode.
    pub(crate) files: Vec<(String, (u64, u64))>,
    /// Cookies of sockets that the service manager holds.
    pub(crate) managers: HashSet<u64>,
    /// Set when it is wanted no more.
    pub(crate) is_off: Arc<AtomicBool>,
}

/// A new process that accepts.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) pid: u32,
    pub(crate) version: String,
    /// What it accepts on, with cookies.
    pub(crate) adopted: Vec<(u64, Entry)>,
    pub(crate) declined: usize,
    channel: Channel,
}

impl Handed {
    /// Tells the new process that it is the only one.
    pub(crate) fn yours(&self) {
        // It serves whether it hears this or not.
        let _ = self.channel.send(&FromOld::Yours, &[], LOOK_EVERY);
    }
}

/// Whether the new process may still be ended because it is wanted no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    ToCallOff,
    None,
}

#[derive(Debug)]
struct Socket {
    fd: OwnedFd,
    cookie: u64,
    entry: Entry,
}

impl Attempt {
    /// From the start of the new process to its first connection.
    pub(crate) fn run(self) -> Result<Handed, UpgradeError> {
        let sockets = self.sockets()?;
        let (channel, theirs) = Channel::pair().map_err(failed("no channel to the new process"))?;
        let mut child = self.start(&theirs)?;
        drop(theirs);
        info!(pid = child.id(), program = %self.relaunch.program.display(), "upgrade begins");
        match self.lead(&channel, &sockets, &mut child) {
            Ok((version, declined)) => {
                let adopted = sockets.into_iter().enumerate();
                let adopted = adopted.filter(|(place, _)| !declined.contains(place));
                Ok(Handed {
                    pid: child.id(),
                    version,
                    adopted: adopted.map(|(_, one)| (one.cookie, one.entry)).collect(),
                    declined: declined.len(),
                    channel,
                })
            }
            Err(error) => {
                // Killing fails only if it has ended, and whoever was killed is there to be waited for.
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Copies of all listening sockets, each once.
    fn sockets(&self) -> Result<Vec<Socket>, UpgradeError> {
        let cannot = failed("a listening socket cannot be handed over");
        let mut asked = Vec::new();
        for worker in &self.workers {
            let (reply, answer) = sync_channel(1);
            worker.send(Message::Lend(reply));
            asked.push(answer);
        }
        let deadline = Instant::now() + LEND_WITHIN;
        let (mut sockets, mut seen) = (Vec::new(), HashSet::new());
        for (worker, answer) in (0..).zip(asked) {
            let left = deadline.saturating_duration_since(Instant::now());
            let lent = answer
                .recv_timeout(left)
                .map_err(|_| UpgradeError::Failed(format!("worker {worker} does not answer")))?;
            for lent in lent.map_err(&cannot)? {
                let Some(known) = self.known.get(&lent.number) else {
                    let number = lent.number;
                    return Err(UpgradeError::Failed(format!(
                        "nobody knows socket {number}"
                    )));
                };
                let cookie = sockopt::socket_cookie(&lent.fd).map_err(|e| cannot(e.into()))?;
                if seen.insert(cookie) {
                    let bound = listening_at(lent.fd.as_fd()).map_err(&cannot)?;
                    let entry = self.entry(known, bound, worker, cookie);
                    let fd = lent.fd;
                    sockets.push(Socket { fd, cookie, entry });
                }
            }
        }
        // By address, so that what is bound first is found first.
        sockets.sort_by_key(|one| one.entry.worker);
        if let Some((fd, entry)) = &self.admin {
            let cookie = sockopt::socket_cookie(fd).map_err(|e| cannot(e.into()))?;
            let entry = Entry {
                is_managers: self.managers.contains(&cookie),
                ..entry.clone()
            };
            let fd = fd.try_clone().map_err(&cannot)?;
            sockets.push(Socket { fd, cookie, entry });
        }
        Ok(sockets)
    }

    fn entry(&self, known: &Known, bound: String, worker: u16, cookie: u64) -> Entry {
        let file = self.files.iter().find(|(address, _)| *address == bound);
        Entry {
            role: Role::Listener,
            name: known.name.clone(),
            configured: known.configured.clone(),
            worker,
            file: file.map(|(_, identity)| *identity),
            is_managers: self.managers.contains(&cookie),
            options: known.options,
            bound,
        }
    }

    fn start(&self, theirs: &OwnedFd) -> Result<Child, UpgradeError> {
        let program = &self.relaunch.program;
        let what = format!("{} cannot be started", program.display());
        let cannot = |error: io::Error| UpgradeError::Failed(format!("{what}: {error}"));
        // This thread alone starts processes: nothing else inherits it.
        rustix::io::fcntl_setfd(theirs, FdFlags::empty()).map_err(|e| cannot(e.into()))?;
        let mut command = Command::new(program);
        std::os::unix::process::CommandExt::arg0(&mut command, &self.relaunch.name);
        command.args(&self.relaunch.args);
        command.env(CHANNEL_VARIABLE, theirs.as_raw_fd().to_string());
        for name in OWN_VARIABLES {
            command.env_remove(name);
        }
        command.spawn().map_err(cannot)
    }

    /// The conversation; the version of the new program and the places it declined.
    fn lead(
        &self,
        channel: &Channel,
        sockets: &[Socket],
        child: &mut Child,
    ) -> Result<(String, HashSet<usize>), UpgradeError> {
        let deadline = Instant::now() + self.relaunch.within;
        self.tell(channel, sockets, deadline)
            .map_err(|error| self.why_not(channel, child, error))?;
        let mut declined = HashSet::new();
        let version = loop {
            match self.hear(channel, child, deadline, Leave::ToCallOff)? {
                FromNew::Declined { places } => declined.extend(places),
                FromNew::Prepared { version, .. } => break version,
                FromNew::Refused { reasons, .. } => return Err(UpgradeError::Refused(reasons)),
                FromNew::Accepting => return Err(out_of_turn()),
            }
        };
        let sent = channel.send(&FromOld::Go, &[], LOOK_EVERY);
        sent.map_err(failed("the new process is gone"))?;
        // From here on it may have connections, which are not cut: a drain is passed on to it.
        let deadline = Instant::now() + ACCEPT_WITHIN;
        match self.hear(channel, child, deadline, Leave::None)? {
            FromNew::Accepting => Ok((version, declined)),
            FromNew::Refused { reasons, .. } => Err(UpgradeError::Refused(reasons)),
            FromNew::Declined { .. } | FromNew::Prepared { .. } => Err(out_of_turn()),
        }
    }

    fn tell(&self, channel: &Channel, sockets: &[Socket], deadline: Instant) -> io::Result<()> {
        let left = || {
            deadline
                .saturating_duration_since(Instant::now())
                .max(LOOK_EVERY)
        };
        let manifest = FromOld::Manifest(Manifest {
            protocol: PROTOCOL,
            version: self.version.to_owned(),
            sockets: sockets.len(),
            asked: self.asked.len(),
            prepared_within_ms: u64::try_from(left().as_millis()).unwrap_or(u64::MAX),
        });
        self.say(channel, &manifest, &[], deadline)?;
        for batch in self.asked.chunks(ASKED_MAX) {
            let entries = batch.to_vec();
            self.say(channel, &FromOld::Asked { entries }, &[], deadline)?;
        }
        for batch in sockets.chunks(FDS_MAX) {
            let entries = batch.iter().map(|one| one.entry.clone()).collect();
            let fds: Vec<BorrowedFd<'_>> = batch.iter().map(|one| one.fd.as_fd()).collect();
            self.say(channel, &FromOld::Sockets { entries }, &fds, deadline)?;
        }
        Ok(())
    }

    /// Sends when there is room, unless that takes too long or is wanted no more.
    fn say(
        &self,
        channel: &Channel,
        message: &FromOld,
        fds: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> io::Result<()> {
        loop {
            match channel.send(message, fds, LOOK_EVERY) {
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock
                        && Instant::now() < deadline
                        && !self.is_off.load(Ordering::Acquire) => {}
                result => return result,
            }
        }
    }

    /// The next message, unless it takes too long, or is wanted no more and may be called off.
    fn hear(
        &self,
        channel: &Channel,
        child: &mut Child,
        deadline: Instant,
        leave: Leave,
    ) -> Result<FromNew, UpgradeError> {
        loop {
            if leave == Leave::ToCallOff && self.is_off.load(Ordering::Acquire) {
                let text = "a drain began; the new process was ended";
                return Err(UpgradeError::Failed(text.into()));
            }
            match channel.receive(LOOK_EVERY) {
                Ok((message, _)) => return Ok(message),
                Err(ReceiveError::Silent) if Instant::now() < deadline => {}
                Err(ReceiveError::Silent) => {
                    return Err(UpgradeError::Failed(format!(
                        "the new process was not prepared within {} s and was killed",
                        self.relaunch.within.as_secs_f64()
                    )));
                }
                Err(ReceiveError::Gone | ReceiveError::Reset) => return Err(end_of(child)),
                Err(error @ (ReceiveError::Unknown(_) | ReceiveError::Io(_))) => {
                    return Err(UpgradeError::Failed(error.to_string()));
                }
            }
        }
    }

    /// What the new process said before it closed its end, or how it ended.
    fn why_not(&self, channel: &Channel, child: &mut Child, error: io::Error) -> UpgradeError {
        match channel.receive(LOOK_EVERY) {
            Ok((FromNew::Refused { reasons, .. }, _)) => UpgradeError::Refused(reasons),
            Err(ReceiveError::Gone | ReceiveError::Reset) => end_of(child),
            Ok(_) | Err(_) => UpgradeError::Failed(format!("the sockets cannot be sent: {error}")),
        }
    }
}

/// How the process ended that has closed its end of the channel.
fn end_of(child: &mut Child) -> UpgradeError {
    let deadline = Instant::now() + END_WITHIN;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break format!("ended ({status})"),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(LOOK_EVERY / 10),
            Ok(None) | Err(_) => break "closed its channel".to_owned(),
        }
    };
    UpgradeError::Failed(format!(
        "the new process {status} before it was prepared and gave no reason; its messages are in the \
         log"
    ))
}

fn out_of_turn() -> UpgradeError {
    UpgradeError::Failed("the new process answers out of turn".into())
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> UpgradeError {
    move |error| UpgradeError::Failed(format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt() -> Attempt {
        Attempt {
            relaunch: Relaunch::of_process(Duration::from_secs(20)).unwrap(),
            version: "",
            workers: Vec::new(),
            known: HashMap::new(),
            asked: Vec::new(),
            admin: None,
            files: Vec::new(),
            managers: HashSet::new(),
            is_off: Arc::default(),
        }
    }

    fn prepared() -> FromNew {
        FromNew::Prepared {
            protocol: PROTOCOL,
            version: "new".to_owned(),
        }
    }

    /// The end of the conversation when a drain begins before or after the go.
    fn ended_by_a_drain(is_before_the_go: bool) -> Result<(String, HashSet<usize>), UpgradeError> {
        let attempt = attempt();
        let (channel, theirs) = Channel::pair().unwrap();
        let theirs = Channel::of(theirs).unwrap();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let patience = Duration::from_secs(20);
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                theirs.receive::<FromOld>(patience).unwrap();
                if is_before_the_go {
                    attempt.is_off.store(true, Ordering::Release);
                    return;
                }
                theirs.send(&prepared(), &[], patience).unwrap();
                theirs.receive::<FromOld>(patience).unwrap();
                attempt.is_off.store(true, Ordering::Release);
                // Longer than from one look at whether it is wanted to the next.
                std::thread::sleep(3 * LOOK_EVERY);
                // Nobody hears it who has given up.
                let _ = theirs.send(&FromNew::Accepting, &[], patience);
            });
            attempt.lead(&channel, &[], &mut child)
        });
        child.kill().unwrap();
        child.wait().unwrap();
        result
    }

    #[test]
    fn a_process_that_may_have_connections_is_not_ended_by_a_drain() {
        assert_eq!(ended_by_a_drain(false).unwrap().0, "new");
        let error = ended_by_a_drain(true).unwrap_err().to_string();
        assert!(error.contains("a drain began"), "{error}");
    }
}
