//! Every state meets every event; then what holds whatever happens.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
/// No jitter.
const WHOLE: u64 = 0;

fn params() -> OutlierParams {
    OutlierParams {
        consecutive_failures: 3,
        ejection: 8 * SECOND,
        max_ejection: 20 * SECOND,
        max_ejected_percent: 50,
    }
}

fn ejected(lasts: u64, cause: EjectCause) -> Option<Change> {
    let lasts = SECOND * lasts as u32;
    Some(Change::Ejected { lasts, cause })
}

/// Two backends; the first has just been ejected at 0 s, for 8 s.
fn with_one_out() -> Outliers {
    let mut outliers = Outliers::new(&params(), 2);
    assert_eq!(outliers.on_failure(0, 1, Duration::ZERO, WHOLE), None);
    assert_eq!(outliers.on_failure(0, 2, Duration::ZERO, WHOLE), None);
    let change = outliers.on_failure(0, 3, Duration::ZERO, WHOLE);
    assert_eq!(change, ejected(8, EjectCause::Failures(3)));
    outliers
}

fn half_open() -> Outliers {
    let mut outliers = with_one_out();
    assert_eq!(outliers.pop_due(6 * SECOND), Some((0, Change::HalfOpen)));
    outliers
}

fn trying() -> Outliers {
    let mut outliers = half_open();
    assert_eq!(outliers.on_attempt(0, 7), Some(Change::Trying));
    outliers
}

#[test]
fn every_state_meets_every_event() {
    let closed = || Outliers::new(&params(), 2);
    type Event = fn(&mut Outliers) -> Option<Change>;
    let events: [(&str, Event); 8] = [
        ("attempt", |o| o.on_attempt(0, 9)),
        ("success", |o| o.on_success(0)),
        ("recovery", |o| o.on_recovery(0)),
        ("failure of 7", |o| o.on_failure(0, 7, 9 * SECOND, WHOLE)),
        ("failure of 8", |o| o.on_failure(0, 8, 9 * SECOND, WHOLE)),
        ("abandoned by 7", |o| o.on_abandoned(0, 7)),
        ("abandoned by 8", |o| o.on_abandoned(0, 8)),
        ("time", |o| o.pop_due(9 * SECOND).map(|(_, change)| change)),
    ];
    let mut table = String::new();
    for make in [closed, with_one_out, half_open, trying] {
        for (name, event) in events {
            let mut outliers = make();
            let from = outliers.state(0);
            let change = event(&mut outliers);
            let to = outliers.state(0);
            let told = change.map_or("-".to_owned(), |change| format!("{change:?}"));
            let line = format!("{from:?} {name}: {to:?} {told}");
            writeln!(table, "{line}").unwrap();
            assert_eq!(outliers.state(1), BreakerState::Closed);
        }
    }
    assert_eq!(table, EXPECTED_TABLE);
}

const EXPECTED_TABLE: &str = "\
Closed attempt: Closed -
Closed success: Closed -
Closed recovery: Closed -
Closed failure of 7: Closed -
Closed failure of 8: Closed -
Closed abandoned by 7: Closed -
Closed abandoned by 8: Closed -
Closed time: Closed -
Ejected attempt: Ejected -
Ejected success: Closed Returned(Connected)
Ejected recovery: Closed Returned(HealthCheck)
Ejected failure of 7: Ejected -
Ejected failure of 8: Ejected -
Ejected abandoned by 7: Ejected -
Ejected abandoned by 8: Ejected -
Ejected time: HalfOpen HalfOpen
HalfOpen attempt: Trying Trying
HalfOpen success: Closed Returned(Connected)
HalfOpen recovery: Closed Returned(HealthCheck)
HalfOpen failure of 7: HalfOpen -
HalfOpen failure of 8: HalfOpen -
HalfOpen abandoned by 7: HalfOpen -
HalfOpen abandoned by 8: HalfOpen -
HalfOpen time: Closed Returned(Ended)
Trying attempt: Trying -
Trying success: Closed Returned(Connected)
Trying recovery: Closed Returned(HealthCheck)
Trying failure of 7: Ejected Ejected { lasts: 16s, cause: TrialFailed }
Trying failure of 8: Trying -
Trying abandoned by 7: HalfOpen HalfOpen
Trying abandoned by 8: Trying -
Trying time: Trying -
";

#[test]
fn only_failures_in_a_row_count() {
    let mut outliers = Outliers::new(&params(), 2);
    for round in 0..10 {
        for id in 0..2 {
            assert_eq!(outliers.on_failure(0, id, SECOND * round, WHOLE), None);
        }
        assert_eq!(outliers.on_success(0), None);
    }
}

#[test]
fn ejections_double_up_to_their_maximum_and_a_success_begins_anew() {
    let mut outliers = with_one_out();
    let mut now = Duration::ZERO;
    for (wait, lasts) in [(8, 16), (16, 20), (20, 20)] {
        // Half-open after three quarters, and not a moment earlier.
        let half_open_at = now + SECOND * wait * 3 / 4;
        assert_eq!(outliers.due(), Some(half_open_at));
        let just_before = half_open_at - Duration::from_nanos(1);
        assert_eq!(outliers.pop_due(just_before), None);
        now = half_open_at;
        assert_eq!(outliers.pop_due(now), Some((0, Change::HalfOpen)));
        assert_eq!(outliers.on_attempt(0, 7), Some(Change::Trying));
        assert_eq!(outliers.on_attempt(0, 8), None, "one may try");
        let change = outliers.on_failure(0, 7, now, WHOLE);
        assert_eq!(change, ejected(lasts, EjectCause::TrialFailed));
    }
    outliers.on_success(0);
    let failures = [1, 2, 3].map(|id| outliers.on_failure(0, id, now, WHOLE));
    assert_eq!(failures[2], ejected(8, EjectCause::Failures(3)));
}

#[test]
fn after_an_end_without_a_trial_one_failure_decides() {
    let mut outliers = half_open();
    let ended = Change::Returned(ReturnCause::Ended);
    assert_eq!(outliers.pop_due(8 * SECOND), Some((0, ended)));
    assert_eq!(outliers.due(), None);
    let change = outliers.on_failure(0, 1, 8 * SECOND, WHOLE);
    assert_eq!(change, ejected(16, EjectCause::Failures(3)));
}

#[test]
fn a_trial_may_take_longer_than_the_ejection() {
    let mut outliers = trying();
    assert_eq!(outliers.pop_due(100 * SECOND), None);
    assert_eq!(outliers.on_abandoned(0, 7), Some(Change::HalfOpen));
    let ended = Change::Returned(ReturnCause::Ended);
    assert_eq!(outliers.pop_due(100 * SECOND), Some((0, ended)));
}

#[test]
fn who_may_not_be_ejected_is_as_soon_as_there_is_room() {
    let mut outliers = with_one_out();
    for id in 0..20 {
        assert_eq!(outliers.on_failure(1, id, SECOND, WHOLE), None);
    }
    outliers.on_success(0);
    let change = outliers.on_failure(1, 20, SECOND, WHOLE);
    assert_eq!(change, ejected(8, EjectCause::Failures(21)));
}

#[test]
fn a_share_of_the_backends_is_rounded_down() {
    for (count, percent, most) in [
        (1, 50, 0),
        (1, 100, 1),
        (2, 50, 1),
        (3, 50, 1),
        (3, 67, 2),
        (4, 0, 0),
        (5, 255, 5),
    ] {
        let params = OutlierParams {
            consecutive_failures: 0,
            max_ejected_percent: percent,
            ..params()
        };
        let mut outliers = Outliers::new(&params, count);
        let fail = |backend| outliers.on_failure(backend, 0, SECOND, WHOLE).is_some();
        let ejected = (0..count).map(fail).filter(|is_ejected| *is_ejected);
        assert_eq!(ejected.count(), most, "{percent} % of {count}");
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Attempt(u64),
    Success,
    Recovery,
    Failure(u64, u64),
    Abandoned(u64),
    Passes(u64),
}

fn events() -> impl Strategy<Value = Vec<(usize, Event)>> {
    let event = prop_oneof![
        2 => (0u64..4).prop_map(Event::Attempt),
        1 => Just(Event::Success),
        1 => Just(Event::Recovery),
        8 => (0u64..4, any::<u64>()).prop_map(|(id, random)| Event::Failure(id, random)),
        1 => (0u64..4).prop_map(Event::Abandoned),
        3 => (0u64..30_000).prop_map(Event::Passes),
    ];
    prop::collection::vec((0usize..10, event), 0..200)
}

proptest! {
    #[test]
    fn whatever_happens(
        count in 1usize..10,
        failures in 1u32..4,
        ejection_ms in 1u64..20_000,
        max_factor in 1u32..100,
        percent in 0u8..=100,
        events in events(),
    ) {
        let ejection = Duration::from_millis(ejection_ms);
        let params = OutlierParams {
            consecutive_failures: failures,
            ejection,
            max_ejection: ejection * max_factor,
            max_ejected_percent: percent,
        };
        let mut outliers = Outliers::new(&params, count);
        let mut now = Duration::ZERO;
        let mut in_a_row = vec![0u32; count];
        for (backend, event) in events {
            let backend = backend % count;
            let before = outliers.state(backend);
            let mut changes = Vec::new();
            match event {
                Event::Attempt(id) => changes.extend(outliers.on_attempt(backend, id)),
                Event::Success => changes.extend(outliers.on_success(backend)),
                Event::Recovery => changes.extend(outliers.on_recovery(backend)),
                Event::Failure(id, random) => {
                    changes.extend(outliers.on_failure(backend, id, now, random));
                }
                Event::Abandoned(id) => changes.extend(outliers.on_abandoned(backend, id)),
                Event::Passes(millis) => {
                    now += Duration::from_millis(millis);
                    while let Some((at, change)) = outliers.pop_due(now) {
                        let is_told = matches!(
                            (outliers.state(at), change),
                            (BreakerState::HalfOpen, Change::HalfOpen)
                                | (BreakerState::Closed, Change::Returned(ReturnCause::Ended))
                        );
                        prop_assert!(is_told);
                    }
                    // Nothing that is due is left.
                    prop_assert!(outliers.due().is_none_or(|due| due > now));
                    continue;
                }
            }
            // A change is told when there is one, and only then.
            prop_assert_eq!(before != outliers.state(backend), !changes.is_empty());
            if let Event::Success | Event::Recovery = event {
                in_a_row[backend] = 0;
                prop_assert_eq!(outliers.state(backend), BreakerState::Closed);
            }
            if let [Change::Ejected { lasts, .. }] = changes[..] {
                let doubled = ejection.saturating_mul(2u32.saturating_pow(in_a_row[backend].min(31)));
                let whole = doubled.min(params.max_ejection);
                prop_assert!(whole * 4 / 5 <= lasts && lasts <= whole, "{:?} of {:?}", lasts, whole);
                in_a_row[backend] += 1;
            }
            let is_out = |at: &usize| outliers.state(*at) != BreakerState::Closed;
            let out = (0..count).filter(is_out).count();
            prop_assert!(out * 100 <= count * usize::from(percent));
        }
        // Well again, all of them are in use.
        for backend in 0..count {
            outliers.on_success(backend);
        }
        prop_assert!((0..count).all(|at| outliers.state(at) == BreakerState::Closed));
        prop_assert_eq!(outliers.due(), None);
    }
}

#[test]
fn a_changed_pool_keeps_who_is_out_and_forgets_who_is_gone() {
    let kept = half_open().reshape(&params(), 4, 3, |at| at == 0);
    assert_eq!(kept.state(0), BreakerState::HalfOpen);
    assert_eq!((kept.out_count, kept.out_max), (1, 1));
    assert_eq!(kept.due(), Some(8 * SECOND));
    let gone = half_open().reshape(&params(), 4, 3, |at| at != 0);
    assert_eq!(gone.state(0), BreakerState::Closed);
    assert_eq!((gone.out_count, gone.due()), (0, None));
}
