//! What is written down about a flow: stages, outcomes, the end. Values go to this worker's own
//! counters and histograms, and to the access log's queue where there is one.

use ringway_balance::Algorithm;
use ringway_flow::{Ended, Moment, Party, PerSide, Side, Why};
use ringway_metrics::{CloseReason, RefusedReason, Stage};
use ringway_uring::tcp_info;

use crate::access::{AccessRecord, AttemptOutcome, Conclusion};
use crate::dispatch::peer;
use crate::inspect::Inspection;
use crate::worker::{Worker, WorkerPool};

/// One closed connection in so many is asked for its TCP_INFO; all of them with an access log.
const TCP_INFO_EVERY: u32 = 16;

impl WorkerPool {
    /// Whether the algorithm looks at the client's address.
    pub(crate) fn needs_key(&self) -> bool {
        match self.pool.algorithm() {
            Algorithm::SourceHash | Algorithm::Maglev => true,
            Algorithm::RoundRobin | Algorithm::LeastConnections | Algorithm::Random => false,
        }
    }
}

impl AccessRecord {
    /// A record of a connection that was accepted now.
    pub(crate) fn opened(
        worker: u16,
        listener: u16,
        client: Option<std::net::SocketAddr>,
        now: Moment,
    ) -> AccessRecord {
        AccessRecord {
            worker,
            listener,
            pool: None,
            client,
            accepted: now,
            ended: now,
            attempts: Vec::new(),
            connected_us: None,
            first_byte_us: None,
            received_bytes: PerSide::default(),
            sent_bytes: PerSide::default(),
            tcp_info: PerSide::default(),
            conclusion: Conclusion::Closed(Ended::by_ringway(Why::Error)),
        }
    }
}

impl Worker {
    pub(crate) fn log_access(&mut self, record: AccessRecord) {
        if let Some(access) = &mut self.access {
            access.push(record, &self.blocks.worker.access_log_dropped);
        }
    }

    pub(crate) fn note_outcome(&mut self, slot: u32, outcome: AttemptOutcome) {
        let held = self.slots.get_mut(slot);
        let pool = usize::from(self.routes[usize::from(held.route)].pool);
        if let Some(record) = &mut held.record
            && let Some(last) = record.attempts.last_mut()
        {
            last.outcome = outcome;
            last.name = match outcome {
                AttemptOutcome::Failed(_) => {
                    let names = &self.histograms.topology().pools[pool].backends;
                    let backend = names.get(last.backend.as_usize());
                    backend.map(|backend| backend.address.clone())
                }
                AttemptOutcome::Pending | AttemptOutcome::Connected => None,
            };
        }
        let Some(backend) = held.backend else { return };
        let block = &self.blocks.backends[pool][backend.as_usize()];
        match outcome {
            AttemptOutcome::Connected => block.connections_total.increment(),
            // A flow that closes cancels its own attempt: that is not the backend's failure.
            AttemptOutcome::Failed(_) if held.flow.is_closing() => {}
            AttemptOutcome::Failed(error) => block.connect_failures[error].increment(),
            AttemptOutcome::Pending => {}
        }
    }

    /// What this host had no descriptor or memory for was no attempt on the backend.
    pub(crate) fn forget_attempt(&mut self, slot: u32) {
        if let Some(record) = &mut self.slots.get_mut(slot).record {
            record.attempts.pop();
        }
    }

    pub(crate) fn mark_connected(&mut self, slot: u32) {
        let held = self.slots.get_mut(slot);
        held.connected = Some(self.now);
        let took = self.now.since(held.flow.born()).as_micros() as u64;
        if let Some(record) = &mut held.record {
            record.connected_us = Some(took);
        }
        self.histograms.stages[usize::from(held.route)][Stage::Connect].record(took);
    }

    pub(crate) fn mark_first_byte(&mut self, slot: u32) {
        let held = self.slots.get_mut(slot);
        if let Some(record) = &mut held.record {
            record.first_byte_us = Some(self.now.since(held.flow.born()).as_micros() as u64);
        }
        let connected = held.connected.unwrap_or_else(|| held.flow.born());
        let took = self.now.since(connected).as_micros() as u64;
        self.histograms.stages[usize::from(held.route)][Stage::FirstByte].record(took);
    }

    /// Asks the kernel about a connection that is about to be closed, for a sample of them.
    pub(crate) fn sample_tcp_info(&mut self, slot: u32, side: Side) {
        let held = self.slots.get_mut(slot);
        // One that was never routed is no pool's.
        if held.inspection.is_some() {
            return;
        }
        if held.record.is_none() && !self.closed_count.is_multiple_of(TCP_INFO_EVERY) {
            return;
        }
        let Some(socket) = &held.sockets[side] else {
            return;
        };
        // A Unix socket has none.
        let Ok(info) = tcp_info(std::os::fd::AsFd::as_fd(socket)) else {
            return;
        };
        if let Some(record) = &mut held.record {
            record.tcp_info[side] = Some(info);
        }
        let pool = usize::from(self.routes[usize::from(held.route)].pool);
        self.histograms.round_trips[pool][peer(side)].record(info.rtt.as_micros() as u64);
        let segments = u64::from(info.retransmitted_segments);
        self.blocks.pools[pool].retransmitted_segments[peer(side)].add(segments);
    }

    /// The flow is over: its end is written down, then everything it took is given back. Who sees
    /// that a connection is gone finds it among the closed ones.
    pub(crate) fn finish(&mut self, slot: u32, ended: Ended) {
        let refused = self.count_end(slot, ended);
        self.log_end(slot, ended, refused);
        self.release_backend(slot);
        self.wheel.cancel(slot);
        let held = self.slots.remove(slot);
        self.closed_count = self.closed_count.wrapping_add(1);
        let listener = self.routes[usize::from(held.route)].listener;
        self.blocks.routes[usize::from(held.route)]
            .flows
            .decrement();
        self.acceptor.release(listener, held.permit);
        self.connections.release();
        self.blocks.worker.connections.decrement();
        self.blocks.listeners[usize::from(listener)]
            .connections
            .decrement();
    }

    /// Returns why it was turned away, if it was.
    fn count_end(&mut self, slot: u32, ended: Ended) -> Option<RefusedReason> {
        let held = self.slots.get(slot);
        let route = usize::from(held.route);
        let refused = refused_as(held.inspection.as_deref(), ended);
        match refused {
            // Counted where none could be chosen.
            Some(RefusedReason::NoBackend) => {}
            Some(reason) => {
                let listener = usize::from(self.routes[route].listener);
                self.blocks.listeners[listener].refused[reason].increment();
            }
            None => {
                let (side, reason) = labels_of(ended);
                self.blocks.routes[route].closed[side][reason].increment();
            }
        }
        // One that was never routed belongs to no route.
        if held.inspection.is_none() {
            let total = self.now.since(held.flow.born()).as_micros() as u64;
            self.histograms.stages[route][Stage::Total].record(total);
        }
        refused
    }

    fn log_end(&mut self, slot: u32, ended: Ended, refused: Option<RefusedReason>) {
        let held = self.slots.get_mut(slot);
        let Some(mut record) = held.record.take() else {
            return;
        };
        record.ended = self.now;
        let is_routed = held.inspection.is_none();
        for side in Side::BOTH.into_iter().filter(|_| is_routed) {
            record.received_bytes[side] = held.flow.received_bytes(side);
            record.sent_bytes[side] = held.flow.sent_bytes(side);
        }
        record.conclusion = match refused {
            Some(reason) => Conclusion::Refused(reason),
            None => Conclusion::Closed(ended),
        };
        self.log_access(*record);
    }
}

/// Why a connection was turned away, if it was: one whose first bytes did not tell where to is,
/// however it ended.
fn refused_as(inspection: Option<&Inspection>, ended: Ended) -> Option<RefusedReason> {
    if let Some(inspection) = inspection {
        return Some(match (inspection.refused, ended.why) {
            (Some(reason), _) => reason,
            (None, Why::Drain) => RefusedReason::Draining,
            (None, _) => RefusedReason::Handshake,
        });
    }
    match ended.why {
        Why::NoBackend => Some(RefusedReason::NoBackend),
        Why::Resources => Some(RefusedReason::Resources),
        // Only a flow that is inspected ends so.
        Why::Handshake | Why::Refused => Some(RefusedReason::Handshake),
        Why::Fin
        | Why::Reset
        | Why::Idle
        | Why::FirstByte
        | Why::HalfClose
        | Why::Lifetime
        | Why::ConnectFailed
        | Why::Drain
        | Why::BackendDown
        | Why::HeldMemory
        | Why::Error => None,
    }
}

/// The labels under which an end is counted, and written to the access log.
pub fn labels_of(ended: Ended) -> (ringway_metrics::Side, CloseReason) {
    let side = match ended.by {
        Party::Client => ringway_metrics::Side::Client,
        Party::Backend => ringway_metrics::Side::Backend,
        Party::Ringway => ringway_metrics::Side::Ringway,
    };
    let reason = match ended.why {
        Why::Fin => CloseReason::Fin,
        Why::Reset => CloseReason::Reset,
        Why::Idle | Why::FirstByte => CloseReason::Idle,
        Why::HalfClose => CloseReason::HalfClose,
        Why::Lifetime => CloseReason::Lifetime,
        Why::ConnectFailed | Why::NoBackend => CloseReason::ConnectFailed,
        Why::Drain | Why::BackendDown => CloseReason::Drain,
        // Told as refused, unless nobody knows better.
        Why::Handshake | Why::Refused => CloseReason::Error,
        Why::Resources | Why::HeldMemory | Why::Error => CloseReason::Error,
    };
    (side, reason)
}

#[cfg(test)]
mod tests {
    use ringway_metrics::declare::{TCP_RETRANSMITTED, TCP_RTT};

    use super::*;

    /// Whoever takes the counter for all connections is off by this factor.
    #[test]
    fn the_metrics_say_which_connections_are_asked() {
        for family in [&TCP_RTT, &TCP_RETRANSMITTED] {
            let one = format!("in {TCP_INFO_EVERY}, or ");
            assert!(family.help.contains(&one), "{}", family.help);
        }
    }
}
