//! New connections per second. What was let in is compared with what the time that passed allows;
//! that time is measured here, so a slow machine changes the number and not the result.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use crate::arrivals::{Outcome, try_from, try_in};
use crate::backend::Server;
use crate::peers::End;
use crate::setup::Setup;

/// Tries as often as it can from `begin` on until there is an attempt that began after `span`: how many
/// got in, and how many did not.
fn hammer(begin: Instant, span: Duration, attempt: impl Fn() -> Outcome) -> (u64, u64) {
    let (mut inside, mut outside) = (0, 0);
    while begin.elapsed() < span {
        match attempt() {
            Outcome::In(_) => inside += 1,
            Outcome::Out(_) => outside += 1,
        }
    }
    (inside, outside)
}

/// A full bucket at the begin, and the rate after it. Less than that only where nobody asked for a second.
fn assert_rate(rate: u64, given: u64, span: Duration, elapsed: Duration) {
    let tokens = |time: Duration| rate as f64 * (1.0 + time.as_secs_f64());
    let (least, most) = (tokens(span) * 0.95, tokens(elapsed) * 1.01 + 1.0);
    let given = given as f64;
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
        let span = Duration::from_secs(2);
        let begin = Instant::now();
        let lanes: Vec<(u64, u64)> = thread::scope(|scope| {
            let lane = || hammer(begin, span, || try_in(address));
            let lanes: Vec<_> = (0..4).map(|_| scope.spawn(lane)).collect();
            lanes.into_iter().map(|lane| lane.join().unwrap()).collect()
        });
        let elapsed = begin.elapsed();
        let inside = lanes.iter().map(|lane| lane.0).sum();
        let outside: u64 = lanes.iter().map(|lane| lane.1).sum();
        assert_rate(100, inside, span, elapsed);
        assert_eq!(ringway.refused("rate") as u64, outside);
        assert_eq!(server.served() as u64, inside);
        // The bucket is empty or nearly so: of many at once most are refused, in the way that was asked for.
        let ends = (0..50).filter_map(|_| match try_in(address) {
            Outcome::In(_) => None,
            Outcome::Out(end) => Some(end),
        });
        assert!(ends.into_iter().all(|found| found == end));
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
        let hammers = Ipv4Addr::new(127, 0, 2, 1).into();
        let span = Duration::from_secs(2);
        let begin = Instant::now();
        let (inside, outside) = thread::scope(|scope| {
            let hammering = scope.spawn(|| hammer(begin, span, || try_from(hammers, address)));
            // Each comes three times, which is its second's worth.
            for number in 0..50 {
                let source = Ipv4Addr::new(127, 0, 3, number).into();
                (0..3).for_each(|_| assert_in(source, address));
            }
            hammering.join().unwrap()
        });
        let elapsed = begin.elapsed();
        // Nine tokens are few: one is lost if the first attempts come before the second begins.
        assert!(
            inside as f64 <= 3.0 * (1.0 + elapsed.as_secs_f64()) + 1.0,
            "{inside}"
        );
        assert!(inside >= 7 && outside > 0, "{inside} and {outside}");
        assert_eq!(ringway.refused("rate_per_source") as u64, outside);
        assert_eq!(server.served() as u64, inside + 150);
    }
}

fn assert_in(source: IpAddr, address: SocketAddr) {
    let outcome = try_from(source, address);
    assert!(matches!(outcome, Outcome::In(_)), "{source}: {outcome:?}");
}
