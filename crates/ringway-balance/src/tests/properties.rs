//! Properties of every pick, over random pools, states, loads, tried sets and limits.

use proptest::prelude::*;

use super::*;
use crate::{AdminState, Eligibility};

#[derive(Clone, Debug)]
struct Given {
    params: BackendParams,
    eligibility: Eligibility,
    admin_state: AdminState,
    load: u32,
    tried: bool,
    full: bool,
}

fn given() -> impl Strategy<Value = Given> {
    (
        prop_oneof![2 => Just(0u32), 5 => 1u32..20, 1 => any::<u32>()],
        any::<[bool; 4]>(),
        0u8..3,
        0u32..50,
        any::<u64>(),
    )
        .prop_map(
            |(weight, [backup, down, tried, full], admin, load, identity)| Given {
                params: BackendParams {
                    weight,
                    backup,
                    identity,
                },
                eligibility: if down {
                    Eligibility::Down
                } else {
                    Eligibility::Up
                },
                admin_state: match admin {
                    0 => AdminState::Drain,
                    1 => AdminState::Maintenance,
                    _ => AdminState::Active,
                },
                load,
                tried,
                full,
            },
        )
}

impl Given {
    fn is_offered(&self) -> bool {
        self.params.weight > 0 && self.admin_state == AdminState::Active
    }

    fn is_left(&self) -> bool {
        !self.tried && !self.full
    }
}

/// The rules once more, as a table: which mode, which places, or why none.
fn expected(
    given: &[Given],
    when_all_down: WhenAllDown,
) -> Result<(PickMode, Vec<u16>), NoBackend> {
    let offered = || given.iter().filter(|backend| backend.is_offered());
    if given.is_empty() {
        return Err(NoBackend::Empty);
    }
    if offered().count() == 0 {
        let any_active = given.iter().any(|b| b.admin_state == AdminState::Active);
        return Err(if any_active {
            NoBackend::AllWeightless
        } else {
            NoBackend::AllWithdrawn
        });
    }
    let any_up = offered().any(|b| b.eligibility == Eligibility::Up);
    let any_down = offered().any(|b| b.eligibility == Eligibility::Down);
    let has_failed_with_all_up = offered().all(|b| b.eligibility == Eligibility::Down || b.tried);
    let is_last_resort = any_up && any_down && has_failed_with_all_up;
    let (mode, wanted) = match (any_up, when_all_down) {
        (true, WhenAllDown::Try) if is_last_resort => (PickMode::FailOpen, Eligibility::Down),
        (true, _) => (PickMode::Normal, Eligibility::Up),
        (false, WhenAllDown::Try) => (PickMode::FailOpen, Eligibility::Down),
        (false, WhenAllDown::Refuse) => return Err(NoBackend::AllDown),
    };
    let places = |backup: bool| -> Vec<u16> {
        (0..)
            .zip(given)
            .filter(|(_, b)| b.is_offered() && b.eligibility == wanted && b.is_left())
            .filter(|(_, b)| b.params.backup == backup)
            .map(|(place, _)| place)
            .collect()
    };
    // Among those that are asked last, a backup is like any other.
    let tiers = match is_last_resort && any_up {
        true => vec![[places(false), places(true)].concat()],
        false => vec![places(false), places(true)],
    };
    let chosen_tier = tiers.into_iter().find(|tier| !tier.is_empty());
    let any_untried = offered().any(|b| b.eligibility == wanted && !b.tried);
    let reason = if any_untried {
        NoBackend::AllFull
    } else {
        NoBackend::AllTried
    };
    chosen_tier.map(|tier| (mode, tier)).ok_or(reason)
}

fn check(algorithm: Algorithm, when_all_down: WhenAllDown, given: &[Given], seed: u64) {
    let params: Vec<_> = given.iter().map(|b| b.params).collect();
    let mut pool = Pool::new(algorithm, when_all_down, &params, seed as u32 % 100);
    let mut tried = Tried::new();
    for (backend, state) in pool.indices().zip(given) {
        pool.set_eligibility(backend, state.eligibility);
        pool.set_admin_state(backend, state.admin_state);
        (0..state.load).for_each(|_| pool.opened(backend));
        if state.tried {
            tried.insert(backend);
        }
    }
    let expected = expected(given, when_all_down);
    let mut draw = Draw::new(seed);
    for round in 0..8 {
        let is_full = |backend: BackendIndex| given[backend.as_usize()].full;
        let pick = pool.pick(seed.wrapping_add(round), &mut draw, &tried, is_full);
        match (&expected, pick) {
            (Ok((mode, places)), Pick::Chosen { backend, mode: got }) => {
                assert_eq!(*mode, got);
                assert!(
                    places.contains(&backend.get()),
                    "{backend:?} is not among {places:?}"
                );
            }
            (Err(reason), Pick::None(got)) => assert_eq!(*reason, got),
            (expected, got) => panic!("{algorithm:?}: expected {expected:?}, got {got:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_pick_is_eligible_and_found_whenever_there_is_one(
        given in proptest::collection::vec(given(), 0..16),
        refuse in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let when_all_down = if refuse { WhenAllDown::Refuse } else { WhenAllDown::Try };
        for algorithm in [
            Algorithm::RoundRobin,
            Algorithm::LeastConnections,
            Algorithm::Random,
            Algorithm::SourceHash,
        ] {
            check(algorithm, when_all_down, &given, seed);
        }
    }

    #[test]
    fn round_robin_is_exact_over_each_cycle(
        weights in proptest::collection::vec(0u32..9, 1..10),
        start in any::<u32>(),
    ) {
        let total: u32 = weights.iter().sum();
        prop_assume!(total > 0);
        let params = primaries(&weights);
        let pool = Pool::new(Algorithm::RoundRobin, WhenAllDown::Try, &params, start);
        let mut bench = Bench::new(pool);
        let expected: Vec<usize> = weights.iter().map(|&weight| weight as usize).collect();
        for _ in 0..3 {
            prop_assert_eq!(&bench.counts(total as usize), &expected);
        }
    }

    #[test]
    fn two_choices_stay_within_the_least_loaded_but_one(
        loads in proptest::collection::vec(0u32..20, 2..10),
        seed in any::<u64>(),
    ) {
        let mut pool = pool(Algorithm::LeastConnections, &primaries(&vec![1; loads.len()]));
        for (backend, &load) in pool.indices().zip(&loads) {
            (0..load).for_each(|_| pool.opened(backend));
        }
        let worst = *loads.iter().max().expect("not empty");
        let pick = pool.pick(0, &mut Draw::new(seed), &Tried::new(), |_| false);
        let Pick::Chosen { backend, .. } = pick else { panic!("all are up") };
        let alone_at_the_top = loads.iter().filter(|&&load| load == worst).count() == 1;
        prop_assert!(!alone_at_the_top || pool.load(backend) < worst);
    }
}

proptest! {
    // Each case builds a table of 65,537 entries.
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_maglev_pick_is_eligible_and_found_whenever_there_is_one(
        given in proptest::collection::vec(given(), 0..16),
        seed in any::<u64>(),
    ) {
        check(Algorithm::Maglev, WhenAllDown::Try, &given, seed);
    }
}
