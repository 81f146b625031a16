//! What the supervisor does about upgrades: at most one at a time, none while it drains, and the drain
//! that follows one that has succeeded.
//!
//! There is none while a reload is under way, which takes a moment: whoever asks is told so. A reload that
//! a signal asks for meanwhile comes after one that fails, and is the new process's after one that
//! succeeds. Invariant: whoever asked gets exactly one answer, and the log has it too.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::outcome::{Outcome, UpgradeError, Upgraded};
use super::predecessor::{Attempt, Handed, Known};
use super::relaunch::Relaunch;
use crate::error::StartError;
use crate::instance::View;
use crate::sockets::fingerprint;
use crate::supervise::{Event, Stage, Supervisor, Upgrading};

const FIRST_PROCESS: &str = "this process is PID 1, and the container ends with it: replace the \
    container, or run ringway below a process that adopts children and stays";
const EMBEDDED: &str = "this balancer is part of another program, which would have to be replaced";

type Reply = Option<oneshot::Sender<Outcome>>;

impl Supervisor {
    pub(crate) fn start_upgrade(&mut self, stage: Stage, reply: Reply) {
        let reply = match self.relaunch_now(stage) {
            Ok(relaunch) => match self.attempt(relaunch) {
                Ok(is_off) => {
                    self.upgrading = Some(Upgrading { is_off, reply });
                    return;
                }
                Err(error) => (reply, UpgradeError::Failed(error.to_string())),
            },
            Err(error) => (reply, error),
        };
        let (reply, error) = reply;
        warn!(%error, "no upgrade");
        answer(reply, Err(error));
    }

    /// Whether there may be an upgrade now.
    fn relaunch_now(&self, stage: Stage) -> Result<Relaunch, UpgradeError> {
        let relaunch = self.relaunch.clone();
        let relaunch = relaunch.ok_or(UpgradeError::Unsupported(EMBEDDED))?;
        if rustix::process::getpid().is_init() {
            return Err(UpgradeError::Unsupported(FIRST_PROCESS));
        }
        if self.upgrading.is_some() {
            return Err(UpgradeError::Busy("another upgrade is under way"));
        }
        if !self.reloads.is_idle() {
            return Err(UpgradeError::Busy("a reload is under way"));
        }
        match stage {
            Stage::Serving => Ok(relaunch),
            Stage::Leaving { .. } | Stage::Draining { .. } => {
                Err(UpgradeError::Busy("this process is draining"))
            }
        }
    }

    /// Starts the attempt on a thread of its own; with what it is called off.
    fn attempt(&self, relaunch: Relaunch) -> Result<Arc<AtomicBool>, StartError> {
        let instance = &self.instance;
        // Whoever leaves has no socket any more.
        let view = instance.view();
        let serving = view.serving();
        let is_off = Arc::new(AtomicBool::new(false));
        let file = |file: &crate::unix_path::SocketFile| {
            let address = format!("unix:{}", file.path().display());
            (address, file.identity())
        };
        let admin = self.admin.as_ref().map(|admin| admin.lend()).transpose();
        let attempt = Attempt {
            relaunch,
            version: instance.version,
            workers: serving.filter_map(|post| post.worker.mailbox()).collect(),
            known: known_sockets(&instance.view()),
            asked: instance.view().overrides.tell(),
            admin: admin.map_err(thread_error)?,
            files: self.files.iter().map(file).collect(),
            managers: self.managers.clone(),
            is_off: Arc::clone(&is_off),
        };
        let events = instance.events.clone();
        let run = move || {
            // Nobody listens once the balancer has ended.
            let _ = events.send(Event::UpgradeEnded(attempt.run()));
        };
        let thread = std::thread::Builder::new().name("ringway-upgrade".to_owned());
        thread.spawn(run).map_err(thread_error)?;
        Ok(is_off)
    }

    pub(crate) fn end_upgrade(&mut self, stage: &mut Stage, result: Result<Handed, UpgradeError>) {
        let reply = self.upgrading.take().and_then(|upgrading| upgrading.reply);
        match result {
            Ok(handed) => {
                let upgraded = Upgraded {
                    pid: handed.pid,
                    version: handed.version.clone(),
                    adopted: handed.adopted.len(),
                    declined: handed.declined,
                };
                info!(
                    pid = upgraded.pid,
                    version = upgraded.version,
                    adopted = upgraded.adopted,
                    declined = upgraded.declined,
                    "upgraded: the new process accepts, this one drains"
                );
                self.hand_over(stage, &handed);
                if self.reloads.leave_to_another() {
                    signal(handed.pid, Signal::HUP);
                }
                answer(reply, Ok(upgraded));
            }
            Err(error) => {
                warn!(%error, "upgrade failed: this process serves as before");
                answer(reply, Err(error));
                self.begin_reload();
            }
        }
    }

    /// Leaves everything to the new process but the connections there are.
    fn hand_over(&mut self, stage: &mut Stage, handed: &Handed) {
        self.crew
            .share(handed.adopted.iter().map(|(cookie, _)| *cookie));
        let is_adopted = |file: &mut crate::unix_path::SocketFile| {
            let identity = Some(file.identity());
            handed
                .adopted
                .iter()
                .any(|(_, entry)| entry.file == identity)
        };
        for file in self.files.extract_if(.., is_adopted) {
            file.leave();
        }
        if let Some(admin) = &mut self.admin
            && handed
                .adopted
                .iter()
                .any(|(_, entry)| entry.bound == admin.address())
        {
            admin.hand_over();
        }
        self.notifier.main_pid(handed.pid);
        handed.yours();
        match stage {
            Stage::Serving => {
                let instance = &self.instance;
                instance.draining.store(true, Ordering::Relaxed);
                self.tell_drain(Instant::now() + instance.view().config.shutdown.drain);
                self.drain(stage);
            }
            // The end that was asked for meanwhile is meant for both.
            Stage::Leaving { .. } | Stage::Draining { .. } => {
                signal(handed.pid, Signal::TERM);
            }
        }
    }
}

/// What there is to say of each socket number.
fn known_sockets(view: &View) -> HashMap<u32, Known> {
    let listeners = view.config.listeners.iter().zip(&view.layout().socket_at);
    let known = listeners.flat_map(|(listener, numbers)| {
        let options = Some(fingerprint(&listener.tcp));
        let binds = listener.binds.iter().zip(numbers);
        binds.map(move |(bind, number)| {
            let known = Known {
                name: listener.name.clone(),
                configured: bind.to_string(),
                options,
            };
            ((*number).into(), known)
        })
    });
    known.collect()
}

/// To the new process. One that has ended meanwhile misses it.
fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

fn answer(reply: Reply, outcome: Outcome) {
    if let Some(reply) = reply {
        // Who has gone meanwhile finds it in the log.
        let _ = reply.send(outcome);
    }
}

fn thread_error(source: std::io::Error) -> StartError {
    StartError::System {
        what: "the upgrade could not be started",
        source,
    }
}
