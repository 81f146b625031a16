//! All histograms that one worker records in.
//!
//! They belong to the worker's thread: nothing here is shared and nothing is atomic. For a scrape
//! the worker sends a clone to whoever asked (about 2 us per histogram, once the memory is warm),
//! who makes the [snapshot](WorkerHistograms::snapshot) of it: that takes ten times as long, and
//! the worker has connections waiting.
//!
//! **Invariant:** routes and pools follow the [`Topology`] the histograms were made for, index by
//! index, and a snapshot names that topology.

use std::sync::Arc;

use crate::histogram::{Histogram, HistogramSnapshot};
use crate::label::{ByLabel, Peer, Stage};
use crate::topology::{Seat, Topology};

/// What one worker records, in microseconds. 26 KiB per histogram: four histograms per route, two
/// per pool and one.
#[derive(Clone, Debug)]
pub struct WorkerHistograms {
    /// Turns of the loop, waiting for the kernel not included.
    pub loop_time: Histogram,
    /// The stages of connections, by route.
    pub stages: Vec<ByLabel<Stage, Histogram, { Stage::COUNT }>>,
    /// Smoothed round-trip times from `TCP_INFO` when a socket is closed, by pool.
    pub round_trips: Vec<ByLabel<Peer, Histogram, { Peer::COUNT }>>,
    topology: Arc<Topology>,
}

impl WorkerHistograms {
    /// Empty histograms for everything `topology` names.
    pub fn new(topology: Arc<Topology>) -> Self {
        Self {
            loop_time: Histogram::new(),
            stages: topology.routes.iter().map(|_| ByLabel::default()).collect(),
            round_trips: topology.pools.iter().map(|_| ByLabel::default()).collect(),
            topology,
        }
    }

    /// What the indices mean.
    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    /// Takes over another topology: what is in both keeps its histograms, what is new has empty ones.
    pub fn follow(&mut self, to: Arc<Topology>) {
        let from = &self.topology;
        carry(&mut self.stages, &from.routes, &to.routes, |route| {
            route.seat
        });
        carry(&mut self.round_trips, &from.pools, &to.pools, |pool| {
            pool.seat
        });
        self.topology = to;
    }

    /// What was recorded so far, for [`render`](crate::render()). For the receiver of a clone: see
    /// above.
    pub fn snapshot(&self) -> WorkerHistogramsSnapshot {
        WorkerHistogramsSnapshot {
            topology: Arc::clone(&self.topology),
            loop_time: self.loop_time.snapshot(),
            stages: self
                .stages
                .iter()
                .map(|s| s.cells().each_ref().map(Histogram::snapshot))
                .collect(),
            round_trips: (self.round_trips.iter())
                .map(|r| r.cells().each_ref().map(Histogram::snapshot))
                .collect(),
        }
    }
}

/// An empty histogram allocates nothing, so this costs little on a worker's thread.
fn carry<H: Default, N>(histograms: &mut Vec<H>, from: &[N], to: &[N], seat: impl Fn(&N) -> Seat) {
    histograms.resize_with(to.len(), H::default);
    for (at, now) in to.iter().enumerate() {
        if from.get(at).is_none_or(|before| seat(before) != seat(now)) {
            histograms[at] = H::default();
        }
    }
}

/// What a worker's histograms held at one moment.
#[derive(Clone, Debug)]
pub struct WorkerHistogramsSnapshot {
    /// What the indices of `stages` and `round_trips` refer to.
    pub topology: Arc<Topology>,
    /// Turns of the loop.
    pub loop_time: HistogramSnapshot,
    /// By route, then in the order of [`Stage::ALL`].
    pub stages: Vec<[HistogramSnapshot; Stage::COUNT]>,
    /// By pool, then in the order of [`Peer::ALL`].
    pub round_trips: Vec<[HistogramSnapshot; Peer::COUNT]>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{ListenerNames, PoolNames, RouteNames};

    #[test]
    fn a_snapshot_keeps_each_recording_in_its_place() {
        let topology = Arc::new(Topology {
            listeners: vec![ListenerNames::default()],
            routes: vec![
                RouteNames::default(),
                RouteNames {
                    pool: 1,
                    ..RouteNames::default()
                },
            ],
            pools: vec![PoolNames::default(), PoolNames::default()],
        });
        let mut histograms = WorkerHistograms::new(Arc::clone(&topology));
        histograms.loop_time.record(5);
        histograms.stages[1][Stage::Connect].record(70);
        histograms.round_trips[0][Peer::Backend].record(40);

        let snapshot = histograms.snapshot();
        histograms.loop_time.record(6);
        let counts: Vec<_> = snapshot
            .stages
            .iter()
            .map(|s| s.each_ref().map(HistogramSnapshot::count))
            .collect();
        assert_eq!(counts, [[0; 4], [0, 1, 0, 0]]);
        assert_eq!(snapshot.stages[1][1].sum_us(), 70);
        assert_eq!(snapshot.round_trips[0][1].sum_us(), 40);
        assert_eq!(snapshot.round_trips[1][1].count(), 0);
        assert_eq!(snapshot.loop_time.count(), 1);
        assert!(Arc::ptr_eq(&snapshot.topology, &topology));

        let mut after = Topology::clone(&topology);
        after.pools[0].seat = Seat::Taken(1);
        after.routes.push(RouteNames::default());
        histograms.follow(Arc::new(after));
        assert_eq!(histograms.stages.len(), 3);
        assert_eq!(histograms.stages[1][Stage::Connect].snapshot().count(), 1);
        assert_eq!(
            histograms.round_trips[0][Peer::Backend].snapshot().count(),
            0
        );
    }
}
