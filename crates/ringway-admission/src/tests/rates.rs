//! Buckets against counting with fractions, and the table of sources against a bucket for everyone.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;

use crate::{Rate, SourceBuckets, SourceKey, Tick};

fn rate_of(per_second: u32) -> Rate {
    Rate::new(NonZeroU32::new(per_second).unwrap())
}

fn at(micros: u64) -> Tick {
    Tick::at(Duration::from_micros(micros))
}

/// Takes `count` tokens as fast as it can at `micros`.
fn burst(rate: Rate, full_at: &mut Tick, micros: u64, count: u32) -> u32 {
    let mut given = 0;
    for _ in 0..count {
        if let Some(after) = rate.take(*full_at, at(micros)) {
            *full_at = after;
            given += 1;
        }
    }
    given
}

#[test]
fn a_full_bucket_gives_a_second_at_once_and_then_one_by_one() {
    for per_second in [1, 3, 7, 100, 4999, 1_000_000] {
        let rate = rate_of(per_second);
        let mut full_at = Tick::default();
        assert_eq!(burst(rate, &mut full_at, 0, per_second + 5), per_second);
        // Rounded up to the clock that workers have.
        let next = 1_000_000_u64.div_ceil(u64::from(per_second)) + 1;
        if next > 2 {
            assert_eq!(burst(rate, &mut full_at, next - 2, 1), 0, "{per_second}");
        }
        assert_eq!(burst(rate, &mut full_at, next, 1), 1, "{per_second}");
        // However long it rests, it is full and no more.
        assert_eq!(
            burst(rate, &mut full_at, 1 << 40, per_second + 5),
            per_second
        );
    }
}

#[test]
fn a_rate_holds_over_a_long_time() {
    for per_second in [1, 3, 999, 1000, 33_333, 500_000] {
        let rate = rate_of(per_second);
        let mut full_at = Tick::default();
        let first = burst(rate, &mut full_at, 0, per_second);
        assert_eq!(first, per_second);
        // More is asked for than there is, at each microsecond that has a token or more.
        let seconds = 5;
        let each = (1_000_000 / u64::from(per_second) / 1000).max(1);
        let mut given = 0u64;
        for micros in (0..=seconds * 1_000_000).step_by(each as usize) {
            given += u64::from(burst(rate, &mut full_at, micros, 2));
        }
        let expected = seconds * u64::from(per_second);
        assert!(given <= expected, "{per_second}: {given}");
        assert!(
            given * 1000 >= (expected - 1) * 995,
            "{per_second}: {given}"
        );
    }
}

/// Workers read the clock once per turn, so one may come with a time that has passed for another.
#[test]
fn an_older_clock_gets_no_more_than_is_left() {
    let rate = rate_of(10);
    let mut full_at = Tick::default();
    assert_eq!(burst(rate, &mut full_at, 500_000, 10), 10);
    assert_eq!(burst(rate, &mut full_at, 400_000, 1), 0);
    assert_eq!(burst(rate, &mut full_at, 600_000, 2), 1);
}

fn source(number: u64) -> SourceKey {
    let address = std::net::Ipv4Addr::from_bits(number as u32);
    SourceKey::of(address.into())
}

/// Spreads like the keyed hash of the workers.
fn hash(number: u64) -> u64 {
    let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 7
}

fn take(table: &mut SourceBuckets, number: u64, rate: Rate, micros: u64) -> bool {
    table.take(source(number), hash(number), rate, at(micros))
}

#[test]
fn each_source_has_its_own_bucket() {
    let mut table = SourceBuckets::new(1024);
    let rate = rate_of(3);
    let given = |table: &mut SourceBuckets, number, micros| {
        (0..10)
            .filter(|_| take(table, number, rate, micros))
            .count()
    };
    for number in 0..100 {
        assert_eq!(given(&mut table, number, 0), 3, "{number}");
    }
    for number in 0..100 {
        assert_eq!(given(&mut table, number, 333_334), 1, "{number}");
    }
}

/// As many as ARCHITECTURE.md promises, in the table that each listener has.
#[test]
fn sixty_thousand_at_a_time_are_exact() {
    let mut table = SourceBuckets::new(1 << 18);
    let rate = rate_of(2);
    for expected in [true, true, false] {
        for number in 0..60_000 {
            assert_eq!(take(&mut table, number, rate, 0), expected, "{number}");
        }
    }
}

/// A million others knock once each within a second: the table does not grow, and the one that hammers gets
/// its rate and nothing more.
#[test]
fn one_that_hammers_is_limited_among_a_million() {
    let mut table = SourceBuckets::new(1 << 12);
    assert_eq!(table.capacity(), 1 << 12);
    let rate = rate_of(100);
    let mut given = 0;
    for micros in 0..1_000_000 {
        // As many tries as there are others.
        given += u32::from(take(&mut table, 0, rate, micros));
        assert!(
            take(&mut table, 1 + micros, rate, micros),
            "an innocent one"
        );
    }
    // The burst, and what a second brings.
    assert!((199..=200).contains(&given), "{given}");
}

/// Sources that come back in turn, more than there is room for: none gets less than its rate.
#[test]
fn without_room_none_gets_less() {
    let mut table = SourceBuckets::new(64);
    let rate = rate_of(2);
    let mut refused = 0;
    for round in 0..20 {
        for number in 0..1000 {
            refused += u32::from(!take(&mut table, number, rate, round * 500_001));
        }
    }
    assert_eq!(refused, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_bucket_is_the_textbook_bucket(
        per_second in 1u32..5000,
        waits in prop::collection::vec((0u64..700_000, 1u32..400), 1..40),
    ) {
        let rate = rate_of(per_second);
        let mut full_at = Tick::default();
        // Tokens times 10^6, so that a microsecond brings a whole number of them.
        let (unit, most) = (1_000_000_u64, u64::from(per_second) * 1_000_000);
        let (mut now, mut tokens) = (0, most);
        let (mut given, mut expected) = (0u32, 0u32);
        for (wait, count) in waits {
            now += wait;
            tokens = (tokens + wait * u64::from(per_second)).min(most);
            given += burst(rate, &mut full_at, now, count);
            let model = u64::from(count).min(tokens / unit) as u32;
            tokens -= u64::from(model) * unit;
            expected += model;
            // Rounding may put a token off by a tick, to the next time somebody asks.
            prop_assert!(given.abs_diff(expected) <= 1, "{given} {expected} at {now}");
        }
    }

    #[test]
    fn no_window_gets_more_than_its_burst_and_its_time(
        per_second in 1u32..2000,
        waits in prop::collection::vec(0u64..100_000, 1..100),
    ) {
        let rate = rate_of(per_second);
        let (mut full_at, mut now, mut taken) = (Tick::default(), 0, Vec::new());
        for wait in waits {
            now += wait;
            for _ in 0..burst(rate, &mut full_at, now, 10) {
                taken.push(now);
            }
        }
        for (first, begin) in taken.iter().enumerate() {
            for (last, end) in taken.iter().enumerate().skip(first) {
                let allowed = u64::from(per_second) * (1_000_000 + end - begin) / 1_000_000;
                prop_assert!((last - first + 1) as u64 <= allowed, "{begin}..{end}");
            }
        }
    }

    #[test]
    fn a_table_with_room_is_a_bucket_for_everyone(
        per_second in 1u32..50,
        visits in prop::collection::vec((0u64..40, 0u64..200_000), 1..400),
    ) {
        let rate = rate_of(per_second);
        let mut table = SourceBuckets::new(4096);
        let mut alone: HashMap<u64, Tick> = HashMap::new();
        let mut now = 0;
        for (number, wait) in visits {
            now += wait;
            let full_at = alone.entry(number).or_default();
            let expected = burst(rate, full_at, now, 1) == 1;
            prop_assert_eq!(take(&mut table, number, rate, now), expected);
        }
    }
}
