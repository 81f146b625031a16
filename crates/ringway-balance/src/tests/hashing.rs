//! Source hash and Maglev: stability, disruption, independence of the order, and shares.

use super::*;
use crate::{Eligibility, MaglevTable, mix64};

const KEYS: u64 = 20_000;
const HASHING: [Algorithm; 2] = [Algorithm::SourceHash, Algorithm::Maglev];

/// The identity of the backend that each key goes to.
fn placement(pool: &mut Pool) -> Vec<u64> {
    let mut draw = Draw::new(0);
    let mut owner = |key| match pool.pick(mix64(key), &mut draw, &Tried::new(), |_| false) {
        Pick::Chosen { backend, .. } => pool.identity(backend),
        Pick::None(reason) => panic!("{reason:?}"),
    };
    (0..KEYS).map(&mut owner).collect()
}

fn moved(before: &[u64], after: &[u64]) -> f64 {
    let moved = before
        .iter()
        .zip(after)
        .filter(|(before, after)| before != after)
        .count();
    moved as f64 / before.len() as f64
}

#[test]
fn the_order_of_the_list_does_not_matter() {
    for algorithm in HASHING {
        let mut list = primaries(&[1, 5, 2, 2, 9, 1, 1]);
        let expected = placement(&mut pool(algorithm, &list));
        for _ in 0..list.len() {
            list.rotate_left(1);
            list.swap(0, 3);
            assert_eq!(
                placement(&mut pool(algorithm, &list)),
                expected,
                "{algorithm:?}"
            );
        }
    }
}

#[test]
fn the_placement_is_fixed_for_ever() {
    // These values are a promise to nodes of other versions: a change here moves clients on the day of an upgrade.
    let fingerprint = |algorithm| {
        let places = placement(&mut pool(algorithm, &primaries(&[1, 5, 2, 2, 9, 1, 1])));
        places
            .iter()
            .fold(0, |hash, &identity| mix64(hash ^ identity))
    };
    assert_eq!(
        HASHING.map(fingerprint),
        [4_314_754_982_722_650_424, 380_953_117_786_623_859]
    );
}

#[test]
fn removing_one_backend_moves_little_more_than_its_own_keys() {
    for algorithm in HASHING {
        for count in [2u16, 3, 10, 50] {
            let all = primaries(&vec![1; usize::from(count)]);
            let gone = all[usize::from(count) / 2].identity;
            let rest: Vec<_> = all.iter().copied().filter(|b| b.identity != gone).collect();
            let before = placement(&mut pool(algorithm, &all));
            let after = placement(&mut pool(algorithm, &rest));
            let share = moved(&before, &after);
            assert!(
                share <= 1.0 / f64::from(count) + 0.05,
                "{algorithm:?} of {count}: {share}"
            );
            if algorithm == Algorithm::SourceHash {
                let stayed = before
                    .iter()
                    .zip(&after)
                    .filter(|(before, _)| **before != gone);
                assert!(
                    { stayed }.all(|(before, after)| before == after),
                    "of {count}"
                );
            }
        }
    }
}

#[test]
fn a_down_backend_spreads_its_keys_over_the_others_and_gets_them_back() {
    for algorithm in HASHING {
        let mut pool = pool(algorithm, &primaries(&[1; 10]));
        let before = placement(&mut pool);
        let gone = pool.identity(at(4));
        pool.set_eligibility(at(4), Eligibility::Down);
        let during = placement(&mut pool);
        let mut heirs = std::collections::BTreeMap::new();
        for (before, during) in before.iter().zip(&during) {
            if *before == gone {
                *heirs.entry(*during).or_insert(0) += 1;
            } else {
                assert_eq!(before, during, "{algorithm:?}: a key moved without need");
            }
        }
        assert_eq!(heirs.len(), 9, "{algorithm:?}");
        assert!(
            heirs.values().all(|keys| (150..=300).contains(keys)),
            "{algorithm:?} {heirs:?}"
        );
        pool.set_eligibility(at(4), Eligibility::Up);
        assert_eq!(placement(&mut pool), before, "{algorithm:?}");
    }
}

#[test]
fn a_weight_change_moves_keys_towards_the_heavier_only() {
    let mut pool = pool(Algorithm::SourceHash, &primaries(&[1; 10]));
    let before = placement(&mut pool);
    pool.set_weight(at(3), 2);
    let heavier = pool.identity(at(3));
    let after = placement(&mut pool);
    assert!(
        before
            .iter()
            .zip(&after)
            .all(|(before, after)| before == after || *after == heavier)
    );
    assert!((0.06..0.10).contains(&moved(&before, &after)));
}

#[test]
fn weights_set_at_run_time_place_like_weights_set_at_creation() {
    for algorithm in HASHING {
        let mut changed = pool(algorithm, &primaries(&[1, 1, 0]));
        [3, 0, 2]
            .into_iter()
            .zip(0..)
            .for_each(|(weight, b)| changed.set_weight(at(b), weight));
        let mut created = pool(algorithm, &primaries(&[3, 0, 2]));
        assert_eq!(
            placement(&mut changed),
            placement(&mut created),
            "{algorithm:?}"
        );
    }
}

#[test]
fn half_of_the_backends_down_still_leaves_even_shares() {
    let mut pool = pool(Algorithm::Maglev, &primaries(&[1; 20]));
    (0..10).for_each(|place| pool.set_eligibility(at(place), Eligibility::Down));
    let counts = Bench::new(pool).counts(20_000);
    assert!(counts[..10].iter().all(|&count| count == 0));
    assert!(
        counts[10..]
            .iter()
            .all(|count| (1850..=2150).contains(count)),
        "{counts:?}"
    );
}

/// Entries of each backend, found by asking for more keys than there are entries.
fn shares(list: &[(u64, u32)]) -> Vec<f64> {
    let table = MaglevTable::build(list);
    let mut counts = vec![0u32; list.len()];
    for key in 0..400_000 {
        counts[table.owner(key).expect("a weight above 0").as_usize()] += 1;
    }
    counts
        .iter()
        .map(|&count| f64::from(count) / 400_000.0)
        .collect()
}

#[test]
fn the_table_is_shared_by_weight() {
    let list: Vec<_> = (0..10).map(|n| (stable_hash(&[n]), u32::from(n))).collect();
    for (share, (_, weight)) in shares(&list).into_iter().zip(list) {
        let expected = f64::from(weight) / 45.0;
        assert!(
            (share - expected).abs() < 0.02 * expected.max(0.1),
            "{share} for {expected}"
        );
    }
}

#[test]
fn one_heavy_backend_among_many_light_ones_gets_its_share() {
    let list: Vec<_> = (0..1000u16)
        .map(|n| (stable_hash(&n.to_be_bytes()), if n == 7 { 9000 } else { 1 }))
        .collect();
    let share = shares(&list)[7];
    assert!((0.89..0.91).contains(&share), "{share}");
}

#[test]
fn a_table_without_weights_owns_nothing() {
    assert_eq!(MaglevTable::build(&[]).owner(1), None);
    let table = MaglevTable::build(&[(1, 0), (2, 0)]);
    assert_eq!((table.owner(1), table.backend_count()), (None, 2));
}

#[test]
fn a_shared_table_serves_like_an_own_one() {
    let list = [params(0, 2), backup(1, 9), params(2, 1)];
    let table = std::sync::Arc::new(MaglevTable::for_backends(&list));
    let mut sharing = Pool::with_table(WhenAllDown::Try, &list, table.clone());
    assert_eq!(sharing.algorithm(), Algorithm::Maglev);
    assert_eq!(
        placement(&mut sharing),
        placement(&mut pool(Algorithm::Maglev, &list))
    );
    assert!(
        (0..1000).all(|key| table.owner(key) != Some(at(1))),
        "backups are not in the table"
    );
}

#[test]
fn equal_identities_do_not_confuse_either() {
    for algorithm in HASHING {
        let counts = Bench::new(pool(algorithm, &[params(1, 1), params(1, 1)])).counts(100);
        assert_eq!(counts.iter().sum::<usize>(), 100, "{algorithm:?}");
    }
}
