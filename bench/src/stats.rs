//! What paired samples say: medians, the Hodges-Lehmann estimate with the exact interval of the
//! signed-rank test, and a verdict. Pure. Invariant: a difference is called one only if the interval
//! over the pairs excludes it being chance and it is larger than what the same comparison of a
//! program with itself shows.
//!
//! Why this interval and not a bootstrap: with the six to twenty pairs that fit into a run, a
//! percentile bootstrap is too narrow, while the signed-rank interval is exact for any distribution
//! that is symmetric, which logarithms of ratios of exchangeable pairs are.

/// Fewest pairs for which the widest interval there is reaches 95 %.
const PAIRS_MIN: usize = 6;

/// The chance, in each tail, that the interval misses.
const TAIL: f64 = 0.025;

/// The middle of `values`; `None` if there are none.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// A ratio with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ratio {
    pub(crate) middle: f64,
    /// The 95 % interval, if there are enough pairs for one.
    pub(crate) interval: Option<(f64, f64)>,
    pub(crate) pairs: usize,
}

/// The ratio of ours to theirs over `pairs` of (ours, theirs): the Hodges-Lehmann estimate over the
/// logarithms. Pairs that are not positive have no ratio and are left out.
pub(crate) fn ratio(pairs: &[(f64, f64)]) -> Option<Ratio> {
    let logs: Vec<f64> = pairs
        .iter()
        .filter(|(ours, theirs)| *ours > 0.0 && *theirs > 0.0)
        .map(|(ours, theirs)| (ours / theirs).ln())
        .filter(|log| log.is_finite())
        .collect();
    let averages = walsh_averages(&logs);
    let middle = median(&averages)?.exp();
    let interval = rank_bound(logs.len()).map(|bound| {
        let last = averages.len() - bound;
        (averages[bound - 1].exp(), averages[last].exp())
    });
    Some(Ratio {
        middle,
        interval,
        pairs: logs.len(),
    })
}

/// The averages of all pairs of `values`, each with itself included, in order.
fn walsh_averages(values: &[f64]) -> Vec<f64> {
    let mut averages = Vec::with_capacity(values.len() * (values.len() + 1) / 2);
    for (index, one) in values.iter().enumerate() {
        averages.extend(values[index..].iter().map(|other| (one + other) / 2.0));
    }
    averages.sort_by(f64::total_cmp);
    averages
}

/// The place, counted from 1, of the Walsh average that bounds the interval from below: the largest
/// `k` for which the signed-rank statistic is below `k` with a probability of at most [`TAIL`].
fn rank_bound(count: usize) -> Option<usize> {
    if count < PAIRS_MIN {
        return None;
    }
    // How many of the 2^count sets of signs give each sum of ranks, as probabilities.
    let largest = count * (count + 1) / 2;
    let mut chances = vec![0.0_f64; largest + 1];
    chances[0] = 1.0;
    for rank in 1..=count {
        for sum in (0..=largest).rev() {
            let with_rank = if sum >= rank {
                chances[sum - rank]
            } else {
                0.0
            };
            chances[sum] = (chances[sum] + with_rank) / 2.0;
        }
    }
    let mut below = 0.0;
    let mut bound = 0;
    for chance in chances {
        below += chance;
        if below > TAIL {
            break;
        }
        bound += 1;
    }
    (bound > 0).then_some(bound)
}

/// Which way is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Lower,
    Higher,
}

/// What may be said about a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Ahead,
    Behind,
    /// The noise swallows whatever there is.
    NoDifference,
    TooFewPairs,
}

impl Verdict {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Verdict::Ahead => "ahead",
            Verdict::Behind => "behind",
            Verdict::NoDifference => "no difference shown",
            Verdict::TooFewPairs => "too few pairs",
        }
    }
}

/// The noise floor, as a factor: how far from 1 the interval of a program against itself reaches.
pub(crate) fn noise_floor(against_itself: &Ratio) -> Option<f64> {
    let (low, high) = against_itself.interval?;
    Some(low.ln().abs().max(high.ln().abs()).exp())
}

/// Judges `ratio`; without a noise `floor` nothing can be said.
pub(crate) fn verdict(ratio: &Ratio, floor: Option<f64>, better: Better) -> Verdict {
    let (Some((low, high)), Some(floor)) = (ratio.interval, floor) else {
        return Verdict::TooFewPairs;
    };
    let above_floor = ratio.middle.ln().abs() > floor.ln();
    let (is_lower, is_higher) = (high < 1.0 && above_floor, low > 1.0 && above_floor);
    match (is_lower, is_higher, better) {
        (true, _, Better::Lower) | (_, true, Better::Higher) => Verdict::Ahead,
        (true, _, Better::Higher) | (_, true, Better::Lower) => Verdict::Behind,
        (false, false, Better::Lower | Better::Higher) => Verdict::NoDifference,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    /// The critical values of the two-sided 5 % signed-rank test, as tables print them, plus one.
    #[test]
    fn the_bounds_are_those_of_the_tables() {
        for (count, bound) in [
            (6, 1),
            (7, 3),
            (8, 4),
            (9, 6),
            (10, 9),
            (12, 14),
            (15, 26),
            (20, 53),
        ] {
            assert_eq!(rank_bound(count), Some(bound), "{count} pairs");
        }
        assert_eq!(rank_bound(5), None);
    }

    #[test]
    fn the_estimate_is_the_median_of_the_walsh_averages() {
        assert_eq!(
            walsh_averages(&[1.0, 2.0, 6.0]),
            [1.0, 1.5, 2.0, 3.5, 4.0, 6.0]
        );
        let e = std::f64::consts::E;
        let pairs = [(e, 1.0), (e * e, 1.0), (e.powi(6), 1.0)];
        let ratio = ratio(&pairs).unwrap();
        assert!((ratio.middle.ln() - 2.75).abs() < 1e-12);
        assert_eq!(ratio.interval, None);
    }

    #[test]
    fn six_pairs_span_from_the_least_to_the_greatest() {
        let pairs: Vec<(f64, f64)> = (1..=6).map(|k| (f64::from(k), 10.0)).collect();
        let (low, high) = ratio(&pairs).unwrap().interval.unwrap();
        assert!((low - 0.1).abs() < 1e-12 && (high - 0.6).abs() < 1e-12);
    }

    #[test]
    fn what_is_not_positive_is_left_out() {
        assert_eq!(ratio(&[(0.0, 1.0), (1.0, 0.0)]), None);
        assert_eq!(ratio(&[(0.0, 1.0), (2.0, 1.0)]).unwrap().pairs, 1);
    }

    fn of(middle: f64, low: f64, high: f64) -> Ratio {
        Ratio {
            middle,
            interval: Some((low, high)),
            pairs: 10,
        }
    }

    #[test]
    fn verdicts() {
        let floor = noise_floor(&of(1.01, 0.97, 1.04));
        assert!((floor.unwrap() - 1.04).abs() < 1e-9);
        let judged = |ratio, better| verdict(&ratio, floor, better);
        assert_eq!(judged(of(0.8, 0.7, 0.9), Better::Lower), Verdict::Ahead);
        assert_eq!(judged(of(0.8, 0.7, 0.9), Better::Higher), Verdict::Behind);
        assert_eq!(judged(of(1.2, 1.1, 1.3), Better::Lower), Verdict::Behind);
        assert_eq!(judged(of(1.2, 1.1, 1.3), Better::Higher), Verdict::Ahead);
        assert_eq!(
            judged(of(0.9, 0.7, 1.1), Better::Lower),
            Verdict::NoDifference,
            "the interval has 1 in it"
        );
        assert_eq!(
            judged(of(0.97, 0.96, 0.98), Better::Lower),
            Verdict::NoDifference,
            "smaller than the noise"
        );
        let few = Ratio {
            interval: None,
            ..of(0.5, 0.5, 0.5)
        };
        assert_eq!(verdict(&few, floor, Better::Lower), Verdict::TooFewPairs);
        let clear = of(0.5, 0.4, 0.6);
        assert_eq!(verdict(&clear, None, Better::Lower), Verdict::TooFewPairs);
    }

    /// Over all signs of symmetric noise, the interval misses the truth as rarely as it says: exactly
    /// countable for few pairs.
    #[test]
    fn the_interval_covers_what_it_promises() {
        for count in 6..=10_u32 {
            let misses = (0..1_u32 << count)
                .filter(|signs| {
                    let pairs: Vec<(f64, f64)> = (0..count)
                        .map(|k| {
                            let size = 0.01 * f64::from(k + 1) * 1.37_f64.powi(k.cast_signed());
                            let log = if signs >> k & 1 == 1 { size } else { -size };
                            (log.exp(), 1.0)
                        })
                        .collect();
                    let (low, high) = ratio(&pairs).unwrap().interval.unwrap();
                    low > 1.0 || high < 1.0
                })
                .count();
            let missed = misses as f64 / f64::from(1_u32 << count);
            assert!(missed <= 0.05, "{count} pairs: {missed}");
        }
    }

    proptest! {
        #[test]
        fn swapping_sides_inverts_everything(
            pairs in prop::collection::vec((0.01_f64..100.0, 0.01_f64..100.0), 1..30)
        ) {
            let swapped: Vec<(f64, f64)> = pairs.iter().map(|(a, b)| (*b, *a)).collect();
            let (one, other) = (ratio(&pairs).unwrap(), ratio(&swapped).unwrap());
            prop_assert!((one.middle * other.middle - 1.0).abs() < 1e-9);
            if let (Some((low, high)), Some((other_low, other_high))) = (one.interval, other.interval) {
                prop_assert!((low * other_high - 1.0).abs() < 1e-9);
                prop_assert!((high * other_low - 1.0).abs() < 1e-9);
            }
        }

        #[test]
        fn the_estimate_lies_in_its_interval_and_the_interval_among_the_pairs(
            pairs in prop::collection::vec((0.01_f64..100.0, 0.01_f64..100.0), 6..30)
        ) {
            let found = ratio(&pairs).unwrap();
            let (low, high) = found.interval.unwrap();
            let ratios: Vec<f64> = pairs.iter().map(|(a, b)| a / b).collect();
            let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
            let greatest = ratios.iter().copied().fold(0.0, f64::max);
            prop_assert!(low <= found.middle && found.middle <= high);
            prop_assert!(least <= low * (1.0 + 1e-9) && high <= greatest * (1.0 + 1e-9));
        }

        #[test]
        fn a_common_factor_of_a_pair_changes_nothing(
            pairs in prop::collection::vec((0.01_f64..100.0, 0.01_f64..100.0), 1..12),
            drift in 0.1_f64..10.0,
        ) {
            let drifted: Vec<(f64, f64)> = pairs
                .iter()
                .enumerate()
                .map(|(place, (a, b))| {
                    let factor = drift.powi(i32::try_from(place % 3).unwrap());
                    (a * factor, b * factor)
                })
                .collect();
            let (one, other) = (ratio(&pairs).unwrap(), ratio(&drifted).unwrap());
            prop_assert!((one.middle / other.middle - 1.0).abs() < 1e-9);
        }
    }
}
