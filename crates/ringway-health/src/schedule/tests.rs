//! The schedule in a world of its own: a clock that jumps from event to event, a fleet, and pauses.

use super::*;
use proptest::prelude::*;

const INTERVAL: Duration = Duration::from_secs(2);

fn params(interval: Duration) -> ProbeParams {
    ProbeParams {
        interval,
        timeout: interval / 2,
        rise: 2,
        fall: 3,
    }
}

/// SplitMix64: the tests' source of randomness.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
}

/// The fleets of several keepers, as they join at `now`.
fn join(now: Duration, keepers: usize, count: usize, random: &mut Random) -> Vec<Cadence> {
    let window = first_window(INTERVAL, count);
    let mut fleet = Vec::new();
    for keeper in 0..keepers {
        let own = count / keepers + usize::from(keeper < count % keepers);
        fleet.extend((0..own).map(|index| {
            let position = Position { index, count: own };
            Cadence::new(now, &params(INTERVAL), window, position, random.next())
        }));
    }
    fleet
}

/// Runs a fleet on time until `end`; answers the sorted moments of all starts.
fn starts(fleet: &mut [Cadence], end: Duration, random: &mut Random) -> Vec<Duration> {
    let mut starts = Vec::new();
    for cadence in fleet {
        while cadence.due() < end {
            let now = cadence.due();
            starts.push(now);
            cadence.on_start(now, random.next());
        }
    }
    starts.sort();
    starts
}

/// The most starts in any 100 ms, wherever they begin.
fn peak(starts: &[Duration]) -> usize {
    let window = Duration::from_millis(100);
    let end_of = |begin: Duration| starts.partition_point(|start| *start < begin + window);
    starts
        .iter()
        .enumerate()
        .map(|(index, start)| end_of(*start) - index)
        .max()
        .unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn peak_of_a_large_fleet_is_at_most_twice_its_mean(
        seed in any::<u64>(),
        keepers in prop::sample::select(vec![1usize, 2, 8, 64]),
        count in 500usize..2_000,
    ) {
        let random = &mut Random(seed);
        let mut fleet = join(Duration::from_secs(5), keepers, count, random);
        let starts = starts(&mut fleet, Duration::from_secs(65), random);
        let mean = count as f64 / 20.0;
        prop_assert!(peak(&starts) as f64 <= 2.0 * mean, "{} for {mean}", peak(&starts));
        let expected = count * 30;
        prop_assert!(starts.len().abs_diff(expected) <= count, "{} probes", starts.len());
    }

    #[test]
    fn a_reload_that_replaces_half_the_fleet_makes_no_peak(seed in any::<u64>()) {
        let random = &mut Random(seed);
        let mut old = join(Duration::ZERO, 2, 500, random);
        let mut begin = starts(&mut old, Duration::from_secs(30), random);
        old.truncate(250);
        old.extend(join(Duration::from_secs(30), 2, 250, random));
        begin.extend(starts(&mut old, Duration::from_secs(60), random));
        begin.sort();
        prop_assert!(peak(&begin) <= 50, "{}", peak(&begin));
    }

    #[test]
    fn a_small_fleet_is_through_within_100_ms(
        seed in any::<u64>(),
        count in 1usize..=10,
        keepers in 1usize..4,
    ) {
        let now = Duration::from_secs(3);
        let fleet = join(now, keepers, count, &mut Random(seed));
        for cadence in fleet {
            prop_assert!(cadence.due() >= now);
            prop_assert!(cadence.due() < now + Duration::from_millis(100), "{cadence:?}");
        }
    }

    /// Three intervals that begin anywhere hold three probes: that is what bounds the detection of a death.
    #[test]
    fn distances_stay_within_ten_per_cent_and_the_first_is_never_longer(
        seed in any::<u64>(),
        interval_ms in 1u64..100_000,
        index in 0usize..50,
        count in 50usize..60,
        window_ms in 0u64..100_000,
    ) {
        let random = &mut Random(seed);
        let interval = Duration::from_millis(interval_ms);
        let window = Duration::from_millis(window_ms);
        let mut cadence = Cadence::new(
            Duration::ZERO,
            &params(interval),
            window,
            Position { index, count },
            random.next(),
        );
        prop_assert!(cadence.due() <= window.min(interval));
        for probe in 0..100 {
            let now = cadence.due();
            cadence.on_start(now, random.next());
            let distance = cadence.due() - now;
            let least = if probe == 0 { interval / 25 } else { interval * 9 / 10 };
            let most = if probe == 0 { interval * 23 / 20 } else { interval * 11 / 10 };
            prop_assert!(distance >= least.saturating_sub(Duration::from_nanos(2)), "{distance:?}");
            prop_assert!(distance <= most + Duration::from_nanos(2), "{distance:?}");
        }
    }

    #[test]
    fn probes_of_one_backend_never_overlap(
        seed in any::<u64>(),
        delays_ms in prop::collection::vec((0u64..3_000, 0u64..9_000), 1..50),
    ) {
        let random = &mut Random(seed);
        let mut cadence = join(Duration::ZERO, 1, 1, random).remove(0);
        for (late_ms, took_ms) in delays_ms {
            let start = cadence.due() + Duration::from_millis(late_ms);
            cadence.on_start(start, random.next());
            prop_assert!(cadence.due() > start);
            let end = start + Duration::from_millis(took_ms);
            let planned = cadence.due();
            cadence.on_finish(end, random.next());
            prop_assert!(cadence.due() > end);
            prop_assert!(planned <= end || cadence.due() == planned, "moved without need");
        }
    }

    /// A keeper in miniature: it sleeps to the next event, is stopped for `pause_ms` at some point, and must
    /// neither burst nor let a probe time out that would have been answered.
    #[test]
    fn a_pause_makes_no_burst_and_no_timeout(
        seed in any::<u64>(),
        pause_at_ms in 5_000u64..10_000,
        pause_ms in 1u64..60_000,
    ) {
        let world = run_with_pause(
            &mut Random(seed),
            Duration::from_millis(pause_at_ms),
            Duration::from_millis(pause_ms),
        );
        prop_assert_eq!(world.timeouts, 0);
        prop_assert!(peak(&world.starts) <= 50, "{}", peak(&world.starts));
        let last = world.starts[world.starts.len() - 1];
        prop_assert!(last > Duration::from_secs(85), "stuck at {last:?}");
    }
}

struct Outcome {
    starts: Vec<Duration>,
    timeouts: usize,
}

/// 500 backends that answer 5 ms after their probe starts, whatever the keeper does meanwhile; a deadline of
/// 1 s for each; one pause of the keeper.
fn run_with_pause(random: &mut Random, pause_at: Duration, pause: Duration) -> Outcome {
    let mut fleet = join(Duration::ZERO, 1, 500, random);
    let mut pace = Pace::new();
    // Per backend under way: its answer by the real clock and its deadline by the schedule's time.
    let mut under_way: Vec<Option<(Duration, Duration)>> = vec![None; fleet.len()];
    let mut outcome = Outcome {
        starts: Vec::new(),
        timeouts: 0,
    };
    let mut now = Duration::ZERO;
    while now < Duration::from_secs(90) {
        let time = pace.on_wake(now);
        for (cadence, probe) in fleet.iter_mut().zip(&mut under_way) {
            match *probe {
                Some((_, deadline)) if deadline <= time => {
                    outcome.timeouts += 1;
                    *probe = None;
                }
                None if cadence.due() <= time => {
                    outcome.starts.push(now);
                    cadence.on_start(time, random.next());
                    *probe = Some((
                        now + Duration::from_millis(5),
                        time + Duration::from_secs(1),
                    ));
                }
                Some(_) | None => {}
            }
        }
        let schedule = fleet
            .iter()
            .zip(&under_way)
            .map(|(cadence, probe)| match probe {
                Some((_, deadline)) => *deadline,
                None => cadence.due(),
            });
        let timer = pace.plan(schedule.min()).expect("the fleet is never empty");
        let answer = under_way.iter().flatten().map(|(answer, _)| *answer).min();
        let wake = answer.map_or(timer, |answer| answer.min(timer));
        let paused = now <= pause_at && wake > pause_at;
        now = wake
            .max(now + INTERVAL_MIN)
            .max(if paused { pause_at + pause } else { now });
        // Only what woke the keeper is reaped first; the rest of the answers comes in one event later, as
        // from a ring whose completions are posted one by one.
        if let Some(probe) = under_way
            .iter_mut()
            .find(|p| p.is_some_and(|(answer, _)| answer <= now))
        {
            *probe = None;
        }
    }
    outcome
}

#[test]
fn late_wakes_are_pauses_only_from_the_limit_on() {
    let ms = Duration::from_millis;
    let mut pace = Pace::new();
    assert_eq!(pace.on_wake(ms(1)), ms(1));
    assert_eq!(pace.plan(Some(ms(1_000))), Some(ms(1_000)));
    assert_eq!(pace.on_wake(ms(1_100)), ms(1_100), "late, but no pause");
    pace.plan(Some(ms(2_000)));
    assert_eq!(pace.on_wake(ms(1_500)), ms(1_500), "woken by an answer");
    assert_eq!(pace.plan(Some(ms(2_000))), Some(ms(2_000)));
    assert_eq!(pace.on_wake(ms(12_000)), ms(1_900), "put off once");
    assert_eq!(pace.plan(Some(ms(2_000))), Some(ms(12_100)));
    assert_eq!(pace.on_wake(ms(12_100)), ms(2_000));
    assert_eq!(pace.plan(None), None);
    assert_eq!(
        pace.on_wake(ms(99_000)),
        ms(88_900),
        "nothing was planned, nothing was late"
    );
}

#[test]
fn a_keeper_that_is_always_late_still_gets_ahead() {
    let mut pace = Pace::new();
    let mut planned = Duration::from_secs(1);
    let mut reached = 0;
    for _ in 0..20 {
        let wake = pace.plan(Some(planned)).expect("planned");
        if pace.on_wake(wake + PAUSE_MIN * 3) >= planned {
            reached += 1;
            planned += Duration::from_secs(1);
        }
    }
    assert_eq!(reached, 10, "every second wake-up");
}

#[test]
fn retune_moves_a_backend_into_its_new_interval() {
    let random = &mut Random(7);
    let long = params(Duration::from_secs(60));
    let window = first_window(long.interval, 1);
    let mut cadence = Cadence::new(
        Duration::ZERO,
        &long,
        window,
        Position { index: 0, count: 1 },
        random.next(),
    );
    cadence.on_start(Duration::ZERO, random.next());

    let planned = cadence.due();
    cadence.retune(Duration::from_secs(3), &long, random.next());
    assert_eq!(cadence.due(), planned, "the same interval");

    cadence.retune(Duration::from_secs(3), &params(INTERVAL), random.next());
    assert!(cadence.due() >= Duration::from_secs(3));
    assert!(cadence.due() < Duration::from_secs(5));
}

#[test]
fn who_changes_keepers_keeps_its_place() {
    let random = &mut Random(7);
    let own = params(INTERVAL);
    let ms = Duration::from_millis;
    let mut cadence = Cadence::going_on(ms(3_100), ms(4_000), &own).unwrap();
    let mut last = ms(3_100);
    for _ in 0..50 {
        let distance = cadence.due() - last;
        assert!((ms(1_800)..=ms(2_200)).contains(&distance), "{distance:?}");
        last = cadence.due();
        cadence.on_start(last, random.next());
    }
    // A probe was under way, and is made again.
    let mut cadence = Cadence::going_on(ms(3_100), ms(5_300), &own).unwrap();
    assert_eq!(cadence.due(), ms(5_300));
    cadence.on_start(ms(5_300), random.next());
    assert!((ms(7_000)..=ms(7_200)).contains(&cadence.due()));
    // Nobody has probed it for long.
    assert!(Cadence::going_on(ms(3_100), ms(7_100), &own).is_none());
    // Another interval counts from the same probe.
    let cadence = Cadence::going_on(ms(3_100), ms(4_000), &params(ms(60_000))).unwrap();
    assert_eq!(cadence.due(), ms(63_100));
}
