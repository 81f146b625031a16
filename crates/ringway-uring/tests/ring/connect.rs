//! Connecting: the three outcomes, and addresses that outlive the caller's.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};

use crate::common::*;
use ringway_uring::{
    Completion, CompletionKind, ConnectAddress, Errno, ListenOptions, Operation, Ring,
    connect_socket, listen_unix, peer_address,
};

fn connected(completion: &Completion) -> Result<(), Errno> {
    match completion.kind {
        CompletionKind::Connected(result) => result,
        _ => panic!("not a connect: {completion:?}"),
    }
}

/// Stages a connect; the address ends with this call, before the kernel has read it.
fn stage(ring: &mut Ring, address: SocketAddr, slot: u32) -> OwnedFd {
    let to = ConnectAddress::from(address);
    let socket = connect_socket(&to).unwrap();
    ring.connect(socket.as_fd(), token(slot), to.as_sock_addr());
    socket
}

#[test]
fn a_listener_accepts() {
    let mut ring = ring();
    let (_listener, address) = listener(&ListenOptions::default());
    let socket = stage(&mut ring, address, 1);
    let completion = one(&mut ring);
    assert_eq!(connected(&completion), Ok(()));
    assert_eq!(completion.token, token(1));
    assert_eq!(peer_address(socket.as_fd()), Ok(Some(address)));
}

#[test]
fn a_closed_port_refuses() {
    let mut ring = ring();
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap();
    let _socket = stage(&mut ring, closed, 1);
    assert_eq!(connected(&one(&mut ring)), Err(Errno(libc::ECONNREFUSED)));
}

/// A listener whose queue is full drops the SYN: the connection stays in progress.
pub(crate) fn unanswered() -> (OwnedFd, Vec<OwnedFd>, ConnectAddress) {
    let (listener, address) = listener(&ListenOptions {
        backlog: 0,
        ..ListenOptions::default()
    });
    let to = ConnectAddress::from(address);
    let mut ring = ring();
    let mut queued = Vec::new();
    // Linux takes one more than the backlog; the next ones wait.
    loop {
        let socket = connect_socket(&to).unwrap();
        ring.connect(socket.as_fd(), token(1), to.as_sock_addr());
        let Some(completion) = at_once(&mut ring).pop() else {
            return (listener, queued, to);
        };
        connected(&completion).unwrap();
        queued.push(socket);
    }
}

#[test]
fn an_unanswered_connect_stays_in_flight_until_cancelled() {
    let (_listener, _queued, to) = unanswered();
    let mut ring = ring();
    let socket = connect_socket(&to).unwrap();
    ring.connect(socket.as_fd(), token(1), to.as_sock_addr());
    assert!(at_once(&mut ring).is_empty());
    assert_eq!(ring.in_flight(), 1);
    ring.cancel(token(1), Operation::Connect);
    assert_eq!(connected(&one(&mut ring)), Err(Errno(libc::ECANCELED)));
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn more_connects_than_address_slots_in_one_turn_reach_their_own_targets() {
    let mut ring = ring();
    let listeners: Vec<_> = (0..200)
        .map(|_| listener(&ListenOptions::default()))
        .collect();
    let mut sockets = Vec::new();
    for (slot, (_, address)) in listeners.iter().enumerate() {
        sockets.push(stage(&mut ring, *address, slot as u32));
    }
    let mut done = 0;
    while done < sockets.len() {
        for completion in turn(&mut ring) {
            let slot = completion.token.slot as usize;
            assert_eq!(connected(&completion), Ok(()));
            assert_eq!(
                peer_address(sockets[slot].as_fd()),
                Ok(Some(listeners[slot].1))
            );
            done += 1;
        }
    }
}

#[test]
fn unix_sockets_connect_too() {
    let mut ring = ring();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backend.sock");
    let _listener = listen_unix(&path, 16).unwrap();
    let to = ConnectAddress::unix(&path).unwrap();
    let socket = connect_socket(&to).unwrap();
    ring.connect(socket.as_fd(), token(1), to.as_sock_addr());
    assert_eq!(connected(&one(&mut ring)), Ok(()));
    assert_eq!(peer_address(socket.as_fd()), Ok(None));
}
