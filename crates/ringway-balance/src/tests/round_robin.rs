//! Exact sequences of smooth weighted round robin, and what changes at run time do to them.

use super::*;
use crate::{AdminState, Eligibility};

fn bench(weights: &[u32]) -> Bench {
    Bench::new(pool(Algorithm::RoundRobin, &primaries(weights)))
}

#[test]
fn a_cycle_of_5_3_1_is_exact_and_smooth() {
    let mut bench = bench(&[5, 3, 1]);
    for _ in 0..3 {
        assert_eq!(bench.places(9), [0, 1, 0, 2, 0, 1, 0, 1, 0]);
    }
}

#[test]
fn equal_weights_rotate() {
    assert_eq!(bench(&[7, 7, 7]).places(7), [0, 1, 2, 0, 1, 2, 0]);
}

#[test]
fn workers_with_different_starts_walk_the_same_cycle_from_other_places() {
    let params = primaries(&[5, 3, 1]);
    let cycle = [0, 1, 0, 2, 0, 1, 0, 1, 0];
    for start in 0..20u32 {
        let pool = Pool::new(Algorithm::RoundRobin, WhenAllDown::Try, &params, start);
        let expected: Vec<u16> = cycle
            .iter()
            .cycle()
            .skip(start as usize % 9)
            .take(9)
            .copied()
            .collect();
        assert_eq!(Bench::new(pool).places(9), expected, "start {start}");
    }
}

#[test]
fn a_start_beyond_the_longest_skip_is_folded() {
    let params = primaries(&[1_000_000, 1_000_000]);
    let first = |start| {
        Bench::new(Pool::new(
            Algorithm::RoundRobin,
            WhenAllDown::Try,
            &params,
            start,
        ))
        .place()
    };
    assert_eq!((first(u32::MAX), first(4096), first(4097)), (1, 0, 1));
}

#[test]
fn a_backend_that_leaves_and_returns_gets_neither_burst_nor_penalty() {
    let mut bench = bench(&[1, 1, 1]);
    bench.places(4);
    bench.pool.set_eligibility(at(1), Eligibility::Down);
    let settling = bench.counts(10);
    assert!(
        settling[0].abs_diff(settling[2]) <= 2 && settling[1] == 0,
        "{settling:?}"
    );
    assert_eq!(bench.counts(10), [5, 0, 5]);
    bench.pool.set_eligibility(at(1), Eligibility::Up);
    let counts = bench.counts(9);
    assert!(
        counts.iter().all(|&count| (2..=4).contains(&count)),
        "{counts:?}"
    );
    assert_eq!(bench.counts(30), [10, 10, 10]);
}

#[test]
fn a_backend_that_returns_owes_nothing_from_before() {
    let mut bench = bench(&[5, 1, 1, 1, 1, 1]);
    assert_eq!(bench.place(), 0);
    bench.pool.set_eligibility(at(0), Eligibility::Down);
    assert_eq!(bench.place(), 1);
    bench.pool.set_eligibility(at(0), Eligibility::Up);
    // Had it kept the debt of its first pick, the third backend would come before it.
    assert_eq!(bench.place(), 0);
}

#[test]
fn lowering_a_large_weight_does_not_starve_the_backend() {
    let mut bench = bench(&[1000, 1000]);
    assert_eq!(bench.place(), 0);
    bench.pool.set_weight(at(0), 1);
    bench.pool.set_weight(at(1), 1);
    let counts = bench.counts(10);
    assert!(counts.iter().all(|&count| count >= 4), "{counts:?}");
}

#[test]
fn a_weight_change_holds_from_the_next_cycle_on() {
    let mut bench = bench(&[1, 1]);
    bench.places(2);
    bench.pool.set_weight(at(1), 3);
    assert_eq!(bench.counts(40), [10, 30]);
}

#[test]
fn a_full_backend_is_passed_over_and_saves_up_less_than_a_cycle() {
    let mut bench = bench(&[1, 1, 1]);
    for _ in 0..100 {
        assert_ne!(bench.pick_with(&Tried::new(), &[0]), normal(0));
    }
    let counts = bench.counts(9);
    assert!(
        counts.iter().all(|&count| (2..=4).contains(&count)),
        "{counts:?}"
    );
}

#[test]
fn a_drained_backend_is_left_out_of_an_exact_cycle() {
    let mut bench = bench(&[5, 3, 1]);
    bench.pool.set_admin_state(at(0), AdminState::Drain);
    assert_eq!(bench.counts(8), [0, 6, 2]);
}
