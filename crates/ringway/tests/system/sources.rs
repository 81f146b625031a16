//! Limits that each source has for itself, whichever workers its connections meet.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::arrivals::{Outcome, try_from};
use crate::backend::Server;
use crate::peers::End;
use crate::scale;
use crate::setup::Setup;

fn source(number: usize) -> IpAddr {
    Ipv4Addr::new(127, 0, 1, number as u8).into()
}

/// Every lane tries each source in turn: who is in by source, and how the others were turned away.
fn race(
    address: SocketAddr,
    sources: usize,
    lanes: usize,
    rounds: usize,
) -> (Vec<Vec<Outcome>>, Vec<End>) {
    let lane = |lane: usize| {
        let tries = (0..sources * rounds).map(|step| (step + lane) % sources);
        tries
            .map(|number| (number, try_from(source(number), address)))
            .collect::<Vec<_>>()
    };
    let outcomes: Vec<(usize, Outcome)> = thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes)
            .map(|number| scope.spawn(move || lane(number)))
            .collect();
        let joined = lanes.into_iter().flat_map(|lane| lane.join().unwrap());
        joined.collect()
    });
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    inside.resize_with(sources, Vec::new);
    for (number, outcome) in outcomes {
        match outcome {
            Outcome::In(_) => inside[number].push(outcome),
            Outcome::Out(end) => outside.push(end),
        }
    }
    (inside, outside)
}

#[test]
fn connections_of_each_source_are_limited_exactly() {
    for (workers, over, end) in [(2, "reset", End::Reset), (4, "close", End::Fin)] {
        let server = Server::echo(b'a');
        let limits = format!("limits: {{connections_per_source: 5, over: {over}}}");
        let setup = Setup::to([server.address()]).workers(workers);
        let ringway = setup.listener(&limits).start();
        for _ in 0..2 {
            let before = ringway.refused("per_source");
            let (inside, outside) = race(ringway.address(), 20, 8, 10);
            for clients in &inside {
                assert_eq!(clients.len(), 5);
            }
            assert_eq!(outside.len(), 1600 - 100);
            assert!(outside.iter().all(|out| *out == end));
            assert_eq!(ringway.refused("per_source") - before, 1500);
            ringway.until_balanced(100);
            drop(inside);
            ringway.until_connections(0);
        }
    }
}

/// Thousands come and go through all workers; a client counts itself in when it was greeted and out
/// before it leaves, so what it sees is never more than there is.
#[test]
fn no_source_is_ever_over_its_limit() {
    const SOURCES: usize = 4;
    let none: [SocketAddr; 0] = [];
    let per_lane = scale::connections(48_000) as usize / (3 * 8);
    for (workers, of_all, of_backend) in [(2, "11", "off"), (4, "11", "off"), (4, "off", "11")] {
        let server = Server::echo(b'a');
        let limits = format!("limits: {{connections_per_source: 3, connections: {of_all}}}");
        let ringway = Setup::to(none)
            .backend(server.address(), &format!("max_connections: {of_backend}"))
            .workers(workers)
            .listener(&limits)
            .start();
        let [open, peak] = [(); 2].map(|()| [(); SOURCES + 1].map(|()| AtomicUsize::new(0)));
        let enter = |number: usize| {
            let now = open[number].fetch_add(1, Ordering::SeqCst) + 1;
            peak[number].fetch_max(now, Ordering::SeqCst);
        };
        let lane = |lane: usize| {
            let mut inside = Vec::new();
            for step in 0..per_lane {
                let number = (step + lane) % SOURCES;
                let outcome = try_from(source(number), ringway.address());
                if let Outcome::In(_) = outcome {
                    // The last one stands for all of them.
                    [number, SOURCES].into_iter().for_each(&enter);
                    inside.push((number, outcome));
                }
                // Each holds two at most, so that the lanes together want more than there is.
                if inside.len() > 2 {
                    leave(&open, inside.remove(0));
                }
            }
            inside.into_iter().for_each(|client| leave(&open, client));
        };
        thread::scope(|scope| (0..8).for_each(|number| drop(scope.spawn(move || lane(number)))));
        let peaks = peak.map(AtomicUsize::into_inner);
        assert!(peaks[..SOURCES].iter().all(|peak| *peak <= 3), "{peaks:?}");
        assert!((8..=11).contains(&peaks[SOURCES]), "{peaks:?}");
        assert!(ringway.refused("per_source") > 0);
        ringway.until_connections(0);
        let (inside, _) = race(ringway.address(), 3, 4, 4);
        assert!(
            inside.iter().all(|clients| clients.len() == 3),
            "places are lost"
        );
    }
}

fn leave<const N: usize>(open: &[AtomicUsize; N], (number, client): (usize, Outcome)) {
    for place in [number, N - 1] {
        open[place].fetch_sub(1, Ordering::SeqCst);
    }
    drop(client);
}

/// Sources without number leave nothing behind; `settle` at the end of the test looks for it.
#[test]
fn many_sources_come_and_go() {
    let server = Server::echo(b'a');
    let setup = Setup::to([server.address()]).workers(4);
    let limits = "limits: {connections_per_source: 1, rate_per_source: 100/s}";
    let ringway = setup.listener(limits).start();
    let address = ringway.address();
    let lane = |lane: u8| {
        for number in 0..250 {
            let source = Ipv4Addr::new(127, 1, lane, number).into();
            let outcome = try_from(source, address);
            assert!(matches!(outcome, Outcome::In(_)), "{source}: {outcome:?}");
            let second = try_from(source, address);
            assert!(matches!(second, Outcome::Out(End::Reset)), "{source}");
        }
    };
    thread::scope(|scope| (0..8).for_each(|number| drop(scope.spawn(move || lane(number)))));
    assert_eq!(ringway.refused("per_source"), 2000);
    assert_eq!(server.served(), 2000);
}
