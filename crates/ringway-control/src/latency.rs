//! How long the stages of connections and the turns of workers took, as counts per range of
//! durations: what `GET /v1/status?latency=1` adds. Whoever reads it twice gets the distribution of
//! the time between from the difference.
//!
//! Not part of a plain status, because workers must be asked for it. Invariant: `counts` of a series
//! only ever grow, place by place, as long as the process lives.

use ringway_metrics::{HistogramSnapshot, Ladder, Stage, WorkerHistogramsSnapshot};
use serde::Serialize;

use crate::instance::Instance;

/// Two bounds per octave from 8 us to 67 s, then an hour: a percentile read from them is off by
/// less than a fifth.
const LADDER: Ladder = Ladder {
    bounds_us: &[
        8,
        11,
        16,
        23,
        32,
        45,
        64,
        91,
        128,
        181,
        256,
        362,
        512,
        724,
        1_024,
        1_448,
        2_048,
        2_896,
        4_096,
        5_793,
        8_192,
        11_585,
        16_384,
        23_170,
        32_768,
        46_341,
        65_536,
        92_682,
        131_072,
        185_364,
        262_144,
        370_728,
        524_288,
        741_455,
        1_048_576,
        1_482_910,
        2_097_152,
        2_965_821,
        4_194_304,
        5_931_642,
        8_388_608,
        11_863_283,
        16_777_216,
        23_726_566,
        33_554_432,
        47_453_133,
        67_108_864,
        3_600_000_000,
    ],
};

/// All of it.
#[derive(Debug, Serialize)]
pub(crate) struct Latency {
    /// The upper bounds of the ranges; what is longer than the last has a place behind it.
    bounds_us: &'static [u64],
    /// Of connections, all workers together. What nothing was recorded of is left out.
    stages: Vec<StageCounts>,
    /// Of the turns of each worker.
    turns: Vec<TurnCounts>,
}

#[derive(Debug, Serialize)]
struct StageCounts {
    listener: String,
    pool: String,
    stage: &'static str,
    counts: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct TurnCounts {
    worker: u16,
    counts: Vec<u64>,
}

impl Instance {
    /// Asks the workers, so it blocks for a second at most.
    pub(crate) fn latency(&self) -> Latency {
        let histograms = self.ask_histograms();
        let told = || histograms.values();
        let view = self.view();
        let topology = view.topology();
        let stages = topology.routes().flat_map(|(at, [listener, pool])| {
            // A worker may not have come to this configuration yet, and have somebody else there.
            let seat = topology.routes[at].seat;
            let is_same = move |worker: &&WorkerHistogramsSnapshot| {
                let routes = &worker.topology.routes;
                routes.get(at).is_some_and(|route| route.seat == seat)
            };
            let of_stage = move |stage: Stage| StageCounts {
                listener: listener.to_owned(),
                pool: pool.to_owned(),
                stage: stage.as_label(),
                counts: counts(
                    told()
                        .filter(is_same)
                        .filter_map(|worker| stage_of(worker, at, stage)),
                ),
            };
            Stage::ALL.map(of_stage)
        });
        let turns = view.running().filter_map(|post| {
            let turns = &histograms.get(&post.worker.index)?.loop_time;
            Some(TurnCounts {
                worker: post.worker.index,
                counts: counts([turns].into_iter()),
            })
        });
        Latency {
            bounds_us: LADDER.bounds_us,
            stages: stages.filter(|stage| !stage.counts.is_empty()).collect(),
            turns: turns.collect(),
        }
    }
}

fn stage_of(
    worker: &WorkerHistogramsSnapshot,
    route: usize,
    stage: Stage,
) -> Option<&HistogramSnapshot> {
    let place = Stage::ALL.iter().position(|other| *other == stage)?;
    worker.stages.get(route).map(|stages| &stages[place])
}

/// How many durations fell into each range, empty ranges at the end left out.
fn counts<'a>(parts: impl Iterator<Item = &'a HistogramSnapshot>) -> Vec<u64> {
    let mut counts = vec![0; LADDER.bounds_us.len() + 1];
    for part in parts {
        let mut below = 0;
        let upto = part.cumulative(&LADDER).into_iter().chain([part.count()]);
        for (count, upto) in counts.iter_mut().zip(upto) {
            *count += upto - below;
            below = upto;
        }
    }
    let used = counts.iter().rposition(|count| *count > 0);
    counts.truncate(used.map_or(0, |last| last + 1));
    counts
}

#[cfg(test)]
mod tests {
    use ringway_metrics::Histogram;

    use super::*;

    fn of(durations_us: &[u64]) -> HistogramSnapshot {
        let mut histogram = Histogram::new();
        durations_us.iter().for_each(|us| histogram.record(*us));
        histogram.snapshot()
    }

    #[test]
    fn each_duration_is_counted_in_its_range_once() {
        let (one, other) = (of(&[1, 9, 10]), of(&[9, 15]));
        assert_eq!(counts([&one, &other].into_iter()), [1, 3, 1]);
        assert_eq!(counts([&of(&[])].into_iter()), [0; 0]);
        let longest = counts([&of(&[3_700_000_000])].into_iter());
        assert_eq!(longest.len(), LADDER.bounds_us.len() + 1);
        assert_eq!(longest.iter().sum::<u64>(), 1);
    }

    #[test]
    fn the_bounds_ascend() {
        assert!(LADDER.bounds_us.is_sorted_by(|a, b| a < b));
    }
}
