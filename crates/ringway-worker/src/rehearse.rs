//! What a worker would do with a connection that does not come: admission and route by the rules it runs, the
//! choice of a backend by a copy of its pool.
//!
//! Not a second set of rules: those of a listener are asked over copies of what they count. Invariant: a rehearsal
//! takes no place, no token and no turn.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use ringway_admission::SourceKey;
use ringway_balance::{BackendIndex, Draw, Explained, Pool};
use ringway_flow::Moment;
use ringway_health::BreakerState;
use ringway_metrics::{RefusedReason, Topology};
use ringway_wire::{AlpnProtocol, HostName};

use crate::accept::Listener;
use crate::effects::source_key;
use crate::limit::Limit;
use crate::names::Found;
use crate::outlier::since_epoch;
use crate::spec::ListenerSpec;
use crate::worker::Worker;

/// A connection that does not come.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// Who connects; `None` by a Unix socket, or where a sender of headers that is trusted may be assumed.
    pub sender: Option<SocketAddr>,
    /// Whom a PROXY header announces, where the listener requires one; who connects, where not.
    pub source: Option<SocketAddr>,
    /// The server name of its ClientHello.
    pub name: Option<HostName>,
    /// The protocols it offers.
    pub protocols: Vec<AlpnProtocol>,
}

/// What a listener does with a visitor.
#[derive(Debug)]
pub struct Reception<'a> {
    /// Whether it is let in.
    pub admitted: Result<(), RefusedReason>,
    /// Where it is led, were it let in.
    pub route: Result<u16, RefusedReason>,
    /// The rule that its name met, if it met one.
    pub rule: Option<Found<'a>>,
}

impl ListenerSpec {
    /// What becomes of a visitor at this listener.
    pub fn receive(&self, visitor: &Visitor, now: Duration) -> Reception<'_> {
        let now = Moment::from_micros(u64::try_from(now.as_micros()).unwrap_or(u64::MAX));
        let inspect = self.inspect.as_deref();
        let rule = inspect
            .zip(visitor.name.as_ref())
            .and_then(|(inspect, name)| inspect.find(name, visitor.protocols.iter().copied()));
        let route = match (rule, inspect) {
            (Some(rule), _) => Ok(rule.route),
            (None, Some(inspect)) => inspect.to_default(),
            (None, None) => Ok(self.route),
        };
        Reception {
            admitted: self.admits(visitor, now),
            route,
            rule,
        }
    }

    fn admits(&self, visitor: &Visitor, now: Moment) -> Result<(), RefusedReason> {
        let source = visitor.source.map(|at| at.ip());
        let listener = Listener::new(ListenerSpec {
            route: self.route,
            admission: self.admission.copied(source.map(SourceKey::of)),
            inspect: self.inspect.clone(),
            over: self.over,
        });
        let announces = self.inspect.as_ref().is_some_and(|i| i.trusted.is_some());
        let client = match announces {
            true => visitor.sender,
            false => visitor.source,
        };
        let mut permit = listener.admit(client, now)?;
        if announces {
            listener.gate.admit_source(&mut permit, source, now)?;
        }
        listener.gate.release(permit);
        Ok(())
    }
}

/// A pool as one worker has it now.
#[derive(Clone, Debug)]
pub struct PoolCopy {
    /// Whose it is, by index.
    pub pool: u16,
    /// What the indices mean.
    pub topology: Arc<Topology>,
    /// What it knows of its backends.
    pub state: Pool,
    /// Where failed connects have brought each backend; none where nothing is ejected.
    pub breakers: Option<Vec<BreakerState>>,
    limits: Vec<Option<Arc<Limit>>>,
    draw: Draw,
}

impl PoolCopy {
    /// The choice for a client at this address, with its reasons.
    pub fn explain(&self, client: Option<SocketAddr>) -> Explained {
        let key = client.map_or(0, source_key);
        self.state
            .explain(key, &self.draw, |backend| self.is_full(backend))
    }

    fn is_full(&self, backend: BackendIndex) -> bool {
        let limit = &self.limits[backend.as_usize()];
        limit.as_ref().is_some_and(|limit| limit.is_reached())
    }

    /// What all workers together have of a backend, and its maximum, where it has one.
    pub fn occupancy(&self, backend: BackendIndex) -> Option<(u64, u64)> {
        let limit = self.limits[backend.as_usize()].as_ref()?;
        Some((limit.open(), limit.most()))
    }
}

impl Worker {
    /// Answers with a copy of a pool. Whoever asked may have stopped waiting.
    pub(crate) fn tell_pool(&self, pool: u16, reply: &SyncSender<Option<Box<PoolCopy>>>) {
        drop(reply.try_send(self.copy_pool(pool).map(Box::new)));
    }

    fn copy_pool(&self, pool: u16) -> Option<PoolCopy> {
        let held = self.pools.get(usize::from(pool))?;
        let mut state = held.pool.clone();
        state.advance(since_epoch(self.now));
        let breakers = |outliers: &ringway_health::Outliers| {
            let indices = state.indices().map(BackendIndex::as_usize);
            indices.map(|at| outliers.state(at)).collect()
        };
        Some(PoolCopy {
            pool,
            topology: Arc::clone(self.histograms.topology()),
            breakers: held.outliers.as_ref().map(breakers),
            state,
            limits: held.backends.iter().map(|b| b.limit.clone()).collect(),
            draw: self.draw.clone(),
        })
    }
}
