//! Starting a worker: at the start of the process, or because a reload wants one more.

use std::hash::{BuildHasher, Hasher, RandomState};

use ringway_metrics::{WorkerBlocks, WorkerHistograms};
use ringway_worker::{AccessQueue, Ended, Opening, WorkerHandle};
use tokio::sync::mpsc::UnboundedSender;

use crate::ejections::Notices;
use crate::error::StartError;
use crate::plan::{Own, Plan};
use crate::supervise::Event;

/// What a worker begins with.
#[derive(Debug)]
pub(crate) struct Equipment {
    pub(crate) number: u16,
    pub(crate) cpu: usize,
    /// By address, in the order of the listeners.
    pub(crate) sockets: Vec<Vec<std::os::fd::OwnedFd>>,
    pub(crate) blocks: WorkerBlocks,
    pub(crate) histograms: WorkerHistograms,
    pub(crate) access: Option<AccessQueue>,
}

/// Starts one; on an error its sockets are closed.
pub(crate) fn hire(
    plan: &Plan,
    opening: Opening,
    equipment: Equipment,
    events: &UnboundedSender<Event>,
) -> Result<WorkerHandle, StartError> {
    let Equipment {
        number,
        cpu,
        sockets,
        blocks,
        histograms,
        access,
    } = equipment;
    let own = Own {
        index: number,
        cpu,
        seed: seed(),
        opening,
        sockets,
        blocks,
        histograms,
        access,
        notices: Box::new(Notices {
            events: events.clone(),
        }),
    };
    let events = events.clone();
    let on_end = move |ended: Ended| {
        // Nobody listens when the balancer was dropped.
        let _ = events.send(Event::WorkerEnded(Box::new(ended)));
    };
    ringway_worker::start(plan.worker_spec(own), on_end).map_err(|source| StartError::Worker {
        index: number,
        source,
    })
}

/// A number that differs from call to call and from process to process: the keys of the standard
/// library's hash tables come from the kernel's random source.
pub(crate) fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
