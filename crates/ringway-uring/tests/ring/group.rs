//! Which sockets of one address newcomers come to.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use ringway_uring::{
    ListenOptions, bind_tcp, listen, listen_tcp, local_address, steer_freely, steer_to,
};

fn options() -> ListenOptions {
    ListenOptions {
        backlog: 1024,
        ..ListenOptions::default()
    }
}

/// How many of 200 connections come to each.
fn arrivals(address: SocketAddr, sockets: &[OwnedFd]) -> Vec<usize> {
    let clients: Vec<TcpStream> = (0..200)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let queued = |socket: &OwnedFd| {
        let listener = TcpListener::from(socket.try_clone().unwrap());
        std::iter::from_fn(|| listener.accept().ok()).count()
    };
    let counts: Vec<usize> = sockets.iter().map(queued).collect();
    assert_eq!(counts.iter().sum::<usize>(), clients.len());
    counts
}

#[test]
fn newcomers_come_to_some_of_the_sockets_of_an_address_until_they_may_come_to_all() {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut sockets = vec![listen_tcp(any, &options()).unwrap()];
    let address = local_address(sockets[0].as_fd()).unwrap().unwrap();
    // Bound in one order, and listening in another: the latter counts.
    let late = bind_tcp(address, &options()).unwrap();
    sockets.push(listen_tcp(address, &options()).unwrap());
    sockets.push(listen_tcp(address, &options()).unwrap());
    listen(late.as_fd(), 1024).unwrap();
    sockets.push(late);
    assert!(arrivals(address, &sockets).iter().all(|count| *count > 0));

    steer_to(sockets[2].as_fd(), &[0, 3]).unwrap();
    let counts = arrivals(address, &sockets);
    assert!(counts[0] > 0 && counts[3] > 0, "{counts:?}");
    assert_eq!((counts[1], counts[2]), (0, 0));

    // The last takes the place of one that closes, and a place that nobody has is the kernel's choice.
    drop(sockets.remove(1));
    steer_to(sockets[0].as_fd(), &[1]).unwrap();
    assert_eq!(arrivals(address, &sockets), [0, 0, 200]);
    steer_to(sockets[0].as_fd(), &[3]).unwrap();
    assert!(arrivals(address, &sockets).iter().all(|count| *count > 0));

    steer_freely(sockets[0].as_fd()).unwrap();
    assert!(arrivals(address, &sockets).iter().all(|count| *count > 0));
    assert!(steer_freely(sockets[0].as_fd()).is_err());
}

/// Nobody but a program counts so many.
#[test]
fn more_places_than_a_program_can_have_are_refused() {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let socket = listen_tcp(any, &options()).unwrap();
    let places: Vec<u32> = (0..10_000).collect();
    assert!(steer_to(socket.as_fd(), &places).is_err());
}
