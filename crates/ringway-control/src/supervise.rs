//! From the start of the admin endpoint to the end of the last worker.
//!
//! ```text
//!            drain asked for            delay over              all workers ended
//!  Serving ──────────────────► Leaving ────────────► Draining ─────────────────────► end
//!                                │                      │
//!                                └── second signal ─────┴── deadline + 1 s ──► error
//! ```
//!
//! It decides nothing about connections; the workers drain themselves. Invariant: from the moment a
//! drain was asked for, readiness is false, and the end comes after delay + drain + 1 s at the
//! latest.

use std::collections::HashSet;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringway_health::{Health, Transition};
use ringway_worker::{EjectionNotice, Ended};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tracing::field::display;
use tracing::{info, warn};

use crate::access_log::AccessLog;
use crate::admin::AdminSocket;
use crate::crew::Crew;
use crate::ejections::Ledger;
use crate::error::RunError;
use crate::history::History;
use crate::instance::Instance;
use crate::keepers::Keepers;
use crate::notify::{self, Notifier};
use crate::reload::{Asker, Prepared, Refusal, Reloads, Wish};
use crate::signals::{self, Request, SignalStream};
use crate::start::LevelSwitch;
use crate::strain::MemoryWatch;
use crate::unix_path::SocketFile;
use crate::upgrade::Relaunch;
use crate::upgrade::outcome::{Outcome, UpgradeError};
use crate::upgrade::predecessor::Handed;

/// How much later than asked the workers may end.
const GRACE: Duration = Duration::from_secs(1);
/// Between two accounts of a drain.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What other threads tell the control thread.
#[derive(Debug)]
pub(crate) enum Event {
    /// A worker's thread has ended.
    WorkerEnded(Box<Ended>),
    /// A worker that was asked to leave has nothing left to do.
    Vacated(u16),
    /// A backend's health changed; the workers know already.
    Transition {
        pool: String,
        backend: String,
        transition: Transition,
    },
    /// A worker has ejected a backend, or has it in use again.
    Ejection(EjectionNotice),
    /// A drain was asked for.
    Drain,
    /// A reload was asked for.
    Reload(Asker),
    /// That one of the preparations has ended: a reload can happen, or cannot.
    Prepared(u64, Box<Result<Prepared, Refusal>>),
    /// A worker runs the configuration it was given.
    Applied,
    /// An upgrade was asked for, by a client that waits or by a signal.
    Upgrade(Option<oneshot::Sender<Outcome>>),
    /// It has come to its end.
    UpgradeEnded(Result<Handed, UpgradeError>),
}

/// How far the end has come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    Serving,
    /// Not ready any more, but accepting.
    Leaving {
        until: Instant,
    },
    /// The workers are ending.
    Draining {
        until: Instant,
    },
}

/// Everything that has to be held, and ended in order. Fields are dropped from first to last.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(crate) keepers: Keepers,
    pub(crate) crew: Crew,
    pub(crate) instance: Arc<Instance>,
    pub(crate) ejections: Ledger,
    pub(crate) memory: MemoryWatch,
    pub(crate) events: UnboundedReceiver<Event>,
    pub(crate) signals: Option<SignalStream>,
    pub(crate) admin: Option<AdminSocket>,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) reloads: Reloads,
    pub(crate) log_level: Option<LevelSwitch>,
    /// Removed at the end, or when their listener is.
    pub(crate) files: Vec<SocketFile>,
    /// Cookies of sockets that the service manager holds, too.
    pub(crate) managers: HashSet<u64>,
    pub(crate) notifier: Arc<Notifier>,
    /// How to start a new process, where there may be one.
    pub(crate) relaunch: Option<Relaunch>,
    pub(crate) upgrading: Option<Upgrading>,
    /// Whether a signal has asked for the end; the next one does not wait for it.
    pub(crate) was_signalled: bool,
}

/// An upgrade under way.
#[derive(Debug)]
pub(crate) struct Upgrading {
    /// Set when it is wanted no more.
    pub(crate) is_off: Arc<AtomicBool>,
    /// Who waits for its end.
    pub(crate) reply: Option<oneshot::Sender<Outcome>>,
}

impl Supervisor {
    /// Inside the runtime.
    pub(crate) async fn run(&mut self) -> Result<(), RunError> {
        if let Some(admin) = &mut self.admin {
            admin.serve(Arc::clone(&self.instance));
        }
        tokio::spawn(notify::attend(
            Arc::clone(&self.notifier),
            Arc::clone(&self.instance),
        ));
        let result = self.watch().await;
        if result.is_err() {
            // Whatever still runs is cut, and what does not answer is left behind.
            self.crew.drain(Duration::ZERO);
            self.crew.abandon();
        } else if let Some(admin) = &self.admin {
            // Who asked for the end is told before it comes.
            let _ = tokio::time::timeout(GRACE, admin.answered()).await;
        }
        if let Some(log) = &mut self.access_log {
            log.finish();
        }
        result
    }

    async fn watch(&mut self) -> Result<(), RunError> {
        let mut stage = Stage::Serving;
        // An upgrade that was called off ends its process first, and tells who asked.
        while self.crew.len() > 0 || self.upgrading.is_some() {
            tokio::select! {
                Some(event) = self.events.recv() => match event {
                    Event::WorkerEnded(ended) => self.on_worker_ended(*ended, stage)?,
                    Event::Vacated(number) => self.on_vacated(number),
                    Event::Transition { pool, backend, transition } => {
                        tell_transition(&self.instance.history, &pool, &backend, transition);
                    }
                    Event::Ejection(notice) => {
                        let Instance { history, .. } = &*self.instance;
                        let view = self.instance.view();
                        self.ejections.tell(&notice, view.topology(), history);
                    }
                    Event::Drain => self.leave(&mut stage),
                    Event::Reload(asker) => self.reload(asker),
                    Event::Prepared(number, prepared) => self.on_prepared(number, *prepared),
                    Event::Applied => self.on_applied(),
                    Event::Upgrade(reply) => self.start_upgrade(stage, reply),
                    Event::UpgradeEnded(result) => self.end_upgrade(&mut stage, result),
                },
                request = signals::next(&mut self.signals) => {
                    self.on_signal(request, &mut stage)?;
                }
                () = end_of(stage) => self.advance(&mut stage)?,
                () = at(self.reloads.answer_at()) => self.on_slow_reload(),
                () = at(self.memory.look_at()) => self.look_at_memory(),
            }
        }
        info!("all workers have ended");
        Ok(())
    }

    fn on_signal(&mut self, request: Request, stage: &mut Stage) -> Result<(), RunError> {
        match request {
            Request::End if std::mem::replace(&mut self.was_signalled, true) => {
                return Err(RunError::SecondSignal);
            }
            // The first of both, although others may have begun the drain: an upgrade, or a request.
            Request::End => match stage {
                Stage::Serving => self.leave(stage),
                Stage::Leaving { .. } | Stage::Draining { .. } => {
                    let connections = self.instance.connections.open();
                    info!(
                        connections,
                        "a signal: the drain goes on; another one ends it at once"
                    );
                }
            },
            Request::Reload => self.reload(Asker {
                who: "SIGHUP",
                wish: Wish::File,
                reply: None,
            }),
            Request::Upgrade => self.start_upgrade(*stage, None),
            Request::ReopenLogs => {
                if let Some(log) = &self.access_log {
                    log.reopen();
                }
            }
        }
        Ok(())
    }

    fn leave(&mut self, stage: &mut Stage) {
        if !matches!(stage, Stage::Serving) {
            return;
        }
        self.instance.draining.store(true, Ordering::Relaxed);
        let shutdown = self.instance.view().config.shutdown;
        info!(
            delay_seconds = shutdown.delay.as_secs_f64(),
            drain_seconds = shutdown.drain.as_secs_f64(),
            connections = self.instance.connections.open(),
            "draining"
        );
        if let Some(upgrading) = &self.upgrading {
            upgrading.is_off.store(true, Ordering::Release);
        }
        let until = Instant::now() + shutdown.delay;
        self.tell_drain(until + shutdown.drain);
        self.notifier.stopping("draining");
        *stage = Stage::Leaving { until };
    }

    fn advance(&mut self, stage: &mut Stage) -> Result<(), RunError> {
        match stage {
            Stage::Serving => Ok(()),
            Stage::Leaving { .. } => {
                self.drain(stage);
                Ok(())
            }
            Stage::Draining { .. } => Err(RunError::WorkersLeft(self.crew.len())),
        }
    }

    pub(crate) fn drain(&mut self, stage: &mut Stage) {
        let window = self.instance.view().config.shutdown.drain;
        self.crew.drain(window);
        self.keepers.stop();
        *stage = Stage::Draining {
            until: Instant::now() + window + GRACE,
        };
    }

    /// Lets the status and the service manager know how the drain goes on.
    pub(crate) fn tell_drain(&self, until: Instant) {
        // Only the first one counts: it cannot be prolonged.
        let _ = self.instance.drained_by.set(until);
        let (notifier, instance) = (Arc::clone(&self.notifier), Arc::clone(&self.instance));
        tokio::spawn(async move {
            loop {
                let left = until.saturating_duration_since(Instant::now()).as_secs();
                let open = instance.connections.open();
                notifier.status(&format!("draining: {open} connections, {left} s left"));
                tokio::time::sleep(TELL_EVERY).await;
            }
        });
    }
}

fn tell_transition(history: &History, pool: &str, backend: &str, transition: Transition) {
    let reason = transition.reason.as_label();
    let (from, to) = (transition.from.as_label(), transition.to.as_label());
    let got = transition.reason.got().map(display);
    // A thousand that are found up at the start would leave no room for what happens.
    if (transition.from, transition.to) != (Health::Unknown, Health::Up) {
        history.note(pool, backend, to, reason);
    }
    match transition.to {
        Health::Unknown | Health::Up => info!(pool, backend, from, to, reason, got, "health"),
        Health::Down => warn!(pool, backend, from, to, reason, got, "health"),
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => pending().await,
    }
}

async fn end_of(stage: Stage) {
    match stage {
        Stage::Serving => pending().await,
        Stage::Leaving { until } | Stage::Draining { until } => {
            tokio::time::sleep_until(until.into()).await;
        }
    }
}
