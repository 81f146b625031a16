//! The part of the status that counts traffic by kind: refusals, closes and bytes by listener and
//! pool. Not rates: whoever reads it twice makes them. Invariant: kinds that never happened are left
//! out, so that a status stays small.

use std::collections::BTreeMap;

use ringway_metrics::{
    ByLabel, CloseReason, Counter, ListenerBlock, Peer, RefusedReason, RouteBlock, Side,
    WorkerBlocks,
};
use serde::Serialize;

/// Counts by a closed set of names.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

/// What became of the connections of one listener that went to one pool.
#[derive(Debug, Serialize)]
pub(crate) struct RouteStatus {
    listener: String,
    pool: String,
    /// Ended connections: by the side that ended them, then by how.
    closed: BTreeMap<&'static str, Counts>,
    received_bytes: PeerBytes,
    sent_bytes: PeerBytes,
}

/// As Ringway sees its two peers.
#[derive(Debug, Serialize)]
struct PeerBytes {
    client: u64,
    backend: u64,
}

impl RouteStatus {
    pub(crate) fn new<'a>(
        [listener, pool]: [&str; 2],
        blocks: impl Iterator<Item = &'a RouteBlock> + Clone,
    ) -> RouteStatus {
        let closed_by = |side: Side| {
            let count = |reason: CloseReason| {
                let each = blocks
                    .clone()
                    .map(|block| block.closed[side][reason].value());
                (reason.as_label(), each.sum())
            };
            (side.as_label(), seen(CloseReason::ALL.map(count)))
        };
        let closed = Side::ALL.map(closed_by).into_iter();
        let bytes = |of: fn(&RouteBlock) -> &ByLabel<Peer, Counter, { Peer::COUNT }>| PeerBytes {
            client: blocks
                .clone()
                .map(|block| of(block)[Peer::Client].value())
                .sum(),
            backend: blocks
                .clone()
                .map(|block| of(block)[Peer::Backend].value())
                .sum(),
        };
        RouteStatus {
            listener: listener.to_owned(),
            pool: pool.to_owned(),
            closed: closed.filter(|(_, counts)| !counts.is_empty()).collect(),
            received_bytes: bytes(|block| &block.received_bytes),
            sent_bytes: bytes(|block| &block.sent_bytes),
        }
    }
}

/// The refusals of one listener, by why.
pub(crate) fn refused<'a>(blocks: impl Iterator<Item = &'a ListenerBlock> + Clone) -> Counts {
    seen(RefusedReason::ALL.map(|reason| {
        let each = blocks.clone().map(|block| block.refused[reason].value());
        (reason.as_label(), each.sum())
    }))
}

/// Bytes that one worker took from clients and backends.
pub(crate) fn received_bytes(blocks: &WorkerBlocks) -> u64 {
    let routes = blocks.routes.iter();
    let peers = routes.flat_map(|route| Peer::ALL.map(|peer| route.received_bytes[peer].value()));
    peers.sum()
}

fn seen<const N: usize>(counts: [(&'static str, u64); N]) -> Counts {
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}
