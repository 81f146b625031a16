//! Reloads: one at a time, from the request to the answer.
//!
//! ```text
//!        asked        prepared, off this thread      every worker has told that it runs it
//!  Idle ──────► Preparing ──────────────────► Applying ────────────────────────────────────► Idle
//!    ▲              │ refused, or the file does   │
//!    └──────────────┘ not answer: nothing changed └── too slow: answered so, and waited for on
//! ```
//!
//! Whoever asks while one is under way is answered by the next, which reads the file anew: many at once
//! cost two. Preparing is where everything that can fail fails (`reload/prepare.rs`); from then on there
//! is nothing to undo. While an upgrade is under way requests are refused, and those of signals wait for
//! its end (`upgrade/command.rs`). Invariant: a request is answered once, and with a success only when every worker
//! runs what the file said after the request came.

mod listening;
mod prepare;
mod queue;
mod refusal;
mod staff;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_balance::AdminState;
use ringway_config::Change;
use ringway_metrics::ReloadResult;
use ringway_uring::give_back_freed;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::access_log::AccessLog;
use crate::clock::unix_millis;
use crate::instance::{View, lock};
use crate::sockets::Detour;
use crate::supervise::{Event, Supervisor};

pub(crate) use prepare::{LogChange, Prepared};
use prepare::{Means, prepare, prepare_backend};
pub(crate) use queue::{Asker, GIVEN_UP_MAX, Outcome, Reloads, Wish};
use queue::{PREPARE_WITHIN, Stage};
pub(crate) use refusal::{Refusal, RefusalKind};
use refusal::{draining, stuck, unacceptable, unread, upgrading, without_file};
use staff::Orders;

/// How long workers have to run a configuration until whoever asked is told that they do not.
const APPLY_WITHIN: Duration = Duration::from_secs(4);
/// Where too many wait for the file already.
const STILL_UNREAD: &str =
    "still does not answer, and is not read again until its file system does";
/// What the service manager is told of one that changed nothing.
const REFUSED: &str = "; the last reload was refused";
/// Changes that are logged one by one at most.
const LOGGED_MAX: usize = 100;

impl Supervisor {
    /// Somebody asks.
    pub(crate) fn reload(&mut self, asker: Asker) {
        let is_upgrading = self.upgrading.is_some() && !self.instance.is_draining();
        if is_upgrading && asker.reply.is_some() {
            return self.answer_all(vec![asker], &Err(upgrading()));
        }
        self.reloads.waiting.push(asker);
        if is_upgrading {
            return;
        }
        match &self.reloads.stage {
            Stage::Idle => self.begin_reload(),
            Stage::Applying {
                answer_at: None, ..
            } => self.refuse_waiting(),
            Stage::Preparing { .. } | Stage::Applying { .. } => {}
        }
    }

    /// Starts what is waited for, if anything is.
    pub(crate) fn begin_reload(&mut self) {
        if self.instance.is_draining() {
            let waiting = std::mem::take(&mut self.reloads.waiting);
            return self.answer_all(waiting, &Err(draining()));
        }
        let held_up = self.reloads.held_up();
        self.answer_all(held_up, &Err(unread(STILL_UNREAD)));
        let Some((wish, askers)) = self.reloads.next() else {
            // The next reload may be on another thread, whose allocator keeps as much again.
            tokio::task::spawn_blocking(give_back_freed);
            return self.dismiss_vacant();
        };
        // A manager that has sent the signal waits for a beginning and an end, whatever comes of it.
        if wish == Wish::File {
            self.notifier.reloading();
        }
        let path = self.reloads.path.clone();
        let (number, turn) = self.reloads.prepare(&wish, askers);
        let events = self.instance.events.clone();
        let means = Means {
            before: self.instance.view(),
            instance: Arc::clone(&self.instance),
            managers: self.managers.clone(),
            turn,
        };
        // A large file, a slow disk or a host name must not keep this thread from its signals.
        tokio::task::spawn_blocking(move || {
            let prepared = match (wish, path) {
                (Wish::File, Some(path)) => prepare(&path, &means),
                (Wish::File, None) => Err(without_file()),
                (Wish::Backend(change), _) => prepare_backend(&change, &means),
            };
            let _ = events.send(Event::Prepared(number, Box::new(prepared)));
        });
    }

    /// Everything that can fail has been tried.
    pub(crate) fn on_prepared(&mut self, number: u64, prepared: Result<Prepared, Refusal>) {
        let Some(askers) = self.reloads.prepared(number) else {
            // What it found is as old as the question.
            info!("the file of a reload that was given up has answered");
            if self.reloads.is_idle() && self.upgrading.is_none() {
                self.begin_reload();
            }
            return;
        };
        let ready = prepared.and_then(|mut prepared| {
            if self.instance.is_draining() {
                return Err(draining());
            }
            let engaged = self.engage(&mut prepared);
            engaged.map_err(|error| unacceptable(error.to_string()))?;
            Ok(prepared)
        });
        match ready {
            Ok(prepared) if prepared.is_idle() => {
                let is_of_file = is_of_file(&askers);
                self.succeed(askers, is_of_file, &[], Duration::ZERO);
                self.begin_reload();
            }
            Ok(prepared) => self.apply(prepared, askers),
            Err(refusal) => {
                if is_of_file(&askers) {
                    self.instance.control.reloads[ReloadResult::Failure].increment();
                    self.tell_reloaded(REFUSED);
                }
                self.answer_all(askers, &Err(refusal));
                self.begin_reload();
            }
        }
    }

    /// From here on it happens.
    fn apply(&mut self, prepared: Prepared, askers: Vec<Asker>) {
        let Prepared {
            view,
            before,
            changes,
            postings,
            sockets,
            hired,
            last_steps: _,
            detours,
            shared,
            files,
            gone_files,
            log,
            limits,
        } = prepared;
        let view = Arc::new(view);
        view.plan.commit_limits(&view.config, &limits);
        self.memory.follow(limits.workers);
        // Nobody is to find the way to a socket that is about to close.
        self.files
            .retain(|file| !gone_files.iter().any(|gone| gone == file.path()));
        self.files.extend(files);
        self.forget_ejections(&view);
        let now = view.plan.epoch.elapsed();
        self.instance.board.follow(&view.config, view.layout(), now);
        self.instance.show(Arc::clone(&view));
        let (ended_log, queues) = self.change_log(log, postings.len());
        let orders = Orders {
            postings,
            sockets,
            hired,
            shared,
            queues,
        };
        // Before those who leave turn newcomers away.
        let detours = detours.into_iter().filter_map(Detour::open).collect();
        let left = self.give_orders(orders, &view, &before);
        let begun = Instant::now();
        self.reloads.stage = Stage::Applying {
            is_of_file: is_of_file(&askers),
            askers,
            begun,
            left,
            changes,
            detours,
            ended_log,
            answer_at: Some(begun + APPLY_WITHIN),
        };
    }

    /// The log that ends, if one does, and the queues of the workers where they change.
    fn change_log(
        &mut self,
        change: LogChange,
        workers: usize,
    ) -> (
        Option<AccessLog>,
        Option<Vec<Option<ringway_worker::AccessQueue>>>,
    ) {
        let (ended, queues) = match change {
            LogChange::Keep => return (None, None),
            LogChange::Move(target) => {
                if let Some(log) = &self.access_log {
                    log.move_to(target);
                }
                return (None, None);
            }
            LogChange::Begin(log, queues) => (self.access_log.replace(log), queues),
            LogChange::End => {
                let queues = (0..workers).map(|_| None).collect();
                (self.access_log.take(), queues)
            }
        };
        let state = self.access_log.as_ref().map(AccessLog::state);
        *lock(&self.instance.access_log) = state;
        (ended, Some(queues))
    }

    /// Nobody tells any more of ejections of what has left or rests, or is not ejected any longer.
    fn forget_ejections(&mut self, view: &View) {
        let layout = view.layout();
        let offered = |pool: u16, backend: u16| {
            let own = layout.pool_at.iter().position(|at| *at == pool);
            own.is_some_and(|own| {
                let pool = &view.config.pools[own];
                let at = layout.backend_at[own].iter().position(|at| *at == backend);
                let rests = |at: usize| pool.backends[at].state == AdminState::Maintenance;
                pool.outlier.is_some() && at.is_some_and(|at| !rests(at))
            })
        };
        self.ejections.retain(offered);
    }

    /// One worker runs it.
    pub(crate) fn on_applied(&mut self) {
        let Stage::Applying { left, .. } = &mut self.reloads.stage else {
            return;
        };
        *left -= 1;
        if *left > 0 {
            return;
        }
        let stage = std::mem::replace(&mut self.reloads.stage, Stage::Idle);
        if let Stage::Applying {
            askers,
            is_of_file,
            begun,
            changes,
            detours,
            ended_log,
            ..
        } = stage
        {
            drop(detours);
            if let Some(mut log) = ended_log {
                // It may wait for a slow disk.
                tokio::task::spawn_blocking(move || log.finish());
            }
            let view = self.instance.view();
            if !self.instance.is_draining() {
                let board = &self.instance.board;
                let serving: Vec<u16> = view.serving().map(|post| post.worker.index).collect();
                self.keepers
                    .assign(&view.config, view.layout(), board, &serving);
            }
            if let Some(level) = &self.log_level {
                (level.0)(view.config.log.level);
            }
            self.succeed(askers, is_of_file, &changes, begun.elapsed());
        }
        self.begin_reload();
    }

    /// What is under way takes too long; whoever asked is not kept.
    pub(crate) fn on_slow_reload(&mut self) {
        match &mut self.reloads.stage {
            Stage::Idle => {}
            // What is past waiting for files comes to an end by itself.
            Stage::Preparing {
                turn, answer_at, ..
            } => match turn.take() {
                true => self.give_up_file(),
                false => *answer_at = None,
            },
            // Workers are waited for.
            Stage::Applying {
                askers, answer_at, ..
            } => {
                *answer_at = None;
                let askers = std::mem::take(askers);
                self.answer_all(askers, &stuck("it runs the new configuration when it does"));
                self.refuse_waiting();
            }
        }
    }

    /// The file does not answer. Nothing was changed, and what needs no file goes on.
    fn give_up_file(&mut self) {
        let within = PREPARE_WITHIN.as_secs();
        let refusal = unread(&format!("has not answered for {within} s"));
        error!(error = %refusal.error, "reload");
        self.instance.control.reloads[ReloadResult::Failure].increment();
        self.tell_reloaded(REFUSED);
        let askers = self.reloads.give_up();
        self.answer_all(askers, &Err(refusal));
        self.begin_reload();
    }

    /// Nobody is kept by workers that do not answer. What a signal asks for comes when they do: one of
    /// several stands for all.
    fn refuse_waiting(&mut self) {
        let waiting = &mut self.reloads.waiting;
        let refused = waiting.extract_if(.., |asker| asker.reply.is_some());
        let refused = refused.collect();
        waiting.truncate(1);
        self.answer_all(refused, &stuck("nothing more is changed until it does"));
    }

    fn succeed(&self, askers: Vec<Asker>, is_of_file: bool, changes: &[Change], took: Duration) {
        if is_of_file {
            let control = &self.instance.control;
            control.reloads[ReloadResult::Success].increment();
            control.last_reload_success_unix_millis.set(unix_millis());
        }
        let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
        for line in lines.iter().take(LOGGED_MAX) {
            info!(change = line, "reload");
        }
        let who = askers.first().map_or("nobody", |asker| asker.who);
        let seconds = took.as_secs_f64();
        info!(
            who,
            changes = lines.len(),
            seconds,
            "configuration reloaded"
        );
        if is_of_file {
            self.tell_reloaded("");
        }
        self.answer_all(askers, &Ok(lines));
    }

    /// The service manager that was told of a reload hears of its end, unless it hears of ours.
    fn tell_reloaded(&self, more: &str) {
        if !self.instance.is_draining() {
            let summary = self.instance.summary();
            self.notifier.reloaded(&format!("{summary}{more}"));
        }
    }

    fn answer_all(&self, askers: Vec<Asker>, outcome: &Outcome) {
        if let (Err(refusal), Some(Asker { who, .. })) = (outcome, askers.first()) {
            let Refusal {
                kind,
                error,
                detail,
            } = refusal;
            match kind {
                RefusalKind::Unacceptable
                | RefusalKind::NotThere
                | RefusalKind::Draining
                | RefusalKind::Upgrading
                | RefusalKind::Unread => {
                    warn!(who, %error, "refused: nothing is changed");
                }
                RefusalKind::Stuck => error!(who, %error, "reload"),
            }
            for line in detail.iter().take(LOGGED_MAX) {
                warn!(%line, "reload refused");
            }
        }
        for reply in askers.into_iter().filter_map(|asker| asker.reply) {
            // One that went away needs no answer.
            let _ = reply.send(outcome.clone());
        }
    }
}

/// Whether they wait for the file.
fn is_of_file(askers: &[Asker]) -> bool {
    askers.iter().any(|asker| asker.wish == Wish::File)
}

/// Asks on behalf of somebody who waits for the answer.
pub(crate) async fn ask(
    events: &tokio::sync::mpsc::UnboundedSender<Event>,
    who: &'static str,
    wish: Wish,
) -> Outcome {
    let (reply, answer) = oneshot::channel();
    let asker = Asker {
        who,
        wish,
        reply: Some(reply),
    };
    let _ = events.send(Event::Reload(asker));
    answer.await.unwrap_or_else(|_| Err(draining()))
}
