//! Backends that failed and come back: ejection, trial, last resort, slow start.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{AdminState, Ejection, Eligibility};

const SECOND: Duration = Duration::from_secs(1);

/// A pool of the algorithm whose second backend came back at 100 s and grows over 64 s.
fn growing(algorithm: Algorithm, weights: &[u32]) -> Bench {
    let mut pool = pool(algorithm, &primaries(weights));
    pool.set_slow_start(Some(64 * SECOND));
    pool.set_eligibility(at(1), Eligibility::Down);
    pool.advance(100 * SECOND);
    pool.set_eligibility(at(1), Eligibility::Up);
    Bench::new(pool)
}

#[test]
fn round_robin_gives_a_backend_that_is_back_what_it_has_grown_to() {
    let mut bench = growing(Algorithm::RoundRobin, &[1, 1]);
    for (elapsed, parts) in [(0, 1), (1, 1), (2, 2), (16, 16), (32, 32), (63, 63)] {
        bench.pool.advance((100 + elapsed) * SECOND);
        // A cycle to forget the last step, then one to count.
        bench.counts(64 + parts);
        assert_eq!(bench.counts(64 + parts), [64, parts], "after {elapsed} s");
    }
    bench.pool.advance(164 * SECOND);
    bench.counts(2);
    assert_eq!(bench.counts(100), [50, 50]);
}

#[test]
fn it_grows_in_proportion_to_its_weight() {
    let mut bench = growing(Algorithm::RoundRobin, &[2, 6]);
    bench.pool.advance(132 * SECOND);
    bench.counts(100);
    assert_eq!(bench.counts(100), [40, 60]);
}

#[test]
fn random_and_least_connections_draw_by_what_it_has_grown_to() {
    for algorithm in [Algorithm::Random, Algorithm::LeastConnections] {
        let mut bench = growing(algorithm, &[1, 1, 1]);
        let of_second = |bench: &mut Bench| bench.counts(6_000)[1];
        bench.pool.advance(116 * SECOND);
        // A quarter of a share: 1 of 9.
        let quarter = of_second(&mut bench);
        assert!((500..840).contains(&quarter), "{algorithm:?}: {quarter}");
        bench.pool.advance(200 * SECOND);
        let whole = of_second(&mut bench);
        assert!((1_800..2_200).contains(&whole), "{algorithm:?}: {whole}");
    }
}

/// An idle backend that is back would otherwise get every connection until it is as loaded as the others.
#[test]
fn least_connections_fills_a_backend_that_is_back_in_proportion() {
    let mut bench = growing(Algorithm::LeastConnections, &[1, 1]);
    bench.pool.advance(116 * SECOND);
    for _ in 0..100 {
        let place = bench.place();
        bench.pool.opened(at(place));
    }
    assert_eq!([0, 1].map(|place| bench.pool.load(at(place))), [80, 20]);
}

#[test]
fn every_way_back_is_a_slow_start_and_staying_is_none() {
    let parts = |pool: &Pool| pool.backends[1].parts;
    let mut pool = growing(Algorithm::RoundRobin, &[1, 1]).pool;
    assert_eq!(parts(&pool), 1);
    pool.set_eligibility(at(1), Eligibility::Up);
    pool.advance(132 * SECOND);
    assert_eq!(parts(&pool), 32, "the same verdict again is no way back");
    pool.set_ejection(at(1), Ejection::Out);
    assert_eq!(parts(&pool), 64, "a last resort is not held back");
    pool.set_ejection(at(1), Ejection::Trial);
    assert_eq!(parts(&pool), 64, "nor is a trial");
    pool.set_ejection(at(1), Ejection::None);
    assert_eq!(parts(&pool), 1);
    pool.advance(300 * SECOND);
    assert_eq!(parts(&pool), 64);
    pool.set_admin_state(at(1), AdminState::Drain);
    pool.set_admin_state(at(1), AdminState::Active);
    assert_eq!(parts(&pool), 1);
}

#[test]
fn without_a_slow_start_a_backend_is_back_at_once() {
    let mut pool = pool(Algorithm::RoundRobin, &primaries(&[1, 1]));
    pool.set_eligibility(at(1), Eligibility::Down);
    pool.set_eligibility(at(1), Eligibility::Up);
    let mut bench = Bench::new(pool);
    assert_eq!(bench.counts(10), [5, 5]);
}

#[test]
fn a_replaced_pool_goes_on_growing() {
    let old = growing(Algorithm::RoundRobin, &[1, 1]).pool;
    let mut new = pool(Algorithm::RoundRobin, &primaries(&[1, 1]));
    new.set_slow_start(Some(64 * SECOND));
    new.inherit(&old);
    new.advance(132 * SECOND);
    assert_eq!(new.backends[1].parts, 32);
}

fn with_ejected(when_all_down: WhenAllDown, ejected: &[u16]) -> Bench {
    let mut pool = Pool::new(
        Algorithm::RoundRobin,
        when_all_down,
        &primaries(&[1, 1, 1]),
        0,
    );
    for place in ejected {
        pool.set_ejection(at(*place), Ejection::Out);
    }
    Bench::new(pool)
}

#[test]
fn an_ejected_backend_is_left_out_until_its_trial() {
    let mut bench = with_ejected(WhenAllDown::Try, &[1]);
    assert_eq!(bench.counts(10), [5, 0, 5]);
    bench.pool.set_ejection(at(1), Ejection::Trial);
    assert!(bench.counts(9)[1] > 0);
    bench.pool.set_ejection(at(1), Ejection::None);
    bench.counts(9);
    assert_eq!(bench.counts(9), [3, 3, 3]);
}

/// Both others were tried in vain: what is known of the ejected one is older than that.
#[test]
fn an_ejected_backend_is_the_last_resort_where_the_pool_fails_open() {
    let mut bench = with_ejected(WhenAllDown::Try, &[1]);
    assert_eq!(bench.pick_with(&tried(&[0, 2]), &[]), fail_open(1));
    assert_eq!(bench.pick_with(&tried(&[0]), &[2]), fail_open(1));
    bench.pool.set_eligibility(at(1), Eligibility::Down);
    assert_eq!(bench.pick_with(&tried(&[0, 2]), &[]), fail_open(1));
    let nobody = bench.pick_with(&tried(&[0]), &[2]);
    assert_eq!(nobody, none(NoBackend::AllFull));
}

#[test]
fn where_it_refuses_an_ejected_backend_is_no_resort() {
    let mut bench = with_ejected(WhenAllDown::Refuse, &[1]);
    let nobody = bench.pick_with(&tried(&[0, 2]), &[]);
    assert_eq!(nobody, none(NoBackend::AllTried));
    let mut bench = with_ejected(WhenAllDown::Refuse, &[0, 1, 2]);
    assert_eq!(bench.pick(), none(NoBackend::AllDown));
}

#[test]
fn all_ejected_is_all_down() {
    let mut bench = with_ejected(WhenAllDown::Try, &[0, 1, 2]);
    let Pick::Chosen { mode, .. } = bench.pick() else {
        panic!("it fails open")
    };
    assert_eq!(mode, PickMode::FailOpen);
}

#[test]
fn a_backup_comes_before_an_ejected_primary() {
    let params = [params(0, 1), backup(1, 1)];
    let mut pool = Pool::new(Algorithm::Maglev, WhenAllDown::Try, &params, 0);
    pool.set_ejection(at(0), Ejection::Out);
    let mut bench = Bench::new(pool);
    assert_eq!(bench.pick(), normal(1));
    assert_eq!(bench.pick_with(&tried(&[1]), &[]), fail_open(0));
}

proptest! {
    #[test]
    fn an_ejected_backend_is_picked_only_when_nobody_else_is_left(
        algorithm in prop::sample::select(&ALGORITHMS),
        states in prop::collection::vec((0u8..3, any::<bool>(), any::<bool>()), 1..8),
        tried_places in prop::collection::vec(0u16..8, 0..6),
        key in any::<u64>(),
    ) {
        let count = states.len() as u16;
        let params: Vec<_> = (0..count)
            .zip(&states)
            .map(|(place, state)| if state.2 { backup(place, 1) } else { params(place, 1) })
            .collect();
        let mut pool = pool(algorithm, &params);
        for (place, &(ejection, is_down, _)) in (0..count).zip(&states) {
            let ejection = [Ejection::None, Ejection::Out, Ejection::Trial][usize::from(ejection)];
            pool.set_ejection(at(place), ejection);
            let verdict = if is_down { Eligibility::Down } else { Eligibility::Up };
            pool.set_eligibility(at(place), verdict);
        }
        let tried_places: Vec<u16> = tried_places.into_iter().filter(|place| *place < count).collect();
        let tried = tried(&tried_places);
        let is_free = |place: u16| !tried_places.contains(&place);
        let is_up = |place: u16| states[usize::from(place)].0 != 1 && !states[usize::from(place)].1;
        match pool.pick(key, &mut Draw::new(key), &tried, |_| false) {
            Pick::Chosen { backend, mode: PickMode::Normal } => {
                prop_assert!(is_up(backend.get()) && is_free(backend.get()));
            }
            Pick::Chosen { backend, mode: PickMode::FailOpen } => {
                prop_assert!(!is_up(backend.get()) && is_free(backend.get()));
                prop_assert!((0..count).all(|place| !(is_up(place) && is_free(place))));
            }
            Pick::None(_) => {
                prop_assert!((0..count).all(|place| !(is_up(place) && is_free(place))));
            }
        }
    }

    #[test]
    fn a_share_grows_and_never_beyond_the_weight(
        over_ms in 1u64..100_000,
        times in prop::collection::vec(0u64..200_000, 1..50),
    ) {
        let mut pool = pool(Algorithm::Random, &primaries(&[3, 5]));
        pool.set_slow_start(Some(Duration::from_millis(over_ms)));
        pool.set_eligibility(at(1), Eligibility::Down);
        pool.set_eligibility(at(1), Eligibility::Up);
        let mut times = times;
        times.sort_unstable();
        let mut before = 0;
        for time in times {
            pool.advance(Duration::from_millis(time));
            let share = pool.backends[1].share();
            prop_assert!(share >= before && (5..=5 * 64).contains(&share));
            // A step may be late by the step's own length.
            let exact = 5 * 64 * time.min(over_ms) / over_ms;
            prop_assert!(share <= exact.max(5));
            before = share;
        }
        prop_assert_eq!(pool.backends[0].share(), 3 * 64);
        pool.advance(Duration::from_secs(1_000));
        prop_assert_eq!(pool.backends[1].share(), 5 * 64);
    }
}

#[test]
fn a_backend_that_joins_a_pool_grows_and_those_that_stay_do_not() {
    let mut old = pool(Algorithm::RoundRobin, &primaries(&[1, 1]));
    old.set_slow_start(Some(64 * SECOND));
    old.advance(100 * SECOND);
    let mut new = pool(Algorithm::RoundRobin, &primaries(&[1, 1, 1]));
    new.set_slow_start(Some(64 * SECOND));
    new.inherit(&old);
    new.advance(132 * SECOND);
    let parts: Vec<u32> = new.backends.iter().map(|b| b.parts).collect();
    assert_eq!(parts, [64, 64, 32]);
}

#[test]
fn a_replaced_pool_that_has_no_slow_start_any_more_stops_growing() {
    let old = growing(Algorithm::RoundRobin, &[1, 1]).pool;
    let mut new = pool(Algorithm::RoundRobin, &primaries(&[1, 1]));
    new.inherit(&old);
    new.advance(132 * SECOND);
    assert!(new.backends.iter().all(|b| b.parts == 64));
}

#[test]
fn a_backend_that_an_operator_gives_back_grows_as_one_that_is_back() {
    let params = primaries(&[1, 1]);
    let mut old = pool(Algorithm::RoundRobin, &params);
    old.set_slow_start(Some(64 * SECOND));
    old.advance(100 * SECOND);
    old.set_admin_state(at(1), AdminState::Maintenance);
    // A change comes as a pool that takes the old one's place.
    let mut new = pool(Algorithm::RoundRobin, &params);
    new.set_slow_start(Some(64 * SECOND));
    new.inherit(&old);
    new.set_admin_state(at(1), AdminState::Active);
    let mut bench = Bench::new(new);
    bench.pool.advance(116 * SECOND);
    bench.counts(80);
    assert_eq!(bench.counts(80), [64, 16]);
    bench.pool.advance(164 * SECOND);
    bench.counts(2);
    assert_eq!(bench.counts(100), [50, 50]);
}
