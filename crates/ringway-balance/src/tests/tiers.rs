//! Who may be picked at all, in every algorithm: tiers, states, limits, failing open, and the named reasons.

use super::*;
use crate::{AdminState, Ejection, Eligibility};

/// Runs the check with a pool of each algorithm.
fn in_each(backends: &[BackendParams], when_all_down: WhenAllDown, check: impl Fn(&mut Bench)) {
    for algorithm in ALGORITHMS {
        check(&mut Bench::new(Pool::new(
            algorithm,
            when_all_down,
            backends,
            3,
        )));
    }
}

#[test]
fn an_empty_pool_says_so() {
    in_each(&[], WhenAllDown::Try, |bench| {
        assert!(bench.pool.is_empty());
        assert_eq!(bench.pick(), none(NoBackend::Empty));
    });
}

#[test]
fn one_backend_is_always_chosen() {
    in_each(&primaries(&[3]), WhenAllDown::Try, |bench| {
        assert_eq!(bench.places(5), [0; 5])
    });
}

#[test]
fn weights_all_zero_pick_nothing_and_do_not_divide() {
    in_each(&primaries(&[0, 0]), WhenAllDown::Try, |bench| {
        assert_eq!(bench.pick(), none(NoBackend::AllWeightless));
        bench.pool.set_weight(at(1), 1);
        assert_eq!(bench.places(3), [1, 1, 1]);
        bench.pool.set_weight(at(1), 0);
        assert_eq!(bench.pick(), none(NoBackend::AllWeightless));
    });
}

#[test]
fn weight_zero_is_never_chosen_even_when_the_others_are_down() {
    in_each(&primaries(&[0, 1]), WhenAllDown::Try, |bench| {
        bench.pool.set_eligibility(at(1), Eligibility::Down);
        assert_eq!(bench.pick(), fail_open(1));
    });
}

#[test]
fn the_largest_weights_do_not_overflow() {
    in_each(&primaries(&[u32::MAX; 40]), WhenAllDown::Try, |bench| {
        bench.pool.opened(at(0));
        let counts = bench.counts(4000);
        assert!(counts.iter().skip(1).all(|&count| count > 0), "{counts:?}");
    });
}

#[test]
fn drain_and_maintenance_take_no_new_connections() {
    in_each(&primaries(&[1, 1, 1]), WhenAllDown::Try, |bench| {
        bench.pool.set_admin_state(at(0), AdminState::Drain);
        bench.pool.set_admin_state(at(2), AdminState::Maintenance);
        assert_eq!(bench.places(5), [1; 5]);
        bench.pool.set_admin_state(at(1), AdminState::Drain);
        assert_eq!(bench.pick(), none(NoBackend::AllWithdrawn));
        bench.pool.set_admin_state(at(2), AdminState::Active);
        assert_eq!(bench.places(5), [2; 5]);
    });
}

#[test]
fn failing_open_spares_the_withdrawn() {
    in_each(&primaries(&[1, 1]), WhenAllDown::Try, |bench| {
        bench.pool.set_admin_state(at(0), AdminState::Maintenance);
        bench.pool.set_eligibility(at(1), Eligibility::Down);
        assert_eq!(bench.pick(), fail_open(1));
    });
}

#[test]
fn backups_serve_only_while_no_primary_can() {
    let backends = [backup(0, 9), params(1, 1), backup(2, 9), params(3, 1)];
    in_each(&backends, WhenAllDown::Try, |bench| {
        assert!(bench.places(50).iter().all(|place| [1, 3].contains(place)));
        bench.pool.set_eligibility(at(1), Eligibility::Down);
        assert_eq!(bench.places(5), [3; 5]);
        assert_eq!(
            bench.pick_with(&Tried::new(), &[0, 3]),
            normal(2),
            "a full primary"
        );
        assert_eq!(
            bench.pick_with(&tried(&[2, 3]), &[]),
            normal(0),
            "a tried primary"
        );
        bench.pool.set_admin_state(at(3), AdminState::Drain);
        assert!(bench.places(50).iter().all(|place| [0, 2].contains(place)));
        bench.pool.set_eligibility(at(1), Eligibility::Up);
        assert_eq!(bench.places(5), [1; 5]);
    });
}

#[test]
fn a_pool_of_backups_alone_serves_from_them() {
    in_each(&[backup(0, 1), backup(1, 1)], WhenAllDown::Try, |bench| {
        let counts = bench.counts(200);
        assert!(counts.iter().all(|&count| count > 50), "{counts:?}");
    });
}

#[test]
fn all_down_fails_open_primaries_first() {
    let backends = [backup(0, 1), params(1, 1), params(2, 1)];
    in_each(&backends, WhenAllDown::Try, |bench| {
        bench
            .pool
            .indices()
            .for_each(|b| bench.pool.set_eligibility(b, Eligibility::Down));
        assert_eq!(bench.pick_with(&tried(&[2]), &[]), fail_open(1));
        assert_eq!(bench.pick_with(&tried(&[1]), &[2]), fail_open(0));
        assert_eq!(
            bench.pick_with(&tried(&[0, 1, 2]), &[]),
            none(NoBackend::AllTried)
        );
        bench.pool.set_eligibility(at(0), Eligibility::Up);
        assert_eq!(
            bench.places(5),
            [0; 5],
            "a backup that is up beats primaries that are down"
        );
    });
}

#[test]
fn all_down_refuses_when_told_to() {
    in_each(&primaries(&[1, 1]), WhenAllDown::Refuse, |bench| {
        bench.pool.set_eligibility(at(0), Eligibility::Down);
        assert_eq!(bench.places(3), [1; 3]);
        bench.pool.set_eligibility(at(1), Eligibility::Down);
        assert_eq!(bench.pick(), none(NoBackend::AllDown));
        bench.pool.set_eligibility(at(1), Eligibility::Up);
        assert_eq!(bench.places(3), [1; 3]);
    });
}

#[test]
fn down_backends_are_not_tried_because_the_others_are_full() {
    for when_all_down in [WhenAllDown::Try, WhenAllDown::Refuse] {
        in_each(&primaries(&[1, 1, 1]), when_all_down, |bench| {
            bench.pool.set_eligibility(at(0), Eligibility::Down);
            for (tries, full) in [(&[][..], &[1, 2][..]), (&[1], &[2])] {
                assert_eq!(
                    bench.pick_with(&tried(tries), full),
                    none(NoBackend::AllFull)
                );
            }
        });
    }
}

/// What the checks have seen is older than what this connection has.
#[test]
fn a_connection_that_failed_with_all_others_tries_those_that_are_down() {
    let backends = [params(0, 1), params(1, 1), backup(2, 1)];
    in_each(&backends, WhenAllDown::Try, |bench| {
        bench.pool.set_eligibility(at(0), Eligibility::Down);
        assert_eq!(bench.pick_with(&tried(&[1]), &[]), normal(2));
        assert_eq!(bench.pick_with(&tried(&[1, 2]), &[]), fail_open(0));
        assert_eq!(
            bench.pick_with(&tried(&[1, 2]), &[0]),
            none(NoBackend::AllFull)
        );
        assert_eq!(
            bench.pick_with(&tried(&[0, 1, 2]), &[]),
            none(NoBackend::AllTried)
        );
        bench.pool.set_ejection(at(1), Ejection::Out);
        assert_eq!(bench.pick_with(&tried(&[2]), &[]), fail_open(1));
    });
    in_each(&backends, WhenAllDown::Refuse, |bench| {
        bench.pool.set_eligibility(at(0), Eligibility::Down);
        assert_eq!(
            bench.pick_with(&tried(&[1, 2]), &[]),
            none(NoBackend::AllTried)
        );
    });
}

#[test]
fn a_reload_inherits_states_and_loads_by_identity() {
    let mut old = pool(Algorithm::LeastConnections, &primaries(&[1, 1, 1]));
    old.opened(at(2));
    old.set_eligibility(at(1), Eligibility::Down);
    old.set_admin_state(at(2), AdminState::Drain);
    let mut new = pool(
        Algorithm::LeastConnections,
        &[params(2, 4), params(9, 1), params(1, 1)],
    );
    new.inherit(&old);
    let state = |b| {
        (
            new.eligibility(b),
            new.admin_state(b),
            new.load(b),
            new.weight(b),
        )
    };
    assert_eq!(state(at(0)), (Eligibility::Up, AdminState::Drain, 1, 4));
    assert_eq!(state(at(1)), (Eligibility::Up, AdminState::Active, 0, 1));
    assert_eq!(state(at(2)), (Eligibility::Down, AdminState::Active, 0, 1));
    assert_eq!(new.find(params(9, 1).identity), Some(at(1)));
    assert_eq!(new.find(params(0, 1).identity), None);
    assert_eq!(Bench::new(new).places(3), [1; 3]);
}

#[test]
fn loads_count_what_was_opened_and_closed() {
    let mut pool = pool(Algorithm::RoundRobin, &primaries(&[1, 1]));
    pool.opened(at(1));
    pool.opened(at(1));
    pool.closed(at(1));
    assert_eq!((pool.load(at(0)), pool.load(at(1))), (0, 1));
    let unbalanced = std::panic::catch_unwind(move || pool.closed(at(0)));
    assert!(
        unbalanced.is_err(),
        "closing what was never opened must not pass"
    );
}
