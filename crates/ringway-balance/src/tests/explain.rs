//! What explain says is what pick does.

use proptest::prelude::*;

use super::*;
use crate::{AdminState, Ejection, Eligibility, Verdict};

/// A backend of any weight, tier and state, its load, and whether it is full.
type Given = (u32, bool, u8, u8, u8, u32, bool);

fn given() -> impl Strategy<Value = Given> {
    (
        0u32..4,
        any::<bool>(),
        0u8..3,
        0u8..3,
        0u8..6,
        0u32..6,
        any::<bool>(),
    )
}

fn made(algorithm: Algorithm, when_all_down: WhenAllDown, given: &[Given], start: u32) -> Pool {
    let params: Vec<_> = (0..)
        .zip(given)
        .map(|(place, &(weight, backup, ..))| BackendParams {
            backup,
            ..params(place, weight)
        })
        .collect();
    let mut pool = Pool::new(algorithm, when_all_down, &params, start);
    for (backend, &(_, _, down, out, admin, load, _)) in pool.indices().zip(given) {
        if down == 0 {
            pool.set_eligibility(backend, Eligibility::Down);
        }
        pool.set_ejection(
            backend,
            match out {
                0 => Ejection::Out,
                1 => Ejection::Trial,
                _ => Ejection::None,
            },
        );
        pool.set_admin_state(
            backend,
            match admin {
                0 => AdminState::Drain,
                1 => AdminState::Maintenance,
                _ => AdminState::Active,
            },
        );
        (0..load).for_each(|_| pool.opened(backend));
    }
    pool
}

fn check(algorithm: Algorithm, when_all_down: WhenAllDown, given: &[Given], seed: u64) {
    let mut pool = made(algorithm, when_all_down, given, seed as u32 % 50);
    let is_full = |backend: BackendIndex| given[backend.as_usize()].6;
    let mut draw = Draw::new(seed);
    for round in 0..6 {
        let key = seed.wrapping_add(round);
        let told = pool.explain(key, &draw, is_full);
        assert_eq!(
            told,
            pool.explain(key, &draw, is_full),
            "asking changes nothing"
        );
        let pick = pool.pick(key, &mut draw, &Tried::new(), is_full);
        assert_eq!(told.pick, pick, "{algorithm:?}");
        let chosen = match pick {
            Pick::Chosen { backend, .. } => Some(backend),
            Pick::None(_) => None,
        };
        for (backend, place) in pool.indices().zip(&told.places) {
            assert_eq!(place.verdict == Verdict::Chosen, chosen == Some(backend));
            // Every reason is one that its owner can see.
            let (weight, backup, ..) = given[backend.as_usize()];
            match place.verdict {
                Verdict::Chosen | Verdict::Candidate => {}
                Verdict::Backup => assert!(backup),
                Verdict::Down => assert_eq!(pool.eligibility(backend), Eligibility::Down),
                Verdict::Ejected => assert_eq!(pool.ejection(backend), Ejection::Out),
                Verdict::Full => assert!(is_full(backend)),
                Verdict::Weightless => assert_eq!(weight, 0),
                Verdict::Drain => assert_eq!(pool.admin_state(backend), AdminState::Drain),
                Verdict::Maintenance => {
                    assert_eq!(pool.admin_state(backend), AdminState::Maintenance);
                }
            }
            // Where an order decides, no candidate comes before the one that was chosen.
            let decides = match algorithm {
                Algorithm::RoundRobin | Algorithm::SourceHash | Algorithm::Maglev => true,
                Algorithm::LeastConnections | Algorithm::Random => false,
            };
            if let (true, Some(chosen)) = (decides, chosen) {
                let best = told.places[chosen.as_usize()].rank;
                let comes_before = place.rank.zip(best).is_some_and(|(own, best)| own < best);
                assert!(
                    !comes_before || place.verdict == Verdict::Full,
                    "{algorithm:?}"
                );
            }
        }
        if chosen.is_none() {
            let is_left = |place: &crate::Place| place.verdict == Verdict::Candidate;
            assert!(!told.places.iter().any(is_left));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_told_is_what_is_picked(
        given in proptest::collection::vec(given(), 0..12),
        refuse in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let when_all_down = if refuse { WhenAllDown::Refuse } else { WhenAllDown::Try };
        for algorithm in ALGORITHMS {
            if algorithm != Algorithm::Maglev {
                check(algorithm, when_all_down, &given, seed);
            }
        }
    }
}

proptest! {
    // Each case builds a table of 65,537 entries.
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn what_is_told_of_a_table_is_what_is_picked(
        given in proptest::collection::vec(given(), 0..12),
        seed in any::<u64>(),
    ) {
        check(Algorithm::Maglev, WhenAllDown::Try, &given, seed);
    }
}

#[test]
fn the_reasons_are_told_apart() {
    let list = [
        params(0, 1),
        params(1, 1),
        params(2, 1),
        params(3, 0),
        params(4, 1),
        params(5, 1),
        params(6, 1),
        backup(7, 1),
    ];
    let mut pool = pool(Algorithm::RoundRobin, &list);
    pool.set_eligibility(at(1), Eligibility::Down);
    pool.set_ejection(at(2), Ejection::Out);
    pool.set_admin_state(at(4), AdminState::Drain);
    pool.set_admin_state(at(5), AdminState::Maintenance);
    let told = pool.explain(0, &Draw::new(0), |backend| backend == at(6));
    let verdicts: Vec<Verdict> = told.places.iter().map(|place| place.verdict).collect();
    assert_eq!(
        verdicts,
        [
            Verdict::Chosen,
            Verdict::Down,
            Verdict::Ejected,
            Verdict::Weightless,
            Verdict::Drain,
            Verdict::Maintenance,
            Verdict::Full,
            Verdict::Backup,
        ]
    );
}

#[test]
fn a_table_tells_the_entries_it_was_looked_up_in() {
    let mut pool = pool(Algorithm::Maglev, &primaries(&[1, 1, 1]));
    let draw = Draw::new(0);
    let first = pool.explain(7, &draw, |_| false);
    let [(_, owner)] = first.entries[..] else {
        panic!("{:?}", first.entries)
    };
    assert_eq!(first.pick, normal(owner.get()));
    pool.set_eligibility(owner, Eligibility::Down);
    let next = pool.explain(7, &draw, |_| false);
    assert_eq!(next.entries[0], first.entries[0]);
    assert!(next.entries.len() > 1);
    assert_ne!(next.pick, first.pick);
}
