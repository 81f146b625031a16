//! How connections spread: least connections and the shares of every weighted algorithm, with fixed seeds.

use super::*;

/// Pearson's statistic of the counts against shares in proportion to the weights.
fn chi_square(counts: &[usize], weights: &[u32]) -> f64 {
    let picks: usize = counts.iter().sum();
    let total: u32 = weights.iter().sum();
    let terms = counts.iter().zip(weights).map(|(&count, &weight)| {
        let expected = picks as f64 * f64::from(weight) / f64::from(total);
        (count as f64 - expected).powi(2) / expected
    });
    terms.sum()
}

#[test]
fn shares_follow_the_weights() {
    let weights = [1, 2, 3, 4, 10, 1, 2, 3, 4, 10];
    // Least connections draws by weight while all are idle; the table of Maglev adds an error of its own.
    for algorithm in [
        Algorithm::Random,
        Algorithm::SourceHash,
        Algorithm::LeastConnections,
    ] {
        let counts = Bench::new(pool(algorithm, &primaries(&weights))).counts(40_000);
        let statistic = chi_square(&counts, &weights);
        // 9 degrees of freedom: above 27.9 once in a thousand.
        assert!(statistic < 27.9, "{algorithm:?}: {statistic} {counts:?}");
    }
}

#[test]
fn shares_follow_the_weights_when_some_are_tried() {
    let mut bench = Bench::new(pool(Algorithm::Random, &primaries(&[96, 1, 1, 2])));
    let tried = tried(&[0]);
    let mut counts = [0; 3];
    for _ in 0..8000 {
        let Pick::Chosen { backend, .. } = bench.pick_with(&tried, &[]) else {
            panic!("three are left")
        };
        counts[backend.as_usize() - 1] += 1;
    }
    // 2 degrees of freedom: above 13.8 once in a thousand.
    assert!(chi_square(&counts, &[1, 1, 2]) < 13.8, "{counts:?}");
}

#[test]
fn two_choices_find_the_idle_backend_among_two_exactly() {
    let mut bench = Bench::new(pool(Algorithm::LeastConnections, &primaries(&[1, 1])));
    bench.pool.opened(at(0));
    assert_eq!(bench.places(50), [1; 50]);
    let mut bench = Bench::new(pool(Algorithm::LeastConnections, &primaries(&[1; 5])));
    bench.pool.opened(at(1));
    bench.pool.opened(at(3));
    for _ in 0..50 {
        assert_eq!(
            bench.pick_with(&tried(&[0, 2]), &[1]),
            bench.pick_with(&tried(&[0, 2]), &[1, 3])
        );
    }
}

#[test]
fn two_choices_never_take_the_most_loaded() {
    let mut bench = Bench::new(pool(Algorithm::LeastConnections, &primaries(&[1; 8])));
    bench.pool.opened(at(5));
    let counts = bench.counts(4000);
    assert_eq!(counts[5], 0);
    assert!(
        counts.iter().filter(|&&count| count > 400).count() == 7,
        "{counts:?}"
    );
}

#[test]
fn least_connections_weighs_loads() {
    let mut bench = Bench::new(pool(Algorithm::LeastConnections, &primaries(&[3, 1])));
    for _ in 0..400 {
        let place = bench.place();
        bench.pool.opened(at(place));
    }
    assert_eq!((bench.pool.load(at(0)), bench.pool.load(at(1))), (300, 100));
}

#[test]
fn two_choices_keep_held_connections_close_together() {
    let weights = [1, 1, 1, 1, 2, 2, 2, 2, 4, 4];
    let mut bench = Bench::new(pool(Algorithm::LeastConnections, &primaries(&weights)));
    for _ in 0..20_000 {
        let place = bench.place();
        bench.pool.opened(at(place));
    }
    for (place, &weight) in (0..).zip(&weights) {
        let per_weight = bench.pool.load(at(place)) / weight;
        assert!(
            (990..=1010).contains(&per_weight),
            "backend {place}: {per_weight}"
        );
    }
}

#[test]
fn ties_between_two_idle_backends_are_broken_by_weight() {
    let mut bench = Bench::new(pool(Algorithm::LeastConnections, &primaries(&[3, 1])));
    let counts = bench.counts(8000);
    // 1 degree of freedom: above 10.8 once in a thousand.
    assert!(chi_square(&counts, &[3, 1]) < 10.8, "{counts:?}");
}
