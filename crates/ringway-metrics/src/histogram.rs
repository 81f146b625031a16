//! Distributions of durations: recorded in HDR histograms, exposed on fixed ladders of bounds.
//!
//! A [`Histogram`] belongs to the thread that records in it and is never shared: it is cloned for
//! whoever wants to read it. A [`HistogramSnapshot`] is what is kept of a clone: the bins that have
//! counts, ready to be merged with those of other workers. Durations are whole microseconds. Bins
//! are exact up to 255 us and at most 1/128 (0.8 %) wide above; the sum beside them is exact.
//!
//! **Invariant:** recording never fails and allocates once, at the first duration (so that the many
//! histograms of listeners nobody uses cost nothing); a duration of exactly a bound of a
//! [`Ladder`] is counted under that bound, as Prometheus defines `le`.

/// The largest duration told apart, in microseconds: 71 minutes, a little over the last bound of
/// any ladder, so that what is longer is counted under `+Inf` alone.
pub const HIGHEST_US: u64 = u32::MAX as u64;

/// Two digits: bins are at most 1 % wide, and a histogram takes 26 KiB.
const SIGNIFICANT_DIGITS: u8 = 2;

/// Durations recorded by one thread.
#[derive(Clone, Debug)]
pub struct Histogram {
    // 64-bit counts: at 200 000 turns per second a 32-bit bin would be full after six hours.
    bins: Option<hdrhistogram::Histogram<u64>>,
    sum_us: u64,
}

impl Histogram {
    /// An empty histogram. The first duration allocates all it will ever need.
    pub const fn new() -> Self {
        Self {
            bins: None,
            sum_us: 0,
        }
    }

    /// Records one duration of `us` microseconds; one above [`HIGHEST_US`] is counted as that, but
    /// enters the sum as it is.
    #[inline]
    pub fn record(&mut self, us: u64) {
        let bins = self.bins.get_or_insert_with(empty_bins);
        bins.saturating_record(us.min(HIGHEST_US));
        self.sum_us = self.sum_us.saturating_add(us);
    }

    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.bins.as_ref().map_or(0, |bins| bins.len())
    }

    /// What was recorded so far, made small. Takes about 3 us per decade that the durations spread
    /// over: ten times what a clone takes, so a thread in a hurry sends a clone and lets the
    /// receiver do this.
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            bins: self.recorded_bins(),
            count: self.count(),
            sum_us: self.sum_us,
        }
    }

    /// The bins that have counts. Walks only the range that was recorded in: the crate's own
    /// iterators start at zero, which for an empty histogram means all of its 3200 bins.
    fn recorded_bins(&self) -> Vec<Bin> {
        let mut found = Vec::new();
        let Some(bins) = &self.bins else {
            return found;
        };
        let (mut lowest_us, longest_us) = (bins.min(), bins.max());
        while lowest_us <= longest_us {
            let highest_us = bins.highest_equivalent(lowest_us);
            let count = bins.count_at(lowest_us);
            if count > 0 {
                found.push(Bin {
                    lowest_us,
                    highest_us,
                    count,
                });
            }
            lowest_us = highest_us + 1;
        }
        found
    }
}

#[cold]
fn empty_bins() -> hdrhistogram::Histogram<u64> {
    hdrhistogram::Histogram::new_with_bounds(1, HIGHEST_US, SIGNIFICANT_DIGITS)
        .expect("invariant: the bounds are constants within the crate's limits")
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

/// A range of durations that are not told apart, and how many of them were recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bin {
    lowest_us: u64,
    highest_us: u64,
    count: u64,
}

/// What a [`Histogram`] held at one moment, or several of them together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// The bins that have counts, shortest durations first.
    bins: Vec<Bin>,
    count: u64,
    sum_us: u64,
}

impl HistogramSnapshot {
    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their exact sum in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// Adds what `other` holds, as if one histogram had recorded both.
    pub fn merge(&mut self, other: &Self) {
        let mut merged = Vec::with_capacity(self.bins.len().max(other.bins.len()));
        let mut ours = self.bins.iter().copied().peekable();
        for theirs in &other.bins {
            while let Some(bin) = ours.next_if(|bin| bin.lowest_us < theirs.lowest_us) {
                merged.push(bin);
            }
            let same = ours.next_if(|bin| bin.lowest_us == theirs.lowest_us);
            let count = theirs.count.saturating_add(same.map_or(0, |bin| bin.count));
            merged.push(Bin { count, ..*theirs });
        }
        merged.extend(ours);
        self.bins = merged;
        self.count = self.count.saturating_add(other.count);
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    /// For each bound of `ladder`, how many durations are at most that long.
    ///
    /// A bin that a bound falls into is counted under it whole: a duration may be counted under a
    /// bound that it exceeds by less than 1/128, never above a bound that it does not exceed.
    pub fn cumulative(&self, ladder: &Ladder) -> Vec<u64> {
        let mut bins = self.bins.iter().peekable();
        let mut total = 0u64;
        let counts = ladder.bounds_us.iter().map(|bound| {
            while let Some(bin) = bins.next_if(|bin| bin.lowest_us <= *bound) {
                total = total.saturating_add(bin.count);
            }
            total
        });
        counts.collect()
    }

    /// The duration in microseconds that the fraction `quantile` (0 to 1) of those recorded do not
    /// exceed, to within a bin; `None` when nothing was recorded.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        // Both conversions saturate, and counts below 2^53 are exact.
        let rank = (quantile.clamp(0.0, 1.0) * self.count as f64).ceil() as u64;
        let mut seen = 0u64;
        let at_rank = self.bins.iter().find(|bin| {
            seen = seen.saturating_add(bin.count);
            seen >= rank.max(1)
        });
        at_rank.or(self.bins.last()).map(|bin| bin.highest_us)
    }
}

/// The upper bounds that a family of histograms is exposed with, ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// In microseconds; `+Inf` is understood.
    pub bounds_us: &'static [u64],
}

impl Ladder {
    /// Stages of a connection. From one second on the bounds are where the kernel sends a SYN
    /// again (1, 3, 7, 15, ... s after the first), so that each further loss has a bucket of its
    /// own; then minutes, for the lives of connections.
    pub const STAGE: Self = Self {
        bounds_us: &[
            10,
            25,
            50,
            100,
            250,
            500,
            1_000,
            2_500,
            5_000,
            10_000,
            25_000,
            50_000,
            100_000,
            250_000,
            500_000,
            1_000_000,
            3_000_000,
            7_000_000,
            15_000_000,
            30_000_000,
            60_000_000,
            300_000_000,
            600_000_000,
            1_800_000_000,
            3_600_000_000,
        ],
    };

    /// Turns of a worker's loop: finer, and over at a second.
    pub const LOOP: Self = Self {
        bounds_us: &[
            1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000,
            100_000, 250_000, 500_000, 1_000_000,
        ],
    };

    /// Round trips of TCP, from a loopback's to a satellite's.
    pub const ROUND_TRIP: Self = Self {
        bounds_us: &[
            10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000,
            250_000, 500_000, 1_000_000, 3_000_000, 7_000_000,
        ],
    };

    /// Health checks, up to the longest timeouts in use.
    pub const HEALTH_CHECK: Self = Self {
        bounds_us: &[
            100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
            1_000_000, 3_000_000, 7_000_000, 15_000_000, 30_000_000, 60_000_000,
        ],
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LADDERS: [Ladder; 4] = [
        Ladder::STAGE,
        Ladder::LOOP,
        Ladder::ROUND_TRIP,
        Ladder::HEALTH_CHECK,
    ];

    fn of(durations: &[u64]) -> HistogramSnapshot {
        let mut histogram = Histogram::new();
        durations.iter().for_each(|us| histogram.record(*us));
        histogram.snapshot()
    }

    /// A duration drawn evenly over the decades, with every bound of every ladder, and one
    /// microsecond to either side, drawn often.
    fn duration() -> impl Strategy<Value = u64> {
        let bounds: Vec<u64> = LADDERS.iter().flat_map(|l| l.bounds_us).copied().collect();
        prop_oneof![
            (0u32..34).prop_flat_map(|bits| 0..(1u64 << bits)),
            (prop::sample::select(bounds), 0u64..3).prop_map(|(b, d)| (b + d).saturating_sub(1)),
        ]
    }

    #[test]
    fn ladders_ascend_and_end_below_what_saturates() {
        for ladder in LADDERS {
            assert!(ladder.bounds_us.is_sorted_by(|a, b| a < b));
            assert!(ladder.bounds_us.iter().all(|bound| *bound < HIGHEST_US));
        }
    }

    #[test]
    fn a_duration_of_exactly_a_bound_is_under_it_and_not_under_the_one_before() {
        for ladder in LADDERS {
            for (place, bound) in ladder.bounds_us.iter().enumerate() {
                let counts = of(&[*bound]).cumulative(&ladder);
                let expected: Vec<_> = (0..counts.len()).map(|i| u64::from(i >= place)).collect();
                assert_eq!(counts, expected, "{bound} us");
            }
        }
    }

    #[test]
    fn what_is_longer_than_the_histogram_is_under_no_bound_but_in_count_and_sum() {
        let snapshot = of(&[HIGHEST_US + 1, u64::from(u32::MAX) * 7]);
        assert_eq!(snapshot.cumulative(&Ladder::STAGE), [0; 25]);
        assert_eq!(snapshot.count(), 2);
        assert_eq!(snapshot.sum_us(), HIGHEST_US * 8 + 1);
        assert_eq!(of(&[u64::MAX, u64::MAX]).sum_us(), u64::MAX);
    }

    #[test]
    fn zero_is_under_every_bound() {
        let snapshot = of(&[0]);
        assert_eq!(snapshot.cumulative(&Ladder::LOOP), [1; 19]);
        assert_eq!(snapshot.quantile(0.5), Some(0));
    }

    #[test]
    fn an_empty_snapshot_has_no_quantile_and_no_counts() {
        assert_eq!(of(&[]).quantile(0.99), None);
        assert_eq!(of(&[]).cumulative(&Ladder::LOOP), [0; 19]);
        assert_eq!(of(&[]), HistogramSnapshot::default());
    }

    #[test]
    fn quantiles_of_one_to_a_hundred() {
        let snapshot = of(&(1..=100).collect::<Vec<_>>());
        let at = |q| snapshot.quantile(q);
        assert_eq!(
            [at(0.0), at(0.5), at(0.99), at(1.0)],
            [Some(1), Some(50), Some(99), Some(100)]
        );
    }

    proptest! {
        /// Against a naive counter: never above a bound that holds, and a bin's width too low at
        /// most.
        #[test]
        fn buckets_agree_with_counting(durations in prop::collection::vec(duration(), 0..200)) {
            let snapshot = of(&durations);
            for ladder in LADDERS {
                for (bound, counted) in ladder.bounds_us.iter().zip(snapshot.cumulative(&ladder)) {
                    let at_most = |limit| {
                        durations.iter().filter(|us| **us <= limit).count() as u64
                    };
                    prop_assert!(counted >= at_most(*bound), "{bound}");
                    prop_assert!(counted <= at_most(bound + bound / 128), "{bound}");
                }
            }
            prop_assert_eq!(snapshot.count(), durations.len() as u64);
            prop_assert_eq!(snapshot.sum_us(), durations.iter().sum::<u64>());
        }

        #[test]
        fn merging_is_recording_in_one(
            left in prop::collection::vec(duration(), 0..100),
            right in prop::collection::vec(duration(), 0..100),
        ) {
            let mut merged = of(&left);
            merged.merge(&of(&right));
            prop_assert_eq!(merged, of(&[left, right].concat()));
        }

        #[test]
        fn quantiles_are_within_a_bin_of_the_sorted_list(
            mut durations in prop::collection::vec(0..HIGHEST_US, 1..200),
            quantile in 0.0..=1.0f64,
        ) {
            durations.sort_unstable();
            let rank = (quantile * durations.len() as f64).ceil().max(1.0) as usize;
            let exact = durations[rank - 1];
            let found = of(&durations).quantile(quantile).unwrap();
            prop_assert!((exact..=exact + exact / 128).contains(&found), "{exact} {found}");
        }
    }
}
