//! Clients that come in numbers: who got in, and how the others were turned away. A client is in
//! when it was greeted with one byte, which the echoing backend sends.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;

use crate::peers::{End, PATIENCE, connect_from, end_by};

/// What became of a client that waits for a greeting.
#[derive(Debug)]
pub(crate) enum Outcome {
    In(TcpStream),
    Out(End),
}

pub(crate) fn try_in(address: SocketAddr) -> Outcome {
    greeted(TcpStream::connect(address))
}

/// The same from an address of this host: all of 127.0.0.0/8 are.
pub(crate) fn try_from(source: IpAddr, address: SocketAddr) -> Outcome {
    greeted(connect_from(source, address))
}

fn greeted(client: io::Result<TcpStream>) -> Outcome {
    // A reset may come before the kernel has told of the connection.
    let mut client = match client {
        Ok(client) => client,
        Err(error) => return Outcome::Out(end_by(error)),
    };
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    match client.read(&mut [0; 1]) {
        Ok(1) => Outcome::In(client),
        Ok(_) => Outcome::Out(End::Fin),
        Err(error) => Outcome::Out(end_by(error)),
    }
}

/// Many clients at once: those that got in, and how the others were turned away.
pub(crate) fn race(
    address: SocketAddr,
    lanes: usize,
    per_lane: usize,
) -> (Vec<TcpStream>, Vec<End>) {
    let lane = || {
        (0..per_lane)
            .map(|_| try_in(address))
            .collect::<Vec<Outcome>>()
    };
    let outcomes = thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        lanes
            .into_iter()
            .flat_map(|lane| lane.join().unwrap())
            .collect::<Vec<_>>()
    });
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        match outcome {
            Outcome::In(client) => inside.push(client),
            Outcome::Out(end) => outside.push(end),
        }
    }
    (inside, outside)
}

/// One in, one out: places are reused at once, and there are never more than that.
pub(crate) fn churn(address: SocketAddr, lanes: usize, per_lane: usize) {
    thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(move || (0..per_lane).for_each(|_| drop(try_in(address))));
        }
    });
}
