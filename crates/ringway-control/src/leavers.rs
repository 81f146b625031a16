//! The end of workers that a reload has asked to leave, while the others go on.
//!
//! A worker tells when it has nothing left; it ends when it is told to, which happens only while no reload is
//! under way that might have it serve again. Invariant: what it counted and recorded is kept under its number.

use std::time::Duration;

use ringway_worker::{Ended, Message};
use tracing::{info, warn};

use crate::error::RunError;
use crate::instance::{Left, WorkerStage, lock};
use crate::limits::of_process;
use crate::posts::Duty;
use crate::start::demand;
use crate::supervise::{Stage, Supervisor};

impl Supervisor {
    /// A worker that was asked to leave has nothing left.
    pub(crate) fn on_vacated(&mut self, number: u16) {
        let view = self.instance.view();
        let mut running = view.running();
        if let Some(post) = running.find(|post| post.worker.index == number)
            && post.duty == Duty::Leaves
            && post.worker.stage() == WorkerStage::Working
        {
            post.worker.set_stage(WorkerStage::Vacant);
            self.dismiss_vacant();
        }
    }

    /// Ends those that have nothing left, unless a reload may want them back.
    pub(crate) fn dismiss_vacant(&mut self) {
        if !self.reloads.is_idle() {
            return;
        }
        let view = self.instance.view();
        let is_vacant = |stage| stage == WorkerStage::Vacant;
        for post in view.running().filter(|post| is_vacant(post.worker.stage())) {
            post.worker.set_stage(WorkerStage::Dismissed);
            post.worker.send(Message::Drain {
                window: Duration::ZERO,
            });
        }
    }

    /// A worker's thread has come to its end.
    pub(crate) fn on_worker_ended(&mut self, ended: Ended, stage: Stage) -> Result<(), RunError> {
        let Ended {
            worker,
            result,
            histograms,
            cpu_time,
        } = ended;
        let Some(handle) = self.crew.remove(worker) else {
            // It was started for a reload that was refused.
            if let Err(error) = result {
                warn!(%error, "a worker that had not begun has ended");
            }
            return Ok(());
        };
        result?;
        handle.join();
        let view = self.instance.view();
        let mut posts = view.posts.iter();
        let post = posts.find(|post| post.worker.index == worker);
        let was_dismissed = post.is_some_and(|post| post.worker.stage() == WorkerStage::Dismissed);
        let before = post.map_or(0, |post| post.worker.cpu_nanos_before);
        let left = Left {
            histograms,
            cpu_nanos: before + u64::try_from(cpu_time.as_nanos()).unwrap_or(0),
        };
        lock(&self.instance.left).insert(worker, left);
        if let Some(post) = post {
            post.worker.set_stage(WorkerStage::Ended);
        }
        if matches!(stage, Stage::Draining { .. }) {
            return Ok(());
        }
        if !was_dismissed {
            return Err(RunError::WorkerEnded(worker));
        }
        self.instance.board.dismiss(worker);
        let (topology, history) = (view.topology(), &self.instance.history);
        self.ejections.forget_worker(worker, topology, history);
        info!(worker, "a worker has left");
        self.divide_anew();
        Ok(())
    }

    /// What one worker had is the others' now.
    fn divide_anew(&mut self) {
        let view = self.instance.view();
        let limits = of_process(demand(&view.config, view.running().count()));
        self.instance.connections.set_most(limits.connections_max);
        self.memory.follow(limits.workers);
        for handle in self.crew.handles() {
            handle.send(Message::Share(limits.share()));
        }
    }
}
