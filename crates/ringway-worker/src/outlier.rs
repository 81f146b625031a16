//! What this worker's own connects say of its backends, on the way from the ring to the choice of the next one.
//!
//! It decides nothing: [`ringway_health::Outliers`] does, and [`ringway_balance::Pool`] chooses. Nothing of this
//! runs per message. Invariant: the pool, the gauges and whoever was told agree with the state machine.

use std::fmt;
use std::time::Duration;

use ringway_balance::BackendIndex;
use ringway_flow::Moment;
use ringway_health::{BreakerState, Change, Outliers};
use ringway_uring::Errno;

use crate::worker::{Worker, WorkerPool};

/// Ejections that time alone changes in one turn at most; what is left is due in the next.
const CHANGES_PER_TURN: usize = 16;

/// A worker has ejected a backend, or has it in use again.
#[derive(Clone, Copy, Debug)]
pub struct EjectionNotice {
    /// The worker.
    pub worker: u16,
    /// Index of the pool.
    pub pool: u16,
    /// The backend in it.
    pub backend: BackendIndex,
    /// What changed.
    pub change: Change,
}

/// Who is told, since a worker does not log. Called on the worker's thread: an implementation queues and returns.
pub trait NoticeSink: fmt::Debug + Send {
    /// A worker's ejection of a backend changed.
    fn on_ejection(&self, notice: EjectionNotice);
}

impl WorkerPool {
    /// Whether a backend is out, and whether it is half open.
    pub(crate) fn breaker_gauges(&self, backend: BackendIndex) -> (bool, bool) {
        let state = self.outliers.as_ref().map(|o| o.state(backend.as_usize()));
        match state {
            None | Some(BreakerState::Closed) => (false, false),
            Some(BreakerState::Ejected) => (true, false),
            Some(BreakerState::HalfOpen | BreakerState::Trying) => (false, true),
        }
    }
}

impl Worker {
    /// The connection in `slot` begins to connect to the backend.
    pub(crate) fn begin_attempt(&mut self, slot: u32, pool: usize, backend: BackendIndex) {
        let id = self.connection_id(slot);
        self.eject_by(pool, backend, |outliers, at| outliers.on_attempt(at, id));
    }

    /// Its connect ended so. An attempt that was given up because the client left says nothing.
    pub(crate) fn judge_attempt(&mut self, slot: u32, result: Result<(), Errno>) {
        let held = self.slots.get(slot);
        let Some(backend) = held.backend else { return };
        let pool = usize::from(self.routes[usize::from(held.route)].pool);
        let place = &self.pools[pool];
        // One that was taken out of the pool or of use meanwhile is none to be ejected.
        if place.outliers.is_none() || !place.backends[backend.as_usize()].is_in_use() {
            return;
        }
        match result {
            Ok(()) => self.eject_by(pool, backend, |outliers, at| outliers.on_success(at)),
            Err(_) if held.flow.is_closing() => {}
            // A full queue is a burst, and no death: who waits for a place in vain is told by a deadline.
            Err(errno) if errno.is_would_block() => {}
            Err(errno) if errno.is_shortage() || errno.is_no_ports() => {}
            // The client's address is of another family than the backend's, or is not known any more.
            Err(Errno::AFNOSUPPORT | Errno::NOTCONN) => {}
            Err(_) => {
                let (id, now) = (self.connection_id(slot), since_epoch(self.now));
                let random = self.draw.next_u64();
                self.eject_by(pool, backend, |outliers, at| {
                    outliers.on_failure(at, id, now, random)
                });
            }
        }
    }

    /// The connection in `slot` has nothing to do with the backend any more.
    pub(crate) fn end_attempt(&mut self, slot: u32, pool: usize, backend: BackendIndex) {
        let id = self.connection_id(slot);
        self.eject_by(pool, backend, |outliers, at| outliers.on_abandoned(at, id));
    }

    /// The health checks have found the backend well.
    pub(crate) fn forgive(&mut self, pool: usize, backend: BackendIndex) {
        self.eject_by(pool, backend, |outliers, at| outliers.on_recovery(at));
    }

    /// Makes the changes that are due, up to a bound.
    pub(crate) fn advance_ejections(&mut self) {
        if self.ejections_due.is_none_or(|due| due > self.now) {
            return;
        }
        let now = since_epoch(self.now);
        let mut left = CHANGES_PER_TURN;
        for pool in 0..self.pools.len() {
            while left > 0 {
                let outliers = &mut self.pools[pool].outliers;
                let Some((at, change)) = outliers.as_mut().and_then(|o| o.pop_due(now)) else {
                    break;
                };
                left -= 1;
                self.carry_ejection(pool, BackendIndex::new(at as u16), change);
            }
        }
    }

    fn eject_by(
        &mut self,
        pool: usize,
        backend: BackendIndex,
        event: impl FnOnce(&mut Outliers, usize) -> Option<Change>,
    ) {
        let Some(outliers) = &mut self.pools[pool].outliers else {
            return;
        };
        if let Some(change) = event(outliers, backend.as_usize()) {
            self.carry_ejection(pool, backend, change);
        }
    }

    fn carry_ejection(&mut self, pool: usize, backend: BackendIndex, change: Change) {
        let place = &mut self.pools[pool];
        place.pool.advance(since_epoch(self.now));
        place.pool.set_ejection(backend, place.ejection(backend));
        let block = &self.blocks.backends[pool][backend.as_usize()];
        let (is_out, is_half_open) = place.breaker_gauges(backend);
        block.ejected.set(i64::from(is_out));
        block.half_open.set(i64::from(is_half_open));
        if let Change::Ejected { .. } = change {
            block.ejections.increment();
        }
        self.plan_ejections();
        self.notices.on_ejection(EjectionNotice {
            worker: self.index,
            pool: pool as u16,
            backend,
            change,
        });
    }

    fn connection_id(&self, slot: u32) -> u64 {
        u64::from(slot) << 16 | u64::from(self.slots.generation(slot))
    }
}

pub(crate) fn since_epoch(moment: Moment) -> Duration {
    Duration::from_micros(moment.as_micros())
}

/// The first moment of the clock that is not before `due`.
pub(crate) fn on_the_clock(due: Duration) -> Moment {
    let micros = due.as_nanos().div_ceil(1_000);
    Moment::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}
