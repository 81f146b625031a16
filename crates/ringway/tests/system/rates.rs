//! New connections per second. What was let in is compared with what the time that passed allows;
//! that time is measured here, so a slow machine changes the number and not the result.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use crate::arrivals::{Outcome, try_from, try_in};
use crate::backend::Server;
use crate::peers::End;
use crate::setup::Setup;

/// What became of many attempts.
#[derive(Default)]
struct Hammered {
    inside: u64,
    /// When each attempt that was turned away began and ended: in between the bucket was empty.
    outside: Vec<(Instant, Instant)>,
}

/// Tries as often as it can for that long.
fn hammer(span: Duration, attempt: impl Fn() -> Outcome) -> Hammered {
    let mut hammered = Hammered::default();
    let begin = Instant::now();
    while begin.elapsed() < span {
        let start = Instant::now();
        match attempt() {
            Outcome::In(_) => hammered.inside += 1,
            Outcome::Out(_) => hammered.outside.push((start, Instant::now())),
        }
    }
    hammered
}

/// A full bucket at the begin, and its rate from `begin` to now at most. At least its rate for as
/// long as it was surely empty or filling: from one refusal to the next, a second at most, since
/// what nobody fetches by then runs over.
fn assert_rate(rate: f64, begin: Instant, mut hammered: Hammered) {
    let most = rate * (1.0 + begin.elapsed().as_secs_f64());
    hammered.outside.sort();
    let refusals = &hammered.outside;
    let (first, last) = (refusals.first().unwrap(), refusals.last().unwrap());
    let gaps = refusals.windows(2).map(|pair| pair[1].0 - pair[0].0);
    let lost: Duration = gaps
        .map(|gap| gap.saturating_sub(Duration::from_secs(1)))
        .sum();
    let filling = last.0.saturating_duration_since(first.1);
    let least = rate * (1.0 + filling.saturating_sub(lost).as_secs_f64());
    // Rounding, by a few percent and a token at each end.
    let (least, most) = (least * 0.97 - 2.0, most * 1.01 + 1.0);
    let given = hammered.inside as f64;
    assert!(
        (least..=most).contains(&given),
        "{given}, not {least}..={most}"
    );
}

#[test]
fn a_listener_lets_in_its_rate_over_all_workers() {
    for (workers, over, end) in [(2, "reset", End::Reset), (4, "close", End::Fin)] {
        let server = Server::echo(b'a');
        let setup = Setup::to([server.address()]).workers(workers);
        let setup = setup.listener(&format!("limits: {{rate: 100/s, over: {over}}}"));
        let ringway = setup.start();
        let address = ringway.address();
        let begin = Instant::now();
        let lanes: Vec<Hammered> = thread::scope(|scope| {
            let lane = || hammer(Duration::from_secs(2), || try_in(address));
            let lanes: Vec<_> = (0..4).map(|_| scope.spawn(lane)).collect();
            lanes.into_iter().map(|lane| lane.join().unwrap()).collect()
        });
        let mut all = Hammered::default();
        for lane in lanes {
            all.inside += lane.inside;
            all.outside.extend(lane.outside);
        }
        assert_eq!(ringway.refused("rate") as usize, all.outside.len());
        assert_eq!(server.served() as u64, all.inside);
        assert_rate(100.0, begin, all);
        for _ in 0..50 {
            if let Outcome::Out(found) = try_in(address) {
                assert_eq!(found, end);
            }
        }
    }
}

#[test]
fn one_source_that_hammers_is_limited_and_the_others_are_not() {
    for workers in [2, 4] {
        let server = Server::echo(b'a');
        let setup = Setup::to([server.address()]).workers(workers);
        let setup = setup.listener("limits: {rate_per_source: 3/s}");
        let ringway = setup.start();
        let address = ringway.address();
        let source = Ipv4Addr::new(127, 0, 2, 1).into();
        let begin = Instant::now();
        let hammered = thread::scope(|scope| {
            let hammering =
                scope.spawn(|| hammer(Duration::from_secs(2), || try_from(source, address)));
            // Each comes three times, which is its second's worth.
            for number in 0..50 {
                let source = Ipv4Addr::new(127, 0, 3, number).into();
                (0..3).for_each(|_| assert_in(source, address));
            }
            hammering.join().unwrap()
        });
        assert_eq!(
            ringway.refused("rate_per_source") as usize,
            hammered.outside.len()
        );
        assert_eq!(server.served() as u64, hammered.inside + 150);
        assert_rate(3.0, begin, hammered);
    }
}

fn assert_in(source: IpAddr, address: SocketAddr) {
    let outcome = try_from(source, address);
    assert!(matches!(outcome, Outcome::In(_)), "{source}: {outcome:?}");
}
