//! The families that every worker counts its share of: sums, or one series per worker.
//!
//! **Invariant:** each cell is read once per scrape, and an entry that a worker does not have (yet,
//! or any more) is left out rather than taken for another.

use super::{PerWorker, Scrape};
use crate::block::{BackendBlock, WorkerBlocks};
use crate::declare;
use crate::histogram::HistogramSnapshot;
use crate::label::{
    AcceptError, CloseReason, ConnectError, Engine, Label, Peer, RefusedReason, Side, Stage,
};
use crate::text::{Exposition, FamilyWriter, Value};
use crate::worker_histograms::WorkerHistogramsSnapshot;

/// Writes what workers count in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sums<'a> {
    pub(super) scrape: &'a Scrape,
    pub(super) per_worker: PerWorker,
}

impl<'a> Sums<'a> {
    /// Writes the families `ringway_listener_*`.
    pub(super) fn render_listeners(self, out: &mut Exposition) {
        let mut family = out.family(&declare::LISTENER_CONNECTIONS_TOTAL);
        for (i, name) in self.listeners() {
            self.put_count(&mut family, &[name], |w| {
                Some(w.listeners.get(i)?.connections_total.value())
            });
        }
        let mut family = out.family(&declare::LISTENER_CONNECTIONS);
        for (i, name) in self.listeners() {
            self.put_level(&mut family, &[name], |w| {
                Some(w.listeners.get(i)?.connections.value())
            });
        }
        let mut family = out.family(&declare::LISTENER_ACCEPT_ERRORS);
        for (i, name) in self.listeners() {
            for error in AcceptError::ALL {
                self.put_count(&mut family, &[name, error.as_label()], |w| {
                    Some(w.listeners.get(i)?.accept_errors[error].value())
                });
            }
        }
        let mut family = out.family(&declare::LISTENER_REFUSED);
        for (i, name) in self.listeners() {
            for reason in RefusedReason::ALL {
                self.put_count(&mut family, &[name, reason.as_label()], |w| {
                    Some(w.listeners.get(i)?.refused[reason].value())
                });
            }
        }
    }

    /// Writes the families labelled by listener and pool, and the bytes by engine.
    pub(super) fn render_routes(self, out: &mut Exposition) {
        self.render_stages(out);
        let mut family = out.family(&declare::CONNECTIONS_CLOSED);
        for (i, [listener, pool]) in self.routes() {
            for (side, reason) in each_end() {
                let labels = [listener, pool, side.as_label(), reason.as_label()];
                self.put_count(&mut family, &labels, |w| {
                    Some(w.routes.get(i)?.closed[side][reason].value())
                });
            }
        }
        let mut family = out.family(&declare::RECEIVED_BYTES);
        for (i, [listener, pool]) in self.routes() {
            for peer in Peer::ALL {
                self.put_count(&mut family, &[listener, pool, peer.as_label()], |w| {
                    Some(w.routes.get(i)?.received_bytes[peer].value())
                });
            }
        }
        let mut family = out.family(&declare::SENT_BYTES);
        for (i, [listener, pool]) in self.routes() {
            for peer in Peer::ALL {
                self.put_count(&mut family, &[listener, pool, peer.as_label()], |w| {
                    Some(w.routes.get(i)?.sent_bytes[peer].value())
                });
            }
        }
        let mut family = out.family(&declare::RELAYED_BYTES);
        for engine in Engine::ALL {
            self.put_count(&mut family, &[engine.as_label()], |w| {
                Some(w.worker.relayed_bytes[engine].value())
            });
        }
    }

    fn render_stages(self, out: &mut Exposition) {
        let mut family = out.family(&declare::CONNECTION_STAGE);
        for (i, [listener, pool]) in self.routes() {
            for stage in Stage::ALL {
                let labels = [listener, pool, stage.as_label()];
                self.put_histogram(&mut family, &labels, |h| {
                    let seat = h.topology.routes.get(i)?.seat;
                    let is_same = seat == self.scrape.topology.routes[i].seat;
                    is_same.then_some(&h.stages.get(i)?[stage.index()])
                });
            }
        }
    }

    /// Writes what is counted about backends and choosing them.
    pub(super) fn render_backends(self, out: &mut Exposition) {
        let mut family = out.family(&declare::BACKEND_CONNECTIONS);
        for (at, labels) in self.backends() {
            self.put_level(&mut family, &labels, |w| {
                Some(backend(w, at)?.connections.value())
            });
        }
        let mut family = out.family(&declare::BACKEND_CONNECTIONS_TOTAL);
        for (at, labels) in self.backends() {
            self.put_count(&mut family, &labels, |w| {
                Some(backend(w, at)?.connections_total.value())
            });
        }
        let mut family = out.family(&declare::BACKEND_CONNECT_FAILURES);
        for (at, [pool, address]) in self.backends() {
            for error in ConnectError::ALL {
                self.put_count(&mut family, &[pool, address, error.as_label()], |w| {
                    Some(backend(w, at)?.connect_failures[error].value())
                });
            }
        }
        let mut family = out.family(&declare::BACKEND_EJECTIONS);
        for (at, labels) in self.backends() {
            self.put_count(&mut family, &labels, |w| {
                Some(backend(w, at)?.ejections.value())
            });
        }
        let mut family = out.family(&declare::BACKEND_RETRIES);
        for (i, name) in self.pools() {
            self.put_count(&mut family, &[name], |w| {
                Some(w.pools.get(i)?.retries.value())
            });
        }
        let mut family = out.family(&declare::POOL_FAIL_OPEN);
        for (i, name) in self.pools() {
            self.put_count(&mut family, &[name], |w| {
                Some(w.pools.get(i)?.fail_open.value())
            });
        }
    }

    /// Writes what was read from `TCP_INFO`.
    pub(super) fn render_tcp_info(self, out: &mut Exposition) {
        let mut family = out.family(&declare::TCP_RTT);
        for (i, name) in self.pools() {
            for peer in Peer::ALL {
                self.put_histogram(&mut family, &[peer.as_label(), name], |h| {
                    let seat = h.topology.pools.get(i)?.seat;
                    let is_same = seat == self.scrape.topology.pools[i].seat;
                    is_same.then_some(&h.round_trips.get(i)?[peer.index()])
                });
            }
        }
        let mut family = out.family(&declare::TCP_RETRANSMITTED);
        for (i, name) in self.pools() {
            for peer in Peer::ALL {
                self.put_count(&mut family, &[peer.as_label(), name], |w| {
                    Some(w.pools.get(i)?.retransmitted_segments[peer].value())
                });
            }
        }
    }

    /// Writes the lines that the access log lost.
    pub(super) fn render_access_log(self, out: &mut Exposition) {
        let mut family = out.family(&declare::ACCESS_LOG_DROPPED);
        self.put_count(&mut family, &[], |w| {
            Some(w.worker.access_log_dropped.value())
        });
    }

    fn listeners(self) -> impl Iterator<Item = (usize, &'a str)> {
        self.scrape.topology.listeners()
    }

    fn routes(self) -> impl Iterator<Item = (usize, [&'a str; 2])> {
        self.scrape.topology.routes()
    }

    fn pools(self) -> impl Iterator<Item = (usize, &'a str)> {
        self.scrape.topology.pools()
    }

    /// The place (pool, backend) and the labels of each backend.
    fn backends(self) -> impl Iterator<Item = ((usize, usize), [&'a str; 2])> {
        self.scrape.topology.backends()
    }

    fn put_count(
        self,
        family: &mut FamilyWriter<'_>,
        labels: &[&str],
        read: impl Fn(&WorkerBlocks) -> Option<u64>,
    ) {
        self.put(family, labels, read, u64::wrapping_add, Value::Count);
    }

    fn put_level(
        self,
        family: &mut FamilyWriter<'_>,
        labels: &[&str],
        read: impl Fn(&WorkerBlocks) -> Option<i64>,
    ) {
        self.put(family, labels, read, i64::wrapping_add, Value::Level);
    }

    fn put<T: Copy + Default>(
        self,
        family: &mut FamilyWriter<'_>,
        labels: &[&str],
        read: impl Fn(&WorkerBlocks) -> Option<T>,
        add: fn(T, T) -> T,
        value: fn(T) -> Value,
    ) {
        let blocks = self.scrape.workers.iter().map(|worker| &worker.blocks);
        let cells = blocks.filter_map(|w| Some((w.worker.worker, read(w)?)));
        match self.per_worker {
            PerWorker::Merged => {
                let sum = cells.fold(T::default(), |sum, (_, cell)| add(sum, cell));
                family.put(labels, None, value(sum));
            }
            PerWorker::Labelled => {
                cells.for_each(|(worker, cell)| family.put(labels, Some(worker), value(cell)));
            }
        }
    }

    fn put_histogram(
        self,
        family: &mut FamilyWriter<'_>,
        labels: &[&str],
        read: impl Fn(&WorkerHistogramsSnapshot) -> Option<&HistogramSnapshot>,
    ) {
        let snapshots = self.scrape.workers.iter().filter_map(|worker| {
            let histograms = worker.histograms.as_ref()?;
            Some((worker.blocks.worker.worker, read(histograms)?))
        });
        match self.per_worker {
            PerWorker::Merged => {
                let mut merged = HistogramSnapshot::default();
                snapshots.for_each(|(_, snapshot)| merged.merge(snapshot));
                family.put_histogram(labels, None, &merged);
            }
            PerWorker::Labelled => snapshots.for_each(|(worker, snapshot)| {
                family.put_histogram(labels, Some(worker), snapshot);
            }),
        }
    }
}

fn backend(blocks: &WorkerBlocks, (pool, backend): (usize, usize)) -> Option<&BackendBlock> {
    Some(blocks.backends.get(pool)?.get(backend)?)
}

/// Every way a connection can end.
fn each_end() -> impl Iterator<Item = (Side, CloseReason)> {
    let reasons = |side| {
        CloseReason::ALL
            .into_iter()
            .map(move |reason| (side, reason))
    };
    Side::ALL.into_iter().flat_map(reasons)
}
